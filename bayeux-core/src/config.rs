//! Options of the engine: names, units and defaults (section O).

use std::time::Duration;

use bayeux_proto::ChannelLimits;

/// How a message travels (rule T-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// `websocket`
    WebSocket,
    /// `long-polling`
    LongPolling,
    /// `callback-polling`
    CallbackPolling,
    /// In the server's own process (section 21.6). Never advertised, never negotiated.
    Local,
}

impl Transport {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::LongPolling => "long-polling",
            Self::CallbackPolling => "callback-polling",
            Self::Local => "local",
        }
    }

    /// The transport of that name on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::WebSocket, Self::LongPolling, Self::CallbackPolling].into_iter().find(|t| t.as_str() == name)
    }

    /// Whether each exchange is a connection of its own.
    pub const fn is_http(self) -> bool {
        match self {
            Self::WebSocket | Self::Local => false,
            Self::LongPolling | Self::CallbackPolling => true,
        }
    }
}

/// What to do when a session's queue is full (rules Q-9, Z-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Remove the session, with its reason: the client handshakes anew and knows that it lost messages.
    RemoveSession,
    /// Drop the message that does not fit.
    DropNewest,
    /// Drop from the front until the message fits.
    DropOldest,
    /// Conflate: from then on until it is empty, the queue holds the latest message of each channel only. Where that
    /// is not enough, as [`Overflow::DropOldest`].
    KeepLatest,
}

impl Overflow {
    /// A word for options, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RemoveSession => "remove-session",
            Self::DropNewest => "drop-newest",
            Self::DropOldest => "drop-oldest",
            Self::KeepLatest => "keep-latest",
        }
    }

    /// The policy of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::RemoveSession, Self::DropNewest, Self::DropOldest, Self::KeepLatest];
        all.into_iter().find(|policy| policy.as_str() == word)
    }
}

/// How the `timestamp` of messages is written (rule XS-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampFormat {
    /// `Tue, 05 Mar 2024 10:00:00 GMT`, as clients of CometD write it.
    HttpDate,
    /// `2024-03-05T10:00:00.00Z`, as the protocol's specification has it.
    Iso8601,
}

/// When idle sessions are disconnected (section XV).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Sessions that were idle for longer than this are disconnected with their next connect.
    pub max_inactivity: Duration,
    /// What counts as being active.
    pub policy: ActivityPolicy,
}

/// What keeps a session from being idle (rule XV-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivityPolicy {
    /// What the client sends, save connects.
    Client,
    /// That, and what is delivered to it.
    ClientServer,
}

/// Options that each transport has (section 13.2). Field names are those of CometD's options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportOptions {
    /// How long a meta connect is held. Default: 30 s (rules N-1, O-9).
    pub timeout: Duration,
    /// The wait that clients are advised between connects. Default: 0 (rule O-12).
    pub interval: Duration,
    /// How long a session lives with no meta connect held, beyond `interval`. Default: 10 s (rules O-13, L-20).
    pub max_interval: Duration,
    /// How long a session may process a connect before it is removed; `None`: for ever. Default: `None` (rules O-14,
    /// L-24). Must exceed `timeout`.
    pub max_processing: Option<Duration>,
    /// How long lazy messages wait at most; zero: not at all. Default: 5 s (rules O-15, Q-33).
    pub max_lazy_timeout: Duration,
    /// Whether only meta connect replies carry messages. Default: false (rules O-16, Q-13).
    pub meta_connect_deliver_only: bool,
    /// Messages in a session's queue before `overflow` acts. Default: 10,000 (rules O-17, Z-11, Z-20).
    pub max_queue: usize,
    /// Bytes in a session's queue before `overflow` acts. Default: 16 MiB (ours, because a queue bounded by count
    /// alone can hold gigabytes).
    pub max_queue_bytes: usize,
    /// What happens then. Default: [`Overflow::RemoveSession`].
    pub overflow: Overflow,
    /// Whether `maxInterval` is advised, which lets clients handshake at once after long outages. Default: false
    /// (rules O-18, CB-6).
    pub handshake_reconnect: bool,
    /// Whether messages queued while a handshake is processed ride in its response. Default: false (rules O-10, H-20).
    pub allow_message_delivery_during_handshake: bool,
    /// Bytes of one envelope received. Default: 4 MiB over HTTP, 1 MiB over WebSocket (rules O-11, Z-10). Enforced by
    /// the transports.
    pub max_message_size: usize,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            interval: Duration::ZERO,
            max_interval: Duration::from_secs(10),
            max_processing: None,
            max_lazy_timeout: Duration::from_secs(5),
            meta_connect_deliver_only: false,
            max_queue: 10_000,
            max_queue_bytes: 16 * 1024 * 1024,
            overflow: Overflow::RemoveSession,
            handshake_reconnect: false,
            allow_message_delivery_during_handshake: false,
            max_message_size: 4 * 1024 * 1024,
        }
    }
}

/// Options of an engine. All engines of a server have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How many shards the server has. Default: 1.
    pub shards: u16,
    /// Transports that may be used and are advertised, in order of preference (rules O-4, H-12). Default: websocket,
    /// long-polling (rule Z-13).
    pub allowed_transports: Vec<Transport>,
    /// Options over WebSocket.
    pub websocket: TransportOptions,
    /// Options over long-polling.
    pub long_polling: TransportOptions,
    /// Options over callback-polling.
    pub callback_polling: TransportOptions,
    /// Options of local sessions, which never expire and whose queue has no limit, as they take everything at once
    /// (rule A-61).
    pub local: TransportOptions,
    /// Whether publishers receive their own messages; initial value for sessions and channels. Default: true (rules
    /// O-6, Q-6).
    pub broadcast_to_publisher: bool,
    /// An unused channel is removed after three of these. Default: 997 ms (rules O-7, A-5).
    pub sweep_period: Duration,
    /// Whether message ids are checked (option `validateMessageFields`, with [`ChannelLimits::validate_characters`]).
    /// Default: true (rule O-30).
    pub validate_message_fields: bool,
    /// Limits of channel names (rule Z-9).
    pub channels: ChannelLimits,
    /// Channels that are the server's own, with all below them: remote sessions can neither publish on them nor
    /// subscribe to them, whatever a policy says. Default: those of clusters, `/oort`, `/seti`, `/service/oort`,
    /// `/service/seti`.
    pub reserved_channels: Vec<String>,
    /// Connects held at once for one browser over HTTP/1; negative: any number. Default: 1 (rule O-25).
    pub max_sessions_per_browser: i32,
    /// The same over HTTP/2. Default: -1 (rule O-26).
    pub http2_max_sessions_per_browser: i32,
    /// The interval advised to a browser's surplus sessions; zero: they are refused. Default: 2 s (rules O-27, TH-31,
    /// TH-32).
    pub multi_session_interval: Duration,
    /// Whether HTTP requests find a session by `clientId` alone. Default: false (rules O-28, TH-12).
    pub trust_client_session: bool,
    /// Whether a new WebSocket must begin with a handshake. Default: false (rules O-38, TW-11).
    pub require_handshake_per_connection: bool,
    /// The longest `advice.interval` that a client may ask for. Default: 5 min (rule Z-5).
    pub max_client_interval: Duration,
    /// Whether clients may ask for acknowledged messages (section XA). Default: false, like CometD's, where it is an
    /// extension to be added.
    pub acknowledge: bool,
    /// Whether clients' requests for the time are answered (section XT). Default: false, likewise.
    pub timesync: bool,
    /// How far off a client's estimate must be to be answered again. Default: 25 ms (rule XT-3).
    pub timesync_accuracy: Duration,
    /// Whether and how messages to clients have a `timestamp` (section XS). Default: `None`, likewise.
    pub timestamp: Option<TimestampFormat>,
    /// Whether messages that say that their data is binary are checked, and refused where it is not (section XB).
    /// Default: false, likewise; subscribers are sent the same either way (rule XB-5).
    pub binary: bool,
    /// Whether idle sessions are disconnected (section XV). Default: `None`, likewise.
    pub activity: Option<Activity>,
    /// How long a hook may take to answer before the answer is no. Default: 30 s (ours).
    pub decision_timeout: Duration,
    /// How long a WebSocket stays open after its session was disconnected. Default: 5 s (rule TW-23).
    pub linger: Duration,
    /// Subscriptions of one session, and elements of one subscription array. Default: 10,000 (rules Z-9, Z-20).
    pub max_subscriptions: usize,
    /// Sessions in one engine. Default: 1,000,000 (ours).
    pub max_sessions: usize,
    /// Channels in one engine. Default: 1,000,000 (ours).
    pub max_channels: usize,
    /// Envelopes that wait on one connection for the one in progress. Default: 64 (ours).
    pub max_waiting_envelopes: usize,
    /// Their bytes together, as they are in memory: [`Batch::footprint`](bayeux_proto::Batch::footprint). Default: 16 MiB
    /// (rule Z-20).
    pub max_waiting_bytes: usize,
    /// Messages that wait for a hook in one engine; beyond it the answer is no. Default: 100,000 (ours).
    pub max_parked_lanes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 1,
            allowed_transports: vec![Transport::WebSocket, Transport::LongPolling],
            websocket: TransportOptions { max_message_size: 1024 * 1024, ..TransportOptions::default() },
            long_polling: TransportOptions::default(),
            callback_polling: TransportOptions { meta_connect_deliver_only: true, ..TransportOptions::default() },
            local: TransportOptions {
                max_interval: Duration::MAX,
                max_queue: usize::MAX,
                max_queue_bytes: usize::MAX,
                max_message_size: usize::MAX,
                ..TransportOptions::default()
            },
            broadcast_to_publisher: true,
            sweep_period: Duration::from_millis(997),
            validate_message_fields: true,
            channels: ChannelLimits::default(),
            reserved_channels: ["/oort", "/seti", "/service/oort", "/service/seti"].map(String::from).into(),
            max_sessions_per_browser: 1,
            http2_max_sessions_per_browser: -1,
            multi_session_interval: Duration::from_secs(2),
            trust_client_session: false,
            require_handshake_per_connection: false,
            max_client_interval: Duration::from_secs(300),
            acknowledge: false,
            timesync: false,
            timesync_accuracy: Duration::from_millis(25),
            timestamp: None,
            binary: false,
            activity: None,
            decision_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(5),
            max_subscriptions: 10_000,
            max_sessions: 1_000_000,
            max_channels: 1_000_000,
            max_waiting_envelopes: 64,
            max_waiting_bytes: 16 * 1024 * 1024,
            max_parked_lanes: 100_000,
        }
    }
}

/// Why a [`Config`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `shards` is 0 or more than a client id can name.
    #[error("shards must be 1 to {}", crate::ShardId::COUNT_MAX)]
    Shards,
    /// `allowedTransports` is empty.
    #[error("allowedTransports names no transport")]
    NoTransport,
    /// `maxProcessing` does not exceed `timeout` (rule L-24).
    #[error("{}: maxProcessing must be longer than timeout", transport.as_str())]
    ProcessingWithinTimeout {
        /// The transport whose options disagree.
        transport: Transport,
    },
    /// A limit is 0 where nothing would work.
    #[error("{name} must not be 0")]
    Zero {
        /// The option's name.
        name: &'static str,
    },
}

impl Config {
    /// The options of `transport`.
    pub fn transport(&self, transport: Transport) -> &TransportOptions {
        match transport {
            Transport::WebSocket => &self.websocket,
            Transport::LongPolling => &self.long_polling,
            Transport::CallbackPolling => &self.callback_polling,
            Transport::Local => &self.local,
        }
    }

    /// Whether a channel is the server's own.
    pub fn is_reserved(&self, channel: &str) -> bool {
        self.reserved_channels.iter().any(|reserved| {
            channel.strip_prefix(&**reserved).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Changes the options of every transport alike: an option name without prefix (rule O-1).
    pub fn each_transport(&mut self, mut change: impl FnMut(&mut TransportOptions)) {
        change(&mut self.websocket);
        change(&mut self.long_polling);
        change(&mut self.callback_polling);
    }

    /// Checks that the options agree with each other.
    ///
    /// # Errors
    /// [`ConfigError`], naming the first that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.shards == 0 || self.shards > crate::ShardId::COUNT_MAX {
            return Err(ConfigError::Shards);
        }
        if self.allowed_transports.is_empty() {
            return Err(ConfigError::NoTransport);
        }
        for &transport in &self.allowed_transports {
            let options = self.transport(transport);
            if options.max_processing.is_some_and(|limit| limit <= options.timeout) {
                return Err(ConfigError::ProcessingWithinTimeout { transport });
            }
            for (name, value) in [
                ("maxQueue", options.max_queue),
                ("maxQueueBytes", options.max_queue_bytes),
                ("maxMessageSize", options.max_message_size),
            ] {
                if value == 0 {
                    return Err(ConfigError::Zero { name });
                }
            }
        }
        for (name, value) in [
            ("sweepPeriod", self.sweep_period.is_zero()),
            ("decisionTimeout", self.decision_timeout.is_zero()),
            ("maxSubscriptions", self.max_subscriptions == 0),
            ("maxSessions", self.max_sessions == 0),
            ("maxChannels", self.max_channels == 0),
            ("maxWaitingEnvelopes", self.max_waiting_envelopes == 0),
            ("maxWaitingBytes", self.max_waiting_bytes == 0),
        ] {
            if value {
                return Err(ConfigError::Zero { name });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_not_below_the_floors() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        for options in [&config.websocket, &config.long_polling] {
            assert!(options.max_queue >= 10_000 && options.max_queue_bytes >= 16 << 20, "Z-20");
        }
        assert!(config.long_polling.max_message_size >= 2 << 20, "Z-20");
        assert!(config.websocket.max_message_size >= 64 << 10, "Z-20");
        assert!(config.max_subscriptions >= 1_000, "Z-20");
    }

    #[test]
    fn reserved_channels_are_whole_segments() {
        let config = Config::default();
        for (channel, reserved) in [
            ("/oort", true),
            ("/oort/cloud", true),
            ("/oort/**", true),
            ("/oortx", false),
            ("/a/oort", false),
            ("/**", false),
        ] {
            assert_eq!(config.is_reserved(channel), reserved, "{channel}");
        }
    }

    #[test]
    fn options_that_disagree_are_refused() {
        let mut config = Config::default();
        config.websocket.max_processing = Some(Duration::from_secs(30));
        assert_eq!(config.validate(), Err(ConfigError::ProcessingWithinTimeout { transport: Transport::WebSocket }));
    }

    #[test]
    fn options_with_which_nothing_would_work_are_refused() {
        let refused = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().expect_err("it is refused")
        };
        let zero = |name| ConfigError::Zero { name };
        assert_eq!(refused(&|config| config.shards = 0), ConfigError::Shards);
        assert_eq!(refused(&|config| config.shards = crate::ShardId::COUNT_MAX + 1), ConfigError::Shards);
        assert_eq!(refused(&|config| config.allowed_transports.clear()), ConfigError::NoTransport);
        assert_eq!(refused(&|config| config.long_polling.max_queue = 0), zero("maxQueue"));
        assert_eq!(refused(&|config| config.sweep_period = Duration::ZERO), zero("sweepPeriod"));
        assert_eq!(refused(&|config| config.max_waiting_bytes = 0), zero("maxWaitingBytes"));
        // Options of a transport that is not allowed do not matter.
        let mut config = Config::default();
        config.callback_polling.max_queue = 0;
        assert_eq!(config.validate(), Ok(()));
    }
}
