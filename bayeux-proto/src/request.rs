//! Messages as clients make them.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::json::RawJson;
use crate::message::{Message, MessageId};
use crate::meta;
use crate::text::{self, Length, Object, Sink};

impl Message {
    /// A message to `channel` with nothing else.
    pub fn new(channel: impl Into<ByteString>) -> Self {
        Self { channel: Some(channel.into()), ..Self::default() }
    }

    /// A meta handshake that offers `connection_types`, the preferred one first.
    pub fn handshake(connection_types: &[&str]) -> Self {
        let mut message = Self::new(ByteString::from_static(meta::HANDSHAKE));
        message.fields = vec![
            (ByteString::from_static("\"version\""), RawJson::from_text("1.0")),
            (ByteString::from_static("\"minimumVersion\""), RawJson::from_text("1.0")),
            (ByteString::from_static("\"supportedConnectionTypes\""), RawJson::from_texts(connection_types)),
        ];
        message
    }

    /// A meta connect over the transport of name `connection_type`.
    pub fn connect(client_id: impl Into<ByteString>, connection_type: &str) -> Self {
        let mut message = Self::new(ByteString::from_static(meta::CONNECT)).with_client_id(client_id);
        message.connection_type = Some(RawJson::from_text(connection_type));
        message
    }

    /// A meta subscribe. One channel is sent as a string, several as an array, which servers before CometD 3.1 do not
    /// know (rule DI-C3).
    pub fn subscribe(client_id: impl Into<ByteString>, channels: &[&str]) -> Self {
        let mut message = Self::new(ByteString::from_static(meta::SUBSCRIBE)).with_client_id(client_id);
        message.subscription = Some(subscription(channels));
        message
    }

    /// A meta unsubscribe; see [`Message::subscribe`].
    pub fn unsubscribe(client_id: impl Into<ByteString>, channels: &[&str]) -> Self {
        let mut message = Self::new(ByteString::from_static(meta::UNSUBSCRIBE)).with_client_id(client_id);
        message.subscription = Some(subscription(channels));
        message
    }

    /// A publish to a broadcast channel or a message to a service.
    pub fn publish(client_id: impl Into<ByteString>, channel: impl Into<ByteString>, data: RawJson) -> Self {
        let mut message = Self::new(channel).with_client_id(client_id);
        message.data = Some(data);
        message
    }

    /// A meta disconnect.
    pub fn disconnect(client_id: impl Into<ByteString>) -> Self {
        Self::new(ByteString::from_static(meta::DISCONNECT)).with_client_id(client_id)
    }

    /// With the message id `id`.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<ByteString>) -> Self {
        self.id = Some(MessageId::Text(id.into()));
        self
    }

    /// With the session's id.
    #[must_use]
    pub fn with_client_id(mut self, client_id: impl Into<ByteString>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// With a field that has no typed place; what was there under that name is gone.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: RawJson) -> Self {
        self.fields.retain(|(key, _)| !text::is_key(key, name));
        self.fields.push((RawJson::from_text(name).text().clone(), value));
        self
    }

    /// Appends it as a JSON object to `out`. What was decoded and encoded again means the same, but typed fields come
    /// first and are unescaped.
    pub fn encode_into(&self, out: &mut BytesMut) {
        let mut length = Length::default();
        self.write(&mut length);
        out.reserve(length.0);
        self.write(out);
    }

    fn write<S: Sink>(&self, sink: &mut S) {
        let mut object = Object::new(sink);
        if let Some(id) = &self.id {
            id.write(object.key("\"id\""));
        }
        if let Some(channel) = &self.channel {
            object.string("\"channel\"", channel);
        }
        if let Some(client_id) = &self.client_id {
            object.string("\"clientId\"", client_id);
        }
        let values = [
            ("\"connectionType\"", &self.connection_type),
            ("\"subscription\"", &self.subscription),
            ("\"data\"", &self.data),
            ("\"advice\"", &self.advice),
            ("\"ext\"", &self.ext),
        ];
        for (key, value) in values {
            if let Some(value) = value {
                object.raw(key, value.as_str());
            }
        }
        for (key, value) in &self.fields {
            object.raw(key, value.as_str());
        }
        object.end();
    }
}

/// Encodes requests as one envelope, a JSON array, in one allocation.
pub fn encode_requests(messages: &[Message]) -> Bytes {
    let mut length = Length::default();
    write_array(messages, &mut length);
    let mut out = Vec::with_capacity(length.0);
    write_array(messages, &mut out);
    out.into()
}

fn write_array<S: Sink>(messages: &[Message], sink: &mut S) {
    sink.put(b"[");
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            sink.put(b",");
        }
        message.write(sink);
    }
    sink.put(b"]");
}

fn subscription(channels: &[&str]) -> RawJson {
    match channels {
        [channel] => RawJson::from_text(channel),
        _ => RawJson::from_texts(channels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_look_like_those_of_the_reference() {
        let data = RawJson::new(r#"{"t":"hi"}"#).expect("JSON");
        let mut connect = Message::connect("4f1k", "long-polling").with_id("2");
        connect.advice = Some(RawJson::new(r#"{"timeout":0}"#).expect("JSON"));
        let requests = [
            Message::handshake(&["websocket", "long-polling"]).with_id("1"),
            connect,
            Message::subscribe("4f1k", &["/chat/**"]).with_id("3"),
            Message::unsubscribe("4f1k", &["/a", "/b"]),
            Message::publish("4f1k", "/chat/a", data).with_id("5"),
            Message::disconnect("4f1k").with_id("6"),
        ];
        let expected = concat!(
            r#"[{"id":"1","channel":"/meta/handshake","version":"1.0","minimumVersion":"1.0","supportedConnectionTypes":["websocket","long-polling"]},"#,
            r#"{"id":"2","channel":"/meta/connect","clientId":"4f1k","connectionType":"long-polling","advice":{"timeout":0}},"#,
            r#"{"id":"3","channel":"/meta/subscribe","clientId":"4f1k","subscription":"/chat/**"},"#,
            r#"{"channel":"/meta/unsubscribe","clientId":"4f1k","subscription":["/a","/b"]},"#,
            r#"{"id":"5","channel":"/chat/a","clientId":"4f1k","data":{"t":"hi"}},"#,
            r#"{"id":"6","channel":"/meta/disconnect","clientId":"4f1k"}]"#,
        );
        assert_eq!(encode_requests(&requests), expected, "section 1.3");
        assert_eq!(crate::decode(expected.into(), &crate::Limits::default()).expect("an envelope").messages, requests);
    }

    #[test]
    fn a_field_is_set_once_and_its_name_is_quoted() {
        let message = Message::new("/a").with_field("k\"", RawJson::null()).with_field("k\"", RawJson::from_text("v"));
        let mut out = BytesMut::new();
        message.encode_into(&mut out);
        assert_eq!(out, r#"{"channel":"/a","k\"":"v"}"#);
        assert_eq!(message.field("k\"").and_then(RawJson::as_text).as_deref(), Some("v"));
    }
}
