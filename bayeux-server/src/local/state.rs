//! What a local session remembers: who waits for a reply or a result, who listens, and which session it has.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bayeux_core::ClientId;
use bayeux_proto::{Batch, ByteString, ChannelName, Limits, Message, MessageId, Outgoing, decode, encode};
use tokio::sync::{mpsc, oneshot};

use crate::hooks::caught;
use crate::local::{LocalError, LocalExtension, LocalMessage};
use crate::policy::Boxed;

/// What all clones of a local session and its tasks share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) ids: AtomicU64,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) online: Option<Online>,
    /// Those who wait for the reply to their message.
    pub(super) replies: HashMap<ByteString, oneshot::Sender<Result<Message, LocalError>>>,
    /// Those who wait for the result of their call.
    pub(super) calls: HashMap<ByteString, oneshot::Sender<Message>>,
    pub(super) listeners: HashMap<ByteString, Vec<Heard>>,
    pub(super) extensions: Vec<Arc<dyn LocalExtension>>,
}

/// A session that was handshaken, and the way to its task.
pub(super) struct Online {
    pub(super) id: ClientId,
    pub(super) send: mpsc::Sender<Batch>,
}

/// A listener.
#[derive(Clone)]
pub(super) struct Heard {
    pub(super) id: u64,
    pub(super) listener: LocalListener,
    /// Whether it came with a subscription, which ends with the session.
    pub(super) subscribed: bool,
}

pub(super) type LocalListener = Arc<dyn Fn(LocalMessage) -> Boxed<'static, ()> + Send + Sync>;

/// Takes a call out of those that are waited for, however it ended.
pub(super) struct Forget<'a> {
    pub(super) shared: &'a Shared,
    pub(super) id: ByteString,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.calls.remove(&self.id);
        state.replies.remove(&self.id);
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_id(&self) -> ByteString {
        self.ids.fetch_add(1, Ordering::Relaxed).to_string().into()
    }

    pub(super) fn forget_listener(&self, channel: &str, id: u64) {
        let mut state = self.lock();
        if let Some(heard) = state.listeners.get_mut(channel) {
            heard.retain(|heard| heard.id != id);
            if heard.is_empty() {
                state.listeners.remove(channel);
            }
        }
    }

    /// Whether a listener came with a subscription to that channel.
    pub(super) fn is_subscribed(&self, channel: &str) -> bool {
        self.lock().listeners.get(channel).is_some_and(|heard| heard.iter().any(|heard| heard.subscribed))
    }

    /// The subscription that a listener waited for is there.
    pub(super) fn subscribed(&self, channel: &str, id: u64) {
        let mut state = self.lock();
        let heard = state.listeners.get_mut(channel).into_iter().flatten();
        heard.filter(|heard| heard.id == id).for_each(|heard| heard.subscribed = true);
    }

    /// The session is over: nobody who waits for it is answered any more. `which`: only where it is that one.
    pub(super) fn go_offline(&self, which: Option<&ClientId>) {
        let mut state = self.lock();
        if which.is_some() && state.online.as_ref().map(|online| &online.id) != which {
            return;
        }
        state.online = None;
        state.replies.clear();
        state.calls.clear();
        state.listeners.retain(|_, heard| {
            heard.retain(|heard| !heard.subscribed);
            !heard.is_empty()
        });
    }

    /// Hands a message to whoever waits for it. What is left is for listeners.
    pub(super) fn sort(&self, outgoing: Outgoing) -> Option<Message> {
        let reply = matches!(outgoing, Outgoing::Reply(_));
        let mut message = received(outgoing)?;
        let extensions = self.lock().extensions.clone();
        let sent = message.id.clone();
        if !extensions.iter().all(|extension| extension.incoming(&mut message)) {
            if let Some(MessageId::Text(id)) = sent.filter(|_| reply)
                && let Some(waiting) = self.lock().replies.remove(&id)
            {
                let _ = waiting.send(Err(LocalError::Deleted));
            }
            return None;
        }
        let mut state = self.lock();
        let id = match &message.id {
            Some(MessageId::Text(id)) => Some(id.clone()),
            Some(_) | None => None,
        };
        if !reply {
            // Listeners do not hear of the results of calls (rule R-7).
            if let Some(call) = id.and_then(|id| state.calls.remove(&id)) {
                let _ = call.send(message);
                return None;
            }
            return Some(message);
        }
        let is_meta = message.channel.as_deref().is_some_and(|channel| channel.starts_with("/meta/"));
        let waiting = id.and_then(|id| state.replies.remove(&id));
        drop(state);
        // Listeners hear of the server's answers on meta channels.
        let heard = is_meta.then(|| message.clone());
        if let Some(waiting) = waiting {
            let _ = waiting.send(Ok(message));
        }
        heard
    }

    /// Calls the listeners of a message, one after the other.
    pub(super) async fn hear(&self, message: Message) {
        let limits = bayeux_proto::ChannelLimits::default();
        let Some(channel) = message.channel.as_ref().and_then(|channel| ChannelName::parse(channel, &limits).ok())
        else {
            return;
        };
        let mut listeners = Vec::new();
        {
            let state = self.lock();
            let mut ids = channel.as_pattern().ids();
            while let Some(id) = ids.next() {
                listeners.extend(state.listeners.get(id).into_iter().flatten().map(|h| Arc::clone(&h.listener)));
            }
        }
        let message = Arc::new(message);
        for listener in listeners {
            let message = LocalMessage { channel: channel.clone(), message: Arc::clone(&message) };
            if caught(async { listener(message).await }).await.is_none() {
                tracing::error!(channel = channel.as_str(), "a listener of a local session panicked");
            }
        }
    }
}

/// A message as a client receives it.
pub(super) fn received(outgoing: Outgoing) -> Option<Message> {
    let text = match &outgoing {
        Outgoing::Event(event) => event.as_array().clone(),
        Outgoing::Reply(_) => encode(&[outgoing]),
    };
    // The server's own messages, of whatever depth and size its applications make them.
    let mut limits = Limits::default();
    (limits.bytes_max, limits.fields_max, limits.depth_max) = (usize::MAX, usize::MAX, DEPTH_MAX);
    match decode(text, &limits) {
        Ok(batch) => batch.messages.into_iter().next(),
        Err(error) => {
            tracing::error!(%error, "a message for a local session cannot be read");
            None
        }
    }
}

/// Deeper than what any application's data may be, and the message around it.
const DEPTH_MAX: usize = 600;
