//! The services of the chat page, in the wire contract of CometD's chat example.
//!
//! - `/service/members` takes `{user, room}` and makes the sender's session a member of the room under that name; the
//!   names of all members are published on `/members/{room}`, now and whenever they change.
//! - `/service/privatechat` takes `{room, user, chat, peer}` and delivers `{user, chat, scope: "private", peer}` on
//!   `/chat/{room}` to the sessions of the members named in `peer` (separated by commas), and to the sender.
//!
//! Nobody else may publish on `/members/{room}`. `room` is `demo` or `/chat/demo`. A name is whatever a session chose
//! when it joined: the chat has no accounts, and several sessions may share one (a page that is loaded anew, two tabs).
//! What it does ensure: a private message bears the name that its sender joined with, whatever the message says.

mod rooms;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bayeux_server::{Incoming, Outcome, Server, ServerBuilder};
use tokio::sync::Notify;

use rooms::{Joined, Membership, PrivateChat, Refusal, Rooms};

/// The chat of one server. Clones are the same chat.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chat(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Locked for the time of one lookup or change, never across an await.
    rooms: Mutex<Rooms>,
    /// Some room's list changed.
    changed: Notify,
}

/// The pause between two rounds of publishing lists: when a crowd joins a room, each member gets the list a few times
/// instead of once per newcomer.
const PAUSE: Duration = Duration::from_millis(50);

impl Chat {
    /// Adds the services to a server.
    pub(crate) fn services(&self, server: ServerBuilder) -> ServerBuilder {
        let (members, private, removed, unsubscribed) = (self.clone(), self.clone(), self.clone(), self.clone());
        server
            .on_message("/service/members", move |message: Incoming| {
                let outcome = members.join(&message);
                std::future::ready(outcome)
            })
            .on_message("/service/privatechat", move |message: Incoming| {
                let outcome = private.tell(&message);
                std::future::ready(outcome)
            })
            // Lists come from the server alone: a client's would put words into its mouth.
            .on_message("/members/**", |message: Incoming| {
                let outcome = if message.session.is_some() { Outcome::Veto } else { Outcome::Continue };
                std::future::ready(outcome)
            })
            .on_session_removed(move |session, _| {
                removed.change(|rooms| rooms.leave_all(session.id().as_str()));
                std::future::ready(())
            })
            .on_unsubscribed(move |gone| {
                unsubscribed.change(|rooms| rooms.leave(gone.session.id().as_str(), gone.channel.as_str()));
                std::future::ready(())
            })
    }

    /// Publishes the lists that change, for ever. One task does it for all rooms, so that lists arrive in the order in
    /// which they were true.
    pub(crate) async fn run(self, server: Server) {
        loop {
            self.0.changed.notified().await;
            let lists = self.rooms().take_changed(|session| server.session(session).is_some());
            for list in lists {
                if let Err(error) = server.publish(&list.channel, &list.names).await {
                    tracing::warn!(%error, channel = list.channel, "cannot publish the members of a room");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn join(&self, message: &Incoming) -> Outcome {
        let Some(session) = &message.session else { return Outcome::Continue };
        let Ok(request) = message.data::<Membership>() else { return Outcome::Veto };
        let joined = self.rooms().join(session.id().as_str(), &request);
        match joined {
            Ok(Joined::Changed) => self.0.changed.notify_one(),
            Ok(Joined::Unchanged(list)) => {
                if let Err(error) = session.deliver(&list.channel, &list.names) {
                    tracing::warn!(%error, channel = list.channel, "cannot deliver the members of a room");
                }
            }
            Err(refusal) => return refused(message, refusal),
        }
        Outcome::Continue
    }

    fn tell(&self, message: &Incoming) -> Outcome {
        let Some(session) = &message.session else { return Outcome::Continue };
        let Ok(request) = message.data::<PrivateChat>() else { return Outcome::Veto };
        let private = self.rooms().private(session.id().as_str(), request);
        let private = match private {
            Ok(Some(private)) => private,
            Ok(None) => return Outcome::Continue,
            Err(refusal) => return refused(message, refusal),
        };
        let recipients = private.sessions.iter().filter_map(|id| message.server().session(id));
        for recipient in recipients {
            if let Err(error) = recipient.deliver(&private.channel, &private.data) {
                tracing::warn!(%error, channel = private.channel, "cannot deliver a private message");
            }
        }
        Outcome::Continue
    }

    fn change(&self, change: impl FnOnce(&mut Rooms) -> bool) {
        if change(&mut self.rooms()) {
            self.0.changed.notify_one();
        }
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        // Every change is complete before anything could panic.
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sender is told `404::message_deleted`; the log says why.
fn refused(message: &Incoming, refusal: Refusal) -> Outcome {
    let session = message.session.as_ref().map(|session| session.id().as_str());
    tracing::debug!(session, channel = message.channel.as_str(), %refusal, "chat request refused");
    Outcome::Veto
}
