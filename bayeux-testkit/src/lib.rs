//! A Bayeux server in one thread, without sockets, under a clock that a test moves.
//!
//! [`World`] drives as many engines of `bayeux-core` as a server has shards, joined by links that may take their time.
//! It does what a driver must do and no more: routes envelopes to shards, moves WebSockets, drains what is ready,
//! carries forwards, ticks. Connections are in memory, ids come from a seed, hooks are [scripted](ScriptedHooks). After
//! every step it checks what must always hold, and a failure prints the seed and the last steps.
//!
//! # Example: a whole conversation
//!
//! ```
//! use std::time::Duration;
//! use bayeux_testkit::{Client, Options, World};
//! use serde_json::json;
//!
//! let mut world = World::new(Options::shards(2));
//! let mut alice = Client::long_polling(&mut world).connected(&mut world);
//! let mut bob = Client::websocket(&mut world).connected(&mut world);
//! assert_eq!(alice.subscribe(&mut world, "/chat/*")["successful"], true);
//!
//! let poll = alice.connect(&mut world).exchange.expect("over HTTP");
//! assert!(world.exchange(poll).is_held());
//!
//! bob.publish(&mut world, "/chat/lobby", json!("hello"));
//! assert_eq!(alice.data(&world), [json!("hello")]);
//!
//! world.advance(Duration::from_secs(60));
//! assert_eq!(world.session_count(), 0, "both fell silent");
//! ```
//!
//! [`Client`] fills in ids and remembers what it sent; it has no behaviour of its own. Below it, [`World::post`] and
//! [`World::send`] take any text, [`World::command`] is the application's voice, and [`World::hooks`] its opinion:
//!
//! ```
//! use bayeux_core::{Points, Verdict};
//! use bayeux_testkit::{Client, Options, World};
//! use serde_json::json;
//!
//! let mut world = World::new(Options::shards(1));
//! let mut alice = Client::websocket(&mut world).connected(&mut world);
//! world.hooks().wait(Points::PUBLISH);
//! let request = alice.send(&mut world, json!({"channel": "/slow", "data": 1}));
//! assert_eq!(alice.reply(&world, &request), None);
//! world.answer(0, Verdict::deny());
//! let reply = alice.reply(&world, &request).expect("it is decided");
//! assert_eq!(reply["error"], "403:denied_by_security_policy:publish_denied");
//! ```
//!
//! # Scripts
//!
//! What clients see is best told as a conversation: `tests/conversations/*.txt`, in a format that the module [`script`]
//! describes. To add one, write the steps and what must come of them, and list the file in `tests/conversations.rs` and in
//! the index, which reads as a course in the protocol.
//! Every script runs with 1, 2 and 4 shards and must give the same transcript. Expected lines are written from the
//! protocol's rules; after a change of a rule,
//!
//! ```text
//! BAYEUX_REWRITE=1 cargo test -p bayeux-testkit --test conversations
//! ```
//!
//! rewrites those that differ in place, to be reviewed as a diff.
//!
//! # Seeds
//!
//! The module [`swarm`] lets many clients loose on a [`net`] that breaks, and holds what comes of it against a model of the
//! protocol. The same seed gives the same run, byte for byte; one that fails is printed with the smallest plan that fails
//! likewise. To look for more, or to repeat one with all that happens in it:
//!
//! ```text
//! cargo run -p bayeux-testkit --release -- simulate --seeds 5000
//! cargo run -p bayeux-testkit --release -- simulate --seed 17
//! ```
//!
//! # What is always checked
//!
//! - Each request gets exactly one reply, in order; a connect over WebSocket that a newer one replaced gets none
//!   (K-21). Where hooks edit replies, nothing can be said.
//! - At rest, whatever has no reply is a held connect or waits for a hook or another shard; a session holds at most one
//!   connect over HTTP.
//! - No output names a connection that is closed or finished; `Ready` comes only with write credit; an exchange is
//!   finished by its first drain without a budget.
//! - A response is the handshake reply, then events, then replies (Q-20). No event follows a disconnect's reply.
//! - No `clientId` but in handshake replies (M-14); everything written is a JSON array of messages, read by another
//!   parser than ours.
//! - Sessions are added once and removed once, and are counted right. Questions are asked once, and answered, withdrawn
//!   or expired.
//! - After a tick nothing is due any more.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod check;
mod client;
#[cfg(feature = "conformance")]
pub mod conformance;
mod hooks;
pub mod net;
mod random;
pub mod script;
pub mod swarm;
mod wire;
mod world;

pub use client::{Client, Request, Via, channel, event, pattern};
pub use hooks::ScriptedHooks;
pub use random::{Random, SeededIds};
pub use wire::{BrowserKey, Ended, Envelope, Exchange, ExchangeKey, Http, Outcome, Socket, SocketKey};
pub use world::{Happening, Options, Peer, World, Writes};
