//! Bayeux over WebSocket.
//!
//! Pick this crate to serve WebSocket; it brings [`bayeux_server`], re-exported, which has the server, its endpoint and
//! its listener. Long-polling is `bayeux-http`; both mount on the same endpoint.
//!
//! # Example: a whole server
//!
//! ```no_run
//! use bayeux_ws::{Config, Endpoint, Listener, Server, WebSocket, WsOptions};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::builder(Config::default()).build()?;
//!     let endpoint = Endpoint::new(server.clone()).with(WebSocket::new(WsOptions::default())?).at("/cometd");
//!     let listener = Listener::bind("127.0.0.1:8080").await?;
//!     listener.serve(server, endpoint, std::future::pending()).await;
//!     Ok(())
//! }
//! ```
//!
//! # What is guaranteed
//!
//! - Envelopes are read while a connect is held, and as long as the engine has room for them: beyond that nothing is
//!   read, and the client's own socket is where they wait.
//! - A reader that is too slow costs one drained batch, at most 64 KiB and one message, beside its session's queue,
//!   whose overflow ends session and connection.
//! - An idle connection costs about 5 KiB in this process, the session included.

mod conversation;
mod direct;
mod ending;
mod options;
mod websocket;

pub use bayeux_server;
pub use bayeux_server::*;

pub use options::{AllowedOrigins, WsOptions, WsOptionsError};
pub use websocket::WebSocket;
