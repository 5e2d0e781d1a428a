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
    let mut fields_left = limits.fields_max;
    match scanner.token() {
        b'{' => {
            messages.reserve_exact(1);
            read(&mut messages, &source, &mut scanner, 0, &mut fields_left).map_err(|error| error.within(limits))?;
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
                if messages.len() < 2 {
                    messages.reserve_exact(expected_more(&scanner, messages.len()));
                }
                read(&mut messages, &source, &mut scanner, 1, &mut fields_left)
                    .map_err(|error| error.within(limits))?;
                has_item = scanner.next_item(b']')?;
            }
        }
        _ => return Err(not_messages(&source, limits, scanner.position())),
    }
    scanner.end()?;
    Ok(Batch { messages, bytes: source.len() })
}

/// How many messages to make room for: one, since most envelopes hold one and a message is large; then as many as fit
/// into the rest if they are all like the first, so that an even batch is not moved about.
fn expected_more(scanner: &Scanner<'_>, messages: usize) -> usize {
    // Beyond it growth is left to the vector: a short first message must not claim memory for thousands.
    const MORE_MAX: usize = 64;
    match messages {
        0 => 1,
        _ => scanner.rest().div_ceil(scanner.position()).clamp(1, MORE_MAX),
    }
}

/// The error for a value at `offset` that should have been an object: that of the text, if it is not even JSON.
#[cold]
fn not_messages(source: &str, limits: &Limits, offset: usize) -> DecodeError {
    match Scanner::new(source, limits.depth_max).document() {
        Ok(_) => DecodeError::NotMessages { offset },
        Err(error) => error.into(),
    }
}

/// Reads the object that begins here. It is moved only once, into `messages`: it is large.
#[inline]
fn read(
    messages: &mut Vec<Message>,
    source: &ByteString,
    scanner: &mut Scanner<'_>,
    outer: usize,
    fields_left: &mut usize,
) -> Result<(), ReadError> {
    let mut message = Message::default();
    let mut malformed = Malformed::default();
    scanner.open(outer)?;
    let mut has_item = scanner.first_item(b'}');
    while has_item {
        let key = scanner.key()?;
        let value = scanner.value(outer + 1)?;
        let fields = message.fields.len();
        set(&mut message, &mut malformed, source, key, value);
        *fields_left = fields_left.checked_sub(message.fields.len() - fields).ok_or(ReadError::TooManyFields)?;
        has_item = scanner.next_item(b'}')?;
    }
    message.malformed = malformed.first();
    messages.push(message);
    Ok(())
}

/// Why an object could not be read.
enum ReadError {
    Scan(ScanError),
    TooManyFields,
}

impl ReadError {
    fn within(self, limits: &Limits) -> DecodeError {
        match self {
            Self::Scan(error) => error.into(),
            Self::TooManyFields => DecodeError::TooManyFields { limit: limits.fields_max },
        }
    }
}

impl From<ScanError> for ReadError {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
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
pub(crate) fn well_known_channel(text: &str) -> Option<&'static str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_text(text: impl Into<Vec<u8>>) -> Result<Batch, DecodeError> {
        decode(Bytes::from(text.into()), &Limits::default())
    }

    #[test]
    fn fields_are_slices_of_the_input() {
        let input = Bytes::from(br#"[{"channel":"/a","clientId":"c","data":{"k":"v"},"x":1}]"#.to_vec());
        let range = input.as_ptr_range();
        let message = decode(input, &Limits::default()).expect("an envelope").messages.remove(0);
        let channel = message.channel.expect("a channel");
        let data = message.data.expect("data");
        for text in [&*channel, data.as_str(), &*message.client_id.expect("an id"), &*message.fields[0].0] {
            assert!(range.contains(&text.as_ptr()), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_wherever_they_are() {
        for bytes in [&b"\xff"[..], b"\xc3\xa9\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"] {
            let text = [b"[{\"ignored\":\"", bytes, b"\"}]"].concat();
            let error = decode_text(text).expect_err("M-9");
            let good = if bytes.starts_with(b"\xc3\xa9") { 2 } else { 0 };
            assert_eq!(error, DecodeError::NotUtf8 { offset: 13 + good }, "M-9");
            assert_eq!((error.http_status(), error.close_code()), (400, 1007), "TW-20");
        }
    }

    #[test]
    fn ten_million_brackets_cost_no_more_than_the_limit() {
        let limits = Limits { bytes_max: usize::MAX, ..Limits::default() };
        for opening in ["[", "{\"a\":", "[{\"data\":["] {
            let text = opening.repeat(10_000_000 / opening.len());
            let error = decode(Bytes::from(text), &limits).expect_err("Z-10");
            assert!(matches!(error, DecodeError::TooDeep { limit: 128 } | DecodeError::NotMessages { .. }), "Z-10");
        }
    }

    #[test]
    fn a_million_elements_cost_no_more_than_the_limit() {
        let text = format!("[{}{{}}]", "{},".repeat(999_999));
        assert_eq!(decode_text(text), Err(DecodeError::TooMany { limit: 20_000 }), "Z-9");
    }

    #[test]
    fn fields_of_all_messages_together_are_bounded() {
        let fields = |count| format!("[{{{}}},{{\"x\":1}}]", vec!["\"\":0"; count].join(","));
        assert!(decode_text(fields(99_999)).is_ok());
        assert_eq!(decode_text(fields(100_000)), Err(DecodeError::TooManyFields { limit: 100_000 }));
    }

    #[test]
    fn ten_thousand_messages_are_within_the_defaults() {
        let text = format!("[{}{{}}]", "{},".repeat(9_999));
        assert_eq!(decode_text(text).expect("Z-20").messages.len(), 10_000, "Z-20");
        let deep = format!("[{{\"data\":{}{}}}]", "[".repeat(62), "]".repeat(62));
        assert!(decode_text(deep).is_ok(), "Z-20");
    }

    #[test]
    fn repeated_and_unknown_keys_cost_linear_time() {
        // Were it quadratic, 100,000 keys would take minutes.
        let known = r#""channel":"/a","#.repeat(100_000);
        let unknown: String = (0..49_999).map(|number| format!("\"k{number}\":0,\"same\":1,")).collect();
        let message = decode_text(format!("[{{{known}{unknown}\"same\":2}}]")).expect("an envelope").messages.remove(0);
        assert_eq!(message.channel.as_deref(), Some("/a"));
        assert_eq!(message.fields.len(), 99_999);
        assert_eq!(message.field("same").map(RawJson::as_str), Some("2"), "M-9: the last counts");
    }

    #[test]
    fn an_even_batch_is_not_moved_about() {
        let message = r#"{"channel":"/a","data":12345}"#;
        let batch = decode_text(format!("[{}]", [message; 10].join(","))).expect("an envelope");
        assert_eq!(batch.messages.capacity(), 10);
        let batch = decode_text(format!("[{{}},{}]", [message; 1_000].join(","))).expect("an envelope");
        assert_eq!(batch.messages.len(), 1_001);
        assert!(batch.messages.capacity() < 2_100, "a short first message claims little");
    }

    #[test]
    fn a_meta_connect_keeps_nothing_in_a_list() {
        let text = r#"[{"id":"1","channel":"/meta/connect","clientId":"c","connectionType":"long-polling"}]"#;
        let batch = decode_text(text).expect("an envelope");
        assert_eq!(batch.messages.capacity(), 1);
        assert_eq!(batch.messages[0].fields.capacity(), 0);
        assert_eq!(batch.messages[0].connection_type().as_deref(), Some("long-polling"), "K-2");
    }
}
