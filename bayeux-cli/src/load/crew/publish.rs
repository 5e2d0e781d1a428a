//! The sending side: batches, and the closed loop that sends the next when one has arrived.

use std::sync::atomic::Ordering;

use super::{Crew, recordable};
use crate::load::clock::Moment;
use crate::load::ledger::Way;
use crate::load::plan::Plan;
use crate::load::session::{Outstanding, Session, Stage};
use crate::load::shared::Count;
use crate::load::stamp::Stamp;

/// The state of a closed loop: what each batch under way still waits for.
///
/// A publisher's window has a slot for each message under way, and as many for each batch as it has messages. A message
/// has arrived when every thread has counted as many deliveries as it has members of the room.
#[derive(Debug)]
pub(super) struct ClosedLoop {
    /// Batches are sent until then.
    until: Moment,
    batch_size: u32,
    window: u32,
    /// For each slot of each publisher of the run, the deliveries that this thread has counted.
    counted: Vec<u32>,
    /// For each batch of each session of this thread, the replies and arrivals that are missing.
    missing: Vec<u32>,
}

impl ClosedLoop {
    pub(super) fn new(plan: &Plan, sessions: usize) -> Self {
        let window = plan.window();
        Self {
            until: Moment(0),
            batch_size: plan.shape().batch_size,
            window,
            counted: vec![0; plan.slots() as usize * plan.publishers() as usize],
            missing: vec![0; sessions * window as usize],
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.window > 0
    }

    /// Slots of a publisher.
    fn slots(&self) -> u32 {
        self.window * self.batch_size
    }
}

impl Crew {
    /// Forgets what the last closed loop left unfinished.
    pub(crate) fn reset_closed_loop(&mut self) {
        self.closed.counted.fill(0);
        self.closed.missing.fill(0);
    }

    /// Fills the windows of all publishers of this crew, and keeps them full until `until`.
    pub(crate) fn start_closed_loop(&mut self, now: Moment, until: Moment) {
        self.closed.until = until;
        for session in 0..self.sessions.len() {
            if self.sessions[session].index < self.shared.plan.publishers() {
                for batch in 0..self.closed.window {
                    self.next_batch(session, batch, now);
                }
            }
        }
    }

    /// Sends nothing more.
    pub(crate) fn stop_closed_loop(&mut self) {
        self.closed.until = Moment(0);
    }

    /// Sends a batch that is due at `due`, in slots from `first_slot` on.
    pub(crate) fn publish(&mut self, session: usize, first_slot: u32, due: Moment, now: Moment) {
        let batch_size = self.closed.batch_size;
        if self.sessions[session].stage != Stage::Ready {
            self.counts[Count::Unsent] += u64::from(batch_size);
            return;
        }
        if due >= self.measured_from {
            self.latencies.lateness.saturating_record(recordable(now.elapsed_since(due)));
        }
        for slot in first_slot..first_slot + batch_size {
            // Slots are of a closed loop; a schedule has none.
            let slot = if self.closed.is_used() { slot } else { 0 };
            self.publish_one(session, slot, due, now);
        }
        let way = self.way(Way::Requests);
        self.send(session, way);
    }

    fn publish_one(&mut self, session: usize, slot: u32, due: Moment, now: Moment) {
        let way = self.way(Way::Requests);
        let Session { index: publisher, client_id, lanes, outstanding, next_id, published, .. } =
            &mut self.sessions[session];
        let room = self.shared.plan.room(*publisher, *published);
        *published += 1;
        let number = self.shared.rooms[room as usize].next.fetch_add(1, Ordering::Relaxed);
        let id = *next_id;
        *next_id = next_id.wrapping_add(1);
        outstanding.push_back(Outstanding { id, room, slot, due: due.0 });
        let stamp = Stamp { room, number, publisher: *publisher, slot, due };
        let target = &self.shared.plan.rooms()[room as usize];
        let publisher = *publisher;
        self.template.write(id, client_id, &target.quoted, &stamp, lanes[way as usize].message());
        self.counts[Count::Published] += 1;
        self.counts[Count::Owed] += u64::from(target.members);
        if self.closed.is_used() {
            let threads = target.threads;
            let index = publisher * self.closed.slots() + slot;
            self.shared.waiting[index as usize].store(threads, Ordering::Release);
            if threads == 0 {
                self.on_delivered(index, now);
            }
        }
    }

    /// Sends the next batch of a closed loop in the place `batch` of the window, if there is to be one.
    fn next_batch(&mut self, session: usize, batch: u32, now: Moment) {
        if now < self.closed.until && self.shared.take_batch() {
            let place = session * self.closed.window as usize + batch as usize;
            self.closed.missing[place] = 2 * self.closed.batch_size;
            self.publish(session, batch * self.closed.batch_size, now, now);
        }
    }

    /// One of this crew's sessions got a message.
    pub(super) fn on_delivered_here(&mut self, stamp: &Stamp, now: Moment) {
        let index = stamp.publisher.saturating_mul(self.closed.slots()).saturating_add(stamp.slot);
        let Some(counted) = self.closed.counted.get_mut(index as usize) else { return };
        *counted += 1;
        if *counted < self.members[stamp.room as usize] {
            return;
        }
        *counted = 0;
        if self.shared.waiting[index as usize].fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let thread = self.shared.plan.thread_of(stamp.publisher);
        if thread == self.thread {
            self.on_delivered(index, now);
        } else {
            self.shared.post(thread).delivered(index);
        }
    }

    /// A message of one of this crew's publishers has reached every subscriber.
    pub(crate) fn on_delivered(&mut self, index: u32, now: Moment) {
        let slots = self.closed.slots();
        let publisher = index / slots;
        // Sessions go round the threads.
        let session = self.sessions.binary_search_by_key(&publisher, |session| session.index);
        if let Ok(session) = session {
            self.on_part(session, index % slots, now);
        }
    }

    /// A message of a closed loop was answered; one that was refused does not arrive either.
    pub(super) fn on_answered(&mut self, session: usize, slot: u32, accepted: bool, now: Moment) {
        self.on_part(session, slot, now);
        if !accepted {
            self.on_part(session, slot, now);
        }
    }

    fn on_part(&mut self, session: usize, slot: u32, now: Moment) {
        let batch = slot / self.closed.batch_size;
        let missing = &mut self.closed.missing[session * self.closed.window as usize + batch as usize];
        match *missing {
            // Left over from the phase before.
            0 => {}
            1 => {
                *missing = 0;
                self.next_batch(session, batch, now);
            }
            _ => *missing -= 1,
        }
    }
}
