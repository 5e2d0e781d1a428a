//! Which shards want which publishes: a table that the engines of one process share, so that a publish goes only where
//! somebody may hear it.
//!
//! # Theory of operation
//!
//! A slot stands for all channels, exact and wild, whose names hash to it, and has a bit for each shard that wants one of
//! them. A shard sets and clears its own bits alone, from counts that nobody else sees; publishers look at one slot for
//! each id that matches. Two names in one slot have a publish sent in vain at worst, as all are without the table.
//!
//! A bit is set before the subscription's reply is made. Who publishes after having heard of that reply, on whatever way,
//! finds it set: there is no time in which a subscriber is confirmed and missed, as there would be if shards told each
//! other in messages.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bayeux_proto::{ChannelName, ChannelPattern};

use crate::id::{ShardId, text_hash};

/// A power of two. With 100,000 channels wanted by one shard each, of 32, one publish in 11 is sent in vain to each
/// other shard. Memory: 256 KiB for up to 64 shards, and 128 KiB in each of them as far as it is used.
const SLOTS: usize = 1 << 15;

/// What all shards of a server want, see [`Engine::share_interests`](crate::Engine::share_interests).
pub struct Interests {
    /// [`Self::words`] for each slot, a bit for each shard.
    bits: Box<[AtomicU64]>,
    words: usize,
    /// How many patterns are wanted, counted for each shard: where none is, a publish is looked up by its own name alone.
    patterns: AtomicUsize,
}

impl Interests {
    /// For a server of so many shards. None wants anything yet.
    pub fn new(shards: u16) -> Self {
        let words = usize::from(shards).div_ceil(64).max(1);
        Self { bits: (0..SLOTS * words).map(|_| AtomicU64::new(0)).collect(), words, patterns: AtomicUsize::new(0) }
    }

    fn slot(&self, slot: usize) -> &[AtomicU64] {
        self.bits.get(slot * self.words..).and_then(|bits| bits.get(..self.words)).unwrap_or_default()
    }

    fn set(&self, slot: usize, shard: ShardId, wanted: bool) {
        let Some(word) = self.slot(slot).get(usize::from(shard.0 / 64)) else { return };
        let bit = 1 << (shard.0 % 64);
        if wanted {
            word.fetch_or(bit, Ordering::Release);
        } else {
            word.fetch_and(!bit, Ordering::Release);
        }
    }

    /// Adds the shards that may want what is published on `name`, each once, in order.
    fn collect(&self, name: &ChannelName, shards: &mut Vec<ShardId>) {
        for word in 0..self.words {
            let of = |id: &str| self.slot(slot_of(id)).get(word).map_or(0, |bits| bits.load(Ordering::Acquire));
            let mut bits = of(name.as_str());
            if self.patterns.load(Ordering::Acquire) > 0 {
                let mut ids = name.as_pattern().ids();
                while let Some(id) = ids.next() {
                    bits |= of(id);
                }
            }
            while bits != 0 {
                // A word has 64 bits, and there are at most 21 words.
                shards.push(ShardId((word * 64) as u16 + bits.trailing_zeros() as u16));
                bits &= bits - 1;
            }
        }
    }
}

impl fmt::Debug for Interests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interests")
            .field("words", &self.words)
            .field("patterns", &self.patterns)
            .finish_non_exhaustive()
    }
}

/// One shard's part of it.
#[derive(Debug)]
pub(crate) struct Interest {
    shared: Arc<Interests>,
    shard: ShardId,
    /// How many channels of each slot this shard wants.
    counts: Box<[u32]>,
}

impl Interest {
    pub(crate) fn new(shared: Arc<Interests>, shard: ShardId) -> Self {
        Self { shared, shard, counts: vec![0; SLOTS].into_boxed_slice() }
    }

    /// A channel is wanted that was not.
    pub(crate) fn add(&mut self, channel: &ChannelPattern) {
        let slot = slot_of(channel.as_str());
        let Some(count) = self.counts.get_mut(slot) else { return };
        *count += 1;
        if channel.wildcard().is_some() {
            self.shared.patterns.fetch_add(1, Ordering::Release);
        }
        if *count == 1 {
            self.shared.set(slot, self.shard, true);
        }
    }

    /// A channel that was wanted is not any more.
    pub(crate) fn remove(&mut self, channel: &ChannelPattern) {
        let slot = slot_of(channel.as_str());
        let Some(count) = self.counts.get_mut(slot) else { return };
        *count -= 1;
        if *count == 0 {
            self.shared.set(slot, self.shard, false);
        }
        if channel.wildcard().is_some() {
            self.shared.patterns.fetch_sub(1, Ordering::Release);
        }
    }

    /// Adds the other shards that may want what is published on `name`.
    pub(crate) fn of_others(&self, name: &ChannelName, shards: &mut Vec<ShardId>) {
        self.shared.collect(name, shards);
        shards.retain(|shard| *shard != self.shard);
    }
}

fn slot_of(id: &str) -> usize {
    // The lowest bits: any number of them will do.
    text_hash(id) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

    use bayeux_proto::{ByteString, ChannelLimits};

    use super::*;

    fn pattern(text: &str) -> ChannelPattern {
        ChannelPattern::parse(&ByteString::from(text.to_owned()), &ChannelLimits::default()).unwrap()
    }

    fn wanting(interest: &Interest, channel: &str) -> Vec<u16> {
        let mut shards = Vec::new();
        interest.of_others(
            &ChannelName::parse(&ByteString::from(channel.to_owned()), &ChannelLimits::default()).unwrap(),
            &mut shards,
        );
        shards.into_iter().map(|shard| shard.0).collect()
    }

    #[test]
    fn shards_hear_of_each_other_by_name_and_pattern() {
        let shared = Arc::new(Interests::new(200));
        let mut shards = [0, 7, 64, 199].map(|index| Interest::new(Arc::clone(&shared), ShardId(index)));
        shards[1].add(&pattern("/a/b"));
        shards[2].add(&pattern("/a/b"));
        shards[3].add(&pattern("/other"));
        assert_eq!(wanting(&shards[0], "/a/b"), [7, 64]);
        assert_eq!(wanting(&shards[1], "/a/b"), [64], "not itself");
        assert_eq!(wanting(&shards[0], "/a/c"), [0; 0]);
        // an id of one segment below, and of any.
        shards[3].add(&pattern("/a/*"));
        shards[0].add(&pattern("/**"));
        assert_eq!(wanting(&shards[1], "/a/b"), [0, 64, 199]);
        assert_eq!(wanting(&shards[1], "/a/b/c"), [0]);
        shards[0].remove(&pattern("/**"));
        assert_eq!(wanting(&shards[1], "/a/b/c"), [0; 0]);
        assert_eq!(wanting(&shards[0], "/a/b"), [7, 64, 199]);
    }

    #[test]
    fn names_that_share_a_slot_are_counted() {
        let shared = Arc::new(Interests::new(2));
        let mut there = Interest::new(Arc::clone(&shared), ShardId(1));
        let here = Interest::new(shared, ShardId(0));
        let twin = (0..).map(|n| format!("/twin/{n}")).find(|twin| slot_of(twin) == slot_of("/a")).unwrap();
        there.add(&pattern("/a"));
        there.add(&pattern(&twin));
        there.remove(&pattern("/a"));
        assert_eq!(wanting(&here, &twin), [1]);
        assert_eq!(wanting(&here, "/a"), [1], "in vain, but not wrong");
        there.remove(&pattern(&twin));
        assert_eq!(wanting(&here, &twin), [0; 0]);
    }
}
