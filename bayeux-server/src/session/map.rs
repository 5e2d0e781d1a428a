//! All sessions by id.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bayeux_core::ClientId;

use crate::session::Facts;

type Part = HashMap<ClientId, Arc<Facts>>;

/// All sessions by id: read by anyone, written only where one is added or removed.
#[derive(Debug)]
pub(crate) struct SessionMap {
    parts: Box<[RwLock<Part>]>,
    hasher: RandomState,
    count: AtomicUsize,
}

impl SessionMap {
    /// Enough that handshake storms of all cores seldom meet at one lock; more would only cost memory.
    const PARTS: usize = 64;

    pub(crate) fn new() -> Self {
        let parts = (0..Self::PARTS).map(|_| RwLock::default()).collect();
        Self { parts, hasher: RandomState::new(), count: AtomicUsize::new(0) }
    }

    pub(crate) fn insert(&self, facts: Arc<Facts>) {
        let mut part = self.part(facts.id.as_str()).write().unwrap_or_else(PoisonError::into_inner);
        if part.insert(facts.id.clone(), facts).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn remove(&self, id: &ClientId) {
        let removed = self.part(id.as_str()).write().unwrap_or_else(PoisonError::into_inner).remove(id);
        if removed.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Facts>> {
        self.part(id).read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// All of them, in no particular order.
    pub(crate) fn list(&self) -> Vec<Arc<Facts>> {
        let mut all = Vec::with_capacity(self.len());
        for part in &self.parts {
            all.extend(part.read().unwrap_or_else(PoisonError::into_inner).values().cloned());
        }
        all
    }

    fn part(&self, id: &str) -> &RwLock<Part> {
        let hash = self.hasher.hash_one(id) as usize;
        &self.parts[hash % Self::PARTS]
    }
}
