//! Test kit.

mod check;
mod client;
mod hooks;
mod random;
pub mod script;
mod wire;
mod world;

pub use client::{Client, Request, Via, channel, event, pattern};
pub use hooks::ScriptedHooks;
pub use random::{Random, SeededIds};
pub use wire::{BrowserKey, Ended, Envelope, Exchange, ExchangeKey, Http, Outcome, Socket, SocketKey};
pub use world::{Happening, Options, Peer, World, Writes};
