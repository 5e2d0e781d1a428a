//! What engines tell observers: the map of sessions, the log, and the application's listeners.

use std::sync::Arc;

use bayeux_core::{Cause, Notice, Output, RemovalReason};
use bayeux_proto::ChannelPattern;

use crate::hooks::{self, Table};
use crate::message::Subscribed;
use crate::server::Server;
use crate::session::{Acknowledgement, Facts, HeartBeat, QueueOverflow, Session};
use crate::shard::State;

/// A session that was removed, and what it was subscribed to, as far as that was told.
pub(crate) struct Leaving {
    facts: Arc<Facts>,
    reason: RemovalReason,
    channels: Vec<ChannelPattern>,
}

impl State {
    /// Takes note of what happened.
    pub(crate) fn note(&mut self, server: &Server, notice: Notice) {
        match notice {
            Notice::SessionAdded { session, conn, transport } => {
                tracing::debug!(conn = conn.0, %session, transport = transport.as_str(), "session added");
                let facts = self.newcomers.remove(&session).unwrap_or_else(|| {
                    let user_agent = self.origin(conn).and_then(|origin| origin.user_agent.clone());
                    Arc::new(Facts::new(session, transport, user_agent))
                });
                server.sessions_by_id().insert(facts);
            }
            Notice::SessionRemoved { session, reason } => {
                tracing::debug!(%session, reason = reason.as_str(), "session removed");
                server.calls().end(&session);
                let facts = server.sessions_by_id().get(session.as_str());
                self.leaving = facts.map(|facts| Leaving { facts, reason, channels: Vec::new() });
            }
            Notice::Unsubscribed { channel, cause: Cause::Removal, .. } => {
                if let Some(leaving) = &mut self.leaving {
                    leaving.channels.push(channel);
                }
            }
            Notice::Subscribed { session, channel, cause: Cause::Application } => {
                tell_subscribed(server, session.as_str(), channel, true);
            }
            Notice::Unsubscribed { session, channel, cause: Cause::Application } => {
                tell_subscribed(server, session.as_str(), channel, false);
            }
            // Listeners were asked about them.
            Notice::Subscribed { .. } | Notice::Unsubscribed { .. } => {}
            Notice::ChannelAdded { channel } => {
                let table = server.registry().table();
                let channel = server.handle_of(channel);
                for listener in &table.channel_added {
                    hooks::quietly("a listener of channels", || (listener.hook)(&channel));
                }
            }
            Notice::ChannelRemoved { channel } => {
                server.registry().forget_channel(channel.as_str());
                for listener in &server.registry().table().channel_removed {
                    hooks::quietly("a listener of channels", || (listener.hook)(&channel));
                }
            }
            Notice::Suspended { session, timeout } => {
                heartbeat(server, session.as_str(), HeartBeat::Suspended { timeout });
            }
            Notice::Resumed { session, timed_out } => {
                heartbeat(server, session.as_str(), HeartBeat::Resumed { timed_out });
            }
            Notice::Overflowed { session, channel, policy, messages } => {
                let now = server.inner().clock.now();
                if let Some(others) = self.full_queues.note(now) {
                    let policy = policy.as_str();
                    tracing::warn!(%session, %channel, policy, messages, others, "the session's queue is full");
                }
                let table = server.registry().table();
                if table.overflow.is_empty() {
                    return;
                }
                let Some(session) = server.session(session.as_str()) else { return };
                let overflow = QueueOverflow { session, channel, policy, messages };
                for listener in &table.overflow {
                    hooks::quietly("a listener of full queues", || (listener.hook)(&overflow));
                }
            }
            Notice::BatchSent { session, batch, messages } => {
                acknowledgement(server, session.as_str(), Acknowledgement::Sent { batch, messages });
            }
            Notice::BatchAcknowledged { session, batch } => {
                acknowledgement(server, session.as_str(), Acknowledgement::Received { batch });
            }
            Notice::Confirmed { receipt, queued } => server.receipts().close(receipt, queued),
            Notice::DecisionExpired { id } => {
                tracing::warn!(?id, "a hook did not answer in time; its message is denied");
            }
            _ => {}
        }
    }

    /// All notices about a removed session were taken, unless `next` is one more.
    pub(crate) fn finish_leaving(&mut self, server: &Server, next: Option<&Output>) {
        if let Some(Output::Notice(notice)) = next
            && matches!(**notice, Notice::Unsubscribed { cause: Cause::Removal, .. })
        {
            return;
        }
        if let Some(leaving) = self.leaving.take() {
            leaving.tell(server);
        }
    }
}

impl Leaving {
    /// Tells listeners: the server's, those of its subscriptions, the session's own (rules A-24, L-31). They see it
    /// before the session's id stops resolving.
    fn tell(self, server: &Server) {
        let table = server.registry().table();
        let session = Session::new(Arc::clone(&self.facts), server.clone());
        let own = session.hooks();
        let nobody = table.session_removed.is_empty()
            && own.removed.is_empty()
            && (self.channels.is_empty() || own.unsubscribed.is_empty() && !listens_to_unsubscribes(&table));
        if nobody {
            server.sessions_by_id().remove(&self.facts.id);
            return;
        }
        let server = server.clone();
        let runtime = server.inner().runtime.clone();
        runtime.spawn(async move {
            let told = async {
                hooks::notify(&table.session_removed, (session.clone(), self.reason)).await;
                for channel in self.channels {
                    let gone = Subscribed { session: session.clone(), channel, message: None, context: None };
                    tell_of(&table, &session, gone, false).await;
                }
                hooks::notify(&own.removed, (session.clone(), self.reason)).await;
            };
            if tokio::time::timeout(server.config().decision_timeout, told).await.is_err() {
                tracing::warn!(session = %self.facts.id, "listeners of a session's removal took too long");
            }
            server.sessions_by_id().remove(&self.facts.id);
        });
    }
}

fn listens_to_unsubscribes(table: &Table) -> bool {
    !table.unsubscribed.is_empty() || table.channels.values().any(|hooks| !hooks.unsubscribed.is_empty())
}

/// The application subscribed a session, or took that back.
fn tell_subscribed(server: &Server, session: &str, channel: ChannelPattern, begins: bool) {
    let Some(session) = server.session(session) else { return };
    let table = server.registry().table();
    let event = Subscribed { session: session.clone(), channel, message: None, context: None };
    let limit = server.config().decision_timeout;
    server.inner().runtime.spawn(async move {
        if tokio::time::timeout(limit, tell_of(&table, &session, event, begins)).await.is_err() {
            tracing::warn!(session = %session.id(), "listeners of subscriptions took too long");
        }
    });
}

/// Channel-level listeners first, then the server's, then the session's own (rule A-24).
async fn tell_of(table: &Table, session: &Session, event: Subscribed, begins: bool) {
    let own = session.hooks();
    let channel = table.channels.get(event.channel.as_str());
    let places = if begins {
        [channel.map(|hooks| &hooks.subscribed), Some(&table.subscribed), Some(&own.subscribed)]
    } else {
        [channel.map(|hooks| &hooks.unsubscribed), Some(&table.unsubscribed), Some(&own.unsubscribed)]
    };
    for listeners in places.into_iter().flatten() {
        hooks::notify(listeners, event.clone()).await;
    }
}

fn acknowledgement(server: &Server, session: &str, news: Acknowledgement) {
    let Some(session) = server.session(session).filter(Session::has_hooks) else { return };
    for listener in &session.hooks().batches {
        hooks::quietly("a listener of acknowledgements", || (listener.hook)(&news));
    }
}

fn heartbeat(server: &Server, session: &str, beat: HeartBeat) {
    let Some(session) = server.session(session).filter(Session::has_hooks) else { return };
    for listener in &session.hooks().heartbeats {
        hooks::quietly("a heart-beat listener", || (listener.hook)(&beat));
    }
}
