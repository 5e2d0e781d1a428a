//! How sessions begin, go on and end: handshake, subscriptions, connects, disconnect.

use std::cmp::Reverse;

use super::{Action, Crew, Slot};
use crate::load::clock::Moment;
use crate::load::envelope;
use crate::load::ledger::Way;
use crate::load::scan::Fields;
use crate::load::session::{Acknowledgement, Advice, Session, Stage, reason};
use crate::load::shared::{Count, Shared};

/// How many sessions a thread makes at the same time: enough to keep a server busy, without overrunning its backlog.
const JOINING_MAX: usize = 64;

impl Crew {
    /// Begins to make sessions, as many as are made at a time.
    pub(crate) fn join(&mut self) {
        while self.joining < JOINING_MAX && self.next_to_join < self.sessions.len() {
            let session = self.next_to_join;
            self.next_to_join += 1;
            self.joining += 1;
            self.sessions[session].stage = Stage::Handshaking;
            let Shared { target, ack, .. } = &*self.shared;
            envelope::handshake(target.transport, *ack, self.sessions[session].lane(Way::Connects).message());
            self.send(session, Way::Connects);
        }
    }

    /// Ends all sessions in good order.
    pub(crate) fn leave(&mut self) {
        for index in 0..self.sessions.len() {
            let session = &mut self.sessions[index];
            if session.stage == Stage::Ready {
                session.stage = Stage::Leaving;
                let way = self.way(Way::Requests);
                let Session { client_id, lanes, .. } = &mut self.sessions[index];
                envelope::disconnect(client_id, lanes[way as usize].message());
                self.send(index, way);
            }
        }
    }

    pub(super) fn on_handshake(&mut self, session: usize, fields: &Fields<'_>) {
        let id = fields.client_id.filter(|_| fields.successful.is_some_and(|successful| successful.is_true()));
        let Some(id) = id.and_then(|id| std::str::from_utf8(id.0).ok()).filter(|id| id.len() > 2) else {
            self.end(session, Count::Ended, reason(fields));
            return;
        };
        if self.sessions[session].stage != Stage::Handshaking {
            return;
        }
        // As it came, escapes included, without its quotes.
        self.sessions[session].client_id = id.trim_matches('"').to_owned();
        if self.shared.ack {
            self.sessions[session].ack = match Acknowledgement::of(fields) {
                Some(Acknowledgement::Supported(true)) => Some("0".to_owned()),
                Some(Acknowledgement::Enabled { enabled: true, batch }) => Some(batch.to_string()),
                _ => {
                    self.end(session, Count::Ended, "the server does not acknowledge".to_owned());
                    return;
                }
            };
        }
        self.sessions[session].stage = Stage::Joining;
        self.advised(session, &Advice::of(fields));
        self.subscribe(session);
        self.connect(session, true);
    }

    fn subscribe(&mut self, session: usize) {
        let shared = self.shared.clone();
        let rooms = shared.plan.rooms_of(self.sessions[session].index);
        let way = self.way(Way::Requests);
        let Session { client_id, lanes, subscribing, .. } = &mut self.sessions[session];
        *subscribing = rooms.len();
        for room in rooms {
            let channel = &shared.plan.rooms()[*room as usize].channel;
            envelope::subscribe(client_id, channel, lanes[way as usize].message());
        }
        self.send(session, way);
    }

    pub(super) fn on_subscribe(&mut self, session: usize, fields: &Fields<'_>) {
        if !fields.successful.is_some_and(|successful| successful.is_true()) {
            self.end(session, Count::Ended, reason(fields));
            return;
        }
        let subscribing = &mut self.sessions[session].subscribing;
        *subscribing = subscribing.saturating_sub(1);
        self.joined(session);
    }

    pub(super) fn connect(&mut self, session: usize, at_once: bool) {
        if !matches!(self.sessions[session].stage, Stage::Joining | Stage::Ready) {
            return;
        }
        let Session { client_id, ack, lanes, .. } = &mut self.sessions[session];
        let transport = self.shared.target.transport;
        envelope::connect(transport, client_id, ack.as_deref(), at_once, lanes[Way::Connects as usize].message());
        self.send(session, Way::Connects);
    }

    pub(super) fn on_connect(&mut self, session: usize, fields: &Fields<'_>, now: Moment) {
        if !matches!(self.sessions[session].stage, Stage::Joining | Stage::Ready) {
            return;
        }
        let advice = Advice::of(fields);
        if !fields.successful.is_some_and(|successful| successful.is_true()) || !advice.goes_on() {
            self.end(session, Count::Ended, reason(fields));
            return;
        }
        self.advised(session, &advice);
        if self.shared.ack
            && let Some(Acknowledgement::Batch(batch)) = Acknowledgement::of(fields)
        {
            self.sessions[session].ack = Some(batch.to_string());
        }
        self.sessions[session].connected = true;
        self.joined(session);
        match self.sessions[session].interval_ms {
            0 => self.connect(session, false),
            wait => self.timers.push(Reverse((now.plus(wait.saturating_mul(1_000_000)), session))),
        }
    }

    fn advised(&mut self, session: usize, advice: &Advice) {
        if let Some(interval) = advice.interval {
            // Saturates: a negative interval is none.
            self.sessions[session].interval_ms = interval as u64;
        }
    }

    /// A session takes part once it has all that it asked for.
    fn joined(&mut self, session: usize) {
        let Session { stage, subscribing, connected, .. } = &mut self.sessions[session];
        if *stage == Stage::Joining && *subscribing == 0 && *connected {
            *stage = Stage::Ready;
            self.counts[Count::Ready] += 1;
            self.joining -= 1;
            self.join();
        }
    }

    pub(super) fn on_disconnect(&mut self, session: usize, fields: &Fields<'_>) {
        match self.sessions[session].stage {
            Stage::Leaving => self.gone(session),
            Stage::New | Stage::Left | Stage::Gone => {}
            // Nobody asked for it.
            Stage::Handshaking | Stage::Joining | Stage::Ready => {
                let error = fields.error.map_or_else(|| "disconnected by the server".to_owned(), |_| reason(fields));
                self.end(session, Count::Ended, error);
            }
        }
    }

    /// A session has left.
    pub(super) fn gone(&mut self, session: usize) {
        self.sessions[session].stage = Stage::Left;
        self.counts[Count::Left] += 1;
        self.actions.push_back(Action::Close(Slot { session, way: Way::Connects }));
        self.actions.push_back(Action::Drop(Slot { session, way: Way::Requests }));
    }

    /// A session is over before its time.
    pub(super) fn end(&mut self, session: usize, count: Count, reason: String) {
        match self.sessions[session].stage {
            Stage::New | Stage::Left | Stage::Gone => return,
            Stage::Leaving => return self.gone(session),
            Stage::Handshaking | Stage::Joining => {
                self.counts[Count::Failed] += 1;
                self.joining -= 1;
                self.join();
            }
            Stage::Ready => self.counts[count] += 1,
        }
        self.sessions[session].stage = Stage::Gone;
        self.reasons.count(reason);
        for way in [Way::Connects, Way::Requests] {
            self.actions.push_back(Action::Drop(Slot { session, way }));
        }
    }
}
