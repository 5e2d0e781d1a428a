//! The end of sessions, and the deadlines on the way there (section 12).

use bayeux_proto::{Event, RawJson, Reconnect, meta};

use crate::connection::{Conn, ConnKey, Pending, ReplyKind};
use crate::engine::{Due, Engine};
use crate::event::{Cause, CloseReason, Notice, Points, RemovalReason};
use crate::lane::Lane;
use crate::session::SessionKey;

impl Engine {
    /// The session has this long to send a connect (rule L-20). `cycle`: the hold that ended, if one did; a newer one
    /// makes this void (rule K-22).
    pub(crate) fn start_expiry(&mut self, key: SessionKey, cycle: Option<u64>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let answering = session.held.is_some() || !session.parked_connects.is_empty() || session.keepers > 0;
        if answering || cycle.is_some_and(|cycle| cycle != session.cycle) {
            return;
        }
        let options = self.config.transport(session.transport);
        let wait = session.effective_interval(options).saturating_add(session.effective_max_interval(options));
        session.expire_at = Some(self.now + wait);
        self.rearm(key);
    }

    /// A connect that waited in a lane, and kept its session from expiring, was processed. Where it was refused before it
    /// counted as a connect, nothing else starts the expiry; otherwise its reply does, once that was written.
    pub(crate) fn end_keeping(&mut self, lane: &mut Lane) {
        let Some(key) = lane.keeps.take() else { return };
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.keepers -= 1;
        let cycle = session.cycle;
        let answered = lane.conn.and_then(|conn| self.conns.get(conn)).is_some_and(|conn| {
            let mut expiries = conn.expiries();
            expiries.any(|expiry| expiry.session == key && expiry.cycle.is_none_or(|ended| ended == cycle))
        });
        if session.expire_at.is_none() && !answered {
            // Void where the connect is held.
            self.start_expiry(key, None);
        }
    }

    /// Sets the session's one timer to its earliest deadline, or leaves it where it fires before that: deadlines move on
    /// with every connect, and it is cheaper to look in vain now and then than to move the timer each time.
    pub(crate) fn rearm(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let next = session.next_deadline(self.config.transport(session.transport));
        let Some(next) = next.filter(|&next| session.timer.is_none_or(|(set, _)| next < set)) else { return };
        if let Some(timer) = session.timer.replace(self.timers.set(next, Due::Session(key))) {
            self.timers.cancel(timer);
        }
    }

    /// A session's timer fired: something of it is due, or was and has moved.
    pub(crate) fn session_due(&mut self, key: SessionKey) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.timer = None;
        if session.held.as_ref().is_some_and(|held| held.deadline <= now) {
            self.resume_held(key, true);
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.lazy_at.is_some_and(|at| at <= now) {
            session.lazy_at = None;
            if session.hold_depth == 0 {
                self.flush(key);
            } else {
                // Due, and to leave with the end of the hold.
                session.set_flush();
            }
        }
        let Some(session) = self.sessions.get(key) else { return };
        let options = self.config.transport(session.transport);
        if session.expire_at.is_some_and(|at| at <= now) {
            self.terminate(key, RemovalReason::Expired, None);
        } else if session.expire_at.is_none()
            && options.max_processing.is_some_and(|limit| session.last_message + limit <= now)
        {
            self.terminate(key, RemovalReason::ProcessingTooLong, None);
        } else {
            self.rearm(key);
        }
    }

    /// Ends a session (rules D-2, D-10, D-11, L-31). `carrier`: the connection of the client's own disconnect, whose
    /// response may carry what is queued.
    pub(crate) fn terminate(&mut self, key: SessionKey, reason: RemovalReason, carrier: Option<ConnKey>) {
        if matches!(reason, RemovalReason::ServerDisconnect | RemovalReason::Inactive) {
            let mut farewell = farewell();
            self.date(&mut farewell);
            if let Some(session) = self.sessions.get_mut(key) {
                session.queue.push_back(farewell.freeze());
            }
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        let held = session.held.take();
        let target = session.target;
        let outlet = target.or(carrier);
        // Which has the rules of its own transport, whatever the session's is by now.
        let transport =
            outlet.and_then(|key| self.conns.get(key)).map_or(session.transport, |conn| conn.facts.transport);
        let in_connects_only = session.delivers_in_connects_only(self.config.transport(transport));
        let browser = session.browser;
        let id = session.id.clone();
        if held.as_ref().is_some_and(|held| held.counted) {
            self.browsers.end_hold(browser);
        }
        match reason {
            RemovalReason::ClientDisconnect | RemovalReason::ServerDisconnect | RemovalReason::Inactive => {
                if let Some(held) = held {
                    let mut reply = held.reply.unpack();
                    // The client is not to come back for this session (rule V-22).
                    reply.advice.reconnect = Some(Reconnect::None);
                    self.bequeath(key, held.conn, Some(reply));
                } else if let Some(resumed) = self.last_connect_of(key) {
                    self.bequeath(key, resumed, None);
                } else if let Some(outlet) =
                    outlet.filter(|_| !in_connects_only || reason != RemovalReason::ClientDisconnect)
                {
                    self.bequeath(key, outlet, None);
                }
                self.linger(target);
            }
            RemovalReason::Removed => {
                if let Some(held) = held {
                    self.orphan(held.conn, held.reply.unpack(), held.deadline);
                }
            }
            RemovalReason::Expired
            | RemovalReason::ProcessingTooLong
            | RemovalReason::QueueOverflow
            | RemovalReason::Shutdown => {
                if let Some(held) = held {
                    self.close(held.conn, CloseReason::SessionRemoved);
                }
                if let Some(target) = target.filter(|_| reason == RemovalReason::QueueOverflow) {
                    // A reader so slow learns it by losing its connection.
                    self.close(target, CloseReason::SessionRemoved);
                }
            }
        }
        let Some(session) = self.sessions.remove(key, reason) else { return };
        if let Some(timer) = session.timer {
            self.timers.cancel(timer);
        }
        self.browsers.remove_session(browser);
        self.notice(Notice::SessionRemoved { session: id.clone(), reason });
        // Right behind the removal, so that whoever tells listeners can tell all of it together (rule L-31).
        for (channel, _) in &session.subscriptions {
            if let Some(channel) = self.channels.get(*channel) {
                let channel = channel.pattern.clone();
                let session = id.clone();
                let cause = Cause::Removal;
                self.notice_at(Points::SUBSCRIPTIONS, || Notice::Unsubscribed { session, channel, cause });
            }
        }
        for (channel, place) in session.subscriptions {
            self.drop_subscriber(channel, place);
        }
        for lane in session.parked_connects {
            self.abandon_connect(lane, key);
        }
    }

    /// The connection of a connect that was resumed in this very turn, so that its reply is not drained yet: all that is
    /// queued leaves with it, and its client is not to come back (rules D-2, V-22).
    fn last_connect_of(&mut self, key: SessionKey) -> Option<ConnKey> {
        let session = self.sessions.get(key)?;
        let (resumed, tail) = (session.resumed?, session.queue.tail());
        let conn = self.conns.get_mut(resumed)?;
        let mut waiting = false;
        for pending in conn.replies.iter_mut().filter(|pending| pending.is_connect_of(key)) {
            pending.reply.advice.reconnect = Some(Reconnect::None);
            pending.position = tail;
            waiting = true;
        }
        waiting.then_some(resumed)
    }

    /// A WebSocket whose session was disconnected may stay open for a while only (rule TW-23).
    fn linger(&mut self, conn: Option<ConnKey>) {
        let Some(key) = conn else { return };
        let at = self.now + self.config.linger;
        self.set_conn_timer(key, at);
    }

    /// A held connect whose session was removed without notice times out as if nothing had happened (rule D-11).
    fn orphan(&mut self, key: ConnKey, mut reply: Box<bayeux_proto::Reply>, deadline: crate::Time) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        reply.advice.reconnect = Some(Reconnect::None);
        reply.ends_envelope = true;
        conn.orphan = Some(reply);
        self.set_conn_timer(key, deadline);
    }

    fn set_conn_timer(&mut self, key: ConnKey, at: crate::Time) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if let Some(timer) = conn.timer.replace(self.timers.set(at, Due::Connection(key))) {
            self.timers.cancel(timer);
        }
    }

    /// A connection's own timer fired.
    pub(crate) fn connection_due(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.timer = None;
        if let Some(reply) = conn.orphan.take() {
            let pending = Pending { reply, kind: ReplyKind::Other, position: 0, session: None, expiry: None };
            self.settle_reply(key, pending);
            self.complete(key, false);
            self.link(key);
            return;
        }
        let busy = conn.lane.is_some();
        let bound = conn.session.is_some_and(|session| self.sessions.get(session).is_some());
        if busy {
            // A new handshake may be waiting for its policy.
            self.linger(Some(key));
        } else if !bound && !self.conns.get(key).is_some_and(Conn::is_http) {
            self.close(key, CloseReason::Lingered);
        }
    }

    /// The server stops: every held connect is answered, none is held any more.
    pub(crate) fn shut_down(&mut self) {
        self.stopping = true;
        for key in self.sessions.keys() {
            if let Some(session) = self.sessions.get_mut(key)
                && session.held.is_some()
            {
                session.advised = None;
                self.resume_held(key, false);
            }
        }
    }
}

/// The server's last word to a session that it disconnects (rule D-10).
fn farewell() -> Event {
    let mut event = Event::new(meta::DISCONNECT, RawJson::null());
    event.data = None;
    event.successful = Some(true);
    event
}
