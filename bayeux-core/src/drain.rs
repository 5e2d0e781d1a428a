//! Draining: what a connection writes, in which order, and what its writing sets off.
//!
//! # Theory of operation
//!
//! Replies wait on their connection. The first drain of an HTTP exchange takes the whole queue, fixes advice and order,
//! and closes the request's hold; what a budget leaves over stays in the exchange's `out`. On a WebSocket
//! nothing moves ahead of the budget: each reply knows how far its session's queue reached when its envelope was done,
//! so that a drain takes the events before it straight from the queue, then the reply, then what is to be pushed. A
//! WebSocket's `out` holds only what an ended session left behind, and goes first.

use std::collections::VecDeque;

use bayeux_proto::{AckReply, Advice, Outgoing, Reconnect, Reply, WHOLE_BATCH, meta};

use crate::config::Transport;
use crate::connection::{Conn, ConnKey, Out, Pending, ReplyKind};
use crate::engine::Engine;
use crate::event::{Budget, CloseReason, Drained, Edit, Notice, Output, Points};
use crate::ext::TIMESTAMP;
use crate::id::ConnectionKey;
use crate::lane::Lane;
use crate::meta::STOPPING_INTERVAL;
use crate::queue::QueueView;
use crate::session::{SessionKey, millis};

/// What one drain may hand out, and has.
struct Share<'a> {
    left: Budget,
    out: &'a mut Vec<Outgoing>,
    /// Length of `out` before this drain.
    begin: usize,
}

impl Share<'_> {
    fn is_empty(&self) -> bool {
        self.out.len() == self.begin
    }

    /// Whether a message of that size may still go. The first always may, and so may replies to an envelope whose
    /// replies are being written: they are one frame (rule TW-8).
    fn takes(&mut self, size: usize, reply: bool) -> bool {
        let within = reply && matches!(self.out.last(), Some(Outgoing::Reply(last)) if !last.ends_envelope);
        if !self.is_empty() && !within && (self.left.messages == 0 || self.left.bytes < size) {
            return false;
        }
        self.spend(size);
        true
    }

    /// A message of that size goes, whatever is left.
    fn spend(&mut self, size: usize) {
        self.left.messages = self.left.messages.saturating_sub(1);
        self.left.bytes = self.left.bytes.saturating_sub(size);
    }

    /// The reply that would have ended its envelope was dropped: the one before it does.
    fn end_envelope(&mut self) {
        if let Some(Outgoing::Reply(last)) = self.out.last_mut() {
            last.ends_envelope = true;
        }
    }
}

impl Engine {
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
        if let Some(session) = pending.session.and_then(|session| self.sessions.get(session))
            && session.target == Some(key)
        {
            let in_connects_only = session.delivers_in_connects_only(self.config.transport(conn.facts.transport));
            // With acknowledgements only connect replies take events, each as many as its batch has (rule XA-5).
            let numbered = session.unacknowledged.is_none();
            pending.position = match pending.kind {
                ReplyKind::Connect if numbered => session.queue.tail(),
                ReplyKind::Other if !in_connects_only => session.queue.tail(),
                ReplyKind::Connect | ReplyKind::Other | ReplyKind::Handshake => 0,
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
        let has_success = lane.replies.iter().any(Pending::closes_batch);
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
        let takes_queue = session.is_some_and(|session| match &session.unacknowledged {
            Some(_) => has_success,
            None => has_connect || !is_handshake && !session.delivers_in_connects_only(options),
        });
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

    // Drains.

    /// See [`Engine::drain`](crate::Engine::drain).
    pub(crate) fn drain_connection(&mut self, name: ConnectionKey, budget: Budget, out: &mut Vec<Outgoing>) -> Drained {
        let Some(key) = self.conns.find(name) else { return Drained::Idle };
        let Some(conn) = self.conns.get_mut(key) else { return Drained::Idle };
        conn.linked = false;
        if conn.in_flight {
            return Drained::More;
        }
        let http = conn.is_http();
        if http {
            if !conn.exchange.complete {
                return Drained::Idle;
            }
            self.fix_response(key);
        }
        if !http && self.hooks.points().contains(Points::DEQUEUE) && self.writes_events(key) {
            let session = self.conns.get(key).and_then(|conn| conn.session);
            self.before_taking(session);
        }
        let left_over = self.conns.get(key).is_some_and(|conn| !conn.out.is_empty());
        let begin = out.len();
        let mut share = Share { left: budget, out, begin };
        let all = (!left_over || self.write_out(key, &mut share))
            && (http || self.write_replies(key, &mut share) && self.write_queue(key, &mut share));
        let in_flight = http || !share.is_empty();
        if let Some(conn) = self.conns.get_mut(key) {
            conn.in_flight = in_flight;
            self.spare.keep(conn);
        }
        match (all, http) {
            (false, _) => Drained::More,
            (true, true) => Drained::Finished,
            (true, false) => Drained::Idle,
        }
    }

    /// Hands out what was decided before; false where the share did not suffice.
    fn write_out(&mut self, key: ConnKey, share: &mut Share<'_>) -> bool {
        let Some(conn) = self.conns.get_mut(key) else { return true };
        while let Some(next) = conn.out.front() {
            let (size, reply) = match &next.message {
                Outgoing::Event(event) => (event.size(), false),
                Outgoing::Reply(_) => (0, true),
            };
            if !share.takes(size, reply) {
                return false;
            }
            let Some(next) = conn.out.pop_front() else { break };
            conn.expiring.extend(next.expiry);
            share.out.push(next.message);
        }
        true
    }

    /// Hands out a batch and the reply that closes it, whatever the share: it is to be one frame.
    fn write_batch(&mut self, key: ConnKey, share: &mut Share<'_>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        for next in conn.out.drain(..) {
            let size = match &next.message {
                Outgoing::Event(event) => event.size(),
                Outgoing::Reply(_) => 0,
            };
            share.spend(size);
            conn.expiring.extend(next.expiry);
            share.out.push(next.message);
        }
    }

    /// Whether all that the next batch of a session may have is within what is left of a share.
    fn batch_fits(&self, session: Option<SessionKey>, left: Budget) -> bool {
        let Some(session) = session.and_then(|key| self.sessions.get(key)) else { return true };
        let (messages, bytes) = session.unacknowledged.as_deref().map_or((0, 0), |sent| (sent.len(), sent.bytes()));
        messages + session.queue.len() <= left.messages && bytes + session.queue.bytes() <= left.bytes
    }

    /// Hands out a WebSocket's replies, each behind the events before it.
    fn write_replies(&mut self, key: ConnKey, share: &mut Share<'_>) -> bool {
        loop {
            let Some(conn) = self.conns.get(key) else { return true };
            let Some(next) = conn.replies.front() else { return true };
            let (session, position) = (next.session, next.position);
            // A batch and its reply are one frame, whatever the share (rule XA-6).
            let batch = next.closes_batch() && self.acknowledges(session);
            let room = if batch {
                // The first may be as large as batches are; the next ones wait for their turn.
                share.is_empty() || self.batch_fits(session, share.left)
            } else {
                self.write_events(key, session, position, share) && share.takes(0, true)
            };
            if !room {
                return false;
            }
            let Some(pending) = self.conns.get_mut(key).and_then(|conn| conn.replies.pop_front()) else { return true };
            if batch {
                self.take_batch(key, session, WHOLE_BATCH);
                self.settle_reply(key, pending);
                self.write_batch(key, share);
                continue;
            }
            let handshake = pending.kind == ReplyKind::Handshake;
            let ends = pending.reply.ends_envelope;
            match self.finish_reply(key, pending) {
                Some(out) => {
                    if let Some(conn) = self.conns.get_mut(key) {
                        conn.expiring.extend(out.expiry);
                    }
                    share.out.push(out.message);
                }
                None if ends => share.end_envelope(),
                None => {}
            }
            if handshake && let Some(session) = session.filter(|_| self.rides_with_handshake(key)) {
                // The reply said how many there are, so that none may stay behind.
                if let Some(session) = self.sessions.get_mut(session) {
                    while let Some(event) = session.hand_out() {
                        share.out.push(Outgoing::Event(event));
                    }
                    session.after_taking();
                    if let Some(sent) = &mut session.unacknowledged {
                        sent.note_sent_on(key);
                        sent.close_batch();
                    }
                }
            }
        }
    }

    fn acknowledges(&self, session: Option<SessionKey>) -> bool {
        session.and_then(|key| self.sessions.get(key)).is_some_and(|session| session.unacknowledged.is_some())
    }

    /// Hands out the events below `position` of the session whose push target this is (rule TW-15).
    fn write_events(
        &mut self,
        key: ConnKey,
        session: Option<SessionKey>,
        position: u64,
        share: &mut Share<'_>,
    ) -> bool {
        let Some(session) = session.and_then(|session| self.sessions.get_mut(session)) else { return true };
        if session.target != Some(key) {
            return true;
        }
        while session.queue.head() < position
            && let Some(size) = session.queue.front_size()
        {
            if !share.takes(size, false) {
                return false;
            }
            share.out.extend(session.hand_out().map(Outgoing::Event));
        }
        session.after_taking();
        true
    }

    /// Hands out what is to be pushed (rule TW-9).
    fn write_queue(&mut self, key: ConnKey, share: &mut Share<'_>) -> bool {
        let session = self.conns.get(key).and_then(|conn| conn.session);
        if self.is_pushed_to(key) { self.write_events(key, session, u64::MAX, share) } else { true }
    }

    /// Whether events are to be written on this WebSocket, with replies or by themselves.
    fn writes_events(&self, key: ConnKey) -> bool {
        let Some(conn) = self.conns.get(key) else { return false };
        let head = conn.session.and_then(|session| self.sessions.get(session)).map(|session| session.queue.head());
        let with_reply = |pending: &Pending| {
            let rides = pending.kind == ReplyKind::Handshake && self.rides_with_handshake(key);
            rides
                || head.is_some_and(|head| head < pending.position)
                || pending.closes_batch() && self.acknowledges(pending.session)
        };
        self.is_pushed_to(key) || conn.replies.iter().any(with_reply)
    }

    /// Whether the queue of its session is due on this WebSocket.
    fn is_pushed_to(&self, key: ConnKey) -> bool {
        let Some(session) = self.conns.get(key).and_then(|conn| conn.session) else { return false };
        self.sessions.get(session).is_some_and(|session| {
            session.flush
                && session.target == Some(key)
                && session.hold_depth == 0
                && !session.delivers_in_connects_only(self.config.transport(session.transport))
        })
    }

    /// Decides what an exchange's response is: handshake reply, queue, other replies (rules ).
    fn fix_response(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if std::mem::replace(&mut conn.exchange.fixed, true) {
            return;
        }
        if conn.out.capacity() == 0 {
            std::mem::swap(&mut conn.out, &mut self.spare.out);
        }
        let exchange = conn.exchange;
        let session = conn.session;
        let mut replies = std::mem::take(&mut conn.replies);
        // Stable: the others stay in order.
        replies.make_contiguous().sort_by_key(|pending| pending.kind != ReplyKind::Handshake);
        let handshakes = replies.iter().take_while(|pending| pending.kind == ReplyKind::Handshake).count();
        let rides = handshakes > 0 && self.rides_with_handshake(key);
        if exchange.takes_queue || rides {
            self.before_taking(session);
        }
        for pending in replies.drain(..handshakes) {
            self.settle_reply(key, pending);
        }
        if self.acknowledges(session) && exchange.takes_queue {
            self.take_batch(key, session, usize::MAX);
        } else if exchange.takes_queue || rides {
            self.take_events(key, session, u64::MAX);
            if let Some(sent) = session.and_then(|key| self.sessions.get_mut(key)?.unacknowledged.as_mut()) {
                sent.close_batch();
            }
        }
        for pending in replies.drain(..) {
            self.settle_reply(key, pending);
        }
        if let Some(conn) = self.conns.get_mut(key) {
            // Empty, and with room for the next connection's: see `Spare`.
            conn.replies = replies;
        }
        if let Some(held) = exchange.hold {
            if let Some(conn) = self.conns.get_mut(key) {
                conn.exchange.hold = None;
            }
            self.release(held);
        }
    }

    /// Whether queued events follow a handshake's reply (rule H-20).
    fn rides_with_handshake(&self, key: ConnKey) -> bool {
        let transport = self.conns.get(key).map_or(Transport::WebSocket, |conn| conn.facts.transport);
        self.config.transport(transport).allow_message_delivery_during_handshake
    }

    /// Moves the queued events below `position` to the connection.
    fn take_events(&mut self, key: ConnKey, session: Option<SessionKey>, position: u64) {
        let Some(session) = session.and_then(|session| self.sessions.get_mut(session)) else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        while session.queue.head() < position {
            let Some(event) = session.hand_out() else { break };
            conn.out.push_back(Out { message: Outgoing::Event(event), expiry: None });
        }
        session.after_taking();
    }

    /// Moves to the connection what the client may not have: what was sent and not acknowledged, again, and what is
    /// queued (rule XA-5). All of it, or as many events as have `most` bytes together, but one at least: the others are
    /// left for the next batch, for which the client asks as soon as it has this one.
    fn take_batch(&mut self, key: ConnKey, session: Option<SessionKey>, most: usize) {
        let Some(session) = session.and_then(|session| self.sessions.get_mut(session)) else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(sent) = session.unacknowledged.as_deref_mut() else { return };
        sent.note_sent_on(key);
        let mut bytes: usize = 0;
        let mut fits = |size: usize| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(size);
            first || bytes <= most
        };
        let again = sent.events().take_while(|event| fits(event.size())).count();
        conn.out.extend(sent.events().take(again).map(|event| Out { message: Outgoing::Event(event), expiry: None }));
        sent.repeat(again);
        if sent.has_put_off() {
            return;
        }
        while session.queue.front_size().is_some_and(&mut fits) {
            let Some(event) = session.hand_out() else { break };
            conn.out.push_back(Out { message: Outgoing::Event(event), expiry: None });
        }
        session.after_taking();
    }

    /// Moves to the connection what is queued, and before that what the last batch had no room for. Where that batch
    /// went elsewhere, nobody knows whether the client has it: what may leave a gap behind it is given up (rules XA-5,
    /// XA-13), and the server's last word remains (rule D-10).
    fn take_what_follows(&mut self, key: ConnKey, from: SessionKey) {
        let Some(session) = self.sessions.get_mut(from) else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        if let Some(sent) = session.unacknowledged.as_deref() {
            if sent.is_all_on(key) {
                conn.out.extend(sent.put_off().map(|event| Out { message: Outgoing::Event(event), expiry: None }));
            } else {
                QueueView::new(&mut session.queue).retain(|event| event.channel() == meta::DISCONNECT);
            }
        }
        self.take_events(key, Some(from), u64::MAX);
    }

    /// Finishes a reply and puts it behind what the connection writes already.
    pub(crate) fn settle_reply(&mut self, key: ConnKey, pending: Pending) {
        let out = self.finish_reply(key, pending);
        if let (Some(out), Some(conn)) = (out, self.conns.get_mut(key)) {
            conn.out.push_back(out);
        }
    }

    /// Gives a reply its last touch (rules G-14, H-20, V-12). `None`: a hook dropped it.
    fn finish_reply(&mut self, key: ConnKey, mut pending: Pending) -> Option<Out> {
        if pending.kind == ReplyKind::Connect && pending.reply.successful {
            self.advise(&mut pending);
        }
        let session = pending.session.and_then(|key| self.sessions.get(key));
        if let Some(handshake) = &mut pending.reply.handshake
            && let Some(session) = session
            && self.rides_with_handshake(key)
        {
            handshake.messages = session.queue.len();
        }
        self.extend_reply(key, &mut pending);
        if let Some(format) = self.config.timestamp {
            pending.reply.fields.retain(|(key, _)| *key != TIMESTAMP);
            pending.reply.fields.push(self.timestamps.field(self.wall_time(), format));
        }
        let session = pending.session.and_then(|key| self.sessions.get(key));
        if self.hooks.points().contains(Points::REPLY)
            && matches!(self.hooks.reply(session.map(|session| &session.id), &mut pending.reply), Edit::Drop)
        {
            if let Some(expiry) = pending.expiry {
                self.start_expiry(expiry.session, expiry.cycle);
            }
            return None;
        }
        Some(Out { message: Outgoing::Reply(pending.reply), expiry: pending.expiry })
    }

    /// What the engine's extensions put into a reply on its way out (rules XA-1, XA-4, XT-3).
    fn extend_reply(&mut self, key: ConnKey, pending: &mut Pending) {
        if let Some(timesync) = &mut pending.reply.timesync {
            // Its arrival until now; wall time may have been set meanwhile.
            timesync.p = self.uptime_ms().saturating_sub(timesync.p);
        }
        if !self.acknowledges(pending.session) {
            return;
        }
        let rides = self.rides_with_handshake(key);
        let Some(of) = pending.session else { return };
        let Some(session) = self.sessions.get_mut(of) else { return };
        let Some(sent) = session.unacknowledged.as_deref_mut() else { return };
        pending.reply.ack = match pending.kind {
            ReplyKind::Connect => {
                let batch = sent.close_batch();
                let messages = sent.count_up_to(batch);
                if messages > 0 && pending.reply.successful {
                    self.notice_of(Points::BATCHES, of, |session| Notice::BatchSent { session, batch, messages });
                }
                Some(AckReply::Batch(batch))
            }
            // Closed when its events are taken, behind this reply.
            ReplyKind::Handshake if rides => Some(AckReply::EnabledFrom(sent.open_batch())),
            ReplyKind::Handshake => Some(AckReply::Enabled),
            ReplyKind::Other => None,
        };
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
            // What a hook said of reconnecting stays (rule V-24).
            let reconnect = advice.reconnect.or(regular.reconnect);
            *advice = advice.overlaid_with(Advice { reconnect, ..regular });
        }
        if self.stopping {
            advice.reconnect.get_or_insert(Reconnect::Retry);
            advice.interval_ms = Some(millis(STOPPING_INTERVAL));
        }
    }

    /// Events and a last reply that a session leaves to a connection when it ends.
    pub(crate) fn bequeath(&mut self, from: SessionKey, key: ConnKey, reply: Option<Box<Reply>>) {
        let acknowledges = self.acknowledges(Some(from));
        self.before_taking(Some(from));
        if !self.conns.get(key).is_some_and(Conn::is_http) {
            // What waits there goes before; its order is final now.
            for pending in self.conns.get_mut(key).map(|conn| std::mem::take(&mut conn.replies)).unwrap_or_default() {
                if pending.session == Some(from) && acknowledges && pending.closes_batch() {
                    self.take_batch(key, pending.session, usize::MAX);
                } else if pending.session == Some(from) {
                    self.take_events(key, pending.session, pending.position);
                }
                self.settle_reply(key, pending);
            }
        }
        let waits = |conn: &Conn| conn.replies.iter().any(|pending| pending.is_connect_of(from));
        if acknowledges && (reply.is_some() || self.conns.get(key).is_some_and(waits)) {
            // The connect said what the client has.
            self.take_batch(key, Some(from), usize::MAX);
        } else {
            self.take_what_follows(key, from);
        }
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
        let waiting = !conn.out.is_empty() || !conn.replies.is_empty() && !conn.is_http();
        if finished {
            self.conns.remove(key);
        } else if waiting || self.is_pushed_to(key) {
            self.link(key);
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
        let expiring: Vec<_> = conn.expiries().collect();
        if let Some(held) = conn.exchange.hold {
            self.release(held);
        }
        if let Some(lane) = conn.lane {
            self.abandon_handshake(lane);
        }
        if let Some(session) = conn.session {
            if conn.is_http() {
                self.give_back(session, conn.out);
            }
            self.leave(session, key);
        }
        for expiry in expiring {
            self.start_expiry(expiry.session, expiry.cycle);
        }
    }

    /// Puts events of a response that was fixed but never drained back to where they came from.
    fn give_back(&mut self, session: SessionKey, out: VecDeque<Out>) {
        let Some(session) = self.sessions.get_mut(session) else { return };
        if session.unacknowledged.is_some() {
            // All of it counts as sent, and comes again with the next connect (rule XA-8).
            return;
        }
        for out in out.into_iter().rev() {
            if let Outgoing::Event(event) = out.message {
                session.queue.push_front(event);
                // Lazy ones had their chance, and their timer is off.
                session.set_flush();
            }
        }
    }
}

/// Empty buffers that kept their room, for the next connection: idle ones hold none.
#[derive(Default)]
pub(crate) struct Spare {
    replies: VecDeque<Pending>,
    out: VecDeque<Out>,
}

/// Slots of a buffer worth keeping.
const SPARE_MAX: usize = 1_024;

impl Spare {
    /// Takes the buffers that a connection has emptied.
    fn keep(&mut self, conn: &mut Conn) {
        if conn.out.is_empty() && conn.out.capacity() > 0 {
            let out = std::mem::take(&mut conn.out);
            if out.capacity() <= SPARE_MAX {
                self.out = out;
            }
        }
        if conn.replies.is_empty() && conn.replies.capacity() > 0 {
            let replies = std::mem::take(&mut conn.replies);
            if replies.capacity() <= SPARE_MAX {
                self.replies = replies;
            }
        }
    }
}
