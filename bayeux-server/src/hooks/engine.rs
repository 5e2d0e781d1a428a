//! What an engine sees of the registry. It says who must be asked, and runs the hooks that may not wait: those run in
//! the middle of a turn, with their shard locked, so that what they do to the server is kept until the turn is over.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use bayeux_core::{
    Answer, ChannelSettings, ClientId, Command, Edit, Hooks, Point, Points, Question, QueueView, Verdict,
};
use bayeux_proto::{ChannelPattern, Event, Frozen, Reply};

use crate::channel::{Initialise, NewChannel};
use crate::effects;
use crate::extension::{Directions, OutgoingMessage};
use crate::hooks::{Registry, Table};
use crate::server::Server;
use crate::session::Session;

/// The initialiser of the call that creates a channel right now (rule A-1).
pub(crate) type Initialising = Arc<Mutex<Option<Initialise>>>;

/// The hooks of one engine.
pub(crate) struct EngineHooks {
    pub(crate) registry: Arc<Registry>,
    pub(crate) initialising: Initialising,
}

impl Hooks for EngineHooks {
    fn points(&self) -> Points {
        self.registry.points()
    }

    fn ask(&self, question: &Question, _: &mut Vec<Command>) -> Answer {
        if self.wants(&self.registry.table(), question) { Answer::Later } else { Answer::Now(Verdict::allow()) }
    }

    fn send(&self, from: Option<&ClientId>, to: Option<&ClientId>, event: &mut Event) -> bool {
        let (Some(server), table) = (self.registry.server(), self.registry.table()) else { return true };
        let session = |id: Option<&ClientId>| id.and_then(|id| server.session(id.as_str()));
        let mut message = OutgoingMessage::event(session(from), session(to), event);
        extend(&table, &mut message)
    }

    fn channel_created(&self, channel: &ChannelPattern, settings: &mut ChannelSettings) {
        let mine = self.initialising.lock().unwrap_or_else(PoisonError::into_inner).take();
        let table = self.registry.table();
        if mine.is_none() && table.initialisers.is_empty() {
            return;
        }
        let Some(server) = self.registry.server() else { return };
        let mut channel = NewChannel::new(channel, settings, server);
        if let Some(initialise) = mine {
            quietly("a channel's initialiser", || initialise(&mut channel));
        }
        for initialiser in &table.initialisers {
            quietly("a channel's initialiser", || (initialiser.hook)(&mut channel));
        }
    }

    fn outgoing(&self, to: &ClientId, from: Option<&ClientId>, event: &Frozen) -> Edit<Frozen> {
        let Some((session, server)) = self.session_with_hooks(to) else { return Edit::Keep };
        let from = from.and_then(|id| server.session(id.as_str()));
        let hooks = session.hooks();
        let mut message = OutgoingMessage::frozen(from, session, event);
        for extension in hooks.extensions.iter().rev() {
            if !pass(|| extension.hook.outgoing(&mut message)) {
                return Edit::Drop;
            }
        }
        for listener in &hooks.messages {
            if !pass(|| (listener.hook)(&message)) {
                return Edit::Drop;
            }
        }
        message.changed().map_or(Edit::Keep, Edit::Replace)
    }

    fn queued(&self, to: &ClientId, queue: &mut QueueView<'_>) {
        let Some((session, _)) = self.session_with_hooks(to) else { return };
        for listener in &session.hooks().queued {
            quietly("a listener of a queue", || (listener.hook)(queue));
        }
    }

    fn dequeue(&self, to: &ClientId, queue: &mut QueueView<'_>) {
        let Some((session, _)) = self.session_with_hooks(to) else { return };
        for listener in &session.hooks().dequeue {
            quietly("a listener of a queue", || (listener.hook)(queue));
        }
    }

    fn queue_maxed(&self, to: &ClientId, from: Option<&ClientId>, queue: &mut QueueView<'_>, event: &Frozen) -> bool {
        let Some((session, server)) = self.session_with_hooks(to) else { return true };
        let from = from.and_then(|id| server.session(id.as_str()));
        let hooks = session.hooks();
        let message = OutgoingMessage::frozen(from, session, event);
        hooks.queue_maxed.iter().all(|listener| pass(|| (listener.hook)(queue, &message)))
    }

    fn reply(&self, to: Option<&ClientId>, reply: &mut Reply) -> Edit<()> {
        let (Some(server), table) = (self.registry.server(), self.registry.table()) else { return Edit::Keep };
        let session = to.and_then(|id| server.session(id.as_str()));
        let own = session.as_ref().map(Session::hooks);
        let mut message = OutgoingMessage::reply(session, reply);
        if !extend(&table, &mut message) {
            return Edit::Drop;
        }
        for extension in own.iter().flat_map(|hooks| hooks.extensions.iter().rev()) {
            if !pass(|| extension.hook.outgoing(&mut message)) {
                return Edit::Drop;
            }
        }
        Edit::Keep
    }
}

impl EngineHooks {
    /// Whether anybody is to be asked.
    fn wants(&self, table: &Table, question: &Question) -> bool {
        let session = || question.session.as_ref().and_then(|id| self.session_with_hooks(id));
        let questions = table.policy.as_ref().map_or(Points::NONE, |policy| policy.questions().points());
        let policy = questions.contains(question.point.flag());
        match &question.point {
            Point::Incoming => {
                let hears = |directions: Directions| directions.includes(Directions::Incoming);
                table.extensions.iter().any(|extension| hears(extension.hook.directions()))
                    || session().is_some_and(|(session, _)| {
                        session.hooks().extensions.iter().any(|extension| hears(extension.hook.directions()))
                    })
            }
            Point::Handshake => policy,
            Point::Create(channel) => policy || table.is_authorized(channel, true),
            Point::Subscribe(channel) => policy || table.is_authorized(channel, false),
            Point::Publish(channel) => policy || table.is_authorized(channel.as_pattern(), false),
            Point::Listen(channel) => table.listens(channel),
            Point::Handshaken => {
                !table.session_added.is_empty()
                    || session().is_some_and(|(session, _)| !session.hooks().added.is_empty())
            }
            Point::Subscribed(channel) => {
                !table.subscribed.is_empty()
                    || table.channels.get(channel.as_str()).is_some_and(|hooks| !hooks.subscribed.is_empty())
                    || session().is_some_and(|(session, _)| !session.hooks().subscribed.is_empty())
            }
            Point::Unsubscribed(channel) => {
                !table.unsubscribed.is_empty()
                    || table.channels.get(channel.as_str()).is_some_and(|hooks| !hooks.unsubscribed.is_empty())
                    || session().is_some_and(|(session, _)| !session.hooks().unsubscribed.is_empty())
            }
            _ => false,
        }
    }

    /// The session, where it has hooks of its own.
    fn session_with_hooks(&self, id: &ClientId) -> Option<(Session, Server)> {
        let server = self.registry.server()?;
        let session = server.session(id.as_str()).filter(Session::has_hooks)?;
        Some((session, server))
    }
}

/// Runs the server's outgoing extensions, in reverse order (rule A-30).
fn extend(table: &Table, message: &mut OutgoingMessage<'_>) -> bool {
    let extensions = table.extensions.iter().rev();
    extensions
        .filter(|extension| extension.hook.directions().includes(Directions::Outgoing))
        .all(|extension| pass(|| extension.hook.outgoing(message)))
}

/// Runs a hook that lets a message pass or not; one that panicked lets it pass (rules ).
pub(crate) fn pass(hook: impl FnOnce() -> bool) -> bool {
    inside(hook).unwrap_or_else(|| {
        tracing::error!("an extension or listener panicked; its message goes on");
        true
    })
}

/// Runs a hook that answers nothing.
pub(crate) fn quietly(what: &str, hook: impl FnOnce()) {
    if inside(hook).is_none() {
        tracing::error!("{what} panicked");
    }
}

/// `None` where it panicked.
fn inside<T>(hook: impl FnOnce() -> T) -> Option<T> {
    effects::inside(|| catch_unwind(AssertUnwindSafe(hook)).ok())
}

impl fmt::Debug for EngineHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHooks").field("registry", &self.registry).finish_non_exhaustive()
    }
}
