//! The sessions of one thread: what they say to what they hear. No sockets here: the thread's loop carries out the
//! [`Action`]s.

mod deliver;
mod life;
mod publish;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use hdrhistogram::Histogram;

use super::clock::{Moment, nanos};
use super::envelope::PublishTemplate;
use super::ledger::{Account, Way};
use super::link::Event;
use super::scan;
use super::session::{Session, Stage, reason};
use super::shared::{Count, Counts, Shared};
use super::target::Transport;

/// What the thread's loop is asked to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send the lane's envelope, on a new connection where there is none.
    Send(Slot),
    /// Close it in good order.
    Close(Slot),
    /// Drop it.
    Drop(Slot),
}

/// Names a connection: a session of this thread, and which of its lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The session's place in its crew.
    pub(crate) session: usize,
    /// The lane.
    pub(crate) way: Way,
}

impl Slot {
    /// A number for it.
    pub(crate) fn index(self) -> usize {
        self.session * 2 + self.way as usize
    }

    /// The slot of a number.
    pub(crate) fn at(index: usize) -> Self {
        Self { session: index / 2, way: if index.is_multiple_of(2) { Way::Connects } else { Way::Requests } }
    }
}

/// Why something failed, and how often; a few reasons are kept, the rest is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reasons(pub(crate) BTreeMap<String, u64>);

impl Reasons {
    const MAX: usize = 20;

    /// Counts a reason.
    pub(crate) fn count(&mut self, reason: String) {
        self.add(reason, 1);
    }

    /// Counts all that `other` has.
    pub(crate) fn merge(&mut self, other: Self) {
        for (reason, count) in other.0 {
            self.add(reason, count);
        }
    }

    fn add(&mut self, reason: String, count: u64) {
        let full = self.0.len() >= Self::MAX && !self.0.contains_key(&reason);
        *self.0.entry(if full { "other reasons".to_owned() } else { reason }).or_default() += count;
    }
}

/// What is measured of messages, in nanoseconds.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// From when a message was due to each delivery.
    pub(crate) delivery: Histogram<u64>,
    /// From when a message was due to its reply.
    pub(crate) reply: Histogram<u64>,
    /// From when a message was due to when it was sent.
    pub(crate) lateness: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { delivery: histogram(), reply: histogram(), lateness: histogram() }
    }
}

/// Up to a quarter of an hour, with three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 900_000_000_000, 3).expect("the bounds are in order")
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Crew {
    shared: Arc<Shared>,
    thread: u32,
    sessions: Vec<Session>,
    accounts: Vec<(u32, Account)>,
    /// Members of each room among these sessions.
    members: Vec<u32>,
    /// Sessions that are being made.
    joining: usize,
    /// Sessions before this one have had their turn.
    next_to_join: usize,
    /// Connects that wait for the advised interval.
    timers: BinaryHeap<Reverse<(Moment, usize)>>,
    actions: VecDeque<Action>,
    template: PublishTemplate,
    closed: publish::ClosedLoop,
    /// What is measured is measured for messages due from then on.
    measured_from: Moment,
    /// What was counted.
    pub(crate) counts: Counts,
    /// What was measured.
    pub(crate) latencies: Latencies,
    /// Why sessions ended, and publishes were refused.
    pub(crate) reasons: Reasons,
    /// When a delivery or reply last came.
    pub(crate) last: Moment,
}

impl Crew {
    /// The sessions that the plan gives to a thread.
    pub(crate) fn new(shared: Arc<Shared>, thread: u32) -> Self {
        let plan = &shared.plan;
        let mut accounts = Vec::new();
        let mut members = vec![0; plan.rooms().len()];
        let mut sessions = Vec::new();
        for index in plan.sessions_of(thread) {
            sessions.push(Session::new(index, accounts.len()));
            for &room in plan.rooms_of(index) {
                members[room as usize] += 1;
                accounts.push((room, Account::default()));
            }
        }
        Self {
            template: PublishTemplate::new(plan.shape().message_size, &shared.stamps),
            closed: publish::ClosedLoop::new(plan, sessions.len()),
            thread,
            sessions,
            accounts,
            members,
            joining: 0,
            next_to_join: 0,
            timers: BinaryHeap::new(),
            actions: VecDeque::new(),
            measured_from: Moment::NEVER,
            counts: Counts::default(),
            latencies: Latencies::default(),
            reasons: Reasons::default(),
            last: Moment::default(),
            shared,
        }
    }

    /// How many sessions there are.
    pub(crate) fn size(&self) -> usize {
        self.sessions.len()
    }

    /// The next thing to do with a connection.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// A session of the crew.
    pub(crate) fn session(&mut self, session: usize) -> &mut Session {
        &mut self.sessions[session]
    }

    /// Sends the connects whose interval is over; yields when the next one is due.
    pub(crate) fn timers(&mut self, now: Moment) -> Moment {
        while let Some(&Reverse((at, session))) = self.timers.peek() {
            if at > now {
                return at;
            }
            self.timers.pop();
            self.connect(session, false);
        }
        Moment::NEVER
    }

    /// Something came by a connection.
    pub(crate) fn on_event(&mut self, slot: Slot, event: Event<'_>, now: Moment) {
        let Slot { session, way } = slot;
        let lane = self.sessions[session].lane(way);
        match event {
            Event::Open => {
                lane.open = true;
                self.send(session, way);
            }
            Event::Body(body, cookies) => {
                lane.busy = false;
                self.sessions[session].take_cookies(cookies);
                self.on_body(slot, body, now);
                self.send(session, way);
            }
            Event::Refused(status) => {
                lane.busy = false;
                self.end(session, Count::Ended, format!("HTTP {status}"));
            }
            Event::Ended => self.on_ended(slot),
        }
    }

    /// The server has ended a connection in good order, and the thread's loop drops it.
    fn on_ended(&mut self, slot: Slot) {
        let Slot { session, way } = slot;
        let stage = self.sessions[session].stage;
        let lane = self.sessions[session].lane(way);
        *lane = super::session::Lane { envelope: std::mem::take(&mut lane.envelope), ..Default::default() };
        match (stage, self.shared.target.transport) {
            (Stage::Leaving, Transport::WebSocket) => self.gone(session),
            (Stage::New | Stage::Left | Stage::Gone, _) => {}
            (_, Transport::WebSocket) => self.end(session, Count::Broken, "connection closed by the server".to_owned()),
            // A server may end a connection between requests; the next request opens another.
            (_, Transport::LongPolling) => {
                self.counts[Count::Reopened] += u64::from(stage != Stage::Leaving);
                self.send(session, way);
            }
        }
    }

    /// A connection broke.
    pub(crate) fn on_broken(&mut self, slot: Slot, reason: String) {
        self.actions.push_back(Action::Drop(slot));
        match self.sessions[slot.session].stage {
            Stage::New | Stage::Left | Stage::Gone => {}
            Stage::Leaving => self.gone(slot.session),
            Stage::Handshaking | Stage::Joining | Stage::Ready => self.end(slot.session, Count::Broken, reason),
        }
    }

    fn on_body(&mut self, slot: Slot, body: &[u8], now: Moment) {
        let mut delivered = false;
        for message in scan::messages(body) {
            let Ok(fields) = message else {
                self.end(slot.session, Count::Ended, "a body that is no batch of messages".to_owned());
                return;
            };
            let Some(channel) = fields.channel else {
                self.end(slot.session, Count::Ended, reason(&fields));
                return;
            };
            if !is_meta(channel.0) {
                match fields.data {
                    Some(data) => {
                        delivered = true;
                        self.on_delivery(slot, channel, data, now);
                    }
                    None => self.on_reply(slot.session, &fields, now),
                }
                continue;
            }
            match channel.string().as_deref() {
                Some(b"/meta/connect") => self.on_connect(slot.session, &fields, now),
                Some(b"/meta/subscribe") => self.on_subscribe(slot.session, &fields),
                Some(b"/meta/handshake") => self.on_handshake(slot.session, &fields),
                Some(b"/meta/disconnect") => self.on_disconnect(slot.session, &fields),
                _ => {}
            }
        }
        self.counts[Count::Bodies] += u64::from(delivered);
    }

    /// The lane that `way` is on this transport.
    fn way(&self, way: Way) -> Way {
        match self.shared.target.transport {
            Transport::WebSocket => Way::Connects,
            Transport::LongPolling => way,
        }
    }

    fn send(&mut self, session: usize, way: Way) {
        let lane = self.sessions[session].lane(way);
        if !lane.envelope.is_empty() && !lane.busy {
            self.actions.push_back(Action::Send(Slot { session, way }));
        }
    }

    /// What each session missed: lost deliveries of sessions that lived to the end, and of those that did not.
    pub(crate) fn lost(&self) -> (u64, u64) {
        let mut lost = (0, 0);
        for session in &self.sessions {
            let owed: u64 = self.accounts_of(session).map(|(room, _)| self.accepted(*room)).sum();
            let missed = owed.saturating_sub(session.delivered);
            match session.stage {
                Stage::Ready | Stage::Leaving | Stage::Left => lost.0 += missed,
                Stage::New | Stage::Handshaking | Stage::Joining | Stage::Gone => lost.1 += missed,
            }
        }
        lost
    }

    /// Publishes that nobody has answered, of sessions that lived to the end.
    pub(crate) fn unanswered(&self) -> u64 {
        let lived = self.sessions.iter().filter(|session| session.stage != Stage::Gone);
        lived.map(|session| session.outstanding.len() as u64).sum()
    }

    fn accounts_of(&self, session: &Session) -> impl Iterator<Item = &(u32, Account)> {
        let count = self.shared.plan.rooms_of(session.index).len();
        self.accounts[session.accounts..session.accounts + count].iter()
    }

    fn accepted(&self, room: u32) -> u64 {
        use std::sync::atomic::Ordering::Relaxed;
        let numbers = &self.shared.rooms[room as usize];
        u64::from(numbers.next.load(Relaxed)).saturating_sub(u64::from(numbers.refused.load(Relaxed)))
    }

    /// Measures messages that are due from `start` on.
    pub(crate) fn measure_from(&mut self, start: Moment) {
        self.measured_from = start;
    }
}

/// Whether a channel, as a JSON string, is a meta channel. The slash may be escaped.
fn is_meta(channel: &[u8]) -> bool {
    channel.starts_with(b"\"/meta/")
        || channel.contains(&b'\\') && {
            let channel = scan::Json(channel).string();
            channel.is_some_and(|channel| channel.starts_with(b"/meta/"))
        }
}

/// Nanoseconds of a duration, for histograms, which begin at 1.
pub(crate) fn recordable(duration: std::time::Duration) -> u64 {
    nanos(duration).max(1)
}
