//! Bayeux over WebSocket.
//!
//! Pick this crate to serve WebSocket; it brings [`bayeux_server`], re-exported, which has the server, its endpoint and
//! its listener. Long-polling is `bayeux-http`; both mount on the same endpoint.

mod conversation;
mod options;
mod websocket;

pub use bayeux_server;
pub use bayeux_server::*;

pub use options::{AllowedOrigins, WsOptions, WsOptionsError};
pub use websocket::WebSocket;
