//! Links: the two ends of a connection, one in its shard, one in its task.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bayeux_core::{BrowserId, CloseReason, ConnectionKey, Drained, Input, LinkFacts, ShardId, Time};
use bayeux_proto::{Batch, Outgoing};
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use crate::context::Origin;
use crate::server::Server;

/// How many envelopes of one connection a turn processes before others may have the shard: some hundred microseconds.
const BATCHES_PER_TURN: usize = 64;

/// A connection as its transport drives it: one HTTP exchange, or one WebSocket.
///
/// Dropping it tells the engine that the connection is gone, or, for an exchange whose response was handed out, that
/// the response was written.
pub struct Link {
    server: Server,
    shard: ShardId,
    conn: ConnectionKey,
    outbox: Arc<Outbox>,
    facts: LinkFacts,
    phase: Phase,
    held: bool,
}

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The engine knows the connection.
    Open,
    /// The exchange has its whole response, which is being written.
    Answered,
    /// It is to be closed.
    Closing,
    /// The engine has heard that it is gone.
    Gone,
}

/// What happened to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEvent {
    /// There are messages to write, or a [`DirectWriter`] has something left of them. Once they are written, or could
    /// not be, call [`Link::written`]; until then there will be no others.
    Write,
    /// The connection is to be closed, or the exchange answered with the status that the reason has.
    Close(CloseReason),
    /// It may be read from again: see [`Link::wants_input`].
    Resume,
}

/// The non-blocking write side of a connection: whoever has messages for a link that has one writes them there and
/// then, and wakes no task.
///
/// It is called with its shard locked: it must not wait, and must not call the server.
pub trait DirectWriter: Send {
    /// Writes messages as far as the connection takes them, and keeps the rest. `now` is the server's time, see
    /// [`Link::instant`]; `scratch` is empty, and may be used for anything.
    fn write(&mut self, now: Time, messages: &[Outgoing], scratch: &mut Vec<u8>) -> Wrote;
}

/// The non-blocking way to answer an exchange: whoever makes the response writes it there and then, and wakes no task.
///
/// It is called with its shard locked: it must not wait, and must not call the server. It is called once, or not at all:
/// a response that is large, or comes in parts, is left to the link's task.
pub trait DirectResponse: Send + Sync {
    /// Writes the response with all of these messages, and the cookie of `browser`, if any (rule TH-20), as far as the
    /// connection takes it, and keeps the rest. `scratch` is empty, and may be used for anything.
    fn respond(&self, messages: &[Outgoing], browser: Option<BrowserId>, scratch: &mut Vec<u8>) -> Wrote;
}

/// What writes directly.
pub(crate) enum Writer {
    Stream(Box<dyn DirectWriter>),
    Response(Arc<dyn DirectResponse>),
}

/// How far a [`DirectWriter`] or [`DirectResponse`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// All is written.
    All,
    /// Some is left, or the connection is broken: its task has to see to it, and hears of it as [`LinkEvent::Write`],
    /// without messages.
    Part,
}

/// What a shard has for a connection's task.
#[derive(Default)]
pub(crate) struct Outbox(Mutex<Content>);

#[derive(Default)]
pub(crate) struct Content {
    /// Where there is one, messages go there, and not into `messages`.
    pub(crate) writer: Option<Writer>,
    pub(crate) messages: Vec<Outgoing>,
    /// What the last drain said, until the task took its messages.
    pub(crate) drained: Option<Drained>,
    pub(crate) browser: Option<BrowserId>,
    pub(crate) close: Option<CloseReason>,
    /// Whether the engine wants no input for now.
    pub(crate) blocked: bool,
    /// Set when it wants input again.
    pub(crate) resumed: bool,
    /// Whether the exchange is over: the response is written, and the engine knows it.
    pub(crate) over: bool,
    waker: Option<Waker>,
}

impl Outbox {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Content> {
        // Nothing in here can be left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn take(&mut self, messages: &mut Vec<Outgoing>, phase: &mut Phase) -> Option<LinkEvent> {
        if let Some(drained) = self.drained.take() {
            // The buffers change hands, so that neither side allocates while messages flow.
            mem::swap(messages, &mut self.messages);
            if drained == Drained::Finished {
                *phase = Phase::Answered;
            }
            return Some(LinkEvent::Write);
        }
        if self.over {
            *phase = Phase::Gone;
            return Some(LinkEvent::Write);
        }
        if let Some(reason) = self.close.take() {
            *phase = Phase::Closing;
            return Some(LinkEvent::Close(reason));
        }
        mem::take(&mut self.resumed).then_some(LinkEvent::Resume)
    }

    fn wake_later(&mut self, task: &Waker) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(task),
            none => *none = Some(task.clone()),
        }
    }

    /// The task to wake because something changed, if it sleeps.
    pub(crate) fn waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }
}

impl Link {
    pub(crate) fn exchange(
        server: Server,
        shard: ShardId,
        facts: LinkFacts,
        origin: Origin,
        batch: Batch,
        writer: Option<Arc<dyn DirectResponse>>,
    ) -> Self {
        let mut link = Self::new(server, shard, facts);
        link.outbox.lock().writer = writer.map(Writer::Response);
        link.held = link.open(origin, Some(batch));
        link
    }

    pub(crate) fn connect(server: Server, shard: ShardId, facts: LinkFacts, origin: Origin) -> Self {
        let link = Self::new(server, shard, facts);
        link.open(origin, None);
        link
    }

    fn new(server: Server, shard: ShardId, facts: LinkFacts) -> Self {
        server.link_opened();
        let conn = server.next_connection();
        Self { server, shard, conn, outbox: Arc::default(), facts, phase: Phase::Open, held: false }
    }

    /// Says whether it is an exchange that is held now.
    fn open(&self, origin: Origin, batch: Option<Batch>) -> bool {
        let (conn, outbox, link) = (self.conn, Arc::clone(&self.outbox), self.facts.clone());
        let is_http = link.transport.is_http();
        self.server.shard(self.shard).turn(&self.server, |state, now| {
            state.open(conn, outbox, link.transport, origin);
            state.handle(now, Input::Opened { conn, link });
            if let Some(batch) = batch {
                state.receive(now, conn, batch);
                return is_http && state.is_held(conn);
            }
            false
        })
    }

    /// Whether the exchange began as a connect that is held: its response may take long.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Has whoever has messages for it write them to `writer`. Before anything is received.
    pub fn write_directly(&mut self, writer: Box<dyn DirectWriter>) {
        self.outbox.lock().writer = Some(Writer::Stream(writer));
    }

    /// A moment of the server's time.
    pub fn instant(&self, time: Time) -> Option<Instant> {
        self.server.inner().clock.instant(time)
    }

    /// Takes an envelope that was received and processes it as far as possible at once. Waits beforehand while the
    /// links between shards are full.
    pub async fn receive(&mut self, batch: Batch) {
        self.take(batch, &mut VecDeque::new()).await;
    }

    /// As [`Link::receive`] for several, oldest first: those for one shard in one turn, so that what they cause is
    /// written together. What is left in `batches` has to wait, for the engine ([`Link::wants_input`]), or for the
    /// connection's task to see to a [`LinkEvent`].
    pub async fn receive_all(&mut self, batches: &mut VecDeque<Batch>) {
        while self.is_ready()
            && let Some(first) = batches.pop_front()
        {
            self.take(first, batches).await;
            // Whoever sends without end is not to keep others waiting.
            consume_budget().await;
        }
    }

    /// Whether the next envelope may be processed: not before the connection's task has seen to what earlier ones left
    /// it, a close above all.
    fn is_ready(&self) -> bool {
        let content = self.outbox.lock();
        !content.blocked && content.drained.is_none() && content.close.is_none()
    }

    /// Processes `first`, and of `more` what can be processed in the same turn.
    async fn take(&mut self, first: Batch, more: &mut VecDeque<Batch>) {
        if self.phase != Phase::Open {
            more.clear();
            return;
        }
        self.server.room().await;
        if let Some(home) = self.server.shard_of_first(&first)
            && home != self.shard
            && let Some(origin) = self.leave()
        {
            // What this shard wanted written, replies without session, is in the outbox and goes first.
            self.shard = home;
            self.conn = self.server.next_connection();
            self.open(origin, Some(first));
            return;
        }
        let (conn, server, shard) = (self.conn, &self.server, self.shard);
        let stays = |batch: &Batch| server.shard_of_first(batch).is_none_or(|home| home == shard);
        server.shard(shard).turn(server, |state, now| {
            let mut wants_more = state.receive(now, conn, first);
            for _ in 1..BATCHES_PER_TURN {
                if !wants_more || !more.front().is_some_and(stays) {
                    break;
                }
                let Some(batch) = more.pop_front() else { break };
                wants_more = state.receive(now, conn, batch);
            }
        });
    }

    /// Leaves the shard, unless the connection is bound to a session there (rules TW-10, TW-11).
    fn leave(&self) -> Option<Origin> {
        let conn = self.conn;
        self.server.shard(self.shard).turn(&self.server, |state, now| {
            if state.is_bound(conn) {
                return None;
            }
            // `None`: it is to be closed, and goes nowhere any more.
            let origin = state.forget(conn)?;
            state.handle(now, Input::Closed { conn });
            Some(origin)
        })
    }

    /// Whether another envelope may be handed over. Where false, keep it, and read no further until
    /// [`LinkEvent::Resume`]: that is how back-pressure reaches the client.
    pub fn wants_input(&self) -> bool {
        !self.outbox.lock().blocked
    }

    /// Whether the connection is to be closed: [`LinkEvent::Close`] follows, behind a [`LinkEvent::Write`] at most.
    pub fn is_closing(&self) -> bool {
        self.outbox.lock().close.is_some()
    }

    /// Waits for what happens next. With [`LinkEvent::Write`], the messages are in `messages`, which must be empty
    /// before. Cancel-safe.
    pub async fn event(&mut self, messages: &mut Vec<Outgoing>) -> LinkEvent {
        poll_fn(|cx| {
            let mut content = self.outbox.lock();
            if let Some(event) = content.take(messages, &mut self.phase) {
                return Poll::Ready(event);
            }
            content.wake_later(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Waits until the connection is to be closed, whatever else there is for it. Cancel-safe.
    pub async fn closing(&mut self) {
        poll_fn(|cx| {
            let mut content = self.outbox.lock();
            if content.close.is_some() {
                return Poll::Ready(());
            }
            content.wake_later(cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// The browser cookie to set in the response of this exchange, if any (rule TH-20).
    pub fn browser(&mut self) -> Option<BrowserId> {
        self.outbox.lock().browser.take()
    }

    /// Waits for the whole response of an exchange. It has no messages where a [`DirectResponse`] had them.
    ///
    /// # Errors
    /// The reason why there is none.
    pub async fn response(&mut self) -> Result<Vec<Outgoing>, CloseReason> {
        let mut response = Vec::new();
        let mut part = Vec::new();
        loop {
            match self.event(&mut part).await {
                LinkEvent::Write => {
                    response.append(&mut part);
                    if matches!(self.phase, Phase::Answered | Phase::Gone) {
                        return Ok(response);
                    }
                    self.written();
                }
                LinkEvent::Close(reason) => return Err(reason),
                LinkEvent::Resume => {}
            }
        }
    }

    /// Tells the engine what dropping the link would, before its task is done. The link's [`DirectWriter`] is dropped.
    pub fn close(&mut self) {
        let conn = self.conn;
        if mem::take(&mut self.outbox.lock().over) {
            self.phase = Phase::Gone;
        }
        let input = match mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Open | Phase::Closing => Input::Closed { conn },
            Phase::Answered => Input::Written { conn },
            Phase::Gone => return,
        };
        self.server.shard(self.shard).turn(&self.server, |state, now| {
            state.forget(conn);
            state.handle(now, input);
        });
        self.outbox.lock().writer = None;
    }

    /// Says that what [`Link::event`] handed out is written, or could not be.
    pub fn written(&self) {
        if self.phase == Phase::Open {
            let conn = self.conn;
            let written = |state: &mut crate::shard::State, now| state.handle(now, Input::Written { conn });
            self.server.shard(self.shard).turn(&self.server, written);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
        self.server.link_closed();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("shard", &self.shard)
            .field("conn", &self.conn)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}
