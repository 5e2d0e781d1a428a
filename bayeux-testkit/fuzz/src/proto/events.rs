//! What leaves: events frozen and thawed, replies, envelopes and frames.

use bayeux_proto::{
    AckReply, Advice, ByteString, ErrorField, Event, Frozen, Handshake, Limits, Message, Outgoing, RawJson, Reply,
    TimesyncReply, decode, encode, encode_into, escape_line_separators, frames,
};
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::choices::Choices;

/// Some choices, a line feed, and an envelope, of which events and replies are made.
///
/// What is written is JSON, whatever was received; an event that is thawed freezes to the same bytes and has nothing in it
/// that misleads; frames cut what is sent into pieces and lose none of it.
pub fn frozen_events(data: &[u8]) {
    let split = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let (choices, envelope) = data.split_at(split);
    let mut choices = Choices::new(choices);
    let envelope = Bytes::copy_from_slice(envelope.get(1..).unwrap_or_default());
    let Ok(batch) = decode(envelope, &Limits::default()) else { return };
    let mut messages = Vec::new();
    for message in batch.messages {
        messages.push(Outgoing::Reply(Box::new(reply(&message, &mut choices))));
        let event = freeze(message, &mut choices);
        for _ in 0..choices.below(3) {
            messages.push(Outgoing::Event(event.clone()));
        }
    }
    is_cut_into_frames(&messages, choices.below(4));
}

fn freeze(message: Message, choices: &mut Choices<'_>) -> Frozen {
    let channel = message.channel.clone().unwrap_or_else(|| ByteString::from_static("/a"));
    let is_binary = message.is_binary();
    let frozen = Event::from_publish(channel.clone(), message).freeze();
    let text = std::str::from_utf8(frozen.as_array()).expect("what we write is UTF-8");
    assert!(serde_json::from_str::<Vec<IgnoredAny>>(text).is_ok_and(|one| one.len() == 1), "Q-24: {text}");
    assert_eq!(frozen.channel(), &channel);
    assert_eq!(frozen.as_object().len(), frozen.size());
    if let Ok(Value::Array(values)) = serde_json::from_str::<Value>(text) {
        for key in ["clientId", "id", "advice", "successful", "error", "subscription", "connectionType"] {
            assert!(values[0].get(key).is_none(), "Z-3, M-14: {key} in {text}");
        }
        assert!(values[0].get("data").is_some(), "P-3");
    }
    let thawed = frozen.thaw();
    assert_eq!(thawed.freeze().as_array(), frozen.as_array(), "thawed and frozen again");
    if choices.rarely(64) {
        changes(&thawed, is_binary);
    }
    frozen
}

/// What filters do with data, and extensions with `ext`.
fn changes(event: &Event, is_binary: bool) {
    let data = event.data.as_ref().expect("P-3");
    assert_eq!(&data.map_scalars(&mut |_| None), data, "nothing changed, nothing rewritten");
    let nulls = data.map_scalars(&mut |_| Some(RawJson::null()));
    assert!(serde_json::from_str::<IgnoredAny>(nulls.as_str()).is_ok(), "{nulls:?}");
    let over = event.ext.as_ref().map_or_else(RawJson::null, |ext| data.overlaid_with(ext));
    assert!(serde_json::from_str::<IgnoredAny>(over.as_str()).is_ok(), "{over:?}");
    let script = escape_line_separators(event.freeze().as_array().clone());
    let script = std::str::from_utf8(&script).expect("escaping keeps it UTF-8");
    assert!(!script.contains(['\u{2028}', '\u{2029}']), "TJ-5");
    assert!(serde_json::from_str::<IgnoredAny>(script).is_ok(), "TJ-5: {script}");
    assert!(!is_binary || event.ext.is_some());
}

/// A reply with some of what a reply can have.
fn reply(message: &Message, choices: &mut Choices<'_>) -> Reply {
    let mut reply = Reply::to(message);
    let has = choices.byte();
    if has & 1 == 0 {
        reply.succeed();
    } else {
        let text = message.channel.clone().unwrap_or_default();
        reply.fail(ErrorField::custom(u16::from(choices.byte()), text, "custom"));
    }
    if has & 2 != 0 {
        reply.ack = Some(if has & 4 != 0 { AckReply::Batch(7) } else { AckReply::Enabled });
    }
    if has & 8 != 0 {
        reply.timesync = Some(TimesyncReply { tc: i64::MIN, ts: u64::MAX, p: 0, a: Some(-1) });
    }
    if has & 16 != 0 {
        let connection_types = [ByteString::from_static("websocket")].into();
        let client_id = message.client_id.clone().unwrap_or_default();
        reply.handshake = Some(Box::new(Handshake { client_id, connection_types, messages: usize::from(has) }));
    }
    reply.ext.clone_from(&message.ext);
    reply.advice = message.advice.as_ref().and_then(Advice::parse).unwrap_or_default();
    reply.ends_envelope = has & 32 != 0;
    reply
}

/// Rule TW-8: the messages of all frames together are the messages, in order.
fn is_cut_into_frames(messages: &[Outgoing], per_frame: usize) {
    let whole = encode(messages);
    let mut appended = Vec::new();
    encode_into(messages, &mut appended);
    assert_eq!(whole, appended);
    let raw = |array: &[u8]| -> Vec<Box<serde_json::value::RawValue>> {
        serde_json::from_slice(array).expect("what we write is an array of JSON values")
    };
    let all: Vec<String> = raw(&whole).iter().map(|message| message.get().to_owned()).collect();
    assert_eq!(all.len(), messages.len());
    let mut framed = Vec::new();
    for frame in frames(messages, per_frame) {
        let messages = raw(&frame);
        assert!(!messages.is_empty(), "TW-8: an empty frame");
        framed.extend(messages.iter().map(|message| message.get().to_owned()));
    }
    assert_eq!(framed, all, "TW-8");
}
