//! Deadlines in order, cancelled by key.

use std::collections::BTreeMap;

use crate::time::Time;

/// A deadline's name. Deadlines of the same time come in the order in which they were set.
pub(crate) type TimerKey = (Time, u64);

/// Deadlines and what is due at them.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    entries: BTreeMap<TimerKey, T>,
    sequence: u64,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        Self { entries: BTreeMap::new(), sequence: 0 }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        self.entries.first_key_value().map(|(key, _)| key.0)
    }

    pub(crate) fn set(&mut self, at: Time, due: T) -> TimerKey {
        self.sequence += 1;
        let key = (at, self.sequence);
        self.entries.insert(key, due);
        key
    }

    pub(crate) fn cancel(&mut self, key: TimerKey) {
        self.entries.remove(&key);
    }

    /// Takes the earliest deadline that is not after `now`.
    pub(crate) fn pop(&mut self, now: Time) -> Option<T> {
        let entry = self.entries.first_entry()?;
        if entry.key().0 > now { None } else { Some(entry.remove()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_deadlines_come_in_the_order_they_were_set() {
        let mut timers = Timers::new();
        let at = Time::from_nanos;
        timers.set(at(2), "c");
        timers.set(at(1), "a");
        let gone = timers.set(at(1), "gone");
        timers.set(at(1), "b");
        timers.cancel(gone);
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop(at(0)), None);
        assert_eq!(
            [timers.pop(at(2)), timers.pop(at(2)), timers.pop(at(2)), timers.pop(at(2))],
            [Some("a"), Some("b"), Some("c"), None]
        );
    }
}
