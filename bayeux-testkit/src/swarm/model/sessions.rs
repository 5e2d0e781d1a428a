//! What is known of each session (section 12).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bayeux_core::{Config, Point, Question, RemovalReason, SessionSetting, Time, Transport, TransportOptions};
use bayeux_proto::{Advice, Reconnect, meta};

use super::batches::Sent;
use super::deliveries::Owed;
use super::facts::Kind;
use super::lines::{Claim, Line, Request};
use super::{Model, Moment, Verdict, is_disconnect};
use crate::world::{Peer, World};

/// Something that is known, or was and is not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known<T> {
    Sure(T),
    Unsure,
}

/// A subscription, and when it was there.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) pattern: String,
    /// Where it was asked for; `None`: by the application.
    pub(super) by: Option<Peer>,
    /// It was not there before.
    pub(super) from: Moment,
    /// From here on it certainly was.
    pub(super) sure_from: Option<Moment>,
    /// Until here.
    pub(super) sure_until: Option<Moment>,
    /// It certainly was not there any more.
    pub(super) until: Option<Moment>,
    /// From here on its channel's home knew of it: a removal before may have found no such channel (rule A-7).
    pub(super) settled: Option<Moment>,
}

/// A connect that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) line: Peer,
    pub(super) request: u64,
    /// Its timeout ends between these two.
    pub(super) deadline: (Time, Time),
    /// The advice that was due when it began.
    pub(super) advice: Known<Advice>,
}

impl Held {
    /// A connect that may be held, or not.
    pub(super) fn in_doubt(line: Peer, request: u64) -> Self {
        Self { line, request, deadline: (Time::ZERO, Time::MAX), advice: Known::Unsure }
    }
}

/// One session.
pub(super) struct Session {
    pub(super) added: Moment,
    announced: bool,
    pub(super) ended: Option<(Moment, Time, RemovalReason)>,
    pub(super) browser: Option<String>,
    pub(super) ack: bool,
    /// Whether its client can be held to what it was given: it neither lied nor let others speak for it.
    pub(super) countable: bool,
    pub(super) transport: Known<Transport>,
    /// When the message came that says so.
    transport_since: Moment,
    pub(super) connected: Known<bool>,
    /// What its client asked for with its last connect (rule K-9).
    pub(super) wish: Known<(Option<Duration>, Option<Duration>)>,
    pub(super) own: Own,
    pub(super) advised: Known<Option<Transport>>,
    pub(super) target: Known<Option<Peer>>,
    pub(super) holds: u32,
    pub(super) held: Option<Held>,
    /// The serial number of the connect that was held last.
    pub(super) newest_hold: u64,
    /// The same of one that may have been held, before anybody saw it.
    pub(super) newest_hold_maybe: u64,
    /// The serial number of the newest connect that was processed for certain.
    pub(super) newest_connect: u64,
    /// Where that came.
    pub(super) newest_connect_on: Option<Peer>,
    /// When one was last known to be processed, and where that had come.
    pub(super) connected_last: (Moment, Option<Peer>),
    pub(super) spans: Vec<Span>,
    /// What must be delivered and was not yet, in the order of its fan-out.
    pub(super) owed: VecDeque<Owed>,
    pub(super) got: BTreeSet<u64>,
    /// The latest beginning of an event that was delivered.
    pub(super) newest: Moment,
    /// The same as its client counts.
    pub(super) newest_heard: Moment,
    pub(super) heard: BTreeSet<u64>,
    /// By publishing connection and channel: the order number of the last event delivered.
    pub(super) last_of: Vec<((Peer, String), u64)>,
    pub(super) overflowed: Option<Moment>,
    /// What was under way then came back from more than one broken response: in which order, nobody knows (rule Q-22).
    pub(super) shuffled: Option<Moment>,
    pub(super) overflow_removes: bool,
    /// The application wants it to end.
    pub(super) dismissed: Option<RemovalReason>,
    /// When it may expire, and when it must; `None`: not at all.
    pub(super) expires: (Option<Time>, Option<Time>),
    /// When a reply last began its expiry.
    pub(super) expiry_begun: Time,
    /// When the message came that last decided where its push target is, or, where that is unsure, was answered.
    pub(super) target_since: Moment,
    /// Where it came.
    target_by: Option<Peer>,
    /// When the last one came, or was answered, that came elsewhere.
    target_before: Moment,
    /// When the newest of those came that are processed for certain, and where.
    moved: (Moment, Option<Peer>),
    /// When the newest of them came elsewhere.
    moved_before: Moment,
    /// A hook delivered something to it.
    pub(super) served_by_hooks: bool,
    /// The application has changed how long it lives.
    pub(super) life_changed: bool,
    /// When a message took it from the connection that holds its connect (rule L-43).
    pub(super) left: Option<Time>,
    /// When one came that may have, and of which nobody will hear.
    left_maybe: Option<Time>,
    /// When its held connect times out, of which nobody will hear (rule L-46).
    pub(super) unheard: Option<Time>,
    /// When a response of it broke that had begun.
    pub(super) put_back: Option<Moment>,
    /// Its last message came then, at the latest and at the earliest.
    pub(super) last_message: Time,
    pub(super) last_message_maybe: Time,
    /// The disconnect that ended it: where it came, and its number.
    pub(super) disconnected_by: Option<(Peer, u64)>,
    /// The rest before which a connect of it was answered last.
    pub(super) answered_before: Option<u64>,
    /// The rest before which events of it were drained last.
    pub(super) drained_before: Option<u64>,
    /// Between these two its queue was last emptied in parts.
    pub(super) emptied: (Moment, Moment),
    /// The number of the last batch (rule XA-4).
    pub(super) batch: u64,
    /// Events that were sent in batches.
    pub(super) sent: BTreeMap<u64, Sent>,
    pub(super) farewell: bool,
    /// Batch numbers were given that nobody saw.
    pub(super) forget_batches: bool,
    /// When the application last changed what it is advised.
    pub(super) advice_since: Moment,
    /// When the application last changed its timeout.
    pub(super) timeout_since: Moment,
    /// When the application last changed its maxInterval.
    pub(super) max_interval_since: Moment,
    /// When the application last changed whether it receives its own.
    pub(super) own_since: Moment,
    /// The rest behind which only connects carry its events.
    pub(super) deliver_only_since: u64,
    /// When the application last changed that.
    pub(super) deliver_only_set: Moment,
    /// Whether the application ever changed how long lazy events wait.
    pub(super) lazy_since: u64,
    /// When it last did, and what was set before.
    pub(super) max_lazy_since: Moment,
    pub(super) max_lazy_before: Option<Duration>,
}

/// What the application set (rule O-40).
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    pub(super) timeout: Option<Duration>,
    pub(super) interval: Option<Duration>,
    pub(super) max_interval: Option<Duration>,
    pub(super) max_lazy_timeout: Option<Duration>,
    pub(super) to_publisher: bool,
    pub(super) deliver_only: bool,
}

impl Session {
    fn new(added: Moment, now: Time, to_publisher: bool) -> Self {
        let own = Own {
            timeout: None,
            interval: None,
            max_interval: None,
            max_lazy_timeout: None,
            to_publisher,
            deliver_only: false,
        };
        Self {
            added,
            announced: false,
            ended: None,
            browser: None,
            ack: false,
            countable: true,
            transport: Known::Unsure,
            transport_since: 0,
            connected: Known::Sure(false),
            wish: Known::Sure((None, None)),
            own,
            advised: Known::Unsure,
            target: Known::Sure(None),
            holds: 0,
            held: None,
            newest_hold: 0,
            newest_hold_maybe: 0,
            newest_connect: 0,
            newest_connect_on: None,
            connected_last: (0, None),
            spans: Vec::new(),
            owed: VecDeque::new(),
            got: BTreeSet::new(),
            newest: 0,
            newest_heard: 0,
            heard: BTreeSet::new(),
            last_of: Vec::new(),
            overflowed: None,
            shuffled: None,
            overflow_removes: false,
            dismissed: None,
            expires: (None, None),
            expiry_begun: now,
            target_since: 0,
            target_by: None,
            target_before: 0,
            moved: (0, None),
            moved_before: 0,
            served_by_hooks: false,
            life_changed: false,
            left: None,
            left_maybe: None,
            unheard: None,
            put_back: None,
            last_message: now,
            last_message_maybe: now,
            disconnected_by: None,
            answered_before: None,
            drained_before: None,
            emptied: (0, 0),
            batch: 0,
            sent: BTreeMap::new(),
            farewell: false,
            forget_batches: false,
            advice_since: 0,
            timeout_since: 0,
            max_interval_since: 0,
            own_since: 0,
            deliver_only_since: 0,
            deliver_only_set: 0,
            lazy_since: 0,
            max_lazy_since: 0,
            max_lazy_before: None,
        }
    }

    /// How long its connects are held (rules K-9, Z-5).
    pub(super) fn timeout(&self, options: &TransportOptions, wish: Option<Duration>) -> Duration {
        let server = self.own.timeout.unwrap_or(options.timeout);
        wish.map_or(server, |wish| wish.min(server))
    }

    fn interval(&self, options: &TransportOptions) -> Option<Duration> {
        match self.wish {
            Known::Sure((_, wish)) => Some(wish.unwrap_or_else(|| self.own.interval.unwrap_or(options.interval))),
            Known::Unsure => None,
        }
    }

    pub(super) fn max_interval(&self, options: &TransportOptions) -> Duration {
        self.own.max_interval.filter(|own| !own.is_zero()).unwrap_or(options.max_interval)
    }

    /// The advice that the server has for it (rule V-10).
    pub(super) fn regular_advice(&self, options: &TransportOptions) -> Known<Advice> {
        let millis = |time: Duration| time.as_millis() as u64;
        let Some(interval) = self.interval(options) else { return Known::Unsure };
        let advice = Advice {
            reconnect: Some(Reconnect::Retry),
            interval_ms: Some(millis(interval)),
            timeout_ms: Some(millis(self.own.timeout.unwrap_or(options.timeout))),
            max_interval_ms: options.handshake_reconnect.then(|| millis(self.max_interval(options))),
            multiple_clients: false,
        };
        Known::Sure(advice)
    }

    /// Takes the advice that is due over `transport`: none where it was given before (rule V-11).
    pub(super) fn take_advice(&mut self, transport: Transport, options: &TransportOptions) -> Known<Advice> {
        let taken = match self.advised {
            Known::Sure(Some(advised)) if advised == transport => Known::Sure(Advice::default()),
            Known::Sure(_) => self.regular_advice(options),
            Known::Unsure => Known::Unsure,
        };
        self.advised = Known::Sure(Some(transport));
        taken
    }

    /// A reply of a handshake or connect has left, or its connection has (rule L-20).
    pub(super) fn begin_expiry(&mut self, now: Time, options: &TransportOptions) {
        let max_interval = self.max_interval(options);
        self.expiry_begun = now;
        match self.interval(options) {
            Some(interval) => {
                let at = now + interval + max_interval;
                self.expires = (Some(at), Some(at));
            }
            None => self.expires = (Some(now), None),
        }
    }

    /// A message that came then over that transport was processed (rule L-44).
    pub(super) fn note_transport(&mut self, transport: Transport, moment: Moment) {
        if moment >= self.transport_since {
            (self.transport, self.transport_since) = (Known::Sure(transport), moment);
        } else if self.transport != Known::Sure(transport) {
            // One that came later is known to be processed, and nobody knows which of them was first.
            self.transport = Known::Unsure;
        }
    }

    /// Whether it may have changed after that moment which advice is due.
    pub(super) fn has_changed_since(&self, moment: Moment) -> bool {
        self.advice_since > moment || self.transport_since > moment
    }

    /// A message that came then may have been processed, over whatever transport.
    pub(super) fn blur_transport(&mut self, moment: Moment) {
        (self.transport, self.transport_since) = (Known::Unsure, self.transport_since.max(moment));
    }

    /// A message was processed over that transport at some time until that moment.
    pub(super) fn doubt_transport(&mut self, transport: Transport, until: Moment) {
        if self.transport != Known::Sure(transport) {
            self.transport = Known::Unsure;
        }
        self.transport_since = self.transport_since.max(until);
    }

    /// A message that came then, on this WebSocket, made it the push target (rules TW-13, L-41).
    pub(super) fn aim(&mut self, target: Peer, moment: Moment, at: Time) {
        self.note_move(target, moment);
        self.target = Known::Sure(Some(target));
        self.note_target(target, moment);
        if self.held.as_ref().is_some_and(|held| held.line != target) {
            self.note_left(at);
        }
    }

    /// A handshake has taken a WebSocket from it (rule TW-10).
    pub(super) fn unbind(&mut self, socket: Peer) {
        if !self.may_be_pushed_elsewhere(socket) || self.target == Known::Unsure {
            self.target = Known::Sure(None);
        }
        self.forget_move(socket);
    }

    /// A message that came then may have taken it from where its connect is held.
    pub(super) fn doubt_left(&mut self, at: Time) {
        self.left_maybe = Some(self.left_maybe.map_or(at, |left| left.min(at)));
        self.doubt_hold();
    }

    /// A newer connect of it is held.
    pub(super) fn forget_left(&mut self) {
        (self.left, self.left_maybe) = (None, None);
    }

    /// A message that came then took it from where its connect is held.
    pub(super) fn note_left(&mut self, at: Time) {
        self.left = Some(self.left.map_or(at, |left| left.min(at)));
    }

    /// Where its client was for certain is gone, and with it what that meant for messages that came before.
    pub(super) fn forget_move(&mut self, peer: Peer) {
        if self.moved.1 == Some(peer) {
            (self.moved, self.moved_before) = ((0, None), 0);
        }
    }

    /// A message that came then on this connection, and says where its client is, was processed for certain.
    pub(super) fn note_move(&mut self, peer: Peer, moment: Moment) {
        if moment <= self.moved.0 {
            if self.moved.1 != Some(peer) {
                self.moved_before = self.moved_before.max(moment);
            }
            return;
        }
        if self.moved.1 != Some(peer) {
            self.moved_before = self.moved.0;
        }
        self.moved = (moment, Some(peer));
    }

    /// Whether its client went elsewhere after that moment, for certain: a message that came on this connection before,
    /// and is processed later, has no say in it any more (rule L-41).
    pub(super) fn has_moved(&self, peer: Peer, since: Moment) -> bool {
        let elsewhere = if self.moved.1 == Some(peer) { self.moved_before } else { self.moved.0 };
        elsewhere > since
    }

    /// A message was processed that came then, before one that took the session elsewhere: it has no say in where that
    /// is, unless it was processed before.
    pub(super) fn note_left_over(&mut self, peer: Peer, moment: Moment, at: Time) {
        if self.held.as_ref().is_some_and(|held| held.line != peer && held.request < moment) {
            self.doubt_left(at);
        }
    }

    /// A message that came on this connection decided where its push target is.
    pub(super) fn note_target(&mut self, peer: Peer, moment: Moment) {
        if self.target_by != Some(peer) {
            self.target_before = self.target_since;
            self.target_by = Some(peer);
        }
        self.target_since = self.target_since.max(moment);
    }

    /// Whether a message of another connection may have taken the session from this one after that moment.
    pub(super) fn may_be_overtaken(&self, peer: Peer, since: Moment) -> bool {
        let elsewhere = if self.target_by == Some(peer) { self.target_before } else { self.target_since };
        elsewhere > since
    }

    /// Whether events may have left with replies that were made before the application wanted them in connects only, when
    /// that had woken a connect for them.
    pub(super) fn may_be_woken_in_vain(&self, held: &Held) -> bool {
        self.own.deliver_only
            && held.request < self.deliver_only_set
            && self.drained_before.is_some_and(|rest| rest + 1 >= self.deliver_only_since)
    }

    /// Whether its push target may be a WebSocket other than this connection.
    pub(super) fn may_be_pushed_elsewhere(&self, peer: Peer) -> bool {
        !matches!(self.target, Known::Sure(None)) && self.target != Known::Sure(Some(peer))
    }

    /// Its connect was left when a message took it elsewhere, which is noticed now (rule L-43).
    pub(super) fn begin_left_expiry(&mut self, now: Time, options: &TransportOptions, longest: Duration) {
        let left = self.left.take().unwrap_or(self.last_message);
        let left = self.left_maybe.take().map_or(left, |maybe| left.min(maybe));
        self.begin_expiry(left.min(now), options);
        let earliest = self.expires.0.map(|at| at.max(self.last_message + self.max_interval(options)));
        self.begin_expiry(now, options);
        self.expires.0 = earliest;
        self.doubt_life(now, longest);
    }

    /// The application changes how long it lives.
    fn change_life(&mut self) {
        self.life_changed = true;
        if self.held.is_some() && self.expires.0.is_some() {
            // Its expiry may begin later only, and be over sooner.
            self.expires.0 = Some(Time::ZERO);
        }
    }

    /// Its expiry began at some time until now: by what the application had set then, if it has changed that ever.
    pub(super) fn doubt_life(&mut self, now: Time, longest: Duration) {
        if self.life_changed {
            self.expires = (Some(Time::ZERO), Some(now + longest));
        }
    }

    /// Whether a connect of it is held cannot be known any more: something else came that may have ended it.
    pub(super) fn doubt_hold(&mut self) {
        if let Some(held) = &mut self.held {
            (held.deadline, held.advice) = ((Time::ZERO, Time::MAX), Known::Unsure);
            self.expires = (Some(Time::ZERO), None);
        }
    }

    /// Whether a connect of it is held on that connection.
    pub(super) fn is_held_on(&self, peer: Peer) -> bool {
        self.held.as_ref().is_some_and(|held| held.line == peer)
    }

    /// The WebSocket that holds its connect is gone, when another session had taken it: nobody tells this one before its
    /// connect times out (rule L-46).
    pub(super) fn be_unheard(&mut self, now: Time) {
        self.unheard = self.held.take().map(|held| held.deadline.1.max(now));
        self.expires = (Some(Time::ZERO), None);
    }

    /// Whether a connect that came then on this connection, and waited, may have been processed before another one.
    pub(super) fn may_be_followed(&self, peer: Peer, came: Moment) -> bool {
        let (processed, by) = self.connected_last;
        processed > came && by != Some(peer)
    }

    /// Whether a connect of it is held for certain.
    pub(super) fn is_surely_held(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.deadline.1 < Time::MAX)
    }

    /// How long it lives at most, whatever was asked for (of what runs ask for).
    pub(super) fn longest_life(config: &Config) -> Duration {
        let transports = [&config.websocket, &config.long_polling, &config.callback_polling];
        let longest = transports.into_iter().map(|options| options.max_interval + options.interval).max();
        longest.unwrap_or_default() + Duration::from_secs(2)
    }

    /// Nothing is known of when it expires, but that it will not be for lack of time.
    pub(super) fn blur(&mut self) {
        self.transport = Known::Unsure;
        self.wish = Known::Unsure;
        self.advised = Known::Unsure;
        self.target = Known::Unsure;
        if self.connected == Known::Sure(false) {
            self.connected = Known::Unsure;
        }
        self.expires = (Some(Time::ZERO), None);
    }
}

impl Model {
    pub(super) fn options_of(&self, session: &Session) -> Option<TransportOptions> {
        match session.transport {
            Known::Sure(transport) => Some(*self.config.transport(transport)),
            Known::Unsure => None,
        }
    }

    pub(super) fn session_added(&mut self, world: &World, id: &str, peer: Option<Peer>, announced: bool) -> Verdict {
        if let Some(session) = self.sessions.get_mut(id) {
            // Its handshake's reply may be drained before it is announced.
            if announced && !std::mem::replace(&mut session.announced, true) {
                return Ok(());
            }
            return Err(format!("H-11: the id {id} was given before"));
        }
        self.checked.sessions += 1;
        let mut session = Session::new(self.moment, self.now, self.config.broadcast_to_publisher);
        session.announced = announced;
        session.dismissed = self.stillborn.remove(id).then_some(RemovalReason::Removed);
        if let Some(peer) = peer
            && let Some(line) = self.lines.get_mut(&peer)
        {
            session.transport = Known::Sure(line.transport);
            session.browser = line.cookie.clone();
            line.made.push(id.to_owned());
            let asks = line.requests.iter().find(|request| request.kind == Kind::Handshake);
            session.ack = asks.is_some_and(|request| request.asks_ack);
            if let Peer::Exchange(key) = peer
                && session.browser.is_none()
            {
                // Known when the handshake succeeds: nobody else can have it before.
                session.browser = world.exchange(key).cookie.clone();
            }
        }
        self.sessions.insert(id.to_owned(), session);
        Ok(())
    }

    pub(super) fn session_removed(&mut self, id: &str, reason: RemovalReason) -> Verdict {
        let (now, moment) = (self.now, self.moment);
        let disconnecting = self.is_disconnecting(id);
        let transports = [&self.config.websocket, &self.config.long_polling, &self.config.callback_polling];
        let max_processing = transports.into_iter().filter_map(|options| options.max_processing).min();
        let waits = self.has_connect_in_lane(id);
        let taken_over = self.may_be_taken_over(id);
        let unheard = self.has_connect_unheard(id);
        let Some(session) = self.sessions.get_mut(id) else { return Err(format!("{id} was removed, and never added")) };
        if let (Some(_), Known::Sure(transport)) = (session.left, session.transport) {
            session.held = None;
            session.begin_left_expiry(now, self.config.transport(transport), Session::longest_life(&self.config));
        }
        let fault = match reason {
            RemovalReason::ClientDisconnect if !disconnecting && session.dismissed != Some(reason) => {
                Some("D-1: nobody disconnected it")
            }
            RemovalReason::ServerDisconnect | RemovalReason::Removed if session.dismissed != Some(reason) => {
                Some("D-10: the application did not want it to go")
            }
            RemovalReason::Expired if session.expires.0.is_none_or(|at| now < at) && !taken_over && !unheard => {
                Some("L-20: it was not its time")
            }
            RemovalReason::Expired if session.is_surely_held() && !taken_over => {
                Some("L-21: its connect is being processed")
            }
            RemovalReason::Expired if waits => Some("L-21: its connect waits for the message before it"),
            RemovalReason::ProcessingTooLong
                if max_processing.is_none_or(|limit| now < session.last_message + limit) =>
            {
                Some("L-24: it was not its time")
            }
            RemovalReason::QueueOverflow if !session.overflow_removes => Some("Z-11: nobody was told of an overflow"),
            RemovalReason::Inactive | _ => None,
        };
        if let Some(fault) = fault {
            return Err(format!("{fault}: session {id} was removed for {reason:?}"));
        }
        self.checked.expired += u64::from(reason == RemovalReason::Expired);
        session.ended = Some((moment, now, reason));
        if !is_disconnect(reason) {
            session.owed.clear();
        }
        Ok(())
    }

    /// Whether a message that waits on a WebSocket may have ended a hold elsewhere, and begun the expiry, without a reply
    /// that says so (rule L-43).
    fn may_be_taken_over(&self, id: &str) -> bool {
        let mut sockets = self.lines.iter().filter(|(peer, _)| matches!(peer, Peer::Socket(_)));
        sockets.any(|(_, line)| line.requests.iter().any(|request| !request.held && request.may_be_of(id)))
    }

    /// Whether a connect whose connection is gone may have begun the expiry anew, by what the application has set since.
    fn has_connect_unheard(&self, id: &str) -> bool {
        let connects = |request: &Request| request.kind == Kind::Connect && request.may_be_of(id);
        self.lines.values().any(|line| !line.open && line.requests.iter().any(connects))
    }

    /// Whether a connect of a session waits on its WebSocket for the message before it, and came after the last reply
    /// that began the expiry (rule L-21).
    fn has_connect_in_lane(&self, id: &str) -> bool {
        let Some(session) = self.sessions.get(id) else { return false };
        // Where something is being written, the message before it may wait for nothing but that.
        let waits = |line: &&Line| line.open && !line.writing && line.bound == Known::Sure(Some(id.to_owned()));
        self.lines.values().filter(waits).any(|line| {
            let waits = |request: &&Request| !request.held && request.serial > line.answered;
            let mut requests = line.requests.iter().filter(waits);
            // A connect may be held rather than wait.
            let first = requests.next().filter(|first| first.kind != Kind::Connect);
            let parked = first.filter(|first| first.claim == Claim::Of(id.to_owned()));
            let Some(parked) = parked else { return false };
            let mut connects = requests.filter(|request| request.kind == Kind::Connect && request.may_be_of(id));
            // In an envelope of its own.
            connects.any(|request| request.invalid.is_none() && request.at > session.expiry_begun.max(parked.at))
        })
    }

    /// Whether its client has sent a disconnect that is not answered.
    fn is_disconnecting(&self, id: &str) -> bool {
        self.lines.values().any(|line| {
            let mut requests = line.requests.iter();
            requests.any(|request| request.kind == Kind::Disconnect && request.may_be_of(id))
        })
    }

    /// Whether it may be about to end, or has ended: what it leaves behind is drained before its end is told.
    pub(super) fn is_leaving(&self, id: &str) -> bool {
        self.ending.contains_key(id) || self.sessions.get(id).is_some_and(|session| session.ended.is_some())
    }

    /// Connects of which nobody hears have timed out: that begins the expiry as soon as somebody looks (rule L-46).
    pub(super) fn settle_unheard(&mut self) {
        let now = self.now;
        let longest = Session::longest_life(&self.config);
        for session in self.sessions.values_mut() {
            if session.unheard.take_if(|at| *at <= now).is_some()
                && session.held.is_none()
                && session.expires.0.is_some()
            {
                session.expires.1.get_or_insert(now + longest);
            }
        }
    }

    /// Sessions that should be gone (rules L-20 to L-24).
    pub(super) fn check_expiry(&self, world: &World) -> Verdict {
        let now = self.now;
        let overdue = self
            .sessions
            .iter()
            .find(|(_, session)| session.ended.is_none() && session.expires.1.is_some_and(|at| now >= at));
        if let Some((id, session)) = overdue
            && !self.is_heard_from(id)
        {
            let at = session.expires.1.unwrap_or_default().since(Time::ZERO);
            return Err(format!("L-20: session {id} should have expired at {at:?}"));
        }
        self.check_processing(world)
    }

    /// Connects that take too long end their session (rule L-24).
    fn check_processing(&self, world: &World) -> Verdict {
        for (id, session) in self.sessions.iter().filter(|(_, session)| session.ended.is_none()) {
            let (Some(held), Some(options)) = (&session.held, self.options_of(session)) else { continue };
            let Some(limit) = options.max_processing.filter(|_| session.is_surely_held()) else { continue };
            // When a message that waits is looked at, the time begins anew.
            let pending = |line: &Line| line.requests.iter().any(|request| !request.held && request.may_be_of(id));
            if self.lines.values().any(pending) {
                continue;
            }
            if self.now > session.last_message_maybe + limit && !world.is_blocked(held.line) {
                return Err(format!(
                    "L-24: a connect of {id} has been processed since {:?}",
                    session.last_message_maybe
                ));
            }
        }
        let waits = |question: &&Question| matches!(&question.point, Point::Listen(channel) if channel.as_str() == meta::CONNECT);
        let waiting = world.questions();
        let mut waiting = waiting.iter().copied().filter(waits).filter_map(|question| question.session.as_ref());
        match waiting.find(|id| self.waits_too_long(world, id.as_str())) {
            Some(id) => Err(format!("L-24: a connect of {id} waits for a listener for too long")),
            None => Ok(()),
        }
    }

    /// Whether a connect that waits for a listener is all that there is of a session, and is processed for too long.
    fn waits_too_long(&self, world: &World, id: &str) -> bool {
        let Some(session) = self.alive(id) else { return false };
        let transports = [&self.config.websocket, &self.config.long_polling, &self.config.callback_polling];
        let limits: Option<Vec<Duration>> = transports.into_iter().map(|options| options.max_processing).collect();
        let Some(limit) = limits.into_iter().flatten().max() else { return false };
        let requests = self.lines.iter().flat_map(|(peer, line)| line.requests.iter().map(move |of| (*peer, line, of)));
        let mut pending = requests.filter(|(.., request)| !request.held && request.may_be_of(id));
        let (Some((peer, line, connect)), None) = (pending.next(), pending.next()) else { return false };
        connect.kind == Kind::Connect
            && connect.claim == Claim::Of(id.to_owned())
            && line.open
            && !world.is_in_transit()
            && !session.has_moved(peer, connect.moment)
            && !session.may_be_overtaken(peer, connect.moment)
            && self.now > session.last_message_maybe + limit
    }

    /// Whether a message of the session is anywhere between its arrival and its reply: it may put the expiry off.
    fn is_heard_from(&self, id: &str) -> bool {
        self.lines.values().any(|line| {
            line.requests.iter().any(|request| request.may_be_of(id)) || line.expiring.iter().any(|of| of.session == id)
        })
    }

    // The application.

    pub(in crate::swarm) fn dismiss(&mut self, id: &str, reason: RemovalReason) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.dismissed = Some(reason);
        }
    }

    pub(in crate::swarm) fn hold(&mut self, id: &str) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.holds += 1;
        }
    }

    pub(in crate::swarm) fn release(&mut self, id: &str) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.holds = session.holds.saturating_sub(1);
        }
    }

    pub(in crate::swarm) fn set(&mut self, id: &str, setting: SessionSetting) {
        let (moment, rests) = (self.next_moment(), self.rests);
        let Some(session) = self.sessions.get_mut(id) else { return };
        match setting {
            SessionSetting::Timeout(timeout) => {
                session.timeout_since = moment;
                session.own.timeout = timeout;
                (session.advised, session.advice_since) = (Known::Sure(None), moment);
            }
            SessionSetting::Interval(interval) => {
                session.change_life();
                session.own.interval = interval;
                (session.advised, session.advice_since) = (Known::Sure(None), moment);
            }
            SessionSetting::MaxInterval(time) => {
                session.change_life();
                session.own.max_interval = time;
                session.max_interval_since = moment;
            }
            SessionSetting::MaxLazyTimeout(time) => {
                if session.own.max_lazy_timeout != time {
                    session.max_lazy_since = moment;
                    session.max_lazy_before = std::mem::replace(&mut session.own.max_lazy_timeout, time);
                }
                session.lazy_since = rests.max(1);
            }
            SessionSetting::BroadcastToPublisher(on) => {
                session.own.to_publisher = on && self.config.broadcast_to_publisher;
                session.own_since = moment;
            }
            SessionSetting::MetaConnectDeliverOnly(on) => {
                session.own.deliver_only = on;
                session.deliver_only_since = rests + 1;
                session.deliver_only_set = moment;
            }
            SessionSetting::MaxQueue(_) | _ => session.blur(),
        }
    }

    /// Its client is not to be counted on any more: it lied, or somebody else speaks for it.
    pub(in crate::swarm) fn distrust(&mut self, id: &str) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.countable = false;
            if session.ack {
                session.owed.clear();
            }
        }
    }
}
