//! The options of a run: a number for each knob.

use std::fmt;
use std::time::Duration;

use bayeux_core::{Budget, ChannelQueue, Overflow};

use crate::net::Weather;
use crate::swarm::plan::Source;
use crate::world::{Options, Writes};

macro_rules! knobs {
    ($($(#[$doc:meta])* $name:ident $word:literal [$($choice:literal)*],)*) => {
        /// What can differ between runs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Knob { $($(#[$doc])* $name,)* }

        impl Knob {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in a plan's text.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The numbers it can have, the simplest first; one that is there twice is drawn twice as often.
            pub fn choices(self) -> &'static [u64] {
                match self { $(Self::$name => &[$($choice,)*],)* }
            }
        }
    };
}

knobs! {
    /// How many shards the server has.
    Shards "shards" [1 1 1 2 2 4],
    /// The longest time that a message between shards takes, in milliseconds.
    LinkDelay "link-delay" [0 0 0 30 700],
    /// The longest time that a write takes, in milliseconds.
    WriteDelay "write-delay" [0 0 0 40],
    /// The shortest time that an envelope travels, in milliseconds.
    LatencyMin "latency-min" [0 0 1 20],
    /// The longest, beyond that.
    LatencySpread "latency-spread" [0 0 5 60 400],
    /// Envelopes of 100 that are lost.
    Loss "loss" [0 0 0 2 10],
    /// Events per WebSocket frame; 0: all.
    MessagesPerFrame "messages-per-frame" [1 1 0 2],
    /// Messages per drain of a WebSocket; 0: no bound.
    Budget "budget" [0 0 0 1 3],
    /// Messages per drain of an HTTP response, which then takes its time; 0: no bound.
    ResponseBudget "response-budget" [0 0 1 1 3],
    /// How many clients there are.
    Clients "clients" [2 3 4 6],
    /// Whether clients ask for their first connect to return at once, as CometD's do.
    Hurried "hurried" [1 1 0],
    /// On how many hosts.
    Hosts "hosts" [6 2 1 3],
    /// Clients of 100 that begin over WebSocket.
    WebSocket "websocket" [0 50 50 100],
    /// Clients of 100 that poll by callbacks when they poll.
    Callback "callback" [0 0 0 50],
    /// Clients of 100 that use HTTP/2.
    Http2 "http2" [0 0 50],
    /// Clients of 100 that ask for acknowledgements.
    Ack "ack" [0 0 50 100],
    /// How long connects are held over HTTP, in milliseconds.
    PollTimeout "poll-timeout" [10000 4000],
    /// How long connects are held over WebSocket, in milliseconds.
    SocketTimeout "socket-timeout" [7000 12000],
    /// The interval advised over HTTP, in milliseconds.
    PollInterval "poll-interval" [0 0 500],
    /// The interval advised over WebSocket, in milliseconds.
    SocketInterval "socket-interval" [0 0 300],
    /// How long sessions live without connect over HTTP, in milliseconds.
    PollMaxInterval "poll-max-interval" [8000 3000],
    /// How long sessions live without connect over WebSocket, in milliseconds.
    SocketMaxInterval "socket-max-interval" [6000 9000 2000 2000],
    /// How long a connect may be processed beyond its timeout, in milliseconds; 0: for ever.
    MaxProcessing "max-processing" [0 0 0 2000],
    /// How long lazy messages wait, in milliseconds.
    LazyTimeout "lazy-timeout" [1000 1000 3000 0],
    /// Whether only connects carry events.
    DeliverOnly "deliver-only" [0 0 0 1],
    /// Whether handshake replies may carry events.
    HandshakeDelivery "handshake-delivery" [0 0 1],
    /// Whether `maxInterval` is advised.
    HandshakeReconnect "handshake-reconnect" [0 1],
    /// How many connects are held for one browser; 9: any number.
    Tabs "tabs" [9 1 1 2],
    /// The same over HTTP/2.
    Http2Tabs "http2-tabs" [9 9 1],
    /// The interval advised to surplus tabs, in milliseconds; 0: they are refused.
    TabInterval "tab-interval" [2000 2000 0],
    /// Whether sessions are found over HTTP without their browser.
    Trust "trust" [0 0 1],
    /// Whether each WebSocket must begin with a handshake.
    RequireHandshake "require-handshake" [0 0 0 1],
    /// Whether publishers receive their own messages.
    OwnMessages "own-messages" [1 1 1 0],
    /// Messages in a session's queue; 0: many.
    MaxQueue "max-queue" [0 0 0 4],
    /// The bytes of how many events a session's queue may hold; 0: many.
    MaxQueueBytes "max-queue-bytes" [0 0 0 0 5],
    /// Messages of one channel in a session's queue; 0: as many as it may hold of all.
    ChannelQueue "channel-queue" [0 0 0 1 2],
    /// What happens when it is full: the session is removed, the newest goes, the oldest, or all but the latest.
    Overflow "overflow" [0 1 2 3],
    /// At which points hooks are asked, as bits.
    HookPoints "hook-points" [0 0 0 511 24 7 248],
    /// Questions of 100 that hooks answer with no.
    Denied "denied" [0 10],
    /// Questions of 100 that hooks answer later.
    Later "later" [0 0 25],
    /// Questions of 100 at which hooks deliver something to the session.
    Delivers "delivers" [0 0 20],
    /// How long a question may wait, in milliseconds.
    DecisionTimeout "decision-timeout" [3000 900 10000 10000],
    /// Events of 100 that a hook drops on their way to a session.
    Dropped "dropped" [0 0 0 0 10],
    /// Bytes of each event beside its number.
    Padding "padding" [0 0 0 9000 40000],
    /// Whether the server is shut down in the end.
    Shutdown "shutdown" [0 0 1],
}

impl Knob {
    /// The knob of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|knob| knob.name() == name)
    }
}

/// A number for each [`Knob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup([u64; Knob::ALL.len()]);

impl Setup {
    /// Every knob at its simplest.
    pub fn simplest() -> Self {
        let mut setup = Self([0; Knob::ALL.len()]);
        for knob in Knob::ALL {
            setup.0[*knob as usize] = knob.choices()[0];
        }
        setup
    }

    /// The same application, which decides nothing.
    pub(super) fn without_hooks(&self) -> Self {
        let mut plain = Self::simplest();
        plain.0[Knob::ChannelQueue as usize] = self.get(Knob::ChannelQueue);
        plain.0[Knob::Overflow as usize] = self.get(Knob::Overflow);
        plain
    }

    pub(super) fn draw(source: &mut Source<'_>) -> Self {
        let mut setup = Self::simplest();
        for knob in Knob::ALL {
            let choices = knob.choices();
            setup.0[*knob as usize] = choices[source.below(choices.len())];
        }
        setup
    }

    /// What a knob is at.
    pub fn get(&self, knob: Knob) -> u64 {
        self.0[knob as usize]
    }

    /// Sets a knob.
    ///
    /// # Errors
    /// A sentence, where the knob cannot be at `value`.
    pub fn set(&mut self, knob: Knob, value: u64) -> Result<(), String> {
        if !knob.choices().contains(&value) {
            return Err(format!("{} cannot be {value}", knob.name()));
        }
        self.0[knob as usize] = value;
        Ok(())
    }

    pub(super) fn is(&self, knob: Knob) -> bool {
        self.get(knob) != 0
    }

    pub(super) fn millis(&self, knob: Knob) -> Duration {
        Duration::from_millis(self.get(knob))
    }

    pub(super) fn weather(&self) -> Weather {
        let latency_min = self.millis(Knob::LatencyMin);
        Weather {
            latency_min,
            latency_max: latency_min + self.millis(Knob::LatencySpread),
            loss_percent: self.get(Knob::Loss),
        }
    }

    /// More bytes than any event has.
    pub(super) fn event_size_max(&self) -> usize {
        self.get(Knob::Padding) as usize + 100
    }

    fn overflow(&self) -> Overflow {
        match self.get(Knob::Overflow) {
            0 => Overflow::RemoveSession,
            1 => Overflow::DropNewest,
            2 => Overflow::DropOldest,
            _ => Overflow::KeepLatest,
        }
    }

    /// The limit of the one channel that has one.
    pub(super) fn channel_queue(&self) -> Option<ChannelQueue> {
        let messages = self.get(Knob::ChannelQueue) as usize;
        (messages > 0).then(|| ChannelQueue { messages, overflow: self.overflow() })
    }

    /// The world that a run has.
    pub(super) fn options(&self, seed: u64) -> Options {
        let mut options = Options::shards(self.get(Knob::Shards) as u16);
        options.seed = seed;
        options.link_delay = self.millis(Knob::LinkDelay);
        // No knob: runs differ in the engines alone.
        options.interests = !seed.is_multiple_of(3);
        if self.is(Knob::WriteDelay) {
            options.writes = Writes::Within(self.millis(Knob::WriteDelay));
        }
        options.messages_per_frame = self.get(Knob::MessagesPerFrame) as usize;
        if self.is(Knob::ResponseBudget) {
            options.response_budget = Budget { messages: self.get(Knob::ResponseBudget) as usize, bytes: 100_000 };
            options.part_delay = Duration::from_millis(500);
        }
        if self.is(Knob::Budget) {
            options.budget = Budget { messages: self.get(Knob::Budget) as usize, bytes: 100_000 };
        }
        let tabs = |knob| if self.get(knob) == 9 { -1 } else { self.get(knob) as i32 };
        let config = &mut options.config;
        config.acknowledge = true;
        config.allowed_transports.push(bayeux_core::Transport::CallbackPolling);
        config.max_sessions_per_browser = tabs(Knob::Tabs);
        config.http2_max_sessions_per_browser = tabs(Knob::Http2Tabs);
        config.multi_session_interval = self.millis(Knob::TabInterval);
        config.trust_client_session = self.is(Knob::Trust);
        config.require_handshake_per_connection = self.is(Knob::RequireHandshake);
        config.broadcast_to_publisher = self.is(Knob::OwnMessages);
        config.decision_timeout = self.millis(Knob::DecisionTimeout);
        config.each_transport(|transport| {
            transport.max_lazy_timeout = self.millis(Knob::LazyTimeout);
            transport.meta_connect_deliver_only |= self.is(Knob::DeliverOnly);
            transport.allow_message_delivery_during_handshake = self.is(Knob::HandshakeDelivery);
            transport.handshake_reconnect = self.is(Knob::HandshakeReconnect);
            if self.is(Knob::MaxQueue) {
                transport.max_queue = self.get(Knob::MaxQueue) as usize;
            }
            if self.is(Knob::MaxQueueBytes) {
                transport.max_queue_bytes = self.get(Knob::MaxQueueBytes) as usize * self.event_size_max();
            }
            transport.overflow = self.overflow();
        });
        let poll = &mut config.long_polling;
        poll.timeout = self.millis(Knob::PollTimeout);
        poll.interval = self.millis(Knob::PollInterval);
        poll.max_interval = self.millis(Knob::PollMaxInterval);
        let callback = &mut config.callback_polling;
        // Unlike those of the others, so that nobody can mistake one for another.
        callback.timeout = self.millis(Knob::PollTimeout) + Duration::from_secs(1);
        callback.interval = self.millis(Knob::PollInterval) + Duration::from_millis(100);
        callback.max_interval = self.millis(Knob::PollMaxInterval) + Duration::from_millis(700);
        let socket = &mut config.websocket;
        socket.timeout = self.millis(Knob::SocketTimeout);
        socket.interval = self.millis(Knob::SocketInterval);
        socket.max_interval = self.millis(Knob::SocketMaxInterval);
        config.each_transport(|transport| {
            transport.max_processing =
                self.is(Knob::MaxProcessing).then(|| transport.timeout + self.millis(Knob::MaxProcessing));
        });
        options
    }
}

impl fmt::Display for Setup {
    /// Only what is not at its simplest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for knob in Knob::ALL.iter().filter(|knob| self.get(**knob) != knob.choices()[0]) {
            writeln!(f, "{} {}", knob.name(), self.get(*knob))?;
        }
        Ok(())
    }
}
