//! Channels as the application sees them (section 21.1).

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bayeux_core::{ChannelQueue, ChannelSetting, ChannelSettings, ClientId, Command, Config, Engine, Input, ShardId};
use bayeux_proto::{ByteString, ChannelError, ChannelKind, ChannelName, ChannelPattern, Event, Lazy};

use crate::attributes::Attributes;
use crate::authorizer::{Authorizer, DynAuthorizer};
use crate::data::IntoData;
use crate::effects;
use crate::error::SendError;
use crate::hooks::{ChannelHooks, Entry, HookId, Listener, Observer, Registration};
use crate::listeners::message_listener;
use crate::message::{Incoming, Outcome, Subscribed};
use crate::server::Server;
use crate::session::Session;

/// A channel, exact or wild. Cheap to clone.
///
/// This is a name and a server: what is done to a channel that was removed meanwhile does nothing, save for publishing,
/// which needs no channel, and for settings and hooks, which create it again.
///
/// A channel that is not persistent, has no subscribers and no listeners or authorizers of its own, and retains nothing,
/// is removed after three sweeps (rule A-5), and with it its settings and attributes.
#[derive(Clone)]
pub struct Channel {
    pattern: ChannelPattern,
    server: Server,
}

/// # Channels
impl Server {
    /// The channel of that name, if it exists (rule A-8). Never creates one. Inside hooks that may not wait there is
    /// none.
    pub fn channel(&self, name: &str) -> Option<Channel> {
        let pattern = pattern(name, self.config()).ok()?;
        let channel = self.handle_of(pattern);
        channel.settings().is_some().then_some(channel)
    }

    /// The channel of that name, created if it is absent.
    ///
    /// # Errors
    /// [`SendError`] where `name` is no channel, or a meta channel that is none of the five.
    pub fn create_channel_if_absent(&self, name: &str) -> Result<Channel, SendError> {
        self.create_channel_with(name, |_| {})
    }

    /// The channel of that name, created and configured by `initialise` if it is absent (rule A-1): nobody sees it half
    /// configured, and what `initialise` does counts for the very message that created the channel, should a client's
    /// have been first. Initialisers of the server run behind `initialise`.
    ///
    /// # Errors
    /// [`SendError`] where `name` is no channel or a meta channel, or where this is called inside a hook that may not
    /// wait.
    pub fn create_channel_with(
        &self,
        name: &str,
        initialise: impl FnOnce(&mut NewChannel<'_>) + Send + 'static,
    ) -> Result<Channel, SendError> {
        let channel = pattern(name, self.config())?;
        if effects::is_inside() {
            return Err(SendError::Inside);
        }
        if channel.kind() != ChannelKind::Meta {
            let home = ShardId::home_of(channel.as_str(), self.config().shards);
            self.shard(home).create_channel(self, channel.detach(), Box::new(initialise));
        }
        let channel = self.handle_of(channel);
        if channel.settings().is_some() { Ok(channel) } else { Err(SendError::TooManyChannels) }
    }

    /// All channels at this moment, in alphabetical order. Costs time and memory for each.
    pub fn channels(&self) -> Vec<Channel> {
        let mut names = std::collections::BTreeSet::new();
        for index in 0..self.config().shards {
            let shard = ShardId(index);
            let home = |channel: &&ChannelPattern| ShardId::home_of(channel.as_str(), self.config().shards) == shard;
            let list = |engine: &Engine| engine.channels().filter(home).cloned().collect::<Vec<_>>();
            names.extend(self.ask_shard(shard, list).unwrap_or_default());
        }
        names.into_iter().map(|pattern| self.handle_of(pattern)).collect()
    }

    /// Configures every channel that is created from now on, whoever does, before anybody can use it (rule A-1). Called
    /// inside the server's engine: it neither waits nor computes for long.
    pub fn on_channel_created(
        &self,
        initialiser: impl Fn(&mut NewChannel<'_>) + Send + Sync + 'static,
    ) -> Registration {
        let initialiser = Arc::new(initialiser) as Arc<dyn Fn(&mut NewChannel<'_>) + Send + Sync>;
        let id = self.registry().add(initialiser, |table, entry| table.initialisers.push(entry));
        Registration::of_server(self, id)
    }

    /// Calls `listener` with each channel that was created, once it can be used. Called inside the server's engine: it
    /// neither waits nor computes for long.
    pub fn on_channel_added(&self, listener: impl Fn(&Channel) + Send + Sync + 'static) -> Registration {
        let listener: Observer<Channel> = Arc::new(listener);
        let id = self.registry().add(listener, |table, entry| table.channel_added.push(entry));
        Registration::of_server(self, id)
    }

    /// Calls `listener` with the name of each channel that was removed. Called inside the server's engine: it neither
    /// waits nor computes for long.
    pub fn on_channel_removed(&self, listener: impl Fn(&ChannelPattern) + Send + Sync + 'static) -> Registration {
        let listener: Observer<ChannelPattern> = Arc::new(listener);
        let id = self.registry().add(listener, |table, entry| table.channel_removed.push(entry));
        Registration::of_server(self, id)
    }

    pub(crate) fn handle_of(&self, pattern: ChannelPattern) -> Channel {
        Channel { pattern: pattern.detach(), server: self.clone() }
    }

    /// Takes a hook off a channel, which is idle without.
    pub(crate) fn remove_channel_hook(&self, channel: &ByteString, id: HookId) {
        if self.registry().change(|table| table.remove_from_channel(channel, id))
            && let Ok(pattern) = pattern(channel, self.config())
        {
            self.handle_of(pattern).set(ChannelSetting::Attended(false));
        }
    }
}

/// # What it is
impl Channel {
    /// Its name, in normal form (rule C-3).
    pub fn name(&self) -> &str {
        self.pattern.as_str()
    }

    /// Its name, as something that matches channels.
    pub fn pattern(&self) -> &ChannelPattern {
        &self.pattern
    }

    /// The server that it is a channel of.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Whether it is a meta channel, the protocol's own.
    pub fn is_meta(&self) -> bool {
        self.pattern.kind() == ChannelKind::Meta
    }

    /// Whether it is a service channel: never fanned out.
    pub fn is_service(&self) -> bool {
        self.pattern.kind() == ChannelKind::Service
    }

    /// Whether it is a broadcast channel.
    pub fn is_broadcast(&self) -> bool {
        self.pattern.kind() == ChannelKind::Broadcast
    }

    /// Whether it is a wildcard.
    pub fn is_wild(&self) -> bool {
        self.pattern.wildcard().is_some()
    }

    /// Whether it exists still.
    pub fn exists(&self) -> bool {
        self.settings().is_some()
    }

    /// What it is set to; `None` where it does not exist, and inside hooks that may not wait.
    pub fn settings(&self) -> Option<ChannelSettings> {
        self.server.ask_shard(self.home(), |engine| engine.channel_settings(self.name())).flatten()
    }

    /// Whether it stays without subscribers.
    pub fn is_persistent(&self) -> bool {
        self.settings().is_some_and(|settings| settings.persistent)
    }

    /// Whether its messages may wait (rule Q-30).
    pub fn is_lazy(&self) -> bool {
        self.settings().is_some_and(|settings| settings.lazy)
    }

    /// How long its messages may wait; `None`: as long as each session's `maxLazyTimeout`.
    pub fn lazy_timeout(&self) -> Option<Duration> {
        self.settings().map(|settings| settings.lazy_timeout).filter(|timeout| !timeout.is_zero())
    }

    /// Whether publishers receive their own messages through it (rule Q-6).
    pub fn is_broadcast_to_publisher(&self) -> bool {
        self.settings().is_some_and(|settings| settings.broadcast_to_publisher)
    }

    /// The sessions that are subscribed to this very channel, shard by shard in the order in which they subscribed.
    /// Empty inside hooks that may not wait.
    pub fn subscribers(&self) -> Vec<Session> {
        let mut found = Vec::new();
        for index in 0..self.server.config().shards {
            let list = |engine: &Engine| engine.subscribers(self.name()).cloned().collect::<Vec<ClientId>>();
            let ids = self.server.ask_shard(ShardId(index), list).unwrap_or_default();
            found.extend(ids.iter().filter_map(|id| self.server.session(id.as_str())));
        }
        found
    }

    /// The attribute of that name, if it has one of that type.
    pub fn attribute<T: Send + Sync + 'static>(&self, name: &str) -> Option<Arc<T>> {
        self.attributes(false)?.get(name)
    }

    /// Sets an attribute. It goes with the channel.
    pub fn set_attribute<T: Send + Sync + 'static>(&self, name: &str, value: T) {
        if let Some(attributes) = self.attributes(true) {
            attributes.set(name, value);
        }
    }

    /// Removes an attribute; says whether it was there.
    pub fn remove_attribute(&self, name: &str) -> bool {
        self.attributes(false).is_some_and(|attributes| attributes.remove(name))
    }

    /// The names of its attributes, in alphabetical order.
    pub fn attribute_names(&self) -> Vec<String> {
        self.attributes(false).map(|attributes| attributes.names()).unwrap_or_default()
    }

    fn attributes(&self, create: bool) -> Option<Arc<Attributes>> {
        self.server.registry().channel_attributes(self.pattern.text(), create)
    }

    fn home(&self) -> ShardId {
        ShardId::home_of(self.name(), self.server.config().shards)
    }
}

/// # What to do with it
impl Channel {
    /// Publishes on it (rule A-10): listeners see the message, then all subscribers receive it. Waits while the links
    /// between shards are full.
    ///
    /// # Errors
    /// [`SendError`] where it is a wildcard or a meta channel, or `data` does not serialise.
    pub async fn publish(&self, data: impl IntoData) -> Result<(), SendError> {
        self.publish_event(data.into_data().map(|data| Event::new(self.pattern.text().clone(), data))?, None).await
    }

    /// As [`Channel::publish`], for a session, which listeners see as the sender (rule Q-6).
    ///
    /// # Errors
    /// As [`Channel::publish`].
    pub async fn publish_from(&self, from: &Session, data: impl IntoData) -> Result<(), SendError> {
        self.publish_event(data.into_data().map(|data| Event::new(self.pattern.text().clone(), data))?, Some(from))
            .await
    }

    /// As [`Channel::publish`], for a message that may wait for its recipients' next response (rule Q-30).
    ///
    /// # Errors
    /// As [`Channel::publish`].
    pub async fn publish_lazy(&self, data: impl IntoData) -> Result<(), SendError> {
        let mut event = Event::new(self.pattern.text().clone(), data.into_data()?);
        event.lazy = Lazy::Yes;
        self.publish_event(event, None).await
    }

    async fn publish_event(&self, event: Event, from: Option<&Session>) -> Result<(), SendError> {
        let channel = self.server.channel_name(self.name())?;
        self.server.publish_event(channel, event, from.map(|session| session.id().clone())).await
    }

    /// Subscribes a session; no policy or authorizer is asked (rule A-9).
    ///
    /// # Errors
    /// [`SendError::Flooded`]
    pub fn subscribe(&self, session: &Session) -> Result<(), SendError> {
        session.subscribe(self.name())
    }

    /// Takes back a subscription (rule A-9).
    ///
    /// # Errors
    /// [`SendError::Flooded`]
    pub fn unsubscribe(&self, session: &Session) -> Result<(), SendError> {
        session.unsubscribe(self.name())
    }

    /// Removes it, with its subscriptions, settings, attributes and its own listeners and authorizers (rule A-7). The
    /// next publish or subscribe creates a new one of that name.
    pub fn remove(&self) {
        self.server.registry().forget_channel(self.name());
        self.command(Command::RemoveChannel { channel: self.pattern.clone() });
    }
}

/// # Its settings
impl Channel {
    /// Keeps it without subscribers.
    pub fn set_persistent(&self, on: bool) {
        self.set(ChannelSetting::Persistent(on));
    }

    /// Lets its messages wait (rule Q-30). False resets the lazy timeout as well (rule Q-36).
    pub fn set_lazy(&self, on: bool) {
        self.set(ChannelSetting::Lazy(on));
    }

    /// Lets its messages wait for so long at most; `None` makes it not lazy (rule Q-36).
    pub fn set_lazy_timeout(&self, timeout: Option<Duration>) {
        self.set(ChannelSetting::LazyTimeout(timeout.unwrap_or_default()));
    }

    /// Whether publishers receive their own messages through it (rule Q-6).
    pub fn set_broadcast_to_publisher(&self, on: bool) {
        self.set(ChannelSetting::BroadcastToPublisher(on));
    }

    /// Keeps its last message and delivers it to each new subscriber, ahead of the reply to the subscription. A channel
    /// that retains stays without subscribers.
    pub fn set_retained(&self, on: bool) {
        self.set(ChannelSetting::Retained(on));
    }

    /// How many of its messages any session's queue may hold, and what happens to more; `None`: as many as the session's
    /// own limits let. One message with [`Overflow::KeepLatest`](bayeux_core::Overflow::KeepLatest) is a channel of
    /// which slow sessions get the newest message only.
    pub fn set_queue(&self, queue: Option<ChannelQueue>) {
        self.set(ChannelSetting::Queue(queue));
    }

    /// Changes a setting.
    pub fn set(&self, setting: ChannelSetting) {
        self.command(Command::SetChannel { channel: self.pattern.clone(), setting });
    }

    fn command(&self, command: Command) {
        if self.is_meta() {
            // They are as they are (rule A-3).
            return;
        }
        if let Err(error) = self.server.command(self.home(), command) {
            tracing::error!(channel = self.name(), %error, "a command is dropped");
        }
    }
}

/// # Its hooks
///
/// They keep it from being removed as idle, and go when it is removed (rules ).
impl Channel {
    /// Calls `listener` with each message that is published on it or, if it is a wildcard, on a channel that it
    /// matches; before it goes on: the listener may change, stop and answer it (rules G-11, A-21).
    pub fn on_message<F, R>(&self, listener: F) -> Registration
    where
        F: Fn(Incoming) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Outcome>> + Send + 'static,
    {
        self.add(message_listener(listener), |hooks, entry| hooks.messages.push(entry))
    }

    /// Calls `listener` with each subscription to this very channel, before the reply: what it delivers rides in the
    /// same response.
    pub fn on_subscribed<F, R>(&self, listener: F) -> Registration
    where
        F: Fn(Subscribed) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener: Listener<Subscribed, ()> = Arc::new(move |subscribed| Box::pin(listener(subscribed)));
        self.add(listener, |hooks, entry| hooks.subscribed.push(entry))
    }

    /// Calls `listener` with each subscription to this very channel that ends.
    pub fn on_unsubscribed<F, R>(&self, listener: F) -> Registration
    where
        F: Fn(Subscribed) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener: Listener<Subscribed, ()> = Arc::new(move |subscribed| Box::pin(listener(subscribed)));
        self.add(listener, |hooks, entry| hooks.unsubscribed.push(entry))
    }

    /// Has `authorizer` decide who may do what on it and, if it is a wildcard, on the channels that it matches (rule
    ///
    pub fn add_authorizer(&self, authorizer: impl Authorizer) -> Registration {
        self.add(Arc::new(authorizer) as Arc<dyn DynAuthorizer>, |hooks, entry| hooks.authorizers.push(entry))
    }

    fn add<T>(&self, hook: T, place: impl FnOnce(&mut ChannelHooks, Entry<T>)) -> Registration {
        let id = add_own(&self.server, self.pattern.text(), hook, place);
        self.set(ChannelSetting::Attended(true));
        Registration::of_channel(&self.server, self.pattern.text(), id)
    }
}

fn add_own<T>(
    server: &Server,
    channel: &ByteString,
    hook: T,
    place: impl FnOnce(&mut ChannelHooks, Entry<T>),
) -> HookId {
    server.registry().channel_has_own();
    server.registry().add(hook, |table, entry| {
        let hooks = table.channel(channel);
        hooks.own.push(entry.id);
        place(hooks, entry);
    })
}

/// Configures one channel while it is created.
pub(crate) type Initialise = Box<dyn FnOnce(&mut NewChannel<'_>) + Send>;

/// A channel while it is created: nobody else sees it yet.
pub struct NewChannel<'a> {
    pattern: &'a ChannelPattern,
    settings: &'a mut ChannelSettings,
    server: Server,
}

impl<'a> NewChannel<'a> {
    pub(crate) fn new(pattern: &'a ChannelPattern, settings: &'a mut ChannelSettings, server: Server) -> Self {
        Self { pattern, settings, server }
    }

    /// Its name, in normal form.
    pub fn name(&self) -> &str {
        self.pattern.as_str()
    }

    /// Its name, as something that matches channels.
    pub fn pattern(&self) -> &ChannelPattern {
        self.pattern
    }

    /// Its settings, to be changed.
    pub fn settings(&mut self) -> &mut ChannelSettings {
        self.settings
    }

    /// Keeps it without subscribers.
    pub fn set_persistent(&mut self, on: bool) {
        self.settings.persistent = on;
    }

    /// Lets its messages wait (rule Q-30).
    pub fn set_lazy(&mut self, on: bool) {
        self.settings.lazy = on;
    }

    /// Lets its messages wait for so long at most (rule Q-36).
    pub fn set_lazy_timeout(&mut self, timeout: Option<Duration>) {
        self.settings.lazy_timeout = timeout.unwrap_or_default();
        self.settings.lazy = timeout.is_some_and(|timeout| !timeout.is_zero());
    }

    /// Whether publishers receive their own messages through it (rule Q-6).
    pub fn set_broadcast_to_publisher(&mut self, on: bool) {
        self.settings.broadcast_to_publisher = on;
    }

    /// How many of its messages any session's queue may hold: see [`Channel::set_queue`].
    pub fn set_queue(&mut self, queue: Option<ChannelQueue>) {
        self.settings.queue = queue;
    }

    /// Keeps its last message for subscribers to come.
    pub fn set_retained(&mut self, on: bool) {
        self.settings.retained = on;
    }

    /// Sets an attribute.
    pub fn set_attribute<T: Send + Sync + 'static>(&mut self, name: &str, value: T) {
        if let Some(attributes) = self.server.registry().channel_attributes(&self.own_name(), true) {
            attributes.set(name, value);
        }
    }

    /// As [`Channel::on_message`].
    pub fn on_message<F, R>(&mut self, listener: F)
    where
        F: Fn(Incoming) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Outcome>> + Send + 'static,
    {
        self.add(message_listener(listener), |hooks, entry| hooks.messages.push(entry));
    }

    /// As [`Channel::on_subscribed`].
    pub fn on_subscribed<F, R>(&mut self, listener: F)
    where
        F: Fn(Subscribed) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener: Listener<Subscribed, ()> = Arc::new(move |subscribed| Box::pin(listener(subscribed)));
        self.add(listener, |hooks, entry| hooks.subscribed.push(entry));
    }

    /// As [`Channel::add_authorizer`]: decides on the very message that creates the channel.
    pub fn add_authorizer(&mut self, authorizer: impl Authorizer) {
        self.add(Arc::new(authorizer) as Arc<dyn DynAuthorizer>, |hooks, entry| hooks.authorizers.push(entry));
    }

    fn add<T>(&mut self, hook: T, place: impl FnOnce(&mut ChannelHooks, Entry<T>)) {
        add_own(&self.server, &self.own_name(), hook, place);
        self.settings.attended = true;
    }

    /// A name that outlives the request that brought it.
    fn own_name(&self) -> ByteString {
        ByteString::from(self.name())
    }
}

/// Two handles are equal where they are of one channel.
impl PartialEq for Channel {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern && Arc::ptr_eq(self.server.inner(), other.server.inner())
    }
}

impl Eq for Channel {}

/// The channel of that name, in its normal form.
pub(crate) fn pattern(name: &str, config: &Config) -> Result<ChannelPattern, ChannelError> {
    ChannelPattern::parse(&ByteString::from(name), &config.channels)
}

impl Server {
    /// A channel that may be sent on.
    pub(crate) fn channel_name(&self, channel: &str) -> Result<ChannelName, SendError> {
        let channel = ChannelName::parse(&ByteString::from(channel), &self.config().channels)?;
        if channel.kind() == ChannelKind::Meta { Err(SendError::Meta) } else { Ok(channel) }
    }
}

// What the engine needs of a server that creates a channel.
impl crate::shard::Shard {
    /// At the channel's home: creates it if it is absent, configured by `initialise`.
    fn create_channel(&self, server: &Server, channel: ChannelPattern, initialise: Initialise) {
        self.turn(server, |state, now| {
            state.initialising(Some(initialise));
            state.handle(now, Input::Command(Command::CreateChannel { channel }));
            state.initialising(None);
        });
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.name()).finish()
    }
}

impl fmt::Debug for NewChannel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewChannel")
            .field("name", &self.name())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
