//! Outgoing messages to bytes.

use bytes::{Bytes, BytesMut};

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

/// Appends one envelope, a JSON array, to `out`.
pub fn encode_into(messages: &[Outgoing], out: &mut BytesMut) {
    out.reserve(length(messages));
    write_array(messages, out);
}

/// Cuts messages into WebSocket frames: each run of events into envelopes of `events_per_frame` (0: all of the run in
/// one), each run of replies into one (rules TW-8, O-35). A lone event is not copied.
pub fn frames(messages: &[Outgoing], events_per_frame: usize) -> Frames<'_> {
    let events_max = if events_per_frame == 0 { usize::MAX } else { events_per_frame };
    Frames { rest: messages, events_max }
}

/// The envelopes of [`frames`].
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    rest: &'a [Outgoing],
    events_max: usize,
}

impl Iterator for Frames<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let is_event = self.rest.first()?.is_event();
        let items_max = if is_event { self.events_max } else { usize::MAX };
        let items = self.rest.iter().take(items_max).take_while(|message| message.is_event() == is_event).count();
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
