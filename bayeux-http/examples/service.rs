//! Typed services: a remote call, a struct whose methods answer calls, and a service channel that replies later.
//!
//! ```text
//! cargo run -p bayeux-http --example service
//! ```
//!
//! With CometD's client: `cometd.remoteCall('divide', {dividend: 1, divisor: 4}, reply => console.log(reply.data))`, then
//! `cometd.remoteCall('shows/hamlet/book', 3, …)`, which tells the seats that are left to the caller, and to all who
//! subscribed to `/shows/hamlet`. What fails arrives as `successful: false` with a class and a message. What is published
//! on `/service/shout` comes back in capitals.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bayeux_http::{Call, CallError, Config, Server, Service};
use serde::Deserialize;

mod common;

#[derive(Deserialize)]
struct Division {
    dividend: f64,
    divisor: f64,
}

async fn divide(call: Call<Division>) -> Result<f64, CallError> {
    let Division { dividend, divisor } = call.data;
    if divisor == 0.0 { Err(CallError::new("Division", "by zero")) } else { Ok(dividend / divisor) }
}

/// Shows, and the seats that they have left.
struct Theatre(Mutex<BTreeMap<&'static str, u32>>);

impl Theatre {
    /// The target `shows/{show}/book`: the variable is a parameter.
    async fn book(self: Arc<Self>, call: Call<u32>) -> Result<u32, CallError> {
        let show = call.param("show").unwrap_or_default();
        let left = {
            let mut shows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(seats) = shows.get_mut(show) else { return Err(CallError::new("NoSuchShow", show)) };
            let Some(left) = seats.checked_sub(call.data) else {
                return Err(CallError::new("SoldOut", &format!("{seats} seats are left")));
            };
            *seats = left;
            left
        };
        // Every error is a failed call: `?` works.
        call.server().publish(&format!("/shows/{show}"), &left).await?;
        Ok(left)
    }

    /// The channel `/service/shout`: what is returned is delivered to the sender alone, whenever it is there. Who sends
    /// goes on meanwhile.
    async fn shout(self: Arc<Self>, call: Call<String>) -> Result<String, CallError> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(call.data.to_uppercase())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let theatre = Theatre(Mutex::new(BTreeMap::from([("hamlet", 100), ("macbeth", 20)])));
    let theatre =
        Service::new(theatre).call("shows/{show}/book", Theatre::book).listen("/service/shout", Theatre::shout);
    let server = Server::builder(Config::default()).remote_call("divide", divide).bind(theatre).build()?;
    common::serve(server).await
}
