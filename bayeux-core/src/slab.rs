//! Slots with generations: a key of what is gone never answers for what took its place.

use std::fmt;
use std::marker::PhantomData;

/// Names a slot of a [`Slab`] of `T`, for as long as what was put there stays there.
pub(crate) struct Key<T> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

/// Values by [`Key`], in chunks: growing moves nothing and wastes at most one chunk.
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: Vec<u32>,
    len: usize,
}

/// Slots of a chunk: enough to make chunks rare, few enough to waste little in a small server.
const CHUNK: usize = 128;

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, value: T) -> Key<T> {
        self.len += 1;
        if let Some(index) = self.free.pop() {
            let slot = self.slot_mut(index).expect("a free slot is a slot");
            slot.value = Some(value);
            return Key { index, generation: slot.generation, of: PhantomData };
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let full = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("a chunk with room was just made sure of");
        let index = u32::try_from(full + chunk.len()).expect("limits keep a slab below 2^32 slots");
        chunk.push(Slot { generation: 0, value: Some(value) });
        Key { index, generation: 0, of: PhantomData }
    }

    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        let slot = self.chunks.get(key.index as usize / CHUNK)?.get(key.index as usize % CHUNK)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let slot = self.slot_mut(key.index)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        let slot = self.slot_mut(key.index)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        self.len -= 1;
        Some(value)
    }

    /// All values, in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().filter_map(|slot| slot.value.as_ref())
    }

    /// All keys in slot order: for what is done once in a server's life.
    pub(crate) fn keys(&self) -> Vec<Key<T>> {
        let slots = self.chunks.iter().flatten().enumerate();
        let occupied = slots.filter(|(_, slot)| slot.value.is_some());
        occupied.map(|(i, slot)| Key { index: i as u32, generation: slot.generation, of: PhantomData }).collect()
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)
    }
}

impl<T> Key<T> {
    /// The slot's number: small, and reused.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }

    /// How often the slot was used before.
    pub(crate) fn generation(self) -> u32 {
        self.generation
    }
}

// Derived implementations would ask the same of `T`.
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}

impl<T> Eq for Key<T> {}

impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.index, self.generation).cmp(&(other.index, other.generation))
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{}", self.index, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_a_reused_slot_stays_stale() {
        let mut slab = Slab::new();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b");
        assert_eq!(second.index(), first.index());
        assert_eq!((slab.get(first), slab.get(second), slab.len()), (None, Some(&"b"), 1));
        assert_eq!(slab.remove(first), None);
    }

    #[test]
    fn slots_of_many_chunks_keep_their_values() {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..CHUNK * 3 + 1).map(|n| slab.insert(n)).collect();
        assert!(keys.iter().enumerate().all(|(n, key)| slab.get(*key) == Some(&n)));
        assert_eq!(slab.keys(), keys);
    }
}
