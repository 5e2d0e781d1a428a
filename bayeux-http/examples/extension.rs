//! Extensions see every message, in and out: for the whole server, or for one session.
//!
//! ```text
//! cargo run -p bayeux-http --example extension
//! ```
//!
//! Each message to clients says which node it came from (`ext.node`); clients that say in their handshake that they are
//! `ext.verbose` are told with each reply how long it took.

use std::error::Error;
use std::time::Instant;

use bayeux_http::proto::RawJson;
use bayeux_http::{Config, Directions, Extension, Incoming, Outcome, OutgoingMessage, Server};

mod common;

/// Server-wide: a broadcast is seen once, before it is encoded for all its subscribers.
struct Node(&'static str);

impl Extension for Node {
    /// What is not wanted costs nothing.
    fn directions(&self) -> Directions {
        Directions::Outgoing
    }

    fn outgoing(&self, message: &mut OutgoingMessage<'_>) -> bool {
        message.set_ext("node", RawJson::from_text(self.0));
        true
    }
}

/// For single sessions.
struct Verbose {
    since: Instant,
}

impl Extension for Verbose {
    fn send_meta(&self, message: &mut OutgoingMessage<'_>) -> bool {
        message.set_ext("up", RawJson::from_text(&format!("{:?}", self.since.elapsed())));
        true
    }
}

/// Gives those sessions theirs: incoming extensions may wait, outgoing ones may not.
struct Greeter;

impl Extension for Greeter {
    fn directions(&self) -> Directions {
        Directions::Incoming
    }

    async fn rcv_meta(&self, message: Incoming) -> Outcome {
        let verbose = message.message.ext.as_ref().is_some_and(|ext| ext.as_str().contains("\"verbose\""));
        if let Some(session) = message.session.filter(|_| verbose && message.channel.as_str() == "/meta/connect")
            && session.attribute::<()>("verbose").is_none()
        {
            session.set_attribute("verbose", ());
            session.add_extension(Verbose { since: Instant::now() });
        }
        Outcome::Continue
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder(Config::default()).extension(Node("eu-1")).extension(Greeter).build()?;
    common::serve(server).await
}
