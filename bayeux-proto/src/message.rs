//! Messages as they are received.

use bytestring::ByteString;

use crate::advice::{AdviceError, ConnectAdvice};
use crate::json::RawJson;
use crate::scan::{Kind, Value};
use crate::text::{self, Sink};

/// The messages of one envelope, in order (rule M-1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The messages; empty for `[]`.
    pub messages: Vec<Message>,
    /// Their size on the wire, in bytes.
    pub bytes: usize,
}

impl Batch {
    /// Bytes that it takes in memory at least: its text, and what was made of it. Messages of two bytes take a hundred
    /// times as many, so limits on what is kept of envelopes count these bytes, not those of the wire.
    pub fn footprint(&self) -> usize {
        let fields: usize = self.messages.iter().map(|message| message.fields.len()).sum();
        self.bytes + self.messages.len() * size_of::<Message>() + fields * size_of::<(ByteString, RawJson)>()
    }
}

/// A known field, named where a message has it with a type that it cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// `channel` is not a string.
    Channel,
    /// `clientId` is not a string.
    ClientId,
    /// `ext` is not an object.
    Ext,
}

/// One received message.
///
/// `null` in a known field counts as absent, save in `data` (rules M-16, M-19). A repeated key: the last one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The channel as it was sent, neither checked nor normalised.
    pub channel: Option<ByteString>,
    /// The message id (rules M-10 to M-12).
    pub id: Option<MessageId>,
    /// The session's id as it was sent.
    pub client_id: Option<ByteString>,
    /// `subscription`, verbatim; see [`Message::subscriptions`].
    pub subscription: Option<RawJson>,
    /// The payload. `Some` whenever the key is present, `null` included (rule M-16).
    pub data: Option<RawJson>,
    /// Extension data: an object.
    pub ext: Option<RawJson>,
    /// `advice`, verbatim, whatever its type; see [`Message::connect_advice`].
    pub advice: Option<RawJson>,
    /// `connectionType`, verbatim, whatever its type; see [`Message::connection_type`].
    pub connection_type: Option<RawJson>,
    /// Every other field in order of appearance, as (key as written, with its quotes and escapes; value). Repeated keys
    /// are all here.
    pub fields: Vec<(ByteString, RawJson)>,
    /// The first known field, in the order of [`Field`], that has a type it cannot have (rules M-6, Z-1). The field
    /// itself is then `None`.
    pub malformed: Option<Field>,
}

/// The channels that a subscribe or unsubscribe message names (rules M-15, S-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscription {
    /// Absent or `null`.
    Missing,
    /// Neither a string nor an array of strings and numbers.
    Invalid,
    /// The names, unescaped, neither checked nor normalised; numbers in an array became their text. May be empty.
    Channels(Vec<ByteString>),
}

impl Message {
    /// The value of a field that has no typed place here, or of `connectionType`, by its unescaped name. Of a repeated
    /// key it is the last one.
    pub fn field(&self, name: &str) -> Option<&RawJson> {
        if name == "connectionType" {
            return self.connection_type.as_ref();
        }
        self.fields.iter().rev().find(|(key, _)| text::is_key(key, name)).map(|(_, value)| value)
    }

    /// Whether `name` is that of a field with a meaning of its own in the protocol, so that it has no place among other
    /// fields.
    pub fn is_known_field(name: &str) -> bool {
        const NAMES: [&str; 12] = [
            "channel",
            "id",
            "clientId",
            "subscription",
            "data",
            "ext",
            "advice",
            "connectionType",
            "successful",
            "error",
            "supportedConnectionTypes",
            "version",
        ];
        NAMES.contains(&name)
    }

    /// Reads `subscription`.
    pub fn subscriptions(&self) -> Subscription {
        let Some(raw) = &self.subscription else { return Subscription::Missing };
        let value = raw.value();
        match value.kind() {
            Kind::Null => Subscription::Missing,
            Kind::String => Subscription::Channels(vec![text::string_value(raw.text(), value)]),
            Kind::Array => {
                let name = |element: Value<'_>| match element.kind() {
                    Kind::String => Some(text::string_value(raw.text(), element)),
                    Kind::Number => Some(raw.text().slice_ref(element.raw)),
                    Kind::Null | Kind::Bool | Kind::Array | Kind::Object => None,
                };
                value.elements().map(name).collect::<Option<_>>().map_or(Subscription::Invalid, Subscription::Channels)
            }
            Kind::Bool | Kind::Number | Kind::Object => Subscription::Invalid,
        }
    }

    /// How many names [`Message::subscriptions`] would have to hold, without holding any: a name of two bytes takes
    /// sixteen times as many in its list, so whoever has a limit asks here first (rules Z-9, Z-20).
    pub fn subscription_count(&self) -> usize {
        let Some(raw) = &self.subscription else { return 0 };
        match raw.value().kind() {
            Kind::String => 1,
            Kind::Array => raw.value().elements().count(),
            Kind::Null | Kind::Bool | Kind::Number | Kind::Object => 0,
        }
    }

    /// Reads the `advice` of a meta connect: absent and `null` are `None` (rules V-2, K-9).
    ///
    /// # Errors
    /// [`AdviceError`] where it is not an object, or its `timeout` or `interval` is not a number (rule M-6).
    pub fn connect_advice(&self) -> Result<Option<ConnectAdvice>, AdviceError> {
        match &self.advice {
            None => Ok(None),
            Some(raw) if raw.is_null() => Ok(None),
            Some(raw) => ConnectAdvice::parse(raw).map(Some),
        }
    }

    /// `connectionType`, if it is a string.
    pub fn connection_type(&self) -> Option<ByteString> {
        self.connection_type.as_ref()?.as_text()
    }

    /// `successful`, if it is a boolean. Replies have it; so have results of remote calls (rule M-17).
    pub fn successful(&self) -> Option<bool> {
        match self.field("successful")?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// `error`, if it is a string.
    pub fn error(&self) -> Option<ByteString> {
        self.field("error")?.as_text()
    }

    /// `version`, if it is a string.
    pub fn version(&self) -> Option<ByteString> {
        self.field("version")?.as_text()
    }

    /// `supportedConnectionTypes`, if it is an array; elements that are no strings are left out.
    pub fn supported_connection_types(&self) -> Option<Vec<ByteString>> {
        let raw = self.field("supportedConnectionTypes")?;
        let value = raw.value();
        (value.kind() == Kind::Array).then(|| {
            let strings = value.elements().filter(|element| element.kind() == Kind::String);
            strings.map(|element| text::string_value(raw.text(), element)).collect()
        })
    }

    /// `timestamp`, if it is a string.
    pub fn timestamp(&self) -> Option<ByteString> {
        self.field("timestamp")?.as_text()
    }

    /// `x-messages`, if it is a number that is not negative (rule H-20).
    pub fn x_messages(&self) -> Option<u64> {
        crate::advice::whole_number(self.field("x-messages")?.value()).ok().flatten()
    }

    /// A copy that does not keep the buffer it was cut from alive.
    pub fn detach(&self) -> Self {
        let text = |text: &ByteString| ByteString::from(&**text);
        Self {
            channel: self.channel.as_ref().map(text),
            id: self.id.as_ref().map(MessageId::detach),
            client_id: self.client_id.as_ref().map(text),
            subscription: self.subscription.as_ref().map(RawJson::detach),
            data: self.data.as_ref().map(RawJson::detach),
            ext: self.ext.as_ref().map(RawJson::detach),
            advice: self.advice.as_ref().map(RawJson::detach),
            connection_type: self.connection_type.as_ref().map(RawJson::detach),
            fields: self.fields.iter().map(|(key, value)| (text(key), value.detach())).collect(),
            malformed: self.malformed,
        }
    }
}

/// A message id: an opaque token that a reply echoes (rules M-10, M-11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageId {
    /// A string, unescaped, or the text of a number: both are echoed as a string.
    Text(ByteString),
    /// Anything else (never valid), echoed verbatim.
    Other(RawJson),
}

impl MessageId {
    /// Whether it is one or more of `[A-Za-z0-9]` (rule M-10).
    pub fn is_valid(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric()),
            Self::Other(_) => false,
        }
    }

    pub(crate) fn write<S: Sink>(&self, sink: &mut S) {
        match self {
            Self::Text(id) => text::write_string(sink, id),
            Self::Other(raw) => sink.put(raw.as_str().as_bytes()),
        }
    }

    /// A copy that does not keep the buffer it was cut from alive.
    pub fn detach(&self) -> Self {
        match self {
            Self::Text(text) => Self::Text(ByteString::from(&**text)),
            Self::Other(raw) => Self::Other(raw.detach()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &'static str) -> Message {
        crate::decode(text.into(), &crate::Limits::default()).expect("an envelope of this test").messages.remove(0)
    }

    #[test]
    fn an_id_is_one_or_more_letters_and_digits() {
        for (id, is_valid) in [("1", true), ("aZ09", true), ("", false), ("1.5", false), ("-1", false), ("é", false)] {
            assert_eq!(MessageId::Text(id.into()).is_valid(), is_valid, "M-10: {id}");
        }
        assert!(!MessageId::Other(RawJson::null()).is_valid(), "M-6");
    }

    #[test]
    fn fields_are_found_by_the_name_they_spell() {
        let message = message(r#"{"x":1,"\u0078":2,"y\n":3,"connectionType":"w"}"#);
        let field = |name| message.field(name).map(RawJson::as_str);
        assert_eq!(field("x"), Some("2"), "M-9: the last counts");
        assert_eq!(field("y\n"), Some("3"));
        assert_eq!(field("connectionType"), Some("\"w\""));
        assert_eq!(field("z"), None);
        let mut odd = Message::new("/a");
        odd.fields = ["", "\"", "x"].map(|key| (key.into(), RawJson::null())).into();
        assert_eq!(odd.field("x"), None, "a key without quotes is no key, and no reason to panic");
    }

    #[test]
    fn names_are_counted_without_a_list() {
        for (text, count) in [
            ("{}", 0),
            (r#"{"subscription":null}"#, 0),
            (r#"{"subscription":{"a":1}}"#, 0),
            (r#"{"subscription":"/a,/b"}"#, 1),
            (r#"{"subscription":[]}"#, 0),
            (r#"{"subscription":["/a",["/b","/c"],3]}"#, 3),
        ] {
            assert_eq!(message(text).subscription_count(), count, "Z-9: {text}");
        }
    }

    #[test]
    fn the_fields_of_a_handshake_reply_are_read() {
        let message = message(
            r#"{"successful":true,"version":"1.0","supportedConnectionTypes":["a",1,"\u0062"],"x-messages":3.0,"timestamp":"t"}"#,
        );
        assert_eq!(message.successful(), Some(true));
        assert_eq!(message.version().as_deref(), Some("1.0"));
        assert_eq!(message.supported_connection_types(), Some(vec!["a".into(), "b".into()]), "H-12");
        assert_eq!(message.x_messages(), Some(3), "H-20");
        assert_eq!(message.timestamp().as_deref(), Some("t"));
        assert_eq!(message.error(), None);
    }

    #[test]
    fn fields_of_wrong_types_count_as_absent_for_a_client() {
        let message = message(
            r#"{"successful":"yes","version":1,"supportedConnectionTypes":"a","x-messages":-1,"timestamp":null,"error":{},"connectionType":1}"#,
        );
        assert_eq!(message.successful(), None);
        assert_eq!((message.version(), message.timestamp(), message.error()), (None, None, None));
        assert_eq!(message.supported_connection_types(), None);
        assert_eq!(message.connection_type(), None);
        assert_eq!(message.x_messages(), None);
    }

    #[test]
    fn advice_is_absent_read_or_refused() {
        assert_eq!(message("{}").connect_advice(), Ok(None), "V-2");
        assert_eq!(message(r#"{"advice":null}"#).connect_advice(), Ok(None), "M-19");
        let advice = ConnectAdvice { timeout_ms: Some(0), interval_ms: None };
        assert_eq!(message(r#"{"advice":{"timeout":0}}"#).connect_advice(), Ok(Some(advice)), "V-2");
        assert_eq!(message(r#"{"advice":"none"}"#).connect_advice(), Err(AdviceError), "M-6");
    }

    #[test]
    fn a_detached_message_keeps_nothing_of_the_input() {
        let text = br#"{"id":"1","channel":"/a","clientId":"c","subscription":"/a","data":1,"ext":{},"advice":{},"connectionType":"x","k":0}"#;
        let input = bytes::Bytes::from(text.to_vec());
        let message = crate::decode(input.clone(), &crate::Limits::default()).expect("an envelope").messages.remove(0);
        assert!(!input.is_unique());
        let detached = message.detach();
        assert_eq!(detached, message);
        drop(message);
        assert!(input.is_unique());
    }
}
