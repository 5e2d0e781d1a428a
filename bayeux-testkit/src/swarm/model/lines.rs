//! What is known of each connection: what was received on it and is not answered yet.

use std::collections::VecDeque;
use std::time::Duration;

use bayeux_core::{Time, Transport};
use bayeux_proto::{AckRequest, ConnectAdvice, Message, Outgoing, Reply};

use super::facts::{self, Kind};
use super::sessions::{Held, Known, Session};
use super::{Model, Moment, Verdict};
use crate::wire::{Ended, ExchangeKey, Outcome, SocketKey};
use crate::world::{Peer, World};

/// One connection.
pub(super) struct Line {
    pub(super) transport: Transport,
    pub(super) http2: bool,
    /// The browser id that came with the request.
    pub(super) cookie: Option<String>,
    /// The session that it is bound to, or that its request is of.
    pub(super) bound: Known<Option<String>>,
    /// The one that it was bound to before, while it is bound to none: what that left is still to be written.
    pub(super) former: Option<String>,
    pub(super) requests: VecDeque<Request>,
    /// Neither side has ended it.
    pub(super) open: bool,
    /// Something drained was not written yet.
    pub(super) writing: bool,
    /// How often it had moved to another shard when something last came on it.
    moves: usize,
    /// An envelope had to wait on it: that one may have noticed that its session had ended (rule TW-12).
    waited: bool,
    /// It sent a handshake among other messages, and must be closed.
    pub(super) condemned: bool,
    /// The serial number of the last message that was answered: on a WebSocket, nothing before waits in the lane.
    pub(super) answered: u64,
    /// The serial number of the last handshake that was answered: what came before binds it no more.
    pub(super) unbound: u64,
    /// The sessions that its handshakes made.
    pub(super) made: Vec<String>,
    /// Events were drained on it, and no reply behind them yet.
    pub(super) ahead: bool,
    /// Since when.
    ahead_since: Moment,
    /// When the first of its response was drained: what is queued later is not in it.
    pub(super) fixed: Option<Moment>,
    /// Sessions whose expiry begins when what is being written has left, each with the hold that ended.
    pub(super) expiring: Vec<Expiring>,
}

/// A session whose expiry begins with the end of a write (rule L-20).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expiring {
    pub(super) session: String,
    /// The held connect that was answered, if it was held (rule K-22).
    pub(super) hold: Option<u64>,
}

/// Whose a message is, as the rules of binding have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// It speaks for this session, which was alive when it came.
    Of(String),
    /// It may: something else on its connection is to be processed first.
    May(String),
    /// For none.
    Nobody,
}

/// A message that has no reply yet.
pub(super) struct Request {
    pub(super) serial: u64,
    pub(super) kind: Kind,
    pub(super) channel: Option<String>,
    pub(super) id: Option<String>,
    /// What hooks' verdicts about it are found by.
    pub(super) key: Option<String>,
    pub(super) claim: Claim,
    pub(super) at: Time,
    pub(super) moment: Moment,
    /// How often the world had come to rest before.
    pub(super) rest: u64,
    /// It is alone in its envelope.
    pub(super) alone: bool,
    pub(super) invalid: Option<&'static str>,
    pub(super) channels: Result<Vec<String>, &'static str>,
    pub(super) advice: Result<Option<ConnectAdvice>, ()>,
    pub(super) asks_ack: bool,
    /// The batch that it acknowledges.
    pub(super) acknowledges: Option<i64>,
    pub(super) number: Option<u64>,
    /// It is a connect, and held.
    pub(super) held: bool,
}

impl Request {
    pub(super) fn may_be_of(&self, id: &str) -> bool {
        matches!(&self.claim, Claim::Of(own) | Claim::May(own) if own == id)
    }

    /// Whether that is the reply to it.
    pub(super) fn is_answered_by(&self, reply: &Reply) -> bool {
        self.channel.as_deref() == reply.channel.as_deref() && self.id == reply.id.as_ref().map(facts::text_of)
    }

    /// For how long a connect wants to be held, and to wait until the next one, which is `longest` at most (rule K-9).
    pub(super) fn wish(&self, longest: Duration) -> (Option<Duration>, Option<Duration>) {
        let wishes = self.advice.ok().flatten().unwrap_or_default();
        let interval = wishes.interval_ms.map(|interval| Duration::from_millis(interval).min(longest));
        (wishes.timeout_ms.map(Duration::from_millis), interval)
    }

    pub(super) fn label(&self) -> String {
        format!("{} {}", self.channel.as_deref().unwrap_or("?"), self.id.as_deref().unwrap_or("?"))
    }
}

/// Longer than any connect of a run is held: one that nobody knows of may keep a session.
const HELD: Duration = Duration::from_secs(15);

impl Line {
    /// The session that something on it may speak for, and nothing else does.
    pub(super) fn claimed(&self) -> Option<String> {
        self.requests.iter().find_map(|request| match &request.claim {
            Claim::May(id) => Some(id.clone()),
            Claim::Of(_) | Claim::Nobody => None,
        })
    }

    /// Whether something is being processed on it that is no held connect.
    pub(super) fn is_busy(&self) -> bool {
        self.requests.iter().any(|request| !request.held)
    }
}

impl Model {
    fn line_of(&self, world: &World, peer: Peer) -> Line {
        let (transport, http2, cookie) = match peer {
            Peer::Exchange(key) => {
                let exchange = world.exchange(key);
                (exchange.http.transport, exchange.http.http2, exchange.cookie_sent.clone())
            }
            Peer::Socket(_) => (Transport::WebSocket, false, None),
        };
        Line {
            transport,
            http2,
            cookie,
            bound: Known::Sure(None),
            former: None,
            requests: VecDeque::new(),
            open: true,
            writing: false,
            moves: 0,
            waited: false,
            condemned: false,
            answered: 0,
            unbound: 0,
            made: Vec::new(),
            ahead: false,
            ahead_since: 0,
            fixed: None,
            expiring: Vec::new(),
        }
    }

    pub(super) fn on_received(&mut self, world: &World, peer: Peer, messages: &[Message]) -> Verdict {
        if !self.lines.contains_key(&peer) {
            let line = self.line_of(world, peer);
            self.lines.insert(peer, line);
        }
        self.note_moves(world, peer);
        let handshakes = messages.iter().filter(|message| facts::kind(message) == Kind::Handshake).count();
        let (busy, sure) = self.lines.get(&peer).map_or((false, true), |line| (line.is_busy(), !line.is_busy()));
        if handshakes > 0 && messages.len() > 1 {
            if let Some(line) = self.lines.get_mut(&peer) {
                line.condemned = true;
            }
            return Ok(());
        }
        if handshakes > 0 && !sure {
            self.blur_target(peer);
        }
        // A WebSocket whose session has ended may move to the shard of another one, and is a new one there (rule TW-12).
        let waited = self.lines.get(&peer).is_some_and(|line| line.waited);
        if let Some(line) = self.lines.get_mut(&peer) {
            line.waited |= busy;
        }
        let moves = (self.config.shards > 1 || waited) && self.is_bound_to_the_dead(peer);
        let session = if sure { self.find_session(peer, messages.first()) } else { None };
        for message in messages {
            let kind = facts::kind(message);
            if let Some(channel) = message.channel.as_deref().filter(|_| kind == Kind::Publish) {
                self.published_on.insert(channel.to_owned());
            }
            let named = message.client_id.as_deref().unwrap_or_default();
            let claim = match &session {
                _ if kind == Kind::Handshake => Claim::Nobody,
                Some(id) if id == named => Claim::Of(id.clone()),
                None if (busy || moves) && self.alive(named).is_some() => Claim::May(named.to_owned()),
                Some(_) | None => Claim::Nobody,
            };
            let request = self.request(message, kind, claim, messages.len() == 1);
            self.begin(peer, &request, busy);
            if let Some(line) = self.lines.get_mut(&peer) {
                line.requests.push_back(request);
            }
        }
        Ok(())
    }

    /// Where a WebSocket has gone to another shard, nobody hears what becomes of that which it had sent before.
    fn note_moves(&mut self, world: &World, peer: Peer) {
        let Peer::Socket(key) = peer else { return };
        let Some(line) = self.lines.get_mut(&peer) else { return };
        let moves = world.socket(key).moves;
        if std::mem::replace(&mut line.moves, moves) == moves {
            return;
        }
        let made = line.made.clone();
        let left: Vec<Request> = line.requests.drain(..).collect();
        for session in self.sessions.values_mut().filter(|session| session.is_held_on(peer)) {
            session.be_unheard(self.now);
        }
        for request in left.iter().filter(|request| !request.held) {
            self.unheard(peer, &made, request);
        }
    }

    fn is_bound_to_the_dead(&self, peer: Peer) -> bool {
        match self.lines.get(&peer).map(|line| &line.bound) {
            Some(Known::Sure(Some(bound))) => matches!(peer, Peer::Socket(_)) && self.alive(bound).is_none(),
            _ => false,
        }
    }

    /// A handshake waits on a WebSocket: it takes the push target from the session that is bound there (rule TW-10).
    fn blur_target(&mut self, peer: Peer) {
        if let Some(Known::Sure(Some(bound))) = self.lines.get(&peer).map(|line| &line.bound)
            && let Some(session) = self.sessions.get_mut(bound)
        {
            session.target = Known::Unsure;
        }
    }

    /// The session of an envelope, from its first message (rules TH-10, TH-11, TW-10 to TW-12).
    fn find_session(&mut self, peer: Peer, first: Option<&Message>) -> Option<String> {
        let first = first?;
        let handshake = facts::kind(first) == Kind::Handshake;
        let named = first.client_id.as_deref().unwrap_or_default();
        let line = self.lines.get(&peer)?;
        let found = if matches!(peer, Peer::Exchange(_)) {
            let session = self.alive(named).filter(|_| !handshake)?;
            let same = session.browser.is_some() && session.browser == line.cookie;
            (same || self.config.trust_client_session).then(|| named.to_owned())
        } else {
            let bound = match &line.bound {
                Known::Sure(bound) => bound.clone(),
                Known::Unsure => None,
            };
            match bound {
                Some(old) if handshake => {
                    if let Some(session) = self.sessions.get_mut(&old) {
                        session.unbind(peer);
                    }
                    None
                }
                Some(old) => self.alive(&old).is_some().then_some(old),
                None if handshake || self.config.require_handshake_per_connection => None,
                None => self.alive(named).map(|_| named.to_owned()),
            }
        };
        let line = self.lines.get_mut(&peer)?;
        if let (Known::Sure(Some(old)), None) = (&line.bound, &found) {
            line.former = Some(old.clone());
        }
        line.bound = Known::Sure(found.clone());
        found
    }

    fn request(&mut self, message: &Message, kind: Kind, claim: Claim, alone: bool) -> Request {
        let ack = message.extensions().ack;
        Request {
            serial: self.next_moment(),
            kind,
            channel: message.channel.as_ref().map(ToString::to_string),
            id: facts::id(message),
            key: facts::key(message),
            claim,
            at: self.now,
            moment: self.moment,
            rest: self.rests,
            alone,
            invalid: facts::invalid(message),
            channels: facts::subscription(message),
            advice: message.connect_advice().map_err(|_| ()),
            asks_ack: ack == Some(AckRequest::Enable),
            acknowledges: if let Some(AckRequest::Batch(batch)) = ack { Some(batch) } else { None },
            number: facts::number(message),
            held: false,
        }
    }

    /// What a message may do from the moment on in which it came.
    fn begin(&mut self, peer: Peer, request: &Request, busy: bool) {
        let (Claim::Of(id) | Claim::May(id)) = &request.claim else { return };
        if request.invalid.is_some() {
            return;
        }
        match request.kind {
            Kind::Subscribe => self.begin_subscribe(peer, id, request),
            Kind::Unsubscribe => self.begin_unsubscribe(id, request),
            Kind::Publish => self.begin_publish(peer, id, request),
            Kind::Connect => self.note_acknowledged(id, request),
            Kind::Handshake | Kind::Disconnect | Kind::Other => {}
        }
        let transport = self.lines.get(&peer).map(|line| line.transport);
        let options = transport.map(|transport| *self.config.transport(transport));
        let kept = request.kind == Kind::Connect && busy;
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.last_message_maybe = self.now;
        if kept {
            // The client has done its part (rule L-21), if its session is the one of the message that it waits for.
            let sure = matches!(request.claim, Claim::Of(_));
            session.expires = (session.expires.0.filter(|_| !sure), None);
        } else if let (Some(at), Some(options)) = (session.expires.1, options) {
            session.expires.1 = Some(at.max(self.now + session.max_interval(&options)));
        }
    }

    pub(super) fn on_drained(&mut self, world: &World, peer: Peer, messages: &[Outgoing]) -> Verdict {
        if let Some(line) = self.lines.get_mut(&peer) {
            // A WebSocket for which there is nothing, after all, is not written.
            line.writing |= !messages.is_empty() || line.transport.is_http();
            line.fixed.get_or_insert(self.moment);
            // The first connect of a session was processed when its response begins.
            for request in line.requests.iter().filter(|request| request.kind == Kind::Connect) {
                if let Claim::Of(id) | Claim::May(id) = &request.claim
                    && let Some(session) = self.sessions.get_mut(id)
                    && session.connected == Known::Sure(false)
                    && line.transport.is_http()
                    && messages.iter().all(|message| matches!(message, Outgoing::Event(_)))
                {
                    session.connected = Known::Unsure;
                }
            }
        }
        let events = messages.iter().filter(|message| matches!(message, Outgoing::Event(_))).count();
        let mut answered = Vec::new();
        // What rides with the reply to a handshake: whose, and how many (rule H-20).
        let mut riding: Option<(String, usize)> = None;
        for (at, message) in messages.iter().enumerate() {
            match message {
                Outgoing::Event(event) => {
                    riding = riding.filter(|(_, left)| *left > 0).map(|(id, left)| (id, left - 1));
                    self.deliver(peer, event, &messages[at..], riding.as_ref().map(|(id, _)| id.as_str()))?;
                }
                Outgoing::Reply(reply) => {
                    if let Some(handshake) = &reply.handshake {
                        riding = Some((handshake.client_id.to_string(), handshake.messages));
                    }
                    self.checked.replies += 1;
                    answered.extend(self.on_reply(world, peer, reply, messages, events)?);
                }
            }
        }
        self.check_response(peer, messages, &answered)?;
        let moment = self.moment;
        let Some(line) = self.lines.get_mut(&peer) else { return Ok(()) };
        let ahead = matches!(messages.last(), Some(Outgoing::Event(_)));
        let was_ahead = std::mem::replace(&mut line.ahead, ahead);
        if was_ahead
            && let Known::Sure(Some(id)) = &line.bound
            && let Some(session) = self.sessions.get_mut(id)
        {
            session.emptied = (line.ahead_since, moment);
        }
        if ahead && !was_ahead {
            line.ahead_since = moment;
        }
        Ok(())
    }

    pub(super) fn on_written(&mut self, peer: Peer) {
        if let Some(line) = self.lines.get_mut(&peer) {
            line.writing = false;
            let expiring = std::mem::take(&mut line.expiring);
            self.begin_expiries(expiring);
        }
    }

    /// The connection broke (rules L-46, L-47).
    pub(super) fn on_lost(&mut self, peer: Peer) -> Verdict {
        self.end_line(peer)
    }

    fn end_line(&mut self, peer: Peer) -> Verdict {
        self.shuffle(peer);
        self.turn_away_begun(peer)?;
        self.wish_of_begun(peer);
        let Some(line) = self.lines.get_mut(&peer) else { return Ok(()) };
        let writing = line.writing;
        (line.open, line.writing) = (false, false);
        let mut expiring = std::mem::take(&mut line.expiring);
        let begun = line.fixed.is_some() && line.transport.is_http();
        if begun {
            // A response that fails half way is as good as written (rule L-20).
            let connects = line.requests.iter().filter(|request| request.kind == Kind::Connect);
            expiring.extend(connects.filter_map(|request| match &request.claim {
                Claim::Of(id) | Claim::May(id) => {
                    Some(Expiring { session: id.clone(), hold: request.held.then_some(request.serial) })
                }
                Claim::Nobody => None,
            }));
        }
        let now = self.now;
        // A handshake that waits may have unbound it already.
        let unbinding = line.requests.iter().any(|request| request.kind == Kind::Handshake);
        let bound = if unbinding { Known::Unsure } else { line.bound.clone() };
        let longest = Session::longest_life(&self.config);
        // Those that something else of may be under way for: it may have ended the hold before.
        let waiting = |id: &str| {
            let mut others = self.lines.iter().filter(|(other, _)| **other != peer);
            others.any(|(_, line)| line.requests.iter().any(|request| request.may_be_of(id)))
        };
        let unsure: Vec<String> = self.sessions.keys().filter(|id| waiting(id)).cloned().collect();
        let half = self.lines.get(&peer).is_some_and(|line| line.fixed.is_some() && matches!(peer, Peer::Exchange(_)));
        if let Known::Sure(Some(id)) = &bound
            && let Some(session) = self.sessions.get_mut(id).filter(|_| half)
        {
            session.put_back = Some(self.moment);
        }
        let other_hold = |id: &str| {
            let mut others = self.lines.iter().filter(|(other, line)| **other != peer && line.open);
            others.find_map(|(other, line)| {
                let request = line.requests.iter().find(|request| request.held && request.may_be_of(id))?;
                Some(Held::in_doubt(*other, request.serial))
            })
        };
        let mut idle_since_now = Vec::new();
        for (id, session) in self.sessions.iter_mut().filter(|(_, session)| session.ended.is_none()) {
            if !begun {
                session.forget_move(peer);
            }
            let was_held = session.is_held_on(peer);
            if was_held && bound != Known::Sure(Some(id.clone())) {
                session.be_unheard(now);
                continue;
            }
            let was_target = session.target == Known::Sure(Some(peer));
            // It may have given way before, when another WebSocket took over (rule L-43).
            let left = was_held && !matches!(session.target, Known::Sure(None)) && !was_target;
            if was_held && let Some(held) = session.held.take() {
                // Where it was in doubt which one is held, it may be another one.
                session.held = other_hold(id).filter(|_| held.deadline.1 == Time::MAX);
                if session.held.is_some() {
                    // What took the session from the one that is gone is no concern of this one.
                    session.forget_left();
                }
            }
            if was_target {
                session.target = Known::Sure(None);
            }
            let idle = session.held.is_none() && session.expires == (None, None);
            if (was_held || was_target) && idle {
                match session.transport {
                    Known::Sure(transport) => session.begin_expiry(now, self.config.transport(transport)),
                    Known::Unsure => (session.expires, session.expiry_begun) = ((Some(now), None), now),
                }
                if left || unsure.contains(id) {
                    session.expires.0 = Some(Time::ZERO);
                    session.doubt_life(now, longest);
                }
                idle_since_now.push(id.clone());
            } else if session.target == Known::Unsure
                && bound == Known::Sure(Some(id.clone()))
                && session.held.is_none()
                && session.expires.1.is_none()
            {
                // It may have been the target.
                session.expires.0 = Some(session.expires.0.map_or(now, |at| at.min(now)));
            }
        }
        idle_since_now.iter().for_each(|id| self.widen_expiry(id));
        self.doubt_under_way(peer);
        self.begin_expiries(expiring);
        let Some(line) = self.lines.get_mut(&peer) else { return Ok(()) };
        for request in line.requests.iter().filter(|request| request.held) {
            // One that was left, and may have been answered before: that reply is lost with the connection (rule L-20).
            if let Claim::Of(id) | Claim::May(id) = &request.claim
                && let Some(session) = self.sessions.get_mut(id).filter(|session| session.held.is_none())
                && session.expires.0.is_some()
                && session.unheard.is_none()
            {
                if session.expires.1.is_none() && bound != Known::Sure(Some(id.clone())) {
                    // Another session has taken the WebSocket: it may be held until it times out (rule L-46).
                    session.unheard = Some(now + HELD);
                    continue;
                }
                let latest = session.expires.1.get_or_insert(now + longest);
                if writing && session.newest_hold == request.serial {
                    // It waits behind what is being written, perhaps, and nothing that was held came after it (rule K-22).
                    *latest = (*latest).max(now + longest);
                }
            }
        }
        line.requests.retain(|request| !request.held);
        if unbinding {
            // Nobody is told of the session that it made.
            for id in &line.made {
                let session = self.sessions.get_mut(id).filter(|session| session.expires == (None, None));
                if let Some(session) = session.filter(|session| session.held.is_none()) {
                    session.expires.0 = Some(now);
                }
            }
        }
        Ok(())
    }

    /// What was under way may have been processed before its connection went: a connect was held until then, and a
    /// WebSocket was where its session's client is. Its expiry begins now, or as soon as it is processed (rules L-20, L-47).
    fn doubt_under_way(&mut self, peer: Peer) {
        let Some(line) = self.lines.get(&peer) else { return };
        let (now, socket) = (self.now, matches!(peer, Peer::Socket(_)));
        let under_way = |request: &&Request| !request.held && request.invalid.is_none();
        for request in line.requests.iter().filter(under_way) {
            let connect = request.kind == Kind::Connect;
            let (Claim::Of(id) | Claim::May(id)) = &request.claim else { continue };
            let Some(session) = self.sessions.get_mut(id).filter(|_| connect || socket) else { continue };
            if connect && session.connected == Known::Sure(false) {
                session.connected = Known::Unsure;
            }
            let (earliest, latest) = session.expires;
            match &session.held {
                Some(held) if held.request >= request.serial || held.line == peer => {}
                Some(_) if socket => session.doubt_left(request.at),
                Some(_) => session.doubt_hold(),
                None if connect || latest.is_none() => {
                    session.expires.0 = Some(earliest.map_or(now, |at| at.min(now)));
                }
                None => {}
            }
        }
    }

    /// A connect that was turned away is as good as answered when its response has begun: it began no expiry.
    fn turn_away_begun(&mut self, peer: Peer) -> Verdict {
        let begun = |line: &&Line| line.open && line.fixed.is_some() && line.transport.is_http();
        let Some(line) = self.lines.get(&peer).filter(begun) else { return Ok(()) };
        let away = |request: &&Request| request.kind == Kind::Connect && self.is_turned_away(request);
        let away: Vec<u64> = line.requests.iter().filter(away).map(|request| request.serial).collect();
        for serial in away {
            let Some(line) = self.lines.get_mut(&peer) else { break };
            let at = line.requests.iter().position(|request| request.serial == serial);
            if let Some(request) = at.and_then(|at| line.requests.remove(at)) {
                self.refused(peer, &request, false)?;
            }
        }
        Ok(())
    }

    /// What a connect asked for counts, although its response fails half way, and so does the advice that it was given
    /// (rules K-9, L-20, V-11).
    fn wish_of_begun(&mut self, peer: Peer) {
        let begun = |line: &&Line| line.open && line.fixed.is_some() && line.transport.is_http();
        let Some(line) = self.lines.get(&peer).filter(begun) else { return };
        let longest = self.config.max_client_interval;
        for request in line.requests.iter().filter(|request| request.kind == Kind::Connect) {
            let (Claim::Of(id) | Claim::May(id)) = &request.claim else { continue };
            let Some(session) = self.sessions.get_mut(id) else { continue };
            session.advised = Known::Unsure;
            if request.held {
                continue;
            }
            session.note_move(peer, request.moment);
            if session.held.as_ref().is_some_and(|held| held.line != peer && held.request < request.serial) {
                session.doubt_hold();
            }
            // Not where a newer one has said something else.
            if session.newest_connect < request.serial && !session.may_be_overtaken(peer, request.moment) {
                session.wish = Known::Sure(request.wish(longest));
            }
        }
    }

    /// What a response that was drained in part did not take comes back, while another one has some of the same queue.
    fn shuffle(&mut self, peer: Peer) {
        let begun = |line: &&Line| line.open && line.fixed.is_some() && line.transport.is_http();
        let Some(line) = self.lines.get(&peer).filter(begun) else { return };
        let Known::Sure(Some(id)) = line.bound.clone() else { return };
        let moment = self.moment;
        if self.is_scattered(&id, Some(peer))
            && let Some(session) = self.sessions.get_mut(&id)
        {
            session.shuffled = Some(moment);
        }
    }

    fn begin_expiries(&mut self, expiring: Vec<Expiring>) {
        for Expiring { session: id, hold } in expiring {
            let now = self.now;
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            // One that nobody will hear of is held still (rule L-46).
            if !session.is_surely_held() && session.held.is_some() || session.unheard.is_some() {
                (session.expires, session.expiry_begun) = ((Some(Time::ZERO), None), now);
                continue;
            }
            if session.held.is_some() || hold.is_some_and(|hold| hold != session.newest_hold) {
                continue;
            }
            let doubtful = hold.is_some_and(|hold| hold < session.newest_hold_maybe);
            let before = session.expires;
            let Known::Sure(transport) = session.transport else {
                let longest = Session::longest_life(&self.config);
                (session.expires, session.expiry_begun) = ((Some(now), Some(now + longest)), now);
                continue;
            };
            session.begin_expiry(now, self.config.transport(transport));
            self.widen_expiry(&id);
            if let Some(session) = self.sessions.get_mut(&id).filter(|_| doubtful) {
                // Where a newer one was held, this one begins nothing (rule K-22).
                let (earliest, latest) = session.expires;
                let earliest = earliest.into_iter().chain(before.0).min();
                session.expires = (earliest, latest.zip(before.1).map(|(begun, at)| begun.max(at)));
            }
        }
    }

    /// A message that was received, and has no reply yet, may have changed the transport before the expiry began, and a
    /// connect the interval, too (rules L-44, K-9).
    fn widen_expiry(&mut self, id: &str) {
        let (now, longest) = (self.now, self.config.max_client_interval);
        let mut transports: Vec<Transport> = self.transports_under_way(id).collect();
        let under_way = self.lines.values().flat_map(|line| &line.requests).filter(|request| {
            request.kind == Kind::Connect && !request.held && request.invalid.is_none() && request.may_be_of(id)
        });
        let mut wishes: Vec<_> = under_way.map(|request| Known::Sure(request.wish(longest))).collect();
        let Some(session) = self.sessions.get_mut(id) else { return };
        let wish = session.wish;
        wishes.push(wish);
        if let Known::Sure(transport) = session.transport {
            transports.push(transport);
        }
        for (transport, other) in transports.iter().flat_map(|of| wishes.iter().map(move |other| (*of, *other))) {
            let sure = session.expires;
            session.wish = other;
            session.begin_expiry(now, self.config.transport(transport));
            session.expires = (session.expires.0.min(sure.0), session.expires.1.zip(sure.1).map(|(a, b)| a.max(b)));
        }
        session.wish = wish;
    }

    /// Over which transports messages of a session came that have no reply yet, and are no held connects.
    pub(super) fn transports_under_way<'a>(&'a self, id: &'a str) -> impl Iterator<Item = Transport> + 'a {
        let under_way = |line: &&Line| line.requests.iter().any(|request| !request.held && request.may_be_of(id));
        self.lines.values().filter(under_way).map(|line| line.transport)
    }

    /// An exchange has an outcome.
    pub(super) fn on_ended(&mut self, world: &World, key: ExchangeKey) -> Verdict {
        let peer = Peer::Exchange(key);
        let Some(line) = self.lines.get(&peer) else { return Ok(()) };
        match world.exchange(key).outcome {
            Outcome::Status(status) => {
                let condemned = line.condemned;
                let fault = match status {
                    400 if condemned => None,
                    500 => self.unjust_failure(peer),
                    503 => None,
                    _ => Some("TH-40: there is no reason for it"),
                };
                self.end_line(peer)?;
                let failed = self.lines.get_mut(&peer).map(|line| std::mem::take(&mut line.requests));
                for request in failed.into_iter().flatten().filter(|request| request.kind == Kind::Connect) {
                    if let Claim::Of(id) | Claim::May(id) = &request.claim {
                        self.doubt_left_over(peer, id, &request);
                    }
                }
                match fault {
                    Some(fault) => Err(format!("{fault}: {peer:?} was answered with status {status}")),
                    None => Ok(()),
                }
            }
            Outcome::Answered(_) => {
                if let Some(line) = self.lines.get_mut(&peer) {
                    line.open = false;
                }
                Ok(())
            }
            Outcome::Aborted | Outcome::Held => Ok(()),
        }
    }

    /// Why a held connect may not have been failed (rules K-20, L-31, L-43).
    fn unjust_failure(&self, peer: Peer) -> Option<&'static str> {
        let line = self.lines.get(&peer)?;
        let Some(request) = line.requests.front().filter(|request| request.kind == Kind::Connect) else {
            return Some("TH-46: it was no connect");
        };
        let (Claim::Of(id) | Claim::May(id)) = &request.claim else { return Some("TH-46: it was of no session") };
        if self.alive(id).is_none() || self.is_leaving(id) {
            return None;
        }
        let newer = self.lines.iter().any(|(other, line)| {
            let takes_over = matches!(other, Peer::Socket(_));
            *other != peer
                && line.requests.iter().any(|other| other.may_be_of(id) && (takes_over || other.kind == Kind::Connect))
        });
        // It waited while its client went elsewhere.
        let left_over = self.sessions.get(id).is_some_and(|session| {
            session.has_moved(peer, request.moment) || session.may_be_overtaken(peer, request.moment)
        });
        // A takeover may have been answered in the meantime.
        let taken = self.sessions.get(id).is_some_and(|session| !matches!(session.target, Known::Sure(None)));
        if newer || taken || left_over { None } else { Some("K-20: nothing took its place") }
    }

    /// A WebSocket was closed by the server.
    pub(super) fn on_closed(&mut self, world: &World, key: SocketKey) -> Verdict {
        let peer = Peer::Socket(key);
        let condemned = self.lines.get(&peer).is_some_and(|line| line.condemned);
        let reason = match world.socket(key).ended {
            Some(Ended::ByServer { reason, .. }) => reason,
            Some(Ended::ByClient) | None => "",
        };
        // What came before is carried out.
        self.end_line(peer)?;
        if condemned || reason != "handshake in a batch" {
            return Ok(());
        }
        Err(format!("TW-20: {peer:?} was closed for {reason}"))
    }

    /// At rest, what waits for a reply waits for something (rule TW-29).
    pub(super) fn check_unanswered(&mut self, world: &World) -> Verdict {
        let mut done = Vec::new();
        // What a connection that is gone had sent may go on, and nobody can tell whose question it asks.
        let orphans = world.is_in_transit() || world.questions().iter().any(|question| question.conn.is_none());
        for (peer, line) in &mut self.lines {
            if world.is_blocked(*peer) {
                continue;
            }
            if !line.open && orphans {
                continue;
            }
            if !line.open {
                // It was carried out, and nobody heard of it.
                let made = line.made.clone();
                done.extend(line.requests.drain(..).map(|request| (*peer, made.clone(), request)));
            } else if line.condemned && !line.writing {
                return Err(format!("H-3: {peer:?} sent a handshake among other messages, and is still open"));
            } else if !line.writing
                && let Some(request) = line.requests.iter().find(|request| !request.held)
            {
                return Err(format!(
                    "TW-29: no reply to {} on {peer:?}, and nothing that it waits for",
                    request.label()
                ));
            }
        }
        for (peer, made, request) in done {
            self.unheard(peer, &made, &request);
        }
        Ok(())
    }

    /// A request was carried out, perhaps, and its reply got lost.
    fn unheard(&mut self, peer: Peer, made: &[String], request: &Request) {
        if let Some(number) = request.number
            && let Some(event) = self.events.get_mut(&number)
        {
            event.uncertain = true;
            self.spreading.insert(number);
        }
        let of = match &request.claim {
            Claim::Of(id) | Claim::May(id) => vec![id.clone()],
            Claim::Nobody if request.kind == Kind::Handshake => made.to_vec(),
            Claim::Nobody => Vec::new(),
        };
        let longest = Session::longest_life(&self.config);
        for id in of {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if let Some(held) = session.held.as_ref().filter(|held| held.line != peer) {
                if held.request < request.serial && matches!(peer, Peer::Socket(_)) {
                    session.doubt_left(request.at);
                } else {
                    session.doubt_hold();
                }
            }
            if matches!(peer, Peer::Socket(_)) || request.kind == Kind::Connect {
                session.note_target(peer, request.moment);
            }
            match request.kind {
                Kind::Handshake | Kind::Connect => {
                    let before = session.expires.1;
                    session.blur();
                    // Nobody waits for it any more, unless another connect is there (rule L-20).
                    session.expires.1 =
                        session.held.is_none().then(|| before.unwrap_or_default().max(self.now + longest + HELD));
                }
                Kind::Unsubscribe | Kind::Subscribe | Kind::Publish | Kind::Disconnect | Kind::Other => {
                    session.blur_transport(request.moment);
                    session.target = Known::Unsure;
                    session.expires = (session.expires.0.map(|_| self.now), None);
                }
            }
        }
    }
}
