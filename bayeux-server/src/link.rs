//! Links: the two ends of a connection, one in its shard, one in its task.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bayeux_core::{BrowserId, CloseReason, ConnectionKey, Drained, Input, LinkFacts, ShardId};
use bayeux_proto::{Batch, Outgoing};

use crate::context::Origin;
use crate::server::Server;

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
    /// There are messages to write. Once they are written, or could not be, call [`Link::written`]; until then there
    /// will be no others.
    Write,
    /// The connection is to be closed, or the exchange answered with the status that the reason has.
    Close(CloseReason),
    /// It may be read from again: see [`Link::wants_input`].
    Resume,
}

/// What a shard has for a connection's task.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Mutex<Content>);

#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) messages: Vec<Outgoing>,
    /// What the last drain said, until the task took its messages.
    pub(crate) drained: Option<Drained>,
    pub(crate) browser: Option<BrowserId>,
    pub(crate) close: Option<CloseReason>,
    /// Whether the engine wants no input for now.
    pub(crate) blocked: bool,
    /// Set when it wants input again.
    pub(crate) resumed: bool,
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
    pub(crate) fn exchange(server: Server, shard: ShardId, facts: LinkFacts, origin: Origin, batch: Batch) -> Self {
        let mut link = Self::new(server, shard, facts);
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

    /// Takes an envelope that was received and processes it as far as possible at once. Waits beforehand while the
    /// links between shards are full.
    pub async fn receive(&mut self, batch: Batch) {
        if self.phase != Phase::Open {
            return;
        }
        self.server.room().await;
        if let Some(home) = self.server.shard_of_first(&batch)
            && home != self.shard
            && let Some(origin) = self.leave()
        {
            // What this shard wanted written, replies without session, is in the outbox and goes first.
            self.shard = home;
            self.conn = self.server.next_connection();
            self.open(origin, Some(batch));
            return;
        }
        let conn = self.conn;
        self.server.shard(self.shard).turn(&self.server, |state, now| state.receive(now, conn, batch));
    }

    /// Leaves the shard, unless the connection is bound to a session there (rules TW-10, TW-11).
    fn leave(&self) -> Option<Origin> {
        let conn = self.conn;
        self.server.shard(self.shard).turn(&self.server, |state, now| {
            if state.is_bound(conn) {
                return None;
            }
            let origin = state.forget(conn).unwrap_or_default();
            state.handle(now, Input::Closed { conn });
            Some(origin)
        })
    }

    /// Whether another envelope may be handed over. Where false, keep it, and read no further until
    /// [`LinkEvent::Resume`]: that is how back-pressure reaches the client.
    pub fn wants_input(&self) -> bool {
        !self.outbox.lock().blocked
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

    /// Waits for the whole response of an exchange.
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
                    if self.phase == Phase::Answered {
                        return Ok(response);
                    }
                    self.written();
                }
                LinkEvent::Close(reason) => return Err(reason),
                LinkEvent::Resume => {}
            }
        }
    }

    /// Tells the engine what dropping the link would, before its task is done.
    pub fn close(&mut self) {
        let conn = self.conn;
        let input = match mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Open | Phase::Closing => Input::Closed { conn },
            Phase::Answered => Input::Written { conn },
            Phase::Gone => return,
        };
        self.server.shard(self.shard).turn(&self.server, |state, now| {
            state.forget(conn);
            state.handle(now, input);
        });
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
