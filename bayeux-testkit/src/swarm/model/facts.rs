//! What can be said of a message by itself (sections M, C and F).

use bayeux_core::{Point, Question};
use bayeux_proto::{Field, Message, MessageId, Subscription, meta};

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Handshake,
    Connect,
    Disconnect,
    Subscribe,
    Unsubscribe,
    Publish,
    /// Nothing that there is.
    Other,
}

pub(super) fn kind(message: &Message) -> Kind {
    match message.channel.as_deref() {
        Some(meta::HANDSHAKE) => Kind::Handshake,
        Some(meta::CONNECT) => Kind::Connect,
        Some(meta::DISCONNECT) => Kind::Disconnect,
        Some(meta::SUBSCRIBE) => Kind::Subscribe,
        Some(meta::UNSUBSCRIBE) => Kind::Unsubscribe,
        Some(channel) if channel.starts_with("/meta/") => Kind::Other,
        Some(_) => Kind::Publish,
        None => Kind::Other,
    }
}

/// What names a message in what hooks are asked: its id, or, where that was taken off, the number of its event.
pub(super) fn key_of(question: &Question) -> Option<String> {
    match &question.point {
        Point::Handshaken | Point::Subscribed(_) | Point::Unsubscribed(_) => None,
        Point::Incoming | Point::Handshake | _ => key(&question.message),
    }
}

/// The same from the message itself. One that has both an event's number and an id is named by the number.
pub(super) fn key(message: &Message) -> Option<String> {
    number(message).map(|number| format!("event {number}")).or_else(|| id(message))
}

pub(super) fn id(message: &Message) -> Option<String> {
    message.id.as_ref().map(text_of)
}

/// A message's id as text, whatever its type.
pub(super) fn text_of(id: &MessageId) -> String {
    match id {
        MessageId::Text(text) => text.to_string(),
        other => format!("{other:?}"),
    }
}

/// The number of the event that a publish makes, where it has one.
pub(super) fn number(message: &Message) -> Option<u64> {
    message.data.as_ref().and_then(|data| number_in(data.as_str()))
}

/// The number in `[17]` or `[17,"..."]`.
pub(in crate::swarm) fn number_in(data: &str) -> Option<u64> {
    let inner = data.strip_prefix('[')?;
    let end = inner.find([',', ']'])?;
    inner[..end].trim().parse().ok()
}

/// The error that a message has coming whatever the server knows, before anybody looks for its session (rules G-2, Z-1).
pub(super) fn invalid(message: &Message) -> Option<&'static str> {
    if message.malformed.is_some_and(|field| matches!(field, Field::Channel | Field::ClientId | Field::Ext)) {
        return Some("400::message_invalid");
    }
    let Some(channel) = message.channel.as_deref() else { return Some("400::channel_missing") };
    if !is_channel(channel) || channel.contains('*') && !channel.starts_with("/meta/") {
        return Some("405::channel_invalid");
    }
    let valid = id(message).is_none_or(|id| !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric()));
    if valid { None } else { Some("405::message_id_invalid") }
}

fn is_channel(name: &str) -> bool {
    name.len() > 1
        && name.starts_with('/')
        && name[1..].split('/').all(|segment| !segment.trim().is_empty())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || " !#$()*+-./@_{~}".contains(c))
}

/// What a subscribe or unsubscribe message of a live session has coming: the error, or its channels.
pub(super) fn subscription(message: &Message) -> Result<Vec<String>, &'static str> {
    match message.subscriptions() {
        Subscription::Missing => Err("403::subscription_missing"),
        Subscription::Invalid => Err("403::subscription_invalid"),
        Subscription::Channels(names) if names.is_empty() || !names.iter().all(|name| is_channel(name)) => {
            Err("403::subscription_invalid")
        }
        Subscription::Channels(names) => Ok(names.iter().map(ToString::to_string).collect()),
    }
}

/// Whether `pattern` matches `channel`, which is exact (rule C-7).
pub(super) fn matches(pattern: &str, channel: &str) -> bool {
    let mut wanted = pattern.split('/');
    let mut given = channel.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) => return true,
            (Some("*"), Some(_)) => return wanted.next().is_none() && given.next().is_none(),
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_rules_say() {
        for (pattern, channel, expected) in [
            ("/a", "/a", true),
            ("/a", "/a/b", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a", false),
            ("/a/*", "/a/b/c", false),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a", false),
            ("/**", "/a", true),
            ("/*", "/a/b", false),
        ] {
            assert_eq!(matches(pattern, channel), expected, "{pattern} {channel}");
        }
    }

    #[test]
    fn numbers_are_found_in_data() {
        assert_eq!(
            [number_in("[7]"), number_in("[8,\"x\"]"), number_in("[]"), number_in("1")],
            [Some(7), Some(8), None, None]
        );
    }
}
