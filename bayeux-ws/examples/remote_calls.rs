//! A server over WebSocket that answers remote calls and says the time.
//!
//! Run it, and connect any Bayeux client to `ws://127.0.0.1:8080/cometd`:
//!
//! ```text
//! cargo run -p bayeux-ws --example remote_calls
//! ```
//!
//! Subscribed to `/ticks`, it receives a number each second; a remote call to `echo` returns what it was called with.

use std::error::Error;
use std::time::Duration;

use bayeux_ws::{Config, Endpoint, Incoming, Listener, Outcome, Server, WebSocket, WsOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();
    let server = Server::builder(Config::default()).on_message("/service/echo", echo).build()?;
    tokio::spawn(tick(server.clone()));
    let endpoint = Endpoint::new(server.clone()).with(WebSocket::new(WsOptions::default())?).at("/cometd");
    let listener = Listener::bind("127.0.0.1:8080").await?;
    tracing::info!("listening on ws://{}/cometd", listener.local_addr()?);
    listener.serve(server, endpoint, std::future::pending()).await;
    Ok(())
}

async fn echo(message: Incoming) -> Outcome {
    match message.answer(message.raw()) {
        Ok(()) => Outcome::Continue,
        Err(_) => Outcome::Veto,
    }
}

async fn tick(server: Server) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    for number in 0_u64.. {
        seconds.tick().await;
        if let Err(error) = server.publish("/ticks", &number).await {
            tracing::warn!(%error, "nobody was told");
        }
    }
}
