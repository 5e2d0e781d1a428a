//! Sessions as the application sees them.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bayeux_core::{ClientId, Command, ShardId, Transport};
use bayeux_proto::{ChannelName, Event};

use crate::data::IntoData;
use crate::error::SendError;
use crate::server::Server;

/// A session: one client that handshook and was not removed since. Cheap to clone; what is done to a removed session
/// does nothing.
#[derive(Clone)]
pub struct Session {
    facts: Arc<Facts>,
    server: Server,
}

#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) id: ClientId,
    pub(crate) transport: Transport,
}

impl Session {
    pub(crate) fn new(facts: Arc<Facts>, server: Server) -> Self {
        Self { facts, server }
    }

    /// The session's `clientId`.
    pub fn id(&self) -> &ClientId {
        &self.facts.id
    }

    /// The transport that its handshake came over.
    pub fn transport(&self) -> Transport {
        self.facts.transport
    }

    /// The server that it is a session of.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Whether the session is there still.
    pub fn is_alive(&self) -> bool {
        self.server.session(self.id().as_str()).is_some()
    }

    /// Delivers a message to this session alone, whatever it is subscribed to (rule A-11).
    ///
    /// Called in a hook, it is carried out together with the hook's verdict.
    ///
    /// # Errors
    /// [`SendError`] where `channel` is no channel name or `data` does not serialise.
    pub fn deliver(&self, channel: &str, data: impl IntoData) -> Result<(), SendError> {
        let channel = self.server.channel_name(channel)?;
        self.deliver_event(Event::new(channel.text().clone(), data.into_data()?));
        Ok(())
    }

    /// Delivers an event to this session alone. Its `id` is kept (rule M-13).
    pub fn deliver_event(&self, event: Event) {
        self.server.command(self.shard(), Command::Deliver { to: self.id().clone(), event, from: None });
    }

    /// Publishes as this session: listeners see it as the sender, and whether it receives the message itself depends
    /// on `broadcastToPublisher` (rules ). Waits while the links between shards are full.
    ///
    /// # Errors
    /// [`SendError`] where `channel` is no channel name or `data` does not serialise.
    pub async fn publish(&self, channel: &str, data: impl IntoData) -> Result<(), SendError> {
        let (channel, event) = self.server.event(channel, data)?;
        self.server.publish_event(channel, event, Some(self.id().clone())).await;
        Ok(())
    }

    /// Disconnects it with notice: queued messages are sent, then a disconnect message (rule D-10).
    pub fn disconnect(&self) {
        self.server.command(self.shard(), Command::Disconnect { session: self.id().clone() });
    }

    pub(crate) fn shard(&self) -> ShardId {
        self.id().shard()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", self.id()).field("transport", &self.transport()).finish_non_exhaustive()
    }
}

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

    pub(crate) fn insert(&self, id: ClientId, transport: Transport) {
        let facts = Arc::new(Facts { id: id.clone(), transport });
        let old = self.part(id.as_str()).write().unwrap_or_else(PoisonError::into_inner).insert(id, facts);
        if old.is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn remove(&self, id: &ClientId) {
        if self.part(id.as_str()).write().unwrap_or_else(PoisonError::into_inner).remove(id).is_some() {
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

impl Server {
    pub(crate) fn event(&self, channel: &str, data: impl IntoData) -> Result<(ChannelName, Event), SendError> {
        let channel = self.channel_name(channel)?;
        let event = Event::new(channel.text().clone(), data.into_data()?);
        Ok((channel, event))
    }
}
