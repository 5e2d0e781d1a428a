//! The tokio driver of the Bayeux engine: shards, clock, random ids, hooks, listener, and the [`Server`] handle that
//! applications use.
//!
//! A server is built once, mounted on an [`Endpoint`] with the transports of `bayeux-http` and `bayeux-ws`, and served
//! by a [`Listener`] or by anything else that serves a `tower` service, such as an axum router. Pick a transport crate;
//! each re-exports this one.
//!
//! # How it runs
//!
//! Sessions live in shards. A shard is an engine of [`core`] behind a short lock, which is never held while anything is
//! awaited. Whoever has input for a shard, usually the task of a connection, takes the lock, feeds everything it has,
//! hands out everything that the engine wants written, and lets go: a request and its reply cost no channel and no
//! wake-up. Each shard has one task of its own for what nobody else brings: time, and messages of other shards.
//!
//! A connection's task reads, and otherwise waits. What is for a WebSocket on a socket of its own is written by
//! whoever made it, through a [`DirectWriter`], and so is the response to a [`Post`], through a [`Responder`]; the task
//! is woken only for what the socket did not take. A [`Listener`] takes small `POST`s that arrive whole by itself, and
//! gives them to an [`Endpoint`] that nothing stands around as they are; hyper serves all that is unusual. Neither keeps
//! buffers for connections that wait.
//!
//! # What is guaranteed
//!
//! - What one connection publishes on a channel reaches each receiving session in that order. There is no order between
//!   publishers.
//! - What [`Server::publish`] published on one channel, one call after the other, arrives in that order.
//! - A session receives a message at most once, however many of its subscriptions match.
//! - A hook never stalls anyone but the connection whose message it decides on, and a hook that panics or takes longer
//!   than [`Config::decision_timeout`](core::Config) denies that message alone.

mod associated;
mod attributes;
mod authorizer;
mod body;
mod builder;
mod channel;
mod clock;
mod context;
mod data;
mod effects;
mod endpoint;
mod error;
mod extension;
pub mod filter;
mod head;
mod hooks;
mod http1;
mod inbox;
mod link;
mod listener;
mod listeners;
mod local;
mod message;
mod notices;
mod policy;
mod random;
mod receipts;
mod server;
mod service;
mod session;
mod shard;
mod trace;

pub use bayeux_core as core;
pub use bayeux_proto as proto;

pub use associated::Associated;
pub use authorizer::{Authorization, Authorizer, GrantAuthorizer, Operation};
pub use bayeux_core::{
    Activity, ActivityPolicy, ChannelQueue, ChannelSetting, ChannelSettings, CloseReason, Config, Overflow, QueueView,
    RemovalReason, Ruling, SessionSetting, SessionSettings, Time, TimestampFormat, Transport, TransportOptions,
    Verdict,
};
pub use body::{BodyError, RequestBody, ResponseBody};
pub use builder::ServerBuilder;
pub use channel::{Channel, NewChannel};
pub use context::{Context, Origin, OverTls, PeerAddr, ResponseHeaderError, ResponseHeaders, is_over_tls};
pub use data::IntoData;
pub use endpoint::{Endpoint, EndpointFuture, ServiceFuture, TransportService, text_response};
pub use error::{BuildError, DataError, SendError};
pub use extension::{Directions, Extension, OutgoingMessage};
pub use filter::{Abort, DataFilter};
pub use head::RequestHead;
pub use hooks::Registration;
pub use http1::{Parking, Post, PostHead, RenderedHeaders, Responder, upgraded_socket};
pub use link::{DirectResponse, DirectWriter, Link, LinkEvent, Wrote};
pub use listener::{Listener, ListenerOptions};
pub use local::{LocalBatch, LocalError, LocalExtension, LocalMessage, LocalRegistration, LocalSession};
pub use message::{Incoming, Outcome, Subscribed};
pub use policy::{Asked, DefaultPolicy, Policy, Questions};
pub use server::Server;
pub use service::{Call, CallError, Service};
pub use session::{Acknowledgement, HeartBeat, QueueOverflow, Session, SessionBatch};
