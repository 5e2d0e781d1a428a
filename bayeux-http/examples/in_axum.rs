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
use bayeux_http::{Config, Endpoint, HttpOptions, LongPolling, Server};

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
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    // Answers held connects before axum waits for its connections.
    let stop = async move {
        let _ = tokio::signal::ctrl_c().await;
        server.shutdown(std::time::Duration::from_secs(5)).await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    Ok(())
}
