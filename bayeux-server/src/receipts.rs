//! Answers to publishes and deliveries whose sender wants to know whether anybody gets them (rule A-12).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bayeux_core::{ClientId, Command, Receipt, ShardId};
use bayeux_proto::Event;
use tokio::sync::oneshot;

use crate::channel::Channel;
use crate::data::IntoData;
use crate::effects;
use crate::error::SendError;
use crate::server::Server;
use crate::session::Session;

/// Those who wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    waiting: Mutex<HashMap<Receipt, oneshot::Sender<bool>>>,
    count: AtomicU64,
}

impl Receipts {
    fn open(&self) -> (Receipt, oneshot::Receiver<bool>) {
        let receipt = Receipt(self.count.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        self.waiting().insert(receipt, answer);
        (receipt, answered)
    }

    /// The engine has answered. Whoever waited may be gone.
    pub(crate) fn close(&self, receipt: Receipt, queued: bool) {
        let waiting = self.waiting().remove(&receipt);
        if let Some(answer) = waiting {
            let _ = answer.send(queued);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Receipt, oneshot::Sender<bool>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// # Confirmed
impl Server {
    /// As [`Server::publish`]; yields whether the message was queued for at least one subscriber (rule A-12). Not in a
    /// hook, where it is carried out only after the hook's answer.
    ///
    /// # Errors
    /// As [`Server::publish`]; [`SendError::InHook`].
    pub async fn publish_confirmed(&self, channel: &str, data: impl IntoData) -> Result<bool, SendError> {
        let (channel, event) = self.event(channel, data)?;
        let shard = ShardId::home_of(channel.as_str(), self.config().shards);
        self.confirmed(shard, Command::Publish { channel, event, from: None, chain: 0 }).await
    }

    async fn deliver_confirmed(&self, to: ClientId, event: Event) -> Result<bool, SendError> {
        self.confirmed(to.shard(), Command::Deliver { to, event, from: None }).await
    }

    async fn confirmed(&self, shard: ShardId, command: Command) -> Result<bool, SendError> {
        if effects::in_hook() || effects::is_inside() {
            return Err(SendError::InHook);
        }
        self.room().await;
        let (receipt, answer) = self.receipts().open();
        self.command_now(shard, Command::Confirm { command: Box::new(command), receipt });
        // No answer: the server is gone.
        Ok(answer.await.unwrap_or(false))
    }
}

/// # Confirmed
impl Channel {
    /// As [`Channel::publish`]; yields whether the message was queued for at least one subscriber (rule A-12).
    ///
    /// # Errors
    /// As [`Channel::publish`]; [`SendError::InHook`].
    pub async fn publish_confirmed(&self, data: impl IntoData) -> Result<bool, SendError> {
        self.server().publish_confirmed(self.name(), data).await
    }
}

/// # Confirmed
impl Session {
    /// As [`Session::deliver`]; yields whether the message was queued: not for a session that is gone, and not where an
    /// extension, a listener or a full queue dropped it (rule A-12).
    ///
    /// # Errors
    /// As [`Session::deliver`]; [`SendError::InHook`].
    pub async fn deliver_confirmed(&self, channel: &str, data: impl IntoData) -> Result<bool, SendError> {
        let (_, event) = self.server().event(channel, data)?;
        self.server().deliver_confirmed(self.id().clone(), event).await
    }
}
