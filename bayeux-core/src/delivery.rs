//! Delivery: what may leave now, in which response, in which order (section 14).
//!
//! # Theory of operation
//!
//! Events wait in their session's queue, replies on their connection. Three things let events leave:
//!
//! - *a flush*: an event that may not wait was queued, a lazy timer fired, or the last hold was released. It links the
//!   WebSocket that is the session's push target, or resumes the held meta connect (rules K-13, K-31, Q-8, Q-33).
//! - *a response*: replies take the queue along as the table of section 14.2 says.
//! - *the end of the session*: what is queued leaves with the last response it can have (rules D-2, D-10).
//!
//! A connection with something to write and credit is linked: it stands in one `Output::Ready` until it is drained. The
//! first drain of an exchange takes the whole queue, fixes advice and order, and closes the request's hold (Q-12,
//! On a WebSocket each reply knows how far the queue reached when it was made, so that it leaves right behind
//! the events before it, and pushes follow. What was moved to a connection's `out` but not drained goes back to the
//! queue when the connection closes or is no longer the target; what was drained is the driver's.
//!
//! Only `flush`, `resume_held`, `drain` and `terminate` move events. All of them leave a session with its lazy timer
//! off if its queue is empty.

use bayeux_proto::{Advice, Lazy, Outgoing, Reconnect, Reply};

use crate::config::TransportOptions;
use crate::connection::{Conn, ConnKey, Expiry, Out, Pending, ReplyKind};
use crate::engine::Engine;
use crate::event::{Budget, CloseReason, Drained, Edit, Notice, Output, Points};
use crate::id::ConnectionKey;
use crate::lane::Lane;
use crate::meta::STOPPING_INTERVAL;
use crate::publish::Wake;
use crate::session::{Offered, Session, SessionKey, millis};

impl Session {
    /// Appends an event to the queue and says what it asks for (rules ).
    pub(crate) fn enqueue(&mut self, event: bayeux_proto::Frozen, options: &TransportOptions) -> Wake {
        let lazy = event.lazy();
        match self.queue.offer(event, options) {
            Offered::Queued => {}
            Offered::Dropped(messages) => return Wake::Dropped(messages),
            Offered::Overflow => return Wake::Remove,
        }
        match lazy {
            Lazy::No if self.hold_depth > 0 => Wake::None,
            Lazy::No => {
                let pushed = self.target.is_some() && !self.flush;
                if pushed || self.held.is_some() { Wake::Flush } else { Wake::None }
            }
            Lazy::Yes | Lazy::Within(_) => Wake::Lazy(lazy),
        }
    }

    /// Bookkeeping after events were taken.
    fn after_taking(&mut self) {
        if self.queue.is_empty() {
            self.flush = false;
            self.lazy_at = None;
        }
    }
}

impl Engine {
    // Flushes.

    /// Lets the queue leave at the first chance (rule K-13).
    pub(crate) fn flush(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.lazy_at = None;
        session.flush = !session.queue.is_empty();
        let in_connects_only = session.delivers_in_connects_only(self.config.transport(session.transport));
        match session.target {
            Some(target) if !in_connects_only => self.link(target),
            Some(_) | None => {
                if session.held.is_some() {
                    self.resume_held(key, false);
                }
            }
        }
    }

    /// Starts the lazy timer, or brings it forward (rule Q-33).
    pub(crate) fn start_lazy(&mut self, key: SessionKey, lazy: Lazy) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let delay = match lazy {
            Lazy::Within(timeout) => timeout,
            Lazy::Yes | Lazy::No => {
                let transport = self.config.transport(session.transport);
                session.settings.times().max_lazy_timeout.unwrap_or(transport.max_lazy_timeout)
            }
        };
        if delay.is_zero() {
            session.flush = true;
            if session.hold_depth == 0 {
                self.flush(key);
            }
            return;
        }
        let at = self.now + delay;
        if session.lazy_at.is_none_or(|earlier| at < earlier) {
            session.lazy_at = Some(at);
            self.rearm(key);
        }
    }

    /// Opens a hold (rule Q-40).
    pub(crate) fn hold(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.hold_depth += 1;
        }
    }

    /// Closes a hold; the outermost flushes what may not wait. The timer of lazy events ran on meanwhile (rules Q-35,
    ///
    pub(crate) fn release(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.hold_depth = session.hold_depth.saturating_sub(1);
        if session.hold_depth > 0 {
            return;
        }
        if session.has_due() {
            self.flush(key);
        }
    }

    // Held connects.

    /// Ends a hold with its reply (rules K-13, K-15).
    pub(crate) fn resume_held(&mut self, key: SessionKey, timed_out: bool) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(held) = session.held.take() else { return };
        let expiry = Some(Expiry { session: key, cycle: Some(held.cycle) });
        let id = session.id.clone();
        if held.counted
            && let Some(browser) = &session.browser
        {
            self.browsers.end_hold(browser);
        }
        self.rearm(key);
        self.notice_at(Points::HEARTBEATS, || Notice::Resumed { session: id, timed_out });
        let mut reply = held.reply.unpack();
        reply.ends_envelope = true;
        let pending = Pending { reply, kind: ReplyKind::Connect, position: 0, session: Some(key), expiry };
        self.queue_reply(held.conn, pending);
        self.complete(held.conn, true);
    }

    /// Ends a hold without a reply: over HTTP its exchange fails (rules K-20, L-43), a WebSocket hears nothing (rule
    /// K-21).
    pub(crate) fn drop_held(&mut self, key: SessionKey) {
        let Some(conn) = self.end_held(key) else { return };
        if self.conns.get(conn).is_some_and(Conn::is_http) {
            self.close(conn, CloseReason::ConnectReplaced);
        }
    }

    /// Forgets a hold and returns its connection.
    fn end_held(&mut self, key: SessionKey) -> Option<ConnKey> {
        let session = self.sessions.get_mut(key)?;
        let held = session.held.take()?;
        let id = session.id.clone();
        if held.counted
            && let Some(browser) = &session.browser
        {
            self.browsers.end_hold(browser);
        }
        self.rearm(key);
        self.notice_at(Points::HEARTBEATS, || Notice::Resumed { session: id, timed_out: false });
        Some(held.conn)
    }

    // Push targets.

    /// The newest WebSocket that sent a message is where events go (rules TW-13, L-41, L-43).
    pub(crate) fn take_over(&mut self, key: SessionKey, conn: ConnKey) {
        let Some(session) = self.sessions.get(key) else { return };
        if session.target == Some(conn) {
            return;
        }
        if session.held.as_ref().is_some_and(|held| held.conn != conn) {
            self.drop_held(key);
            // Nothing else would: that connect is never answered.
            self.start_expiry(key, None);
        }
        self.set_target(key, Some(conn));
        let Some(session) = self.sessions.get(key) else { return };
        if session.has_due() && session.hold_depth == 0 {
            self.flush(key);
        }
    }

    /// Changes the push target; what the old one has not written goes back to the queue.
    pub(crate) fn set_target(&mut self, key: SessionKey, target: Option<ConnKey>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(old) = std::mem::replace(&mut session.target, target).filter(|old| Some(*old) != target) else {
            return;
        };
        if let Some(conn) = self.conns.get_mut(old) {
            let (events, replies) = conn.out.drain(..).partition(|out| matches!(out.message, Outgoing::Event(_)));
            conn.out = replies;
            give_back(session, events);
        }
    }

    // Replies.

    /// Queues a reply behind the events that go before it.
    pub(crate) fn queue_reply(&mut self, key: ConnKey, mut pending: Pending) {
        let Some(conn) = self.conns.get_mut(key) else {
            // Nobody will write it, which is as good as a failed write (rule L-20).
            if let Some(expiry) = pending.expiry {
                self.start_expiry(expiry.session, expiry.cycle);
            }
            return;
        };
        if conn.replies.capacity() == 0 {
            std::mem::swap(&mut conn.replies, &mut self.spare.replies);
        }
        if conn.is_http() {
            conn.replies.push_back(pending);
            return;
        }
        let options = self.config.transport(conn.facts.transport);
        if let Some(session) = conn.session.and_then(|session| self.sessions.get(session))
            && session.target == Some(key)
        {
            let in_connects_only = session.delivers_in_connects_only(options);
            pending.position = match pending.kind {
                ReplyKind::Connect => session.queue.tail(),
                ReplyKind::Other if !in_connects_only => session.queue.tail(),
                ReplyKind::Other | ReplyKind::Handshake => 0,
            };
        }
        conn.replies.push_back(pending);
        self.link(key);
    }

    /// An envelope was processed: its replies are queued together, and its response may go, unless its connect is held.
    pub(crate) fn finish_envelope(&mut self, lane: &mut Lane) {
        let Some(key) = lane.conn else { return };
        if let Some(last) = lane.replies.last_mut() {
            last.reply.ends_envelope = true;
        }
        let has_connect = lane.replies.iter().any(|pending| pending.kind == ReplyKind::Connect);
        let is_handshake = lane.replies.iter().any(|pending| pending.kind == ReplyKind::Handshake);
        for pending in lane.replies.drain(..) {
            self.queue_reply(key, pending);
        }
        let Some(conn) = self.conns.get(key) else { return };
        if !conn.is_http() || conn.orphan.is_some() {
            return;
        }
        let session = lane.session.and_then(|session| self.sessions.get(session));
        if session.is_some_and(|session| session.held.as_ref().is_some_and(|held| held.conn == key)) {
            return;
        }
        let options = self.config.transport(conn.facts.transport);
        // The table of section 14.2. A response to an unknown session takes nothing (rule Q-15).
        let takes_queue =
            session.is_some_and(|session| has_connect || !is_handshake && !session.delivers_in_connects_only(options));
        self.complete(key, takes_queue);
    }

    /// All replies of an exchange are there.
    pub(crate) fn complete(&mut self, key: ConnKey, takes_queue: bool) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.is_http() {
            conn.exchange.complete = true;
            conn.exchange.takes_queue = takes_queue;
            self.link(key);
        }
    }

    /// Announces that a connection has something to write, once.
    pub(crate) fn link(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if !conn.linked && !conn.in_flight {
            conn.linked = true;
            self.outputs.push_back(Output::Ready(conn.key));
        }
    }

    // Draining.

    /// See [`Engine::drain`](crate::Engine::drain).
    pub(crate) fn drain_connection(&mut self, name: ConnectionKey, budget: Budget, out: &mut Vec<Outgoing>) -> Drained {
        let Some(key) = self.conns.find(name) else { return Drained::Idle };
        let Some(conn) = self.conns.get_mut(key) else { return Drained::Idle };
        conn.linked = false;
        if conn.in_flight {
            return Drained::More;
        }
        if conn.is_http() {
            if !conn.exchange.complete {
                return Drained::Idle;
            }
            self.fix_response(key);
        } else {
            self.settle(key);
        }
        let before = out.len();
        let mut left = budget;
        let Some(conn) = self.conns.get_mut(key) else { return Drained::Idle };
        while let Some(next) = conn.out.front() {
            // The replies to one envelope are one frame (rule TW-8).
            let within =
                matches!(out.last(), Some(Outgoing::Reply(reply)) if out.len() > before && !reply.ends_envelope);
            if !left.spend(&next.message, out.len() > before) && !within {
                break;
            }
            let Some(next) = conn.out.pop_front() else { break };
            conn.expiring.extend(next.expiry);
            out.push(next.message);
        }
        let mut more = !conn.out.is_empty();
        let http = conn.is_http();
        if !http && !more {
            more = self.push_queue(key, &mut left, out.len() > before, out);
        }
        let Some(conn) = self.conns.get_mut(key) else { return Drained::Idle };
        conn.in_flight = http || out.len() > before;
        if conn.out.is_empty() && conn.out.capacity() <= SPARE_MAX {
            self.spare.out = std::mem::take(&mut conn.out);
        } else if conn.out.is_empty() {
            conn.out = std::collections::VecDeque::new();
        }
        if more {
            Drained::More
        } else if http {
            Drained::Finished
        } else {
            Drained::Idle
        }
    }

    /// Moves events straight from the queue of the session whose push target this is; returns whether more are due.
    fn push_queue(&mut self, key: ConnKey, left: &mut Budget, mut some: bool, out: &mut Vec<Outgoing>) -> bool {
        let Some(session) = self.conns.get(key).and_then(|conn| conn.session) else { return false };
        let Some(session) = self.sessions.get_mut(session) else { return false };
        let options = self.config.transport(session.transport);
        let pushes = session.target == Some(key) && session.hold_depth == 0 && session.flush;
        if !pushes || session.delivers_in_connects_only(options) {
            return false;
        }
        while let Some(size) = session.queue.front_size() {
            if !left.spend_bytes(size, some) {
                return true;
            }
            some = true;
            out.extend(session.queue.pop_front().map(Outgoing::Event));
        }
        session.after_taking();
        false
    }

    /// Decides what an exchange's response is: handshake reply, queue, other replies (rules ).
    fn fix_response(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if std::mem::replace(&mut conn.exchange.fixed, true) {
            return;
        }
        let exchange = conn.exchange;
        let session = conn.session;
        let transport = conn.facts.transport;
        let replies = std::mem::take(&mut conn.replies);
        let (handshakes, others): (Vec<_>, Vec<_>) =
            replies.into_iter().partition(|pending| pending.kind == ReplyKind::Handshake);
        for pending in handshakes {
            self.settle_handshake(key, pending, transport);
        }
        if exchange.takes_queue {
            self.take_events(key, session, u64::MAX);
        }
        for pending in others {
            self.settle_reply(key, pending);
        }
        if let Some(held) = exchange.hold {
            if let Some(conn) = self.conns.get_mut(key) {
                conn.exchange.hold = None;
            }
            self.release(held);
        }
    }

    /// Moves what a WebSocket's replies bring along, and the replies, to where their order is final.
    pub(crate) fn settle(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.replies.is_empty() {
            return;
        }
        if conn.out.capacity() == 0 {
            std::mem::swap(&mut conn.out, &mut self.spare.out);
        }
        let transport = conn.facts.transport;
        let mut replies = std::mem::take(&mut conn.replies);
        for pending in replies.drain(..) {
            match pending.kind {
                ReplyKind::Handshake => self.settle_handshake(key, pending, transport),
                ReplyKind::Connect | ReplyKind::Other => {
                    let session = self.conns.get(key).and_then(|conn| conn.session);
                    let is_target =
                        session.and_then(|session| self.sessions.get(session)).is_some_and(|s| s.target == Some(key));
                    if is_target {
                        self.take_events(key, session, pending.position);
                    }
                    self.settle_reply(key, pending);
                }
            }
        }
        if replies.capacity() <= SPARE_MAX {
            self.spare.replies = replies;
        }
    }

    /// A handshake reply comes first, with the queue behind it where that is allowed (rule H-20).
    fn settle_handshake(&mut self, key: ConnKey, mut pending: Pending, transport: crate::Transport) {
        let session = pending.session;
        let rides = self.config.transport(transport).allow_message_delivery_during_handshake;
        let queued = session.and_then(|key| self.sessions.get(key)).map_or(0, |session| session.queue.len());
        if rides && let Some(handshake) = &mut pending.reply.handshake {
            handshake.messages = queued;
        }
        self.settle_reply(key, pending);
        if rides {
            self.take_events(key, session, u64::MAX);
        }
    }

    /// Moves the events below `position` to the connection.
    fn take_events(&mut self, key: ConnKey, session: Option<SessionKey>, position: u64) {
        let Some(session) = session.and_then(|session| self.sessions.get_mut(session)) else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        while session.queue.head() < position {
            let Some(event) = session.queue.pop_front() else { break };
            conn.out.push_back(Out { message: Outgoing::Event(event), expiry: None });
        }
        session.after_taking();
    }

    /// Gives a reply its last touch and its place (rules G-14, V-12).
    fn settle_reply(&mut self, key: ConnKey, mut pending: Pending) {
        if pending.kind == ReplyKind::Connect && pending.reply.successful {
            self.advise(&mut pending);
        }
        let session = pending.session.and_then(|key| self.sessions.get(key));
        if self.hooks.points().contains(Points::REPLY)
            && matches!(self.hooks.reply(session.map(|session| &session.id), &mut pending.reply), Edit::Drop)
        {
            if let Some(expiry) = pending.expiry {
                self.start_expiry(expiry.session, expiry.cycle);
            }
            return;
        }
        if let Some(conn) = self.conns.get_mut(key) {
            conn.out.push_back(Out { message: Outgoing::Reply(pending.reply), expiry: pending.expiry });
        }
    }

    /// Takes advice again, so that a setting made while the connect was held reaches the client in this very reply
    /// (rule V-12).
    fn advise(&mut self, pending: &mut Pending) {
        let advice = &mut pending.reply.advice;
        if let Some(session) = pending.session.and_then(|key| self.sessions.get_mut(key))
            && !advice.multiple_clients
        {
            let transport = session.transport;
            let regular = session.take_advice(transport, self.config.transport(transport));
            *advice = advice.overlaid_with(regular);
        }
        if self.stopping {
            let stopping = Advice {
                reconnect: Some(Reconnect::Retry),
                interval_ms: Some(millis(STOPPING_INTERVAL)),
                ..Advice::default()
            };
            *advice = stopping.overlaid_with(Advice { interval_ms: None, ..*advice });
        }
    }

    /// Events and a last reply that a session leaves to a connection when it ends.
    pub(crate) fn bequeath(&mut self, from: SessionKey, key: ConnKey, reply: Option<Box<Reply>>) {
        if !self.conns.get(key).is_some_and(Conn::is_http) {
            self.settle(key);
        }
        self.take_events(key, Some(from), u64::MAX);
        if let Some(mut reply) = reply {
            reply.ends_envelope = true;
            let pending = Pending { reply, kind: ReplyKind::Other, position: 0, session: None, expiry: None };
            self.settle_reply(key, pending);
            if let Some(conn) = self.conns.get_mut(key) {
                conn.exchange.complete = true;
            }
        }
        if self.conns.get(key).is_some_and(|conn| !conn.is_http() || conn.exchange.complete) {
            self.link(key);
        }
    }

    // The end of a write, and of a connection.

    /// What was drained has left, or failed to (rule L-20).
    pub(crate) fn written(&mut self, name: ConnectionKey) {
        let Some(key) = self.conns.find(name) else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.in_flight = false;
        let expiring = std::mem::take(&mut conn.expiring);
        let finished = conn.is_http() && conn.exchange.fixed && conn.out.is_empty();
        if finished {
            self.conns.remove(key);
        } else {
            let pushes = conn.session.and_then(|session| self.sessions.get(session));
            let flush = pushes.is_some_and(|session| {
                session.flush
                    && session.target == Some(key)
                    && session.hold_depth == 0
                    && !session.delivers_in_connects_only(self.config.transport(session.transport))
            });
            let more = !conn.out.is_empty() || !conn.replies.is_empty() && !conn.is_http() || flush;
            if more {
                self.link(key);
            }
        }
        for expiry in expiring {
            self.start_expiry(expiry.session, expiry.cycle);
        }
    }

    /// Closes a connection for a reason, and forgets it.
    pub(crate) fn close(&mut self, key: ConnKey, reason: CloseReason) {
        let Some(conn) = self.conns.get(key) else { return };
        self.outputs.push_back(Output::Close { conn: conn.key, reason });
        self.forget(key);
    }

    /// A connection is gone: nothing is written into it, and what it had not written goes back (rules L-46, L-47,
    /// Z-16).
    pub(crate) fn forget(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.remove(key) else { return };
        if let Some(timer) = conn.timer {
            self.timers.cancel(timer);
        }
        let unsent = conn.out.iter().map(|out| out.expiry).chain(conn.replies.iter().map(|reply| reply.expiry));
        let expiring: Vec<_> = conn.expiring.iter().copied().chain(unsent.flatten()).collect();
        let session = conn.session;
        if let Some(held) = conn.exchange.hold {
            self.release(held);
        }
        if let Some(lane) = conn.lane {
            self.abandon_handshake(lane);
        }
        if let Some(session) = session.and_then(|session| self.sessions.get_mut(session)) {
            give_back(session, conn.out);
        }
        if let Some(key_of) = session {
            self.leave(key_of, key);
        }
        for expiry in expiring {
            self.start_expiry(expiry.session, expiry.cycle);
        }
    }

    /// Ends what a session had on a connection that is gone.
    fn leave(&mut self, session_key: SessionKey, conn: ConnKey) {
        let Some(session) = self.sessions.get(session_key) else { return };
        let was_held = session.held.as_ref().is_some_and(|held| held.conn == conn);
        let was_target = session.target == Some(conn);
        if was_held {
            self.end_held(session_key);
        }
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        if was_target {
            session.target = None;
        }
        if (was_held || was_target) && session.held.is_none() && session.expire_at.is_none() {
            // A silent death is noticed now, not when the hold would have timed out (rule L-47).
            self.start_expiry(session_key, None);
        }
        let Some(session) = self.sessions.get(session_key) else { return };
        if session.has_due() && session.hold_depth == 0 {
            self.flush(session_key);
        }
    }
}

impl Budget {
    /// Whether `message` may still go; the first always may.
    fn spend(&mut self, message: &Outgoing, some: bool) -> bool {
        let size = match message {
            Outgoing::Event(event) => event.size(),
            Outgoing::Reply(_) => 0,
        };
        self.spend_bytes(size, some)
    }

    fn spend_bytes(&mut self, size: usize, some: bool) -> bool {
        if some && (self.messages == 0 || self.bytes < size) {
            return false;
        }
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        true
    }
}

/// Slots of a buffer worth keeping for the next connection.
const SPARE_MAX: usize = 1_024;

/// Puts events that were never written back to where they came from.
fn give_back(session: &mut Session, out: std::collections::VecDeque<Out>) {
    for out in out.into_iter().rev() {
        if let Outgoing::Event(event) = out.message {
            session.queue.push_front(event);
        }
    }
}
