//! Lanes: the messages of one connection, in order, each through the pipeline of section G.
//!
//! # Theory of operation
//!
//! A lane is the ordered work of one connection, or one publish of the application. It runs inside
//! [`Engine::handle`](crate::Engine::handle) until its envelopes are used up or a message must wait: for a hook's
//! verdict, or for a channel's home shard to create the channel. Then the whole lane is put into the table of parked
//! lanes, as plain data, and what was asked leaves as an output. Other lanes of the same session go on meanwhile.
//!
//! A message moves from [`Step`] to [`Step`]. Entering a step does its work or asks a question; a verdict, whether it
//! came at once or later, continues behind the question. Since anything may have happened in between, what follows a
//! verdict looks the session up again: a session that is gone then gives the errors of rule L-33.
//!
//! Only the lane itself moves its messages on. A connection that closes does not stop its lane, save a handshake: what
//! the client sent before is carried out, its replies go nowhere. A session that goes does not either, save a connect,
//! whose client is to hear of it at once. A held meta connect is no parked lane: it left the lane (Z-6).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bayeux_proto::{
    Batch, ChannelError, ChannelKind, ChannelName, ChannelPattern, ErrorField, Lazy, Message, Reply, TimesyncReply,
    meta,
};

use crate::config::{Config, Transport};
use crate::connection::{Conn, ConnKey, Expiry, Pending, ReplyKind};
use crate::decision::{Decision, DecisionId};
use crate::engine::{Due, Engine};
use crate::event::{Answer, CloseReason, Notice, Output, Point, Question, Receipt, Ruling, Verdict};
use crate::ext;
use crate::id::{ClientId, ConnectionKey};
use crate::meta::Subscribing;
use crate::session::SessionKey;
use crate::timer::TimerKey;

/// Names a lane, in the order in which lanes began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId(u64);

/// The ordered work of one connection, or one publish of the application.
pub(crate) struct Lane {
    pub(crate) id: LaneId,
    /// Where replies go; `None` for the application's publish.
    pub(crate) conn: Option<ConnKey>,
    /// The session of the envelope in progress, found from its first message (rule TH-10).
    pub(crate) session: Option<SessionKey>,
    /// When that envelope came: the count of all that had come by then, to this engine.
    pub(crate) arrival: u64,
    /// Whether the message in progress is the only one of its envelope (rule K-11).
    pub(crate) alone: bool,
    /// Whether an envelope is in progress.
    open: bool,
    /// Its replies so far: they leave together (rule TW-8).
    pub(crate) replies: Vec<Pending>,
    /// What is left of the envelope in progress.
    messages: std::vec::IntoIter<Message>,
    /// Envelopes that came meanwhile, each with its `arrival`.
    inbox: VecDeque<(u64, Batch)>,
    /// Their size on the wire.
    inbox_bytes: usize,
    /// The session that one of them keeps from expiring, since it has a connect.
    pub(crate) keeps: Option<SessionKey>,
    /// The message that waits, while the lane is parked.
    work: Option<Work>,
    /// The decision that it waits for, if that is what it waits for.
    decision: Option<DecisionId>,
}

/// One message on its way through the pipeline.
pub(crate) struct Work {
    pub(crate) message: Message,
    /// The message's channel, taken apart; `None` for a wild meta channel.
    channel: Option<ChannelName>,
    /// The message as hooks see it: made once, with the first question about it.
    shared: Option<Arc<Message>>,
    pub(crate) reply: Box<Reply>,
    pub(crate) step: Step,
    /// What its reply's way out depends on.
    pub(crate) kind: ReplyKind,
    /// How the application's publish may wait, beside what its channels say.
    pub(crate) lazy: Lazy,
    /// Publishes by listeners that led to this one.
    chain: u16,
    /// Where the application wants to know whether its publish reaches anybody.
    pub(crate) receipt: Option<Receipt>,
}

/// How far a message has come. Each names what is done or asked next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Extensions (rule G-3).
    Incoming,
    /// Session, channel and kind: where it goes from here (rules G-4 to G-7).
    Route,
    /// Does the channel exist, after all (rule G-6)?
    Find(ChannelName),
    /// May the publisher create the channel (rule G-6)?
    Create(ChannelName),
    /// May the publisher publish (rule G-7)?
    Publish(ChannelName),
    /// Channel listeners (rule G-11).
    Listen(ChannelName),
    /// `canHandshake` (rule H-4).
    Handshake(ClientId),
    /// Session-added listeners (rule H-4).
    Handshaken(SessionKey),
    /// One channel after the other (rules S-3, S-12).
    Subscribe(Subscribing),
    /// The same for unsubscribing.
    Unsubscribe(Subscribing),
}

/// What comes of entering a step, or of a verdict.
pub(crate) enum Flow {
    /// Enter that step.
    Go(Step),
    /// Ask, and stay at that step until the verdict.
    Ask(Point, Step),
    /// Stay at that step until the channel's home has created it.
    Await(ChannelPattern, Step),
    /// Stay at that step until the channel's home has said whether it exists.
    Find(ChannelPattern, Step),
    /// The reply is complete.
    Reply,
    /// There is no reply now: the connect is held, or nobody waits for one.
    NoReply,
}

/// How far a message came.
enum Progress {
    /// It waits, for a verdict or a channel.
    Waits,
    /// Its reply is complete.
    Replies,
    /// It has no reply, or none now.
    Ends,
}

/// Lanes that wait, and what decisions they wait for.
#[derive(Default)]
pub(crate) struct Lanes {
    parked: BTreeMap<LaneId, Lane>,
    decisions: BTreeMap<DecisionId, (LaneId, TimerKey)>,
    /// Lanes that may go on, in order, each with the verdict that it waited for. They do at the end of the input, since
    /// what lets them go on may be in the middle of something.
    runnable: VecDeque<(LaneId, Option<Verdict>)>,
    count: u64,
    asked: u64,
}

impl Work {
    /// Changes the message; hooks see the change.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Message)) {
        change(&mut self.message);
        self.shared = None;
    }
}

impl Lanes {
    /// Ends a question, in whatever way: its lane waits for it no more.
    fn close(&mut self, id: DecisionId) -> Option<(LaneId, TimerKey)> {
        let (lane, timer) = self.decisions.remove(&id)?;
        if let Some(lane) = self.parked.get_mut(&lane) {
            lane.decision = None;
        }
        Some((lane, timer))
    }

    fn id(&mut self) -> LaneId {
        self.count += 1;
        LaneId(self.count)
    }
}

impl Lane {
    fn new(id: LaneId, conn: Option<ConnKey>) -> Self {
        Self {
            id,
            conn,
            session: None,
            arrival: 0,
            alone: true,
            open: false,
            replies: Vec::new(),
            messages: Vec::new().into_iter(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            keeps: None,
            work: None,
            decision: None,
        }
    }
}

impl Lane {
    fn enqueue(&mut self, arrival: u64, batch: Batch) {
        self.inbox_bytes += batch.footprint();
        self.inbox.push_back((arrival, batch));
    }

    fn dequeue(&mut self) -> Option<Batch> {
        let (arrival, batch) = self.inbox.pop_front()?;
        self.arrival = arrival;
        self.inbox_bytes -= batch.footprint();
        Some(batch)
    }

    /// Whether a connect of that client is among what waits.
    fn has_connect_of(&self, client: &ClientId) -> bool {
        self.inbox.iter().any(|(_, batch)| has_connect_of(batch, client))
    }

    /// Whether another envelope may wait.
    fn has_room(&self, config: &Config) -> bool {
        self.inbox.len() < config.max_waiting_envelopes && self.inbox_bytes < config.max_waiting_bytes
    }
}

impl Engine {
    /// An envelope came on a connection.
    pub(crate) fn receive(&mut self, name: ConnectionKey, batch: Batch) {
        let Some(key) = self.conns.find(name) else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        self.arrivals += 1;
        let arrival = self.arrivals;
        if let Some(lane) = conn.lane {
            self.wait_in_lane(lane, key, arrival, batch);
            return;
        }
        let id = self.lanes.id();
        let mut lane = Lane::new(id, Some(key));
        lane.arrival = arrival;
        if self.open_envelope(&mut lane, batch) {
            self.run(lane, None);
        }
    }

    /// An envelope came while its lane is parked.
    fn wait_in_lane(&mut self, id: LaneId, key: ConnKey, arrival: u64, batch: Batch) {
        let lane = self.lanes.parked.get_mut(&id).expect("a connection's lane is parked between inputs");
        if !lane.has_room(&self.config) {
            self.close(key, CloseReason::Flooded);
            return;
        }
        let Some(key) = lane.session else { return lane.enqueue(arrival, batch) };
        let Some(session) = self.sessions.get_mut(key) else { return lane.enqueue(arrival, batch) };
        let connects = has_connect_of(&batch, &session.id);
        lane.enqueue(arrival, batch);
        if connects {
            if lane.keeps.replace(key).is_none() {
                session.keepers += 1;
            }
            // The client has done its part: it is the server that keeps its connect waiting (rule L-21).
            session.expire_at = None;
            self.rearm(key);
        }
    }

    /// The application publishes where listeners are: through them first (rule A-10).
    pub(crate) fn run_application_publish(
        &mut self,
        channel: ChannelName,
        message: Message,
        lazy: Lazy,
        from: Option<SessionKey>,
        chain: u16,
        receipt: Option<Receipt>,
    ) {
        let id = self.lanes.id();
        let mut lane = Lane::new(id, None);
        lane.session = from;
        lane.work = Some(Work {
            reply: Box::new(Reply::to(&message)),
            message,
            channel: None,
            shared: None,
            step: Step::Listen(channel),
            kind: ReplyKind::Other,
            lazy,
            chain,
            receipt,
        });
        self.run(lane, None);
    }

    /// Whether another envelope may come on the connection.
    pub(crate) fn lane_has_room(&self, conn: &Conn) -> bool {
        conn.lane.and_then(|id| self.lanes.parked.get(&id)).is_none_or(|lane| lane.has_room(&self.config))
    }

    /// Runs a lane until it is used up or parks. `verdict` is for the message that waited, if one did.
    fn run(&mut self, mut lane: Lane, mut verdict: Option<Verdict>) {
        lane.decision = None;
        if let Some(session) = lane.session.and_then(|key| self.sessions.get_mut(key)) {
            session.parked_connects.retain(|id| *id != lane.id);
        }
        if let Some(conn) = lane.conn.and_then(|key| self.conns.get_mut(key)) {
            conn.lane = None;
        }
        let mut waited = lane.work.take();
        loop {
            let mut work = match waited.take() {
                Some(work) => work,
                None => match lane.messages.next() {
                    Some(message) => self.begin(message),
                    None if self.next_envelope(&mut lane) => continue,
                    None => return,
                },
            };
            match self.process(&mut lane, &mut work, verdict.take()) {
                Progress::Waits => {
                    lane.work = Some(work);
                    self.park(lane);
                    return;
                }
                Progress::Replies => {
                    // A listener stopped it.
                    self.confirm(work.receipt.take(), false);
                    Self::reply(&mut lane, work);
                }
                Progress::Ends => {}
            }
        }
    }

    /// Ends the envelope in progress and opens the next; false where there is none.
    fn next_envelope(&mut self, lane: &mut Lane) -> bool {
        if std::mem::take(&mut lane.open) {
            self.finish_envelope(lane);
        }
        loop {
            let kept = lane.keeps.and_then(|key| self.sessions.get(key));
            if !kept.is_some_and(|session| lane.has_connect_of(&session.id)) {
                self.end_keeping(lane);
            }
            let Some(batch) = lane.dequeue() else { return false };
            let opened = self.open_envelope(lane, batch);
            if lane.keeps != lane.session {
                self.end_keeping(lane);
            }
            if opened {
                return true;
            }
        }
    }

    fn park(&mut self, lane: Lane) {
        if let Some(conn) = lane.conn.and_then(|key| self.conns.get_mut(key)) {
            conn.lane = Some(lane.id);
        }
        if lane.work.as_ref().is_some_and(|work| work.kind == ReplyKind::Connect)
            && let Some(session) = lane.session.and_then(|key| self.sessions.get_mut(key))
        {
            session.parked_connects.push(lane.id);
        }
        self.lanes.parked.insert(lane.id, lane);
    }

    /// Checks the envelope as a whole and finds its session; false where there is nothing to process.
    fn open_envelope(&mut self, lane: &mut Lane, batch: Batch) -> bool {
        let Some(first) = batch.messages.first() else { return false };
        let Some(key) = lane.conn else { return false };
        if batch.messages.len() > 1 && batch.messages.iter().any(|message| is_meta(message, meta::HANDSHAKE)) {
            // Looked for before anything is processed, so that the whole has no effect (rule Z-1).
            self.close(key, CloseReason::HandshakeInBatch);
            lane.inbox.clear();
            lane.inbox_bytes = 0;
            return false;
        }
        lane.alone = batch.messages.len() == 1;
        if self.conns.get(key).is_some() {
            lane.session = self.find_session(key, first);
        } else if is_meta(first, meta::HANDSHAKE) {
            return false;
        }
        if let (Some(session), Some(conn)) = (lane.session, self.conns.get_mut(key)) {
            conn.session = Some(session);
            if conn.is_http() && !is_meta(first, meta::CONNECT) {
                // The request's own effects do not wake the held connect (rule Q-12).
                conn.exchange.hold = Some(session);
                if let Some(session) = self.sessions.get_mut(session) {
                    session.hold_depth += 1;
                }
            }
        }
        lane.messages = batch.messages.into_iter();
        lane.open = true;
        true
    }

    /// The session that an envelope is about, decided once from its first message (rules TH-10, TW-10 to TW-12).
    fn find_session(&mut self, key: ConnKey, first: &Message) -> Option<SessionKey> {
        let local = self.conns.get(key)?.is_local();
        let found = self.find_any_session(key, first)?;
        // Nobody takes over a session of the server's own, whatever he knows.
        let is_local = self.sessions.get(found).is_some_and(|session| session.transport == Transport::Local);
        (is_local == local).then_some(found)
    }

    fn find_any_session(&mut self, key: ConnKey, first: &Message) -> Option<SessionKey> {
        let conn = self.conns.get_mut(key)?;
        let handshake = is_meta(first, meta::HANDSHAKE);
        if conn.is_http() {
            let found = self.sessions.find(first.client_id.as_deref()?).filter(|_| !handshake)?;
            let session = self.sessions.get(found)?;
            // A stolen client id is of no use without its browser's cookie (rule TH-11).
            let theirs = conn.facts.browser.as_ref();
            let same_browser = theirs.is_some_and(|theirs| self.browsers.is(session.browser, theirs));
            return (same_browser || self.config.trust_client_session).then_some(found);
        }
        if handshake {
            if let Some(old) = conn.session.take().and_then(|old| self.sessions.get_mut(old))
                && old.target == Some(key)
            {
                // It lives on, but not here: what it has not written yet is not the new session's (rules H-2, TW-10).
                (old.target, old.moved) = (None, 0);
            }
            return None;
        }
        if let Some(bound) = conn.session {
            if self.sessions.get(bound).is_none() {
                conn.session = None;
                return None;
            }
            return Some(bound);
        }
        if self.config.require_handshake_per_connection {
            return None;
        }
        self.sessions.find(first.client_id.as_deref()?)
    }

    /// Starts a message: its reply, and the checks that come before everything else (rules G-1, G-2).
    fn begin(&self, message: Message) -> Work {
        let mut reply = Box::new(Reply::to(&message));
        let channel = self.validate(&message).unwrap_or_else(|error| {
            reply.fail(error);
            None
        });
        if reply.error.is_none() && message.ext.is_some() {
            if self.config.timesync {
                reply.timesync = self.timesync_of(&message);
            }
            let meta = reply.channel.as_deref().is_some_and(|channel| channel.starts_with("/meta/"));
            if self.config.binary && !meta && message.binary().is_err() {
                reply.fail(ErrorField::BINARY_INVALID);
            }
        }
        Work {
            message,
            channel,
            shared: None,
            reply,
            step: Step::Incoming,
            kind: ReplyKind::Other,
            lazy: Lazy::No,
            chain: 0,
            receipt: None,
        }
    }

    /// What a meta message is told of the time (rules XT-1, XT-3).
    fn timesync_of(&self, message: &Message) -> Option<TimesyncReply> {
        let meta = message.channel.as_deref().is_some_and(|channel| channel.starts_with("/meta/"));
        let request = message.extensions().timesync.filter(|_| meta)?;
        let mut reply = ext::timesync(request, self.wall_time(), self.config.timesync_accuracy)?;
        // The arrival, until the reply leaves and it is known how long that took.
        reply.p = self.uptime_ms();
        Some(reply)
    }

    /// Keeps what the client says of the lag (rule XT-2).
    fn note_lag(&mut self, lane: &Lane, message: &Message) {
        if !self.config.timesync || message.ext.is_none() {
            return;
        }
        let Some(lag) = message.extensions().timesync.and_then(|request| request.lag) else { return };
        if let Some(session) = lane.session.and_then(|key| self.sessions.get_mut(key)) {
            session.settings.change(|own| own.lag = u32::try_from(lag).ok());
        }
    }

    /// Field types, channel and id, in this order (rules Z-1, G-2). Yields the channel, unless it is a wild meta channel.
    fn validate(&self, message: &Message) -> Result<Option<ChannelName>, ErrorField> {
        if message.malformed.is_some() {
            return Err(ErrorField::MESSAGE_INVALID);
        }
        let channel = message.channel.as_ref().ok_or(ErrorField::CHANNEL_MISSING)?;
        let name = match ChannelName::parse(channel, &self.config.channels) {
            Ok(name) => Some(name),
            // Wild meta channels are refused as unknown ones are, behind the session check (rule C-25).
            Err(ChannelError::Wild) if channel.starts_with("/meta/") => None,
            Err(_) => return Err(ErrorField::CHANNEL_INVALID),
        };
        if self.config.validate_message_fields && message.id.as_ref().is_some_and(|id| !id.is_valid()) {
            return Err(ErrorField::MESSAGE_ID_INVALID);
        }
        Ok(name)
    }

    /// Moves a message on, as far as it comes.
    fn process(&mut self, lane: &mut Lane, work: &mut Work, mut verdict: Option<Verdict>) -> Progress {
        let mut flow = if work.reply.error.is_some() && matches!(work.step, Step::Incoming) {
            Flow::Reply
        } else {
            Flow::Go(work.step.clone())
        };
        loop {
            flow = match flow {
                Flow::Go(step) => match verdict.take() {
                    Some(verdict) => self.continue_after(lane, work, step, verdict),
                    None => self.enter(lane, work, step),
                },
                Flow::Ask(point, step) if !self.hooks.points().contains(point.flag()) => {
                    self.proceed(lane, work, step, Ruling::Allow)
                }
                Flow::Ask(point, step) => match self.consult(lane, work, &step, point) {
                    Some(answer) => self.continue_after(lane, work, step, answer),
                    None => {
                        work.step = step;
                        return Progress::Waits;
                    }
                },
                Flow::Await(channel, step) => {
                    work.step = step;
                    if self.channels.wait(channel.text(), lane.id) {
                        self.request_channel(channel);
                    }
                    return Progress::Waits;
                }
                Flow::Find(channel, step) => {
                    work.step = step;
                    if self.channels.wait(channel.text(), lane.id) {
                        self.look_for_channel(channel);
                    }
                    return Progress::Waits;
                }
                Flow::Reply => return Progress::Replies,
                Flow::NoReply => return Progress::Ends,
            };
        }
    }

    fn enter(&mut self, lane: &Lane, work: &mut Work, step: Step) -> Flow {
        match step {
            Step::Incoming => Flow::Ask(Point::Incoming, Step::Incoming),
            Step::Route => self.route(lane, work),
            Step::Find(channel) => self.found_or_not(channel),
            Step::Create(channel) => self.enter_create(channel),
            Step::Publish(channel) => Flow::Ask(Point::Publish(channel.clone()), Step::Publish(channel)),
            Step::Listen(channel) => Flow::Ask(Point::Listen(channel.clone()), Step::Listen(channel)),
            Step::Handshake(id) => Flow::Ask(Point::Handshake, Step::Handshake(id)),
            Step::Handshaken(session) => Flow::Ask(Point::Handshaken, Step::Handshaken(session)),
            Step::Subscribe(state) => self.enter_subscribe(lane, work, state),
            Step::Unsubscribe(state) => self.enter_unsubscribe(lane, work, state),
        }
    }

    fn continue_after(&mut self, lane: &mut Lane, work: &mut Work, step: Step, verdict: Verdict) -> Flow {
        work.reply.advice = work.reply.advice.overlaid_with(verdict.advice);
        if let Some(ext) = verdict.ext {
            work.reply.ext = Some(match work.reply.ext.take() {
                Some(earlier) => earlier.overlaid_with(&ext),
                None => ext,
            });
        }
        if !verdict.fields.is_empty() {
            work.reply.fields.extend(verdict.fields);
        }
        if let Some(lazy) = verdict.lazy {
            work.lazy = lazy;
        }
        self.proceed(lane, work, step, verdict.ruling)
    }

    /// Goes on behind the question of a step, which nobody wanted to be asked, or which had that answer.
    fn proceed(&mut self, lane: &mut Lane, work: &mut Work, step: Step, ruling: Ruling) -> Flow {
        match step {
            Step::Incoming => self.after_incoming(work, ruling),
            Step::Route => Flow::Go(Step::Route),
            Step::Find(channel) => Flow::Go(Step::Find(channel)),
            Step::Create(channel) => self.after_create(work, channel, ruling),
            Step::Publish(channel) => self.after_publish(lane, work, channel, ruling),
            Step::Listen(channel) => self.after_listen(lane, work, channel, ruling),
            Step::Handshake(id) => self.after_handshake(lane, work, id, ruling),
            Step::Handshaken(session) => self.after_handshaken(lane, work, session),
            Step::Subscribe(state) => self.after_subscribe(lane, work, state, ruling),
            Step::Unsubscribe(state) => self.enter_unsubscribe(lane, work, state),
        }
    }

    fn after_incoming(&self, work: &mut Work, ruling: Ruling) -> Flow {
        match ruling {
            Ruling::Allow => Flow::Go(Step::Route),
            Ruling::Deny { .. } => {
                work.reply.fail(ErrorField::MESSAGE_DELETED);
                Flow::Reply
            }
            Ruling::Fail(error) => {
                work.reply.fail(error);
                Flow::Reply
            }
            Ruling::Replace(message) => {
                // What a hook made is held to the same rules as what a client sent.
                match self.validate(&message) {
                    Ok(channel) => work.channel = channel,
                    Err(error) => {
                        work.reply.fail(error);
                        return Flow::Reply;
                    }
                }
                work.change(|old| *old = *message);
                Flow::Go(Step::Route)
            }
        }
    }

    /// The session check and the fork by channel (rules G-4 to G-7).
    fn route(&mut self, lane: &Lane, work: &mut Work) -> Flow {
        // `None`: a wild meta channel, the one thing that validation leaves for later.
        let channel = work.channel.take();
        let name = channel.as_ref().map_or("", ChannelName::as_str);
        let handshake = name == meta::HANDSHAKE;
        if !handshake && !self.is_sender(lane, &work.message) {
            self.fail_unknown_session(lane, work, name == meta::CONNECT);
            return Flow::Reply;
        }
        if handshake {
            work.kind = ReplyKind::Handshake;
        } else {
            let connect = name == meta::CONNECT;
            work.kind = if connect { ReplyKind::Connect } else { ReplyKind::Other };
            self.note_message(lane, connect);
            self.note_lag(lane, &work.message);
        }
        let Some(channel) = channel else {
            work.reply.fail(ErrorField::channel_create_denied(ErrorField::BY_POLICY));
            return Flow::Reply;
        };
        match channel.kind() {
            ChannelKind::Meta if !crate::channel::is_meta_channel(channel.as_str()) => {
                // Refused whatever a policy says (rules C-24, C-29).
                work.reply.fail(ErrorField::channel_create_denied(ErrorField::BY_POLICY));
                Flow::Reply
            }
            ChannelKind::Meta => Flow::Go(Step::Listen(channel)),
            ChannelKind::Service | ChannelKind::Broadcast if self.is_out_of_bounds(lane, channel.as_str()) => {
                work.reply.fail(ErrorField::publish_denied(ErrorField::BY_POLICY));
                Flow::Reply
            }
            ChannelKind::Service | ChannelKind::Broadcast => {
                if self.must_find_first(channel.as_pattern()) && !self.channels.exists(channel.as_str()) {
                    Flow::Find(channel.as_pattern().clone(), Step::Find(channel))
                } else {
                    self.found_or_not(channel)
                }
            }
        }
    }

    /// Whether a channel is the server's own, and the sender is not.
    pub(crate) fn is_out_of_bounds(&self, lane: &Lane, channel: &str) -> bool {
        self.reserved.may_be(channel)
            && self.config.is_reserved(channel)
            && !lane.conn.and_then(|key| self.conns.get(key)).is_some_and(Conn::is_local)
    }

    /// Whether the lane's session is alive and the message says it is its (rule G-4).
    fn is_sender(&self, lane: &Lane, message: &Message) -> bool {
        let session = lane.session.and_then(|key| self.sessions.get(key));
        let named = message.client_id.as_deref();
        session.zip(named).is_some_and(|(session, named)| same_secret(session.id.as_str(), named))
    }

    /// Listeners have spoken: meta messages go to their handler, publishes on to their subscribers (rule G-13).
    fn after_listen(&mut self, lane: &Lane, work: &mut Work, channel: ChannelName, ruling: Ruling) -> Flow {
        match ruling {
            Ruling::Allow => {}
            Ruling::Deny { .. } => {
                work.reply.fail(ErrorField::MESSAGE_DELETED);
                return Flow::Reply;
            }
            Ruling::Fail(error) => {
                work.reply.fail(error);
                return Flow::Reply;
            }
            Ruling::Replace(message) => work.change(|old| *old = *message),
        }
        match channel.kind() {
            ChannelKind::Meta => self.handle_meta(lane, work, &channel),
            ChannelKind::Service => Flow::Reply,
            ChannelKind::Broadcast => {
                if !self.publish_work(lane, work, channel) {
                    work.reply.fail(ErrorField::MESSAGE_DELETED);
                }
                Flow::Reply
            }
        }
    }

    /// Asks the hooks at a point. `None`: the verdict comes later.
    fn consult(&mut self, lane: &mut Lane, work: &mut Work, step: &Step, point: Point) -> Option<Verdict> {
        let session = match step {
            Step::Handshake(id) => Some(id.clone()),
            Step::Handshaken(key) => self.sessions.get(*key).map(|session| session.id.clone()),
            Step::Incoming
            | Step::Route
            | Step::Find(_)
            | Step::Create(_)
            | Step::Publish(_)
            | Step::Listen(_)
            | Step::Subscribe(_)
            | Step::Unsubscribe(_) => {
                lane.session.and_then(|key| self.sessions.get(key)).map(|session| session.id.clone())
            }
        };
        let conn = lane.conn.and_then(|key| self.conns.get(key)).map(|conn| conn.key);
        let message = Arc::clone(work.shared.get_or_insert_with(|| Arc::new(work.message.clone())));
        let question = Question { point, session, conn, message, chain: work.chain };
        let mut effects = Vec::new();
        let answer = self.hooks.ask(&question, &mut effects);
        for command in effects {
            self.command(command);
        }
        match answer {
            Answer::Now(verdict) => Some(verdict),
            // The hook has ended its session meanwhile: the client hears so at once (rule L-33).
            Answer::Later if work.kind == ReplyKind::Connect && self.is_gone(lane) => Some(Verdict::allow()),
            // So many wait already that this one would not be heard in time: fail closed.
            Answer::Later if self.lanes.parked.len() >= self.config.max_parked_lanes => Some(Verdict::deny()),
            Answer::Later => {
                lane.decision = Some(self.ask(lane.id, question));
                None
            }
        }
    }

    /// Turns a question into an output, with a deadline after which the answer is no.
    fn ask(&mut self, lane: LaneId, question: Question) -> DecisionId {
        self.lanes.asked += 1;
        let id = DecisionId(self.lanes.asked);
        let deadline = self.now + self.config.decision_timeout;
        let timer = self.timers.set(deadline, Due::Decision(id));
        self.lanes.decisions.insert(id, (lane, timer));
        self.outputs.push_back(Output::Ask(Box::new(Decision { id, question, deadline })));
        id
    }

    /// A hook has answered. An answer that nobody waits for any more is dropped.
    pub(crate) fn decide(&mut self, id: DecisionId, verdict: Verdict) {
        let Some((lane, timer)) = self.lanes.close(id) else { return };
        self.timers.cancel(timer);
        self.resume_lane(lane, Some(verdict));
    }

    /// A hook has not answered in time: the answer is no.
    pub(crate) fn decision_expired(&mut self, id: DecisionId) {
        self.outputs.push_back(Output::Withdraw(id));
        self.notice(Notice::DecisionExpired { id });
        let Some((lane, _)) = self.lanes.close(id) else { return };
        self.resume_lane(lane, Some(Verdict::deny()));
    }

    /// The session of a connect that waits for a listener has gone: the client hears so at once (rule L-33).
    pub(crate) fn abandon_connect(&mut self, id: LaneId, session: SessionKey) {
        let is_its = self.lanes.parked.get(&id).is_some_and(|lane| lane.session == Some(session));
        if is_its && self.waits_with(id, ReplyKind::Connect) && self.withdraw(id) {
            self.resume_lane(id, Some(Verdict::allow()));
        }
    }

    /// The connection of a parked lane has gone. To ask about a handshake is pointless then; what else the client sent
    /// before it left is carried out all the same.
    pub(crate) fn abandon_handshake(&mut self, id: LaneId) {
        if self.waits_with(id, ReplyKind::Handshake) && self.withdraw(id) {
            // Without its connection it makes no session, and one that it made already expires.
            self.resume_lane(id, Some(Verdict::allow()));
        }
    }

    /// Whether the lane is parked on a message of that kind.
    fn waits_with(&self, id: LaneId, kind: ReplyKind) -> bool {
        let work = self.lanes.parked.get(&id).and_then(|lane| lane.work.as_ref());
        work.is_some_and(|work| work.kind == kind)
    }

    /// Takes back the question that a lane waits for; false where it waits for none.
    fn withdraw(&mut self, id: LaneId) -> bool {
        let Some(decision) = self.lanes.parked.get(&id).and_then(|lane| lane.decision) else { return false };
        let Some((_, timer)) = self.lanes.close(decision) else { return false };
        self.timers.cancel(timer);
        self.outputs.push_back(Output::Withdraw(decision));
        true
    }

    /// Lets a parked lane go on: with a verdict behind its question, without one into its step again.
    pub(crate) fn resume_lane(&mut self, id: LaneId, verdict: Option<Verdict>) {
        self.lanes.runnable.push_back((id, verdict));
    }

    /// Runs the lanes that may go on, and those that they let go on.
    pub(crate) fn run_lanes(&mut self) {
        while let Some((id, verdict)) = self.lanes.runnable.pop_front() {
            if let Some(lane) = self.lanes.parked.remove(&id) {
                self.run(lane, verdict);
            }
        }
    }

    /// Keeps the reply of a message that went through until its envelope has.
    fn reply(lane: &mut Lane, work: Work) {
        let expiry = match work.kind {
            // Successful or not, its session begins to expire when it was written (rule L-20).
            ReplyKind::Handshake | ReplyKind::Connect => lane.session.map(|session| Expiry { session, cycle: None }),
            ReplyKind::Other => None,
        };
        lane.replies.push(Pending { reply: work.reply, kind: work.kind, position: 0, session: lane.session, expiry });
    }
}

fn has_connect_of(batch: &Batch, client: &ClientId) -> bool {
    let names = |message: &Message| message.client_id.as_deref() == Some(client.as_str());
    batch.messages.iter().any(|message| is_meta(message, meta::CONNECT) && names(message))
}

/// Whether a message is for that meta channel, however its channel is spelled.
fn is_meta(message: &Message, name: &str) -> bool {
    // The normal form of a meta channel differs by surrounding white space and one slash at most (rule C-3).
    message.channel.as_deref().is_some_and(|text| {
        let text = text.trim_matches(|c| c <= ' ');
        text == name || text.strip_suffix('/') == Some(name)
    })
}

/// Compares in a time that does not depend on where the texts differ (rule Z-18).
pub(crate) fn same_secret(ours: &str, theirs: &str) -> bool {
    ours.len() == theirs.len() && ours.bytes().zip(theirs.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}
