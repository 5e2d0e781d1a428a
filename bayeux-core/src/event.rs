//! What goes into an engine and what comes out: data, no logic.

use std::sync::Arc;
use std::time::Duration;

use bayeux_proto::{
    Advice, Batch, ByteString, ChannelName, ChannelPattern, ErrorField, Event, Frozen, Lazy, Message, RawJson, Reply,
};

use crate::config::{Overflow, Transport};
use crate::decision::{Decided, Decision, DecisionId};
use crate::id::{BrowserId, ClientId, ConnectionKey, ShardId};
use crate::queue::QueueView;

/// Everything that can happen to an engine.
#[derive(Debug)]
pub enum Input {
    /// A connection is there: one HTTP exchange whose request was read, or one WebSocket.
    Opened {
        /// A key never used before.
        conn: ConnectionKey,
        /// What the engine's rules need to know of it.
        link: LinkFacts,
    },
    /// An envelope was received. An HTTP exchange has exactly one.
    Received {
        /// Where.
        conn: ConnectionKey,
        /// What.
        batch: Batch,
    },
    /// What the last `drain` handed out has left, or failed to: the same to the engine (rule L-20). Returns the
    /// connection's write credit.
    Written {
        /// Where.
        conn: ConnectionKey,
    },
    /// The connection is gone. No output names it afterwards.
    Closed {
        /// Which.
        conn: ConnectionKey,
    },
    /// Time has passed: what [`Engine::poll_timeout`](crate::Engine::poll_timeout) announced is due.
    Tick,
    /// A hook's answer to an [`Output::Ask`].
    Decided(Decided),
    /// The application's wish.
    Command(Command),
    /// Another shard's [`Output::Forward`].
    Forwarded {
        /// Which shard's.
        from: ShardId,
        /// What.
        item: Forward,
    },
}

/// What the engine's rules need to know of a connection.
#[derive(Debug, Clone)]
pub struct LinkFacts {
    /// How messages travel on it.
    pub transport: Transport,
    /// Whether it is HTTP/2 (rule O-26).
    pub http2: bool,
    /// The browser id that the request's cookie gave, if acceptable (rules TH-11, TH-25).
    pub browser: Option<BrowserId>,
}

/// What an engine wants done. Bodies are not in here: they are pulled with [`Engine::drain`](crate::Engine::drain).
#[derive(Debug)]
pub enum Output {
    /// The connection has something to write and credit to write it: drain it.
    Ready(ConnectionKey),
    /// A hook is to decide; the answer comes back as [`Input::Decided`].
    Ask(Box<Decision>),
    /// The answer to that decision is no longer wanted.
    Withdraw(DecisionId),
    /// Close the connection, or answer the exchange with the status that the reason has. The engine has already
    /// forgotten it; an [`Input::Closed`] may follow and is ignored.
    Close {
        /// Which.
        conn: ConnectionKey,
        /// Why.
        reason: CloseReason,
    },
    /// Set the browser cookie in the response of this exchange (rule TH-20).
    Browser {
        /// Which exchange.
        conn: ConnectionKey,
        /// The cookie's value.
        id: BrowserId,
    },
    /// Hand to another shard, in order.
    Forward {
        /// Which shard.
        to: ShardId,
        /// What.
        item: Box<Forward>,
    },
    /// Something that observers may want to know.
    Notice(Box<Notice>),
}

/// Why the engine closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// A handshake together with other messages (rules H-3, Z-1): HTTP 400, WebSocket 1008.
    HandshakeInBatch,
    /// A newer connect took the place of the held one (rules K-20, L-43): HTTP
    /// `duplicateMetaConnectHttpResponseCode`. Never given to a WebSocket.
    ConnectReplaced,
    /// The session of a held connect was removed (rules L-31, TW-22): HTTP `duplicateMetaConnectHttpResponseCode`,
    /// WebSocket 1000 `Destroy`.
    SessionRemoved,
    /// The session was disconnected some seconds ago and the client did not close (rule TW-23): WebSocket 1000.
    Lingered,
    /// The server stops (rules L-36, TW-24): HTTP `duplicateMetaConnectHttpResponseCode`, WebSocket 1001. Given by
    /// drivers, after [`Command::Shutdown`].
    Stopping,
    /// More envelopes than may wait, sent against `wants_input`: HTTP 503, WebSocket 1008.
    Flooded,
}

/// The application's wishes. One that names a session or channel that is not there does nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Publish: listeners, freeze, fan-out (rule A-10). Goes to the shard of `from`; without one, to any single shard.
    Publish {
        /// The channel; what the event says is overwritten.
        channel: ChannelName,
        /// What.
        event: Event,
        /// The sender that listeners see and rule Q-6 is about.
        from: Option<ClientId>,
        /// How many publishes led to this one, each made by a listener of the one before. Told with
        /// [`Question::chain`], so that whoever calls listeners can end a loop.
        chain: u16,
    },
    /// Deliver to one session, whatever it is subscribed to (rule A-11).
    Deliver {
        /// To whom.
        to: ClientId,
        /// What.
        event: Event,
        /// The sender that hooks see.
        from: Option<ClientId>,
    },
    /// Publish or deliver, and say with [`Notice::Confirmed`] whether anything was queued for anybody (rule A-12). Any
    /// other command is carried out as it is, and confirmed never.
    Confirm {
        /// [`Command::Publish`] or [`Command::Deliver`].
        command: Box<Self>,
        /// Names the answer.
        receipt: Receipt,
    },
    /// Disconnect a session with notice (rule D-10).
    Disconnect {
        /// Whom.
        session: ClientId,
    },
    /// Remove a session without notice (rule D-11).
    Remove {
        /// Whom.
        session: ClientId,
    },
    /// Open a hold on a session: nothing is flushed until as many [`Command::Release`]s came (rule Q-40).
    Hold {
        /// Whose.
        session: ClientId,
    },
    /// Close a hold.
    Release {
        /// Whose.
        session: ClientId,
    },
    /// Subscribe a session (rule A-9).
    Subscribe {
        /// Whom.
        session: ClientId,
        /// To what.
        channel: ChannelPattern,
    },
    /// Unsubscribe a session (rule A-9).
    Unsubscribe {
        /// Whom.
        session: ClientId,
        /// From what.
        channel: ChannelPattern,
    },
    /// Change a session's setting (rule O-40).
    SetSession {
        /// Whose.
        session: ClientId,
        /// Which, to what.
        setting: SessionSetting,
    },
    /// Create a channel if it is absent (rule A-1).
    CreateChannel {
        /// Which.
        channel: ChannelPattern,
    },
    /// Change a channel's setting, creating the channel if it is absent (rule O-40).
    SetChannel {
        /// Which.
        channel: ChannelPattern,
        /// Which setting, to what.
        setting: ChannelSetting,
    },
    /// Remove a channel (rule A-7).
    RemoveChannel {
        /// Which.
        channel: ChannelPattern,
    },
    /// The server stops: answers every held connect, advising to come back, and holds none any more. Closing the
    /// connections when that is written is the driver's.
    Shutdown,
}

/// Names the answer to a [`Command::Confirm`]: a number never used before with that engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt(pub u64);

/// A session's setting; `None` inherits the transport's (rule O-40).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionSetting {
    /// How long its connects are held. Advised anew (rule V-11).
    Timeout(Option<Duration>),
    /// The wait between its connects. Advised anew (rule V-11).
    Interval(Option<Duration>),
    /// How long it lives without a connect; zero inherits (rule O-13).
    MaxInterval(Option<Duration>),
    /// How long its lazy messages wait.
    MaxLazyTimeout(Option<Duration>),
    /// Whether it receives its own broadcasts.
    BroadcastToPublisher(bool),
    /// Whether only meta connect replies carry its messages (rule Q-13).
    MetaConnectDeliverOnly(bool),
    /// Messages in its queue before its policy acts.
    MaxQueue(Option<usize>),
    /// Bytes in its queue before its policy acts.
    MaxQueueBytes(Option<usize>),
    /// What happens then.
    Overflow(Option<Overflow>),
    /// How long it may be idle, if idle sessions are disconnected at all (rule XV-3).
    MaxInactivity(Option<Duration>),
}

/// What holds for a session now: its own settings, its client's wishes, and the options of its transport behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionSettings {
    /// How long its connects are held (rule K-9).
    pub timeout: Duration,
    /// The wait between its connects (rule K-9).
    pub interval: Duration,
    /// How long it lives without a connect, beyond the interval (rule L-20).
    pub max_interval: Duration,
    /// How long its lazy messages wait at most.
    pub max_lazy_timeout: Duration,
    /// Whether it receives its own broadcasts.
    pub broadcast_to_publisher: bool,
    /// Whether only meta connect replies carry its messages (rule Q-13).
    pub meta_connect_deliver_only: bool,
    /// Messages in its queue before its policy acts.
    pub max_queue: usize,
    /// Bytes in its queue before its policy acts.
    pub max_queue_bytes: usize,
    /// What happens then.
    pub overflow: Overflow,
}

/// A channel's setting (rule O-40).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelSetting {
    /// Kept without subscribers and listeners.
    Persistent(bool),
    /// Its messages are lazy; false resets the lazy timeout (rule Q-36).
    Lazy(bool),
    /// Its messages are lazy and wait that long; zero resets (rule Q-36).
    LazyTimeout(Duration),
    /// Whether publishers that are subscribed to this very channel receive their own messages through it (rule Q-6).
    BroadcastToPublisher(bool),
    /// Keep the last message and deliver it to each new subscriber of this very channel, before the reply to its
    /// subscribe. False forgets it.
    Retained(bool),
    /// The application has listeners or authorizers on it: kept without subscribers (rule A-5).
    Attended(bool),
    /// How many of its messages any session's queue may hold; `None`: as many as the session's own limits let.
    Queue(Option<ChannelQueue>),
}

/// How many messages of one channel a session's queue may hold, and what happens to more. With one message and
/// [`Overflow::KeepLatest`], slow sessions get the newest only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelQueue {
    /// Messages of the channel.
    pub messages: usize,
    /// What happens when one more comes. Only messages of the channel are dropped.
    pub overflow: Overflow,
}

/// What shards tell each other. Links between two shards are first in, first out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Forward {
    /// A publish that passed everything at its origin: fan it out.
    Publish {
        /// The channel.
        channel: ChannelName,
        /// What.
        event: Frozen,
        /// The publisher, for hooks.
        sender: Option<ClientId>,
        /// Where the origin wants to know whether anybody here gets it.
        receipt: Option<Receipt>,
    },
    /// Back to a publish's origin: whether it was queued for anybody here.
    Published {
        /// Which.
        receipt: Receipt,
        /// Whether it was.
        queued: bool,
    },
    /// To a channel's home: does it exist?
    FindChannel {
        /// Which.
        channel: ChannelPattern,
    },
    /// From a channel's home: it does not exist.
    ChannelMissing {
        /// Which.
        channel: ChannelPattern,
    },
    /// To a channel's home: create it if absent.
    CreateChannel {
        /// Which.
        channel: ChannelPattern,
    },
    /// From a channel's home: it exists, with these settings.
    ChannelExists {
        /// Which.
        channel: ChannelPattern,
        /// How.
        settings: ChannelSettings,
    },
    /// From a channel's home: it could not be created.
    ChannelRefused {
        /// Which.
        channel: ChannelPattern,
    },
    /// From a channel's home: it is gone.
    ChannelRemoved {
        /// Which.
        channel: ChannelPattern,
        /// Whether the application removed it, subscribers and all (rule A-7).
        by_application: bool,
    },
    /// To a channel's home: this shard has subscribers now, or has none any more.
    Interest {
        /// Which.
        channel: ChannelPattern,
        /// Whether it has.
        wanted: bool,
    },
    /// To a channel's home: change a setting, creating the channel if absent.
    SetChannel {
        /// Which.
        channel: ChannelPattern,
        /// Which setting, to what.
        setting: ChannelSetting,
    },
    /// To a channel's home: remove it.
    RemoveChannel {
        /// Which.
        channel: ChannelPattern,
    },
}

/// All settings of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelSettings {
    /// Kept without subscribers and listeners.
    pub persistent: bool,
    /// Its messages are lazy.
    pub lazy: bool,
    /// How long they wait; zero: the session's own time.
    pub lazy_timeout: Duration,
    /// Whether publishers receive their own messages through it.
    pub broadcast_to_publisher: bool,
    /// Whether new subscribers receive the last message.
    pub retained: bool,
    /// Kept, since the application has listeners or authorizers on it.
    pub attended: bool,
    /// How many of its messages a session's queue may hold.
    pub queue: Option<ChannelQueue>,
}

/// News for observers. None can be vetoed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A handshake succeeded.
    SessionAdded {
        /// Whose.
        session: ClientId,
        /// On which connection.
        conn: ConnectionKey,
        /// Over which transport.
        transport: Transport,
    },
    /// A session is no more (rule L-34).
    SessionRemoved {
        /// Whose.
        session: ClientId,
        /// Why.
        reason: RemovalReason,
    },
    /// A session subscribed. Only with [`Points::SUBSCRIPTIONS`].
    Subscribed {
        /// Whose.
        session: ClientId,
        /// To what.
        channel: ChannelPattern,
        /// By whom.
        cause: Cause,
    },
    /// A session unsubscribed, or was removed while subscribed. Only with [`Points::SUBSCRIPTIONS`].
    Unsubscribed {
        /// Whose.
        session: ClientId,
        /// From what.
        channel: ChannelPattern,
        /// By whom.
        cause: Cause,
    },
    /// A channel was created. Only with [`Points::CHANNELS`], and only from its home shard.
    ChannelAdded {
        /// Which.
        channel: ChannelPattern,
    },
    /// A channel was removed. Only with [`Points::CHANNELS`], and only from its home shard.
    ChannelRemoved {
        /// Which.
        channel: ChannelPattern,
    },
    /// A connect is held (rule A-25). Only with [`Points::HEARTBEATS`].
    Suspended {
        /// Whose.
        session: ClientId,
        /// For how long at most.
        timeout: Duration,
    },
    /// A held connect ended (rule A-25). Only with [`Points::HEARTBEATS`].
    Resumed {
        /// Whose.
        session: ClientId,
        /// By timeout, not by messages.
        timed_out: bool,
    },
    /// A session's queue was full, and a policy acted.
    Overflowed {
        /// Whose.
        session: ClientId,
        /// The channel of the message that did not fit.
        channel: ByteString,
        /// What was done. Where it is [`Overflow::RemoveSession`], [`Notice::SessionRemoved`] follows.
        policy: Overflow,
        /// How many messages were dropped, that one included where it was.
        messages: usize,
    },
    /// Events were sent with a batch, and wait to be acknowledged (rule XA-14). Only with [`Points::BATCHES`].
    BatchSent {
        /// To whom.
        session: ClientId,
        /// The batch's number.
        batch: u64,
        /// How many, those that were sent before and are sent again included.
        messages: usize,
    },
    /// A client has acknowledged all up to a batch (rule XA-14). Only with [`Points::BATCHES`].
    BatchAcknowledged {
        /// Who.
        session: ClientId,
        /// The batch's number.
        batch: u64,
    },
    /// The answer to a [`Command::Confirm`].
    Confirmed {
        /// Which.
        receipt: Receipt,
        /// Whether anything was queued for anybody.
        queued: bool,
    },
    /// A hook did not answer in time; the answer was no.
    DecisionExpired {
        /// Which.
        id: DecisionId,
    },
}

/// Who changed a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The client, with a message; hooks at [`Point::Subscribed`] or [`Point::Unsubscribed`] are asked, too.
    Client,
    /// The application (rule A-9).
    Application,
    /// The removal of the session.
    Removal,
}

/// Why a session was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemovalReason {
    /// The client disconnected.
    ClientDisconnect,
    /// The application disconnected it.
    ServerDisconnect,
    /// The application removed it.
    Removed,
    /// No connect came in time (rule L-20).
    Expired,
    /// A connect took longer than `maxProcessing` (rule L-24).
    ProcessingTooLong,
    /// Its queue was full (rule Z-11).
    QueueOverflow,
    /// It was idle for too long (rule XV-2).
    Inactive,
    /// The server stopped.
    Shutdown,
}

impl RemovalReason {
    /// What CometD calls `timeout`: the server gave up on a silent client (rule L-34).
    pub fn is_timeout(self) -> bool {
        matches!(self, Self::Expired | Self::ProcessingTooLong)
    }

    /// A word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientDisconnect => "client_disconnect",
            Self::ServerDisconnect => "server_disconnect",
            Self::Removed => "removed",
            Self::Expired => "expired",
            Self::ProcessingTooLong => "processing_too_long",
            Self::QueueOverflow => "queue_overflow",
            Self::Inactive => "inactive",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Where hooks are registered at all. With none registered at a point, it costs nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Points(u32);

impl Points {
    /// No hook anywhere.
    pub const NONE: Self = Self(0);
    /// [`Point::Handshake`]
    pub const HANDSHAKE: Self = Self(1);
    /// [`Point::Create`]
    pub const CREATE: Self = Self(1 << 1);
    /// [`Point::Subscribe`]
    pub const SUBSCRIBE: Self = Self(1 << 2);
    /// [`Point::Publish`]
    pub const PUBLISH: Self = Self(1 << 3);
    /// [`Point::Listen`]
    pub const LISTEN: Self = Self(1 << 4);
    /// [`Point::Handshaken`]
    pub const HANDSHAKEN: Self = Self(1 << 5);
    /// [`Point::Subscribed`]
    pub const SUBSCRIBED: Self = Self(1 << 6);
    /// [`Point::Unsubscribed`]
    pub const UNSUBSCRIBED: Self = Self(1 << 7);
    /// [`Hooks::outgoing`]
    pub const OUTGOING: Self = Self(1 << 8);
    /// [`Hooks::reply`]
    pub const REPLY: Self = Self(1 << 9);
    /// [`Notice::Subscribed`], [`Notice::Unsubscribed`]
    pub const SUBSCRIPTIONS: Self = Self(1 << 10);
    /// [`Notice::ChannelAdded`], [`Notice::ChannelRemoved`]
    pub const CHANNELS: Self = Self(1 << 11);
    /// [`Notice::Suspended`], [`Notice::Resumed`]
    pub const HEARTBEATS: Self = Self(1 << 12);
    /// [`Point::Incoming`]
    pub const INCOMING: Self = Self(1 << 13);
    /// [`Notice::BatchSent`], [`Notice::BatchAcknowledged`]
    pub const BATCHES: Self = Self(1 << 14);
    /// [`Hooks::queued`]
    pub const QUEUED: Self = Self(1 << 16);
    /// [`Hooks::dequeue`]
    pub const DEQUEUE: Self = Self(1 << 17);
    /// [`Hooks::queue_maxed`]
    pub const QUEUE_MAXED: Self = Self(1 << 18);
    /// [`Hooks::send`]
    pub const SEND: Self = Self(1 << 15);
    /// [`Hooks::channel_created`]
    pub const CHANNEL_CREATED: Self = Self(1 << 19);

    /// Whether all of `other` are in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// As a number, for an atomic one.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The inverse of [`Points::bits`].
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// A place in the pipeline where a hook may decide, and wait (section G).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Point {
    /// Extensions: any message on its way in, session or not (rule G-3).
    Incoming,
    /// `canHandshake` (rule H-4).
    Handshake,
    /// `canCreate` (rule A-43).
    Create(ChannelPattern),
    /// `canSubscribe`.
    Subscribe(ChannelPattern),
    /// `canPublish`.
    Publish(ChannelName),
    /// Message listeners of a publish, meta or service message (rule G-11).
    Listen(ChannelName),
    /// A session was added; deliveries made here belong to it. Its answer does not matter.
    Handshaken,
    /// A session subscribed; deliveries made here ride in that response. Its answer does not matter.
    Subscribed(ChannelPattern),
    /// A session unsubscribed. Its answer does not matter.
    Unsubscribed(ChannelPattern),
}

impl Point {
    /// The flag that says whether anybody is to be asked here.
    pub fn flag(&self) -> Points {
        match self {
            Self::Incoming => Points::INCOMING,
            Self::Handshake => Points::HANDSHAKE,
            Self::Create(_) => Points::CREATE,
            Self::Subscribe(_) => Points::SUBSCRIBE,
            Self::Publish(_) => Points::PUBLISH,
            Self::Listen(_) => Points::LISTEN,
            Self::Handshaken => Points::HANDSHAKEN,
            Self::Subscribed(_) => Points::SUBSCRIBED,
            Self::Unsubscribed(_) => Points::UNSUBSCRIBED,
        }
    }
}

/// What a hook is asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Question {
    /// Where in the pipeline.
    pub point: Point,
    /// Whose message: the session, or the one that this handshake would make. `None`: the server's own publish, or a
    /// message without session.
    pub session: Option<ClientId>,
    /// The connection that it came on.
    pub conn: Option<ConnectionKey>,
    /// The message. At [`Point::Listen`] on a broadcast channel it has neither `id` nor `clientId` (rule G-10).
    pub message: Arc<Message>,
    /// How many publishes by listeners led to this message: 0 for what a client sent.
    pub chain: u16,
}

/// A hook's answer at once, or later.
#[derive(Debug)]
pub enum Answer {
    /// Known now.
    Now(Verdict),
    /// Must wait: the lane parks and an [`Output::Ask`] follows.
    Later,
}

/// A hook's decision and what it adds to the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Yes, no, or something else instead.
    pub ruling: Ruling,
    /// Laid over the reply's advice, field by field (rule V-24).
    pub advice: Advice,
    /// Laid over the reply's `ext`, member by member: an object.
    pub ext: Option<RawJson>,
    /// Further fields of the reply, as (key with its quotes, value).
    pub fields: Vec<(ByteString, RawJson)>,
    /// How the message may wait, where it is a publish that goes on (rule Q-30).
    pub lazy: Option<Lazy>,
}

/// The decision of a [`Verdict`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// Go on.
    Allow,
    /// Stop: the point's own error, with a reason where it takes one (rule F-30; `None`: `denied_by_security_policy`).
    Deny {
        /// What stands between the colons.
        reason: Option<ByteString>,
    },
    /// Stop with this error instead of the point's own (rule F-31).
    Fail(ErrorField),
    /// Go on with this message. Only at [`Point::Incoming`] and [`Point::Listen`].
    Replace(Box<Message>),
}

impl Verdict {
    /// Go on, nothing to add.
    pub fn allow() -> Self {
        Self { ruling: Ruling::Allow, advice: Advice::default(), ext: None, fields: Vec::new(), lazy: None }
    }

    /// Stop, for the point's usual reason.
    pub fn deny() -> Self {
        Self { ruling: Ruling::Deny { reason: None }, ..Self::allow() }
    }

    /// Stop, with a reason of one's own between the colons of the point's error (rule F-30).
    pub fn deny_because(reason: impl Into<ByteString>) -> Self {
        Self { ruling: Ruling::Deny { reason: Some(reason.into()) }, ..Self::allow() }
    }
}

/// What a per-recipient hook does to a message (rules ).
#[derive(Debug)]
pub enum Edit<T> {
    /// As it is.
    Keep,
    /// This one instead.
    Replace(T),
    /// None.
    Drop,
}

/// The application inside the engine: immediate, without clock or I/O. What it knows changes only between inputs.
pub trait Hooks {
    /// Where anything is registered at all. Read before each use of the others.
    fn points(&self) -> Points;

    /// Decides at a point, or says that the decision must wait. `effects` are carried out before the verdict.
    fn ask(&self, question: &Question, effects: &mut Vec<Command>) -> Answer;

    /// Extensions, outgoing: may change an event before it is encoded, or stop it with `false`. Called once for a
    /// broadcast, with `to` absent (rules G-12, A-33), and for each delivery to one session (rule A-11).
    fn send(&self, from: Option<&ClientId>, to: Option<&ClientId>, event: &mut Event) -> bool {
        let _ = (from, to, event);
        true
    }

    /// A channel is being created, here at its home and for the whole server: may change its settings before anybody
    /// can use it (rule A-1).
    fn channel_created(&self, channel: &ChannelPattern, settings: &mut ChannelSettings) {
        let _ = (channel, settings);
    }

    /// May change or stop an event for one recipient (rule Q-7); `from` is the sender.
    fn outgoing(&self, to: &ClientId, from: Option<&ClientId>, event: &Frozen) -> Edit<Frozen>;

    /// An event was queued for a session; the queue may be edited (rule Q-7).
    fn queued(&self, to: &ClientId, queue: &mut QueueView<'_>) {
        let _ = (to, queue);
    }

    /// What a session's queue holds is about to be sent; the queue may be edited (rule Q-14). Over a WebSocket it may
    /// be sent in parts, and this is called before each.
    fn dequeue(&self, to: &ClientId, queue: &mut QueueView<'_>) {
        let _ = (to, queue);
    }

    /// An event does not fit into a session's queue. The queue may be edited; where there is still no room then, the
    /// queue's policy acts (rule Q-9). `false`: the event is dropped, and nothing else.
    fn queue_maxed(&self, to: &ClientId, from: Option<&ClientId>, queue: &mut QueueView<'_>, event: &Frozen) -> bool {
        let _ = (to, from, queue, event);
        true
    }

    /// May change or stop a reply (rule G-14); `to` is `None` for unknown sessions.
    fn reply(&self, to: Option<&ClientId>, reply: &mut Reply) -> Edit<()>;
}

/// No hooks: every message passes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn points(&self) -> Points {
        Points::NONE
    }

    fn ask(&self, _: &Question, _: &mut Vec<Command>) -> Answer {
        Answer::Now(Verdict::allow())
    }

    fn outgoing(&self, _: &ClientId, _: Option<&ClientId>, _: &Frozen) -> Edit<Frozen> {
        Edit::Keep
    }

    fn reply(&self, _: Option<&ClientId>, _: &mut Reply) -> Edit<()> {
        Edit::Keep
    }
}

/// How much one [`drain`](crate::Engine::drain) may hand out. At least one message always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Messages.
    pub messages: usize,
    /// Bytes of encoded events.
    pub bytes: usize,
}

impl Budget {
    /// No bound: for HTTP responses, whose size the queue's limits bound.
    pub const UNLIMITED: Self = Self { messages: usize::MAX, bytes: usize::MAX };
}

/// What is left after a [`drain`](crate::Engine::drain).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// More is there: [`Output::Ready`] comes again after [`Input::Written`].
    More,
    /// Nothing now: [`Output::Ready`] comes when there is.
    Idle,
    /// The HTTP exchange has its whole response. [`Input::Written`] ends it.
    Finished,
}
