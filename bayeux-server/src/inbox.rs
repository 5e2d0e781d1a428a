//! Messages from other shards on their way into one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bayeux_core::{Forward, ShardId};
use tokio::sync::Notify;

/// Messages from other shards on their way into this one.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    items: Mutex<VecDeque<(ShardId, Forward)>>,
    length: AtomicUsize,
    room: Notify,
}

impl Inbox {
    /// Beyond this, work waits. What is under way already still comes in, so that it is no hard limit: each waiting
    /// connection may add what one envelope causes.
    const ROOM: usize = 4096;

    pub(crate) fn has_room(&self) -> bool {
        self.length.load(Ordering::Acquire) < Self::ROOM
    }

    pub(crate) async fn room(&self) {
        while !self.has_room() {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if !self.has_room() {
                room.await;
            }
        }
    }

    pub(crate) fn push(&self, from: ShardId, item: Forward) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.push_back((from, item));
        self.length.store(items.len(), Ordering::Release);
    }

    /// Up to `count` items, oldest first, and whether there are more.
    pub(crate) fn take(&self, count: usize) -> (Vec<(ShardId, Forward)>, bool) {
        if self.length.load(Ordering::Acquire) == 0 {
            return (Vec::new(), false);
        }
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let had_room = self.has_room();
        let count = count.min(items.len());
        let taken = items.drain(..count).collect();
        let more = !items.is_empty();
        self.length.store(items.len(), Ordering::Release);
        drop(items);
        if !had_room && self.has_room() {
            self.room.notify_waiters();
        }
        (taken, more)
    }
}
