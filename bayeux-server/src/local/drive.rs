//! The tasks of a local session, from its handshake to its end.

use std::sync::Arc;

use bayeux_core::ClientId;
use bayeux_proto::{Batch, Message, meta};
use tokio::sync::mpsc;

use crate::link::{Link, LinkEvent};
use crate::local::state::{Shared, received};
use crate::local::{LocalError, successful};

/// Sends the handshake, and waits for its reply.
pub(super) async fn first_reply(link: &mut Link, shared: &Shared, mut message: Message) -> Result<Message, LocalError> {
    let extensions = shared.lock().extensions.clone();
    if !extensions.iter().rev().all(|extension| extension.outgoing(&mut message)) {
        return Err(LocalError::Deleted);
    }
    link.receive(Batch { messages: vec![message], bytes: 0 }).await;
    let mut messages = Vec::new();
    loop {
        match link.event(&mut messages).await {
            LinkEvent::Write => {
                // It is the first: nothing is pushed before a message of the session came.
                let reply = messages.drain(..).find_map(received);
                link.written();
                let mut reply = reply.ok_or(LocalError::Deleted)?;
                if !extensions.iter().all(|extension| extension.incoming(&mut reply)) {
                    return Err(LocalError::Deleted);
                }
                return successful(reply);
            }
            LinkEvent::Close(_) => return Err(LocalError::NoSession),
            LinkEvent::Resume => {}
        }
    }
}

/// Drives the link of a session to its end.
pub(super) async fn drive(mut link: Link, shared: Arc<Shared>, mut envelopes: mpsc::Receiver<Batch>, id: ClientId) {
    // Without a bound, as its queue in the server has none (rule A-61).
    let (hear, mut heard) = mpsc::unbounded_channel();
    let hearing = Arc::clone(&shared);
    tokio::spawn(async move {
        while let Some(message) = heard.recv().await {
            hearing.hear(message).await;
        }
    });
    let mut messages = Vec::new();
    loop {
        tokio::select! {
            envelope = envelopes.recv(), if link.wants_input() => match envelope {
                Some(batch) => link.receive(batch).await,
                None => break,
            },
            event = link.event(&mut messages) => match event {
                LinkEvent::Write => {
                    let mut over = false;
                    for outgoing in messages.drain(..) {
                        let Some(message) = shared.sort(outgoing) else { continue };
                        over |= message.channel.as_deref() == Some(meta::DISCONNECT);
                        let _ = hear.send(message);
                    }
                    link.written();
                    if over {
                        break;
                    }
                }
                LinkEvent::Close(_) => break,
                LinkEvent::Resume => {}
            },
        }
    }
    shared.go_offline(Some(&id));
}
