//! Bayeux over HTTP: long-polling.
//!
//! Pick this crate to serve long-polling; it brings [`bayeux_server`], re-exported, which has the server, its endpoint
//! and its listener. WebSocket is `bayeux-ws`; both mount on the same endpoint.

mod body;
mod content;
mod cookie;
mod cors;
mod form;
mod long_polling;
mod options;

pub use bayeux_server;
pub use bayeux_server::*;

pub use long_polling::LongPolling;
pub use options::{AllowedOrigins, HttpOptions, HttpOptionsError, SameSite};
