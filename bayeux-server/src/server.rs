//! The server's handle: what applications and transports call.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bayeux_core::{
    BrowserId, ClientId, Command, Config, ConnectionKey, Engine, Input, Interests, LinkFacts, ShardId, Transport,
};
use bayeux_proto::{Batch, BinaryData, ChannelName, Event, Limits, meta};
use http::header::USER_AGENT;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::attributes::Attributes;
use crate::builder::ServerBuilder;
use crate::clock::{self, Clock};
use crate::context::{Context, Origin, ResponseHeaders};
use crate::data::IntoData;
use crate::effects;
use crate::error::{BuildError, SendError};
use crate::head::RequestHead;
use crate::hooks::{EngineHooks, Initialising, Registry, Table, WITH_CONTEXT};
use crate::link::{DirectResponse, Link};
use crate::random::RandomIds;
use crate::receipts::Receipts;
use crate::service::Calls;
use crate::session::{Session, SessionMap, UserAgents};
use crate::shard::Shard;

/// A Bayeux server. Cheap to clone; all clones are the same server.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

pub(crate) struct Inner {
    config: Arc<Config>,
    limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) runtime: Handle,
    shards: Box<[Shard]>,
    sessions: SessionMap,
    user_agents: UserAgents,
    attributes: Attributes,
    calls: Calls,
    receipts: Receipts,
    /// Transports that are mounted somewhere.
    offered: Mutex<Vec<Transport>>,
    registry: Arc<Registry>,
    next_connection: AtomicU64,
    next_shard: AtomicUsize,
    /// Links that are open. The server is quiet when there are none.
    links: AtomicUsize,
    quiet: Notify,
    stopping: AtomicBool,
}

/// # Applications
impl Server {
    /// Options and hooks of a server to be.
    pub fn builder(config: Config) -> ServerBuilder {
        ServerBuilder::new(config)
    }

    /// The options it runs with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Publishes on a channel: listeners see the message, then all subscribers receive it (rule A-10). Waits while the
    /// links between shards are full.
    ///
    /// Called in a hook, it is carried out together with the hook's verdict.
    ///
    /// # Errors
    /// [`SendError`] where `channel` is no channel name, or `data` does not serialise.
    pub async fn publish(&self, channel: &str, data: impl IntoData) -> Result<(), SendError> {
        let (channel, event) = self.event(channel, data)?;
        self.publish_event(channel, event, None).await
    }

    /// Publishes binary data on a channel (section XB).
    ///
    /// # Errors
    /// [`SendError`] where `channel` is no channel name.
    pub async fn publish_binary(&self, channel: &str, data: &BinaryData) -> Result<(), SendError> {
        let channel = self.channel_name(channel)?;
        let event = Event::binary(channel.text().clone(), data);
        self.publish_event(channel, event, None).await
    }

    /// As [`Server::publish`], without waiting.
    ///
    /// # Errors
    /// As [`Server::publish`], and [`SendError::Busy`] where it would have to wait.
    pub fn try_publish(&self, channel: &str, data: impl IntoData) -> Result<(), SendError> {
        let (channel, event) = self.event(channel, data)?;
        if !effects::in_hook() && !self.has_room() {
            return Err(SendError::Busy);
        }
        let shard = ShardId::home_of(channel.as_str(), self.0.config.shards);
        self.command(shard, Command::Publish { channel, event, from: None, chain: 0 })
    }

    /// Publishes an event with more than `data` in it, for a session or for the server itself.
    ///
    /// # Errors
    /// [`SendError::Flooded`], [`SendError::Circle`]
    pub async fn publish_event(
        &self,
        channel: ChannelName,
        event: Event,
        from: Option<ClientId>,
    ) -> Result<(), SendError> {
        if !effects::in_hook() {
            self.room().await;
        }
        let shard = match &from {
            Some(from) => from.shard(),
            None => ShardId::home_of(channel.as_str(), self.0.config.shards),
        };
        self.command(shard, Command::Publish { channel, event, from, chain: 0 })
    }

    /// Delivers a message to one session, whatever it is subscribed to (rule A-11). Does nothing where there is no
    /// session of that id.
    ///
    /// # Errors
    /// [`SendError`] where `channel` is no channel name or `data` does not serialise.
    pub fn deliver(&self, session: &ClientId, channel: &str, data: impl IntoData) -> Result<(), SendError> {
        let (_, event) = self.event(channel, data)?;
        self.command(session.shard(), Command::Deliver { to: session.clone(), event, from: None })
    }

    /// Disconnects a session with notice (rule D-10). Does nothing where there is no session of that id.
    pub fn disconnect(&self, session: &ClientId) {
        if let Err(error) = self.command(session.shard(), Command::Disconnect { session: session.clone() }) {
            tracing::error!(%session, %error, "a command is dropped");
        }
    }

    /// The session of that `clientId`, if there is one.
    pub fn session(&self, id: &str) -> Option<Session> {
        self.0.sessions.get(id).map(|facts| Session::new(facts, self.clone()))
    }

    /// All sessions at this moment, in no particular order. Costs time and memory for each.
    pub fn sessions(&self) -> Vec<Session> {
        self.0.sessions.list().into_iter().map(|facts| Session::new(facts, self.clone())).collect()
    }

    /// The attribute of the server of that name, if it has one of that type.
    pub fn attribute<T: Send + Sync + 'static>(&self, name: &str) -> Option<Arc<T>> {
        self.0.attributes.get(name)
    }

    /// Sets an attribute of the server.
    pub fn set_attribute<T: Send + Sync + 'static>(&self, name: &str, value: T) {
        self.0.attributes.set(name, value);
    }

    /// Removes an attribute of the server; says whether it was there.
    pub fn remove_attribute(&self, name: &str) -> bool {
        self.0.attributes.remove(name)
    }

    /// The names of the server's attributes, in alphabetical order.
    pub fn attribute_names(&self) -> Vec<String> {
        self.0.attributes.names()
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.0.sessions.len()
    }

    /// Stops the server: held connects are answered, WebSockets are closed with 1001, sessions end. Returns when all
    /// connections are done, or after `deadline`.
    ///
    /// Whether it accepts connections is its listener's business: see [`Listener`](crate::Listener), which calls this.
    pub async fn shutdown(&self, deadline: Duration) {
        if !self.0.stopping.swap(true, Ordering::AcqRel) {
            for shard in &self.0.shards {
                shard.stop(self);
            }
        }
        if tokio::time::timeout(deadline, self.quiet()).await.is_err() {
            tracing::warn!(links = self.0.links.load(Ordering::Relaxed), "connections are open still at the deadline");
        }
    }
}

/// # Transports
impl Server {
    /// The limits that an envelope on `transport` is decoded with.
    pub fn limits(&self, transport: Transport) -> Limits {
        let mut limits = self.0.limits;
        limits.bytes_max = self.0.config.transport(transport).max_message_size;
        limits
    }

    /// Whether the server stops: whatever begins now is to be refused.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    /// Whether any hook could ask what request a message came with. Where not, connections need no [`Context`].
    pub(crate) fn wants_context(&self) -> bool {
        self.0.registry.points().bits() & WITH_CONTEXT.bits() != 0
    }

    /// What is to be kept of a request, and where hooks put headers of its response. `batch` is what it carries: an
    /// exchange's; `None` for a WebSocket, which has no response and may live for days.
    pub fn origin(&self, head: impl RequestHead, batch: Option<&Batch>) -> (Origin, Option<ResponseHeaders>) {
        let first = batch.map(|batch| batch.messages.first().and_then(|message| message.channel.as_deref()));
        let handshakes = first.is_none_or(|channel| channel.is_some_and(|channel| channel.contains(meta::HANDSHAKE)));
        let user_agent = if handshakes { head.value(&USER_AGENT) } else { None };
        let user_agent = user_agent.filter(|text| text.is_ascii()).and_then(|text| std::str::from_utf8(text).ok());
        let user_agent = user_agent.map(|text| self.0.user_agents.intern(text));
        if !self.wants_context() {
            return (Origin { context: None, user_agent }, None);
        }
        let parts = head.into_parts();
        let (context, headers) = if batch.is_some() {
            let (context, headers) = Context::with_response(parts);
            (context, Some(headers))
        } else {
            (Context::new(parts).detached(), None)
        };
        (Origin { context: Some(Arc::new(context)), user_agent }, headers)
    }

    /// Of the browser ids that a request brings, the one that its session is of; the first where none is.
    pub fn choose_browser(&self, mut browsers: impl Iterator<Item = BrowserId>, batch: &Batch) -> Option<BrowserId> {
        let (first, second) = (browsers.next()?, browsers.next());
        let Some(second) = second else { return Some(first) };
        let mut browsers: Vec<_> = [first, second].into_iter().chain(browsers).collect();
        if let Some(shard) = self.shard_of_first(batch)
            && let Some(session) = batch.messages.first().and_then(|message| message.client_id.as_deref())
        {
            let own = |engine: &Engine| browsers.iter().position(|browser| engine.is_browser_of(browser, session));
            if let Some(own) = self.ask_shard(shard, own).flatten() {
                return Some(browsers.swap_remove(own));
            }
        }
        browsers.into_iter().next()
    }

    /// Waits until the links between shards have room for what an input may cause.
    pub async fn room(&self) {
        if self.0.shards.len() > 1 {
            for shard in &self.0.shards {
                shard.inbox().room().await;
            }
        }
    }

    /// Whether nobody has to wait for [`Server::room`].
    pub fn has_room(&self) -> bool {
        self.0.shards.len() == 1 || self.0.shards.iter().all(|shard| shard.inbox().has_room())
    }

    /// Begins an HTTP exchange with the messages of its request, and processes them as far as possible at once. Where the
    /// response can be written directly, it is by `writer`. Only once there is [`Server::room`].
    pub fn exchange(
        &self,
        facts: LinkFacts,
        origin: Origin,
        batch: Batch,
        writer: Option<Arc<dyn DirectResponse>>,
    ) -> Link {
        let shard = self.route(&facts, &batch);
        Link::exchange(self.clone(), shard, facts, origin, batch, writer)
    }

    /// Begins a connection that carries any number of envelopes: a WebSocket.
    pub fn connect(&self, facts: LinkFacts, origin: Origin) -> Link {
        let shard = self.any_shard();
        Link::connect(self.clone(), shard, facts, origin)
    }
}

impl Server {
    pub(crate) fn start(config: Config, limits: Limits, table: Table) -> Result<Self, BuildError> {
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let config = Arc::new(config);
        let registry = Arc::new(Registry::new(table));
        let clock = Clock::start();
        let epoch = clock::unix_time();
        let interests = (config.shards > 1).then(|| Arc::new(Interests::new(config.shards)));
        let shards = (0..config.shards)
            .map(|index| {
                let shard = ShardId(index);
                let ids = Box::new(RandomIds::new()?);
                let initialising = Initialising::default();
                let hooks = EngineHooks { registry: Arc::clone(&registry), initialising: Arc::clone(&initialising) };
                let hooks = Box::new(hooks);
                let mut engine = Engine::new(Arc::clone(&config), shard, ids, hooks, clock.now(), epoch);
                if let Some(interests) = &interests {
                    engine.share_interests(Arc::clone(interests));
                }
                Ok(Shard::new(shard, engine, initialising))
            })
            .collect::<Result<Box<[_]>, BuildError>>()?;
        let server = Self(Arc::new(Inner {
            config,
            limits,
            clock,
            runtime,
            shards,
            sessions: SessionMap::new(),
            user_agents: UserAgents::default(),
            attributes: Attributes::default(),
            calls: Calls::default(),
            receipts: Receipts::default(),
            offered: Mutex::default(),
            registry,
            next_connection: AtomicU64::new(0),
            next_shard: AtomicUsize::new(0),
            links: AtomicUsize::new(0),
            quiet: Notify::new(),
            stopping: AtomicBool::new(false),
        }));
        server.0.registry.belongs_to(&server);
        for shard in &server.0.shards {
            shard.start(&server);
        }
        Ok(server)
    }

    /// Carries out a command in `shard`; within a hook, together with its verdict.
    ///
    /// # Errors
    /// [`SendError::Flooded`], [`SendError::Circle`]: the command is dropped.
    pub(crate) fn command(&self, shard: ShardId, command: Command) -> Result<(), SendError> {
        if let Some(command) = effects::defer(shard, command)? {
            self.command_now(shard, command);
        }
        Ok(())
    }

    /// Asks a shard's engine something; `None` inside a hook that an engine runs.
    pub(crate) fn ask_shard<T>(&self, shard: ShardId, question: impl FnOnce(&Engine) -> T) -> Option<T> {
        if effects::is_inside() {
            tracing::error!("a hook that may not wait asks about channels; it learns nothing");
            return None;
        }
        self.0.shards.get(usize::from(shard.0)).map(|shard| shard.ask(question))
    }

    pub(crate) fn command_now(&self, shard: ShardId, command: Command) {
        // An id that somebody made up may name a shard that is not there.
        if let Some(shard) = self.0.shards.get(usize::from(shard.0)) {
            shard.turn(self, |state, now| state.handle(now, Input::Command(command)));
        }
    }

    /// The shard for the envelope of an HTTP exchange (rule TH-10): a handshake goes where its browser's sessions are,
    /// so that the limit of rule TH-30 counts them; all else where the session of the first message is.
    fn route(&self, facts: &LinkFacts, batch: &Batch) -> ShardId {
        let shards = self.0.config.shards;
        if shards == 1 {
            return ShardId(0);
        }
        let named = self.shard_of_first(batch);
        let browser = || facts.browser.as_ref().map(|browser| browser.shard(shards));
        named.or_else(browser).unwrap_or_else(|| self.any_shard())
    }

    /// The shard of the session that an envelope names; `None` for a handshake and for ids that are not ours.
    pub(crate) fn shard_of_first(&self, batch: &Batch) -> Option<ShardId> {
        let first = batch.messages.first()?;
        if first.channel.as_deref() == Some(meta::HANDSHAKE) {
            return None;
        }
        let shard = ClientId::shard_of(first.client_id.as_deref()?)?;
        (shard.0 < self.0.config.shards).then_some(shard)
    }

    fn any_shard(&self) -> ShardId {
        let next = self.0.next_shard.fetch_add(1, Ordering::Relaxed);
        ShardId((next % self.0.shards.len()) as u16)
    }

    pub(crate) fn next_connection(&self) -> ConnectionKey {
        ConnectionKey(self.0.next_connection.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn shard(&self, shard: ShardId) -> &Shard {
        &self.0.shards[usize::from(shard.0)]
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// A transport is mounted: handshake replies name what can be used.
    pub(crate) fn offer(&self, transport: Transport) {
        let mut offered = self.0.offered.lock().unwrap_or_else(PoisonError::into_inner);
        if !offered.contains(&transport) {
            offered.push(transport);
            for shard in &self.0.shards {
                shard.turn(self, |state, _| state.offer(&offered));
            }
        }
    }

    pub(crate) fn receipts(&self) -> &Receipts {
        &self.0.receipts
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.0.calls
    }

    pub(crate) fn sessions_by_id(&self) -> &SessionMap {
        &self.0.sessions
    }

    pub(crate) fn link_opened(&self) {
        self.0.links.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn link_closed(&self) {
        if self.0.links.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.quiet.notify_waiters();
        }
    }

    async fn quiet(&self) {
        loop {
            let mut quiet = std::pin::pin!(self.0.quiet.notified());
            quiet.as_mut().enable();
            if self.0.links.load(Ordering::Acquire) == 0 {
                return;
            }
            quiet.await;
        }
    }
}

impl Drop for Inner {
    /// Lets the shards' tasks see that the server is gone.
    fn drop(&mut self) {
        for shard in &self.shards {
            shard.wake();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("shards", &self.0.shards.len())
            .field("sessions", &self.session_count())
            .finish_non_exhaustive()
    }
}
