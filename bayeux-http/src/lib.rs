//! Bayeux over HTTP: long-polling, and callback-polling where it is wanted.
//!
//! Pick this crate to serve long-polling; it brings [`bayeux_server`], re-exported, which has the server, its endpoint
//! and its listener. WebSocket is `bayeux-ws`; both mount on the same endpoint.
//!
//! # Example: a whole server
//!
//! ```no_run
//! use bayeux_http::{Config, Endpoint, HttpOptions, Listener, LongPolling, Server};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::builder(Config::default()).build()?;
//!     let endpoint = Endpoint::new(server.clone()).with(LongPolling::new(HttpOptions::default())?).at("/cometd");
//!     let listener = Listener::bind("127.0.0.1:8080").await?;
//!     listener.serve(server, endpoint, std::future::pending()).await;
//!     Ok(())
//! }
//! ```
//!
//! # Example: in an axum router, beside other routes
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use bayeux_http::{Config, Endpoint, HttpOptions, LongPolling, Server};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::builder(Config::default()).build()?;
//!     let endpoint = Endpoint::new(server).with(LongPolling::new(HttpOptions::default())?);
//!     let app = Router::new().route("/", get(async || "hello")).nest_service("/cometd", endpoint);
//!     axum::serve(tokio::net::TcpListener::bind("127.0.0.1:8080").await?, app).await?;
//!     Ok(())
//! }
//! ```
//!
//! A [`Listener`] serves such a router as well, `listener.serve(server, app, …)`: then sessions that wait take an eighth of
//! the memory, since their connections keep no buffers, and exchanges of Bayeux cost less.
//!
//! # What is guaranteed
//!
//! - A body is read up to `maxMessageSize` and [`HttpOptions::body_timeout`], and no further.
//! - A held poll keeps nothing of its request, unless hooks are registered that could ask for it.
//! - A poll that the client gave up is noticed, and nothing is written into it.

mod body;
mod callback_polling;
mod content;
mod cookie;
mod cors;
mod exchange;
mod form;
mod long_polling;
mod options;

pub use bayeux_server;
pub use bayeux_server::*;

pub use callback_polling::CallbackPolling;
pub use long_polling::LongPolling;
pub use options::{AllowedOrigins, HttpOptions, HttpOptionsError, SameSite};

/// The code of the guide is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/coming-from-cometd.md")]
struct ComingFromCometd;
