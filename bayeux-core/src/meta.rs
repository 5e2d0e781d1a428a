//! The five meta messages: handshake, connect, subscribe, unsubscribe, disconnect (sections 6 to 9).

use std::time::Duration;

use bayeux_proto::{
    AckRequest, Advice, ByteString, ChannelKind, ChannelName, ChannelPattern, ConnectAdvice, ErrorField, Handshake,
    Reconnect, Reply, Subscription, meta,
};

use crate::config::Transport;
use crate::connection::{Conn, ConnKey};
use crate::engine::Engine;
use crate::event::{Cause, CloseReason, LinkFacts, Notice, Output, Point, Points, RemovalReason, Ruling};
use crate::ext::Unacknowledged;
use crate::id::{BrowserId, ClientId};
use crate::lane::{Flow, Lane, Step, Work};
use crate::session::{Held, HeldReply, Session, SessionKey, Settings, millis};

/// A subscribe or unsubscribe message, channel by channel.
#[derive(Debug, Clone)]
pub(crate) struct Subscribing {
    channels: std::sync::Arc<[ChannelPattern]>,
    next: usize,
    asked: Asked,
}

/// What was asked about the channel in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    /// Its home is saying whether it exists.
    Find,
    Create,
    /// It is allowed, and its home is creating it.
    Creating,
    Subscribe,
    /// It is allowed; the channel has to be created once more, since it was swept meanwhile.
    Allowed,
    /// It is done, and listeners were told.
    Told,
}

impl Subscribing {
    fn channel(&self) -> Option<&ChannelPattern> {
        self.channels.get(self.next)
    }

    fn asking(mut self, asked: Asked) -> Self {
        self.asked = asked;
        self
    }

    fn advance(&mut self) {
        self.next += 1;
        self.asked = Asked::Nothing;
    }
}

impl Engine {
    /// Listeners of a meta channel have let the message through.
    pub(crate) fn handle_meta(&mut self, lane: &Lane, work: &mut Work, channel: &ChannelName) -> Flow {
        match channel.as_str() {
            meta::HANDSHAKE => {
                let id = ClientId::generate(self.shard, self.ids.as_mut());
                let local = lane.conn.and_then(|conn| self.conns.get(conn)).is_some_and(Conn::is_local);
                let id = match &work.message.client_id {
                    // A local session says what its id is to begin with (rule A-62).
                    Some(hint) if local => id.with_hint(hint),
                    Some(_) | None => id,
                };
                Flow::Go(Step::Handshake(id))
            }
            meta::CONNECT => self.connect(lane, work),
            meta::DISCONNECT => self.disconnect(lane, work),
            meta::SUBSCRIBE => match self.subscribing(work) {
                Some(state) => Flow::Go(Step::Subscribe(state)),
                None => Flow::Reply,
            },
            meta::UNSUBSCRIBE => match self.subscribing(work) {
                Some(state) => Flow::Go(Step::Unsubscribe(state)),
                None => Flow::Reply,
            },
            other => unreachable!("{other} is no meta channel"),
        }
    }

    /// No session, or not this one (rules F-12, V-20, V-22).
    pub(crate) fn fail_unknown_session(&self, lane: &Lane, work: &mut Work, connect: bool) {
        work.reply.fail(ErrorField::SESSION_UNKNOWN);
        if connect {
            let reason = lane.session.and_then(|session| self.sessions.epitaph(session));
            work.reply.advice = Advice {
                reconnect: Some(if reason.is_some_and(is_disconnect) { Reconnect::None } else { Reconnect::Handshake }),
                interval_ms: Some(0),
                ..Advice::default()
            };
        }
    }

    // Handshake.

    pub(crate) fn after_handshake(&mut self, lane: &mut Lane, work: &mut Work, id: ClientId, ruling: Ruling) -> Flow {
        if !matches!(ruling, Ruling::Allow | Ruling::Replace(_)) {
            work.reply.fail(match ruling {
                Ruling::Fail(error) => error,
                Ruling::Allow | Ruling::Deny { .. } | Ruling::Replace(_) => ErrorField::HANDSHAKE_DENIED,
            });
            work.reply.advice.reconnect.get_or_insert(Reconnect::None);
            return Flow::Reply;
        }
        if self.sessions.len() >= self.config.max_sessions {
            work.reply.fail(ErrorField::HANDSHAKE_DENIED);
            // A server that is full is not for ever, as a policy is.
            work.reply.advice.reconnect = Some(Reconnect::Handshake);
            work.reply.advice.interval_ms = Some(millis(FULL_INTERVAL));
            return Flow::Reply;
        }
        let Some(key) = lane.conn else { return Flow::NoReply };
        let Some(conn) = self.conns.get(key) else { return Flow::NoReply };
        let transport = conn.facts.transport;
        let conn_name = conn.key;
        let browser = transport.is_http().then(|| conn.facts.browser.clone());
        let browser = browser
            .map(|sent| sent.unwrap_or_else(|| BrowserId::generate(self.shard, self.config.shards, self.ids.as_mut())));
        let settings = Settings::new(self.config.broadcast_to_publisher);
        let browser = browser.map(|id| self.browsers.add_session(&id));
        let mut session = Session::new(id.clone(), transport, browser, settings);
        // A local session has no wire that could lose anything, and no connects for its events to ride on.
        let acknowledges = self.config.acknowledge && transport != Transport::Local;
        if acknowledges && work.message.extensions().ack == Some(AckRequest::Enable) {
            session.unacknowledged = Some(Box::new(Unacknowledged::new()));
            session.settings.meta_connect_deliver_only = true;
        }
        session.last_message = self.now;
        session.last_active = self.now;
        let session = self.sessions.insert(session);
        lane.session = Some(session);
        if let Some(conn) = self.conns.get_mut(key) {
            conn.session = Some(session);
        }
        self.notice(Notice::SessionAdded { session: id, conn: conn_name, transport });
        Flow::Ask(Point::Handshaken, Step::Handshaken(session))
    }

    pub(crate) fn after_handshaken(&mut self, lane: &Lane, work: &mut Work, key: SessionKey) -> Flow {
        let Some(session) = self.sessions.get_mut(key) else {
            work.reply.fail(ErrorField::HANDSHAKE_FAILED);
            return Flow::Reply;
        };
        let transport = session.transport;
        let advice = session.take_advice(transport, self.config.transport(transport));
        work.reply.advice = advice.overlaid_with(work.reply.advice);
        work.reply.handshake = Some(Box::new(Handshake {
            client_id: ByteString::from(session.id.as_str()),
            connection_types: self.connection_types.clone(),
            messages: 0,
        }));
        work.reply.succeed();
        // Set only where the request had none, and only with a success (rules TH-20, TH-21).
        if let (Some(id), Some(conn)) =
            (self.browsers.id(session.browser), lane.conn.and_then(|conn| self.conns.get(conn)))
            && conn.facts.browser.is_none()
        {
            self.outputs.push_back(Output::Browser { conn: conn.key, id: id.clone() });
        }
        Flow::Reply
    }

    // Connect.

    fn connect(&mut self, lane: &Lane, work: &mut Work) -> Flow {
        let Ok(advice) = work.message.connect_advice() else {
            work.reply.fail(ErrorField::MESSAGE_INVALID);
            return Flow::Reply;
        };
        let (Some(key), Some(conn)) = (lane.session, lane.conn) else { return Flow::Reply };
        if self.sessions.get(key).is_none() {
            self.fail_unknown_session(lane, work, true);
            return Flow::Reply;
        }
        let Some(facts) = self.conns.get(conn).map(|conn| conn.facts.clone()) else {
            // The client is gone: nothing to hold, and nobody to answer.
            self.start_expiry(key, None);
            return Flow::NoReply;
        };
        let left_over = self.is_left_over(lane, key);
        if left_over && (lane.alone || !facts.transport.is_http()) {
            return self.drop_left_over(key, conn);
        }
        if facts.transport.is_http() && !left_over {
            // The client has evidently lost an earlier one (rules K-10, K-20), or left its WebSocket (rule L-43).
            self.drop_held(key);
            self.set_target(key, None);
        } else if !facts.transport.is_http() {
            // Once more: while this one waited, another one may have come and gone.
            self.take_over(key, conn);
        }
        let advice = self.acknowledge(key, work, advice);
        if self.is_inactive(key, facts.transport) {
            // It hears so by the disconnect that goes before this reply (rule XV-2).
            self.terminate(key, RemovalReason::Inactive, Some(conn));
            self.fail_unknown_session(lane, work, true);
            return Flow::Reply;
        }
        let was_connected = self.accept_connect(key, work, facts.transport, advice);
        match self.may_hold(key, &facts, lane.alone, was_connected) {
            Hold::Yes { timeout, counted } => self.suspend(key, conn, work, timeout, counted),
            Hold::No => Flow::Reply,
            Hold::TooManyTabs => {
                self.advise_multiple_clients(work);
                Flow::Reply
            }
        }
    }

    /// Whether the message in progress came before one that was processed already, and told that the client had gone
    /// elsewhere.
    fn is_left_over(&self, lane: &Lane, key: SessionKey) -> bool {
        self.sessions.get(key).is_some_and(|session| lane.arrival < session.moved)
    }

    /// A connect that waited while its client went elsewhere ends as if it had been held until then: over HTTP its
    /// exchange fails, a WebSocket hears nothing (rules K-20, K-21, L-43).
    fn drop_left_over(&mut self, key: SessionKey, conn: ConnKey) -> Flow {
        if self.conns.get(conn).is_some_and(Conn::is_http) {
            self.close(conn, CloseReason::ConnectReplaced);
        }
        if self.sessions.get(key).is_some_and(|session| session.expire_at.is_none()) {
            // It may have kept the session while it waited. Void where another connect is held.
            self.start_expiry(key, None);
        }
        Flow::NoReply
    }

    /// Whether a session was idle for too long (rules XV-1 to XV-3).
    fn is_inactive(&self, key: SessionKey, transport: Transport) -> bool {
        let (Some(activity), Some(session)) = (self.config.activity, self.sessions.get(key)) else { return false };
        let max = session.settings.own().max_inactivity.unwrap_or(activity.max_inactivity);
        transport != Transport::Local && self.now.since(session.last_active) > max
    }

    /// Drops what the client says it has. Where it lacks something that was sent, it is answered at once, unless it asked
    /// for a timeout itself (rules XA-7 to XA-9); where the last batch had no room for all, in any case.
    fn acknowledge(&mut self, key: SessionKey, work: &Work, advice: Option<ConnectAdvice>) -> Option<ConnectAdvice> {
        let Some(session) = self.sessions.get_mut(key) else { return advice };
        let Some(sent) = &mut session.unacknowledged else { return advice };
        let acknowledged = match work.message.extensions().ack {
            Some(AckRequest::Batch(batch)) => sent.acknowledge(batch),
            Some(AckRequest::Enable) | None => None,
        };
        let lacks = sent.len() > 0 && !session.queue.has_urgent();
        let put_off = sent.has_put_off();
        if let Some(batch) = acknowledged {
            self.notice_of(Points::BATCHES, key, |session| Notice::BatchAcknowledged { session, batch });
        }
        let wishes = advice.unwrap_or_default();
        if put_off || lacks && wishes.timeout_ms.is_none() {
            return Some(ConnectAdvice { timeout_ms: Some(0), ..wishes });
        }
        advice
    }

    /// What every successful connect does (rules K-4, K-9, V-11); returns whether an earlier one did.
    fn accept_connect(
        &mut self,
        key: SessionKey,
        work: &mut Work,
        transport: Transport,
        advice: Option<ConnectAdvice>,
    ) -> bool {
        let options = self.config.transport(transport);
        let max_interval = self.config.max_client_interval;
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let wishes = advice.unwrap_or_default();
        session.settings.change(|times| {
            times.transient_timeout = wishes.timeout_ms.map(Duration::from_millis);
            times.transient_interval =
                wishes.interval_ms.map(|interval| Duration::from_millis(interval).min(max_interval));
        });
        if advice.is_some() {
            session.advised = None;
        }
        let regular = session.take_advice(transport, options);
        work.reply.advice = regular.overlaid_with(work.reply.advice);
        work.reply.succeed();
        std::mem::replace(&mut session.connected, true)
    }

    /// To hold or not to hold (rules K-11, K-30, TH-30).
    fn may_hold(&mut self, key: SessionKey, facts: &LinkFacts, alone: bool, was_connected: bool) -> Hold {
        let options = self.config.transport(facts.transport);
        let Some(session) = self.sessions.get(key) else { return Hold::No };
        let due = session.has_due() && session.hold_depth == 0;
        let timeout = session.effective_timeout(options);
        let willing = was_connected && !timeout.is_zero() && !self.stopping;
        if !facts.transport.is_http() {
            let waits = due && session.delivers_in_connects_only(options);
            return if willing && !waits { Hold::Yes { timeout, counted: false } } else { Hold::No };
        }
        if !alone || due {
            return Hold::No;
        }
        // A session taken over from a WebSocket has no browser, and no limit (rule TH-24).
        let browser = session.browser;
        if browser.is_none() {
            return if willing { Hold::Yes { timeout, counted: false } } else { Hold::No };
        }
        let limit =
            if facts.http2 { self.config.http2_max_sessions_per_browser } else { self.config.max_sessions_per_browser };
        if !self.browsers.try_hold(browser, limit) {
            return Hold::TooManyTabs;
        }
        if willing {
            return Hold::Yes { timeout, counted: true };
        }
        // It counted for a moment, as it does in CometD (rule TH-33).
        self.browsers.end_hold(browser);
        Hold::No
    }

    /// Holds a connect.
    fn suspend(&mut self, key: SessionKey, conn: ConnKey, work: &mut Work, timeout: Duration, counted: bool) -> Flow {
        // Over WebSocket only a newly held connect replaces an earlier one, which is never answered (rule K-21).
        self.drop_held(key);
        self.cycle += 1;
        let Some(session) = self.sessions.get_mut(key) else { return Flow::Reply };
        session.cycle = self.cycle;
        session.expire_at = None;
        // What is left in its place goes nowhere.
        let reply = HeldReply::pack(std::mem::replace(&mut *work.reply, Reply::new(None, None)));
        let deadline = self.now + timeout;
        session.held = Some(Box::new(Held { conn, reply, deadline, cycle: self.cycle, counted }));
        self.rearm(key);
        self.notice_of(Points::HEARTBEATS, key, |session| Notice::Suspended { session, timeout });
        Flow::NoReply
    }

    /// More tabs of one browser than may hold a connect (rules TH-31, TH-32).
    fn advise_multiple_clients(&self, work: &mut Work) {
        let interval = self.config.multi_session_interval;
        work.reply.advice.multiple_clients = true;
        if interval.is_zero() {
            work.reply.successful = false;
            work.reply.advice.reconnect = Some(Reconnect::None);
        } else {
            work.reply.advice.reconnect = Some(Reconnect::Retry);
            work.reply.advice.interval_ms = Some(millis(interval));
        }
    }

    // Disconnect.

    fn disconnect(&mut self, lane: &Lane, work: &mut Work) -> Flow {
        let Some(key) = lane.session.filter(|key| self.sessions.get(*key).is_some()) else {
            self.fail_unknown_session(lane, work, false);
            return Flow::Reply;
        };
        self.terminate(key, RemovalReason::ClientDisconnect, lane.conn);
        work.reply.succeed();
        Flow::Reply
    }

    // Subscribe and unsubscribe.

    /// The checks before any effect (rules S-2, Z-7).
    fn subscribing(&self, work: &mut Work) -> Option<Subscribing> {
        if work.message.subscription_count() > self.config.max_subscriptions {
            work.reply.fail(ErrorField::SUBSCRIPTION_INVALID);
            return None;
        }
        let names = match work.message.subscriptions() {
            Subscription::Missing => {
                work.reply.fail(ErrorField::SUBSCRIPTION_MISSING);
                return None;
            }
            Subscription::Channels(names) if !names.is_empty() => names,
            Subscription::Channels(_) | Subscription::Invalid => {
                work.reply.fail(ErrorField::SUBSCRIPTION_INVALID);
                return None;
            }
        };
        let parsed: Result<Vec<_>, _> =
            names.iter().map(|name| ChannelPattern::parse(name, &self.config.channels)).collect();
        match parsed {
            Ok(channels) => Some(Subscribing { channels: channels.into(), next: 0, asked: Asked::Nothing }),
            Err(_) => {
                work.reply.fail(ErrorField::SUBSCRIPTION_INVALID);
                None
            }
        }
    }

    /// The channel in turn: it exists, or may be created; it may be subscribed to; it is (rule S-3).
    pub(crate) fn enter_subscribe(&mut self, lane: &Lane, work: &mut Work, mut state: Subscribing) -> Flow {
        if state.asked == Asked::Told {
            state.advance();
        }
        let Some(channel) = state.channel().cloned() else {
            work.reply.succeed();
            return Flow::Reply;
        };
        if self.is_out_of_bounds(lane, channel.as_str()) {
            work.reply.fail(ErrorField::subscribe_denied(ErrorField::BY_POLICY));
            return Flow::Reply;
        }
        if self.channels.exists(channel.as_str()) {
            if channel.kind() == ChannelKind::Meta {
                // Whatever a policy says, a remote session has no business there (rules C-23, F-19).
                work.reply.fail(ErrorField::subscribe_denied(ErrorField::BY_POLICY));
                return Flow::Reply;
            }
            if state.asked == Asked::Allowed {
                return self.finish_subscribe(lane, work, state, channel);
            }
            return Flow::Ask(Point::Subscribe(channel), Step::Subscribe(state.asking(Asked::Subscribe)));
        }
        if channel.kind() == ChannelKind::Meta {
            work.reply.fail(ErrorField::create_denied(ErrorField::BY_POLICY));
            return Flow::Reply;
        }
        if self.is_gone(lane) {
            work.reply.fail(ErrorField::SUBSCRIBE_FAILED);
            return Flow::Reply;
        }
        if matches!(state.asked, Asked::Creating | Asked::Allowed) {
            // It came and went while the lane waited: ask its home once more.
            return Flow::Await(channel, Step::Subscribe(state));
        }
        if state.asked != Asked::Find && self.must_find_first(&channel) {
            return Flow::Find(channel, Step::Subscribe(state.asking(Asked::Find)));
        }
        Flow::Ask(Point::Create(channel), Step::Subscribe(state.asking(Asked::Create)))
    }

    pub(crate) fn after_subscribe(&mut self, lane: &Lane, work: &mut Work, state: Subscribing, ruling: Ruling) -> Flow {
        let Some(channel) = state.channel().cloned() else { return Flow::Go(Step::Subscribe(state)) };
        if matches!(state.asked, Asked::Told | Asked::Find) {
            return Flow::Go(Step::Subscribe(state));
        }
        let creating = matches!(state.asked, Asked::Create | Asked::Creating | Asked::Allowed);
        if let Some(error) =
            denial(ruling, if creating { ErrorField::create_denied } else { ErrorField::subscribe_denied })
        {
            work.reply.fail(error);
            return Flow::Reply;
        }
        if !creating {
            return self.finish_subscribe(lane, work, state, channel);
        }
        if self.is_gone(lane) {
            work.reply.fail(ErrorField::SUBSCRIBE_FAILED);
            return Flow::Reply;
        }
        self.create_to_subscribe(work, state, channel, Asked::Nothing)
    }

    /// Creates the channel in turn, or waits until its home has.
    fn create_to_subscribe(
        &mut self,
        work: &mut Work,
        state: Subscribing,
        channel: ChannelPattern,
        then: Asked,
    ) -> Flow {
        match self.create_channel(&channel) {
            Created::Yes => Flow::Go(Step::Subscribe(state.asking(then))),
            Created::AtHome => {
                let waiting = if then == Asked::Allowed { Asked::Allowed } else { Asked::Creating };
                Flow::Await(channel, Step::Subscribe(state.asking(waiting)))
            }
            Created::Full => {
                work.reply.fail(ErrorField::create_denied(TOO_MANY_CHANNELS));
                Flow::Reply
            }
        }
    }

    /// Everybody agrees: subscribes, and tells listeners (rule S-8).
    fn finish_subscribe(
        &mut self,
        lane: &Lane,
        work: &mut Work,
        mut state: Subscribing,
        channel: ChannelPattern,
    ) -> Flow {
        let Some(key) = lane.session.filter(|key| self.sessions.get(*key).is_some()) else {
            work.reply.fail(ErrorField::SUBSCRIBE_FAILED);
            return Flow::Reply;
        };
        match self.subscribe(key, &channel, Cause::Client) {
            Subscribed::New => Flow::Ask(Point::Subscribed(channel), Step::Subscribe(state.asking(Asked::Told))),
            Subscribed::Already => {
                state.advance();
                Flow::Go(Step::Subscribe(state))
            }
            Subscribed::TooMany => {
                work.reply.fail(ErrorField::subscribe_denied(TOO_MANY_SUBSCRIPTIONS));
                Flow::Reply
            }
            // Swept while the hook was thinking: what it allowed it allowed.
            Subscribed::NoChannel => self.create_to_subscribe(work, state, channel, Asked::Allowed),
        }
    }

    /// The channel in turn: it exists and is no meta channel; then it is a success (rules S-12 to S-14).
    pub(crate) fn enter_unsubscribe(&mut self, lane: &Lane, work: &mut Work, mut state: Subscribing) -> Flow {
        if state.asked == Asked::Told {
            state.advance();
        }
        while let Some(channel) = state.channel().cloned() {
            if !self.channels.exists(channel.as_str()) {
                if state.asked != Asked::Find && self.may_be_new(&channel) {
                    return Flow::Find(channel, Step::Unsubscribe(state.asking(Asked::Find)));
                }
                work.reply.fail(ErrorField::CHANNEL_MISSING);
                return Flow::Reply;
            }
            if channel.kind() == ChannelKind::Meta {
                work.reply.fail(ErrorField::UNSUBSCRIBE_FAILED);
                return Flow::Reply;
            }
            let was_subscribed = lane.session.is_some_and(|key| self.unsubscribe(key, &channel, Cause::Client));
            if was_subscribed {
                return Flow::Ask(Point::Unsubscribed(channel), Step::Unsubscribe(state.asking(Asked::Told)));
            }
            state.advance();
        }
        work.reply.succeed();
        Flow::Reply
    }

    // Channel creation by a publish.

    /// It is known now whether the channel exists: where it does not, the publisher may be allowed to create it.
    pub(crate) fn found_or_not(&self, channel: ChannelName) -> Flow {
        if self.channels.exists(channel.as_str()) {
            Flow::Go(Step::Publish(channel))
        } else {
            Flow::Ask(Point::Create(channel.as_pattern().clone()), Step::Create(channel))
        }
    }

    /// Creation was allowed and the home shard is at it, or has done it.
    pub(crate) fn enter_create(&self, channel: ChannelName) -> Flow {
        if self.channels.exists(channel.as_str()) {
            Flow::Go(Step::Publish(channel))
        } else {
            Flow::Await(channel.as_pattern().clone(), Step::Create(channel))
        }
    }

    pub(crate) fn after_create(&mut self, work: &mut Work, channel: ChannelName, ruling: Ruling) -> Flow {
        if let Some(error) = denial(ruling, ErrorField::channel_create_denied) {
            work.reply.fail(error);
            return Flow::Reply;
        }
        match self.create_channel(channel.as_pattern()) {
            Created::Yes => Flow::Go(Step::Publish(channel)),
            Created::AtHome => Flow::Await(channel.as_pattern().clone(), Step::Create(channel)),
            Created::Full => {
                work.reply.fail(ErrorField::channel_create_denied(TOO_MANY_CHANNELS));
                Flow::Reply
            }
        }
    }

    /// Whether the lane's session went while the lane was under way.
    pub(crate) fn is_gone(&self, lane: &Lane) -> bool {
        lane.session.is_none_or(|key| self.sessions.get(key).is_none())
    }

    /// A message of a live session came (rules L-21, L-44, TW-13).
    pub(crate) fn note_message(&mut self, lane: &Lane, connect: bool) {
        let (Some(key), Some(conn)) = (lane.session, lane.conn) else { return };
        let Some(facts) = self.conns.get(conn).map(|conn| &conn.facts) else { return };
        let transport = facts.transport;
        let options = *self.config.transport(transport);
        let now = self.now;
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.last_message = now;
        let left_over = lane.arrival < session.moved;
        // Before it is taken over: what waits leaves as this transport has it, not the one before.
        let moved = session.transport != transport && !left_over;
        if !left_over {
            session.transport = transport;
            if connect || !transport.is_http() {
                session.moved = lane.arrival;
            }
            if !transport.is_http() {
                self.take_over(key, conn);
            }
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        if connect && !left_over {
            session.expire_at = None;
            self.rearm(key);
            return;
        }
        session.last_active = now;
        if let Some(at) = session.expire_at {
            // Only ever later, so the timer that is set may fire early and is set anew then.
            session.expire_at = Some(at.max(now + session.effective_max_interval(&options)));
        } else if moved {
            // Another transport may give its connect less time (rule L-24).
            self.rearm(key);
        }
    }
}

/// Whether a connect is held.
enum Hold {
    Yes {
        timeout: Duration,
        /// Whether it counts against its browser's limit.
        counted: bool,
    },
    No,
    /// The browser has as many as it may (rule TH-31).
    TooManyTabs,
}

/// What became of [`Engine::create_channel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// It exists.
    Yes,
    /// Another shard decides.
    AtHome,
    /// There are too many.
    Full,
}

/// What became of [`Engine::subscribe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subscribed {
    New,
    Already,
    TooMany,
    NoChannel,
}

/// The error that a ruling at an authorisation point gives, `None` where it allows.
pub(crate) fn denial(ruling: Ruling, error: impl FnOnce(ByteString) -> ErrorField) -> Option<ErrorField> {
    match ruling {
        Ruling::Allow | Ruling::Replace(_) => None,
        Ruling::Deny { reason } => {
            Some(error(reason.unwrap_or_else(|| ByteString::from_static(ErrorField::BY_POLICY))))
        }
        Ruling::Fail(error) => Some(error),
    }
}

/// Whether a session removed for that reason is *disconnected*, not expired (rules L-1, V-22).
fn is_disconnect(reason: RemovalReason) -> bool {
    match reason {
        RemovalReason::ClientDisconnect
        | RemovalReason::ServerDisconnect
        | RemovalReason::Removed
        | RemovalReason::Inactive => true,
        RemovalReason::Expired
        | RemovalReason::ProcessingTooLong
        | RemovalReason::QueueOverflow
        | RemovalReason::Shutdown => false,
    }
}

const TOO_MANY_CHANNELS: ByteString = ByteString::from_static("too_many_channels");
const TOO_MANY_SUBSCRIPTIONS: ByteString = ByteString::from_static("too_many_subscriptions");

/// What a client is told to wait when the server has no room for its session.
const FULL_INTERVAL: Duration = Duration::from_secs(10);

/// What clients are told to wait when the server stops: long enough not to be asked again by this process.
pub(crate) const STOPPING_INTERVAL: Duration = Duration::from_secs(1);
