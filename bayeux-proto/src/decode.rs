//! Bytes to messages.

use bytes::Bytes;
use bytestring::ByteString;

use crate::json::{DecodeError, Limits, RawJson};
use crate::message::{Batch, Field, Message, MessageId};
use crate::scan::{Kind, ScanError, Scanner, Value};
use crate::{meta, text};

/// Decodes one envelope: a JSON array of message objects, or one bare object (rules M-1, M-3, M-9).
///
/// `input` is shared, not copied: the fields of the messages are slices of it. An empty array is an empty [`Batch`];
/// what that means is the transport's to say (rules TH-42, DI-F7).
///
/// # Errors
/// [`DecodeError`] where `input` is not an envelope. Wrong types of single fields are no error here: see
/// [`Message::malformed`].
pub fn decode(input: Bytes, limits: &Limits) -> Result<Batch, DecodeError> {
    if input.len() > limits.bytes_max {
        return Err(DecodeError::TooLarge { limit: limits.bytes_max });
    }
    let source = ByteString::try_from(input).map_err(|error| DecodeError::NotUtf8 { offset: error.valid_up_to() })?;
    let mut scanner = Scanner::new(&source, limits.depth_max);
    let mut messages = Vec::new();
    match scanner.token() {
        b'{' => {
            messages.reserve_exact(1);
            messages.push(message(&source, &mut scanner, 0)?);
        }
        b'[' => {
            scanner.open(0)?;
            let mut has_item = scanner.first_item(b']');
            while has_item {
                if scanner.token() != b'{' {
                    return Err(not_messages(&source, limits, scanner.position()));
                }
                if messages.len() >= limits.messages_max {
                    return Err(DecodeError::TooMany { limit: limits.messages_max });
                }
                if messages.is_empty() {
                    // Most envelopes hold one message, and a message is large.
                    messages.reserve_exact(1);
                }
                messages.push(message(&source, &mut scanner, 1)?);
                has_item = scanner.next_item(b']')?;
            }
        }
        _ => return Err(not_messages(&source, limits, scanner.position())),
    }
    scanner.end()?;
    Ok(Batch { messages })
}

/// The error for a value at `offset` that should have been an object: that of the text, if it is not even JSON.
#[cold]
fn not_messages(source: &str, limits: &Limits, offset: usize) -> DecodeError {
    match Scanner::new(source, limits.depth_max).document() {
        Ok(_) => DecodeError::NotMessages { offset },
        Err(error) => error.into(),
    }
}

/// Reads the object that begins here.
fn message(source: &ByteString, scanner: &mut Scanner<'_>, outer: usize) -> Result<Message, ScanError> {
    let mut message = Message::default();
    let mut malformed = Malformed::default();
    scanner.open(outer)?;
    let mut has_item = scanner.first_item(b'}');
    while has_item {
        let key = scanner.key()?;
        let value = scanner.value(outer + 1)?;
        set(&mut message, &mut malformed, source, key, value);
        has_item = scanner.next_item(b'}')?;
    }
    message.malformed = malformed.first();
    Ok(message)
}

/// Which fields have a wrong type, as of the last value seen for each.
#[derive(Debug, Default)]
struct Malformed {
    channel: bool,
    client_id: bool,
    ext: bool,
}

impl Malformed {
    fn first(&self) -> Option<Field> {
        match self {
            Self { channel: true, .. } => Some(Field::Channel),
            Self { client_id: true, .. } => Some(Field::ClientId),
            Self { ext: true, .. } => Some(Field::Ext),
            Self { .. } => None,
        }
    }
}

/// Puts one field where it belongs. The key is compared without its escapes: whoever looks at the typed fields only
/// must see the same message as the receivers of the forwarded bytes.
#[inline]
fn set(message: &mut Message, malformed: &mut Malformed, source: &ByteString, key: Value<'_>, value: Value<'_>) {
    let raw = |value: Value<'_>| RawJson::trusted(source.slice_ref(value.raw));
    let present = |value: Value<'_>| (value.kind() != Kind::Null).then(|| raw(value));
    match &*text::plain(key) {
        "channel" => (message.channel, malformed.channel) = string(source, value),
        "clientId" => (message.client_id, malformed.client_id) = string(source, value),
        "id" => {
            message.id = match value.kind() {
                Kind::String => Some(MessageId::Text(text::string_value(source, value))),
                Kind::Number => Some(MessageId::Text(source.slice_ref(value.raw))),
                Kind::Null => None,
                Kind::Bool | Kind::Array | Kind::Object => Some(MessageId::Other(raw(value))),
            }
        }
        "data" => message.data = Some(raw(value)),
        "ext" => {
            (message.ext, malformed.ext) = match value.kind() {
                Kind::Object => (Some(raw(value)), false),
                Kind::Null => (None, false),
                Kind::Bool | Kind::Number | Kind::String | Kind::Array => (None, true),
            }
        }
        "subscription" => message.subscription = present(value),
        "advice" => message.advice = present(value),
        "connectionType" => {
            message.connection_type = match well_known_type(value.raw) {
                Some(known) => Some(RawJson::trusted(ByteString::from_static(known))),
                None => present(value),
            }
        }
        _ => message.fields.push((source.slice_ref(key.raw), raw(value))),
    }
}

/// A field that has to be a string, and whether it is malformed.
#[inline]
fn string(source: &ByteString, value: Value<'_>) -> (Option<ByteString>, bool) {
    match value.kind() {
        Kind::String => {
            let text = match well_known_channel(value.inner()) {
                Some(known) => ByteString::from_static(known),
                None => text::string_value(source, value),
            };
            (Some(text), false)
        }
        Kind::Null => (None, false),
        Kind::Bool | Kind::Number | Kind::Array | Kind::Object => (None, true),
    }
}

/// The channels of most requests. Static text costs no reference count and keeps no buffer alive.
#[inline]
fn well_known_channel(text: &str) -> Option<&'static str> {
    match text {
        meta::CONNECT => Some(meta::CONNECT),
        meta::HANDSHAKE => Some(meta::HANDSHAKE),
        meta::SUBSCRIBE => Some(meta::SUBSCRIBE),
        meta::UNSUBSCRIBE => Some(meta::UNSUBSCRIBE),
        meta::DISCONNECT => Some(meta::DISCONNECT),
        _ => None,
    }
}

/// As [`well_known_channel`], for the values of `connectionType`.
#[inline]
fn well_known_type(raw: &str) -> Option<&'static str> {
    match raw {
        r#""long-polling""# => Some(r#""long-polling""#),
        r#""websocket""# => Some(r#""websocket""#),
        r#""callback-polling""# => Some(r#""callback-polling""#),
        _ => None,
    }
}
