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
//! A connection with something to write and credit is linked: it stands in one `Output::Ready` until it is drained
//! (`drain.rs`). Events stay in their session's queue, within its limits, until a drain hands them out; what was handed
//! out is the driver's.
//!
//! Whatever takes events leaves a session with its lazy timer off if its queue is empty.

use std::time::Duration;

use bayeux_proto::{ByteString, Frozen, Lazy};

use crate::config::{Config, Overflow, Transport};
use crate::connection::{Conn, ConnKey, Expiry, Pending, ReplyKind};
use crate::engine::Engine;
use crate::event::{ChannelQueue, CloseReason, Edit, Hooks, Notice, Points, RemovalReason};
use crate::id::ClientId;
use crate::queue::{Offered, QueueView};
use crate::session::{Session, SessionKey};

/// Which part of the time that lazy events wait a session takes, of a crowd that waits for the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) part: usize,
    pub(crate) of: usize,
}

impl Share {
    /// All of it.
    pub(crate) const WHOLE: Self = Self { part: 1, of: 1 };

    /// From half of the time to all of it: early is allowed, late is not (rule Q-34).
    fn of(self, time: Duration) -> Duration {
        let half = time / 2;
        let nanos = half.as_nanos() * self.part as u128 / self.of.max(1) as u128;
        time - half + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What a session is to do about an event that was queued, or was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Nothing: it waits for the next response, or a flush is under way already.
    None,
    /// Nothing: it was not queued.
    Dropped,
    /// Flush the session.
    Flush,
    /// Start its lazy timer (rule Q-33).
    Lazy(Lazy),
    /// The queue was full. Boxed: it is rare, and there is one of these for each recipient.
    Full(Box<Full>),
}

/// A full queue, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Full {
    channel: ByteString,
    policy: Overflow,
    /// Events that were dropped.
    dropped: usize,
    then: Wake,
}

/// All that has a say in whether and how an event is queued.
pub(crate) struct Enqueuing<'a> {
    hooks: &'a dyn Hooks,
    /// Read once for all recipients.
    points: Points,
    /// Whether no hook and no limit of a channel has a say.
    plain: bool,
    config: &'a Config,
    /// The limit of the event's channel.
    channel: Option<ChannelQueue>,
    sender: Option<&'a ClientId>,
}

impl Wake {
    /// Whether the event was queued.
    pub(crate) fn is_queued(&self) -> bool {
        match self {
            Self::Dropped => false,
            Self::None | Self::Flush | Self::Lazy(_) => true,
            Self::Full(full) => full.then.is_queued(),
        }
    }
}

impl<'a> Enqueuing<'a> {
    pub(crate) fn new(
        hooks: &'a dyn Hooks,
        config: &'a Config,
        channel: Option<ChannelQueue>,
        sender: Option<&'a ClientId>,
    ) -> Self {
        let points = hooks.points();
        let asked = [Points::OUTGOING, Points::QUEUED, Points::QUEUE_MAXED].iter().any(|point| points.contains(*point));
        Self { hooks, points, plain: !asked && channel.is_none(), config, channel, sender }
    }

    /// Queues an event for one session (rules ).
    pub(crate) fn enqueue(&self, session: &mut Session, event: &Frozen) -> Wake {
        let options = self.config.transport(session.transport);
        if self.plain && session.has_plenty(event, options) {
            session.queue.push_back(event.clone());
            return session.wake_for(event.lazy());
        }
        self.enqueue_with_care(session, event)
    }

    /// The same where somebody has a say in it, or the queue may be full.
    fn enqueue_with_care(&self, session: &mut Session, event: &Frozen) -> Wake {
        let event = if self.points.contains(Points::OUTGOING) {
            match self.hooks.outgoing(&session.id, self.sender, event) {
                Edit::Keep => event.clone(),
                Edit::Replace(other) => other,
                Edit::Drop => return Wake::Dropped,
            }
        } else {
            event.clone()
        };
        let channel = event.channel().clone();
        let full =
            |policy, dropped, then| Wake::Full(Box::new(Full { channel: channel.clone(), policy, dropped, then }));
        // The limit of the channel: which policy makes room for this event, by taking out an older one.
        let crowding = match self.channel {
            Some(own) if session.queue.count_of(&channel) >= own.messages => match own.overflow {
                Overflow::RemoveSession => return full(own.overflow, session.queue.len() + 1, Wake::Dropped),
                Overflow::DropOldest | Overflow::KeepLatest if own.messages > 0 => Some(own.overflow),
                Overflow::DropNewest | Overflow::DropOldest | Overflow::KeepLatest => {
                    return full(own.overflow, 1, Wake::Dropped);
                }
            },
            Some(_) | None => None,
        };
        let limits = session.queue_limits(self.config.transport(session.transport));
        let replaced = |session: &Session| crowding.and_then(|_| session.queue.oldest_size_of(&channel));
        if self.points.contains(Points::QUEUE_MAXED) && !session.has_room_without(replaced(session), &event, limits) {
            let Session { id, queue, .. } = &mut *session;
            if !self.hooks.queue_maxed(id, self.sender, &mut QueueView::new(queue), &event) {
                return Wake::Dropped;
            }
        }
        // Nothing is taken out for an event that is refused after all.
        let refuses = limits.overflow == Overflow::DropNewest || event.size() > limits.bytes;
        if refuses
            && limits.overflow != Overflow::RemoveSession
            && !session.has_room_without(replaced(session), &event, limits)
        {
            return full(limits.overflow, 1, Wake::Dropped);
        }
        let crowded_out = usize::from(crowding.is_some() && session.queue.remove_oldest_of(&channel));
        let lazy = event.lazy();
        let mut policy = crowding.unwrap_or(limits.overflow);
        let mut dropped = crowded_out;
        if session.can_queue(&event, limits) {
            session.queue.push_back(event);
        } else {
            policy = limits.overflow;
            match session.make_room(event, limits) {
                Offered::Replaced(others) => dropped += others,
                Offered::Refused => return full(policy, dropped + 1, Wake::Dropped),
                Offered::Overflow => return full(policy, session.queue.len() + 1, Wake::Dropped),
            }
        }
        if self.points.contains(Points::QUEUED) {
            let Session { id, queue, .. } = &mut *session;
            self.hooks.queued(id, &mut QueueView::new(queue));
        }
        // A hook may have taken it out again.
        let wake = if session.queue.is_empty() { Wake::Dropped } else { session.wake_for(lazy) };
        if dropped > 0 { full(policy, dropped, wake) } else { wake }
    }
}

impl Session {
    /// What an event that was queued asks for (rule Q-8).
    fn wake_for(&self, lazy: Lazy) -> Wake {
        match lazy {
            Lazy::No if self.hold_depth > 0 => Wake::None,
            Lazy::No => {
                let pushed = self.target.is_some() && !self.flush;
                if pushed || self.held.is_some() { Wake::Flush } else { Wake::None }
            }
            Lazy::Yes | Lazy::Within(_) => Wake::Lazy(lazy),
        }
    }

    /// Takes the oldest event to send it. Where it has to be acknowledged, it is kept under the open batch.
    pub(crate) fn hand_out(&mut self) -> Option<Frozen> {
        let event = self.queue.pop_front()?;
        if let Some(sent) = &mut self.unacknowledged {
            sent.push(event.clone());
        }
        Some(event)
    }

    /// Bookkeeping after events were taken.
    pub(crate) fn after_taking(&mut self) {
        if self.queue.is_empty() {
            self.flush = false;
            self.lazy_at = None;
        } else if self.flush && self.queue.head() >= self.flush_end && !self.queue.has_urgent() {
            // Lazy events that came later are no reason to answer the next connect at once (rule K-12).
            self.flush = false;
        }
    }
}

impl Engine {
    /// Does what an event that was queued asks for.
    pub(crate) fn wake(&mut self, key: SessionKey, wake: Wake, share: Share) {
        match wake {
            Wake::None | Wake::Dropped => {}
            Wake::Flush => self.flush(key),
            Wake::Lazy(lazy) => self.start_lazy(key, lazy, share),
            Wake::Full(full) => {
                let Full { channel, policy, dropped, then } = *full;
                let Some(session) = self.sessions.get(key) else { return };
                let session = session.id.clone();
                self.notice(Notice::Overflowed { session, channel, policy, messages: dropped });
                if policy == Overflow::RemoveSession {
                    self.terminate(key, RemovalReason::QueueOverflow, None);
                } else {
                    self.wake(key, then, share);
                }
            }
        }
    }

    /// Lets hooks edit a queue that is about to be sent.
    pub(crate) fn before_taking(&mut self, key: Option<SessionKey>) {
        if !self.hooks.points().contains(Points::DEQUEUE) {
            return;
        }
        let Some(session) = key.and_then(|key| self.sessions.get_mut(key)) else { return };
        if !session.queue.is_empty() {
            let Session { id, queue, .. } = &mut *session;
            self.hooks.dequeue(id, &mut QueueView::new(queue));
            session.after_taking();
        }
    }

    // Flushes.

    /// Lets the queue leave at the first chance (rule K-13).
    pub(crate) fn flush(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.lazy_at = None;
        if session.queue.is_empty() {
            session.flush = false;
        } else {
            session.set_flush();
        }
        self.push(key);
    }

    /// Lets what is due leave where it can now. Where a flush is under way, lazy events behind it have a timer of their
    /// own, which goes on (rule Q-33).
    fn flush_due(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else { return };
        if !session.has_due() || session.hold_depth > 0 {
            return;
        }
        if session.flush {
            self.push(key);
        } else {
            self.flush(key);
        }
    }

    /// Links the WebSocket that is the push target, or resumes the held connect.
    fn push(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else { return };
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
    fn start_lazy(&mut self, key: SessionKey, lazy: Lazy, share: Share) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let delay = match lazy {
            Lazy::Within(timeout) => timeout,
            Lazy::Yes | Lazy::No => {
                let transport = self.config.transport(session.transport);
                session.settings.own().max_lazy_timeout.unwrap_or(transport.max_lazy_timeout)
            }
        };
        if delay.is_zero() {
            session.set_flush();
            if session.hold_depth == 0 {
                self.flush(key);
            }
            return;
        }
        let at = self.now + share.of(delay);
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
        self.flush_due(key);
    }

    // Held connects.

    /// Ends a hold with its reply (rules K-13, K-15).
    pub(crate) fn resume_held(&mut self, key: SessionKey, timed_out: bool) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(held) = session.held.take() else { return };
        let expiry = Some(Expiry { session: key, cycle: Some(held.cycle) });
        session.resumed = Some(held.conn);
        if held.counted {
            self.browsers.end_hold(session.browser);
        }
        self.rearm(key);
        self.notice_of(Points::HEARTBEATS, key, |session| Notice::Resumed { session, timed_out });
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
        if held.counted {
            self.browsers.end_hold(session.browser);
        }
        self.rearm(key);
        self.notice_of(Points::HEARTBEATS, key, |session| Notice::Resumed { session, timed_out: false });
        Some(held.conn)
    }

    // Push targets.

    /// The newest WebSocket that sent a message is where events go (rules TW-13, L-41, L-43).
    pub(crate) fn take_over(&mut self, key: SessionKey, conn: ConnKey) {
        let Some(session) = self.sessions.get(key) else { return };
        if session.target == Some(conn) && !session.flush {
            return;
        }
        if session.held.as_ref().is_some_and(|held| held.conn != conn) {
            self.drop_held(key);
            // Nothing else would: that connect is never answered.
            self.start_expiry(key, None);
        }
        self.set_target(key, Some(conn));
        self.flush_due(key);
    }

    /// Changes the push target. What the old one has not written is in the queue still.
    pub(crate) fn set_target(&mut self, key: SessionKey, target: Option<ConnKey>) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.target = target;
        }
    }

    /// Ends what a session had on a connection that is gone.
    pub(crate) fn leave(&mut self, session_key: SessionKey, conn: ConnKey) {
        let Some(session) = self.sessions.get(session_key) else { return };
        if session.transport == Transport::Local {
            // Nobody can speak for it any more, and by itself it would never expire (rule A-61).
            self.terminate(session_key, RemovalReason::Removed, None);
            return;
        }
        let was_held = session.held.as_ref().is_some_and(|held| held.conn == conn);
        let was_target = session.target == Some(conn);
        if was_held {
            self.end_held(session_key);
        }
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        if was_target {
            session.target = None;
        }
        if was_target || was_held {
            // Where its client was last is gone. What came before, and waits, is as good as new.
            session.moved = 0;
        }
        if (was_held || was_target) && session.held.is_none() && session.expire_at.is_none() {
            // A silent death is noticed now, not when the hold would have timed out (rule L-47).
            self.start_expiry(session_key, None);
        }
        self.flush_due(session_key);
    }
}
