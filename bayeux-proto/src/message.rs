//! Messages as they are received.

use bytes::Bytes;
use bytestring::ByteString;

use crate::advice::{AdviceError, ConnectAdvice};
use crate::json::{DecodeError, Limits, RawJson};

/// The messages of one envelope, in order (rule M-1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The messages; empty for `[]`.
    pub messages: Vec<Message>,
}

/// Decodes one envelope: a JSON array of message objects, or one bare object (rules M-1, M-3, M-9).
///
/// `input` is shared, not copied: the fields of the messages are slices of it. An empty array is an empty [`Batch`];
/// what that means is the transport's to say (rules TH-42, DI-F7).
///
/// # Errors
/// [`DecodeError`] where `input` is not an envelope. Wrong types of single fields are no error here: see
/// [`Message::malformed`].
pub fn decode(input: Bytes, limits: &Limits) -> Result<Batch, DecodeError> {
    let _ = (input, limits);
    todo!()
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
    /// Every other field in order of appearance, as (key as written, with its quotes and escapes; value).
    pub fields: Vec<(ByteString, RawJson)>,
    /// The first known field that has a type it cannot have (rules M-6, Z-1). The field itself is then `None`.
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
    /// The value of a field that is not one of the known ones, by its unescaped name.
    pub fn field(&self, name: &str) -> Option<&RawJson> {
        let _ = name;
        todo!()
    }

    /// Reads `subscription`.
    pub fn subscriptions(&self) -> Subscription {
        todo!()
    }

    /// Reads the `advice` of a meta connect: absent and `null` are `None` (rules V-2, K-9).
    ///
    /// # Errors
    /// [`AdviceError`] where it is not an object, or its `timeout` or `interval` is not a number (rule M-6).
    pub fn connect_advice(&self) -> Result<Option<ConnectAdvice>, AdviceError> {
        todo!()
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

    /// A copy that does not keep the buffer it was cut from alive.
    pub fn detach(&self) -> Self {
        match self {
            Self::Text(text) => Self::Text(ByteString::from(String::from(&**text))),
            Self::Other(raw) => Self::Other(raw.detach()),
        }
    }
}
