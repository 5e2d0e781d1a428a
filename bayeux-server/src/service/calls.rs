//! Calls that run by themselves: how many, and for whom.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bayeux_core::ClientId;
use tokio::sync::watch;

/// All calls that run by themselves. They end with their sessions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    by_session: HashMap<ClientId, OfSession>,
    count: usize,
}

/// The calls of one session.
#[derive(Debug)]
struct OfSession {
    count: usize,
    /// Dropped when the session is gone.
    alive: watch::Sender<()>,
}

/// Calls of one session that may run.
const SESSION_MAX: usize = 64;

/// Calls of all sessions that may run.
const ALL_MAX: usize = 100_000;

/// The place of a call among those that run. Given back when it is dropped.
pub(crate) struct Slot {
    calls: Calls,
    session: ClientId,
    alive: watch::Receiver<()>,
}

impl Calls {
    /// A place for one more call, if it may run.
    pub(crate) fn begin(&self, session: &ClientId) -> Option<Slot> {
        let mut running = self.lock();
        if running.count >= ALL_MAX {
            return None;
        }
        let new = || OfSession { count: 0, alive: watch::Sender::new(()) };
        let own = running.by_session.entry(session.clone()).or_insert_with(new);
        if own.count >= SESSION_MAX {
            return None;
        }
        own.count += 1;
        let alive = own.alive.subscribe();
        running.count += 1;
        drop(running);
        Some(Slot { calls: self.clone(), session: session.clone(), alive })
    }

    /// A session is gone, and nobody waits for its calls any more.
    pub(crate) fn end(&self, session: &ClientId) {
        let mut running = self.lock();
        if let Some(own) = running.by_session.remove(session) {
            running.count -= own.count;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Waits until the session is gone.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut alive = self.alive.clone();
        async move { while alive.changed().await.is_ok() {} }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut running = self.calls.lock();
        let Some(own) = running.by_session.get_mut(&self.session) else { return };
        own.count -= 1;
        if own.count == 0 {
            running.by_session.remove(&self.session);
        }
        running.count -= 1;
    }
}
