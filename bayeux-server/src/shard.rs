//! Shards: an engine and its links behind a lock, the turn, and the task that brings what nobody else does.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use bayeux_core::{
    Budget, CloseReason, Command, ConnectionKey, Decision, DecisionId, Drained, Engine, Forward, Input, Notice, Output,
    RemovalReason, ShardId, Time, Transport, Verdict,
};
use bayeux_proto::{Batch, ChannelPattern};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::context::Context;
use crate::effects;
use crate::hooks::{self, Asking};
use crate::link::Outbox;
use crate::message::Subscribed;
use crate::server::{Inner, Server};
use crate::session::{Facts, Session};
use crate::trace;

/// How many outputs a turn handles before it lets others have the shard: some tens of microseconds. What is left, the
/// shard's own task goes on with.
const OUTPUTS_PER_TURN: usize = 256;

/// How many messages of other shards one turn takes, for the same reason.
const FORWARDS_PER_TURN: usize = 256;

/// What one drain of a WebSocket hands out at most. A slow reader holds this much outside the limits of its session's
/// queue; a fast one needs one turn for each.
const SOCKET_BUDGET: Budget = Budget { messages: 256, bytes: 64 * 1024 };

/// One engine and everything around it.
pub(crate) struct Shard {
    id: ShardId,
    state: Mutex<State>,
    inbox: Inbox,
    wake: Arc<Notify>,
}

/// What the lock guards.
pub(crate) struct State {
    engine: Engine,
    links: HashMap<ConnectionKey, Near>,
    /// Hooks that run.
    asked: HashMap<DecisionId, AbortHandle>,
    /// Blocked connections that something happened to during this turn.
    moved_on: Vec<ConnectionKey>,
    /// When the shard's task wakes by itself.
    armed: Time,
    /// The session removed last: notices of its subscriptions follow.
    removed: Option<Arc<Facts>>,
    /// Set when the server stops.
    stopping: bool,
}

/// The shard's end of a link.
struct Near {
    outbox: Arc<Outbox>,
    transport: Transport,
    context: Option<Arc<Context>>,
    /// Whether the engine wants no input from it. Never set for an exchange, which has but one envelope.
    blocked: bool,
}

/// What is left after a turn of the shard's own task.
enum Left {
    /// More of the same.
    More,
    /// Nothing until then.
    Until(Option<Time>),
}

impl Shard {
    pub(crate) fn new(id: ShardId, engine: Engine) -> Self {
        let state = State {
            engine,
            links: HashMap::new(),
            asked: HashMap::new(),
            moved_on: Vec::new(),
            armed: Time::MAX,
            removed: None,
            stopping: false,
        };
        Self { id, state: Mutex::new(state), inbox: Inbox::default(), wake: Arc::default() }
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Has the shard's task look what there is to do.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Starts the shard's task. It ends when the server is dropped.
    pub(crate) fn start(&self, server: &Server) {
        let task = tend(Arc::downgrade(server.inner()), self.id, Arc::clone(&self.wake));
        server.inner().runtime.spawn(task);
    }

    /// A turn: feeds input, then hands out what the engine has for anyone, as far as is fair to those who wait for the
    /// shard. Nothing is called that could come back here.
    pub(crate) fn turn<T>(&self, server: &Server, feed: impl FnOnce(&mut State, Time) -> T) -> T {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let now = server.inner().clock.now();
        let fed = feed(&mut state, now);
        let more = state.hand_out(self.id, server, now, &mut wakers);
        state.unblock(&mut wakers);
        let sooner = state.engine.poll_timeout().is_some_and(|due| due < state.armed);
        drop(state);
        // Woken outside the lock: they will want it.
        wakers.into_iter().for_each(Waker::wake);
        if more || sooner {
            self.wake();
        }
        fed
    }

    /// A turn of the shard's own task: messages of other shards, and time.
    fn tend(&self, server: &Server) -> Left {
        let (forwards, more) = self.inbox.take(FORWARDS_PER_TURN);
        self.turn(server, |state, now| {
            for (from, item) in forwards {
                state.handle(now, Input::Forwarded { from, item });
            }
            if state.engine.poll_timeout().is_some_and(|due| due <= now) {
                state.handle(now, Input::Tick);
            }
            // Set beyond any timeout, so that the turn says nothing of those that are read below.
            state.armed = Time::ZERO;
        });
        let mut state = self.lock();
        let due = state.engine.poll_timeout();
        state.armed = due.unwrap_or(Time::MAX);
        drop(state);
        if more { Left::More } else { Left::Until(due) }
    }

    /// Answers held connects, and closes what would stay open.
    pub(crate) fn stop(&self, server: &Server) {
        self.turn(server, |state, now| {
            state.stopping = true;
            state.handle(now, Input::Command(Command::Shutdown));
        });
        // Behind that turn's output. What a later turn of the shard still writes on a WebSocket may be lost.
        let mut wakers = Vec::new();
        for near in self.lock().links.values().filter(|near| !near.transport.is_http()) {
            let mut content = near.outbox.lock();
            content.close = Some(CloseReason::Stopping);
            wakers.extend(content.waker());
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Feeds the verdict on a decision, after what the hook did.
    pub(crate) fn decide(&self, server: &Server, decision: Decision, verdict: Verdict, effects: Vec<Command>) {
        let mut own = Vec::with_capacity(effects.len());
        for command in effects {
            match effects::shard_of(&command, self.id) {
                shard if shard == self.id => own.push(command),
                shard => server.command_now(shard, command),
            }
        }
        let id = decision.id();
        let conn = decision.question().conn;
        self.turn(server, |state, now| {
            // Withdrawn: the deadline has passed, or the connection is gone. What the hook did counts all the same.
            let wanted = state.asked.remove(&id).is_some();
            for command in own {
                state.handle(now, Input::Command(command));
            }
            if wanted {
                state.handle(now, decision.answer(verdict));
                state.moved_on.extend(conn);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in an engine is a bug of ours; its shard goes on as well as it can.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn handle(&mut self, now: Time, input: Input) {
        self.engine.handle(now, input);
    }

    /// Takes an envelope, and sees whether another may come.
    pub(crate) fn receive(&mut self, now: Time, conn: ConnectionKey, batch: Batch) {
        trace::received(conn, &batch);
        self.engine.handle(now, Input::Received { conn, batch });
        let Some(near) = self.links.get_mut(&conn) else { return };
        if near.transport.is_http() {
            if !self.engine.is_processing(conn) {
                // A poll that is held keeps nothing of its request: no hook will ask for it any more.
                near.context = None;
            }
        } else if !self.engine.wants_input(conn) {
            near.blocked = true;
            near.outbox.lock().blocked = true;
        }
    }

    pub(crate) fn open(
        &mut self,
        conn: ConnectionKey,
        outbox: Arc<Outbox>,
        transport: Transport,
        context: Option<Arc<Context>>,
    ) {
        if self.stopping && !transport.is_http() {
            outbox.lock().close = Some(CloseReason::Stopping);
        }
        self.links.insert(conn, Near { outbox, transport, context, blocked: false });
    }

    /// Forgets a link; returns its context.
    pub(crate) fn forget(&mut self, conn: ConnectionKey) -> Option<Arc<Context>> {
        self.links.remove(&conn)?.context
    }

    pub(crate) fn is_bound(&self, conn: ConnectionKey) -> bool {
        self.engine.is_bound(conn)
    }

    /// Whether an exchange is held.
    pub(crate) fn is_held(&mut self, conn: ConnectionKey) -> bool {
        let held = self.engine.is_held(conn);
        if held && let Some(near) = self.links.get_mut(&conn) {
            // All hooks on its messages were asked. It holds the request's headers in hyper's buffer.
            near.context = None;
        }
        held
    }

    /// Does what the engine wants done. Says whether more is left.
    fn hand_out(&mut self, id: ShardId, server: &Server, now: Time, wakers: &mut Vec<Waker>) -> bool {
        for _ in 0..OUTPUTS_PER_TURN {
            let Some(output) = self.engine.poll_output() else { return false };
            match output {
                Output::Ready(conn) => wakers.extend(self.drain(now, conn)),
                Output::Close { conn, reason } => wakers.extend(self.close(conn, reason)),
                Output::Ask(decision) => self.ask(id, server, *decision),
                Output::Withdraw(decision) => {
                    if let Some(hook) = self.asked.remove(&decision) {
                        hook.abort();
                    }
                }
                Output::Browser { conn, id } => {
                    if let Some(near) = self.links.get(&conn) {
                        near.outbox.lock().browser = Some(id);
                    }
                }
                Output::Forward { to, item } => {
                    let to = server.shard(to);
                    to.inbox.push(id, *item);
                    to.wake();
                }
                Output::Notice(notice) => self.note(server, *notice),
            }
        }
        true
    }

    fn drain(&mut self, now: Time, conn: ConnectionKey) -> Option<Waker> {
        let near = self.links.get(&conn)?;
        if near.blocked {
            self.moved_on.push(conn);
        }
        let budget = if near.transport.is_http() { Budget::UNLIMITED } else { SOCKET_BUDGET };
        let mut content = near.outbox.lock();
        let before = content.messages.len();
        let drained = self.engine.drain(now, conn, budget, &mut content.messages);
        if content.messages.len() == before && drained != Drained::Finished {
            return None;
        }
        trace::sent(conn, self.engine.session_of(conn), content.messages.get(before..).unwrap_or_default());
        content.drained = Some(drained);
        content.waker()
    }

    fn close(&mut self, conn: ConnectionKey, reason: CloseReason) -> Option<Waker> {
        let near = self.links.remove(&conn)?;
        let mut content = near.outbox.lock();
        content.close = Some(reason);
        content.waker()
    }

    /// Starts the hooks that a decision asks for.
    fn ask(&mut self, shard: ShardId, server: &Server, decision: Decision) {
        let question = decision.question().clone();
        let near = question.conn.and_then(|conn| self.links.get(&conn));
        let asking = Asking {
            server: server.clone(),
            question,
            transport: near.map(|near| near.transport),
            context: near.and_then(|near| near.context.clone()),
        };
        let id = decision.id();
        let server = server.clone();
        let runtime = server.inner().runtime.clone();
        let hook = runtime.spawn(async move {
            let (verdict, effects) = effects::collect(asking.answer()).await;
            if !effects.is_empty() {
                server.room().await;
            }
            server.shard(shard).decide(&server, decision, verdict, effects);
        });
        // The task cannot have answered before: it needs this shard's lock.
        self.asked.insert(id, hook.abort_handle());
    }

    /// Lets those read on that the engine wants input of again.
    fn unblock(&mut self, wakers: &mut Vec<Waker>) {
        while let Some(conn) = self.moved_on.pop() {
            if let Some(near) = self.links.get_mut(&conn)
                && near.blocked
                && self.engine.wants_input(conn)
            {
                near.blocked = false;
                let mut content = near.outbox.lock();
                content.blocked = false;
                content.resumed = true;
                wakers.extend(content.waker());
            }
        }
    }
}

/// Messages from other shards on their way into this one.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    items: Mutex<VecDeque<(ShardId, Forward)>>,
    length: AtomicUsize,
    room: Notify,
}

impl Inbox {
    /// Beyond this, work waits. What is under way already still comes in, so that it is no hard limit: each waiting
    /// connection may add what one envelope causes.
    const ROOM: usize = 4096;

    pub(crate) fn has_room(&self) -> bool {
        self.length.load(Ordering::Acquire) < Self::ROOM
    }

    pub(crate) async fn room(&self) {
        while !self.has_room() {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if !self.has_room() {
                room.await;
            }
        }
    }

    fn push(&self, from: ShardId, item: Forward) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.push_back((from, item));
        self.length.store(items.len(), Ordering::Release);
    }

    /// Up to `count` items, oldest first, and whether there are more.
    fn take(&self, count: usize) -> (Vec<(ShardId, Forward)>, bool) {
        if self.length.load(Ordering::Acquire) == 0 {
            return (Vec::new(), false);
        }
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let had_room = self.has_room();
        let count = count.min(items.len());
        let taken = items.drain(..count).collect();
        let more = !items.is_empty();
        self.length.store(items.len(), Ordering::Release);
        drop(items);
        if !had_room && self.has_room() {
            self.room.notify_waiters();
        }
        (taken, more)
    }
}

/// The shard's own task.
async fn tend(server: Weak<Inner>, shard: ShardId, wake: Arc<Notify>) {
    loop {
        let left = {
            let Some(inner) = server.upgrade() else { return };
            let server = Server::from_inner(inner);
            match server.shard(shard).tend(&server) {
                Left::More => None,
                Left::Until(due) => Some(due.and_then(|due| server.inner().clock.instant(due))),
            }
        };
        match left {
            None => tokio::task::yield_now().await,
            Some(None) => wake.notified().await,
            Some(Some(due)) => {
                tokio::select! {
                    () = wake.notified() => {}
                    () = tokio::time::sleep_until(due) => {}
                }
            }
        }
    }
}

impl State {
    /// Keeps the map of sessions, and tells listeners and the log.
    fn note(&mut self, server: &Server, notice: Notice) {
        match notice {
            Notice::SessionAdded { session, conn, transport } => {
                tracing::debug!(conn = conn.0, %session, transport = transport.as_str(), "session added");
                server.sessions_by_id().insert(session, transport);
            }
            Notice::SessionRemoved { session, reason } => {
                tracing::debug!(%session, reason = reason.as_str(), "session removed");
                self.removed = server.sessions_by_id().get(session.as_str());
                if let Some(facts) = self.removed.clone() {
                    session_removed(server, facts, reason);
                }
            }
            Notice::Unsubscribed { session, channel, .. } => {
                let removed = self.removed.clone().filter(|removed| removed.id == session);
                if let Some(facts) = removed.or_else(|| server.sessions_by_id().get(session.as_str())) {
                    unsubscribed(server, facts, channel);
                }
            }
            Notice::Overflowed { session, messages } => {
                tracing::warn!(%session, messages, "messages dropped: the session's queue is full");
            }
            Notice::DecisionExpired { id } => {
                tracing::warn!(?id, "a hook did not answer in time; its message is denied");
            }
            // Asked for at no point; what subscribed is asked about, not told.
            Notice::Subscribed { .. }
            | Notice::ChannelAdded { .. }
            | Notice::ChannelRemoved { .. }
            | Notice::Suspended { .. }
            | Notice::Resumed { .. }
            | _ => {}
        }
    }
}

/// Applications see a removal before the session's id stops resolving.
fn session_removed(server: &Server, facts: Arc<Facts>, reason: RemovalReason) {
    let table = server.registry().table();
    if table.session_removed.is_empty() {
        server.sessions_by_id().remove(&facts.id);
        return;
    }
    let server = server.clone();
    let runtime = server.inner().runtime.clone();
    runtime.spawn(async move {
        let session = Session::new(Arc::clone(&facts), server.clone());
        let told = hooks::notify(&table.session_removed, (session, reason));
        if tokio::time::timeout(server.config().decision_timeout, told).await.is_err() {
            tracing::warn!(session = %facts.id, "listeners of a session's removal took too long");
        }
        server.sessions_by_id().remove(&facts.id);
    });
}

fn unsubscribed(server: &Server, facts: Arc<Facts>, channel: ChannelPattern) {
    let table = server.registry().table();
    if !table.unsubscribed.is_empty() {
        let session = Session::new(facts, server.clone());
        let event = Subscribed { session, channel, message: None, context: None };
        server.inner().runtime.spawn(async move { hooks::notify(&table.unsubscribed, event).await });
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("id", &self.id).finish_non_exhaustive()
    }
}
