//! Connects: held or not, until when, with which advice (sections 7 and 3, rule TH-30).

use bayeux_core::{RemovalReason, Time, Transport};
use bayeux_proto::{Advice, Outgoing, Reconnect, Reply};

use super::facts::{self, Kind};
use super::lines::{Claim, Expiring, Request};
use super::sessions::{Held, Known, Session};
use super::{Model, Moment, Verdict, is_disconnect};
use crate::wire::ExchangeKey;
use crate::world::{Peer, World};

/// A connect that was found to be held.
struct Found {
    peer: Peer,
    serial: u64,
}

impl Model {
    /// What a connect does as soon as it is processed (rules K-4, K-9, V-11). `Unsure` where its session is.
    fn process_connect(&mut self, peer: Peer, id: &str, request: &Request, sharp: bool) -> Known<Advice> {
        // Something that came later elsewhere may have been processed before: then this one is left over.
        let overtaken = !sharp && self.may_be_moved(id, peer, request.moment);
        if overtaken && let Some(session) = self.sessions.get_mut(id) {
            session.doubt_hold();
        }
        if matches!(peer, Peer::Exchange(_))
            && !overtaken
            && let Some(earlier) = self.sessions.get_mut(id).and_then(|session| session.held.take())
            && let Some(line) = self.lines.get_mut(&earlier.line)
        {
            // Over HTTP any connect ends the hold of an earlier one (rule K-10); its exchange is failed.
            let stays = line.writing || earlier.line != peer && line.transport.is_http();
            line.requests.retain(|request| request.serial != earlier.request || stays);
        }
        let Some(line) = self.lines.get(&peer) else { return Known::Unsure };
        let transport = line.transport;
        let fixed = line.fixed.filter(|_| transport.is_http());
        let unbound = line.unbound > request.serial;
        let earlier = self.has_earlier_connect(id, peer, request.serial);
        let options = *self.config.transport(transport);
        let (moment, longest) = (self.moment, self.config.max_client_interval);
        let Some(session) = self.sessions.get_mut(id) else { return Known::Unsure };
        session.note_transport(transport, request.moment);
        let newer = session.newest_connect > request.serial;
        if !newer {
            (session.newest_connect, session.newest_connect_on) = (request.serial, Some(peer));
        }
        session.last_message = request.at.max(session.last_message);
        session.last_message_maybe = if sharp { request.at.max(session.last_message_maybe) } else { self.now };
        if overtaken {
            session.target = Known::Unsure;
            session.note_target(peer, request.moment);
        } else if transport == Transport::WebSocket {
            session.aim(peer, request.moment, request.at);
            if unbound {
                session.unbind(peer);
            }
        } else {
            session.target = Known::Sure(None);
            session.note_target(peer, request.moment);
            session.note_move(peer, request.moment);
        }
        let advice = request.advice.ok().flatten();
        let (timeout, interval) = request.wish(longest);
        if newer && session.newest_connect_on != Some(peer) || !sharp && session.may_be_followed(peer, request.moment) {
            // Of another connection: which of them was processed first, nobody knows.
            session.wish = Known::Unsure;
        } else if !newer {
            session.wish = Known::Sure((timeout, interval));
        }
        session.connected_last = (moment, Some(peer));
        session.connected = Known::Sure(true);
        if advice.is_some() {
            session.advised = Known::Sure(None);
        }
        if session.ack {
            // The server may behave as if a timeout of 0 had been asked for (rule XA-8).
            session.advised = Known::Unsure;
        }
        let taken = session.take_advice(transport, &options);
        let waited = !sharp && request.moment < session.advice_since;
        if waited || fixed.is_some_and(|fixed| fixed < session.advice_since) {
            // It may have been processed, or its reply was made, before the advice changed.
            session.advised = Known::Unsure;
        }
        // It may have been held, and resumed with what is due over the transport of a later message (rule V-12).
        let resumed = !sharp && session.transport != Known::Sure(transport);
        if earlier || resumed {
            session.advised = Known::Unsure;
        }
        if sharp && !earlier { taken } else { Known::Unsure }
    }

    /// Whether a connect that came before, on another connection, has no reply yet: it may have taken the advice already
    /// (rule V-11).
    fn has_earlier_connect(&self, id: &str, but: Peer, serial: u64) -> bool {
        let others = self.lines.iter().filter(|(peer, _)| **peer != but);
        let mut others = others.flat_map(|(_, line)| line.requests.iter().map(move |request| (line, request)));
        others.any(|(line, request)| {
            // One that was held takes it again when its response begins (rule V-12).
            let takes = !request.held || line.transport.is_http() && line.fixed.is_some();
            request.kind == Kind::Connect && takes && request.serial < serial && request.may_be_of(id)
        })
    }

    /// Finds the connects that are held, now that nothing is under way.
    pub(super) fn settle_holds(&mut self, world: &World) -> Verdict {
        let mut found = Vec::new();
        for (peer, line) in &self.lines {
            if !line.open || line.writing || world.is_blocked(*peer) {
                continue;
            }
            let new = line.requests.iter().filter(|request| request.kind == Kind::Connect && !request.held);
            found.extend(new.map(|request| Found { peer: *peer, serial: request.serial }));
        }
        found.sort_by_key(|found| found.serial);
        for Found { peer, serial } in found {
            self.settle_hold(peer, serial)?;
        }
        self.drop_left(world)
    }

    fn settle_hold(&mut self, peer: Peer, serial: u64) -> Verdict {
        let Some(line) = self.lines.get_mut(&peer) else { return Ok(()) };
        let Some(at) = line.requests.iter().position(|request| request.serial == serial) else { return Ok(()) };
        let Some(mut request) = line.requests.remove(at) else { return Ok(()) };
        let (transport, http2) = (line.transport, line.http2);
        let http = transport.is_http();
        let (Claim::Of(id) | Claim::May(id)) = request.claim.clone() else {
            return Err(format!("K-3: {} is held, and of no session", request.label()));
        };
        let sharp = matches!(request.claim, Claim::Of(_)) && request.rest == self.rests;
        if self.lines.get(&peer).is_some_and(|line| line.unbound < serial) {
            self.bind(peer, &id, &request);
        }
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        let overtaken = !sharp
            && (session.newest_connect > serial
                || session.may_be_followed(peer, request.moment)
                || session.may_be_overtaken(peer, request.moment)
                || self.may_be_moved(&id, peer, request.moment));
        if session.ended.is_some_and(|(at, ..)| at < request.moment) {
            return Err(format!("K-3: {} is held, and its session {id} has ended", request.label()));
        }
        let ended = session.ended.is_some();
        if !ended && !http && session.has_moved(peer, request.moment) {
            self.doubt_left_over(peer, &id, &request);
            return Ok(());
        }
        // One before it may wait to be written where nobody reads.
        let first = session.connected == Known::Sure(false) && !self.has_earlier_connect(&id, peer, serial);
        if !ended && sharp && first {
            return Err(format!("K-11: {} is held, the first of {id}", request.label()));
        }
        if http && !request.alone {
            return Err(format!("K-16: {} is held, and not alone", request.label()));
        }
        if !ended && http && sharp {
            self.check_tabs(&id, peer, http2)?;
        }
        request.held = true;
        if overtaken && !ended {
            self.overtaken(peer, &id, request);
            return Ok(());
        }
        self.note_acknowledged(&id, &request);
        if !ended && sharp {
            self.check_nothing_lacks(&id, &request)?;
        }
        let (at, moment) = (request.at, request.moment);
        let advice = if ended { Known::Unsure } else { self.process_connect(peer, &id, &request, sharp) };
        if let Some(line) = self.lines.get_mut(&peer) {
            line.requests.push_back(request);
        }
        if ended {
            return Ok(());
        }
        self.checked.holds += 1;
        let options = *self.config.transport(transport);
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let Known::Sure((wish, _)) = session.wish else { return Ok(()) };
        let timeout = session.timeout(&options, wish);
        if timeout.is_zero() {
            return Err(format!("K-11: a connect of {id} is held, with a timeout of 0"));
        }
        session.expires = (None, None);
        session.newest_hold = serial;
        session.forget_left();
        let deadline = if session.timeout_since > moment {
            // It may have been held before its timeout was changed.
            (Time::ZERO, now + timeout.max(options.timeout))
        } else {
            (at + timeout, now + timeout)
        };
        let earlier = session.held.replace(Held { line: peer, request: serial, deadline, advice });
        if let Some(earlier) = earlier {
            self.leave(&earlier, &id)?;
        }
        Ok(())
    }

    /// Whether a message that has no reply yet may have taken a session from this connection since that moment.
    pub(super) fn may_be_moved(&self, id: &str, but: Peer, since: Moment) -> bool {
        let others = self.lines.iter().filter(|(peer, _)| **peer != but);
        let mut requests = others.flat_map(|(peer, line)| line.requests.iter().map(move |request| (peer, request)));
        requests.any(|(peer, request)| {
            let moves = request.kind == Kind::Connect || matches!(peer, Peer::Socket(_));
            moves && request.moment > since && request.may_be_of(id)
        })
    }

    /// A connect had no reply, and its client is elsewhere: it was held for a while, or came too late for that (rules K-21,
    /// L-43).
    pub(super) fn doubt_left_over(&mut self, peer: Peer, id: &str, request: &Request) {
        let (now, longest) = (self.now, Session::longest_life(&self.config));
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.ended.is_none()) else { return };
        if session.held.as_ref().is_some_and(|held| held.line != peer && held.request < request.serial) {
            // It may have ended that hold before its client went on.
            session.doubt_left(request.at);
        }
        // What was there before may have given way to it.
        session.note_target(peer, request.moment);
        if session.newest_connect < request.serial {
            (session.wish, session.advised) = (Known::Unsure, Known::Unsure);
        }
        if session.connected == Known::Sure(false) {
            session.connected = Known::Unsure;
        }
        if session.held.is_none() {
            // It kept the session, perhaps, and does no more (rule L-21).
            let (earliest, latest) = session.expires;
            let earliest = earliest.unwrap_or_default().min(request.at);
            session.expires = (Some(earliest), Some(latest.unwrap_or_default().max(now + longest)));
        }
    }

    /// While a connect was under way, a later message took its session elsewhere, or another connect was processed: before
    /// it was held, or from where it was.
    fn overtaken(&mut self, peer: Peer, id: &str, request: Request) {
        let serial = request.serial;
        if let Some(line) = self.lines.get_mut(&peer) {
            line.requests.push_back(request);
        }
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.held.is_none() {
            // What took the session from an earlier one is no concern of this one.
            session.forget_left();
            session.held = Some(Held::in_doubt(peer, serial));
        }
        session.doubt_hold();
        session.blur();
    }

    /// A held connect gave way to something newer: over HTTP it is failed, over WebSocket never answered (rules K-20,
    /// K-21, L-43).
    fn leave(&mut self, earlier: &Held, id: &str) -> Verdict {
        let Some(line) = self.lines.get_mut(&earlier.line) else { return Ok(()) };
        // A response that is being drained holds nothing.
        let begun = line.transport.is_http() && line.fixed.is_some();
        if line.open
            && line.transport.is_http()
            && !begun
            && line.requests.iter().any(|request| request.serial == earlier.request)
        {
            return Err(format!("K-20: {:?} still holds a connect of {id}, which another one replaced", earlier.line));
        }
        // While something is being written there, its reply may wait behind that.
        line.requests.retain(|request| request.serial != earlier.request || line.writing || begun);
        Ok(())
    }

    /// What a disconnected session leaves to a WebSocket has been written: a connect that has no reply by then was replaced
    /// before, and has none ever (rule K-21).
    pub(super) fn drop_last_connects(&mut self) {
        let disconnected = |id: &str| {
            let reason = self.sessions.get(id).and_then(|session| session.ended).map(|(.., reason)| reason);
            reason.is_some_and(is_disconnect)
        };
        let sockets = self.lines.iter_mut().filter(|(peer, _)| matches!(peer, Peer::Socket(_)));
        for (_, line) in sockets.filter(|(_, line)| !line.writing) {
            line.requests.retain(|request| match &request.claim {
                Claim::Of(id) | Claim::May(id) => !request.held || !disconnected(id),
                Claim::Nobody => true,
            });
        }
    }

    /// Held connects of sessions that have gone to another WebSocket (rule L-43).
    fn drop_left(&mut self, world: &World) -> Verdict {
        let moved = |session: &Session| {
            let away = |held: &Held| matches!(session.target, Known::Sure(Some(target)) if target != held.line);
            session.held.as_ref().is_some_and(|held| session.left.is_some() || away(held))
        };
        let ids: Vec<String> =
            self.sessions.iter().filter(|(_, session)| moved(session)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            if !self.is_calm(world, &id) {
                continue;
            }
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let Some(held) = session.held.take() else { continue };
            let now = self.now;
            // Its time may have been over before, and its reply waits behind what is being written.
            let answered = held.deadline.0 <= now && self.lines.get(&held.line).is_some_and(|line| line.writing);
            if session.ended.is_none() {
                match session.transport {
                    Known::Sure(transport) => {
                        let longest = Session::longest_life(&self.config);
                        session.begin_left_expiry(now, self.config.transport(transport), longest);
                    }
                    Known::Unsure => session.expires = (Some(Time::ZERO), None),
                }
                if answered {
                    session.expires.1 = None;
                }
                self.leave(&held, &id)?;
            }
        }
        Ok(())
    }

    /// No more connects of one browser are held than may be (rule TH-30).
    fn check_tabs(&self, id: &str, peer: Peer, http2: bool) -> Verdict {
        let limit =
            if http2 { self.config.http2_max_sessions_per_browser } else { self.config.max_sessions_per_browser };
        let Ok(limit) = usize::try_from(limit) else { return Ok(()) };
        let held = self.held_tabs(id, peer);
        if self.sessions.get(id).is_some_and(|session| session.browser.is_some()) && held >= limit {
            return Err(format!("TH-30: {held} connects of its browser are held already, and another one of {id} is"));
        }
        Ok(())
    }

    /// How many connects of the browser of a session are held, this one's not counted.
    fn held_tabs(&self, id: &str, but: Peer) -> usize {
        let browser = self.sessions.get(id).and_then(|session| session.browser.as_ref());
        // One whose response has begun is not held any more.
        let begun = |peer: &Peer| self.lines.get(peer).is_some_and(|line| line.fixed.is_some());
        let holds = |peer: Peer| matches!(peer, Peer::Exchange(_)) && !begun(&peer);
        let same = |session: &&Session| {
            session.browser.is_some()
                && session.browser.as_ref() == browser
                && session.ended.is_none()
                && session.held.as_ref().is_some_and(|held| held.line != but && holds(held.line))
        };
        let others = self.sessions.iter().filter(|(other, _)| *other != id).map(|(_, session)| session);
        others.filter(same).count()
    }

    /// How many other sessions of the browser of a session may have a connect held.
    fn possible_tabs(&self, id: &str) -> usize {
        let browser = self.sessions.get(id).and_then(|session| session.browser.as_ref());
        let same = |(other, session): &(&String, &Session)| {
            let mut lines = self.lines.iter().filter(|(_, line)| line.transport.is_http());
            *other != id
                && session.browser.is_some()
                && session.browser.as_ref() == browser
                && lines.any(|(_, line)| {
                    line.requests.iter().any(|request| request.kind == Kind::Connect && request.may_be_of(other))
                })
        };
        self.sessions.iter().filter(same).count()
    }

    /// The exchanges that hold a connect of a live session.
    pub(in crate::swarm) fn held_exchanges(&self) -> Vec<ExchangeKey> {
        let alive = self.sessions.values().filter(|session| session.ended.is_none());
        let held = alive.filter_map(|session| session.held.as_ref());
        held.filter_map(|held| if let Peer::Exchange(key) = held.line { Some(key) } else { None }).collect()
    }

    /// Connects are not held for longer than their timeout (rule K-13).
    pub(super) fn check_held(&self, world: &World) -> Verdict {
        for (id, session) in self.sessions.iter().filter(|(_, session)| session.ended.is_none()) {
            if let Some(held) = &session.held
                && self.now >= held.deadline.1
                && (session.countable || matches!(held.line, Peer::Exchange(_)))
                && self.lines.get(&held.line).is_some_and(|line| line.open && !line.writing)
                && self.is_calm(world, id)
            {
                return Err(format!("K-13: a connect of {id} is held beyond its timeout"));
            }
        }
        Ok(())
    }

    /// The reply to a connect.
    pub(super) fn on_connect_reply(
        &mut self,
        peer: Peer,
        request: &Request,
        reply: &Reply,
        messages: &[Outgoing],
        events: usize,
    ) -> Verdict {
        let (Claim::Of(id) | Claim::May(id)) = &request.claim else { return self.check_unknown(request, reply) };
        let id = id.clone();
        let (leaving, moment) = (self.is_leaving(&id), self.moment);
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let second = session.answered_before.replace(self.rests) == Some(self.rests);
        let (ended, dismissed, farewell) = (session.ended, session.dismissed, session.farewell);
        let held = session.held.take_if(|held| held.request == request.serial);
        self.note_acknowledged(&id, request);
        self.check_batch(&id, reply, messages)?;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        if let Some((at, _, reason)) = ended {
            let told = reply.advice.reconnect == Some(Reconnect::None);
            let newest = self.sessions.get(&id).is_some_and(|session| session.newest_hold == request.serial);
            // What was begun before is not changed any more.
            let begun = self.lines.get(&peer).and_then(|line| line.fixed).is_some_and(|fixed| fixed < at);
            if newest && is_disconnect(reason) && !told && !begun {
                return Err(format!(
                    "V-22: a connect of {id}, which is disconnected, was answered with {:?}",
                    reply.advice
                ));
            }
            if request.held && reason == RemovalReason::ServerDisconnect && !farewell && !begun {
                return Err(format!("D-10: {id} was disconnected, and not told so"));
            }
            if at < request.moment && reply.successful {
                return Err(format!("K-3: {} succeeded, and its session {id} has ended", request.label()));
            }
            return Ok(());
        }
        if leaving {
            // Its end is told right behind (rules D-3, V-22).
            let begun = self.lines.get(&peer).and_then(|line| line.fixed).is_some_and(|fixed| fixed < self.moment);
            let told = farewell && reply.advice.reconnect == Some(Reconnect::None);
            if held.is_some() && dismissed == Some(RemovalReason::ServerDisconnect) && !told && !begun {
                return Err(format!(
                    "V-22, D-10: {id} is disconnected, and a connect was answered with {:?}",
                    reply.advice
                ));
            }
            return Ok(());
        }
        if !reply.successful {
            return self.check_refused_tab(peer, &id, request, reply);
        }
        let sharp = matches!(request.claim, Claim::Of(_)) && request.rest == self.rests;
        let was_connected = session.connected;
        let Some(http2) = self.lines.get(&peer).map(|line| line.http2) else { return Ok(()) };
        let tabs = reply.advice.multiple_clients;
        let exchange = self.lines.get(&peer).filter(|_| matches!(peer, Peer::Exchange(_)));
        let fixed = exchange.and_then(|line| line.fixed).filter(|fixed| *fixed < self.moment);
        if held.is_none() && request.held && fixed.is_some() {
            // Its response was begun when it was the newest, and others came before the end.
            if let Some(line) = self.lines.get_mut(&peer) {
                line.expiring.push(Expiring { session: id, hold: Some(request.serial) });
            }
            return Ok(());
        }
        let (expected, hold) = match held {
            Some(held) => {
                let leaves = |request: &Request| request.kind == Kind::Handshake;
                let bound = self.lines.get(&peer).filter(|line| line.bound == Known::Sure(Some(id.clone())));
                if bound.is_some_and(|line| !line.requests.iter().any(leaves)) {
                    self.check_resumed(&id, &held, messages, events)?;
                }
                // Another message may have been received elsewhere, and have no reply yet: it changes the transport (rule
                // L-44), or takes the advice.
                let before = self.sessions.get(&id).map(|session| session.transport);
                let moving = self.transports_under_way(&id).any(|other| before != Some(Known::Sure(other)))
                    || self.connects_elsewhere(&id, peer);
                let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
                let mut now = match session.transport {
                    // Its reply was made before the advice changed, or the transport, and was not drained until now.
                    _ if moving || fixed.is_some_and(|fixed| session.has_changed_since(fixed)) => Known::Unsure,
                    Known::Sure(now) => session.take_advice(now, self.config.transport(now)),
                    Known::Unsure => Known::Unsure,
                };
                if let Known::Sure(Advice { max_interval_ms: Some(millis), .. }) = &mut now
                    && fixed.is_some_and(|fixed| session.max_interval_since > fixed)
                {
                    // That makes no advice due, and what was made before names what was set then (rules V-10, V-11).
                    *millis = reply.advice.max_interval_ms.unwrap_or(*millis);
                }
                if now == Known::Unsure {
                    session.advised = Known::Unsure;
                }
                // Where it was in doubt, it is clear now that it was the newest.
                let surely = held.deadline.1 < Time::MAX;
                let newest = self.sessions.get_mut(&id).is_some_and(|session| {
                    if !surely {
                        session.newest_hold_maybe = session.newest_hold_maybe.max(request.serial);
                    }
                    session.newest_hold == request.serial
                });
                (overlaid(held.advice, now), (surely || newest).then_some(request.serial))
            }
            None => {
                if !sharp && let Some(session) = self.sessions.get_mut(&id) {
                    // Perhaps it was held for a while, and an earlier one gave way.
                    session.newest_hold_maybe = session.newest_hold_maybe.max(request.serial);
                    session.doubt_left(self.now);
                    if session.may_be_overtaken(peer, request.moment) {
                        // Something else was processed meanwhile, before it or behind it.
                        let held = session.held.is_some();
                        session.blur();
                        session.note_target(peer, moment);
                        if let Some(line) = self.lines.get_mut(&peer).filter(|_| !held) {
                            line.expiring.push(Expiring { session: id, hold: None });
                        }
                        return Ok(());
                    }
                }
                let expected = self.process_connect(peer, &id, request, sharp);
                // A second one in the same moment was processed before the first one's reply had taken anything.
                if sharp && !second {
                    self.check_not_held(peer, &id, request, was_connected, tabs, messages, events)?;
                }
                (expected, None)
            }
        };
        if tabs {
            self.check_tab_advice(&id, http2, reply, sharp)?;
        } else if let Known::Sure(expected) = expected
            && expected != reply.advice
            && (sharp || self.config.shards == 1)
            && self.sessions.get(&id).is_some_and(|session| session.countable)
        {
            return Err(format!("V-11: a connect of {id} was answered with {:?}, not {expected:?}", reply.advice));
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            // An earlier one's reply may have begun the expiry when this one was processed already.
            let begun = !sharp && session.expiry_begun >= request.at;
            session.expires = (session.expires.0.filter(|_| begun), None);
        }
        if let Some(line) = self.lines.get_mut(&peer) {
            line.expiring.push(Expiring { session: id, hold });
        }
        Ok(())
    }

    /// Whether a connect of a session is under way on another connection.
    fn connects_elsewhere(&self, id: &str, but: Peer) -> bool {
        let mut others = self.lines.iter().filter(|(peer, _)| **peer != but).flat_map(|(_, line)| &line.requests);
        others.any(|request| request.kind == Kind::Connect && !request.held && request.may_be_of(id))
    }

    /// A held connect is answered when there is something to say, or its time is over.
    fn check_resumed(&self, id: &str, held: &Held, messages: &[Outgoing], events: usize) -> Verdict {
        if self.now >= held.deadline.0 {
            return Ok(());
        }
        if self.comes_with_its_cause(id, messages) {
            return Err(format!("Q-12: what a request of {id} caused left with its held connect"));
        }
        // Something of it on another connection may take what this one was woken for.
        let mut others = self.lines.iter().filter(|(peer, _)| **peer != held.line);
        if others.any(|(_, line)| line.requests.iter().any(|request| request.may_be_of(id))) {
            return Ok(());
        }
        // What it was woken for went elsewhere: to the WebSocket that its client has gone on to since (rule TW-15), or before
        // it with other replies.
        if self.sessions.get(id).is_some_and(|session| session.left.is_some() || session.may_be_woken_in_vain(held)) {
            return Ok(());
        }
        // What it was woken for may have been dropped again.
        if self.sessions.get(id).is_some_and(|session| session.overflowed.is_some_and(|at| at > held.request)) {
            return Ok(());
        }
        let ahead = self.lines.get(&held.line).is_some_and(|line| line.ahead);
        if events == 0 && !ahead {
            return Err(format!("K-13: a connect of {id} was answered before its time, with nothing"));
        }
        // What was drained ahead may be what was due.
        if ahead { Ok(()) } else { self.check_lazy(id, messages) }
    }

    /// Whether all events of a response were published by the session itself, over HTTP, and that request has no response
    /// yet, although nothing keeps it waiting.
    fn comes_with_its_cause(&self, id: &str, messages: &[Outgoing]) -> bool {
        let caused = |number: u64| {
            let exchanges = self.lines.iter().filter(|(peer, line)| matches!(peer, Peer::Exchange(_)) && line.open);
            let mut requests = exchanges.flat_map(|(_, line)| &line.requests);
            requests.any(|request| {
                request.number == Some(number)
                    && request.rest == self.rests
                    && request.claim == Claim::Of(id.to_owned())
            })
        };
        let mut events = messages.iter().filter_map(|message| match message {
            Outgoing::Event(event) => Some(event.thaw().data.and_then(|data| facts::number_in(data.as_str()))),
            Outgoing::Reply(_) => None,
        });
        let first = events.next();
        first.is_some_and(|first| std::iter::once(first).chain(events).all(|number| number.is_some_and(caused)))
    }

    /// Not all of what leaves by itself may be lazy and not yet due (rules K-12, Q-32).
    pub(super) fn check_lazy(&self, id: &str, messages: &[Outgoing]) -> Verdict {
        // Others of the same response may have left before.
        if self.in_parts {
            return Ok(());
        }
        let Some(session) = self.sessions.get(id) else { return Ok(()) };
        // The first of them, which set the timer, may have been dropped. With acknowledgements others may have had no room.
        // What a hook delivered in the midst of a message may have left before that message's own event.
        if session.overflowed.is_some() || session.ack || session.served_by_hooks {
            return Ok(());
        }
        let mut patient = 0;
        for message in messages {
            let Outgoing::Event(event) = message else { continue };
            let data = event.thaw().data;
            let Some(number) = data.and_then(|data| facts::number_in(data.as_str())) else { return Ok(()) };
            // What was queued while others were leaving takes the timer over that runs for them (rule Q-33).
            let (from, until) = session.emptied;
            let late = self.events.get(&number).is_none_or(|event| from < event.began && event.began < until);
            match self.earliest_leave(session, number) {
                Some(at) if self.now < at && session.lazy_since == 0 && !late => patient += 1,
                Some(_) | None => return Ok(()),
            }
        }
        if patient > 0 {
            return Err(format!("Q-32: {patient} lazy events of {id} left by themselves before their time"));
        }
        Ok(())
    }

    /// A connect that was answered at once had a reason (rules K-11, K-30).
    fn check_not_held(
        &self,
        peer: Peer,
        id: &str,
        request: &Request,
        was_connected: Known<bool>,
        tabs: bool,
        messages: &[Outgoing],
        events: usize,
    ) -> Verdict {
        let Some(session) = self.sessions.get(id) else { return Ok(()) };
        let Known::Sure(transport) = session.transport else { return Ok(()) };
        let options = self.config.transport(transport);
        let Known::Sure((wish, _)) = session.wish else { return Ok(()) };
        let http = matches!(peer, Peer::Exchange(_));
        let first = was_connected != Known::Sure(true);
        if first || tabs || http && !request.alone || session.timeout(options, wish).is_zero() {
            return Ok(());
        }
        let only = session.ack || session.own.deliver_only || options.meta_connect_deliver_only;
        // Another response, ready in the same moment, may have taken what this one was to bring.
        let ahead = self.lines.get(&peer).is_some_and(|line| line.ahead);
        let taken = ahead || session.drained_before == Some(self.rests);
        if events == 0 && !taken || !http && !only {
            return Err(format!("K-11: a connect of {id} was answered at once, and not held"));
        }
        if ahead { Ok(()) } else { self.check_lazy(id, messages) }
    }

    /// A browser has too many connects (rule TH-31).
    fn check_tab_advice(&self, id: &str, http2: bool, reply: &Reply, sharp: bool) -> Verdict {
        let interval = self.config.multi_session_interval.as_millis() as u64;
        if reply.advice.reconnect != Some(Reconnect::Retry) || reply.advice.interval_ms != Some(interval) {
            return Err(format!("TH-31: a surplus connect of {id} was answered with {:?}", reply.advice));
        }
        self.check_surplus(id, http2, sharp)
    }

    fn check_surplus(&self, id: &str, http2: bool, sharp: bool) -> Verdict {
        let limit =
            if http2 { self.config.http2_max_sessions_per_browser } else { self.config.max_sessions_per_browser };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let known = self.sessions.get(id).and_then(|session| session.browser.as_ref()).is_some();
        if sharp && (!known || self.possible_tabs(id) < limit) {
            return Err(format!("TH-30: a connect of {id} was one too many, and is not"));
        }
        Ok(())
    }

    /// A failed connect: its session is unknown, or its browser has too many and is refused (rule TH-32).
    fn check_refused_tab(&mut self, peer: Peer, id: &str, request: &Request, reply: &Reply) -> Verdict {
        if let Some(line) = self.lines.get_mut(&peer) {
            line.expiring.push(Expiring { session: id.to_owned(), hold: None });
        }
        if reply.error.is_none() {
            let http2 = self.lines.get(&peer).is_some_and(|line| line.http2);
            let sharp = matches!(request.claim, Claim::Of(_)) && request.rest == self.rests;
            self.process_connect(peer, id, request, sharp);
            if reply.advice.reconnect != Some(Reconnect::None) || !reply.advice.multiple_clients {
                return Err(format!("TH-32: a refused connect of {id} was answered with {:?}", reply.advice));
            }
            return self.check_surplus(id, http2, sharp);
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.blur();
        }
        Ok(())
    }

    /// The connect of a session that is not there (rule V-20).
    fn check_unknown(&self, request: &Request, reply: &Reply) -> Verdict {
        let expected = Advice { reconnect: Some(Reconnect::Handshake), interval_ms: Some(0), ..Advice::default() };
        let unknown = reply.error.as_ref().is_some_and(|error| error.code() == 402);
        let disconnected = Advice { reconnect: Some(Reconnect::None), ..expected };
        if unknown && reply.advice != expected && reply.advice != disconnected {
            return Err(format!("V-20: {} was answered with {:?}", request.label(), reply.advice));
        }
        Ok(())
    }
}

fn overlaid(then: Known<Advice>, now: Known<Advice>) -> Known<Advice> {
    match (then, now) {
        (Known::Sure(then), Known::Sure(now)) => Known::Sure(then.overlaid_with(now)),
        _ => Known::Unsure,
    }
}
