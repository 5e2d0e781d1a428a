//! State of the engine's extensions: acknowledgement and time synchronisation (sections XA, XT).
//!
//! # Theory of operation
//!
//! With acknowledgement a session keeps every event, tagged with the number of the batch that is open when it is
//! queued, until the client says that it has that batch. Its queue holds, of those, what was never handed out. A connect
//! reply closes the open batch and brings along everything kept: what the client has not acknowledged comes again,
//! first (XA-4, XA-5). A connect that acknowledges less than was handed out is answered at once (XA-8), so that a lost
//! reply costs one round trip. Events come with connects only (XA-2), so that their order is total.

use std::collections::VecDeque;
use std::time::Duration;

use bayeux_proto::{Frozen, TimesyncReply, TimesyncRequest};

use crate::config::TransportOptions;
use crate::time::UnixTime;

/// Events of one session that were not acknowledged yet.
#[derive(Debug)]
pub(crate) struct Unacknowledged {
    /// The open batch: the tag of the next event.
    batch: u64,
    events: VecDeque<(u64, Frozen)>,
    bytes: usize,
}

impl Unacknowledged {
    /// Nothing sent yet (rule XA-3).
    pub(crate) fn new() -> Self {
        Self { batch: 1, events: VecDeque::new(), bytes: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether another event fits: what is kept counts in the limits of the queue.
    pub(crate) fn has_room(&self, event: &Frozen, options: &TransportOptions) -> bool {
        self.events.len() < options.max_queue && self.bytes.saturating_add(event.size()) <= options.max_queue_bytes
    }

    pub(crate) fn push(&mut self, event: Frozen) {
        self.bytes += event.size();
        self.events.push_back((self.batch, event));
    }

    /// Drops the oldest.
    pub(crate) fn pop(&mut self) -> Option<Frozen> {
        let (_, event) = self.events.pop_front()?;
        self.bytes -= event.size();
        Some(event)
    }

    /// The client has everything up to `batch` (rule XA-7). Numbers that were never given out are no proof of anything
    /// and count as the last that was.
    pub(crate) fn acknowledge(&mut self, batch: i64) {
        let batch = u64::try_from(batch).unwrap_or(0).min(self.batch - 1);
        while self.events.front().is_some_and(|(tag, _)| *tag <= batch) {
            self.pop();
        }
    }

    /// Everything kept, oldest first (rule XA-5).
    pub(crate) fn events(&self) -> impl Iterator<Item = Frozen> {
        self.events.iter().map(|(_, event)| event.clone())
    }

    /// Closes the open batch and returns its number (rule XA-4).
    pub(crate) fn close_batch(&mut self) -> u64 {
        let batch = self.batch;
        self.batch += 1;
        batch
    }
}

/// The answer to a request for the time that came at `now`, unless the client knows it well enough (rule XT-3). How long
/// it took is known later only.
pub(crate) fn timesync(request: TimesyncRequest, now: UnixTime, accuracy: Duration) -> Option<TimesyncReply> {
    let ts = now.as_millis();
    let reply = |a| TimesyncReply { tc: request.tc, ts, p: 0, a };
    let Some(lag) = request.lag else { return Some(reply(None)) };
    let server = i64::try_from(ts).unwrap_or(i64::MAX);
    let a = request.tc.saturating_add(request.offset).saturating_add(lag).saturating_sub(server);
    let off = u128::from(a.unsigned_abs()) >= accuracy.as_millis();
    (lag == 0 || off).then(|| reply(Some(a)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bayeux_proto::{Event, RawJson};

    fn event() -> Frozen {
        Event::new("/a", RawJson::null()).freeze()
    }

    /// XA-15: a lost batch stays until it is acknowledged, what came later has a higher tag.
    #[test]
    fn acknowledged_batches_are_dropped_and_later_ones_kept() {
        let mut kept = Unacknowledged::new();
        kept.push(event());
        assert_eq!(kept.close_batch(), 1);
        kept.push(event());
        kept.acknowledge(0);
        assert_eq!(kept.len(), 2, "XA-7");
        kept.acknowledge(1);
        assert_eq!(kept.len(), 1);
    }

    #[test]
    fn forged_acknowledgements_drop_nothing_that_was_not_sent() {
        let mut kept = Unacknowledged::new();
        kept.push(event());
        kept.acknowledge(i64::MAX);
        kept.acknowledge(i64::MIN);
        assert_eq!(kept.len(), 1, "batch 1 was never closed");
    }

    /// XT-3: always answered without an estimate, with one only where it is off.
    #[test]
    fn time_is_told_to_those_who_do_not_know_it() {
        let now = UnixTime::from_millis(1_000);
        let ask = |lag, offset| timesync(TimesyncRequest { tc: 900, lag, offset }, now, Duration::from_millis(25));
        assert_eq!(ask(None, 0).map(|reply| reply.a), Some(None));
        assert_eq!(ask(Some(0), 100).map(|reply| reply.a), Some(Some(0)), "the first estimate");
        assert_eq!(ask(Some(10), 90), None, "good enough");
        assert_eq!(ask(Some(10), 65).map(|reply| reply.a), Some(Some(-25)));
        assert!(
            timesync(TimesyncRequest { tc: i64::MAX, lag: Some(i64::MAX), offset: i64::MAX }, now, Duration::ZERO)
                .is_some()
        );
    }
}
