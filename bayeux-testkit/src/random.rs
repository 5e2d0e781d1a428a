//! Pseudo-random numbers from a seed, and ids made of them.

use std::time::Duration;

use bayeux_core::IdSource;

/// A small pseudo-random generator (SplitMix64): the same seed gives the same numbers on every machine.
///
/// Not for secrets. Ours, because a dependency would be larger than the ten lines it replaces.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator that `seed` alone determines.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 where `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The bias of the remainder is of no account at the sizes that tests use.
        if bound == 0 { 0 } else { (self.next_u64() % bound as u64) as usize }
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.next_u64() % 100 < percent
    }

    /// A duration from zero to `longest`, both included.
    pub fn duration_up_to(&mut self, longest: Duration) -> Duration {
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(if nanos == 0 { 0 } else { self.next_u64() % nanos.saturating_add(1) })
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// Where `choices` is empty.
    pub fn choose<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        choices.get(self.below(choices.len())).expect("there is something to choose from")
    }
}

/// Ids from a seed. Each shard of a [`World`](crate::World) has its own.
#[derive(Debug, Clone)]
pub struct SeededIds(Random);

impl SeededIds {
    /// Ids that `seed` alone determines.
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }
}

impl IdSource for SeededIds {
    fn draw(&mut self) -> u128 {
        u128::from(self.0.next_u64()) << 64 | u128::from(self.0.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_draws_the_same_ids() {
        let (mut a, mut b) = (SeededIds::new(7), SeededIds::new(7));
        for _ in 0..10 {
            assert_eq!(a.draw(), b.draw());
        }
        assert_ne!(SeededIds::new(7).draw(), SeededIds::new(8).draw());
    }

    #[test]
    fn durations_stay_within_their_bound() {
        let mut random = Random::new(1);
        assert_eq!(random.duration_up_to(Duration::ZERO), Duration::ZERO);
        for _ in 0..100 {
            assert!(random.duration_up_to(Duration::from_millis(5)) <= Duration::from_millis(5));
        }
    }
}
