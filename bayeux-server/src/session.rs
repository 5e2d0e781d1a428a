//! Sessions as the application sees them.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bayeux_core::{
    ClientId, Command, Overflow, Points, QueueView, RemovalReason, SessionSetting, SessionSettings, ShardId, Transport,
};
use bayeux_proto::{BinaryData, ByteString, ChannelName, ChannelPattern, Event};

use crate::attributes::Attributes;
use crate::channel::pattern;
use crate::data::IntoData;
use crate::effects;
use crate::error::SendError;
use crate::extension::{DynExtension, Extension, OutgoingMessage};
use crate::hooks::{Added, Entry, HookId, Hooked, Listener, Observer, Registration, Removed};
use crate::message::Subscribed;
use crate::server::Server;

mod map;

pub(crate) use map::SessionMap;

/// A session: one client that handshook and was not removed since. Cheap to clone; what is done to a removed session
/// does nothing.
///
/// Hooks of one session are registered here, those of all sessions with the [`Server`]. They and the attributes go with
/// the session.
#[derive(Clone)]
pub struct Session {
    facts: Arc<Facts>,
    server: Server,
}

/// What is known of a session outside its engine.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) id: ClientId,
    pub(crate) transport: Transport,
    pub(crate) user_agent: Option<Arc<str>>,
    /// What most sessions have none of.
    extras: OnceLock<Box<Extras>>,
}

#[derive(Default)]
struct Extras {
    attributes: Attributes,
    hooks: RwLock<Arc<SessionHooks>>,
}

/// Lets a message into the session's queue, or not.
type MessageListener = Arc<dyn Fn(&OutgoingMessage<'_>) -> bool + Send + Sync>;

/// The hooks of one session.
#[derive(Clone, Default)]
pub(crate) struct SessionHooks {
    pub(crate) extensions: Hooked<Arc<dyn DynExtension>>,
    pub(crate) messages: Hooked<MessageListener>,
    pub(crate) added: Hooked<Listener<Added, ()>>,
    pub(crate) removed: Hooked<Listener<Removed, ()>>,
    pub(crate) subscribed: Hooked<Listener<Subscribed, ()>>,
    pub(crate) unsubscribed: Hooked<Listener<Subscribed, ()>>,
    pub(crate) heartbeats: Hooked<Observer<HeartBeat>>,
    pub(crate) queued: Hooked<QueueListener>,
    pub(crate) dequeue: Hooked<QueueListener>,
    pub(crate) queue_maxed: Hooked<QueueMaxedListener>,
    pub(crate) batches: Hooked<Observer<Acknowledgement>>,
}

/// Sees a session's queue, and may edit it.
type QueueListener = Arc<dyn Fn(&mut QueueView<'_>) + Send + Sync>;

/// Sees a full queue and what does not fit.
type QueueMaxedListener = Arc<dyn Fn(&mut QueueView<'_>, &OutgoingMessage<'_>) -> bool + Send + Sync>;

/// A session's queue was full, and a policy acted (rules Q-9, Z-11).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QueueOverflow {
    /// Whose.
    pub session: Session,
    /// The channel of the message that did not fit.
    pub channel: ByteString,
    /// What was done.
    pub policy: Overflow,
    /// How many messages were dropped, that one included where it was.
    pub messages: usize,
}

/// How far a session with acknowledged messages is (rule XA-14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// Messages were sent.
    Sent {
        /// The number of their batch.
        batch: u64,
        /// How many, those that are sent again included.
        messages: usize,
    },
    /// The client has received everything up to a batch.
    Received {
        /// The number of that batch.
        batch: u64,
    },
}

/// A session's meta connect, and so the sign that its client is there (rule A-25).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartBeat {
    /// A connect is held.
    Suspended {
        /// For how long at most.
        timeout: Duration,
    },
    /// A held connect ended.
    Resumed {
        /// By its timeout, not by messages.
        timed_out: bool,
    },
}

impl Facts {
    pub(crate) fn new(id: ClientId, transport: Transport, user_agent: Option<Arc<str>>) -> Self {
        Self { id, transport, user_agent, extras: OnceLock::new() }
    }

    fn extras(&self) -> &Extras {
        self.extras.get_or_init(Box::default)
    }
}

/// # What it is
impl Session {
    pub(crate) fn new(facts: Arc<Facts>, server: Server) -> Self {
        Self { facts, server }
    }

    /// The session's `clientId`.
    pub fn id(&self) -> &ClientId {
        &self.facts.id
    }

    /// The transport that its handshake came over.
    pub fn transport(&self) -> Transport {
        self.facts.transport
    }

    /// Whether it is a session of this process (rule A-64).
    pub fn is_local(&self) -> bool {
        self.transport() == Transport::Local
    }

    /// The `User-Agent` header of its handshake.
    pub fn user_agent(&self) -> Option<&str> {
        self.facts.user_agent.as_deref()
    }

    /// The server that it is a session of.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Whether the session is there still.
    pub fn is_alive(&self) -> bool {
        self.server.session(self.id().as_str()).is_some()
    }

    /// The channels that it is subscribed to, in no particular order. Empty inside hooks that may not wait.
    pub fn subscriptions(&self) -> Vec<ChannelPattern> {
        let subscriptions = |engine: &bayeux_core::Engine| engine.subscriptions(self.id()).cloned().collect();
        self.server.ask_shard(self.shard(), subscriptions).unwrap_or_default()
    }

    /// The lag between its client and the server, as the client estimates it; only where the client asks for the time
    /// (rule XT-2). `None` inside hooks that may not wait.
    pub fn lag(&self) -> Option<Duration> {
        self.server.ask_shard(self.shard(), |engine| engine.lag(self.id())).flatten()
    }

    /// The attribute of that name, if it has one of that type.
    pub fn attribute<T: Send + Sync + 'static>(&self, name: &str) -> Option<Arc<T>> {
        self.facts.extras.get()?.attributes.get(name)
    }

    /// Sets an attribute. One that a policy sets while it decides on the handshake is there for the session's life.
    pub fn set_attribute<T: Send + Sync + 'static>(&self, name: &str, value: T) {
        self.facts.extras().attributes.set(name, value);
    }

    /// Removes an attribute; says whether it was there.
    pub fn remove_attribute(&self, name: &str) -> bool {
        self.facts.extras.get().is_some_and(|extras| extras.attributes.remove(name))
    }

    /// The names of its attributes, in alphabetical order.
    pub fn attribute_names(&self) -> Vec<String> {
        self.facts.extras.get().map(|extras| extras.attributes.names()).unwrap_or_default()
    }
}

/// # What to do with it
impl Session {
    /// Delivers a message to this session alone, whatever it is subscribed to (rule A-11).
    ///
    /// Called in a hook, it is carried out together with the hook's verdict.
    ///
    /// # Errors
    /// [`SendError`] where `channel` is no channel name or `data` does not serialise.
    pub fn deliver(&self, channel: &str, data: impl IntoData) -> Result<(), SendError> {
        let channel = self.server.channel_name(channel)?;
        self.deliver_event(Event::new(channel.text().clone(), data.into_data()?))
    }

    /// Delivers binary data to this session alone (section XB).
    ///
    /// # Errors
    /// [`SendError`] where `channel` is no channel name.
    pub fn deliver_binary(&self, channel: &str, data: &BinaryData) -> Result<(), SendError> {
        let channel = self.server.channel_name(channel)?;
        self.deliver_event(Event::binary(channel.text().clone(), data))
    }

    /// As [`Session::deliver`], from another session, which hooks then see as the sender (rule Q-11).
    ///
    /// # Errors
    /// As [`Session::deliver`].
    pub fn deliver_from(&self, from: &Self, channel: &str, data: impl IntoData) -> Result<(), SendError> {
        let channel = self.server.channel_name(channel)?;
        let event = Event::new(channel.text().clone(), data.into_data()?);
        let from = Some(from.id().clone());
        self.server.command(self.shard(), Command::Deliver { to: self.id().clone(), event, from })
    }

    /// Delivers an event to this session alone. Its `id` is kept (rule M-13), and so is how it may wait.
    ///
    /// # Errors
    /// [`SendError::Flooded`]
    pub fn deliver_event(&self, event: Event) -> Result<(), SendError> {
        self.server.command(self.shard(), Command::Deliver { to: self.id().clone(), event, from: None })
    }

    /// Publishes as this session: listeners see it as the sender, and whether it receives the message itself depends
    /// on `broadcastToPublisher` (rules ). Waits while the links between shards are full.
    ///
    /// # Errors
    /// [`SendError`] where `channel` is no channel name or `data` does not serialise.
    pub async fn publish(&self, channel: &str, data: impl IntoData) -> Result<(), SendError> {
        let (channel, event) = self.server.event(channel, data)?;
        self.server.publish_event(channel, event, Some(self.id().clone())).await
    }

    /// Disconnects it with notice: queued messages are sent, then a disconnect message (rule D-10).
    pub fn disconnect(&self) {
        self.command(Command::Disconnect { session: self.id().clone() });
    }

    /// Removes it without notice: its next message is answered `402::session_unknown` (rule D-11).
    pub fn remove(&self) {
        self.command(Command::Remove { session: self.id().clone() });
    }

    /// Subscribes it to a channel; no policy or authorizer is asked (rule A-9).
    ///
    /// # Errors
    /// [`SendError`] where `channel` is no channel.
    pub fn subscribe(&self, channel: &str) -> Result<(), SendError> {
        let channel = pattern(channel, self.server.config())?;
        self.server.command(self.shard(), Command::Subscribe { session: self.id().clone(), channel })
    }

    /// Takes back a subscription (rule A-9).
    ///
    /// # Errors
    /// [`SendError`] where `channel` is no channel.
    pub fn unsubscribe(&self, channel: &str) -> Result<(), SendError> {
        let channel = pattern(channel, self.server.config())?;
        self.server.command(self.shard(), Command::Unsubscribe { session: self.id().clone(), channel })
    }

    /// Holds back what is delivered to it until the guard is dropped, so that it comes in one response (rules Q-40,
    /// Batches may be nested.
    pub fn start_batch(&self) -> SessionBatch {
        self.command(Command::Hold { session: self.id().clone() });
        SessionBatch(self.clone())
    }

    /// Runs `work` in a batch.
    pub fn batch<T>(&self, work: impl FnOnce(&Self) -> T) -> T {
        let _batch = self.start_batch();
        work(self)
    }
}

/// # Its settings
///
/// `None` inherits what the transport's options say (rule O-40).
impl Session {
    /// What holds for it now. `None` where it is gone, and inside hooks that may not wait.
    pub fn settings(&self) -> Option<SessionSettings> {
        self.server.ask_shard(self.shard(), |engine| engine.session_settings(self.id())).flatten()
    }

    /// How long its connects are held. The client is told with its next connect (rule V-11).
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        self.set(SessionSetting::Timeout(timeout));
    }

    /// The wait between its connects. The client is told with its next connect (rule V-11).
    pub fn set_interval(&self, interval: Option<Duration>) {
        self.set(SessionSetting::Interval(interval));
    }

    /// How long it lives without a connect, beyond the interval; zero inherits (rule O-13).
    pub fn set_max_interval(&self, interval: Option<Duration>) {
        self.set(SessionSetting::MaxInterval(interval));
    }

    /// How long its lazy messages wait at most.
    pub fn set_max_lazy_timeout(&self, timeout: Option<Duration>) {
        self.set(SessionSetting::MaxLazyTimeout(timeout));
    }

    /// Whether it receives its own broadcasts (rule Q-6).
    pub fn set_broadcast_to_publisher(&self, on: bool) {
        self.set(SessionSetting::BroadcastToPublisher(on));
    }

    /// Whether only replies to its connects carry messages (rule Q-13).
    pub fn set_meta_connect_delivery_only(&self, on: bool) {
        self.set(SessionSetting::MetaConnectDeliverOnly(on));
    }

    /// How many messages its queue may hold before its policy acts.
    pub fn set_max_queue(&self, messages: Option<usize>) {
        self.set(SessionSetting::MaxQueue(messages));
    }

    /// How many bytes its queue may hold before its policy acts.
    pub fn set_max_queue_bytes(&self, bytes: Option<usize>) {
        self.set(SessionSetting::MaxQueueBytes(bytes));
    }

    /// What happens when its queue is full.
    pub fn set_overflow(&self, policy: Option<Overflow>) {
        self.set(SessionSetting::Overflow(policy));
    }

    /// How long it may be idle, where idle sessions are disconnected at all
    /// ([`Config::activity`](bayeux_core::Config::activity)).
    pub fn set_max_inactivity(&self, time: Option<Duration>) {
        self.set(SessionSetting::MaxInactivity(time));
    }

    /// Changes a setting.
    pub fn set(&self, setting: SessionSetting) {
        self.command(Command::SetSession { session: self.id().clone(), setting });
    }
}

/// # Its hooks
impl Session {
    /// Adds an extension for this session's messages alone. One that is added while the handshake is decided on sees its
    /// reply (rule A-34).
    pub fn add_extension(&self, extension: impl Extension) -> Registration {
        let points = Points::INCOMING.with(Points::OUTGOING).with(Points::REPLY);
        self.add(points, Arc::new(extension) as Arc<dyn DynExtension>, |hooks, entry| hooks.extensions.push(entry))
    }

    /// Calls `listener` with each message before it is queued for this session; where it returns false, the message is
    /// dropped (rule Q-7). Called inside the server's engine: see [`Extension::outgoing`].
    pub fn on_message(&self, listener: impl Fn(&OutgoingMessage<'_>) -> bool + Send + Sync + 'static) -> Registration {
        let listener: MessageListener = Arc::new(listener);
        self.add(Points::OUTGOING, listener, |hooks, entry| hooks.messages.push(entry))
    }

    /// Calls `listener` when the handshake has succeeded. For who meets the session before: a policy.
    pub fn on_added<F, R>(&self, listener: F) -> Registration
    where
        F: Fn(Self) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener: Listener<Added, ()> = Arc::new(move |(session, _)| Box::pin(listener(session)));
        self.add(Points::HANDSHAKEN, listener, |hooks, entry| hooks.added.push(entry))
    }

    /// Calls `listener` when the session was removed, behind the server's listeners (rule A-24).
    pub fn on_removed<F, R>(&self, listener: F) -> Registration
    where
        F: Fn(Self, RemovalReason) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener: Listener<Removed, ()> = Arc::new(move |(session, reason)| Box::pin(listener(session, reason)));
        self.add(Points::NONE, listener, |hooks, entry| hooks.removed.push(entry))
    }

    /// Calls `listener` with each subscription of the session, before its reply is sent.
    pub fn on_subscribed<F, R>(&self, listener: F) -> Registration
    where
        F: Fn(Subscribed) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener: Listener<Subscribed, ()> = Arc::new(move |subscribed| Box::pin(listener(subscribed)));
        let points = Points::SUBSCRIBED.with(Points::SUBSCRIPTIONS);
        self.add(points, listener, |hooks, entry| hooks.subscribed.push(entry))
    }

    /// Calls `listener` with each subscription of the session that ends.
    pub fn on_unsubscribed<F, R>(&self, listener: F) -> Registration
    where
        F: Fn(Subscribed) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener: Listener<Subscribed, ()> = Arc::new(move |subscribed| Box::pin(listener(subscribed)));
        let points = Points::UNSUBSCRIBED.with(Points::SUBSCRIPTIONS);
        self.add(points, listener, |hooks, entry| hooks.unsubscribed.push(entry))
    }

    /// Calls `listener` when a connect of the session is held, and when it ends (rule A-25). Called inside the server's
    /// engine: it neither waits nor computes for long.
    pub fn on_heartbeat(&self, listener: impl Fn(&HeartBeat) + Send + Sync + 'static) -> Registration {
        let listener: Observer<HeartBeat> = Arc::new(listener);
        self.add(Points::HEARTBEATS, listener, |hooks, entry| hooks.heartbeats.push(entry))
    }

    /// Calls `listener` with the session's queue each time that something was added to it. It may edit the queue: with
    /// [`QueueView::keep_latest`] it conflates. Called inside the server's engine: it neither waits nor computes for
    /// long.
    pub fn on_queued(&self, listener: impl Fn(&mut QueueView<'_>) + Send + Sync + 'static) -> Registration {
        let listener: QueueListener = Arc::new(listener);
        self.add(Points::QUEUED, listener, |hooks, entry| hooks.queued.push(entry))
    }

    /// Calls `listener` with the session's queue right before it is sent, the last chance to edit it (rule Q-14). To
    /// conflate here costs one pass for all that came since the last response. Called as [`Session::on_queued`] is.
    pub fn on_dequeue(&self, listener: impl Fn(&mut QueueView<'_>) + Send + Sync + 'static) -> Registration {
        let listener: QueueListener = Arc::new(listener);
        self.add(Points::DEQUEUE, listener, |hooks, entry| hooks.dequeue.push(entry))
    }

    /// Calls `listener` with the session's queue and a message for which it has no room (rule Q-9). It may make room;
    /// where it does not, the session's policy acts. Where it returns false, the message is dropped, and that is all.
    /// Called as [`Session::on_queued`] is.
    pub fn on_queue_maxed(
        &self,
        listener: impl Fn(&mut QueueView<'_>, &OutgoingMessage<'_>) -> bool + Send + Sync + 'static,
    ) -> Registration {
        let listener: QueueMaxedListener = Arc::new(listener);
        self.add(Points::QUEUE_MAXED, listener, |hooks, entry| hooks.queue_maxed.push(entry))
    }

    /// Calls `listener` when messages were sent to a session that acknowledges, and when it has (rule XA-14). Called
    /// inside the server's engine: it neither waits nor computes for long.
    pub fn on_acknowledgement(&self, listener: impl Fn(&Acknowledgement) + Send + Sync + 'static) -> Registration {
        let listener: Observer<Acknowledgement> = Arc::new(listener);
        self.add(Points::BATCHES, listener, |hooks, entry| hooks.batches.push(entry))
    }

    fn add<T>(&self, points: Points, hook: T, place: impl FnOnce(&mut SessionHooks, Entry<T>)) -> Registration {
        let id = self.server.registry().next_id();
        self.change_hooks(|hooks| place(hooks, Entry { id, hook }));
        self.server.registry().session_hooks_at(points);
        Registration::of_session(self, id)
    }

    pub(crate) fn remove_hook(&self, id: HookId) {
        self.change_hooks(|hooks| hooks.remove(id));
    }

    fn change_hooks(&self, change: impl FnOnce(&mut SessionHooks)) {
        // As in the registry: what is taken out may hold anything.
        effects::inside(|| {
            let mut hooks = self.facts.extras().hooks.write().unwrap_or_else(PoisonError::into_inner);
            change(Arc::make_mut(&mut hooks));
        });
        self.server.registry().carry_out_deferred();
    }

    pub(crate) fn has_hooks(&self) -> bool {
        self.facts.extras.get().is_some()
    }

    pub(crate) fn hooks(&self) -> Arc<SessionHooks> {
        static NONE: LazyLock<Arc<SessionHooks>> = LazyLock::new(Arc::default);
        match self.facts.extras.get() {
            Some(extras) => Arc::clone(&extras.hooks.read().unwrap_or_else(PoisonError::into_inner)),
            None => Arc::clone(&NONE),
        }
    }
}

impl SessionHooks {
    fn remove(&mut self, id: HookId) {
        let Self {
            extensions,
            messages,
            added,
            removed,
            subscribed,
            unsubscribed,
            heartbeats,
            queued,
            dequeue,
            queue_maxed,
            batches,
        } = self;
        extensions.retain(|entry| entry.id != id);
        messages.retain(|entry| entry.id != id);
        added.retain(|entry| entry.id != id);
        removed.retain(|entry| entry.id != id);
        subscribed.retain(|entry| entry.id != id);
        unsubscribed.retain(|entry| entry.id != id);
        heartbeats.retain(|entry| entry.id != id);
        queued.retain(|entry| entry.id != id);
        dequeue.retain(|entry| entry.id != id);
        queue_maxed.retain(|entry| entry.id != id);
        batches.retain(|entry| entry.id != id);
    }
}

impl Session {
    pub(crate) fn shard(&self) -> ShardId {
        self.id().shard()
    }

    /// Does what has no answer. A hook that has done too much already is told in the log.
    fn command(&self, command: Command) {
        if let Err(error) = self.server.command(self.shard(), command) {
            tracing::error!(session = %self.id(), %error, "a command is dropped");
        }
    }
}

/// Two handles are equal where they are of one session.
impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Session {}

/// A batch on a session; it ends when this is dropped.
#[must_use = "the batch ends when this is dropped"]
#[derive(Debug)]
pub struct SessionBatch(Session);

impl Drop for SessionBatch {
    fn drop(&mut self) {
        self.0.command(Command::Release { session: self.0.id().clone() });
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", self.id()).field("transport", &self.transport()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Extras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extras").field("attributes", &self.attributes).finish_non_exhaustive()
    }
}

/// User agents by value, so that sessions of the same browser share one text.
#[derive(Default)]
pub(crate) struct UserAgents(RwLock<HashSet<Arc<str>>>);

impl UserAgents {
    /// Different texts that are shared; what comes beyond has a text of its own.
    const SHARED_MAX: usize = 4_096;
    /// Bytes of one that are kept.
    const LENGTH_MAX: usize = 512;

    pub(crate) fn intern(&self, text: &str) -> Arc<str> {
        let cut =
            text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= Self::LENGTH_MAX).last();
        let text = text.get(..cut.unwrap_or(0)).unwrap_or_default();
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < Self::SHARED_MAX {
            known.insert(Arc::clone(&new));
        }
        new
    }
}

impl Server {
    pub(crate) fn event(&self, channel: &str, data: impl IntoData) -> Result<(ChannelName, Event), SendError> {
        let channel = self.channel_name(channel)?;
        let event = Event::new(channel.text().clone(), data.into_data()?);
        Ok((channel, event))
    }
}
