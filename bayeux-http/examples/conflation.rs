//! Conflation: a client that is too slow for all prices gets the latest one of each symbol.
//!
//! ```text
//! cargo run -p bayeux-http --example conflation
//! ```
//!
//! A hundred prices a second are published on `/prices`. A client that polls now and then receives at most one for each
//! symbol, whatever it missed; one that is always there receives them all.

use std::error::Error;
use std::time::Duration;

use bayeux_http::{Config, Server};
use serde::{Deserialize, Serialize};

mod common;

#[derive(Serialize, Deserialize)]
struct Price {
    symbol: String,
    price: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder(Config::default())
        .on_session_added(|session, _| {
            // Right before what waits is sent: one pass over it, however much came in between.
            session.on_dequeue(|queue| {
                queue.keep_latest(|event| {
                    let price: Price = event.thaw().data?.to().ok()?;
                    Some(price.symbol)
                });
            });
            async {}
        })
        .build()?;
    let publisher = server.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        for n in 0_u32.. {
            ticks.tick().await;
            let symbol = ["GOOG", "AAPL", "MSFT"][n as usize % 3].to_owned();
            if let Err(error) = publisher.publish("/prices", &Price { symbol, price: n }).await {
                eprintln!("no price: {error}");
            }
        }
    });
    common::serve(server).await
}
