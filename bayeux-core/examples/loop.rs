//! The engine without a runtime: two WebSockets, two sessions, one message.
//!
//! Run it with `cargo run -p bayeux-core --example loop`. It prints what each side sends: two handshakes, two connects,
//! a subscription, a publish, and the message that reaches the subscriber.
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::sync::Arc;

use bayeux_core::{
    Budget, Config, ConnectionKey, Engine, IdSource, Input, LinkFacts, NoHooks, Output, ShardId, Time, Transport,
    UnixTime,
};
use bayeux_proto::{Limits, decode, encode};

/// A real driver takes 128 bits from the system's random source.
struct Counter(u128);

impl IdSource for Counter {
    fn draw(&mut self) -> u128 {
        self.0 += 1;
        self.0
    }
}

struct Driver {
    engine: Engine,
    now: Time,
}

impl Driver {
    fn open(&mut self, conn: ConnectionKey) {
        let link = LinkFacts { transport: Transport::WebSocket, http2: false, browser: None };
        self.engine.handle(self.now, Input::Opened { conn, link });
    }

    /// One envelope in, everything that follows from it out.
    fn send(&mut self, conn: ConnectionKey, json: &str) -> Result<(), Box<dyn Error>> {
        println!("-> {} {json}", conn.0);
        let batch = decode(json.to_owned().into(), &Limits::default())?;
        self.engine.handle(self.now, Input::Received { conn, batch });
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Ready(conn) => self.write(conn),
                Output::Notice(notice) => println!("   {notice:?}"),
                // Without hooks, browsers and other shards, and with clients that behave, there is nothing else.
                Output::Ask(_)
                | Output::Withdraw(_)
                | Output::Close { .. }
                | Output::Browser { .. }
                | Output::Forward { .. } => {}
            }
        }
        println!("   next deadline: {:?}", self.engine.poll_timeout());
        Ok(())
    }

    /// Pulls what a connection is to write. Here a write is always done at once.
    fn write(&mut self, conn: ConnectionKey) {
        let mut messages = Vec::new();
        self.engine.drain(self.now, conn, Budget { messages: 64, bytes: 65_536 }, &mut messages);
        println!("<- {} {}", conn.0, String::from_utf8_lossy(&encode(&messages)));
        self.engine.handle(self.now, Input::Written { conn });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let config = Arc::new(Config::default());
    let engine =
        Engine::new(config, ShardId(0), Box::new(Counter(0)), Box::new(NoHooks), Time::ZERO, UnixTime::default());
    let mut driver = Driver { engine, now: Time::ZERO };
    // The counter makes the first session's number 1 and the second's 2.
    let [alice, bob] = ["000000000000000000000000001", "000000000000000000000000002"];
    let (a, b) = (ConnectionKey(1), ConnectionKey(2));
    driver.open(a);
    driver.open(b);
    let handshake =
        r#"{"channel":"/meta/handshake","id":"1","version":"1.0","supportedConnectionTypes":["websocket"]}"#;
    driver.send(a, handshake)?;
    driver.send(b, handshake)?;
    for (conn, id) in [(a, alice), (b, bob)] {
        let connect =
            format!(r#"[{{"channel":"/meta/connect","id":"2","clientId":"{id}","connectionType":"websocket"}}]"#);
        driver.send(conn, &connect)?;
    }
    driver.send(
        a,
        &format!(r#"[{{"channel":"/meta/subscribe","id":"3","clientId":"{alice}","subscription":"/chat/*"}}]"#),
    )?;
    driver.send(b, &format!(r#"[{{"channel":"/chat/demo","id":"3","clientId":"{bob}","data":{{"text":"hi"}}}}]"#))?;
    Ok(())
}
