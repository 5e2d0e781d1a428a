//! Shards: an engine and its links behind a lock, the turn, and the task that brings what nobody else does.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use bayeux_core::{
    Budget, ClientId, CloseReason, Command, ConnectionKey, Decision, DecisionId, Drained, Engine, Input, Output,
    OwnKeyMap, Point, ShardId, Time, Transport, Verdict,
};
use bayeux_proto::{Batch, Outgoing};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::channel::Initialise;
use crate::clock;
use crate::context::Origin;
use crate::effects::{self, Effects};
use crate::hooks::{Asking, Initialising};
use crate::inbox::Inbox;
use crate::link::{Content, Outbox, Writer, Wrote};
use crate::notices::Leaving;
use crate::server::{Inner, Server};
use crate::session::Facts;
use crate::trace;

/// How many outputs a turn handles before it lets others have the shard: some tens of microseconds, or a millisecond
/// where each is a write to a socket. What is left, the shard's own task goes on with.
const OUTPUTS_PER_TURN: usize = 256;

/// How many messages of other shards one turn takes, for the same reason.
const FORWARDS_PER_TURN: usize = 256;

/// How long an engine counts the wall time by itself: the system's clock may be set, and drifts.
const WALL_TIME_PERIOD: Duration = Duration::from_secs(1);

/// What one drain of a WebSocket hands out at most. A slow reader holds this much outside the limits of its session's
/// queue; a fast one needs one turn for each.
const SOCKET_BUDGET: Budget = Budget { messages: 256, bytes: 64 * 1024 };

/// The bytes of events in the largest response that a turn writes: more would keep others waiting.
const RESPONSE_MAX: usize = 64 * 1024;

fn is_small(response: &[Outgoing]) -> bool {
    response.iter().map(Outgoing::event_size).sum::<usize>() <= RESPONSE_MAX
}

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
    links: OwnKeyMap<ConnectionKey, Near>,
    /// Hooks that run.
    asked: OwnKeyMap<DecisionId, Running>,
    /// Sessions whose handshake is being decided on.
    pub(crate) newcomers: OwnKeyMap<ClientId, Arc<Facts>>,
    initialising: Initialising,
    /// Blocked connections that something happened to during this turn.
    moved_on: Vec<ConnectionKey>,
    /// When the shard's task wakes by itself.
    armed: Time,
    /// When the engine is told the wall time again.
    wall_time_due: Time,
    /// What direct writes are made in.
    scratch: Scratch,
    /// What the log says of full queues.
    pub(crate) full_queues: Seldom,
    /// The session removed last, while notices of its subscriptions follow.
    pub(crate) leaving: Option<Leaving>,
    /// Set when the server stops.
    stopping: bool,
}

/// Something that may happen very often and is logged once a second: clients can cause it.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    next: Time,
    unsaid: u64,
}

impl Seldom {
    /// It happened once more. Where it is to be logged: how often it happened since it last was.
    pub(crate) fn note(&mut self, now: Time) -> Option<u64> {
        if now < self.next {
            self.unsaid += 1;
            return None;
        }
        self.next = now + Duration::from_secs(1);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// Buffers that all direct writes of a shard share.
#[derive(Debug, Default)]
struct Scratch {
    messages: Vec<Outgoing>,
    bytes: Vec<u8>,
}

/// What the buffers keep between writes: all that one drain gives, but for single messages that are larger.
const SCRATCH_KEPT: usize = 2 * SOCKET_BUDGET.bytes;

impl Scratch {
    fn clear(&mut self) {
        self.messages.clear();
        self.bytes.clear();
        self.bytes.shrink_to(SCRATCH_KEPT);
    }
}

/// Hooks that decide on a message.
struct Running {
    task: AbortHandle,
    /// The session that a handshake would make.
    newcomer: Option<ClientId>,
}

/// The shard's end of a link.
struct Near {
    outbox: Arc<Outbox>,
    transport: Transport,
    origin: Origin,
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
    pub(crate) fn new(id: ShardId, engine: Engine, initialising: Initialising) -> Self {
        let state = State {
            engine,
            links: OwnKeyMap::default(),
            asked: OwnKeyMap::default(),
            newcomers: OwnKeyMap::default(),
            initialising,
            moved_on: Vec::new(),
            armed: Time::MAX,
            wall_time_due: Time::ZERO + WALL_TIME_PERIOD,
            scratch: Scratch::default(),
            full_queues: Seldom::default(),
            leaving: None,
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
        // What the application left in sessions, channels and requests may be dropped in there, and its destructors may
        // do anything to the server.
        let (fed, more) = effects::inside(|| {
            let mut state = self.lock();
            let now = server.inner().clock.now();
            if now >= state.wall_time_due {
                state.engine.set_wall_time(now, clock::unix_time());
                state.wall_time_due = now + WALL_TIME_PERIOD;
            }
            let fed = feed(&mut state, now);
            let more = state.hand_out(self.id, server, now, &mut wakers);
            state.unblock(&mut wakers);
            let sooner = state.engine.poll_timeout().is_some_and(|due| due < state.armed);
            (fed, more || sooner)
        });
        // Woken outside the lock: they will want it.
        wakers.into_iter().for_each(Waker::wake);
        if more {
            self.wake();
        }
        effects::drain(|shard, command| server.command_now(shard, command));
        fed
    }

    /// Asks the engine something. Not inside a hook that it runs: it is locked then.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Engine) -> T) -> T {
        question(&self.lock().engine)
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
    pub(crate) fn decide(&self, server: &Server, decision: Decision, verdict: Verdict, mut effects: Effects) {
        let Effects { commands, .. } = &mut effects;
        let mut own = Vec::with_capacity(commands.len());
        for command in commands.drain(..) {
            match effects::shard_of(&command, self.id) {
                shard if shard == self.id => own.push(command),
                shard => server.command_now(shard, command),
            }
        }
        let id = decision.id();
        let conn = decision.question().conn;
        self.turn(server, |state, now| {
            // Withdrawn: the deadline has passed, or the connection is gone. What the hook did counts all the same.
            let wanted = state.asked.remove(&id);
            for command in own {
                state.handle(now, Input::Command(command));
            }
            let Some(running) = wanted else { return };
            state.handle(now, decision.answer(verdict));
            state.moved_on.extend(conn);
            if let Some(newcomer) = running.newcomer.filter(|id| !state.engine.is_session(id)) {
                // Denied, or nobody is there to have it.
                state.newcomers.remove(&newcomer);
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

    pub(crate) fn offer(&mut self, transports: &[Transport]) {
        self.engine.set_transports(transports);
    }

    /// Takes an envelope, and says whether another may come.
    pub(crate) fn receive(&mut self, now: Time, conn: ConnectionKey, batch: Batch) -> bool {
        trace::received(conn, &batch);
        self.engine.handle(now, Input::Received { conn, batch });
        let Some(near) = self.links.get_mut(&conn) else { return false };
        if near.transport.is_http() {
            if !self.engine.is_processing(conn) {
                // A poll that is held keeps nothing of its request: no hook will ask for it any more.
                near.origin.context = None;
            }
            return false;
        }
        if !self.engine.wants_input(conn) {
            near.blocked = true;
            near.outbox.lock().blocked = true;
        }
        !near.blocked
    }

    pub(crate) fn open(&mut self, conn: ConnectionKey, outbox: Arc<Outbox>, transport: Transport, origin: Origin) {
        if self.stopping && !transport.is_http() {
            outbox.lock().close = Some(CloseReason::Stopping);
        }
        self.links.insert(conn, Near { outbox, transport, origin, blocked: false });
    }

    /// Sets or clears the initialiser of the channel that is created next.
    pub(crate) fn initialising(&self, initialise: Option<Initialise>) {
        *self.initialising.lock().unwrap_or_else(PoisonError::into_inner) = initialise;
    }

    /// What is known of the request that a connection's message came with.
    pub(crate) fn origin(&self, conn: ConnectionKey) -> Option<&Origin> {
        self.links.get(&conn).map(|near| &near.origin)
    }

    /// Forgets a link.
    pub(crate) fn forget(&mut self, conn: ConnectionKey) -> Option<Origin> {
        self.links.remove(&conn).map(|near| near.origin)
    }

    pub(crate) fn is_bound(&self, conn: ConnectionKey) -> bool {
        self.engine.is_bound(conn)
    }

    /// Whether an exchange is held.
    pub(crate) fn is_held(&mut self, conn: ConnectionKey) -> bool {
        let held = self.engine.is_held(conn);
        if held && let Some(near) = self.links.get_mut(&conn) {
            // All hooks on its messages were asked. It holds the request's headers in hyper's buffer.
            near.origin.context = None;
        }
        held
    }

    /// Does what the engine wants done. Says whether more is left.
    fn hand_out(&mut self, id: ShardId, server: &Server, now: Time, wakers: &mut Vec<Waker>) -> bool {
        for _ in 0..OUTPUTS_PER_TURN {
            let Some(output) = self.engine.poll_output() else {
                self.finish_leaving(server, None);
                return false;
            };
            self.finish_leaving(server, Some(&output));
            match output {
                Output::Ready(conn) => wakers.extend(self.drain(now, conn)),
                Output::Close { conn, reason } => wakers.extend(self.close(conn, reason)),
                Output::Ask(decision) => self.ask(id, server, *decision),
                Output::Withdraw(decision) => {
                    if let Some(Running { task, newcomer }) = self.asked.remove(&decision) {
                        task.abort();
                        if let Some(newcomer) = newcomer.filter(|id| !self.engine.is_session(id)) {
                            self.newcomers.remove(&newcomer);
                        }
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
        let Self { engine, links, moved_on, scratch, .. } = self;
        let near = links.get(&conn)?;
        if near.blocked {
            moved_on.push(conn);
        }
        let budget = if near.transport.is_http() { Budget::UNLIMITED } else { SOCKET_BUDGET };
        let mut content = near.outbox.lock();
        let Content { writer, messages, browser, .. } = &mut *content;
        // Also what a panic may have left there: it is another session's.
        scratch.clear();
        let Scratch { messages: direct, bytes } = scratch;
        let into = if writer.is_some() { &mut *direct } else { &mut *messages };
        let before = into.len();
        let drained = engine.drain(now, conn, budget, into);
        if into.len() == before && drained != Drained::Finished {
            return None;
        }
        trace::sent(conn, engine, into.get(before..).unwrap_or_default());
        let wrote = match writer {
            Some(Writer::Stream(writer)) => writer.write(now, direct, bytes),
            Some(Writer::Response(writer)) if drained == Drained::Finished && is_small(direct) => {
                writer.respond(direct, browser.take(), bytes)
            }
            Some(Writer::Response(_)) => {
                // Its task has all of it, or none.
                *writer = None;
                messages.append(direct);
                Wrote::Part
            }
            None => Wrote::Part,
        };
        scratch.clear();
        if wrote == Wrote::All {
            content.over = drained == Drained::Finished;
            let over = content.over;
            drop(content);
            engine.handle(now, Input::Written { conn });
            if over {
                links.remove(&conn);
            }
            return None;
        }
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
        let context = near.and_then(|near| near.origin.context.clone());
        let newcomer = question.session.clone().filter(|_| question.point == Point::Handshake);
        let session = match &newcomer {
            Some(id) => {
                let transport = near.map_or(Transport::LongPolling, |near| near.transport);
                let user_agent = near.and_then(|near| near.origin.user_agent.clone());
                let facts = Arc::new(Facts::new(id.clone(), transport, user_agent));
                self.newcomers.insert(id.clone(), Arc::clone(&facts));
                Some(facts)
            }
            None => question.session.as_ref().and_then(|id| server.sessions_by_id().get(id.as_str())),
        };
        let chain = question.chain;
        let asking = Asking { server: server.clone(), question, session, context, associated: Default::default() };
        let id = decision.id();
        let server = server.clone();
        let runtime = server.inner().runtime.clone();
        let hook = runtime.spawn(async move {
            let (verdict, effects) = effects::collect(chain, asking.answer()).await;
            if !effects.commands.is_empty() {
                server.room().await;
            }
            server.shard(shard).decide(&server, decision, verdict, effects);
        });
        // The task cannot have answered before: it needs this shard's lock.
        self.asked.insert(id, Running { task: hook.abort_handle(), newcomer });
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

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("id", &self.id).finish_non_exhaustive()
    }
}
