//! The application's hooks: a table that is read often and written seldom, the part of it that the engine asks, and the
//! running of what must wait.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::Poll;

use bayeux_core::{
    Answer, ClientId, Command, Edit, Hooks, Point, Points, Question, RemovalReason, Ruling, Transport, Verdict,
};
use bayeux_proto::{ChannelName, ChannelPattern, Frozen, Reply};
use bytestring::ByteString;

use crate::context::Context;
use crate::message::{Incoming, Outcome, Subscribed};
use crate::policy::{Asked, Boxed, DynPolicy};
use crate::server::Server;
use crate::session::{Facts, Session};

/// A listener of the application.
pub(crate) type Listener<A, R> = Arc<dyn Fn(A) -> Boxed<'static, R> + Send + Sync>;

/// A session that was added, and the request of its handshake.
pub(crate) type Added = (Session, Option<Arc<Context>>);

/// Everything that is registered.
#[derive(Clone, Default)]
pub(crate) struct Table {
    pub(crate) policy: Option<Arc<dyn DynPolicy>>,
    /// By the text of the channel or pattern.
    pub(crate) messages: HashMap<ByteString, Vec<Listener<Incoming, Outcome>>>,
    pub(crate) session_added: Vec<Listener<Added, ()>>,
    pub(crate) session_removed: Vec<Listener<(Session, RemovalReason), ()>>,
    pub(crate) subscribed: Vec<Listener<Subscribed, ()>>,
    pub(crate) unsubscribed: Vec<Listener<Subscribed, ()>>,
}

/// The [`Table`], shared by all shards. A change copies it, so that readers hold the lock for a pointer's copy at most.
#[derive(Default)]
pub(crate) struct Registry(RwLock<Arc<Table>>);

impl Registry {
    pub(crate) fn new(table: Table) -> Self {
        Self(RwLock::new(Arc::new(table)))
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Table)) {
        change(Arc::make_mut(&mut self.0.write().unwrap_or_else(PoisonError::into_inner)));
    }
}

impl Table {
    fn points(&self) -> Points {
        let mut points = self.policy.as_ref().map_or(Points::NONE, |policy| policy.questions().points());
        for (registered, flag) in [
            (!self.messages.is_empty(), Points::LISTEN),
            (!self.session_added.is_empty(), Points::HANDSHAKEN),
            (!self.subscribed.is_empty(), Points::SUBSCRIBED),
            (!self.unsubscribed.is_empty(), Points::SUBSCRIPTIONS),
        ] {
            if registered {
                points = points.with(flag);
            }
        }
        points
    }

    /// Whether any hook could ask what request a message came with.
    pub(crate) fn wants_context(&self) -> bool {
        self.points() != Points::NONE
    }

    fn wants(&self, point: &Point) -> bool {
        if let Point::Listen(channel) = point { self.listens(channel) } else { self.points().contains(point.flag()) }
    }

    fn listens(&self, channel: &ChannelName) -> bool {
        let mut ids = channel.as_pattern().ids();
        while let Some(id) = ids.next() {
            if self.messages.contains_key(id) {
                return true;
            }
        }
        false
    }

    /// The listeners of a channel, from the widest wildcard to the channel itself (rule A-21).
    fn listeners(&self, channel: &ChannelName) -> Vec<Listener<Incoming, Outcome>> {
        let mut found = Vec::new();
        let mut ids = channel.as_pattern().ids();
        while let Some(id) = ids.next() {
            found.extend(self.messages.get(id).into_iter().flatten().cloned());
        }
        found
    }
}

/// What an engine sees of the registry: it says who must be asked, and never calls the application.
#[derive(Debug)]
pub(crate) struct EngineHooks(pub(crate) Arc<Registry>);

impl Hooks for EngineHooks {
    fn points(&self) -> Points {
        self.0.table().points()
    }

    fn ask(&self, question: &Question, _: &mut Vec<Command>) -> Answer {
        if self.0.table().wants(&question.point) { Answer::Later } else { Answer::Now(Verdict::allow()) }
    }

    fn outgoing(&self, _: &ClientId, _: Option<&ClientId>, _: &Frozen) -> Edit<Frozen> {
        Edit::Keep
    }

    fn reply(&self, _: Option<&ClientId>, _: &mut Reply) -> Edit<()> {
        Edit::Keep
    }
}

/// A question on its way to the hooks.
pub(crate) struct Asking {
    pub(crate) server: Server,
    pub(crate) question: Question,
    /// The transport of the connection that the message came on.
    pub(crate) transport: Option<Transport>,
    pub(crate) context: Option<Arc<Context>>,
}

impl Asking {
    /// Asks the hooks. A panic in one is a no.
    pub(crate) async fn answer(self) -> Verdict {
        let point = self.question.point.clone();
        match caught(self.ask()).await {
            Some(verdict) => verdict,
            None => {
                tracing::error!(?point, "a hook panicked; its message is denied");
                Verdict::deny()
            }
        }
    }

    async fn ask(self) -> Verdict {
        let table = self.server.registry().table();
        match self.question.point.clone() {
            Point::Handshake => match &table.policy {
                Some(policy) => policy.can_handshake(self.asked()).await,
                None => Verdict::allow(),
            },
            Point::Create(channel) => match &table.policy {
                Some(policy) => policy.can_create(channel, self.asked()).await,
                None => Verdict::allow(),
            },
            Point::Subscribe(channel) => match &table.policy {
                Some(policy) => policy.can_subscribe(channel, self.asked()).await,
                None => Verdict::allow(),
            },
            Point::Publish(channel) => match &table.policy {
                Some(policy) => policy.can_publish(channel, self.asked()).await,
                None => Verdict::allow(),
            },
            Point::Listen(channel) => self.listen(table.listeners(&channel), channel).await,
            Point::Handshaken => {
                if let Some(session) = self.session() {
                    for listener in &table.session_added {
                        listener((session.clone(), self.context.clone())).await;
                    }
                }
                Verdict::allow()
            }
            Point::Subscribed(channel) => {
                self.subscribed(&table.subscribed, channel).await;
                Verdict::allow()
            }
            Point::Incoming | Point::Unsubscribed(_) | _ => Verdict::allow(),
        }
    }

    async fn listen(self, listeners: Vec<Listener<Incoming, Outcome>>, channel: ChannelName) -> Verdict {
        let session = self.session();
        let mut message = self.question.message;
        let mut changed = false;
        for listener in listeners {
            let incoming = Incoming {
                session: session.clone(),
                channel: channel.clone(),
                message: Arc::clone(&message),
                context: self.context.clone(),
                server: self.server.clone(),
            };
            match listener(incoming).await {
                Outcome::Continue => {}
                Outcome::Data(data) => {
                    Arc::make_mut(&mut message).data = Some(data);
                    changed = true;
                }
                Outcome::Message(other) => {
                    message = Arc::new(*other);
                    changed = true;
                }
                Outcome::Veto => return Verdict::deny(),
            }
        }
        let ruling = if changed { Ruling::Replace(Box::new(Arc::unwrap_or_clone(message))) } else { Ruling::Allow };
        Verdict { ruling, ..Verdict::allow() }
    }

    async fn subscribed(self, listeners: &[Listener<Subscribed, ()>], channel: ChannelPattern) {
        let Some(session) = self.session() else { return };
        let message = Some(self.question.message);
        let subscribed = Subscribed { session, channel, message, context: self.context };
        for listener in listeners {
            listener(subscribed.clone()).await;
        }
    }

    fn session(&self) -> Option<Session> {
        let id = self.question.session.as_ref()?;
        // The session that a handshake would make is in no map yet.
        let facts = self.server.sessions_by_id().get(id.as_str()).unwrap_or_else(|| {
            Arc::new(Facts { id: id.clone(), transport: self.transport.unwrap_or(Transport::LongPolling) })
        });
        Some(Session::new(facts, self.server.clone()))
    }

    fn asked(&self) -> Asked {
        let message = Arc::clone(&self.question.message);
        Asked { session: self.session(), message, context: self.context.clone() }
    }
}

/// Tells listeners that cannot answer, one after the other; a panic ends that one alone.
pub(crate) async fn notify<A: Clone>(listeners: &[Listener<A, ()>], event: A) {
    for listener in listeners {
        if caught(async { listener(event.clone()).await }).await.is_none() {
            tracing::error!("a listener panicked");
        }
    }
}

/// Runs a hook; `None` where it panicked.
async fn caught<T>(hook: impl Future<Output = T>) -> Option<T> {
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
        f.debug_struct("Registry").field("points", &self.table().points()).finish_non_exhaustive()
    }
}
