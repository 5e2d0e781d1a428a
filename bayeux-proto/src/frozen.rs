//! Events: what subscribers receive, encoded once for all of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use crate::decode::decode;
use crate::json::{Limits, RawJson};
use crate::message::{Message, MessageId};
use crate::scan::Value;
use crate::text::{self, Length, Object, Sink};

/// How an event may wait (rule Q-30).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lazy {
    /// Not at all.
    No,
    /// Up to the session's `maxLazyTimeout`.
    Yes,
    /// Up to the channel's own `lazyTimeout`.
    Within(Duration),
}

/// A message to subscribers before it is encoded: still open to change (rule G-12).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The normalised channel (rule Z-15).
    pub channel: ByteString,
    /// Only what the application set: broadcasts have none (rule M-13).
    pub id: Option<MessageId>,
    /// The payload; `None` leaves the key out, which only the server's own meta messages may do (rule P-3).
    pub data: Option<RawJson>,
    /// `successful`, for remote-call results and the server's disconnect (rules R-4, D-10).
    pub successful: Option<bool>,
    /// Extension data.
    pub ext: Option<RawJson>,
    /// Other fields, as (key as written with its quotes, value).
    pub fields: Vec<(ByteString, RawJson)>,
    /// How it may wait.
    pub lazy: Lazy,
}

impl Event {
    /// An event with a payload and nothing else.
    pub fn new(channel: impl Into<ByteString>, data: RawJson) -> Self {
        Self {
            channel: channel.into(),
            id: None,
            data: Some(data),
            successful: None,
            ext: None,
            fields: Vec::new(),
            lazy: Lazy::No,
        }
    }

    /// The event that a client's publish to the normalised `channel` becomes.
    ///
    /// `clientId` and `id` are gone (rules M-13, M-14), missing `data` became `null` (rule P-3), and fields that would
    /// mislead receivers are dropped: `advice`, `successful`, `error`, `subscription`, `connectionType`,
    /// `supportedConnectionTypes` (rule Z-3). `ext`, `timestamp` and unknown fields stay (rule M-4).
    pub fn from_publish(channel: ByteString, message: Message) -> Self {
        let mut fields = message.fields;
        fields.retain(|(key, _)| !MISLEADING.contains(&&*text::plain(Value::trusted(key))));
        Self {
            channel,
            id: None,
            data: Some(message.data.unwrap_or_else(RawJson::null)),
            successful: None,
            ext: message.ext,
            fields,
            lazy: Lazy::No,
        }
    }

    /// Encodes it, once and for good (rule Q-24). Copies what it needs, so that the request's buffer can go.
    pub fn freeze(&self) -> Frozen {
        let mut length = Length::default();
        self.write_array(&mut length);
        let mut array = Vec::with_capacity(length.0);
        self.write_array(&mut array);
        let array = Bytes::from(array);
        // The channel is in there already, unless it had to be escaped.
        let start = ARRAY_OPENING.len();
        let channel = array.slice(start..start + self.channel.len().min(array.len() - start));
        let channel = match ByteString::try_from(channel) {
            Ok(channel) if channel == self.channel => channel,
            Ok(_) | Err(_) => ByteString::from(&*self.channel),
        };
        Frozen(Arc::new(Inner { array, channel, lazy: self.lazy }))
    }

    fn write_array<S: Sink>(&self, sink: &mut S) {
        sink.put(b"[");
        let mut object = Object::new(sink);
        object.string("\"channel\"", &self.channel);
        if let Some(data) = &self.data {
            object.raw("\"data\"", data.as_str());
        }
        if let Some(id) = &self.id {
            id.write(object.key("\"id\""));
        }
        if let Some(successful) = self.successful {
            object.bool("\"successful\"", successful);
        }
        if let Some(ext) = &self.ext {
            object.raw("\"ext\"", ext.as_str());
        }
        for (key, value) in &self.fields {
            object.raw(key, value.as_str());
        }
        object.end();
        sink.put(b"]");
    }
}

/// Deeper than what [`RawJson::new`] takes, and the event around it.
const THAW_DEPTH_MAX: usize = 520;

/// What comes before the channel in an encoded event.
const ARRAY_OPENING: &str = r#"[{"channel":""#;

/// Fields without a typed place that are taken out of publishes (rule Z-3).
const MISLEADING: [&str; 3] = ["successful", "error", "supportedConnectionTypes"];

/// An encoded event: one reference-counted pointer, the same bytes for every recipient (rule Q-24).
#[derive(Debug, Clone)]
pub struct Frozen(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `[{…}]`
    array: Bytes,
    channel: ByteString,
    lazy: Lazy,
}

impl Frozen {
    /// The event as a whole envelope, `[{…}]`.
    pub fn as_array(&self) -> &Bytes {
        &self.0.array
    }

    /// The event alone, `{…}`.
    pub fn as_object(&self) -> &[u8] {
        let array = &self.0.array;
        &array[1..array.len() - 1]
    }

    /// The channel it was published or delivered on.
    pub fn channel(&self) -> &ByteString {
        &self.0.channel
    }

    /// How it may wait.
    pub fn lazy(&self) -> Lazy {
        self.0.lazy
    }

    /// Decodes it, to make another event of it.
    pub fn thaw(&self) -> Event {
        let limits = Limits { bytes_max: usize::MAX, depth_max: THAW_DEPTH_MAX, ..Limits::default() };
        let mut event = Event::new(self.0.channel.clone(), RawJson::null());
        event.lazy = self.0.lazy;
        // An event of this server is a message; one that holds deeper values than any envelope may is left as it is.
        let Ok(Some(message)) = decode(self.0.array.clone(), &limits).map(|batch| batch.messages.into_iter().next())
        else {
            return event;
        };
        event.successful = message.successful();
        event.id = message.id;
        event.data = message.data;
        event.ext = message.ext;
        event.fields = message.fields;
        event.fields.retain(|(key, _)| !text::is_key(key, "successful"));
        event
    }

    /// Bytes of the encoded event.
    pub fn size(&self) -> usize {
        self.0.array.len() - 2
    }

    /// Whether both are the very same encoding, not only equal ones.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_with_channel_and_data_first() {
        let mut event = Event::new("/a", RawJson::new("{\"n\": 1.0}").expect("JSON"));
        event.id = Some(MessageId::Text("7".into()));
        event.successful = Some(false);
        event.ext = Some(RawJson::new("{}").expect("JSON"));
        event.fields.push(("\"x\"".into(), RawJson::null()));
        let frozen = event.freeze();
        let text = r#"{"channel":"/a","data":{"n": 1.0},"id":"7","successful":false,"ext":{},"x":null}"#;
        assert_eq!(frozen.as_object(), text.as_bytes());
        assert_eq!(frozen.as_array(), &format!("[{text}]"));
        assert_eq!(frozen.size(), text.len());
    }

    #[test]
    fn data_that_is_not_there_is_not_written() {
        let mut event = Event::new("/meta/disconnect", RawJson::null());
        event.data = None;
        assert_eq!(event.freeze().as_object(), br#"{"channel":"/meta/disconnect"}"#, "P-3");
    }

    #[test]
    fn the_channel_is_the_plain_one_even_if_it_had_to_be_escaped() {
        for channel in ["/a", "/\"", "/\n", "/\u{2028}", "/é", ""] {
            let frozen = Event::new(channel, RawJson::null()).freeze();
            assert_eq!(frozen.channel(), channel);
        }
    }

    #[test]
    fn a_thawed_event_freezes_to_the_same_bytes() {
        let mut event = Event::new("/a\"", RawJson::new("{\"n\": 1.0}").expect("JSON"));
        event.id = Some(MessageId::Text("7".into()));
        event.successful = Some(false);
        event.ext = Some(RawJson::new("{}").expect("JSON"));
        event.fields.push(("\"x\"".into(), RawJson::null()));
        event.lazy = Lazy::Within(Duration::from_secs(1));
        assert_eq!(event.freeze().thaw(), event);
        let mut farewell = Event::new("/meta/disconnect", RawJson::null());
        farewell.data = None;
        assert_eq!(farewell.freeze().thaw(), farewell);
    }

    #[test]
    fn clones_are_the_same_encoding_and_equal_events_are_not() {
        let event = Event::new("/a", RawJson::null());
        let frozen = event.freeze();
        assert!(frozen.is_same(&frozen.clone()), "Q-24");
        assert!(!frozen.is_same(&event.freeze()));
        assert_eq!(frozen.as_array().as_ptr(), frozen.clone().as_array().as_ptr());
    }

    #[test]
    fn a_frozen_event_does_not_keep_the_request_alive() {
        let request = Bytes::from(br#"[{"channel":"/a","data":"payload","ext":{},"x":1}]"#.to_vec());
        let batch = decode(request.clone(), &Limits::default()).expect("an envelope");
        let frozen: Vec<_> =
            batch.messages.into_iter().map(|message| Event::from_publish("/a".into(), message).freeze()).collect();
        assert!(request.is_unique(), "{frozen:?}");
    }
}
