//! The sans-IO Bayeux engine: everything that a Bayeux server decides, and nothing else.
//!
//! An [`Engine`] owns sessions, channels and subscriptions. It does no I/O, has no clock and no randomness: a driver
//! feeds it [`Input`]s with the time, polls small [`Output`]s, and pulls what connections are to write. The same inputs
//! give the same outputs, byte for byte, so that a run can be recorded, replayed and simulated.
//!
//! # The loop of a driver
//!
//! ```
//! use std::sync::Arc;
//! use bayeux_core::{
//!     Budget, Config, ConnectionKey, Engine, IdSource, Input, LinkFacts, NoHooks, Output, ShardId, Time, Transport,
//!     UnixTime,
//! };
//! use bayeux_proto::{decode, encode, Limits};
//!
//! struct Ids(u128); // A real driver draws from a cryptographic source.
//! impl IdSource for Ids {
//!     fn draw(&mut self) -> u128 {
//!         self.0 += 1;
//!         self.0
//!     }
//! }
//!
//! let config = Arc::new(Config::default());
//! let mut engine =
//!     Engine::new(config, ShardId(0), Box::new(Ids(0)), Box::new(NoHooks), Time::ZERO, UnixTime::from_millis(0));
//!
//! let (now, conn) = (Time::from_nanos(1), ConnectionKey(1));
//! let link = LinkFacts { transport: Transport::WebSocket, http2: false, browser: None };
//! engine.handle(now, Input::Opened { conn, link });
//! let batch = decode(r#"[{"channel":"/meta/handshake","id":"1"}]"#.into(), &Limits::default())?;
//! engine.handle(now, Input::Received { conn, batch });
//!
//! let mut written = Vec::new();
//! while let Some(output) = engine.poll_output() {
//!     match output {
//!         Output::Ready(conn) => {
//!             let mut messages = Vec::new();
//!             engine.drain(now, conn, Budget { messages: 64, bytes: 65_536 }, &mut messages);
//!             written.push(encode(&messages)); // To the socket; when it has left:
//!             engine.handle(now, Input::Written { conn });
//!         }
//!         Output::Ask(decision) => drop(decision),  // a hook decides: `decision.answer(verdict)` is an input
//!         Output::Withdraw(_) => {}                 // that answer is no longer wanted
//!         Output::Close { .. } => {}                // close the socket, or answer with the reason's status
//!         Output::Browser { .. } => {}              // set the cookie in this exchange's response
//!         Output::Forward { .. } => {}              // hand to the other shard, in order
//!         Output::Notice(_) => {}                   // tell observers
//!     }
//! }
//! assert!(written[0].starts_with(br#"[{"id":"1","channel":"/meta/handshake","successful":true"#));
//! assert!(engine.poll_timeout().is_some()); // Feed `Input::Tick` then: the session expires without a connect.
//! # Ok::<(), bayeux_proto::DecodeError>(())
//! ```
//!
//! `examples/loop.rs` is a whole conversation. Feed as many inputs as you like before polling; read
//! [`Engine::poll_timeout`] again after every `handle` and `drain`.
//!
//! # What it guarantees
//!
//! - Messages of one connection are processed in order, one completely before the next (M-2). A hook that waits parks
//!   its connection's lane and nothing else.
//! - A session receives a publish once, whatever patterns match (Q-4), and what one connection publishes on one channel
//!   in that order. There is no order between publishers on different shards.
//! - One write is in flight per connection: [`Output::Ready`] comes only with credit, which [`Input::Written`] returns.
//! - Nothing follows the reply to a disconnect, and no output names a connection after its [`Output::Close`] or
//!   [`Input::Closed`].
//! - A wrong answer to a question, a late one, or one for a session that has gone, does no harm; no answer is a no.
//!
//! # What it costs
//!
//! Per input O(log sessions); only fan-out is linear, in subscribers. An idle session is one deadline and a few hundred
//! bytes. Every queue and table that a peer can grow is bounded by [`Config`].
//!
//! # Shards
//!
//! One engine per CPU core, each the only owner of its sessions. [`ClientId::shard_of`] and [`BrowserId::shard`] say
//! which engine an envelope belongs to; [`Forward`]s carry publishes and channel news between engines. A WebSocket
//! whose session lives elsewhere moves: close it here, open it there, unless [`Engine::is_bound`]. Engines of one process
//! may share [`Interests`], so that a publish goes only to shards that have somebody for it.

pub mod config;

mod browser;
mod channel;
mod connection;
mod decision;
mod delivery;
mod drain;
mod engine;
mod event;
mod ext;
mod id;
mod interest;
mod lane;
mod life;
mod meta;
mod publish;
mod queue;
mod relay;
mod session;
mod slab;
mod time;
mod timer;

pub use config::{
    Activity, ActivityPolicy, Config, ConfigError, Overflow, TimestampFormat, Transport, TransportOptions,
};
pub use decision::{Decided, Decision, DecisionId};
pub use engine::Engine;
pub use event::{
    Answer, Budget, Cause, ChannelQueue, ChannelSetting, ChannelSettings, CloseReason, Command, Drained, Edit, Forward,
    Hooks, Input, LinkFacts, NoHooks, Notice, Output, Point, Points, Question, Receipt, RemovalReason, Ruling,
    SessionSetting, SessionSettings, Verdict,
};
pub use id::{BrowserId, ClientId, ConnectionKey, IdSource, OwnKeyHasher, OwnKeyMap, ShardId};
pub use interest::Interests;
pub use queue::QueueView;
pub use time::{Time, UnixTime};
