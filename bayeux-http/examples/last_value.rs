//! New subscribers get the latest state, in the same response as the reply to their subscription: with a setting, and by
//! hand.
//!
//! ```text
//! cargo run -p bayeux-http --example last_value
//! ```
//!
//! Publish something on `/price/GOOG`, then subscribe to it with another client: the price is there at once. A subscriber
//! of `/portfolio/mine` gets a whole portfolio that is nobody's last message.

use std::error::Error;

use bayeux_http::{Config, Server, Subscribed};
use serde_json::json;

mod common;

/// By hand: what a subscription listener delivers rides in the response.
async fn portfolio(subscribed: Subscribed) {
    if subscribed.channel.as_str() == "/portfolio/mine" {
        let shares = json!({"GOOG": 10, "AAPL": 3});
        if let Err(error) = subscribed.session.deliver("/portfolio/mine", &shares) {
            eprintln!("no portfolio for {}: {error}", subscribed.session.id());
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder(Config::default())
        // With a setting: every channel of prices keeps its last message, from its first on.
        .on_channel_created(|channel| {
            if channel.name().starts_with("/price/") {
                channel.set_retained(true);
            }
        })
        .on_subscribed(portfolio)
        .build()?;
    common::serve(server).await
}
