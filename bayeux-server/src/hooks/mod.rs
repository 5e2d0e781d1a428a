//! The application's hooks: a table that is read often and written seldom (here), the part of it that engines call
//! (`engine.rs`), and the running of what may wait (`ask.rs`).

mod ask;
mod engine;

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::task::Poll;

use bayeux_core::{Points, RemovalReason};
use bayeux_proto::{ChannelName, ChannelPattern, ChannelTemplate, Parameters};
use bytestring::ByteString;

use crate::attributes::Attributes;
use crate::authorizer::DynAuthorizer;
use crate::channel::{Channel, NewChannel};
use crate::context::Context;
use crate::effects;
use crate::extension::{Directions, DynExtension};
use crate::message::{Incoming, Outcome, Subscribed};
use crate::policy::{Boxed, DynPolicy};
use crate::server::{Inner, Server};
use crate::session::{QueueOverflow, Session};

pub(crate) use ask::Asking;
pub(crate) use engine::{EngineHooks, Initialising, quietly};

/// A listener that may wait.
pub(crate) type Listener<A, R> = Arc<dyn Fn(A) -> Boxed<'static, R> + Send + Sync>;

/// A listener that is called inside an engine.
pub(crate) type Observer<A> = Arc<dyn Fn(&A) + Send + Sync>;

/// A session that was added, and the request of its handshake.
pub(crate) type Added = (Session, Option<Arc<Context>>);

/// A session that was removed, and why.
pub(crate) type Removed = (Session, RemovalReason);

/// Configures channels while they are created.
pub(crate) type Initialiser = Arc<dyn Fn(&mut NewChannel<'_>) + Send + Sync>;

/// Something registered, by a number of its own.
#[derive(Clone)]
pub(crate) struct Entry<T> {
    pub(crate) id: HookId,
    pub(crate) hook: T,
}

/// Names something registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HookId(u64);

/// What is registered at one place, in order.
pub(crate) type Hooked<T> = Vec<Entry<T>>;

/// Everything that is registered.
#[derive(Clone, Default)]
pub(crate) struct Table {
    pub(crate) policy: Option<Arc<dyn DynPolicy>>,
    pub(crate) extensions: Hooked<Arc<dyn DynExtension>>,
    /// By the text of the channel or pattern.
    pub(crate) channels: HashMap<ByteString, ChannelHooks>,
    /// Message listeners on templates, by number of segments.
    pub(crate) templates: HashMap<usize, Hooked<OnTemplate>>,
    pub(crate) initialisers: Hooked<Initialiser>,
    pub(crate) session_added: Hooked<Listener<Added, ()>>,
    pub(crate) session_removed: Hooked<Listener<Removed, ()>>,
    pub(crate) subscribed: Hooked<Listener<Subscribed, ()>>,
    pub(crate) unsubscribed: Hooked<Listener<Subscribed, ()>>,
    pub(crate) channel_added: Hooked<Observer<Channel>>,
    pub(crate) channel_removed: Hooked<Observer<ChannelPattern>>,
    pub(crate) overflow: Hooked<Observer<QueueOverflow>>,
}

/// A message listener on a template.
#[derive(Clone)]
pub(crate) struct OnTemplate {
    pub(crate) template: Arc<ChannelTemplate>,
    pub(crate) listener: Listener<Incoming, Outcome>,
}

/// A message listener, with the parameters that its template bound.
pub(crate) type Bound = (Listener<Incoming, Outcome>, Option<Arc<Parameters>>);

/// What is registered on one channel or pattern.
#[derive(Clone, Default)]
pub(crate) struct ChannelHooks {
    pub(crate) messages: Hooked<Listener<Incoming, Outcome>>,
    pub(crate) authorizers: Hooked<Arc<dyn DynAuthorizer>>,
    pub(crate) subscribed: Hooked<Listener<Subscribed, ()>>,
    pub(crate) unsubscribed: Hooked<Listener<Subscribed, ()>>,
    /// Those of the above that belong to the channel, and go with it (rule A-7).
    pub(crate) own: Vec<HookId>,
}

impl ChannelHooks {
    fn is_empty(&self) -> bool {
        let Self { messages, authorizers, subscribed, unsubscribed, own: _ } = self;
        messages.is_empty() && authorizers.is_empty() && subscribed.is_empty() && unsubscribed.is_empty()
    }

    fn retain(&mut self, keep: impl Fn(HookId) -> bool) {
        self.messages.retain(|entry| keep(entry.id));
        self.authorizers.retain(|entry| keep(entry.id));
        self.subscribed.retain(|entry| keep(entry.id));
        self.unsubscribed.retain(|entry| keep(entry.id));
        self.own.retain(|id| keep(*id));
    }
}

/// The [`Table`], shared by all shards. A change copies it only while a hook holds it, and readers hold the lock for a
/// pointer's copy at most.
#[derive(Default)]
pub(crate) struct Registry {
    table: RwLock<Arc<Table>>,
    /// Where anything is registered, sessions' own hooks included.
    points: AtomicU32,
    /// Where any session ever had a hook of its own.
    sessions: AtomicU32,
    /// Whether any channel ever had an attribute or a hook of its own.
    channels: AtomicBool,
    next: AtomicU64,
    /// Attributes of channels.
    attributes: RwLock<HashMap<ByteString, Arc<Attributes>>>,
    server: OnceLock<Weak<Inner>>,
}

impl Registry {
    pub(crate) fn new(table: Table) -> Self {
        let registry = Self { table: RwLock::new(Arc::new(table)), ..Self::default() };
        // Those of the builder have numbers already.
        registry.next.store(u64::from(u32::MAX), Ordering::Relaxed);
        registry.change(|_| {});
        registry
    }

    /// Tells it whose it is.
    pub(crate) fn belongs_to(&self, server: &Server) {
        let _ = self.server.set(Arc::downgrade(server.inner()));
    }

    pub(crate) fn server(&self) -> Option<Server> {
        self.server.get().and_then(Weak::upgrade).map(Server::from_inner)
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        // A hook that is taken out is dropped in there, and what it holds may do anything to the server.
        let changed = effects::inside(|| {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            let changed = change(Arc::make_mut(&mut table));
            let mut points = table.points().with(Points::from_bits(self.sessions.load(Ordering::Relaxed)));
            if self.channels.load(Ordering::Relaxed) {
                points = points.with(Points::CHANNELS);
            }
            self.points.store(points.bits(), Ordering::Release);
            changed
        });
        self.carry_out_deferred();
        changed
    }

    /// Carries out what destructors did, unless an engine is busy: then it does.
    pub(crate) fn carry_out_deferred(&self) {
        if !effects::is_inside()
            && let Some(server) = self.server()
        {
            effects::drain(|shard, command| server.command_now(shard, command));
        }
    }

    /// Registers something that has a number.
    pub(crate) fn add<T>(&self, hook: T, place: impl FnOnce(&mut Table, Entry<T>)) -> HookId {
        let id = self.next_id();
        self.change(|table| place(table, Entry { id, hook }));
        id
    }

    pub(crate) fn next_id(&self) -> HookId {
        HookId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Where anything is registered.
    pub(crate) fn points(&self) -> Points {
        Points::from_bits(self.points.load(Ordering::Acquire))
    }

    /// A session has a hook of its own at `points`. It stays said: sessions come and go too often to count.
    pub(crate) fn session_hooks_at(&self, points: Points) {
        let before = self.sessions.fetch_or(points.bits(), Ordering::AcqRel);
        if !Points::from_bits(before).contains(points) {
            self.change(|_| {});
        }
    }

    /// A channel has something of its own that goes when it goes.
    pub(crate) fn channel_has_own(&self) {
        if !self.channels.swap(true, Ordering::AcqRel) {
            self.change(|_| {});
        }
    }

    /// The attributes of a channel; made where `create` says so.
    pub(crate) fn channel_attributes(&self, name: &ByteString, create: bool) -> Option<Arc<Attributes>> {
        if let Some(found) = self.attributes.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Some(Arc::clone(found));
        }
        create.then(|| {
            self.channel_has_own();
            let mut all = self.attributes.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(name.clone()).or_default())
        })
    }

    /// A channel is gone, and with it what was its own (rule A-7).
    pub(crate) fn forget_channel(&self, name: &str) {
        if !self.channels.load(Ordering::Acquire) {
            return;
        }
        let attributes = self.attributes.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        // Behind the lock: its destructors are the application's.
        drop(attributes);
        if self.table().channels.get(name).is_some_and(|hooks| !hooks.own.is_empty()) {
            self.change(|table| {
                let Some(hooks) = table.channels.get_mut(name) else { return };
                let own = std::mem::take(&mut hooks.own);
                hooks.retain(|id| !own.contains(&id));
                if hooks.is_empty() {
                    table.channels.remove(name);
                }
            });
        }
    }
}

impl Table {
    fn points(&self) -> Points {
        let any = |has: fn(&ChannelHooks) -> bool| self.channels.values().any(has);
        let extends = |direction: Directions| {
            self.extensions.iter().any(|extension| extension.hook.directions().includes(direction))
        };
        let unsubscribed = !self.unsubscribed.is_empty() || any(|hooks| !hooks.unsubscribed.is_empty());
        let subscribed = !self.subscribed.is_empty() || any(|hooks| !hooks.subscribed.is_empty());
        let mut points = self.policy.as_ref().map_or(Points::NONE, |policy| policy.questions().points());
        for (registered, flag) in [
            (any(|hooks| !hooks.messages.is_empty()) || !self.templates.is_empty(), Points::LISTEN),
            (any(|hooks| !hooks.authorizers.is_empty()), AUTHORIZED),
            (extends(Directions::Incoming), Points::INCOMING),
            (extends(Directions::Outgoing), Points::SEND.with(Points::REPLY)),
            (!self.session_added.is_empty(), Points::HANDSHAKEN),
            (subscribed, Points::SUBSCRIBED.with(Points::SUBSCRIPTIONS)),
            (unsubscribed, Points::UNSUBSCRIBED.with(Points::SUBSCRIPTIONS)),
            (!self.channel_added.is_empty() || !self.channel_removed.is_empty(), Points::CHANNELS),
        ] {
            if registered {
                points = points.with(flag);
            }
        }
        // So seldom that it need not be asked for.
        points.with(Points::CHANNEL_CREATED)
    }

    /// Removes what is registered under a number, wherever it is.
    pub(crate) fn remove(&mut self, id: HookId) {
        let keep = |other: HookId| other != id;
        self.extensions.retain(|entry| keep(entry.id));
        self.templates.retain(|_, listeners| {
            listeners.retain(|entry| keep(entry.id));
            !listeners.is_empty()
        });
        self.initialisers.retain(|entry| keep(entry.id));
        self.session_added.retain(|entry| keep(entry.id));
        self.session_removed.retain(|entry| keep(entry.id));
        self.subscribed.retain(|entry| keep(entry.id));
        self.unsubscribed.retain(|entry| keep(entry.id));
        self.channel_added.retain(|entry| keep(entry.id));
        self.channel_removed.retain(|entry| keep(entry.id));
        self.overflow.retain(|entry| keep(entry.id));
        self.channels.retain(|_, hooks| {
            hooks.retain(keep);
            !hooks.is_empty()
        });
    }

    pub(crate) fn channel(&mut self, name: &ByteString) -> &mut ChannelHooks {
        self.channels.entry(name.clone()).or_default()
    }

    /// Removes what is registered under a number on one channel; says whether that was the last of the channel's own.
    pub(crate) fn remove_from_channel(&mut self, name: &str, id: HookId) -> bool {
        let Some(hooks) = self.channels.get_mut(name) else { return false };
        let had_own = !hooks.own.is_empty();
        hooks.retain(|other| other != id);
        let last = had_own && hooks.own.is_empty();
        if hooks.is_empty() {
            self.channels.remove(name);
        }
        last
    }

    /// What is registered on the channels that match, from the widest wildcard to the channel itself (rule A-21).
    fn matching<'t>(&'t self, channel: &'t ChannelPattern) -> impl Iterator<Item = &'t ChannelHooks> {
        let mut ids = channel.ids();
        std::iter::from_fn(move || ids.next().map(|id| self.channels.get(id))).flatten()
    }

    fn listens(&self, channel: &ChannelName) -> bool {
        self.matching(channel.as_pattern()).any(|hooks| !hooks.messages.is_empty())
            || self.on_templates(channel).next().is_some()
    }

    /// From the widest wildcard over the templates to the channel itself (rule A-21).
    fn listeners(&self, channel: &ChannelName) -> Vec<Bound> {
        let plain = |hooks: &ChannelHooks| hooks.messages.iter().map(|entry| (Arc::clone(&entry.hook), None)).collect();
        let mut found: Vec<Vec<Bound>> = self.matching(channel.as_pattern()).map(plain).collect();
        let own = if self.channels.contains_key(channel.as_str()) { found.pop() } else { None };
        let bound = self.on_templates(channel).map(|(on, bound)| (Arc::clone(&on.listener), Some(Arc::new(bound))));
        found.push(bound.collect());
        found.extend(own);
        found.into_iter().flatten().collect()
    }

    fn on_templates<'t>(&'t self, channel: &'t ChannelName) -> impl Iterator<Item = (&'t OnTemplate, Parameters)> {
        let segments = if self.templates.is_empty() { 0 } else { channel.as_str().split('/').skip(1).count() };
        let listeners = self.templates.get(&segments).into_iter().flatten();
        listeners.filter_map(|entry| Some((&entry.hook, entry.hook.template.bind(channel.as_pattern())?)))
    }

    /// The authorizers that decide on a channel (rule A-50); on its creation it has none of its own (rule A-53).
    fn authorizers(&self, channel: &ChannelPattern, creation: bool) -> Vec<Arc<dyn DynAuthorizer>> {
        let mut ids = channel.ids();
        let mut found = Vec::new();
        while let Some(id) = ids.next() {
            if creation && id == channel.as_str() {
                continue;
            }
            if let Some(hooks) = self.channels.get(id) {
                found.extend(hooks.authorizers.iter().map(|entry| Arc::clone(&entry.hook)));
            }
        }
        found
    }

    fn is_authorized(&self, channel: &ChannelPattern, creation: bool) -> bool {
        !self.authorizers(channel, creation).is_empty()
    }
}

/// Where authorizers are asked.
const AUTHORIZED: Points = Points::CREATE.with(Points::SUBSCRIBE).with(Points::PUBLISH);

/// Where hooks may want to know the request that a message came with.
pub(crate) const WITH_CONTEXT: Points = Points::INCOMING
    .with(Points::HANDSHAKE)
    .with(AUTHORIZED)
    .with(Points::LISTEN)
    .with(Points::HANDSHAKEN)
    .with(Points::SUBSCRIBED)
    .with(Points::UNSUBSCRIBED);

/// Something registered, to be removed again. Dropping it changes nothing.
#[derive(Debug)]
pub struct Registration(Place);

enum Place {
    Server { server: Weak<Inner>, id: HookId },
    Channel { server: Weak<Inner>, channel: ByteString, id: HookId },
    Session { session: Session, id: HookId },
}

impl Registration {
    pub(crate) fn of_server(server: &Server, id: HookId) -> Self {
        Self(Place::Server { server: Arc::downgrade(server.inner()), id })
    }

    pub(crate) fn of_channel(server: &Server, channel: &ByteString, id: HookId) -> Self {
        Self(Place::Channel { server: Arc::downgrade(server.inner()), channel: channel.clone(), id })
    }

    pub(crate) fn of_session(session: &Session, id: HookId) -> Self {
        Self(Place::Session { session: session.clone(), id })
    }

    /// Takes the hook out again: whatever happens from now on does not call it.
    pub fn remove(self) {
        match self.0 {
            Place::Server { server, id } => {
                if let Some(inner) = server.upgrade() {
                    Server::from_inner(inner).registry().change(|table| table.remove(id));
                }
            }
            Place::Channel { server, channel, id } => {
                if let Some(inner) = server.upgrade() {
                    Server::from_inner(inner).remove_channel_hook(&channel, id);
                }
            }
            Place::Session { session, id } => session.remove_hook(id),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Server { id, .. } | Self::Channel { id, .. } | Self::Session { id, .. }) = self;
        f.debug_tuple("Place").field(id).finish()
    }
}

/// Tells listeners that cannot answer, one after the other; a panic ends that one alone.
pub(crate) async fn notify<A: Clone>(listeners: &[Entry<Listener<A, ()>>], event: A) {
    for listener in listeners {
        if caught(async { (listener.hook)(event.clone()).await }).await.is_none() {
            tracing::error!("a listener panicked");
        }
    }
}

/// Runs a hook that may wait; `None` where it panicked.
pub(crate) async fn caught<T>(hook: impl Future<Output = T>) -> Option<T> {
    let mut hook = pin!(hook);
    // A hook that panicked is never polled again, so that nobody sees what it left half done.
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| hook.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("points", &self.points()).finish_non_exhaustive()
    }
}
