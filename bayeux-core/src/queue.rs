//! The queue of one session: events that wait to be delivered.

use std::collections::VecDeque;
use std::collections::vec_deque;
use std::fmt;

use bayeux_proto::{ByteString, Frozen, Lazy};

use crate::config::Overflow;

/// Events that wait for one session, oldest first.
///
/// Every event has a number; `head` is that of the front. Replies over WebSocket remember a number instead of being
/// queued among the events, so that each leaves right after the events that were there before it (rule Q-20). What is
/// taken out of the middle moves the numbers of what is before it, never the next one's.
#[derive(Debug)]
pub(crate) struct Queue {
    events: VecDeque<Frozen>,
    head: u64,
    bytes: usize,
    /// How many of them are not lazy.
    urgent: u32,
    /// Whether it holds the latest event of each channel only, until it is empty again.
    conflating: bool,
}

/// How much a queue may hold, and what happens beyond that (rules Q-9, Z-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueLimits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) overflow: Overflow,
}

/// What became of an event that did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is queued, this many older ones are gone.
    Replaced(usize),
    /// It is not queued.
    Refused,
    /// It is not queued, and the session must go.
    Overflow,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { events: VecDeque::new(), head: FIRST_NUMBER, bytes: 0, urgent: 0, conflating: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an event is there that may not wait (rule K-12).
    pub(crate) fn has_urgent(&self) -> bool {
        self.urgent > 0
    }

    /// The number of the front event.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// The number that the next event will have.
    pub(crate) fn tail(&self) -> u64 {
        self.head + self.events.len() as u64
    }

    pub(crate) fn iter(&self) -> vec_deque::Iter<'_, Frozen> {
        self.events.iter()
    }

    /// Appends an event, whatever the limits.
    pub(crate) fn push_back(&mut self, event: Frozen) {
        self.count(&event);
        self.events.push_back(event);
    }

    /// Returns what was taken and not written.
    pub(crate) fn push_front(&mut self, event: Frozen) {
        self.count(&event);
        self.head = self.head.wrapping_sub(1);
        self.events.push_front(event);
    }

    pub(crate) fn pop_front(&mut self) -> Option<Frozen> {
        let event = self.events.pop_front()?;
        self.discount(&event);
        Some(event)
    }

    /// Size of the front event.
    pub(crate) fn front_size(&self) -> Option<usize> {
        self.events.front().map(Frozen::size)
    }

    /// How many events are on that channel. Linear.
    pub(crate) fn count_of(&self, channel: &str) -> usize {
        self.events.iter().filter(|event| event.channel() == channel).count()
    }

    /// Size of the oldest event on that channel. Linear.
    pub(crate) fn oldest_size_of(&self, channel: &str) -> Option<usize> {
        self.events.iter().find(|event| event.channel() == channel).map(Frozen::size)
    }

    /// Removes the oldest event on that channel; false where there is none. Linear.
    pub(crate) fn remove_oldest_of(&mut self, channel: &ByteString) -> bool {
        let oldest = self.events.iter().position(|event| event.channel() == channel);
        oldest.is_some_and(|at| self.remove(at).is_some())
    }

    /// Whether it is to hold the latest event of each channel only.
    pub(crate) fn is_conflating(&self) -> bool {
        self.conflating
    }

    /// From now on, until it is empty, it holds the latest event of each channel only, `channel` having one to come.
    /// Returns how many others were dropped. Linear.
    pub(crate) fn conflate(&mut self, channel: &ByteString) -> usize {
        let before = self.len();
        if self.conflating {
            self.remove_oldest_of(channel);
        } else {
            let mut view = QueueView::new(self);
            view.keep_latest(|event| Some(event.channel().clone()));
            view.retain(|event| event.channel() != channel);
        }
        self.conflating = true;
        before - self.len()
    }

    fn remove(&mut self, at: usize) -> Option<Frozen> {
        let event = self.events.remove(at)?;
        self.discount(&event);
        Some(event)
    }

    fn count(&mut self, event: &Frozen) {
        self.bytes += event.size();
        self.urgent += u32::from(event.lazy() == Lazy::No);
    }

    /// An event was taken out.
    fn discount(&mut self, event: &Frozen) {
        self.head = self.head.wrapping_add(1);
        self.bytes -= event.size();
        self.urgent -= u32::from(event.lazy() == Lazy::No);
        self.note_empty();
    }

    /// Where it is empty now, it begins anew.
    fn note_empty(&mut self) {
        if self.events.is_empty() {
            self.conflating = false;
            if self.events.capacity() > IDLE_CAPACITY {
                // A session that once had a burst should not hold its memory while idle.
                self.events.shrink_to(IDLE_CAPACITY);
            }
        }
    }
}

/// Slots that an empty queue may keep: 8 bytes each.
const IDLE_CAPACITY: usize = 16;

/// Numbers begin high enough that what is put back never wraps below zero.
const FIRST_NUMBER: u64 = 1 << 32;

/// A session's queue, as hooks see and edit it: what was not handed out yet, oldest first. They can only make it
/// shorter, or put others in the places of events.
pub struct QueueView<'a>(&'a mut Queue);

impl<'a> QueueView<'a> {
    pub(crate) fn new(queue: &'a mut Queue) -> Self {
        Self(queue)
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// The events, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Frozen> + ExactSizeIterator {
        self.0.iter()
    }

    /// Removes one event.
    pub fn remove(&mut self, index: usize) -> Option<Frozen> {
        self.0.remove(index)
    }

    /// Removes all events.
    pub fn clear(&mut self) {
        self.retain(|_| false);
    }

    /// Removes the events for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&Frozen) -> bool) {
        let events = std::mem::take(&mut self.0.events);
        let tail = self.0.head + events.len() as u64;
        (self.0.bytes, self.0.urgent) = (0, 0);
        for event in events {
            if keep(&event) {
                self.0.push_back(event);
            }
        }
        self.0.head = tail - self.0.len() as u64;
        self.0.note_empty();
    }

    /// Puts another event in the place of one; false where there is none.
    pub fn replace(&mut self, index: usize, event: Frozen) -> bool {
        let Some(slot) = self.0.events.get_mut(index) else { return false };
        let old = std::mem::replace(slot, event.clone());
        self.0.bytes -= old.size();
        self.0.urgent -= u32::from(old.lazy() == Lazy::No);
        self.0.count(&event);
        true
    }

    /// Keeps the newest event of each kind: events for which `key` is the same replace each other. `None`: the event
    /// is kept in any case. This is conflation: of prices, positions or presence only the last one matters.
    pub fn keep_latest<K: std::hash::Hash + Eq>(&mut self, mut key: impl FnMut(&Frozen) -> Option<K>) {
        let mut seen = std::collections::HashSet::new();
        let mut keep: Vec<bool> =
            self.iter().rev().map(|event| key(event).is_none_or(|key| seen.insert(key))).collect();
        self.retain(|_| keep.pop().unwrap_or(true));
    }
}

impl fmt::Debug for QueueView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueView").field("len", &self.len()).field("bytes", &self.bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bayeux_proto::{Event, RawJson};

    fn on(channel: &'static str, lazy: Lazy) -> Frozen {
        let mut event = Event::new(channel, RawJson::null());
        event.lazy = lazy;
        event.freeze()
    }

    fn channels(queue: &Queue) -> String {
        queue.iter().map(|event| event.channel().trim_start_matches('/')).collect()
    }

    fn filled(channels: &[&'static str]) -> Queue {
        let mut queue = Queue::new();
        for &channel in channels {
            queue.push_back(on(channel, Lazy::No));
        }
        queue
    }

    #[test]
    fn queue_counts_urgent_events_and_bytes() {
        let mut queue = Queue::new();
        queue.push_back(on("/a", Lazy::Yes));
        assert!(!queue.has_urgent(), "K-12");
        queue.push_back(on("/a", Lazy::No));
        assert!(queue.has_urgent());
        queue.pop_front();
        queue.pop_front();
        assert!(!queue.has_urgent() && queue.is_empty() && queue.bytes() == 0);
    }

    #[test]
    fn event_put_back_is_the_next_again() {
        let mut queue = filled(&["/a", "/b"]);
        let tail = queue.tail();
        let taken = queue.pop_front().unwrap();
        queue.push_front(taken.clone());
        assert_eq!((queue.tail(), queue.head()), (tail, FIRST_NUMBER));
        assert!(queue.pop_front().unwrap().is_same(&taken));
    }

    #[test]
    fn edits_leave_the_next_number_and_the_counts_right() {
        let mut queue = filled(&["/a", "/b", "/a", "/c", "/a"]);
        let tail = queue.tail();
        let bytes = queue.bytes() / 5;
        QueueView::new(&mut queue).keep_latest(|event| Some(event.channel().clone()));
        assert_eq!((channels(&queue).as_str(), queue.tail(), queue.bytes()), ("bca", tail, 3 * bytes));
        let mut view = QueueView::new(&mut queue);
        assert!(view.replace(0, on("/long", Lazy::Yes)) && !view.replace(3, on("/x", Lazy::No)));
        view.remove(1);
        assert_eq!((channels(&queue).as_str(), queue.tail(), queue.urgent), ("longa", tail, 1));
        assert!(queue.remove_oldest_of(&"/a".into()) && !queue.remove_oldest_of(&"/a".into()));
        assert!(!queue.has_urgent());
        QueueView::new(&mut queue).clear();
        assert_eq!((queue.len(), queue.bytes(), queue.tail()), (0, 0, tail));
    }
}
