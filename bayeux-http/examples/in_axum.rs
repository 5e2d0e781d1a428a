//! Mounted in an axum router, beside the application's own routes.
//!
//! ```text
//! cargo run -p bayeux-http --example in_axum
//! curl -d hello http://127.0.0.1:8080/publish
//! ```
//!
//! What is posted to `/publish` goes to all who subscribed to `/web`; Bayeux clients connect to
//! `http://127.0.0.1:8080/cometd`.

use std::error::Error;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use bayeux_http::{Config, Endpoint, HttpOptions, Listener, LongPolling, Server};

async fn publish(State(server): State<Server>, text: String) -> StatusCode {
    match server.publish("/web", &text).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder(Config::default()).build()?;
    let endpoint = Endpoint::new(server.clone()).with(LongPolling::new(HttpOptions::default())?);
    let app =
        Router::new().route("/publish", post(publish)).nest_service("/cometd", endpoint).with_state(server.clone());
    // `axum::serve` does it, too. This listener needs an eighth of the memory for sessions that wait, and stops in order.
    let listener = Listener::bind("127.0.0.1:8080").await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    listener.serve(server, app, stop).await;
    Ok(())
}
