//! What the threads of the generator have in common: the plan, the phase of the run, and counters.

use std::ops::{Index, IndexMut};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mio::Waker;

use super::clock::{Clock, Moment};
use super::plan::Plan;
use super::stamp::Stamps;
use super::target::Target;

/// What all do at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Sessions are made.
    Join,
    /// Messages are published.
    Publish {
        /// From then on.
        start: Moment,
        /// Until then.
        until: Moment,
        /// At most so many batches.
        batches: u64,
        /// It is what the run is for, not the warm-up.
        measured: bool,
    },
    /// No more is published; what is under way arrives.
    Drain,
    /// Sessions disconnect.
    Leave,
    /// Threads end.
    Stop,
}

/// Everything that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Sessions that take part.
    Ready,
    /// Sessions that could not be made.
    Failed,
    /// Sessions that the server ended.
    Ended,
    /// Sessions whose connection broke.
    Broken,
    /// Sessions that have disconnected.
    Left,
    /// Messages sent.
    Published,
    /// Messages that could not be sent, since the publisher's session is gone.
    Unsent,
    /// Publishes answered with success.
    Replied,
    /// Publishes answered otherwise.
    Refused,
    /// Deliveries that what was published and not refused makes due.
    Owed,
    /// Of those, the ones that came.
    Delivered,
    /// Deliveries that came before an earlier one of their publisher, by another connection of the session.
    Overtaken,
    /// The same by one connection.
    Reordered,
    /// Deliveries that came twice.
    Doubled,
    /// Deliveries to a session that did not subscribe, or of what nobody published.
    Stray,
    /// Messages that are not of this run.
    Foreign,
    /// Responses and frames with deliveries.
    Bodies,
    /// Connections that the server ended between two requests, and that were made again.
    Reopened,
    /// Bytes received, those of HTTP and WebSocket included, those of TLS not.
    BytesIn,
    /// Bytes sent.
    BytesOut,
}

impl Count {
    const LENGTH: usize = Self::BytesOut as usize + 1;
}

/// One of each count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts([u64; Count::LENGTH]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Count::LENGTH])
    }
}

impl Index<Count> for Counts {
    type Output = u64;

    fn index(&self, count: Count) -> &u64 {
        &self.0[count as usize]
    }
}

impl IndexMut<Count> for Counts {
    fn index_mut(&mut self, count: Count) -> &mut u64 {
        &mut self.0[count as usize]
    }
}

impl Counts {
    /// What was counted since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|index| self.0[index].wrapping_sub(earlier.0[index])))
    }
}

/// A room's numbers, across all threads.
#[derive(Debug, Default)]
pub(crate) struct RoomNumbers {
    /// The next message's; so, how many were published.
    pub(crate) next: AtomicU32,
    /// How many of them were refused.
    pub(crate) refused: AtomicU32,
}

/// One thread as the others see it.
#[derive(Debug)]
pub(crate) struct Post {
    counts: [AtomicU64; Count::LENGTH],
    /// When a delivery or a reply last came.
    last: AtomicU64,
    /// The last phase that the thread has entered.
    entered: AtomicU32,
    inbox: Mutex<Vec<u32>>,
    waker: Waker,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The workload.
    pub(crate) plan: Plan,
    /// The server.
    pub(crate) target: Target,
    /// Whether sessions ask for acknowledgement.
    pub(crate) ack: bool,
    /// The marks of messages.
    pub(crate) stamps: Stamps,
    /// The time.
    pub(crate) clock: Clock,
    /// Numbers of each room.
    pub(crate) rooms: Vec<RoomNumbers>,
    /// For each slot of each publisher's window, the threads whose sessions have not all got its message.
    pub(crate) waiting: Vec<AtomicU32>,
    /// Batches that a closed loop may still send.
    pub(crate) batches_left: AtomicI64,
    posts: Vec<Post>,
    phase: Mutex<Phase>,
    version: AtomicU32,
}

impl Shared {
    /// For one thread per waker, all in the phase [`Phase::Join`].
    pub(crate) fn new(plan: Plan, target: Target, ack: bool, run: u32, wakers: Vec<Waker>) -> Self {
        let slots = plan.slots() as usize * plan.publishers() as usize;
        Self {
            target,
            ack,
            stamps: Stamps::new(run),
            clock: Clock::start(),
            rooms: plan.rooms().iter().map(|_| RoomNumbers::default()).collect(),
            waiting: std::iter::repeat_with(AtomicU32::default).take(slots).collect(),
            batches_left: AtomicI64::new(0),
            posts: wakers.into_iter().map(Post::new).collect(),
            phase: Mutex::new(Phase::Join),
            version: AtomicU32::new(1),
            plan,
        }
    }

    /// The phase and its number.
    pub(crate) fn phase(&self) -> (u32, Phase) {
        let phase = lock(&self.phase);
        (self.version.load(Ordering::Relaxed), *phase)
    }

    /// The number of the phase, which is cheap to ask for.
    pub(crate) fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    /// Begins a phase, and wakes all threads for it.
    pub(crate) fn begin(&self, phase: Phase) {
        if let Phase::Publish { batches, .. } = phase {
            self.batches_left.store(i64::try_from(batches).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
        *lock(&self.phase) = phase;
        self.version.fetch_add(1, Ordering::Release);
        for post in &self.posts {
            post.wake();
        }
    }

    /// Whether all threads have entered the phase, so that their counts are of it.
    pub(crate) fn all_entered(&self) -> bool {
        let version = self.version();
        self.posts.iter().all(|post| post.entered.load(Ordering::Acquire) == version)
    }

    /// The sum of all threads' counts, and when the last delivery or reply came.
    pub(crate) fn counts(&self) -> (Counts, Moment) {
        let mut sum = Counts::default();
        for (index, total) in sum.0.iter_mut().enumerate() {
            *total = self.posts.iter().map(|post| post.counts[index].load(Ordering::Relaxed)).sum();
        }
        let last = self.posts.iter().map(|post| post.last.load(Ordering::Relaxed)).max();
        (sum, Moment(last.unwrap_or(0)))
    }

    /// A thread.
    pub(crate) fn post(&self, thread: u32) -> &Post {
        &self.posts[thread as usize]
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> u32 {
        self.posts.len() as u32
    }

    /// Takes a batch of those that a closed loop may send; whether there was one.
    pub(crate) fn take_batch(&self) -> bool {
        self.batches_left.fetch_sub(1, Ordering::Relaxed) > 0
    }
}

impl Post {
    fn new(waker: Waker) -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            last: AtomicU64::new(0),
            entered: AtomicU32::new(0),
            inbox: Mutex::default(),
            waker,
        }
    }

    /// Makes the thread's own counts visible.
    pub(crate) fn publish(&self, counts: &Counts, last: Moment, entered: u32) {
        for (shared, own) in self.counts.iter().zip(counts.0) {
            shared.store(own, Ordering::Relaxed);
        }
        self.last.store(last.0, Ordering::Relaxed);
        self.entered.store(entered, Ordering::Release);
    }

    /// Tells the thread that the message in a slot has reached every subscriber.
    pub(crate) fn delivered(&self, slot: u32) {
        let mut inbox = lock(&self.inbox);
        inbox.push(slot);
        if inbox.len() == 1 {
            drop(inbox);
            self.wake();
        }
    }

    /// Moves the slots that others have reported to `slots`.
    pub(crate) fn take_delivered(&self, slots: &mut Vec<u32>) {
        slots.append(&mut lock(&self.inbox));
    }

    fn wake(&self) {
        // Fails only where the thread's poll is gone, and then there is nobody to wake.
        let _ = self.waker.wake();
    }
}

/// A thread that panics ends the run anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
