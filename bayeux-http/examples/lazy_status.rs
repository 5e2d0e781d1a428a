//! A lazy channel: status updates for everybody that nobody needs to be woken for.
//!
//! ```text
//! cargo run -p bayeux-http --example lazy_status
//! ```
//!
//! Thousands of idle long polls that are all answered at once are a burden for seconds. Updates on `/status/**` wait for
//! each session's next ordinary message instead, or for five seconds, and of those that wait only the newest is kept.

use std::error::Error;
use std::time::Duration;

use bayeux_http::{ChannelQueue, Config, Overflow, Server};
use serde_json::json;

mod common;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder(Config::default())
        .on_channel_created(|channel| {
            if channel.name().starts_with("/status/") {
                channel.set_lazy_timeout(Some(Duration::from_secs(5)));
                channel.set_queue(Some(ChannelQueue { messages: 1, overflow: Overflow::KeepLatest }));
            }
        })
        .build()?;
    let publisher = server.clone();
    tokio::spawn(async move {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            let status = json!({"sessions": publisher.session_count()});
            if let Err(error) = publisher.publish("/status/server", &status).await {
                eprintln!("no status: {error}");
            }
        }
    });
    common::serve(server).await
}
