//! Envelopes: what is taken, what it means, and what becomes of it when it is written again.

use bayeux_proto::{Batch, DecodeError, Limits, Message, MessageId, RawJson, Subscription, decode, encode_requests};
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// Any bytes as an envelope.
///
/// Nothing panics. What is taken and what is refused, and why, agrees with serde_json and with naive counts; fields mean
/// what serde_json reads; what was decoded and encoded is decoded to the same.
pub fn decode_batch(data: &[u8]) {
    let limits = limits();
    match decode(Bytes::copy_from_slice(data), &limits) {
        Ok(batch) => {
            let text = std::str::from_utf8(data).expect("M-9: what was taken is UTF-8");
            assert!(is_json(text), "M-9: taken, but not JSON");
            assert!(data.len() <= limits.bytes_max && depth(text) <= limits.depth_max, "Z-10: taken beyond a limit");
            assert_eq!(batch.bytes, data.len());
            means_the_same(&batch, text);
            survives_encoding(&batch);
            batch.messages.iter().for_each(reads_consistently);
        }
        Err(error) => is_right(data, error, &limits),
    }
}

/// Small enough that fuzzing reaches them.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.bytes_max = 4_000;
    limits.depth_max = 20;
    limits.messages_max = 30;
    limits.fields_max = 60;
    limits
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The deepest nesting of brackets outside of strings.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether `error` is why `data` is no envelope.
fn is_right(data: &[u8], error: DecodeError, limits: &Limits) {
    if let DecodeError::TooLarge { .. } = error {
        assert!(data.len() > limits.bytes_max, "not that large");
        return;
    }
    let text = match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(utf8) => return assert_eq!(error, DecodeError::NotUtf8 { offset: utf8.valid_up_to() }, "M-9"),
    };
    match error {
        DecodeError::TooLarge { .. } | DecodeError::NotUtf8 { .. } => panic!("{error}, but it is not"),
        DecodeError::Syntax { offset } => {
            assert!(!is_json(text), "M-9: JSON, but refused at {offset}");
            // Up to there it could have gone on: the shorter text is wrong at its end, or nowhere.
            let before = text.get(..offset).expect("an offset between two characters");
            if let Err(DecodeError::Syntax { offset: again }) =
                decode(Bytes::copy_from_slice(before.as_bytes()), limits)
            {
                assert_eq!(again, offset);
            }
        }
        DecodeError::TooDeep { limit } => assert!(depth(text) > limit, "Z-10: not that deep"),
        DecodeError::NotMessages { offset } => {
            assert!(is_json(text), "not even JSON, but said to be no messages");
            assert!(text.is_char_boundary(offset) && !text[offset..].starts_with('{'));
            let is_messages = match text.trim_ascii_start().as_bytes().first() {
                Some(b'[') => serde_json::from_str::<Vec<Map<String, Value>>>(text).is_ok(),
                first => first == Some(&b'{'),
            };
            assert!(!is_messages, "these are messages");
        }
        // What follows was not looked at: it need not be JSON.
        DecodeError::TooMany { limit } => assert!(data.iter().filter(|&&byte| byte == b'{').count() > limit),
        DecodeError::TooManyFields { limit } => assert!(data.iter().filter(|&&byte| byte == b':').count() > limit),
        other => panic!("{other:?} is new here"),
    }
}

/// Every field against the tree that serde_json built; it too lets the last of repeated keys count.
fn means_the_same(batch: &Batch, text: &str) {
    let array = if text.trim_ascii_start().starts_with('{') { format!("[{text}]") } else { text.to_owned() };
    // No tree has a lone surrogate or a number that no double holds, nor is as deep as we let it be.
    let Ok(values) = serde_json::from_str::<Vec<Map<String, Value>>>(&array) else { return };
    assert_eq!(batch.messages.len(), values.len(), "M-1");
    for (message, value) in batch.messages.iter().zip(&values) {
        compare(message, value);
    }
}

fn compare(message: &Message, value: &Map<String, Value>) {
    let string = |name: &str| value.get(name).and_then(Value::as_str);
    let present = |name: &str| value.get(name).filter(|value| !value.is_null()).cloned();
    let parsed = |raw: &Option<RawJson>| raw.as_ref().map(|raw| raw.to::<Value>().expect("a value of a valid text"));
    assert_eq!(message.channel.as_deref(), string("channel"));
    assert_eq!(message.client_id.as_deref(), string("clientId"));
    assert_eq!(parsed(&message.data), value.get("data").cloned(), "M-16");
    assert_eq!(parsed(&message.ext), present("ext").filter(Value::is_object));
    assert_eq!(parsed(&message.advice), present("advice"));
    assert_eq!(parsed(&message.subscription), present("subscription"));
    assert_eq!(parsed(&message.connection_type), present("connectionType"));
    match (&message.id, present("id")) {
        (Some(MessageId::Text(id)), Some(Value::String(text))) => assert_eq!(&**id, text),
        (Some(MessageId::Text(id)), Some(number @ Value::Number(_))) => {
            assert_eq!(serde_json::from_str::<Value>(id).ok(), Some(number), "M-11");
        }
        (Some(MessageId::Other(raw)), Some(other)) => assert_eq!(raw.to::<Value>().ok(), Some(other)),
        (ours, theirs) => assert!(ours.is_none() && theirs.is_none(), "{ours:?} {theirs:?}"),
    }
    let malformed = |name: &str, is_right: fn(&Value) -> bool| present(name).is_some_and(|value| !is_right(&value));
    let any_malformed = malformed("channel", Value::is_string)
        || malformed("clientId", Value::is_string)
        || malformed("ext", Value::is_object);
    assert_eq!(message.malformed.is_some(), any_malformed, "M-6");
    for (key, _) in &message.fields {
        let name: String = serde_json::from_str(key).expect("a key of a valid text");
        let last = message.field(&name).map(|last| last.to::<Value>().expect("a value of a valid text"));
        assert_eq!(last.as_ref(), value.get(&name), "M-9: the last one counts");
    }
}

fn survives_encoding(batch: &Batch) {
    let mut expected = batch.messages.clone();
    for message in &mut expected {
        // What had a wrong type is not there any more.
        message.malformed = None;
    }
    let mut limits = limits();
    limits.bytes_max = usize::MAX; // Escapes make it longer,
    limits.depth_max += 1; // and a bare object gets an array around it.
    let again = decode(encode_requests(&batch.messages), &limits).expect("what we write is an envelope");
    assert_eq!(again.messages, expected);
}

/// What is read of raw fields on demand.
fn reads_consistently(message: &Message) {
    assert_eq!(&message.detach(), message);
    if let Subscription::Channels(names) = message.subscriptions() {
        assert_eq!(names.len(), message.subscription_count(), "Z-9");
    }
    let _ = (message.connect_advice(), message.extensions(), message.binary());
    let _ = (message.supported_connection_types(), message.version(), message.x_messages(), message.timestamp());
    assert_eq!(message.error().is_some(), message.field("error").is_some_and(|raw| raw.as_str().starts_with('"')));
    assert_eq!(message.successful(), message.field("successful").and_then(|raw| raw.to().ok()));
}
