//! The receiving side: the generator's hot path.

use std::sync::atomic::Ordering;

use super::{Crew, Slot};
use crate::load::clock::Moment;
use crate::load::ledger::Verdict;
use crate::load::scan::{Fields, Json};
use crate::load::session::{Stage, reason};
use crate::load::shared::Count;
use crate::load::stamp::Stamp;

impl Crew {
    /// A delivery came.
    pub(super) fn on_delivery(&mut self, slot: Slot, channel: Json<'_>, data: Json<'_>, now: Moment) {
        let Some(stamp) = self.shared.stamps.find(data.0) else {
            self.counts[Count::Foreign] += 1;
            return;
        };
        let Some(account) = self.account(slot.session, &stamp, channel) else {
            self.counts[Count::Stray] += 1;
            return;
        };
        let verdict = self.accounts[account].1.enter(stamp.number, stamp.publisher, slot.way);
        match verdict {
            Verdict::Good => {}
            Verdict::Overtaken => self.counts[Count::Overtaken] += 1,
            Verdict::Reordered => self.counts[Count::Reordered] += 1,
            Verdict::Doubled => {
                self.counts[Count::Doubled] += 1;
                return;
            }
        }
        self.counts[Count::Delivered] += 1;
        self.sessions[slot.session].delivered += 1;
        self.last = now;
        if stamp.due >= self.measured_from {
            self.latencies.delivery.saturating_record(now.since(stamp.due).max(1));
        }
        if self.closed.is_used() {
            self.on_delivered_here(&stamp, now);
        }
    }

    /// The account that a delivery belongs to: the session is in the room, and the channel is the room's.
    fn account(&self, session: usize, stamp: &Stamp, channel: Json<'_>) -> Option<usize> {
        let room = self.shared.plan.rooms().get(stamp.room as usize)?;
        if channel.0 != room.quoted && channel.string().as_deref() != Some(room.channel.as_bytes()) {
            return None;
        }
        // No member's account goes beyond what was published.
        if stamp.number >= self.shared.rooms[stamp.room as usize].next.load(Ordering::Relaxed) {
            return None;
        }
        let session = &self.sessions[session];
        let rooms = self.shared.plan.rooms_of(session.index);
        let place = if rooms.first() == Some(&stamp.room) { 0 } else { rooms.binary_search(&stamp.room).ok()? };
        Some(session.accounts + place)
    }

    /// A publish was answered.
    pub(super) fn on_reply(&mut self, session: usize, fields: &Fields<'_>, now: Moment) {
        let id = fields.id.and_then(|id| {
            let text = id.string().unwrap_or_else(|| id.0.into());
            std::str::from_utf8(&text).ok()?.parse().ok()
        });
        let Some(outstanding) = id.and_then(|id| self.sessions[session].answered(id)) else {
            self.counts[Count::Foreign] += 1;
            return;
        };
        self.last = now;
        let accepted = fields.successful.is_some_and(|successful| successful.is_true());
        if accepted {
            self.counts[Count::Replied] += 1;
            if outstanding.due >= self.measured_from.0 {
                self.latencies.reply.saturating_record(now.0.saturating_sub(outstanding.due).max(1));
            }
        } else {
            self.counts[Count::Refused] += 1;
            self.shared.rooms[outstanding.room as usize].refused.fetch_add(1, Ordering::Relaxed);
            let members = u64::from(self.shared.plan.rooms()[outstanding.room as usize].members);
            self.counts[Count::Owed] = self.counts[Count::Owed].saturating_sub(members);
            self.reasons.count(reason(fields));
        }
        if self.closed.is_used() && self.sessions[session].stage == Stage::Ready {
            self.on_answered(session, outstanding.slot, accepted, now);
        }
    }
}
