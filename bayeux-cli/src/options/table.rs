//! The one table of options: name, place, documentation. Flags, environment, file and `--help` all read it.

use std::time::Duration;

use bayeux_core::TransportOptions;

use super::Settings;
use super::slot::{Negative, Slot};

/// One option.
#[derive(Debug)]
pub(super) struct Spec {
    /// CometD's name, without prefix; ours where CometD has none.
    pub(super) name: &'static str,
    /// Where the value goes, and with it the type, the default and the prefixes.
    pub(super) place: Place,
    /// One line for `--help`.
    pub(super) doc: &'static str,
}

/// Where an option's value goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// One value for the server.
    Server(fn(&mut Settings) -> Slot<'_>),
    /// One value for each transport (section 13.2).
    Transport(fn(&mut TransportOptions) -> Slot<'_>),
    /// One value for the HTTP transports (section 13.3).
    Http(fn(&mut Settings) -> Slot<'_>),
    /// One value for callback-polling.
    Jsonp(fn(&mut Settings) -> Slot<'_>),
    /// One value for WebSocket (section 13.4); its full name has the prefix `ws.`.
    Ws(fn(&mut Settings) -> Slot<'_>),
    /// One value for WebSocket whose plain name means something else.
    WsOnly(fn(&mut Settings) -> Slot<'_>),
    /// One value for the process.
    Process(fn(&mut Settings) -> Slot<'_>),
}

impl Place {
    /// The prefixes under which a value may be given, from the plain name to the most specific (rule O-1).
    pub(super) fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Server(_) | Self::Process(_) => &[""],
            Self::Transport(_) => &["", "ws.", "long-polling.", "long-polling.json.", "long-polling.jsonp."],
            Self::Http(_) => &["", "long-polling.", "long-polling.json."],
            Self::Jsonp(_) => &["", "long-polling.", "long-polling.jsonp."],
            Self::Ws(_) => &["", "ws."],
            Self::WsOnly(_) => &["ws."],
        }
    }

    /// The prefix under which the option is documented.
    pub(super) fn usual_prefix(self) -> &'static str {
        match self {
            Self::Ws(_) | Self::WsOnly(_) => "ws.",
            Self::Server(_) | Self::Process(_) | Self::Transport(_) | Self::Http(_) | Self::Jsonp(_) => "",
        }
    }

    /// The heading in the help text.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Process(_) => "Process",
            Self::Server(_) => "Protocol",
            Self::Transport(_) => "Every transport (also as --ws-..., --long-polling-...)",
            Self::Http(_) | Self::Jsonp(_) => "Long-polling (also as --long-polling-...)",
            Self::Ws(_) | Self::WsOnly(_) => "WebSocket",
        }
    }
}

const fn process(name: &'static str, place: fn(&mut Settings) -> Slot<'_>, doc: &'static str) -> Spec {
    Spec { name, place: Place::Process(place), doc }
}

const fn server(name: &'static str, place: fn(&mut Settings) -> Slot<'_>, doc: &'static str) -> Spec {
    Spec { name, place: Place::Server(place), doc }
}

const fn transport(name: &'static str, place: fn(&mut TransportOptions) -> Slot<'_>, doc: &'static str) -> Spec {
    Spec { name, place: Place::Transport(place), doc }
}

const fn http(name: &'static str, place: fn(&mut Settings) -> Slot<'_>, doc: &'static str) -> Spec {
    Spec { name, place: Place::Http(place), doc }
}

const fn jsonp(name: &'static str, place: fn(&mut Settings) -> Slot<'_>, doc: &'static str) -> Spec {
    Spec { name, place: Place::Jsonp(place), doc }
}

const fn ws_only(name: &'static str, place: fn(&mut Settings) -> Slot<'_>, doc: &'static str) -> Spec {
    Spec { name, place: Place::WsOnly(place), doc }
}

const fn ws(name: &'static str, place: fn(&mut Settings) -> Slot<'_>, doc: &'static str) -> Spec {
    Spec { name, place: Place::Ws(place), doc }
}

fn time(value: &mut Duration) -> Slot<'_> {
    Slot::Time { value, negative: Negative::Refused }
}

fn time_or_zero(value: &mut Duration) -> Slot<'_> {
    Slot::Time { value, negative: Negative::Zero }
}

/// Every option, in the order of the help text.
#[rustfmt::skip]
pub(super) static TABLE: &[Spec] = &[
    process("listen", |s| Slot::List(&mut s.listen), "Addresses to listen on; port 0 takes a free one"),
    process("path", |s| Slot::Paths(&mut s.paths), "Paths of the Bayeux endpoint, sub-paths included"),
    process("demo", |s| Slot::Flag(&mut s.demo), "Serve the chat page at / and its services"),
    process("shards", |s| Slot::Shards(&mut s.config.shards), "Engines, and threads that run them"),
    process("logLevel", |s| Slot::LogLevel(&mut s.log_level), "Logs on stderr: error, warn, info, debug, trace; per module as in info,bayeux_http=debug"),
    process("logFormat", |s| Slot::LogFormat(&mut s.log_format), "Shape of the logs: text or json"),
    process("drainTimeout", |s| time(&mut s.listener.drain_timeout), "How long a stop may take to flush what is queued"),
    process("maxConnections", |s| Slot::Count(&mut s.listener.connections_max), "TCP connections open at once; further ones wait"),
    process("headerReadTimeout", |s| time(&mut s.listener.header_read_timeout), "How long a request's headers may take, the wait for it included, and a client may take nothing of a response"),
    process("httpBufferSize", |s| Slot::Size(&mut s.listener.buffer_size_max), "Bytes buffered of an HTTP connection at most: the longest headers"),
    process("http2MaxStreams", |s| Slot::Streams(&mut s.listener.http2_streams_max), "Streams open at once on one HTTP/2 connection"),

    server("allowedTransports", |s| Slot::Transports(&mut s.config.allowed_transports), "Transports that may be used, in order of preference"),
    server("callbackPolling", |s| Slot::Flag(&mut s.callback_polling), "Serve callback-polling (JSONP) too: any site's pages may then use the server"),
    server("broadcastToPublisher", |s| Slot::Flag(&mut s.config.broadcast_to_publisher), "Publishers receive their own messages"),
    server("sweepPeriod", |s| Slot::Time { value: &mut s.config.sweep_period, negative: Negative::Default(Duration::from_millis(997)) }, "An unused channel is removed after three of these"),
    server("validateMessageFields", |s| Slot::Flag(&mut s.config.validate_message_fields), "Check the characters of channels and message ids"),
    server("maxClientInterval", |s| time(&mut s.config.max_client_interval), "The longest advice.interval that a client may ask for"),
    server("ackExtension", |s| Slot::Flag(&mut s.config.acknowledge), "Acknowledge messages to clients that ask for it"),
    server("timesyncExtension", |s| Slot::Flag(&mut s.config.timesync), "Tell clients the time that ask for it"),
    server("timesyncAccuracy", |s| time_or_zero(&mut s.config.timesync_accuracy), "How far off a client's estimate must be to be told again"),
    server("timestampExtension", |s| Slot::Flag(&mut s.timestamp), "Give every message to clients a timestamp"),
    server("timestampFormat", |s| Slot::TimestampFormat(&mut s.timestamp_format), "How timestamps are written: http-date or iso-8601"),
    server("binaryExtension", |s| Slot::Flag(&mut s.config.binary), "Refuse messages that say that their data is binary, and it is not"),
    server("activityExtension", |s| Slot::Flag(&mut s.activity), "Disconnect idle sessions"),
    server("maxInactivityPeriod", |s| time(&mut s.idle.max_inactivity), "How long a session may be idle, with activityExtension"),
    server("activityPolicy", |s| Slot::ActivityPolicy(&mut s.idle.policy), "What keeps a session from being idle: client, what it sends; client-server, also what is delivered to it"),
    server("filter", |s| Slot::Filters(&mut s.filters), "Filters of published data, as CHANNEL=FILTER: no-markup, no-scripts"),
    server("decisionTimeout", |s| time(&mut s.config.decision_timeout), "How long a service may take to answer before the answer is no"),
    server("maxSessions", |s| Slot::Count(&mut s.config.max_sessions), "Sessions per shard"),
    server("maxChannels", |s| Slot::Count(&mut s.config.max_channels), "Channels per shard"),
    server("maxSubscriptions", |s| Slot::Count(&mut s.config.max_subscriptions), "Subscriptions of a session, and elements of one subscription array"),
    server("maxWaitingEnvelopes", |s| Slot::Count(&mut s.config.max_waiting_envelopes), "Envelopes that wait on a connection for the one in progress"),
    server("maxWaitingBytes", |s| Slot::Size(&mut s.config.max_waiting_bytes), "Their bytes"),
    server("maxParkedLanes", |s| Slot::Count(&mut s.config.max_parked_lanes), "Messages per shard that wait for a service; beyond it the answer is no"),
    server("maxChannelLength", |s| Slot::Count(&mut s.config.channels.length_max), "Bytes of a channel name"),
    server("maxChannelSegments", |s| Slot::Count(&mut s.config.channels.segments_max), "Segments of a channel name"),
    server("maxMessagesPerEnvelope", |s| Slot::Count(&mut s.limits.messages_max), "Messages in one request body or WebSocket message"),
    server("maxFieldsPerEnvelope", |s| Slot::Count(&mut s.limits.fields_max), "Unknown fields of all messages in one of them"),
    server("maxDepth", |s| Slot::Count(&mut s.limits.depth_max), "Arrays and objects inside each other"),

    transport("timeout", |o| time(&mut o.timeout), "How long a /meta/connect is held"),
    transport("interval", |o| time(&mut o.interval), "The wait that clients are advised between two of them"),
    transport("maxInterval", |o| time(&mut o.max_interval), "How long a session lives without one, beyond the interval"),
    transport("maxProcessing", |o| Slot::TimeOrOff(&mut o.max_processing), "How long one may be processed before its session is removed; must exceed timeout"),
    transport("maxLazyTimeout", |o| time_or_zero(&mut o.max_lazy_timeout), "How long lazy messages wait at most"),
    transport("metaConnectDeliverOnly", |o| Slot::Flag(&mut o.meta_connect_deliver_only), "Deliver messages in /meta/connect replies only"),
    transport("maxQueue", |o| Slot::CountOrOff(&mut o.max_queue), "Messages queued for a session before queueOverflow acts"),
    transport("maxQueueBytes", |o| Slot::SizeOrOff(&mut o.max_queue_bytes), "Bytes queued for a session before queueOverflow acts"),
    transport("queueOverflow", |o| Slot::Overflow(&mut o.overflow), "A full queue: remove-session, drop-newest, drop-oldest or keep-latest"),
    transport("maxMessageSize", |o| Slot::SizeOrOff(&mut o.max_message_size), "Bytes of one request body or WebSocket message"),
    transport("handshakeReconnect", |o| Slot::Flag(&mut o.handshake_reconnect), "Advise maxInterval, so that clients handshake at once after long outages"),
    transport("allowMessageDeliveryDuringHandshake", |o| Slot::Flag(&mut o.allow_message_delivery_during_handshake), "Messages queued during a handshake ride in its response"),

    http("browserCookieName", |s| Slot::Text(&mut s.http.browser_cookie_name), "Name of the browser cookie"),
    http("browserCookieDomain", |s| Slot::TextOrOff(&mut s.http.browser_cookie_domain), "Its Domain"),
    http("browserCookiePath", |s| Slot::TextOrOff(&mut s.http.browser_cookie_path), "Its Path"),
    http("browserCookieMaxAge", |s| Slot::SecondsOrOff(&mut s.http.browser_cookie_max_age), "Its Max-Age, a bare number in seconds; negative: not sent"),
    http("browserCookieSecure", |s| Slot::Flag(&mut s.http.browser_cookie_secure), "Secure, where the request was"),
    http("browserCookieHttpOnly", |s| Slot::Flag(&mut s.http.browser_cookie_http_only), "HttpOnly"),
    http("browserCookieSameSite", |s| Slot::SameSite(&mut s.http.browser_cookie_same_site), "SameSite: Strict, Lax or None; unset: not sent"),
    http("browserCookiePartitioned", |s| Slot::Flag(&mut s.http.browser_cookie_partitioned), "Partitioned"),
    http("maxSessionsPerBrowser", |s| Slot::Integer(&mut s.config.max_sessions_per_browser), "Connects held at once for one browser; negative: any number, 0: none"),
    http("http2MaxSessionsPerBrowser", |s| Slot::Integer(&mut s.config.http2_max_sessions_per_browser), "The same over HTTP/2"),
    http("multiSessionInterval", |s| time_or_zero(&mut s.config.multi_session_interval), "The interval advised to a browser's surplus sessions; 0: they are refused"),
    http("trustClientSession", |s| Slot::Flag(&mut s.config.trust_client_session), "Find a session by its clientId alone, without the cookie"),
    http("duplicateMetaConnectHttpResponseCode", |s| Slot::ErrorStatus(&mut s.http.duplicate_meta_connect_http_response_code), "HTTP status of a /meta/connect that a newer one replaced"),
    http("allowOrigin", |s| Slot::List(&mut s.allow_origins), "Origins whose pages may use long-polling, apart from the server's own; * for any"),
    http("bodyTimeout", |s| time(&mut s.http.body_timeout), "How long a request's body may take to arrive"),
    jsonp("callbackParameter", |s| Slot::Text(&mut s.http.callback_parameter), "The query parameter that names the function to call, of callback-polling"),
    jsonp("callbackParameterMaxLength", |s| Slot::Count(&mut s.http.callback_parameter_max_length), "The longest name of such a function"),

    ws("cometdURLMapping", |s| Slot::Paths(&mut s.ws_paths), "Further paths of the endpoint, as in CometD's configurations"),
    ws("protocol", |s| Slot::TextOrOff(&mut s.ws.protocol), "The subprotocol that upgrades must offer; unset: whatever is offered first"),
    ws("messagesPerFrame", |s| Slot::CountOrAll(&mut s.ws.messages_per_frame), "Queued messages in one outgoing frame; 0 or less: all"),
    ws("bufferSize", |s| Slot::Size(&mut s.ws.buffer_size), "Bytes of the read buffer of a connection"),
    ws("idleTimeout", |s| Slot::Time { value: &mut s.ws.idle_timeout, negative: Negative::Never }, "A silent connection is closed after this; must exceed timeout"),
    ws("requireHandshakePerConnection", |s| Slot::Flag(&mut s.config.require_handshake_per_connection), "A new connection must begin with a handshake"),
    ws_only("allowOrigin", |s| Slot::List(&mut s.ws_allow_origins), "Origins whose pages may connect; unset: any"),
    ws("linger", |s| time(&mut s.config.linger), "How long a connection stays open after its session was disconnected"),
];

/// A name that is accepted with a warning.
#[derive(Debug)]
pub(super) struct Retired {
    /// The name. One that ends in a full stop stands for all that begin with it.
    pub(super) name: &'static str,
    /// The name that took its place, if the value still has a meaning.
    pub(super) successor: Option<&'static str>,
    /// Why it has none, otherwise.
    pub(super) reason: &'static str,
}

const fn renamed(name: &'static str, successor: &'static str) -> Retired {
    Retired { name, successor: Some(successor), reason: "" }
}

const fn ignored(name: &'static str, reason: &'static str) -> Retired {
    Retired { name, successor: None, reason }
}

const JAVA: &str = "it configures the Java server only";

/// Names of older versions (rule O-41), and names that have a meaning elsewhere only. They take every prefix that an
/// option may have.
pub(super) static RETIRED: &[Retired] = &[
    renamed("metaConnectDeliveryOnly", "metaConnectDeliverOnly"),
    renamed("browserId", "browserCookieName"),
    ignored("allowMultiSessionsNoBrowser", "sessions without browser cookie are never limited"),
    ignored("transports", "allowedTransports selects among the transports that are there"),
    ignored("jsonContext", JAVA),
    ignored("sweepThreads", JAVA),
    ignored("schedulerThreads", JAVA),
    ignored("executorMaxThreads", JAVA),
    ignored("enableExtension.", "no WebSocket extension is negotiated"),
];

/// `maxInterval` as `max-interval`, `long-polling.json.timeout` as `long-polling-json-timeout`.
pub(super) fn kebab(name: &str) -> String {
    let mut kebab = String::with_capacity(name.len() + 8);
    let mut before = '.';
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        // A capital begins a word after a small letter, and at the end of a run of capitals.
        let begins = match before {
            '.' | '-' => false,
            _ if before.is_ascii_uppercase() => rest.peek().is_some_and(char::is_ascii_lowercase),
            _ => true,
        };
        if c.is_ascii_uppercase() && begins {
            kebab.push('-');
        }
        kebab.push(if c == '.' { '-' } else { c.to_ascii_lowercase() });
        before = c;
    }
    kebab
}

/// `maxInterval` as `BAYEUX_MAX_INTERVAL`.
pub(super) fn variable(name: &str) -> String {
    format!("BAYEUX_{}", kebab(name).replace('-', "_").to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_spelled_for_each_source() {
        assert_eq!(kebab("maxInterval"), "max-interval");
        assert_eq!(kebab("ws.maxMessageSize"), "ws-max-message-size");
        assert_eq!(kebab("long-polling.json.timeout"), "long-polling-json-timeout");
        assert_eq!(kebab("http2MaxSessionsPerBrowser"), "http2-max-sessions-per-browser");
        assert_eq!(variable("ws.timeout"), "BAYEUX_WS_TIMEOUT");
        assert_eq!(kebab("ws.cometdURLMapping"), "ws-cometd-url-mapping");
    }

    #[test]
    fn no_two_options_share_a_name() {
        let mut seen = HashSet::new();
        for spec in TABLE {
            for prefix in spec.place.prefixes() {
                assert!(seen.insert(kebab(&format!("{prefix}{}", spec.name))), "{prefix}{}", spec.name);
            }
        }
        for retired in RETIRED {
            assert!(!seen.contains(&kebab(retired.name)), "{}", retired.name);
            assert!(retired.successor.is_none_or(|name| TABLE.iter().any(|spec| spec.name == name)));
        }
    }
}
