//! Links: the two ends of a connection, one in its shard, one in its task.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bayeux_core::{BrowserId, CloseReason, ConnectionKey, Drained, Input, LinkFacts, ShardId};
use bayeux_proto::{Batch, Outgoing};

use crate::context::Context;
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
}

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The engine knows the connection.
    Open,
    /// The exchange has its whole response, which is being written.
    Answered,
    /// The engine has forgotten the connection.
    Forgotten,
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
        context: Option<Arc<Context>>,
        batch: Batch,
    ) -> Self {
        let link = Self::new(server, shard, facts);
        link.open(context, Some(batch));
        link
    }

    pub(crate) fn connect(server: Server, shard: ShardId, facts: LinkFacts, context: Option<Arc<Context>>) -> Self {
        let link = Self::new(server, shard, facts);
        link.open(context, None);
        link
    }

    fn new(server: Server, shard: ShardId, facts: LinkFacts) -> Self {
        server.link_opened();
        let conn = server.next_connection();
        Self { server, shard, conn, outbox: Arc::default(), facts, phase: Phase::Open }
    }

    fn open(&self, context: Option<Arc<Context>>, batch: Option<Batch>) {
        let (conn, outbox, link) = (self.conn, Arc::clone(&self.outbox), self.facts.clone());
        self.server.shard(self.shard).turn(&self.server, |state, now| {
            state.open(conn, outbox, link.transport, context);
            state.handle(now, Input::Opened { conn, link });
            if let Some(batch) = batch {
                state.handle(now, Input::Received { conn, batch });
            }
        });
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
            && self.move_to(home, &batch)
        {
            return;
        }
        let conn = self.conn;
        self.server.shard(self.shard).turn(&self.server, |state, now| {
            state.handle(now, Input::Received { conn, batch });
        });
    }

    /// Moves the connection to the shard of the session that its envelope names, unless it is bound to a session here
    /// (rules TW-10, TW-11). Says whether it did, and thereby took the envelope.
    fn move_to(&mut self, home: ShardId, batch: &Batch) -> bool {
        let old = self.conn;
        let context = self.server.shard(self.shard).turn(&self.server, |state, now| {
            if state.is_bound(old) {
                return None;
            }
            let context = state.forget(old);
            state.handle(now, Input::Closed { conn: old });
            Some(context)
        });
        let Some(context) = context else { return false };
        self.shard = home;
        self.conn = self.server.next_connection();
        // What the old shard wanted written, replies without session, is in the outbox and goes first.
        self.open(context, Some(batch.clone()));
        true
    }

    /// Whether another envelope may be handed over. Where false, keep it, and read no further until
    /// [`LinkEvent::Resume`]: that is how back-pressure reaches the client.
    pub fn wants_input(&self) -> bool {
        !self.outbox.lock().blocked
    }

    /// Waits for what happens next. With [`LinkEvent::Write`], the messages are in `messages`, which must be empty
    /// before. Cancel-safe.
    pub async fn event(&mut self, messages: &mut Vec<Outgoing>) -> LinkEvent {
        poll_fn(|cx| match self.take(messages) {
            Some(event) => Poll::Ready(event),
            None => {
                let mut content = self.outbox.lock();
                // A shard may have come between the look and this lock.
                if content.drained.is_some() || content.close.is_some() || content.resumed {
                    drop(content);
                    return self.take(messages).map_or(Poll::Pending, Poll::Ready);
                }
                match &mut content.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        })
        .await
    }

    /// What happened already, without waiting.
    fn take(&mut self, messages: &mut Vec<Outgoing>) -> Option<LinkEvent> {
        let mut content = self.outbox.lock();
        content.resumed = false;
        if let Some(drained) = content.drained.take() {
            mem::swap(messages, &mut content.messages);
            if drained == Drained::Finished {
                self.phase = Phase::Answered;
            }
            return Some(LinkEvent::Write);
        }
        content.close.take().map(|reason| {
            self.phase = Phase::Forgotten;
            LinkEvent::Close(reason)
        })
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
        let conn = self.conn;
        let input = match self.phase {
            Phase::Open => Some(Input::Closed { conn }),
            Phase::Answered => Some(Input::Written { conn }),
            Phase::Forgotten => None,
        };
        if let Some(input) = input {
            self.server.shard(self.shard).turn(&self.server, |state, now| {
                state.forget(conn);
                state.handle(now, input);
            });
        }
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
