//! Data filters: validation as an aspect of its own, added without touching the application.
//!
//! ```text
//! cargo run -p bayeux-http --example data_filter
//! ```
//!
//! What is published on `/chat/**` loses its markup, names that must not be said become stars, and prices that are not
//! plausible are refused: their publisher is told why, and nobody else hears of them.

use std::error::Error;

use bayeux_http::filter::{NoMarkup, RegexFilter};
use bayeux_http::proto::{ErrorField, RawJson};
use bayeux_http::{Abort, Config, Incoming, Server};
use serde::{Deserialize, Serialize};

mod common;

#[derive(Serialize, Deserialize)]
struct Price {
    symbol: String,
    price: f64,
}

/// Reads the data into a type, checks it, and publishes what it made of it: fields that it does not know are gone.
async fn plausible(_message: Incoming, data: RawJson) -> Result<RawJson, Abort> {
    let mut price: Price = data.to()?;
    if !(price.price > 0.0 && price.price < 1e6) {
        return Err(Abort::with(ErrorField::custom(422, price.symbol, "price_implausible")));
    }
    price.symbol.make_ascii_uppercase();
    Ok(RawJson::from_serialize(&price)?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder(Config::default())
        .filter("/chat/**", NoMarkup)
        .filter("/chat/**", RegexFilter::new([(r"(?i)\bvoldemort\b", "*********")])?)
        .filter("/prices/*", plausible)
        .build()?;
    common::serve(server).await
}
