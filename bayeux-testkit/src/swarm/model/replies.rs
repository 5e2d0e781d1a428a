//! What replies may say (sections 2, 6, 8 to 10).

use bayeux_core::{Point, RemovalReason, Time, Transport};
use bayeux_proto::{AckReply, Outgoing, Reply};

use super::deliveries::Answered;
use super::facts::Kind;
use super::lines::{Claim, Expiring, Request};
use super::sessions::{Known, Session};
use super::{Model, Verdict};
use crate::world::{Peer, World};

impl Model {
    /// A reply was drained.
    pub(super) fn on_reply(
        &mut self,
        world: &World,
        peer: Peer,
        reply: &Reply,
        messages: &[Outgoing],
        events: usize,
    ) -> Result<Option<Answered>, String> {
        let Some(line) = self.lines.get_mut(&peer) else {
            return Err(format!("{peer:?}: a reply before anything else"));
        };
        let Some(at) = line.requests.iter().position(|request| request.is_answered_by(reply)) else {
            return Err(format!("M-15: {peer:?}: {:?} {:?} answers nothing that waits", reply.channel, reply.id));
        };
        let Some(request) = line.requests.remove(at) else { return Ok(None) };
        line.answered = line.answered.max(request.serial);
        if reply.successful == reply.error.is_some() && !reply.advice.multiple_clients {
            return Err(format!("F-2: {} is successful:{} with {:?}", request.label(), reply.successful, reply.error));
        }
        self.check_error(peer, &request, reply)?;
        self.check_too_late(&request, reply)?;
        self.after_reply(world, peer, &request, reply, messages, events)?;
        // What failed before anybody looked at what it asks for is no connect to the server, either.
        let early = reply.error.as_ref().is_some_and(|error| error.code() == 402) || self.is_turned_away(&request);
        let kind = if early { Kind::Other } else { request.kind };
        Ok(Some(Answered { kind, successful: reply.successful, came: request.moment }))
    }

    fn after_reply(
        &mut self,
        world: &World,
        peer: Peer,
        request: &Request,
        reply: &Reply,
        messages: &[Outgoing],
        events: usize,
    ) -> Verdict {
        let error = reply.error.as_ref().map(ToString::to_string);
        let processed = !self.is_turned_away(request);
        if request.kind == Kind::Handshake {
            return self.on_handshake_reply(world, peer, request, reply, events);
        }
        if request.kind == Kind::Connect {
            let invalid = error.as_deref().is_some_and(|error| !error.starts_with("402"));
            return if invalid || !processed {
                self.refused(peer, request, processed)
            } else {
                self.on_connect_reply(peer, request, reply, messages, events)
            };
        }
        let (Claim::Of(id) | Claim::May(id)) = &request.claim else { return Ok(()) };
        if !processed || error.as_deref() == Some("402::session_unknown") {
            return Ok(());
        }
        self.bind(peer, id, request);
        if request.kind == Kind::Publish && reply.successful {
            self.check_overtaken(peer, id, request)?;
        }
        self.note_message(peer, id, request);
        match request.kind {
            Kind::Subscribe => {
                self.end_subscribe(peer, id, request, reply.successful);
                if reply.successful {
                    self.owe_kept(id, request);
                }
            }
            Kind::Unsubscribe => {
                let gone = reply.successful || error.as_deref() == Some("400::channel_missing");
                self.end_unsubscribe(peer, id, request, gone);
            }
            Kind::Publish => self.end_publish(request, reply.successful)?,
            // Its end may be told behind its reply.
            Kind::Disconnect if reply.successful => {
                self.dismiss(id, RemovalReason::ClientDisconnect);
                if let Some(session) = self.sessions.get_mut(id) {
                    session.disconnected_by = Some((peer, request.serial));
                }
            }
            Kind::Handshake | Kind::Connect | Kind::Disconnect | Kind::Other => {}
        }
        Ok(())
    }

    /// A message that was of a session, after all, has bound its WebSocket to it, where no other session was, or one that
    /// had ended (rules TW-11, TW-12).
    pub(super) fn bind(&mut self, peer: Peer, id: &str, request: &Request) {
        let Claim::May(_) = request.claim else { return };
        let ended = |id: &String| self.sessions.get(id).is_some_and(|session| session.ended.is_some());
        let former = match self.lines.get(&peer).map(|line| &line.bound) {
            Some(Known::Sure(None)) => None,
            Some(Known::Sure(Some(old))) if ended(old) || self.is_silent(old, peer) => Some(old.clone()),
            Some(_) | None => return,
        };
        if let Some(line) = self.lines.get_mut(&peer) {
            line.bound = Known::Sure(Some(id.to_owned()));
            line.former = former.or_else(|| line.former.take());
        }
    }

    /// A connect that failed for what it is, or for a hook. `processed`: after the server had seen that it is one.
    pub(super) fn refused(&mut self, peer: Peer, request: &Request, processed: bool) -> Verdict {
        let (Claim::Of(id) | Claim::May(id)) = &request.claim else { return Ok(()) };
        let (now, longest) = (self.now, Session::longest_life(&self.config));
        let transport = self.lines.get(&peer).map(|line| line.transport);
        let Some(session) = self.sessions.get_mut(id) else { return Ok(()) };
        session.batch = 0;
        session.forget_batches = true;
        if !processed {
            if session.held.is_none() && request.rest < self.rests {
                // It may have kept its session while it waited, and does no more (rule L-21).
                let earliest = session.expires.0.unwrap_or_default();
                let latest = session.expires.1.unwrap_or_default().max(now + longest);
                session.expires = (Some(earliest), Some(latest));
                session.doubt_life(now, longest);
            }
            return Ok(());
        }
        session.doubt_hold();
        session.blur();
        if let Some(transport) = transport {
            session.doubt_transport(transport, request.moment);
        }
        // It counts for where its client is. Over HTTP it left alone what is held elsewhere.
        session.note_target(peer, request.moment);
        if matches!(peer, Peer::Socket(_)) {
            session.note_move(peer, request.moment);
        }
        if let Some(line) = self.lines.get_mut(&peer) {
            line.expiring.push(Expiring { session: id.clone(), hold: None });
        }
        Ok(())
    }

    /// A message of a live session was processed (rules L-21, L-44, TW-13).
    fn note_message(&mut self, peer: Peer, id: &str, request: &Request) {
        let sharp = request.rest == self.rests && matches!(request.claim, Claim::Of(_));
        let Some(transport) = self.lines.get(&peer).map(|line| line.transport) else { return };
        let options = *self.config.transport(transport);
        let moment = self.moment;
        let left = self.first_to_leave(id).map_or(request.at, |at| at.min(request.at));
        let overtaken = self.may_be_moved(id, peer, request.moment);
        let longest = Session::longest_life(&self.config);
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.ended.is_none()) else { return };
        session.last_message = session.last_message.max(request.at);
        session.last_message_maybe = self.now;
        let max_interval = session.max_interval(&options);
        // It may have been looked at before the application changed how long that is.
        let changed = session.max_interval_since > request.moment;
        let at_most = self.now + if changed { longest } else { max_interval };
        if session.has_moved(peer, request.moment) {
            session.note_left_over(peer, request.moment, request.at);
            if transport == Transport::WebSocket {
                // Or it was processed when it came.
                session.note_target(peer, request.moment);
            }
            session.expires.1 = session.expires.1.map(|at| at.max(at_most));
            return;
        }
        if !sharp {
            // Something else may have come in between, and it took effect at any time since it came.
            session.expires.1 = session.expires.1.map(|at| at.max(at_most));
            session.doubt_transport(transport, moment);
            if transport == Transport::WebSocket {
                if session.target != Known::Sure(Some(peer)) {
                    session.target = Known::Unsure;
                }
                // What came later elsewhere may have been processed before: then this one has no say.
                if !overtaken {
                    session.note_move(peer, request.moment);
                }
                session.note_target(peer, moment);
            }
            if let Some(held) = session.held.as_ref().filter(|held| held.line != peer) {
                if transport == Transport::WebSocket && held.request < request.moment {
                    if overtaken {
                        session.doubt_left(left);
                    } else {
                        session.note_left(left);
                    }
                }
                // Perhaps it gave way to this message, perhaps it came later (rule L-43).
                session.doubt_hold();
            }
            return;
        }
        session.note_transport(transport, request.moment);
        if transport == Transport::WebSocket {
            session.aim(peer, request.moment, left);
        }
        // Where a connect may be held, the expiry may begin later, and be over sooner.
        if let Some(at) = session.expires.0.filter(|_| session.held.is_none()) {
            session.expires.0 = Some(at.max(request.at + max_interval));
        }
    }

    /// When the first message came, of those that have no reply yet, that may have taken a session from where its connect
    /// is held (rule L-43).
    fn first_to_leave(&self, id: &str) -> Option<Time> {
        let held = self.sessions.get(id)?.held.as_ref()?;
        let sockets = self.lines.iter().filter(|(peer, _)| matches!(peer, Peer::Socket(_)) && **peer != held.line);
        let requests = sockets.flat_map(|(_, line)| &line.requests);
        let takes = |request: &&Request| !request.held && request.may_be_of(id) && request.serial > held.request;
        requests.filter(takes).map(|request| request.at).min()
    }

    /// Whether a message failed before anybody looked at what it asks for.
    pub(super) fn is_turned_away(&self, request: &Request) -> bool {
        request.invalid.is_some() || matches!(self.denial(request), Some(Point::Incoming))
    }

    /// What a hook said no to.
    pub(super) fn denial(&self, request: &Request) -> Option<&Point> {
        let by_key = request.key.as_ref().and_then(|key| self.denied.get(key));
        by_key.or_else(|| request.id.as_ref().and_then(|id| self.denied.get(id)))
    }

    /// Whether the error of a reply is the one that the rules demand, or one of those that they allow.
    fn check_error(&self, peer: Peer, request: &Request, reply: &Reply) -> Verdict {
        let given = reply.error.as_ref().map(ToString::to_string);
        let given = given.as_deref();
        let wrong = |expected: &str| {
            let label = request.label();
            Err(format!("F-10 to F-25: {label} was answered with {}, not {expected}", given.unwrap_or("success")))
        };
        if let Some(error) = request.invalid {
            return if given == Some(error) { Ok(()) } else { wrong(error) };
        }
        let denial = self.denial(request).cloned();
        if let Some(Point::Incoming) = denial {
            return if given == Some("404::message_deleted") { Ok(()) } else { wrong("404::message_deleted") };
        }
        let unknown = given == Some("402::session_unknown");
        let id = match &request.claim {
            Claim::Nobody if request.kind == Kind::Handshake => return self.check_handshake_error(denial, given),
            Claim::Nobody => return if unknown { Ok(()) } else { wrong("402::session_unknown") },
            Claim::Of(id) | Claim::May(id) => id,
        };
        let before = self.sessions.get(id).and_then(|session| session.disconnected_by);
        if before.is_some_and(|(line, serial)| line == peer && serial < request.serial) {
            return if unknown { Ok(()) } else { wrong("402::session_unknown") };
        }
        let gone = self.is_leaving(id);
        // It ended while the message was under way: which of them came first cannot be known.
        let unsure = matches!(request.claim, Claim::May(_)) || gone;
        if unsure && (unknown || is_late(given)) {
            return Ok(());
        }
        match self.expected(request, denial.as_ref()) {
            Expected::Success if given.is_none() => Ok(()),
            Expected::Success if unsure && reply.successful => Ok(()),
            Expected::Success => wrong("success"),
            Expected::Error(error) if given == Some(&error) => Ok(()),
            Expected::Error(error) => wrong(&error),
            Expected::SuccessOr(error) if given.is_none_or(|given| given == error) => Ok(()),
            Expected::SuccessOr(error) => wrong(&format!("success or {error}")),
        }
    }

    fn check_handshake_error(&self, denial: Option<Point>, given: Option<&str>) -> Verdict {
        let expected = match denial {
            Some(Point::Handshake) => Some("403::handshake_denied"),
            Some(Point::Listen(_)) => Some("404::message_deleted"),
            _ => None,
        };
        if given == expected || expected.is_none() && given == Some("403::handshake_failed") {
            return Ok(());
        }
        Err(format!("H-5: a handshake was answered with {given:?}, not {expected:?}"))
    }

    /// What a message of a live session has coming.
    fn expected(&self, request: &Request, denial: Option<&Point>) -> Expected {
        let by_policy = |what: &str| Expected::Error(format!("403:denied_by_security_policy:{what}"));
        let channel = request.channel.as_deref().unwrap_or_default();
        match request.kind {
            Kind::Other => return by_policy("channel_create_denied"),
            Kind::Publish if self.config.is_reserved(channel) => return by_policy("publish_denied"),
            Kind::Publish
            | Kind::Handshake
            | Kind::Connect
            | Kind::Disconnect
            | Kind::Subscribe
            | Kind::Unsubscribe => {}
        }
        if let Some(Point::Listen(_)) = denial {
            return Expected::Error("404::message_deleted".to_owned());
        }
        match request.kind {
            Kind::Connect if request.advice.is_err() => Expected::Error("400::message_invalid".to_owned()),
            Kind::Connect | Kind::Disconnect | Kind::Handshake | Kind::Other => Expected::Success,
            Kind::Publish => match denial {
                Some(Point::Create(_)) => by_policy("channel_create_denied"),
                Some(Point::Publish(_)) => by_policy("publish_denied"),
                _ => Expected::Success,
            },
            Kind::Subscribe => match (&request.channels, denial) {
                (Err(error), _) => Expected::Error((*error).to_owned()),
                (Ok(channels), _) if channels.iter().any(|channel| is_meta(channel)) => by_policy("subscribe_denied"),
                (Ok(channels), _) if channels.iter().any(|channel| channel.starts_with("/meta/")) => {
                    by_policy("create_denied")
                }
                (Ok(_), Some(Point::Create(_))) => by_policy("create_denied"),
                (Ok(_), Some(Point::Subscribe(_))) => by_policy("subscribe_denied"),
                (Ok(_), _) => Expected::Success,
            },
            Kind::Unsubscribe => match &request.channels {
                Err(error) => Expected::Error((*error).to_owned()),
                Ok(channels) if channels.iter().any(|channel| is_meta(channel)) => {
                    Expected::Error("403::unsubscribe_failed".to_owned())
                }
                Ok(channels) if channels.iter().all(|channel| self.surely_exists(channel, request)) => {
                    Expected::Success
                }
                Ok(channels) if channels.iter().any(|channel| self.never_existed(channel)) => {
                    Expected::Error("400::channel_missing".to_owned())
                }
                Ok(_) => Expected::SuccessOr("400::channel_missing"),
            },
        }
    }

    /// Whether a channel exists because somebody has been subscribed to it since before a message came.
    fn surely_exists(&self, channel: &str, request: &Request) -> bool {
        let alive = self.sessions.iter().filter(|(id, session)| session.ended.is_none() && !self.is_leaving(id));
        let mut spans = alive.flat_map(|(id, session)| session.spans.iter().map(|span| (request.may_be_of(id), span)));
        spans.any(|(own, span)| {
            // Another shard may be the channel's home, and hear later of who is subscribed.
            let from = if own { span.sure_from } else { span.settled };
            span.pattern == channel
                && from.is_some_and(|from| from < request.moment)
                // By this message itself, if by any.
                && span.sure_until.is_none_or(|until| until == request.moment)
                && span.until.is_none()
        }) && self.removals.is_empty()
    }

    /// Whether nobody has ever done anything by which a channel would exist.
    fn never_existed(&self, channel: &str) -> bool {
        let subscribed = self.sessions.values().any(|session| session.spans.iter().any(|span| span.pattern == channel));
        !subscribed && !self.published_on.contains(channel)
    }

    /// The reply to a handshake (rules H-10, H-11, V-13, XA-1).
    fn on_handshake_reply(
        &mut self,
        world: &World,
        peer: Peer,
        request: &Request,
        reply: &Reply,
        events: usize,
    ) -> Verdict {
        if let Some(handshake) = &reply.handshake
            && !self.sessions.contains_key(&*handshake.client_id)
        {
            self.session_added(world, &handshake.client_id, Some(peer), false)?;
            if let Some(session) = self.sessions.get_mut(&*handshake.client_id) {
                session.ack = request.asks_ack;
            }
        }
        let Some(line) = self.lines.get_mut(&peer) else { return Ok(()) };
        let transport = line.transport;
        let options = *self.config.transport(transport);
        let bound = std::mem::replace(&mut line.bound, Known::Sure(None));
        line.unbound = request.serial;
        if let Known::Sure(Some(old)) = bound
            && matches!(peer, Peer::Socket(_))
            && let Some(session) = self.sessions.get_mut(&old)
        {
            // Successful or not, the handshake has taken the WebSocket from it (rule TW-10).
            session.unbind(peer);
        }
        let Some(handshake) = &reply.handshake else {
            let denied = reply.error.as_ref().is_some_and(|error| error.to_string() == "403::handshake_denied");
            if denied && reply.advice.reconnect != Some(bayeux_proto::Reconnect::None) {
                return Err(format!("V-21: a denied handshake was answered with {:?}", reply.advice));
            }
            return Ok(());
        };
        let id = handshake.client_id.to_string();
        line.bound = Known::Sure(Some(id.clone()));
        line.expiring.push(Expiring { session: id.clone(), hold: None });
        let wanted: Vec<_> = self.config.allowed_transports.iter().map(|transport| transport.as_str()).collect();
        if handshake.connection_types.iter().ne(wanted.iter().copied()) {
            return Err(format!("H-12: {id} was told of {:?}", handshake.connection_types));
        }
        let rides = options.allow_message_delivery_during_handshake;
        if rides && matches!(peer, Peer::Exchange(_)) && handshake.messages != events && !self.in_parts {
            return Err(format!("H-20: {id} was promised {} events, and sent {events}", handshake.messages));
        }
        let Some(session) = self.sessions.get_mut(&id) else { return Err(format!("H-4: {id} was never added")) };
        if session.ended.is_some() {
            return Ok(());
        }
        if let Peer::Exchange(key) = peer
            && session.browser.is_none()
        {
            session.browser = world.exchange(key).cookie.clone();
        }
        session.transport = Known::Sure(transport);
        session.advised = Known::Sure(None);
        let advice = session.take_advice(transport, &options);
        if advice != Known::Sure(reply.advice) {
            return Err(format!("V-10: {id} was advised {:?}, not {advice:?}", reply.advice));
        }
        match (request.asks_ack && self.config.acknowledge, reply.ack) {
            (false, None) => Ok(()),
            (true, Some(AckReply::Enabled)) if !rides => Ok(()),
            (true, Some(AckReply::EnabledFrom(batch))) if rides => {
                session.batch = batch;
                Ok(())
            }
            (asked, given) => Err(format!("XA-1: {id} asked for acknowledgement: {asked}, and was told {given:?}")),
        }
    }
}

/// What a message has coming.
enum Expected {
    Success,
    Error(String),
    SuccessOr(&'static str),
}

/// Whether an error is one of those that a message gets whose session ended while it was under way (rule L-33).
fn is_late(error: Option<&str>) -> bool {
    let late = ["403::subscribe_failed", "403:denied_by_security_policy:publish_denied", "403::handshake_failed"];
    error.is_some_and(|error| late.contains(&error))
}

fn is_meta(channel: &str) -> bool {
    use bayeux_proto::meta;
    [meta::HANDSHAKE, meta::CONNECT, meta::SUBSCRIBE, meta::UNSUBSCRIBE, meta::DISCONNECT].contains(&channel)
}
