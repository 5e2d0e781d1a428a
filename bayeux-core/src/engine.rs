//! The engine's public face: one flat `match` over inputs, no rules of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bayeux_proto::{ByteString, ChannelKind, ChannelPattern, Message, Outgoing};

use crate::browser::Browsers;
use crate::channel::Initials;
use crate::channel::{ChannelKey, Channels};
use crate::config::{ActivityPolicy, Config, Transport};
use crate::connection::{Conn, ConnKey, Conns};
use crate::decision::DecisionId;
use crate::delivery::Wake;
use crate::drain::Spare;
use crate::event::{
    Budget, Cause, ChannelSettings, Command, Drained, Hooks, Input, Notice, Output, Points, Receipt, RemovalReason,
    SessionSetting, SessionSettings,
};
use crate::ext::Timestamps;
use crate::id::{BrowserId, ClientId, ConnectionKey, IdSource, ShardId};
use crate::interest::{Interest, Interests};
use crate::lane::Lanes;
use crate::queue::QueueLimits;
use crate::session::{Session, SessionKey, Sessions};
use crate::time::{Time, UnixTime};
use crate::timer::Timers;

/// One shard of a Bayeux server: sessions, subscriptions, delivery. See the crate documentation.
pub struct Engine {
    pub(crate) config: Arc<Config>,
    pub(crate) shard: ShardId,
    pub(crate) ids: Box<dyn IdSource + Send>,
    pub(crate) hooks: Box<dyn Hooks + Send>,
    /// The time of the input in progress.
    pub(crate) now: Time,
    start: Time,
    epoch: UnixTime,
    /// Advertised in handshake replies (rule H-12).
    pub(crate) connection_types: Arc<[ByteString]>,
    pub(crate) conns: Conns,
    pub(crate) sessions: Sessions,
    pub(crate) channels: Channels,
    pub(crate) browsers: Browsers,
    pub(crate) lanes: Lanes,
    pub(crate) timers: Timers<Due>,
    pub(crate) outputs: VecDeque<Output>,
    /// The number of the last hold (rule K-22).
    pub(crate) cycle: u64,
    /// Envelopes that came.
    pub(crate) arrivals: u64,
    /// The number of the last fan-out (rule Q-4).
    pub(crate) stamp: u64,
    /// Publishes of this shard that were queued for nobody here, and how many shards are still to say so too.
    pub(crate) receipts: BTreeMap<Receipt, usize>,
    /// Set by [`Command::Shutdown`].
    pub(crate) stopping: bool,
    /// What the server's own channels begin with.
    pub(crate) reserved: Initials,
    /// The time in words, for messages of one instant.
    pub(crate) timestamps: Timestamps,
    /// Whether what is delivered to a session keeps it from being idle (rule XV-1).
    pub(crate) delivery_is_activity: bool,
    /// Reused by publishes.
    pub(crate) elsewhere: Vec<ShardId>,
    /// Reused by fan-out.
    pub(crate) matched: Vec<ChannelKey>,
    /// Reused by fan-out.
    pub(crate) woken: Vec<(SessionKey, Wake)>,
    /// Buffers of the last connection that was drained, for the next: idle connections hold none.
    pub(crate) spare: Spare,
}

/// What a deadline is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Session(SessionKey),
    Channel(ChannelKey),
    Decision(DecisionId),
    Connection(ConnKey),
}

/// Replies that may wait on a WebSocket before it is read no further: enough for any client that reads its answers.
const REPLIES_MAX: usize = 1_024;

impl Engine {
    /// An engine without sessions. `start` is the time now, `epoch` the wall time now.
    pub fn new(
        config: Arc<Config>,
        shard: ShardId,
        ids: Box<dyn IdSource + Send>,
        hooks: Box<dyn Hooks + Send>,
        start: Time,
        epoch: UnixTime,
    ) -> Self {
        let connection_types =
            config.allowed_transports.iter().map(|transport| ByteString::from_static(transport.as_str())).collect();
        let reserved = Initials::of(&config.reserved_channels);
        let delivery_is_activity =
            config.activity.is_some_and(|activity| activity.policy == ActivityPolicy::ClientServer);
        Self {
            config,
            shard,
            ids,
            hooks,
            now: start,
            start,
            epoch,
            connection_types,
            conns: Conns::new(),
            sessions: Sessions::new(),
            channels: Channels::new(),
            browsers: Browsers::new(),
            lanes: Lanes::default(),
            timers: Timers::new(),
            outputs: VecDeque::new(),
            cycle: 0,
            arrivals: 0,
            stamp: 0,
            receipts: BTreeMap::new(),
            stopping: false,
            reserved,
            timestamps: Timestamps::default(),
            delivery_is_activity,
            elsewhere: Vec::new(),
            matched: Vec::new(),
            woken: Vec::new(),
            spare: Spare::default(),
        }
    }

    /// Shares with the other engines of the process what their subscribers want: `interests`, one for all of them, made
    /// for as many shards as [`Config::shards`] says. From then on a publish is forwarded only to those of them that may
    /// have somebody for it. Without it, every publish goes to every other shard.
    ///
    /// Before the first input, and by all engines of a server or none: who does not would be forwarded nothing.
    pub fn share_interests(&mut self, interests: Arc<Interests>) {
        self.channels.share(Interest::new(interests, self.shard));
    }

    /// Takes an input. Cannot fail: a peer's mistake becomes a reply or a close, a stale key is ignored. A `now`
    /// before the last one counts as the last one.
    ///
    /// # Panics
    /// Where a connection key is opened twice: a bug of the driver.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Opened { conn, link } => {
                self.conns.insert(Conn::new(conn, link));
            }
            Input::Received { conn, batch } => self.receive(conn, batch),
            Input::Written { conn } => self.written(conn),
            Input::Closed { conn } => {
                if let Some(key) = self.conns.find(conn) {
                    self.forget(key);
                }
            }
            Input::Tick => self.tick(),
            Input::Decided(decided) => self.decide(decided.id, decided.verdict),
            Input::Command(command) => self.command(command),
            Input::Forwarded { from, item } => self.forwarded(from, item),
        }
        self.run_lanes();
    }

    /// The next thing to do, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Appends what a ready connection is to write now, within `budget`. For an HTTP exchange the first call fixes the
    /// whole response. Unless nothing was appended and the result is [`Drained::Idle`], answer with
    /// [`Input::Written`].
    pub fn drain(&mut self, now: Time, conn: ConnectionKey, budget: Budget, out: &mut Vec<Outgoing>) -> Drained {
        self.now = self.now.max(now);
        self.drain_connection(conn, budget, out)
    }

    /// When the next [`Input::Tick`] is due. Read again after every `handle` and `drain`. At times it finds nothing to do:
    /// the deadlines of sessions move on with every connect, and their timers do not.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Whether the connection may send another envelope: where false, stop reading from it until after the next
    /// output.
    pub fn wants_input(&self, conn: ConnectionKey) -> bool {
        self.conns
            .find(conn)
            .and_then(|key| self.conns.get(key))
            .is_some_and(|conn| self.lane_has_room(conn) && conn.replies.len() + conn.out.len() < REPLIES_MAX)
    }

    /// Whether a message of the connection waits for a hook or for another shard. What hooks may want to know of the
    /// connection is needed until then, and again with the next envelope.
    pub fn is_processing(&self, conn: ConnectionKey) -> bool {
        self.conns.find(conn).and_then(|key| self.conns.get(key)).is_some_and(|conn| conn.lane.is_some())
    }

    /// Whether the WebSocket `conn` carries a live session, so that its envelopes stay in this shard whatever they
    /// name (rules TW-10, E-66).
    pub fn is_bound(&self, conn: ConnectionKey) -> bool {
        self.session_of(conn).is_some()
    }

    /// The live session that the connection carries, or that its request named.
    pub fn session_of(&self, conn: ConnectionKey) -> Option<&ClientId> {
        let session = self.conns.find(conn).and_then(|key| self.conns.get(key))?.session?;
        self.sessions.get(session).map(|session| &session.id)
    }

    /// Whether all that the connection waits for is the end of a held connect. Where so, its envelope was processed.
    pub fn is_held(&self, conn: ConnectionKey) -> bool {
        let Some(key) = self.conns.find(conn) else { return false };
        let session = self.conns.get(key).and_then(|conn| conn.session).and_then(|session| self.sessions.get(session));
        session.and_then(|session| session.held.as_ref()).is_some_and(|held| held.conn == key)
    }

    /// Whether there is such a session.
    pub fn is_session(&self, id: &ClientId) -> bool {
        self.find_id(id).is_some()
    }

    /// Whether the session named `id` was made by that browser (rule TH-11).
    pub fn is_browser_of(&self, browser: &BrowserId, id: &str) -> bool {
        let session = self.sessions.find(id).and_then(|key| self.sessions.get(key));
        session.is_some_and(|session| self.browsers.is(session.browser, browser))
    }

    /// What a channel is set to; `None` where this shard knows no such channel. Its home always does.
    pub fn channel_settings(&self, name: &str) -> Option<ChannelSettings> {
        if crate::channel::is_meta_channel(name) {
            return Some(self.default_settings(ChannelKind::Meta));
        }
        let key = self.channels.find(name)?;
        self.channels.get(key).map(|channel| channel.settings)
    }

    /// The channels that this shard knows, in no particular order.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelPattern> {
        self.channels.iter().map(|channel| &channel.pattern)
    }

    /// This shard's subscribers of a channel, in the order in which they subscribed.
    pub fn subscribers(&self, name: &str) -> impl Iterator<Item = &ClientId> {
        let channel = self.channels.find(name).and_then(|key| self.channels.get(key));
        let keys = channel.into_iter().flat_map(|channel| channel.subscribers.values());
        keys.filter_map(|key| self.sessions.get(*key)).map(|session| &session.id)
    }

    /// What a session is subscribed to, in no particular order. None where there is no such session.
    pub fn subscriptions(&self, session: &ClientId) -> impl Iterator<Item = &ChannelPattern> {
        let session = self.sessions.find(session.as_str()).and_then(|key| self.sessions.get(key));
        let channels = session.into_iter().flat_map(|session| &session.subscriptions);
        channels.filter_map(|(key, _)| self.channels.get(*key)).map(|channel| &channel.pattern)
    }

    /// Live sessions.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Channels that this shard knows.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// The wall time of the input in progress.
    pub fn wall_time(&self) -> UnixTime {
        let passed = self.now.since(self.start).as_millis();
        UnixTime::from_millis(self.epoch.as_millis().saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    /// Says what the wall time is, for it need not pass as time does: clocks are set, and drift. `now` counts as in
    /// [`Engine::handle`].
    pub fn set_wall_time(&mut self, now: Time, wall: UnixTime) {
        self.now = self.now.max(now);
        (self.start, self.epoch) = (self.now, wall);
    }

    /// What holds for a session now.
    pub fn session_settings(&self, session: &ClientId) -> Option<SessionSettings> {
        let session = self.sessions.find(session.as_str()).and_then(|key| self.sessions.get(key))?;
        let options = self.config.transport(session.transport);
        let QueueLimits { messages, bytes, overflow } = session.queue_limits(options);
        Some(SessionSettings {
            timeout: session.effective_timeout(options),
            interval: session.effective_interval(options),
            max_interval: session.effective_max_interval(options),
            max_lazy_timeout: session.settings.own().max_lazy_timeout.unwrap_or(options.max_lazy_timeout),
            broadcast_to_publisher: session.settings.broadcast_to_publisher,
            meta_connect_deliver_only: session.delivers_in_connects_only(options),
            max_queue: messages,
            max_queue_bytes: bytes,
            overflow,
        })
    }

    /// Says which transports there are, for handshake replies to name: of those, the ones that the options allow (rule
    /// H-12). Where that leaves none, and before, all that the options allow are named.
    pub fn set_transports(&mut self, transports: &[Transport]) {
        let allowed = || self.config.allowed_transports.iter();
        let offered = allowed().any(|transport| transports.contains(transport));
        let named = allowed().filter(|transport| !offered || transports.contains(transport));
        self.connection_types = named.map(|transport| ByteString::from_static(transport.as_str())).collect();
    }

    /// The lag between a session's client and the server, as the client estimates it (rule XT-2).
    pub fn lag(&self, session: &ClientId) -> Option<Duration> {
        let session = self.sessions.find(session.as_str()).and_then(|key| self.sessions.get(key))?;
        session.settings.own().lag.map(|millis| Duration::from_millis(millis.into()))
    }

    /// Milliseconds of the engine's own time.
    pub(crate) fn uptime_ms(&self) -> u64 {
        self.now.as_nanos() / 1_000_000
    }

    fn tick(&mut self) {
        while let Some(due) = self.timers.pop(self.now) {
            match due {
                Due::Session(key) => self.session_due(key),
                Due::Channel(key) => self.channel_due(key),
                Due::Decision(id) => self.decision_expired(id),
                Due::Connection(key) => self.connection_due(key),
            }
        }
    }

    /// Carries out a wish of the application.
    pub(crate) fn command(&mut self, command: Command) {
        self.carry_out(command, None);
    }

    fn carry_out(&mut self, command: Command, receipt: Option<Receipt>) {
        match command {
            Command::Confirm { command, receipt } => self.carry_out(*command, Some(receipt)),
            // Meta channels are the protocol's own.
            Command::Publish { channel, .. } if channel.kind() == ChannelKind::Meta => self.confirm(receipt, false),
            Command::Publish { channel, event, from, chain } => {
                let from = from.and_then(|id| self.find_id(&id));
                if self.hooks.points().contains(Points::LISTEN) {
                    let lazy = event.lazy;
                    let mut message = Message::default();
                    message.channel = Some(channel.text().clone());
                    message.data = event.data;
                    message.ext = event.ext;
                    message.fields = event.fields;
                    self.run_application_publish(channel, message, lazy, from, chain, receipt);
                } else {
                    let mut event = event;
                    event.channel = channel.text().clone();
                    // Nobody is told that an extension stopped it.
                    let _ = self.publish(channel, event, from, receipt);
                }
            }
            Command::Deliver { to, event, from } => {
                let queued = self.deliver(&to, from.as_ref(), event);
                self.confirm(receipt, queued);
            }
            Command::Disconnect { session } => self.terminate_id(&session, RemovalReason::ServerDisconnect),
            Command::Remove { session } => self.terminate_id(&session, RemovalReason::Removed),
            Command::Hold { session } => {
                if let Some(key) = self.find_id(&session) {
                    self.hold(key);
                }
            }
            Command::Release { session } => {
                if let Some(key) = self.find_id(&session) {
                    self.release(key);
                }
            }
            Command::Subscribe { session, channel } => {
                if let Some(key) = self.find_id(&session) {
                    self.subscribe_by_command(key, &channel);
                }
            }
            Command::Unsubscribe { session, channel } => {
                if let Some(key) = self.find_id(&session) {
                    self.unsubscribe(key, &channel, Cause::Application);
                }
            }
            Command::SetSession { session, setting } => {
                if let Some(key) = self.find_id(&session) {
                    self.set_session(key, setting);
                }
            }
            Command::CreateChannel { channel } => self.ensure_channel(channel),
            Command::SetChannel { channel, setting } => self.set_channel(channel, setting),
            Command::RemoveChannel { channel } => self.remove_channel(channel),
            Command::Shutdown => self.shut_down(),
        }
    }

    fn find_id(&self, id: &ClientId) -> Option<SessionKey> {
        self.sessions.find(id.as_str())
    }

    fn terminate_id(&mut self, id: &ClientId, reason: RemovalReason) {
        if let Some(key) = self.find_id(id) {
            self.terminate(key, reason, None);
        }
    }

    /// Changes a session's setting (rule O-40).
    fn set_session(&mut self, key: SessionKey, setting: SessionSetting) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Session { settings, advised, .. } = session;
        match setting {
            SessionSetting::Timeout(timeout) => {
                settings.change(|times| times.timeout = timeout);
                *advised = None;
            }
            SessionSetting::Interval(interval) => {
                settings.change(|times| times.interval = interval);
                *advised = None;
            }
            SessionSetting::MaxInterval(interval) => settings.change(|times| times.max_interval = interval),
            SessionSetting::MaxLazyTimeout(timeout) => settings.change(|times| times.max_lazy_timeout = timeout),
            SessionSetting::MaxQueue(messages) => settings.change(|own| own.max_queue = messages),
            SessionSetting::MaxQueueBytes(bytes) => settings.change(|own| own.max_queue_bytes = bytes),
            SessionSetting::Overflow(policy) => settings.change(|own| own.overflow = policy),
            SessionSetting::MaxInactivity(time) => settings.change(|own| own.max_inactivity = time),
            SessionSetting::BroadcastToPublisher(on) => settings.broadcast_to_publisher = on,
            SessionSetting::MetaConnectDeliverOnly(on) => {
                settings.meta_connect_deliver_only = on;
                if session.has_due() && session.hold_depth == 0 {
                    self.flush(key);
                }
            }
        }
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(Box::new(notice)));
    }

    /// A notice about a session that is there, made only where somebody listens.
    pub(crate) fn notice_of(&mut self, point: Points, key: SessionKey, notice: impl FnOnce(ClientId) -> Notice) {
        if self.hooks.points().contains(point)
            && let Some(session) = self.sessions.get(key)
        {
            let notice = notice(session.id.clone());
            self.notice(notice);
        }
    }

    /// A notice that is made only where somebody listens.
    pub(crate) fn notice_at(&mut self, point: Points, notice: impl FnOnce() -> Notice) {
        if self.hooks.points().contains(point) {
            self.notice(notice());
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("shard", &self.shard)
            .field("now", &self.now)
            .field("sessions", &self.sessions.len())
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}
