//! Typed services: a remote call, a struct whose methods answer calls, and a service channel that replies later.
//!
//! ```text
//! cargo run -p bayeux-http --example service
//! ```
//!
//! With CometD's client: `cometd.remoteCall('rooms/lounge/join', 'alice', reply => console.log(reply.data))`, then
//! `cometd.remoteCall('divide', {dividend: 1, divisor: 4}, …)`. What fails arrives as `successful: false` with a class
//! and a message.

use std::collections::{BTreeMap, BTreeSet};
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

/// Rooms and who is in them.
#[derive(Default)]
struct Rooms(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl Rooms {
    /// The target `rooms/{room}/join`: the variable is a parameter. Answers with all who are there.
    async fn join(self: Arc<Self>, call: Call<String>) -> Result<BTreeSet<String>, CallError> {
        let room = call.param("room").unwrap_or_default().to_owned();
        let name = call.data.clone();
        let members = {
            let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let members = rooms.entry(room.clone()).or_default();
            if !members.insert(name.clone()) {
                return Err(CallError::new("NameTaken", "somebody of that name is there"));
            }
            members.clone()
        };
        // Every error is a failed call: `?` works.
        call.server().publish(&format!("/rooms/{room}"), &format!("{name} came")).await?;
        Ok(members)
    }

    /// The channel `/service/shout`: what is returned is delivered to the sender alone, whenever it is there.
    async fn shout(self: Arc<Self>, call: Call<String>) -> Result<String, CallError> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(call.data.to_uppercase())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let rooms =
        Service::new(Rooms::default()).call("rooms/{room}/join", Rooms::join).listen("/service/shout", Rooms::shout);
    let server = Server::builder(Config::default()).remote_call("divide", divide).bind(rooms).build()?;
    common::serve(server).await
}
