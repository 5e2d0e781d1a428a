//! Outgoing messages to bytes.

use bytes::{Bytes, BytesMut};

use crate::extension::AckReply;
use crate::frozen::Frozen;
use crate::reply::Reply;
use crate::text::{Length, Sink};

/// A message on its way out.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// An event, already encoded.
    Event(Frozen),
    /// A reply, encoded here.
    Reply(Box<Reply>),
}

impl Outgoing {
    fn write<S: Sink>(&self, sink: &mut S) {
        match self {
            Self::Event(event) => sink.put(event.as_object()),
            Self::Reply(reply) => reply.write(sink),
        }
    }

    /// Whether it is the last reply to its envelope.
    pub fn ends_envelope(&self) -> bool {
        match self {
            Self::Event(_) => false,
            Self::Reply(reply) => reply.ends_envelope,
        }
    }

    /// The bytes that an event will have in an envelope. 0 for a reply, which has to be encoded to know.
    pub fn event_size(&self) -> usize {
        match self {
            Self::Event(event) => event.size(),
            Self::Reply(_) => 0,
        }
    }

    fn is_event(&self) -> bool {
        match self {
            Self::Event(_) => true,
            Self::Reply(_) => false,
        }
    }
}

/// Encodes one envelope, a JSON array, in one allocation of its own. A lone event is not copied.
pub fn encode(messages: &[Outgoing]) -> Bytes {
    if let [Outgoing::Event(event)] = messages {
        return event.as_array().clone();
    }
    let mut out = Vec::with_capacity(length(messages));
    write_array(messages, &mut out);
    out.into()
}

/// Appends one envelope, a JSON array, to `out`: for a buffer that is used again and again, and so has room.
pub fn encode_into(messages: &[Outgoing], out: &mut Vec<u8>) {
    write_array(messages, out);
}

/// Cuts messages into WebSocket frames: each run of events into envelopes of `events_per_frame` (0: all of the run in
/// one), the replies to one envelope into one (rules TW-8, O-35; see [`Reply::ends_envelope`]). A lone event is not
/// copied.
///
/// Events that a connect reply acknowledges share its frame, if they are no more than [`WHOLE_BATCH`] bytes, or one: a
/// client that loses its connection has all of such a batch or nothing, and so is never sent a part of it twice (rule
/// XA-6).
pub fn frames(messages: &[Outgoing], events_per_frame: usize) -> Frames<'_> {
    let events_max = if events_per_frame == 0 { usize::MAX } else { events_per_frame };
    Frames { rest: messages, events_max, loose: 0 }
}

/// Bytes of the events of a batch that leaves in one WebSocket frame: half of what CometD's Java client takes in one.
pub const WHOLE_BATCH: usize = 32 * 1024;

/// Makes an encoded envelope fit to stand in a script: U+2028 and U+2029 in raw values become escapes (rule TJ-5).
/// Without any it is not copied.
pub fn escape_line_separators(json: Bytes) -> Bytes {
    // Valid JSON has them in strings only, where the escape means the same.
    let separator = |bytes: &[u8]| match bytes {
        [0xE2, 0x80, 0xA8] => Some(b"\\u2028"),
        [0xE2, 0x80, 0xA9] => Some(b"\\u2029"),
        _ => None,
    };
    let mut out = BytesMut::new();
    let mut written = 0;
    for (at, bytes) in json.windows(3).enumerate() {
        if let Some(escape) = separator(bytes) {
            out.extend_from_slice(&json[written..at]);
            out.extend_from_slice(escape);
            written = at + bytes.len();
        }
    }
    if written == 0 {
        return json;
    }
    out.extend_from_slice(&json[written..]);
    out.freeze()
}

/// The envelopes of [`frames`].
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    rest: &'a [Outgoing],
    events_max: usize,
    /// Events in front that are known to be in no batch.
    loose: usize,
}

impl Frames<'_> {
    /// The length of a batch that `rest` begins with, events and replies, if it is to leave whole. Otherwise all events
    /// in front are loose.
    fn batch(&mut self) -> Option<usize> {
        let events = self.rest.iter().take_while(|message| message.is_event()).count();
        self.loose = events;
        let bytes: usize = self.rest[..events].iter().map(Outgoing::event_size).sum();
        let Some(Outgoing::Reply(reply)) = self.rest.get(events) else { return None };
        let acknowledged = matches!(reply.ack, Some(AckReply::Batch(_)));
        (acknowledged && (bytes <= WHOLE_BATCH || events == 1)).then(|| {
            self.loose = 0;
            events + replies(&self.rest[events..])
        })
    }
}

/// How many replies in front are to one envelope.
fn replies(messages: &[Outgoing]) -> usize {
    let mut ended = false;
    let run = messages.iter().take_while(|message| !message.is_event());
    run.take_while(|reply| !std::mem::replace(&mut ended, reply.ends_envelope())).count()
}

impl Iterator for Frames<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let items = if !self.rest.first()?.is_event() {
            replies(self.rest)
        } else if self.loose == 0
            && let Some(batch) = self.batch()
        {
            batch
        } else {
            let items = self.loose.min(self.events_max);
            self.loose -= items;
            items
        };
        let (frame, rest) = self.rest.split_at(items);
        self.rest = rest;
        Some(encode(frame))
    }
}

impl std::iter::FusedIterator for Frames<'_> {}

/// How long the envelope will be, to the byte.
fn length(messages: &[Outgoing]) -> usize {
    let mut length = Length::default();
    write_array(messages, &mut length);
    length.0
}

fn write_array<S: Sink>(messages: &[Outgoing], sink: &mut S) {
    sink.put(b"[");
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            sink.put(b",");
        }
        message.write(sink);
    }
    sink.put(b"]");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, Message, RawJson};

    fn event(number: u32) -> Outgoing {
        Outgoing::Event(Event::new("/a", RawJson::from_serialize(&number).expect("a number")).freeze())
    }

    fn reply(id: &str) -> Outgoing {
        let mut reply = Reply::to(&Message::new("/b").with_id(id));
        reply.succeed();
        Outgoing::Reply(Box::new(reply))
    }

    fn text(messages: &[Outgoing], events_per_frame: usize) -> Vec<String> {
        frames(messages, events_per_frame).map(|frame| String::from_utf8_lossy(&frame).into_owned()).collect()
    }

    #[test]
    fn an_envelope_is_an_array_even_if_empty() {
        assert_eq!(encode(&[]), "[]", "TH-8");
        assert_eq!(encode(&[reply("1")]), r#"[{"id":"1","channel":"/b","successful":true}]"#, "M-1");
        assert_eq!(
            encode(&[event(1), reply("1"), event(2)]),
            r#"[{"channel":"/a","data":1},{"id":"1","channel":"/b","successful":true},{"channel":"/a","data":2}]"#
        );
    }

    /// XA-6: a batch is one frame, whatever the number of events per frame; a large one is not.
    #[test]
    fn a_batch_shares_the_frame_of_the_reply_that_closes_it() {
        let closing = || {
            let Outgoing::Reply(mut reply) = reply("1") else { unreachable!("made above") };
            reply.ack = Some(AckReply::Batch(7));
            reply.ends_envelope = true;
            Outgoing::Reply(reply)
        };
        let frames = text(&[event(1), event(2), closing(), event(3), event(4), reply("2")], 1);
        assert_eq!(frames.len(), 4, "{frames:?}");
        assert!(frames[0].contains(r#""data":2"#) && frames[0].contains(r#""ack":7"#));
        let large = Outgoing::Event(Event::new("/a", RawJson::from_text(&"x".repeat(WHOLE_BATCH))).freeze());
        assert_eq!(text(&[event(1), large.clone(), closing()], 1).len(), 3);
        assert_eq!(text(&[large, closing()], 1).len(), 1);
    }

    /// TW-8: the replies to one envelope leave in one frame, those to two in two.
    #[test]
    fn a_frame_ends_with_the_envelope_that_it_answers() {
        let last = |id| {
            let Outgoing::Reply(mut reply) = reply(id) else { unreachable!("made above") };
            reply.ends_envelope = true;
            Outgoing::Reply(reply)
        };
        let frames = text(&[reply("1"), last("2"), last("3")], 1);
        assert_eq!(frames.len(), 2);
        assert!(frames[0].contains(r#""id":"2""#) && frames[1].contains(r#""id":"3""#));
    }

    #[test]
    fn a_lone_event_is_not_copied() {
        let event = event(1);
        let Outgoing::Event(frozen) = &event else { unreachable!("made above") };
        assert_eq!(encode(std::slice::from_ref(&event)).as_ptr(), frozen.as_array().as_ptr(), "Q-24");
        assert_eq!(
            frames(std::slice::from_ref(&event), 1).next().map(|frame| frame.as_ptr()),
            Some(frozen.as_array().as_ptr())
        );
    }

    #[test]
    fn line_separators_in_raw_values_are_escaped_for_scripts() {
        let json = Bytes::from("[\"\u{2028}a\u{2029}\u{2028}é\u{2027}\u{202a}\u{2029}\"]");
        let escaped = escape_line_separators(json);
        assert_eq!(escaped, "[\"\\u2028a\\u2029\\u2028é\u{2027}\u{202a}\\u2029\"]", "TJ-5");
        assert_eq!(escape_line_separators(escaped.clone()).as_ptr(), escaped.as_ptr(), "nothing to do, nothing copied");
        assert_eq!(escape_line_separators(Bytes::new()), "");
    }

    #[test]
    fn encoding_into_a_buffer_appends() {
        let mut out = b"x".to_vec();
        encode_into(&[event(1)], &mut out);
        encode_into(&[], &mut out);
        assert_eq!(out, br#"x[{"channel":"/a","data":1}][]"#);
    }

    #[test]
    fn runs_of_events_are_cut_and_runs_of_replies_are_not() {
        let one = r#"{"channel":"/a","data":1}"#;
        let ok = |id| format!(r#"{{"id":"{id}","channel":"/b","successful":true}}"#);
        let messages = [event(1), event(1), event(1), reply("1"), reply("2"), event(1)];
        let replies = format!("[{},{}]", ok(1), ok(2));
        let single = format!("[{one}]");
        assert_eq!(text(&messages, 0), [format!("[{one},{one},{one}]"), replies.clone(), single.clone()], "O-35");
        assert_eq!(text(&messages, 2), [format!("[{one},{one}]"), single.clone(), replies.clone(), single.clone()]);
        assert_eq!(text(&messages, 1), [single.clone(), single.clone(), single.clone(), replies, single], "TW-8");
        assert_eq!(text(&[], 1), [""; 0]);
    }
}
