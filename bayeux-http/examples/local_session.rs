//! A client inside the server's own process: it subscribes, publishes and calls like any other, without a wire.
//!
//! ```text
//! cargo run -p bayeux-http --example local_session
//! ```
//!
//! The robot greets whoever says something in a room, and asks a service of the same server for the words.

use std::error::Error;
use std::time::Duration;

use bayeux_http::{Call, Config, LocalError, LocalMessage, LocalSession, Server};

mod common;

async fn greet(robot: LocalSession, message: LocalMessage) -> Result<(), LocalError> {
    let said: String = message.data().map_err(|error| LocalError::Send(error.into()))?;
    if said.starts_with("robot:") {
        // What it says itself comes back to it, as to every subscriber.
        return Ok(());
    }
    let words: String = robot.call("words", &said, Duration::from_secs(5)).await?;
    robot.publish(message.channel.as_str(), &format!("robot: {words}")).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder(Config::default())
        .remote_call("words", async |call: Call<String>| Ok(format!("you said {:?}", call.data)))
        .build()?;
    let robot = server.local_session("robot");
    robot.handshake().await?;
    let own = robot.clone();
    let _ = robot
        .subscribe("/chat/*", move |message| {
            let own = own.clone();
            async move {
                if let Err(error) = greet(own, message).await {
                    eprintln!("the robot is speechless: {error}");
                }
            }
        })
        .await?;
    common::serve(server).await
}
