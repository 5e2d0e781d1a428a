//! Extensions see every message, in and out: those of all sessions, or of one.
//!
//! ```text
//! cargo run -p bayeux-http --example extension
//! curl -H 'Content-Type: application/json' http://127.0.0.1:8080/cometd \
//!     -d '[{"channel":"/meta/handshake","version":"1.0","ext":{"numbered":true}}]'
//! ```
//!
//! Each message to clients says which node it came from (`ext.node`). To a client whose handshake asks for it, as above,
//! each message has a number as well (`ext.number`), from the handshake's reply on. Published data of more than 1,000
//! bytes is refused with `413:1000:data_too_long`.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use bayeux_http::proto::{ErrorField, RawJson};
use bayeux_http::{
    Asked, Config, Directions, Extension, Incoming, Outcome, OutgoingMessage, Policy, Questions, Server, Verdict,
};
use serde::Deserialize;

mod common;

/// For all sessions, on the way in: it may wait, for a database say. Only the connection that sent the message does.
struct Limit;

impl Extension for Limit {
    /// The way that is not wanted costs nothing.
    fn directions(&self) -> Directions {
        Directions::Incoming
    }

    async fn rcv(&self, message: Incoming) -> Outcome {
        if message.raw().as_str().len() > 1_000 {
            return Outcome::Fail(ErrorField::custom(413, "1000", "data_too_long"));
        }
        Outcome::Continue
    }
}

/// For all sessions, on the way out: it may not wait. A broadcast is seen once, before it is encoded for all its
/// subscribers.
struct Node(&'static str);

impl Extension for Node {
    fn directions(&self) -> Directions {
        Directions::Outgoing
    }

    fn outgoing(&self, message: &mut OutgoingMessage<'_>) -> bool {
        message.set_ext("node", RawJson::from_text(self.0));
        true
    }
}

/// For one session, with a state of its own.
struct Numbers(AtomicU64);

impl Extension for Numbers {
    fn directions(&self) -> Directions {
        Directions::Outgoing
    }

    /// What is changed here is encoded for this session alone: cheap for one, dear for thousands.
    fn outgoing(&self, message: &mut OutgoingMessage<'_>) -> bool {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        if let Ok(number) = RawJson::from_serialize(&number) {
            message.set_ext("number", number);
        }
        true
    }
}

/// What clients send in `ext` of their handshake.
#[derive(Deserialize)]
struct Ext {
    numbered: bool,
}

/// Only a policy meets a session before its handshake is answered.
struct Wishes;

impl Policy for Wishes {
    fn questions(&self) -> Questions {
        Questions::HANDSHAKE
    }

    async fn can_handshake(&self, asked: Asked) -> Verdict {
        let ext = asked.message.ext.as_ref().and_then(|ext| ext.to::<Ext>().ok());
        if let Some(session) = asked.session.filter(|_| ext.is_some_and(|ext| ext.numbered)) {
            session.add_extension(Numbers(AtomicU64::new(0)));
        }
        Verdict::allow()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder(Config::default()).policy(Wishes).extension(Limit).extension(Node("eu-1")).build()?;
    common::serve(server).await
}
