//! State of the engine's extensions: acknowledgement, time, idleness (sections XA, XS, XT, XV).
//!
//! # Theory of operation
//!
//! With acknowledgement, events come with connect replies only (XA-2), so that their order is total. Every connect reply
//! closes a batch: what the queue holds is sent with it and kept, under the batch's number, until the client says in a
//! later connect that it has that batch (XA-3 to XA-7). Events of a batch that it does not have are sent again with the
//! next connect reply, before new ones (XA-5), and under that one's number too. A connect that leaves something
//! unacknowledged is answered at once (XA-8), so that a lost reply costs one round trip. A failed connect reply has a
//! number, but no events: no client takes notice of it (XA-6).
//!
//! A client takes a response as a whole or not at all. Over HTTP that is so anyway; over WebSocket a batch and its reply
//! are one frame, and so that no frame is too large for a client, a batch is what fits into [`WHOLE_BATCH`] bytes, or
//! one event. What does not fit comes with the next batch, for which the client asks at once.
//!
//! [`WHOLE_BATCH`]: bayeux_proto::WHOLE_BATCH

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bayeux_proto::{ByteString, Frozen, RawJson, TimesyncReply, TimesyncRequest};

use crate::config::TimestampFormat;
use crate::connection::ConnKey;
use crate::time::UnixTime;

/// Events of one session that were sent and not acknowledged yet.
#[derive(Debug)]
pub(crate) struct Unacknowledged {
    /// The open batch.
    batch: u64,
    sent: VecDeque<Sent>,
    bytes: usize,
    /// How many there were at their end that had no room in the last batch.
    put_off: usize,
    /// Where the last batch with events was sent.
    sent_on: Option<ConnKey>,
}

/// An event that was sent.
#[derive(Debug)]
struct Sent {
    event: Frozen,
    /// The batch that it was sent with, or is to be sent with again: with that one and all later ones.
    batch: u64,
    /// The batches that had it before it was put off. Boxed: it seldom is.
    before: Option<Box<Range<u64>>>,
}

impl Sent {
    /// Whether who has that batch has the event.
    fn is_in(&self, batch: u64) -> bool {
        batch >= self.batch || self.before.as_ref().is_some_and(|before| before.contains(&batch))
    }
}

impl Unacknowledged {
    /// Nothing sent yet (rule XA-3).
    pub(crate) fn new() -> Self {
        Self { batch: 1, sent: VecDeque::new(), bytes: 0, put_off: 0, sent_on: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// An event is sent with the batch that is open.
    pub(crate) fn push(&mut self, event: Frozen) {
        self.bytes += event.size();
        self.sent.push_back(Sent { event, batch: self.batch, before: None });
    }

    /// Drops the oldest.
    pub(crate) fn pop(&mut self) -> Option<Frozen> {
        let Sent { event, .. } = self.sent.pop_front()?;
        self.bytes -= event.size();
        Some(event)
    }

    /// The client has everything up to `batch` (rule XA-7). Numbers that were never given out are no proof of anything
    /// and count as the last that was. Returns that number, and whether anything was dropped for it.
    pub(crate) fn acknowledge(&mut self, batch: i64) -> Option<u64> {
        let batch = u64::try_from(batch).unwrap_or(0).min(self.batch - 1);
        let before = self.len();
        while self.sent.front().is_some_and(|sent| sent.is_in(batch)) {
            self.pop();
        }
        if self.sent.is_empty() && self.sent.capacity() > IDLE_CAPACITY {
            self.sent.shrink_to(IDLE_CAPACITY);
        }
        (self.len() < before).then_some(batch)
    }

    /// Everything sent, oldest first (rule XA-5).
    pub(crate) fn events(&self) -> impl Iterator<Item = Frozen> {
        self.sent.iter().map(|sent| sent.event.clone())
    }

    /// The first `count` are sent again with the open batch. The others, if there are any, are of the next one, so that
    /// nobody takes an acknowledgement of this one for theirs; one of a batch that had them still is.
    pub(crate) fn repeat(&mut self, count: usize) {
        self.put_off = self.len().saturating_sub(count);
        let open = self.batch;
        for sent in self.sent.iter_mut().skip(count) {
            let first = std::mem::replace(&mut sent.batch, open + 1);
            sent.before.get_or_insert_with(|| Box::new(first..open));
        }
    }

    /// Whether some were put off: the client does not even ask for them, because it knows nothing of them.
    pub(crate) fn has_put_off(&self) -> bool {
        self.put_off > 0 && self.len() > 0
    }

    /// The open batch is sent on that connection.
    pub(crate) fn note_sent_on(&mut self, conn: ConnKey) {
        self.sent_on = Some(conn);
    }

    /// Whether who receives anything on that WebSocket from now on has all that was sent, save what was put off.
    pub(crate) fn is_all_on(&self, conn: ConnKey) -> bool {
        self.sent.is_empty() || self.sent_on == Some(conn)
    }

    /// Those that were put off.
    pub(crate) fn put_off(&self) -> impl Iterator<Item = Frozen> {
        let others = self.len().saturating_sub(self.put_off);
        self.sent.iter().skip(others).map(|sent| sent.event.clone())
    }

    /// How many are of `batch` or earlier ones.
    pub(crate) fn count_up_to(&self, batch: u64) -> usize {
        self.sent.partition_point(|sent| sent.batch <= batch)
    }

    /// The number of the open batch.
    pub(crate) fn open_batch(&self) -> u64 {
        self.batch
    }

    /// Closes the open batch and returns its number (rule XA-4).
    pub(crate) fn close_batch(&mut self) -> u64 {
        let batch = self.batch;
        self.batch += 1;
        batch
    }
}

/// Slots that an empty list may keep.
const IDLE_CAPACITY: usize = 16;

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

/// The time as the `timestamp` of messages (section XS). Made once for all messages of one instant.
#[derive(Debug, Default)]
pub(crate) struct Timestamps {
    made: Option<(u64, RawJson)>,
}

impl Timestamps {
    /// The field for a message that leaves now, as (key, value).
    pub(crate) fn field(&mut self, now: UnixTime, format: TimestampFormat) -> (ByteString, RawJson) {
        // What a timestamp of that format cannot tell apart is one instant.
        let instant = match format {
            TimestampFormat::HttpDate => now.as_millis() / 1_000,
            TimestampFormat::Iso8601 => now.as_millis() / 10,
        };
        let text = match &self.made {
            Some((at, text)) if *at == instant => text.clone(),
            Some(_) | None => {
                let text = RawJson::from_text(&timestamp(now, format));
                self.made = Some((instant, text.clone()));
                text
            }
        };
        (TIMESTAMP, text)
    }
}

/// The key of a message's timestamp, as it is written.
pub(crate) const TIMESTAMP: ByteString = ByteString::from_static("\"timestamp\"");

/// A point in time in words, UTC.
fn timestamp(now: UnixTime, format: TimestampFormat) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let millis = now.as_millis();
    let (days, of_day) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    match format {
        TimestampFormat::HttpDate => {
            let (weekday, month) = (DAYS[(days % 7) as usize], MONTHS[(month - 1) as usize]);
            format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
        }
        TimestampFormat::Iso8601 => {
            let hundredths = of_day / 10 % 100;
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{hundredths:02}Z")
        }
    }
}

/// The year, month and day of a day since 1970-01-01, by counting in eras of 400 years that begin with March.
fn civil(days: u64) -> (u64, u64, u64) {
    // From 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Five months from March on have 153 days, and so have the next five.
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bayeux_proto::{Event, RawJson};

    fn event() -> Frozen {
        Event::new("/a", RawJson::null()).freeze()
    }

    /// XA-15: a lost batch stays until it is acknowledged, what comes later has a higher number.
    #[test]
    fn acknowledged_batches_are_dropped_and_later_ones_kept() {
        let mut sent = Unacknowledged::new();
        sent.push(event());
        assert_eq!(sent.close_batch(), 1);
        sent.push(event());
        assert_eq!(sent.acknowledge(0), None);
        assert_eq!(sent.len(), 2, "XA-7");
        assert_eq!(sent.acknowledge(1), Some(1));
        assert_eq!(sent.len(), 1);
    }

    /// Sent with batch 1, put off by 2, sent again with 3: who has 1 or 3 has it, who has only 2 has not.
    #[test]
    fn event_that_was_put_off_is_of_the_batches_that_had_it() {
        let lacking = |acknowledged| {
            let mut sent = Unacknowledged::new();
            sent.push(event());
            sent.push(event());
            sent.close_batch();
            sent.repeat(1);
            assert!(sent.has_put_off());
            sent.close_batch();
            sent.repeat(2);
            assert!(!sent.has_put_off());
            sent.close_batch();
            sent.acknowledge(acknowledged);
            sent.len()
        };
        assert_eq!([0, 1, 2, 3].map(lacking), [2, 0, 1, 0]);
    }

    /// A failed connect's reply has a number and no events (XA-6): they are put off still.
    #[test]
    fn failed_connect_does_not_end_the_putting_off() {
        let mut sent = Unacknowledged::new();
        sent.push(event());
        sent.push(event());
        sent.close_batch();
        sent.repeat(1);
        sent.close_batch();
        sent.close_batch();
        assert!(sent.has_put_off());
        sent.acknowledge(2);
        assert!(sent.has_put_off());
        sent.acknowledge(1);
        assert!(!sent.has_put_off(), "it has all of the first batch");
    }

    #[test]
    fn forged_acknowledgements_drop_nothing_that_was_not_sent() {
        let mut sent = Unacknowledged::new();
        sent.push(event());
        assert_eq!((sent.acknowledge(i64::MAX), sent.acknowledge(i64::MIN)), (None, None));
        assert_eq!(sent.len(), 1, "batch 1 was never closed");
    }

    /// XS-1; checked against `date -u`.
    #[test]
    fn timestamps_are_right_on_odd_days() {
        for (seconds, http, iso) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00.00Z"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT", "2000-02-28T23:59:59.00Z"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT", "2000-02-29T00:00:00.00Z"),
            (1_709_632_800, "Tue, 05 Mar 2024 10:00:00 GMT", "2024-03-05T10:00:00.00Z"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT", "2100-03-01T00:00:00.00Z"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT", "2026-12-31T23:59:59.00Z"),
        ] {
            let now = UnixTime::from_millis(seconds * 1_000);
            assert_eq!(timestamp(now, TimestampFormat::HttpDate), http);
            assert_eq!(timestamp(now, TimestampFormat::Iso8601), iso);
        }
        let mut stamps = Timestamps::default();
        let of = |stamps: &mut Timestamps, ms| {
            stamps.field(UnixTime::from_millis(ms), TimestampFormat::Iso8601).1.as_str().to_owned()
        };
        assert_eq!(of(&mut stamps, 1_239), r#""1970-01-01T00:00:01.23Z""#);
        assert_eq!(of(&mut stamps, 1_240), r#""1970-01-01T00:00:01.24Z""#);
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
