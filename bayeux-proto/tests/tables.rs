//! The tables under `data/`: what is an envelope and what is not, what comes back out, and what names a channel.

use bayeux_proto::{
    ByteString, ChannelError, ChannelLimits, ChannelPattern, DecodeError, ErrorField, Event, Limits, Message,
    MessageId, Outgoing, RawJson, Reply, Subscription, decode, encode, encode_requests,
};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Accept {
    rule: String,
    text: String,
    #[serde(flatten)]
    limits: LimitFields,
    messages: Vec<Expected>,
}

#[derive(Deserialize)]
struct Reject {
    rule: String,
    text: String,
    #[serde(flatten)]
    limits: LimitFields,
    error: String,
    at: usize,
}

#[derive(Deserialize)]
struct LimitFields {
    bytes_max: Option<usize>,
    depth_max: Option<usize>,
    messages_max: Option<usize>,
}

/// A message with what is raw as its text.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expected {
    channel: Option<String>,
    id: Option<String>,
    other_id: Option<String>,
    client_id: Option<String>,
    subscription: Option<String>,
    data: Option<String>,
    ext: Option<String>,
    advice: Option<String>,
    connection_type: Option<String>,
    fields: Vec<(String, String)>,
    malformed: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoundTrip {
    rule: String,
    request: String,
    /// Decoded and encoded again.
    encoded: Option<String>,
    /// The replies, each with the error F-12.
    failure: Option<String>,
    /// The events of a publish.
    event: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribed {
    rule: String,
    text: String,
    channels: Option<Vec<String>>,
    invalid: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Channels {
    valid: Vec<Valid>,
    invalid: Vec<Invalid>,
    matches: Vec<Matches>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Valid {
    rule: String,
    text: String,
    name: Option<String>,
    kind: String,
    wildcard: Option<String>,
    ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invalid {
    rule: String,
    text: String,
    length_max: Option<usize>,
    segments_max: Option<usize>,
    error: String,
    at: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matches {
    rule: String,
    pattern: String,
    yes: Vec<String>,
    no: Vec<String>,
}

#[test]
fn envelopes_become_the_messages_of_the_table() {
    for case in table::<Vec<Accept>>(include_str!("data/accept.json")) {
        let batch = decode(Bytes::from(case.text.clone()), &case.limits.limits());
        let messages: Vec<_> = batch.expect(&case.rule).messages.iter().map(expected).collect();
        assert_eq!(messages, case.messages, "{}", case.rule);
    }
}

#[test]
fn what_is_no_envelope_is_refused_with_the_error_of_the_table() {
    for case in table::<Vec<Reject>>(include_str!("data/reject.json")) {
        let error = decode(Bytes::from(case.text.clone()), &case.limits.limits()).expect_err(&case.rule);
        let (expected, http_status, close_code) = match &*case.error {
            "Syntax" => (DecodeError::Syntax { offset: case.at }, 400, 1007),
            "NotMessages" => (DecodeError::NotMessages { offset: case.at }, 400, 1008),
            "TooDeep" => (DecodeError::TooDeep { limit: case.at }, 400, 1008),
            "TooMany" => (DecodeError::TooMany { limit: case.at }, 400, 1008),
            "TooLarge" => (DecodeError::TooLarge { limit: case.at }, 413, 1009),
            other => panic!("no error {other}"),
        };
        assert_eq!(error, expected, "{}", case.rule);
        assert_eq!((error.http_status(), error.close_code()), (http_status, close_code), "{}", case.rule);
    }
}

#[test]
fn requests_come_back_out_as_the_table_says() {
    for case in table::<Vec<RoundTrip>>(include_str!("data/round_trip.json")) {
        let messages = decode(Bytes::from(case.request), &Limits::default()).expect(&case.rule).messages;
        if let Some(encoded) = case.encoded {
            assert_eq!(encode_requests(&messages), encoded, "{}", case.rule);
            let again = decode(Bytes::from(encoded), &Limits::default()).expect(&case.rule).messages;
            assert_eq!(again, messages, "{}", case.rule);
            assert_eq!(messages.iter().map(Message::detach).collect::<Vec<_>>(), messages, "{}", case.rule);
        }
        if let Some(failure) = case.failure {
            let fail = |message: &Message| {
                let mut reply = Reply::to(message);
                reply.fail(ErrorField::SESSION_UNKNOWN);
                Outgoing::Reply(Box::new(reply))
            };
            assert_eq!(encode(&messages.iter().map(fail).collect::<Vec<_>>()), failure, "{}", case.rule);
        }
        if let Some(event) = case.event {
            let freeze = |message: Message| {
                let channel = message.channel.clone().expect(&case.rule);
                let frozen = Event::from_publish(channel.clone(), message).freeze();
                assert_eq!(frozen.channel(), &channel, "{}", case.rule);
                Outgoing::Event(frozen)
            };
            assert_eq!(encode(&messages.into_iter().map(freeze).collect::<Vec<_>>()), event, "{}", case.rule);
        }
    }
}

#[test]
fn subscriptions_are_read_as_the_table_says() {
    for case in table::<Vec<Subscribed>>(include_str!("data/subscriptions.json")) {
        let messages = decode(Bytes::from(case.text), &Limits::default()).expect(&case.rule).messages;
        let expected = match (case.channels, case.invalid.as_deref()) {
            (Some(channels), None) => Subscription::Channels(channels.into_iter().map(ByteString::from).collect()),
            (None, Some("Missing")) => Subscription::Missing,
            (None, Some("Invalid")) => Subscription::Invalid,
            (_, other) => panic!("{}: {other:?}", case.rule),
        };
        assert_eq!(messages[0].subscriptions(), expected, "{}", case.rule);
    }
}

#[test]
fn channel_names_are_what_the_table_says() {
    let limits = ChannelLimits::default();
    let channels = table::<Channels>(include_str!("data/channels.json"));
    for case in channels.valid {
        let channel = ChannelPattern::parse(&case.text.clone().into(), &limits).expect(&case.rule);
        assert_eq!(channel.as_str(), case.name.unwrap_or(case.text), "{}", case.rule);
        assert_eq!(format!("{:?}", channel.kind()), case.kind, "{}", case.rule);
        assert_eq!(channel.wildcard().map(|wildcard| format!("{wildcard:?}")), case.wildcard, "{}", case.rule);
        assert_eq!(ids(&channel), case.ids, "{}", case.rule);
    }
    for case in channels.invalid {
        let mut limits = limits;
        limits.length_max = case.length_max.unwrap_or(limits.length_max);
        limits.segments_max = case.segments_max.unwrap_or(limits.segments_max);
        let at = case.at.unwrap_or_default();
        let expected = match &*case.error {
            "NoPath" => ChannelError::NoPath,
            "Character" => ChannelError::Character { offset: at },
            "EmptySegment" => ChannelError::EmptySegment,
            "MisplacedWildcard" => ChannelError::MisplacedWildcard,
            "TooLong" => ChannelError::TooLong { limit: at },
            "TooManySegments" => ChannelError::TooManySegments { limit: at },
            other => panic!("no error {other}"),
        };
        assert_eq!(ChannelPattern::parse(&case.text.into(), &limits), Err(expected), "{}", case.rule);
    }
    for case in channels.matches {
        let parse = |text: &str| ChannelPattern::parse(&text.into(), &limits).expect(text);
        let pattern = parse(&case.pattern);
        for channel in case.yes {
            assert!(pattern.matches(&parse(&channel)), "{} {} {channel}", case.rule, case.pattern);
        }
        for channel in case.no {
            assert!(!pattern.matches(&parse(&channel)), "{} {} {channel}", case.rule, case.pattern);
        }
    }
}

fn table<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("a table of this test")
}

fn ids(channel: &ChannelPattern) -> Vec<String> {
    let mut walk = channel.ids();
    let mut ids = Vec::new();
    while let Some(id) = walk.next() {
        ids.push(id.to_owned());
    }
    ids
}

fn expected(message: &Message) -> Expected {
    let text = |text: &Option<ByteString>| text.as_ref().map(ToString::to_string);
    let raw = |raw: &Option<RawJson>| raw.as_ref().map(|raw| raw.as_str().to_owned());
    let (id, other_id) = match &message.id {
        Some(MessageId::Text(id)) => (Some(id.to_string()), None),
        Some(MessageId::Other(id)) => (None, Some(id.as_str().to_owned())),
        None => (None, None),
    };
    Expected {
        channel: text(&message.channel),
        id,
        other_id,
        client_id: text(&message.client_id),
        subscription: raw(&message.subscription),
        data: raw(&message.data),
        ext: raw(&message.ext),
        advice: raw(&message.advice),
        connection_type: raw(&message.connection_type),
        fields: message.fields.iter().map(|(key, value)| (key.to_string(), value.as_str().to_owned())).collect(),
        malformed: message.malformed.map(|field| format!("{field:?}")),
    }
}

impl LimitFields {
    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.bytes_max = self.bytes_max.unwrap_or(limits.bytes_max);
        limits.depth_max = self.depth_max.unwrap_or(limits.depth_max);
        limits.messages_max = self.messages_max.unwrap_or(limits.messages_max);
        limits
    }
}
