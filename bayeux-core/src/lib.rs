//! The sans-IO Bayeux engine.

pub mod config;

mod browser;
mod channel;
mod connection;
mod decision;
mod delivery;
mod engine;
mod event;
mod id;
mod lane;
mod life;
mod meta;
mod publish;
mod relay;
mod session;
mod slab;
mod time;
mod timer;

pub use config::{Config, ConfigError, Overflow, Transport, TransportOptions};
pub use decision::{Decided, Decision, DecisionId};
pub use engine::Engine;
pub use event::{
    Answer, Budget, ChannelSetting, ChannelSettings, CloseReason, Command, Drained, Edit, Forward, Hooks, Input,
    LinkFacts, NoHooks, Notice, Output, Point, Points, Question, RemovalReason, Ruling, SessionSetting, Verdict,
};
pub use id::{BrowserId, ClientId, ConnectionKey, IdSource, ShardId};
pub use time::{Time, UnixTime};
