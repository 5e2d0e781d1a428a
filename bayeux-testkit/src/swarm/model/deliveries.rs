//! Who must, may and must not receive what, in which order, and when (section 14).

use std::time::Duration;

use bayeux_core::{RemovalReason, Time};
use bayeux_proto::{Frozen, Outgoing, meta};

use super::facts::{self, Kind};
use super::kept::may_be_kept;
use super::lines::{Claim, Line, Request};
use super::sessions::{Known, Session, Span};
use super::{Model, Moment, Verdict, is_disconnect};
use crate::swarm::{KEPT, LAZY, LAZY_SOON, NARROW};
use crate::world::{Peer, World};

/// Where an event comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::swarm) enum Origin {
    /// A session publishes, on this connection.
    Session(String, Peer),
    /// The application publishes.
    Application,
    /// Something is delivered to one session.
    To(String),
}

/// One event.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) channel: String,
    pub(super) origin: Origin,
    /// Its fan-out began after this moment.
    pub(super) began: Moment,
    pub(super) began_at: Time,
    /// How often the world had come to rest before.
    began_rest: u64,
    /// The same when its publish was answered.
    answered_rest: Option<u64>,
    /// Its fan-out had ended everywhere.
    pub(super) done: Option<Moment>,
    /// It was refused: nobody may receive it.
    pub(super) refused: bool,
    /// Nobody knows whether it was carried out.
    pub(super) uncertain: bool,
    /// How it may wait beside what its channel says.
    pub(super) lazy: Option<Duration>,
    delivered: bool,
    /// Its channel may have been as channels are by default.
    plain: bool,
}

/// An event that a session must get.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) number: u64,
    pub(super) done: Moment,
    /// It must leave by then, where it can.
    pub(super) due: Time,
}

impl Event {
    /// Whether its publish waited for something. Meanwhile its channel may have been removed, which leaves it the wider
    /// ones and what is set there (rules A-5, E-93).
    pub(super) fn waited(&self, rests: u64) -> bool {
        matches!(self.origin, Origin::Session(..)) && self.answered_rest.unwrap_or(rests) > self.began_rest
    }
}

impl Model {
    /// An event begins on its way.
    pub(in crate::swarm) fn publish(&mut self, number: u64, channel: &str, origin: Origin, lazy: Option<Duration>) {
        let began = self.next_moment();
        let application = !matches!(origin, Origin::Session(..));
        self.published_on.insert(channel.to_owned());
        let event = Event {
            channel: channel.to_owned(),
            origin,
            began,
            began_at: self.now,
            began_rest: self.rests,
            answered_rest: None,
            done: None,
            refused: false,
            uncertain: false,
            lazy,
            delivered: false,
            plain: self.unknown.contains(channel),
        };
        self.events.insert(number, event);
        if application {
            self.spreading.insert(number);
        }
    }

    pub(super) fn begin_publish(&mut self, peer: Peer, id: &str, request: &Request) {
        let (Some(number), Some(channel)) = (request.number, &request.channel) else { return };
        self.publish(number, channel, Origin::Session(id.to_owned(), peer), None);
    }

    /// The reply to a publish was drained.
    pub(super) fn end_publish(&mut self, request: &Request, successful: bool) -> Verdict {
        let Some(number) = request.number else { return Ok(()) };
        let rests = self.rests;
        let Some(event) = self.events.get_mut(&number) else { return Ok(()) };
        event.answered_rest = Some(rests);
        event.refused = !successful;
        if event.refused && event.delivered {
            return Err(format!("F-16: event {number} was refused, and delivered"));
        }
        self.spreading.insert(number);
        Ok(())
    }

    /// Over WebSocket the events of an envelope leave before its replies (rules Q-20, TW-8).
    pub(super) fn check_overtaken(&self, peer: Peer, id: &str, request: &Request) -> Verdict {
        let (Some(session), Some(number)) = (self.alive(id), request.number) else { return Ok(()) };
        let Some(event) = self.events.get(&number).filter(|_| !self.is_leaving(id)) else { return Ok(()) };
        let Some(options) = self.options_of(session) else { return Ok(()) };
        let only = session.ack || session.own.deliver_only || options.meta_connect_deliver_only;
        let sharp = matches!(request.claim, Claim::Of(_)) && request.rest == self.rests && session.overflowed.is_none();
        let pushed = matches!(peer, Peer::Socket(_)) && session.target == Known::Sure(Some(peer)) && !only;
        let had = session.got.contains(&number) || self.dropped.contains(&(id.to_owned(), number));
        if sharp && pushed && !had && must_get(session, id, event, self.moment) {
            return Err(format!("Q-20: the reply to the publish of event {number} came to {id} before the event"));
        }
        Ok(())
    }

    // Subscriptions.

    pub(super) fn begin_subscribe(&mut self, peer: Peer, id: &str, request: &Request) {
        let Ok(channels) = &request.channels else { return };
        let from = request.moment;
        if let Some(session) = self.sessions.get_mut(id) {
            let span = |pattern: &String| Span {
                pattern: pattern.clone(),
                by: Some(peer),
                from,
                sure_from: None,
                sure_until: None,
                until: None,
                settled: None,
            };
            session.spans.extend(channels.iter().map(span));
        }
    }

    pub(super) fn end_subscribe(&mut self, peer: Peer, id: &str, request: &Request, successful: bool) {
        let Ok(channels) = &request.channels else { return };
        let undoing = self.undoing(id, Some(peer));
        let (now, removals) = (self.moment, &self.removals);
        let Some(session) = self.sessions.get_mut(id) else { return };
        for span in session.spans.iter_mut().filter(|span| span.from == request.moment) {
            let removed =
                removals.iter().any(|(pattern, _)| *pattern == span.pattern) || undoing.contains(&span.pattern);
            if successful && span.sure_until.is_none() && !removed {
                span.sure_from = Some(now);
            } else if !successful && channels.len() == 1 {
                span.until = Some(now);
            }
        }
    }

    /// The channels that a session is about to unsubscribe from on other connections: nobody knows when.
    fn undoing(&self, id: &str, but: Option<Peer>) -> Vec<String> {
        let others = self.lines.iter().filter(|(peer, _)| Some(**peer) != but).flat_map(|(_, line)| &line.requests);
        let undoing = others.filter(|request| request.kind == Kind::Unsubscribe && request.may_be_of(id));
        undoing.filter_map(|request| request.channels.as_ref().ok()).flatten().cloned().collect()
    }

    pub(super) fn begin_unsubscribe(&mut self, id: &str, request: &Request) {
        let Ok(channels) = &request.channels else { return };
        let moment = request.moment;
        if let Some(session) = self.sessions.get_mut(id) {
            for span in session.spans.iter_mut().filter(|span| channels.contains(&span.pattern)) {
                span.sure_until.get_or_insert(moment);
            }
        }
    }

    pub(super) fn end_unsubscribe(&mut self, peer: Peer, id: &str, request: &Request, gone: bool) {
        let Ok(channels) = &request.channels else { return };
        let now = self.moment;
        let Some(session) = self.sessions.get_mut(id).filter(|_| gone) else { return };
        for span in session.spans.iter_mut().filter(|span| channels.contains(&span.pattern)) {
            if span.sure_from.is_some_and(|from| from <= request.moment) {
                span.until.get_or_insert(now);
            } else if span.by != Some(peer) && span.from > request.moment {
                // It came on another connection meanwhile: perhaps before, perhaps after.
                span.sure_until.get_or_insert(span.from);
            }
        }
    }

    pub(in crate::swarm) fn subscribe(&mut self, id: &str, pattern: &str) {
        let from = self.next_moment();
        let removed =
            self.removals.iter().any(|(of, _)| of == pattern) || self.undoing(id, None).iter().any(|of| of == pattern);
        if let Some(session) = self.sessions.get_mut(id).filter(|session| session.ended.is_none())
            && !pattern.starts_with("/service/")
        {
            let sure_from = (!removed).then_some(from + 1);
            let pattern = pattern.to_owned();
            session.spans.push(Span {
                pattern,
                by: None,
                from,
                sure_from,
                sure_until: None,
                until: None,
                settled: None,
            });
        }
        // Where another shard is its home, it is used as it is by default until that one has said what is set there.
        for event in self.events.values_mut().filter(|event| event.done.is_none() && event.channel == pattern) {
            event.plain = true;
        }
        self.unknown.insert(pattern.to_owned());
    }

    pub(in crate::swarm) fn unsubscribe(&mut self, id: &str, pattern: &str) {
        let now = self.next_moment();
        let Some(session) = self.sessions.get_mut(id) else { return };
        for span in session.spans.iter_mut().filter(|span| span.pattern == pattern) {
            span.sure_until.get_or_insert(now);
            if span.sure_from.is_some() {
                span.until.get_or_insert(now);
            }
        }
    }

    pub(in crate::swarm) fn remove_channel(&mut self, pattern: &str) {
        let now = self.next_moment();
        for session in self.sessions.values_mut() {
            for span in session.spans.iter_mut().filter(|span| span.pattern == pattern) {
                span.sure_until.get_or_insert(now);
            }
        }
        self.removals.push((pattern.to_owned(), now));
        if pattern == KEPT {
            self.kept = None;
        }
    }

    /// Removals, and what is set for new channels, have reached every shard.
    pub(super) fn settle_channels(&mut self, world: &World) {
        if world.is_in_transit() {
            return;
        }
        self.unknown.clear();
        for (pattern, at) in std::mem::take(&mut self.removals) {
            for session in self.sessions.values_mut() {
                for span in session.spans.iter_mut().filter(|span| span.pattern == pattern) {
                    if span.settled.is_some_and(|settled| settled <= at) {
                        span.until.get_or_insert(self.moment);
                    } else if span.from < self.moment && span.sure_from.is_none_or(|from| from > at) {
                        // It came meanwhile: perhaps before, perhaps after.
                        span.sure_until.get_or_insert(span.from);
                    }
                }
            }
        }
        let spans = self.sessions.values_mut().flat_map(|session| &mut session.spans);
        for span in spans.filter(|span| span.sure_from.is_some()) {
            span.settled.get_or_insert(self.moment);
        }
    }

    // Fan-out.

    /// Events that have reached every shard: from now on it is known who must get them.
    pub(super) fn settle_events(&mut self, world: &World) {
        if world.is_in_transit() {
            return;
        }
        let waits = world.questions().iter().any(|question| question.conn.is_none());
        let moment = self.moment;
        let mut settled = Vec::new();
        for number in std::mem::take(&mut self.spreading) {
            let Some(event) = self.events.get_mut(&number) else { continue };
            if waits && event.origin == Origin::Application {
                self.spreading.insert(number);
                continue;
            }
            event.done = Some(moment);
            settled.push(number);
            if event.refused || event.uncertain {
                continue;
            }
            if self.vetoes && event.origin == Origin::Application {
                continue;
            }
            let Some(event) = self.events.get(&number) else { continue };
            self.owe(number, event.began, moment);
        }
        self.keep(&settled);
    }

    fn owe(&mut self, number: u64, began: Moment, done: Moment) {
        let Some(event) = self.events.get(&number) else { return };
        let (now, config, rests) = (self.now, &self.config, self.rests);
        for (id, session) in &mut self.sessions {
            let fit =
                session.added < began && session.ended.is_none() && session.overflowed.is_none_or(|at| at < began);
            let dropped = self.dropped.contains(&(id.clone(), number));
            if !fit || dropped || session.got.contains(&number) || !must_get(session, id, event, done) {
                continue;
            }
            if session.ack && !session.countable {
                continue;
            }
            let due = match session.transport {
                Known::Sure(transport) => {
                    now + latest(session, event, config.transport(transport).max_lazy_timeout, rests)
                }
                Known::Unsure => now + latest(session, event, Duration::from_secs(3_600), rests),
            };
            session.owed.push_back(Owed { number, done, due });
            self.checked.obligations += 1;
        }
    }

    /// An event was drained, and what is in `rest` with it. `riding`: the session with the reply to whose handshake it
    /// comes, if it does.
    pub(super) fn deliver(&mut self, peer: Peer, event: &Frozen, rest: &[Outgoing], riding: Option<&str>) -> Verdict {
        let Some(line) = self.lines.get(&peer) else { return Err(format!("{peer:?}: an event before anything else")) };
        let last_words = || self.last_words_on(peer, rest).filter(|id| self.may_be_left_by(id, event));
        let left = || last_words().or_else(|| self.farewell_due_on(peer, line));
        let of_line = || left().or_else(|| self.whose(peer, line, rest));
        let Some(id) = riding.map(str::to_owned).or_else(of_line) else {
            return Err(format!("{peer:?}: an event on {} without a session", event.channel()));
        };
        if event.channel() == meta::DISCONNECT {
            return self.on_farewell(&id);
        }
        let thawed = event.thaw();
        if thawed.id.is_some() || thawed.fields.iter().any(|(key, _)| &**key == "\"clientId\"") {
            return Err(format!("M-13: an event on {} names its sender or its message", event.channel()));
        }
        let data = thawed.data;
        let number = data.as_ref().and_then(|data| facts::number_in(data.as_str()));
        let Some(number) = number else { return Ok(()) };
        self.checked.deliveries += 1;
        let Some(event) = self.events.get_mut(&number) else {
            return Err(format!("event {number} was delivered to {id}, and never published"));
        };
        event.delivered = true;
        let event = &self.events[&number];
        // The WebSocket of a session that had ended has taken up the one that something on it speaks for (rule TW-12).
        let ended = |id: &str| self.sessions.get(id).and_then(|session| session.ended).map(|(at, ..)| at);
        let id = if ended(&id).is_some_and(|at| at < event.began) { line.claimed().unwrap_or(id) } else { id };
        let leaving = self.is_leaving(&id);
        let scattered = self.is_scattered(&id, Some(peer));
        let Some(session) = self.sessions.get_mut(&id) else { return Err(format!("{peer:?} is bound to nobody")) };
        if event.refused {
            return Err(format!("F-16: event {number} was refused, and delivered to {id}"));
        }
        if let Err(fault) = may_get(session, &id, event) {
            return Err(format!("{fault}: event {number} on {} was delivered to {id}", event.channel));
        }
        let offered_again = self.drops_are_over && event.channel == KEPT;
        if self.dropped.contains(&(id.clone(), number)) && !offered_again {
            return Err(format!("Q-7: event {number} was delivered to {id}, although a hook kept it back"));
        }
        if matches!(peer, Peer::Socket(_))
            && let Known::Sure(target) = session.target
            && target != Some(peer)
            && (target.is_some() || matches!(session.transport, Known::Sure(transport) if transport.is_http()))
            && !leaving
            && !line.requests.iter().any(|request| {
                // What waited there may be processed only now.
                let later = request.moment > session.target_since || request.rest < self.rests && !request.held;
                // The reply to a connect that was held there may wait for its turn to be written, with a batch of its own.
                (later || session.ack && request.held) && request.may_be_of(&id)
            })
        {
            return Err(format!(
                "L-43: event {number} was delivered to {id} on {peer:?}, and its client is on {target:?}"
            ));
        }
        session.drained_before = Some(self.rests);
        let again = !session.got.insert(number);
        let kept = may_be_kept(session, event);
        // What another response had went behind what this one has.
        let scattered = scattered || line.fixed.is_some_and(|fixed| session.put_back.is_some_and(|at| fixed < at));
        if again && !session.ack && !kept {
            return Err(format!("Q-4: event {number} was delivered to {id} twice"));
        }
        let shuffled = session.shuffled.is_some_and(|at| event.began <= at);
        if !again && !scattered && !shuffled && !kept {
            // What a broken response had counts as sent, and is given up when its session ends (rule XA-13).
            let given_up = |owed: &Owed| {
                let began = self.events.get(&owed.number).map(|event| event.began);
                leaving && session.put_back.is_some_and(|at| began.is_some_and(|began| began <= at))
            };
            let sent = |owed: &Owed| session.ack && (session.got.contains(&owed.number) || given_up(owed));
            if let Some(owed) = session.owed.iter().find(|owed| owed.done < event.began && !sent(owed)) {
                return Err(format!("Q-21: event {number} was delivered to {id} before event {}", owed.number));
            }
            if event.done.is_some_and(|done| done < session.newest) {
                return Err(format!("Q-21: event {number} was delivered to {id} after a later one"));
            }
            session.newest = session.newest.max(event.began);
            in_order_of_its_publisher(session, &id, number, event)?;
        }
        if !session.ack {
            session.owed.retain(|owed| owed.number != number);
        }
        Ok(())
    }

    /// The session that is ending whose held connect is still to be answered on a WebSocket that another one has taken:
    /// what comes in parts before that reply is what the first one left (rules D-2, D-10).
    fn last_words_on(&self, peer: Peer, rest: &[Outgoing]) -> Option<String> {
        // Where there is no budget, that reply comes with all of it.
        let line = self.lines.get(&peer).filter(|_| matches!(peer, Peer::Socket(_)) && self.socket_in_parts)?;
        if rest.iter().any(|message| matches!(message, Outgoing::Reply(_))) {
            return None;
        }
        let mut held = line.requests.iter().filter(|request| request.held);
        held.find_map(|request| match &request.claim {
            Claim::Of(id) | Claim::May(id)
                if self.has_last_connect(id, request) && !self.left_to_disconnect(id, peer, request) =>
            {
                Some(id.clone())
            }
            Claim::Of(_) | Claim::May(_) | Claim::Nobody => None,
        })
    }

    /// Whether an event may be of what a session leaves. Before its end was told, others may still be on their way to
    /// the session that has taken its WebSocket.
    fn may_be_left_by(&self, id: &str, event: &Frozen) -> bool {
        let Some(session) = self.alive(id) else { return true };
        let number = event.thaw().data.and_then(|data| facts::number_in(data.as_str()));
        let event = number.and_then(|number| self.events.get(&number));
        event.is_none_or(|event| may_get(session, id, event).is_ok())
    }

    /// Whether that is the connect by which a disconnected session hears of it.
    fn has_last_connect(&self, id: &str, request: &Request) -> bool {
        let Some(session) = self.sessions.get(id).filter(|session| session.newest_hold == request.serial) else {
            return false;
        };
        let reason = session.ended.map(|(.., reason)| reason).or_else(|| self.ending.get(id).copied());
        reason.is_some_and(is_disconnect)
    }

    /// Whether its client has left that connect for another WebSocket, to disconnect there (rule L-43).
    fn left_to_disconnect(&self, id: &str, but: Peer, connect: &Request) -> bool {
        let ended = self.sessions.get(id).and_then(|session| session.ended).map(|(.., reason)| reason);
        if ended.or_else(|| self.ending.get(id).copied()) != Some(RemovalReason::ClientDisconnect) {
            return false;
        }
        let elsewhere = |peer: &Peer| *peer != but && matches!(peer, Peer::Socket(_));
        let told = self.sessions.get(id).and_then(|session| session.disconnected_by);
        let mut others = self.lines.iter().filter(|(peer, _)| elsewhere(peer)).flat_map(|(_, line)| &line.requests);
        told.is_some_and(|(peer, serial)| elsewhere(&peer) && serial > connect.serial)
            || others.any(|request| {
                request.kind == Kind::Disconnect && request.serial > connect.serial && request.may_be_of(id)
            })
    }

    /// The session that was bound to a WebSocket, and that the server has disconnected: what it left goes before anything
    /// else, with the server's last word at the end (rule D-10).
    fn farewell_due_on(&self, peer: Peer, line: &Line) -> Option<String> {
        let former = line.former.as_ref().filter(|_| line.bound == Known::Sure(None))?;
        let session = self.sessions.get(former)?;
        let disconnected =
            matches!(session.ended, Some((_, _, RemovalReason::ServerDisconnect | RemovalReason::Inactive)));
        (disconnected && !session.farewell && session.target == Known::Sure(Some(peer))).then(|| former.clone())
    }

    /// Whose an event is: of the session that the connection is bound to, or of an earlier one, with whose held connect it
    /// comes.
    fn whose(&self, peer: Peer, line: &Line, rest: &[Outgoing]) -> Option<String> {
        let next = rest.iter().find_map(|message| match message {
            Outgoing::Reply(reply) => Some(reply),
            Outgoing::Event(_) => None,
        });
        let request = next.and_then(|reply| line.requests.iter().find(|request| request.is_answered_by(reply)));
        let connects =
            next.is_some_and(|reply| reply.successful) && request.is_some_and(|request| request.kind == Kind::Connect);
        match (request.map(|request| &request.claim), &line.bound) {
            (Some(Claim::Of(id) | Claim::May(id)), _) if connects => Some(id.clone()),
            (_, Known::Sure(Some(bound))) if self.is_silent(bound, peer) => {
                line.claimed().or_else(|| Some(bound.clone()))
            }
            (_, Known::Sure(Some(bound))) => Some(bound.clone()),
            (_, Known::Sure(None)) => line.claimed().or_else(|| line.former.clone()),
            (_, Known::Unsure) => None,
        }
    }

    /// Whether a session has nothing more to say on a connection, since it has ended, and its last word was said there.
    pub(super) fn is_silent(&self, id: &str, peer: Peer) -> bool {
        let Some(session) = self.sessions.get(id) else { return false };
        let dismissed_here = session.disconnected_by.is_some_and(|(line, _)| line == peer);
        let left_nothing = session.ended.is_some_and(|(.., reason)| !is_disconnect(reason));
        dismissed_here || left_nothing || session.farewell
    }

    fn on_farewell(&mut self, id: &str) -> Verdict {
        let Some(session) = self.sessions.get_mut(id) else { return Ok(()) };
        session.farewell = true;
        let dismissed = session.dismissed == Some(RemovalReason::ServerDisconnect);
        match session.ended {
            None if dismissed => Ok(()),
            Some((_, _, RemovalReason::ServerDisconnect | RemovalReason::Inactive)) => Ok(()),
            _ => Err(format!("D-10: {id} was told that it is disconnected, and is not")),
        }
    }

    /// How many events may be in the queue of a session, of one channel where one is named.
    pub(super) fn may_wait(&self, id: &str, session: &Session, channel: Option<&str>) -> usize {
        let waiting = |(number, event): &(&u64, &Event)| {
            !event.refused
                && channel.is_none_or(|channel| event.channel == channel)
                && !session.got.contains(number)
                && may_get(session, id, event).is_ok()
        };
        self.events.iter().filter(waiting).count()
    }

    /// Its client has an event, for good (rule XA-6).
    pub(in crate::swarm) fn heard(&mut self, id: &str, number: u64) -> Verdict {
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.ack && session.countable) else {
            return Ok(());
        };
        session.owed.retain(|owed| owed.number != number);
        if self.events.get(&number).is_some_and(|event| may_be_kept(session, event)) {
            return Ok(());
        }
        if !session.heard.insert(number) {
            return Err(format!("XA-6: the client of {id} was given event {number} twice"));
        }
        let Some(event) = self.events.get(&number) else { return Ok(()) };
        if event.done.is_some_and(|done| done < session.newest_heard) {
            return Err(format!("XA-5: the client of {id} was given event {number} after a later one"));
        }
        session.newest_heard = session.newest_heard.max(event.began);
        // What a broken response had counts as sent, and is given up when the session ends (rule XA-13).
        let given_up = |owed: &Owed| {
            let began = self.events.get(&owed.number).map(|event| event.began);
            session.ended.is_some() && session.put_back.is_some_and(|at| began.is_some_and(|began| began <= at))
        };
        match session.owed.iter().find(|owed| owed.done < event.began && !given_up(owed)) {
            Some(owed) => {
                Err(format!("XA-5: the client of {id} was given event {number}, and event {} never", owed.number))
            }
            None => Ok(()),
        }
    }

    // At rest.

    /// Nothing waits that could leave (rules Q-8, K-13, Q-33, TW-9).
    pub(super) fn check_waiting(&self, world: &World) -> Verdict {
        if world.is_in_transit() {
            return Ok(());
        }
        let limit = self.config.long_polling.max_queue;
        let now = self.now;
        for (id, session) in self.sessions.iter().filter(|(_, session)| session.ended.is_none()) {
            // What was sent and not acknowledged counts, too.
            let scattered = self.is_scattered(id, None);
            // What a broken response gives back is queued again, whatever the limit; what comes later is not.
            let later = |owed: &Owed, at| self.events.get(&owed.number).is_some_and(|event| event.began > at);
            let counts = |owed: &&Owed| session.put_back.is_none_or(|at| later(owed, at));
            let waiting = session.owed.iter().filter(counts).count();
            if waiting > limit && !scattered {
                return Err(format!("Q-9: {waiting} events wait for {id}, which may have {limit}"));
            }
            // The application may publish where there is no such channel, and no limit.
            let on_narrow = |owed: &&Owed| {
                let event = self.events.get(&owed.number).filter(|event| event.channel == NARROW);
                event.is_some_and(|event| matches!(event.origin, Origin::Session(..)) && !event.waited(self.rests))
            };
            if let Some(limit) = self.narrow
                && !session.ack
                && !scattered
                && self.config.shards == 1
                && session.owed.iter().filter(counts).filter(on_narrow).count() > limit
            {
                return Err(format!("Q-9: more than {limit} events of {NARROW} wait for {id}"));
            }
            // What a broken response had counts as sent, and waits for the next one where the client says for how long it
            // wants to be held (rule XA-8).
            let wishes = !matches!(session.wish, Known::Sure((None, _)));
            let sent = |owed: &Owed| session.ack && wishes && session.put_back.is_some_and(|at| !later(owed, at));
            let waits = |owed: &&Owed| owed.due <= now && !session.got.contains(&owed.number) && !sent(owed);
            let Some(owed) = session.owed.iter().find(waits) else { continue };
            if session.holds > 0 || scattered || !self.is_calm(world, id) {
                continue;
            }
            if let Some(outlet) = self.outlet(id, session) {
                let number = owed.number;
                return Err(format!("K-13: event {number} waits for {id}, although {outlet:?} could take it"));
            }
        }
        Ok(())
    }

    /// Whether nothing is under way that concerns a session, save held connects.
    pub(super) fn is_calm(&self, world: &World, id: &str) -> bool {
        self.lines.iter().all(|(peer, line)| {
            let concerns = line.requests.iter().any(|request| request.may_be_of(id))
                || line.bound == Known::Sure(Some(id.to_owned()));
            !concerns || !world.is_blocked(*peer) && !line.is_busy()
        })
    }

    /// Where the events of a session can go at once.
    fn outlet(&self, id: &str, session: &Session) -> Option<Peer> {
        let options = self.options_of(session)?;
        let usable = |peer: &Peer| self.lines.get(peer).is_some_and(|line| line.open && !line.writing);
        // A WebSocket that another session has taken carries nothing of this one.
        let own = |peer: &Peer| self.lines.get(peer).is_some_and(|line| line.bound == Known::Sure(Some(id.to_owned())));
        let sure = session.held.as_ref().filter(|_| session.is_surely_held());
        // Of several connects on one WebSocket, nobody knows which is held.
        let single = |peer: &Peer| session.countable || matches!(peer, Peer::Exchange(_));
        let held = sure.map(|held| held.line).filter(|peer| usable(peer) && own(peer) && single(peer));
        let only = session.ack || session.own.deliver_only || options.meta_connect_deliver_only;
        match session.target {
            Known::Sure(Some(target)) if !only => Some(target).filter(|peer| usable(peer) && own(peer)),
            Known::Sure(_) => held,
            Known::Unsure => None,
        }
    }

    /// A response that takes the queue takes all of it, and one that may not takes nothing (rules, D-2).
    pub(super) fn check_response(&self, peer: Peer, messages: &[Outgoing], answered: &[Answered]) -> Verdict {
        let Some(line) = self.lines.get(&peer) else { return Ok(()) };
        let http = matches!(peer, Peer::Exchange(_));
        let last_words = self.last_words_on(peer, messages);
        let Known::Sure(Some(bound)) = &line.bound else { return Ok(()) };
        let id = last_words.as_ref().unwrap_or(bound);
        let Some(session) = self.sessions.get(id) else { return Ok(()) };
        let ended = self.is_leaving(id);
        let connect = answered.iter().any(|reply| reply.kind == Kind::Connect);
        let connected = answered.iter().any(|reply| reply.kind == Kind::Connect && reply.successful);
        let handshake = answered.iter().any(|reply| reply.kind == Kind::Handshake);
        // A response has the rules of its own transport; what is pushed, those of the session's.
        let replies = http || !answered.is_empty() || line.is_busy();
        let of_line = Some(*self.config.transport(line.transport)).filter(|_| replies);
        let Some(options) = of_line.or_else(|| self.options_of(session)) else { return Ok(()) };
        // What is being processed may have changed the session's transport, with the reply still to come (rule L-44).
        let pushed_over = |transport| self.config.transport(transport).meta_connect_deliver_only;
        let by_transport =
            options.meta_connect_deliver_only && (replies || self.transports_under_way(id).all(pushed_over));
        let only = session.ack || session.own.deliver_only || by_transport;
        let events = messages.iter().any(|message| matches!(message, Outgoing::Event(_)));
        // With a budget, events may be handed out before the reply that they come with, or that changes the transport.
        let begun = http && line.fixed.is_some_and(|fixed| fixed < self.moment);
        let coming = begun || line.requests.iter().any(|request| request.may_be_of(id));
        // On a WebSocket a reply may have been made, and waited, before the application wanted events in connects only.
        let by_itself = session.ack || by_transport;
        let made_before = !http && !by_itself && answered.iter().any(|reply| reply.came < session.deliver_only_set);
        let coming = coming || made_before;
        if only && events && !ended && !connect && !handshake && !coming && session.deliver_only_since < self.rests {
            return Err(format!("Q-13: events of {id} came without a connect's reply"));
        }
        // What another session left on a WebSocket goes before, or comes with the reply to its held connect.
        let is_reply_of = |message: &Outgoing, channel: &str| match message {
            Outgoing::Reply(reply) => reply.channel.as_deref() == Some(channel),
            Outgoing::Event(_) => false,
        };
        let reply = messages.iter().rposition(|message| is_reply_of(message, meta::HANDSHAKE));
        let behind = messages.iter().rposition(|message| is_reply_of(message, meta::CONNECT)).map_or(0, |at| at + 1);
        let own = if behind > reply.unwrap_or(0) { behind } else { 0 };
        let event =
            messages[own..].iter().rposition(|message| matches!(message, Outgoing::Event(_))).map(|at| own + at);
        if handshake && event > reply && !self.config.transport(line.transport).allow_message_delivery_during_handshake
        {
            return Err(format!("H-20: events of {id} came with the reply to its handshake"));
        }
        let takes =
            http && !answered.is_empty() && !handshake && if session.ack { connected } else { connect || !only };
        // What another response gave back meanwhile is not in it.
        let returned = line.fixed.is_some_and(|fixed| session.put_back.is_some_and(|at| fixed < at));
        let left =
            |owed: &&Owed| !session.got.contains(&owed.number) && line.fixed.is_none_or(|fixed| owed.done < fixed);
        // Of one that has ended only the last words are left: other responses find nothing to take.
        let disconnected = answered.iter().any(|reply| reply.kind == Kind::Disconnect && reply.successful);
        let late = ended && !connected && !disconnected;
        if takes
            && !late
            && !returned
            && !self.is_scattered(id, Some(peer))
            && let Some(owed) = session.owed.iter().find(left)
        {
            // Without a held connect, the server's disconnect leaves them to nobody.
            let nobody = session.ended.is_some_and(|(.., reason)| reason != RemovalReason::ClientDisconnect);
            // Removed in the moment in which its connect's time was over: that takes the queue along (rule L-31).
            let removed = self.ending.get(id).is_some_and(|reason| !is_disconnect(*reason));
            // The connect that is held elsewhere takes them, or the WebSocket, in as many frames as it needs (rule D-2).
            let elsewhere = ended && (self.has_outlet_elsewhere(id, peer) || session.may_be_pushed_elsewhere(peer));
            // A response of it that broke since then had them, and there is no queue to which they could go back (rule
            // L-46).
            let lost = session.ended.is_some_and(|(at, ..)| session.put_back.is_some_and(|broke| broke > at));
            let big = session.ack && ended || nobody || removed || elsewhere || lost;
            if !big {
                return Err(format!("Q-14: event {} stayed behind when a response took what {id} had", owed.number));
            }
        }
        Ok(())
    }

    /// Whether another connection may have what a session leaves: one where a connect of it is held, or a WebSocket
    /// where anything of it has no reply yet (rules D-2, TW-13).
    fn has_outlet_elsewhere(&self, id: &str, but: Peer) -> bool {
        let mut others = self.lines.iter().filter(|(peer, line)| **peer != but && line.open);
        others.any(|(peer, line)| {
            let socket = matches!(peer, Peer::Socket(_));
            line.requests.iter().any(|request| (request.held || socket) && request.may_be_of(id))
        })
    }

    /// Whether events of a session are in a response on another connection that was drained in part: nobody knows which
    /// (rule Q-22).
    pub(super) fn is_scattered(&self, id: &str, but: Option<Peer>) -> bool {
        let begun = |(peer, line): (&Peer, &Line)| {
            let elsewhere = Some(*peer) != but && matches!(peer, Peer::Exchange(_));
            elsewhere && line.open && line.fixed.is_some() && line.requests.iter().any(|request| request.may_be_of(id))
        };
        self.in_parts && self.lines.iter().any(begun)
    }

    /// How early a lazy event may leave by itself (rules ).
    pub(super) fn earliest_leave(&self, session: &Session, number: u64) -> Option<Time> {
        let event = self.events.get(&number)?;
        let Known::Sure(transport) = session.transport else { return None };
        let default = self.config.transport(transport).max_lazy_timeout;
        earliest(session, event, default, self.rests).map(|wait| event.began_at + wait)
    }
}

/// A request and how it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) kind: Kind,
    pub(super) successful: bool,
    /// When the request came.
    pub(super) came: Moment,
}

/// Whether a session must get an event whose fan-out was between two moments (rules, S-10).
fn must_get(session: &Session, id: &str, event: &Event, done: Moment) -> bool {
    match &event.origin {
        Origin::To(to) => to == id,
        // What the application set may have changed while it spread.
        Origin::Session(from, _) if from == id && (!session.own.to_publisher || session.own_since > event.began) => {
            false
        }
        Origin::Session(..) | Origin::Application => {
            !event.channel.starts_with("/service/")
                && session.spans.iter().any(|span| {
                    facts::matches(&span.pattern, &event.channel)
                        && span.sure_from.is_some_and(|from| from <= event.began)
                        && span.sure_until.is_none_or(|until| until > done)
                })
        }
    }
}

/// Whether it may.
fn may_get(session: &Session, id: &str, event: &Event) -> Result<(), &'static str> {
    if session.ended.is_some_and(|(at, ..)| at < event.began) {
        return Err("L-35: the session had ended");
    }
    if may_be_kept(session, event) {
        return Ok(());
    }
    match &event.origin {
        Origin::To(to) if to == id => Ok(()),
        Origin::To(_) => Err("A-11: it was for another session"),
        Origin::Session(from, _) if from == id && !session.own.to_publisher && session.own_since < event.began => {
            Err("Q-6: publishers do not receive their own")
        }
        Origin::Session(..) | Origin::Application if event.channel.starts_with("/service/") => {
            Err("Q-5: service messages have no subscribers")
        }
        Origin::Session(..) | Origin::Application => {
            let subscribed = session.spans.iter().any(|span| {
                facts::matches(&span.pattern, &event.channel)
                    && event.done.is_none_or(|done| span.from <= done)
                    && span.until.is_none_or(|until| until >= event.began)
            });
            if subscribed { Ok(()) } else { Err("S-12: it is not subscribed") }
        }
    }
}

/// What one connection publishes on one channel comes in that order (rule Q-21).
fn in_order_of_its_publisher(session: &mut Session, id: &str, number: u64, event: &Event) -> Verdict {
    let Origin::Session(_, line) = &event.origin else { return Ok(()) };
    let key = (*line, event.channel.clone());
    let last = session.last_of.iter_mut().find(|(of, _)| *of == key);
    match last {
        Some((_, last)) if *last > event.began => {
            Err(format!("Q-21: event {number} was delivered to {id} after a later one of the same connection"))
        }
        Some((_, last)) => {
            *last = event.began;
            Ok(())
        }
        None => {
            session.last_of.push((key, event.began));
            Ok(())
        }
    }
}

/// How long an event may wait at most.
fn latest(session: &Session, event: &Event, default: Duration, rests: u64) -> Duration {
    let before = session.max_lazy_before.unwrap_or(default);
    let default = session.own.max_lazy_timeout.unwrap_or(default);
    // The timer may run already, which nothing that the application sets makes any shorter (rule Q-33).
    let default = if session.max_lazy_since > event.began { default.max(before) } else { default };
    let by_channel = match event.channel.as_str() {
        LAZY => Some(default),
        LAZY_SOON => Some(LAZY_SOON_TIMEOUT),
        _ => None,
    };
    match (event.lazy, by_channel) {
        (Some(lazy), _) if lazy == Duration::MAX => default,
        (Some(lazy), _) => lazy,
        // The application may publish where nobody has made the channel known, but a wider one.
        (None, Some(_))
            if event.channel == LAZY_SOON && (event.origin == Origin::Application || event.waited(rests)) =>
        {
            LAZY_SLOW_TIMEOUT
        }
        (None, Some(wait)) => wait,
        (None, None) => Duration::ZERO,
    }
}

/// How long it must be let wait; `None`: not at all.
fn earliest(session: &Session, event: &Event, default: Duration, rests: u64) -> Option<Duration> {
    let default = session.own.max_lazy_timeout.unwrap_or(default);
    match event.lazy {
        Some(lazy) if lazy == Duration::MAX => Some(default),
        Some(lazy) => Some(lazy),
        None => match (&event.origin, event.channel.as_str()) {
            _ if event.plain => None,
            (Origin::Session(..), LAZY) if !event.waited(rests) => Some(default),
            (Origin::Session(..), LAZY_SOON) => Some(LAZY_SOON_TIMEOUT),
            _ => None,
        },
    }
    .filter(|wait| !wait.is_zero())
}

pub(in crate::swarm) const LAZY_SOON_TIMEOUT: Duration = Duration::from_millis(300);
pub(in crate::swarm) const LAZY_SLOW_TIMEOUT: Duration = Duration::from_millis(2_500);
