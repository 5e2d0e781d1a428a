//! The vocabulary of scripts: durations, options, settings, hooks.

use std::time::Duration;

use bayeux_core::{
    Activity, ActivityPolicy, Answer, ChannelQueue, ChannelSetting, ClientId, Command, Overflow, Points, Ruling,
    SessionSetting, TimestampFormat, Transport, TransportOptions, Verdict,
};
use bayeux_proto::{Advice, ByteString, Event, Lazy, MessageId, RawJson, Reconnect};
use serde_json::Value;

use crate::client::{channel, event, pattern};
use crate::world::Options;

/// What is wrong with a line of a script.
pub type Wrong = String;

/// The duration that a script writes as `30s`, `1.5s`, `200ms` or `0`.
///
/// # Errors
/// Where it is written otherwise.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = || format!("{text} is no duration such as 30s or 200ms");
    let (number, scale) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 0.001),
        (None, Some(number)) => (number, 1.0),
        (None, None) if text == "0" => (text, 1.0),
        (None, None) => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_micros((number * scale * 1_000_000.0).round() as u64))
}

fn flag(text: &str) -> Result<bool, Wrong> {
    text.parse().map_err(|_| format!("{text} is neither true nor false"))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Wrong> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// `option NAME VALUE`, by CometD's names (section 13); `ws.` and `long-polling.` narrow it to one transport.
pub(crate) fn option(options: &mut Options, name: &str, value: &str) -> Result<(), Wrong> {
    let config = &mut options.config;
    match name {
        "allowedTransports" => {
            let transport = |name| Transport::from_name(name).ok_or_else(|| format!("{name} is no transport"));
            config.allowed_transports = value.split(',').map(transport).collect::<Result<_, _>>()?;
        }
        "broadcastToPublisher" => config.broadcast_to_publisher = flag(value)?,
        "sweepPeriod" => config.sweep_period = duration(value)?,
        "validateMessageFields" => {
            config.validate_message_fields = flag(value)?;
            config.channels.validate_characters = flag(value)?;
        }
        "maxSessionsPerBrowser" => config.max_sessions_per_browser = number(value)?,
        "http2MaxSessionsPerBrowser" => config.http2_max_sessions_per_browser = number(value)?,
        "multiSessionInterval" => config.multi_session_interval = duration(value)?,
        "trustClientSession" => config.trust_client_session = flag(value)?,
        "requireHandshakePerConnection" => config.require_handshake_per_connection = flag(value)?,
        "decisionTimeout" => config.decision_timeout = duration(value)?,
        "linger" => config.linger = duration(value)?,
        "maxClientInterval" => config.max_client_interval = duration(value)?,
        "maxChannelLength" => config.channels.length_max = number(value)?,
        "maxChannelSegments" => config.channels.segments_max = number(value)?,
        "maxSubscriptions" => config.max_subscriptions = number(value)?,
        "ackExtension" => config.acknowledge = flag(value)?,
        "timesyncExtension" => config.timesync = flag(value)?,
        "binaryExtension" => config.binary = flag(value)?,
        "timestamp" => {
            config.timestamp = Some(match value {
                "http-date" => TimestampFormat::HttpDate,
                "iso-8601" => TimestampFormat::Iso8601,
                _ => return Err(format!("{value} is no format of timestamps")),
            });
        }
        "maxInactivityPeriod" => {
            let policy = config.activity.map_or(ActivityPolicy::Client, |activity| activity.policy);
            config.activity = Some(Activity { max_inactivity: duration(value)?, policy });
        }
        "activityPolicy" => {
            let max_inactivity = config.activity.map_or(Duration::MAX, |activity| activity.max_inactivity);
            let policy = match value {
                "client" => ActivityPolicy::Client,
                "client-server" => ActivityPolicy::ClientServer,
                _ => return Err(format!("{value} is no policy of activity")),
            };
            config.activity = Some(Activity { max_inactivity, policy });
        }
        "messagesPerFrame" => options.messages_per_frame = number(value)?,
        "duplicateMetaConnectHttpResponseCode" => options.duplicate_connect_status = number(value)?,
        _ => {
            let mut done = Ok(());
            if let Some(name) = name.strip_prefix("ws.") {
                return transport_option(&mut config.websocket, name, value);
            }
            if let Some(name) = name.strip_prefix("long-polling.") {
                return transport_option(&mut config.long_polling, name, value);
            }
            config.each_transport(|transport| done = transport_option(transport, name, value));
            return done;
        }
    }
    Ok(())
}

fn overflow(text: &str) -> Result<Overflow, Wrong> {
    Overflow::from_word(text).ok_or_else(|| format!("{text} is no overflow policy"))
}

fn transport_option(options: &mut TransportOptions, name: &str, value: &str) -> Result<(), Wrong> {
    match name {
        "timeout" => options.timeout = duration(value)?,
        "interval" => options.interval = duration(value)?,
        "maxInterval" => options.max_interval = duration(value)?,
        "maxProcessing" => options.max_processing = Some(duration(value)?),
        "maxLazyTimeout" => options.max_lazy_timeout = duration(value)?,
        "metaConnectDeliverOnly" => options.meta_connect_deliver_only = flag(value)?,
        "maxQueue" => options.max_queue = number(value)?,
        "maxQueueBytes" => options.max_queue_bytes = number(value)?,
        "overflow" => {
            options.overflow = overflow(value)?;
        }
        "handshakeReconnect" => options.handshake_reconnect = flag(value)?,
        "allowMessageDeliveryDuringHandshake" => options.allow_message_delivery_during_handshake = flag(value)?,
        _ => return Err(format!("there is no option {name}")),
    }
    Ok(())
}

/// `SETTING VALUE` of a session.
pub(crate) fn session_setting(name: &str, value: &str) -> Result<SessionSetting, Wrong> {
    let time = || if value == "unset" { Ok(None) } else { duration(value).map(Some) };
    Ok(match name {
        "timeout" => SessionSetting::Timeout(time()?),
        "interval" => SessionSetting::Interval(time()?),
        "maxInterval" => SessionSetting::MaxInterval(time()?),
        "maxLazyTimeout" => SessionSetting::MaxLazyTimeout(time()?),
        "broadcastToPublisher" => SessionSetting::BroadcastToPublisher(flag(value)?),
        "metaConnectDeliverOnly" => SessionSetting::MetaConnectDeliverOnly(flag(value)?),
        "maxQueue" => SessionSetting::MaxQueue(Some(number(value)?)),
        "maxQueueBytes" => SessionSetting::MaxQueueBytes(Some(number(value)?)),
        "overflow" => SessionSetting::Overflow(Some(overflow(value)?)),
        "maxInactivityPeriod" => SessionSetting::MaxInactivity(time()?),
        _ => return Err(format!("a session has no setting {name}")),
    })
}

/// `SETTING VALUE` of a channel.
pub(crate) fn channel_setting(name: &str, value: &str) -> Result<ChannelSetting, Wrong> {
    Ok(match name {
        "persistent" => ChannelSetting::Persistent(flag(value)?),
        "lazy" => ChannelSetting::Lazy(flag(value)?),
        "lazyTimeout" => ChannelSetting::LazyTimeout(duration(value)?),
        "broadcastToPublisher" => ChannelSetting::BroadcastToPublisher(flag(value)?),
        "retained" => ChannelSetting::Retained(flag(value)?),
        "attended" => ChannelSetting::Attended(flag(value)?),
        "queue" => {
            let (messages, policy) = value.split_once(',').ok_or("queue NUMBER,POLICY")?;
            ChannelSetting::Queue(Some(ChannelQueue { messages: number(messages)?, overflow: overflow(policy)? }))
        }
        _ => return Err(format!("a channel has no setting {name}")),
    })
}

/// A command about one session, without its name: `deliver CHANNEL JSON`, `set SETTING VALUE`, ...
pub(crate) fn session_command(words: &str, session: &ClientId) -> Result<Command, Wrong> {
    let session = session.clone();
    let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
    Ok(match verb {
        "deliver" => {
            let (rest, lazy) = rest.strip_prefix("lazily ").map_or((rest, Lazy::No), |rest| (rest, Lazy::Yes));
            let (name, data) = rest.split_once(' ').ok_or("deliver CHANNEL JSON")?;
            let data: Value = serde_json::from_str(data).map_err(|error| format!("{data}: {error}"))?;
            let mut event = event(name, &data);
            event.lazy = lazy;
            Command::Deliver { to: session, event, from: None }
        }
        "answer" => Command::Deliver { to: session, event: result(rest, true)?, from: None },
        "fail" => Command::Deliver { to: session, event: result(rest, false)?, from: None },
        "disconnect" => Command::Disconnect { session },
        "remove" => Command::Remove { session },
        "hold" => Command::Hold { session },
        "release" => Command::Release { session },
        "subscribe" => Command::Subscribe { session, channel: pattern(rest) },
        "unsubscribe" => Command::Unsubscribe { session, channel: pattern(rest) },
        "set" => {
            let (name, value) = rest.split_once(' ').ok_or("set SETTING VALUE")?;
            Command::SetSession { session, setting: session_setting(name, value)? }
        }
        _ => return Err(format!("a session cannot {verb}")),
    })
}

/// `CHANNEL ID JSON`: the result of a remote call (rule R-4).
fn result(words: &str, successful: bool) -> Result<Event, Wrong> {
    let [channel, id, data] = words.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        return Err("answer CHANNEL ID JSON".into());
    };
    let data: Value = serde_json::from_str(data).map_err(|error| format!("{data}: {error}"))?;
    let mut event = event(channel, &data);
    event.id = Some(MessageId::Text(id.into()));
    event.successful = Some(successful);
    Ok(event)
}

/// `publish CHANNEL JSON`.
pub(crate) fn publish(words: &str, from: Option<ClientId>) -> Result<Command, Wrong> {
    let (words, lazy) = words.strip_prefix("lazily ").map_or((words, Lazy::No), |rest| (rest, Lazy::Yes));
    let (name, data) = words.split_once(' ').ok_or("publish CHANNEL JSON")?;
    let data: Value = serde_json::from_str(data).map_err(|error| format!("{data}: {error}"))?;
    let mut event = event(name, &data);
    event.lazy = lazy;
    Ok(Command::Publish { channel: channel(name), event, from, chain: 0 })
}

/// The points of the word for one.
pub(crate) fn points(word: &str) -> Result<Points, Wrong> {
    Ok(match word {
        "incoming" => Points::INCOMING,
        "handshake" => Points::HANDSHAKE,
        "create" => Points::CREATE,
        "subscribe" => Points::SUBSCRIBE,
        "publish" => Points::PUBLISH,
        "listen" => Points::LISTEN,
        "handshaken" => Points::HANDSHAKEN,
        "subscribed" => Points::SUBSCRIBED,
        "unsubscribed" => Points::UNSUBSCRIBED,
        _ => return Err(format!("{word} is no point of the pipeline")),
    })
}

/// An answer of a hook: `allow`, `deny`, `deny REASON`, `later`, `replace data JSON`, each perhaps followed by
/// ` with {"advice":{…},"ext":{…}}`. `None` for `later`.
#[derive(Debug, Clone)]
pub(crate) enum Reaction {
    /// Decide now.
    Verdict(Verdict),
    /// Decide now: the question's own message with other data.
    Data(RawJson),
    /// Wait.
    Later,
}

impl Reaction {
    pub(crate) fn parse(words: &str) -> Result<Self, Wrong> {
        let (answer, extra) = words.split_once(" with ").map_or((words, None), |(a, b)| (a, Some(b)));
        let mut verdict = Verdict::allow();
        match answer.split_once(' ').unwrap_or((answer, "")) {
            ("allow", "") => {}
            ("deny", "") => verdict = Verdict::deny(),
            ("deny", reason) => verdict.ruling = Ruling::Deny { reason: Some(reason.into()) },
            ("later", "") => return Ok(Self::Later),
            ("replace", rest) => {
                let data = rest.strip_prefix("data ").ok_or("replace data JSON")?;
                return Ok(Self::Data(RawJson::new(data).map_err(|error| error.to_string())?));
            }
            _ => return Err(format!("{words} is no answer")),
        }
        if let Some(extra) = extra {
            let extra: Value = serde_json::from_str(extra).map_err(|error| format!("{extra}: {error}"))?;
            verdict.advice = advice(&extra["advice"]);
            verdict.ext = extra.get("ext").map(|ext| RawJson::new(ByteString::from(ext.to_string())).expect("JSON"));
        }
        Ok(Self::Verdict(verdict))
    }

    pub(crate) fn verdict(&self, message: &bayeux_proto::Message) -> Option<Verdict> {
        match self {
            Self::Verdict(verdict) => Some(verdict.clone()),
            Self::Data(data) => {
                let mut message = message.clone();
                message.data = Some(data.clone());
                Some(Verdict { ruling: Ruling::Replace(Box::new(message)), ..Verdict::allow() })
            }
            Self::Later => None,
        }
    }

    pub(crate) fn answer(&self, message: &bayeux_proto::Message) -> Answer {
        self.verdict(message).map_or(Answer::Later, Answer::Now)
    }
}

fn advice(value: &Value) -> Advice {
    let reconnect = |word: &str| {
        [Reconnect::Retry, Reconnect::Handshake, Reconnect::None].into_iter().find(|known| known.as_str() == word)
    };
    Advice {
        reconnect: value["reconnect"].as_str().and_then(reconnect),
        interval_ms: value["interval"].as_u64(),
        timeout_ms: value["timeout"].as_u64(),
        max_interval_ms: value["maxInterval"].as_u64(),
        multiple_clients: value["multiple-clients"] == true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("997ms"), Ok(Duration::from_millis(997)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("30").is_err());
    }
}
