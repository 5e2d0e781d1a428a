//! Replies: typed, one per request, encoded late.

use bytestring::ByteString;

use crate::advice::Advice;
use crate::decode;
use crate::error_field::ErrorField;
use crate::extension::{self, AckReply, TimesyncReply};
use crate::json::RawJson;
use crate::message::{Message, MessageId};
use crate::text::{self, Object, Sink};

/// The reply to one request (rules M-15, F-2).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The request's channel, verbatim; `None` where the request had none (rule M-5).
    pub channel: Option<ByteString>,
    /// The request's id.
    pub id: Option<MessageId>,
    /// The request's `subscription`, verbatim (rule M-15).
    pub subscription: Option<RawJson>,
    /// `successful`: true exactly where there is no error, save in rule TH-32.
    pub successful: bool,
    /// `error`, only with `successful:false`.
    pub error: Option<ErrorField>,
    /// What only successful handshake replies carry.
    pub handshake: Option<Box<Handshake>>,
    /// `advice`; not written where empty.
    pub advice: Advice,
    /// `ext`, an object.
    pub ext: Option<RawJson>,
    /// `ext.ack`
    pub ack: Option<AckReply>,
    /// `ext.timesync`
    pub timesync: Option<TimesyncReply>,
    /// Whether the replies to its envelope end here. Not on the wire: a WebSocket frame ends here, too, so that the
    /// replies to one envelope leave in one frame and those to two in two (rule TW-8).
    pub ends_envelope: bool,
    /// Further fields, as (key as written with its quotes, value).
    pub fields: Vec<(ByteString, RawJson)>,
}

/// The fields of a successful handshake reply (rules H-10, H-20).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// `clientId`
    pub client_id: ByteString,
    /// `supportedConnectionTypes`: the server's list in its order of preference (rule H-12).
    pub connection_types: std::sync::Arc<[ByteString]>,
    /// `x-messages`, written where not 0 (rule H-20).
    pub messages: usize,
}

impl Reply {
    /// The reply to `request`, not yet decided: unsuccessful, without error (rule M-15).
    ///
    /// It does not keep the request's buffer alive.
    pub fn to(request: &Message) -> Self {
        let own = |text: &ByteString| match decode::well_known_channel(text) {
            Some(known) => ByteString::from_static(known),
            None => ByteString::from(&**text),
        };
        let id = request.id.as_ref().map(MessageId::detach);
        let subscription = request.subscription.as_ref().map(RawJson::detach);
        Self { subscription, ..Self::new(request.channel.as_ref().map(own), id) }
    }

    /// The reply to a request with that channel and id, not yet decided. It keeps alive what they were cut from.
    pub fn new(channel: Option<ByteString>, id: Option<MessageId>) -> Self {
        Self {
            channel,
            id,
            subscription: None,
            successful: false,
            error: None,
            handshake: None,
            advice: Advice::default(),
            ext: None,
            ack: None,
            timesync: None,
            ends_envelope: false,
            fields: Vec::new(),
        }
    }

    /// Makes it a success.
    pub fn succeed(&mut self) {
        self.successful = true;
        self.error = None;
    }

    /// Makes it a failure with `error` (rule F-2).
    pub fn fail(&mut self, error: ErrorField) {
        self.successful = false;
        self.error = Some(error);
    }

    /// Writes the object, in the order of the examples of section 1.3.
    pub(crate) fn write<S: Sink>(&self, sink: &mut S) {
        let mut object = Object::new(sink);
        if let Some(id) = &self.id {
            id.write(object.key("\"id\""));
        }
        if let Some(channel) = &self.channel {
            object.string("\"channel\"", channel);
        }
        if let Some(subscription) = &self.subscription {
            object.raw("\"subscription\"", subscription.as_str());
        }
        object.bool("\"successful\"", self.successful);
        if let Some(error) = &self.error {
            error.write(object.key("\"error\""));
        }
        if let Some(handshake) = &self.handshake {
            handshake.write(&mut object);
        }
        if !self.advice.is_empty() {
            self.advice.write(object.key("\"advice\""));
        }
        if self.ack.is_some() || self.timesync.is_some() {
            extension::write(object.key("\"ext\""), self.ext.as_ref(), self.ack, self.timesync);
        } else if let Some(ext) = &self.ext {
            object.raw("\"ext\"", ext.as_str());
        }
        for (key, value) in &self.fields {
            object.raw(key, value.as_str());
        }
        object.end();
    }
}

impl Handshake {
    fn write<S: Sink>(&self, object: &mut Object<'_, S>) {
        object.string("\"version\"", "1.0");
        object.string("\"minimumVersion\"", "1.0");
        let sink = object.key("\"supportedConnectionTypes\"");
        text::write_strings(sink, self.connection_types.iter().map(|name| &**name));
        object.string("\"clientId\"", &self.client_id);
        if self.messages > 0 {
            object.number("\"x-messages\"", self.messages as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::Reconnect;

    fn text(reply: &Reply) -> String {
        let mut text = Vec::new();
        reply.write(&mut text);
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    #[test]
    fn a_handshake_reply_looks_like_that_of_cometd() {
        let mut reply = Reply::to(&Message::handshake(&["long-polling"]).with_id("1"));
        reply.succeed();
        reply.handshake = Some(Box::new(Handshake {
            client_id: "4f1k".into(),
            connection_types: ["websocket".into(), "long-polling".into()].into(),
            messages: 0,
        }));
        reply.advice = Advice {
            reconnect: Some(Reconnect::Retry),
            interval_ms: Some(0),
            timeout_ms: Some(30_000),
            ..Advice::default()
        };
        assert_eq!(
            text(&reply),
            r#"{"id":"1","channel":"/meta/handshake","successful":true,"version":"1.0","minimumVersion":"1.0","supportedConnectionTypes":["websocket","long-polling"],"clientId":"4f1k","advice":{"reconnect":"retry","interval":0,"timeout":30000}}"#,
            "section 1.3"
        );
    }

    #[test]
    fn x_messages_is_written_where_there_are_some() {
        let mut reply = Reply::to(&Message::default());
        reply.succeed();
        reply.handshake = Some(Box::new(Handshake { client_id: "c".into(), connection_types: [].into(), messages: 3 }));
        assert!(text(&reply).ends_with(r#""supportedConnectionTypes":[],"clientId":"c","x-messages":3}"#), "H-20");
    }

    #[test]
    fn a_failure_without_error_text_can_be_written() {
        let mut reply = Reply::to(&Message::connect("c", "long-polling").with_id("2"));
        reply.advice = Advice { reconnect: Some(Reconnect::None), multiple_clients: true, ..Advice::default() };
        assert_eq!(
            text(&reply),
            r#"{"id":"2","channel":"/meta/connect","successful":false,"advice":{"reconnect":"none","multiple-clients":true}}"#,
            "TH-32"
        );
    }

    #[test]
    fn an_error_ends_success_and_success_an_error() {
        let mut reply = Reply::to(&Message::new("/a"));
        reply.succeed();
        reply.fail(ErrorField::MESSAGE_DELETED);
        assert_eq!(text(&reply), r#"{"channel":"/a","successful":false,"error":"404::message_deleted"}"#, "F-2");
        reply.succeed();
        reply.ext = Some(RawJson::new("{\"ack\":1}").expect("JSON"));
        reply.fields.push(("\"data\"".into(), RawJson::null()));
        assert_eq!(text(&reply), r#"{"channel":"/a","successful":true,"ext":{"ack":1},"data":null}"#);
    }
}
