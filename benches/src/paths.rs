//! The ways that messages take again and again, each as something to repeat: what criterion times, and what callgrind
//! counts the instructions of.

use bayeux_core::{Config, ConnectionKey, Transport};
use bayeux_proto::{Limits, decode};
use bytes::Bytes;

use crate::{Bench, batch, client_id};

/// A way through the engine.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// What it is called in reports and on command lines.
    pub name: &'static str,
    /// How many of what is counted one run has: deliveries, replies, messages.
    pub units: u64,
    /// Sets the scene. What it returns goes the way once.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

/// All of them.
pub const PATHS: [Path; 8] = [
    Path { name: "decode_meta_connect", units: 1, prepare: || decoding(&meta_connect(1)) },
    Path { name: "decode_publish", units: 1, prepare: || decoding(&publish(1, "/chat/room", 1)) },
    Path { name: "fan_out_1", units: 1, prepare: || fan_out(1) },
    Path { name: "fan_out_100", units: 100, prepare: || fan_out(100) },
    Path { name: "fan_out_1000", units: 1000, prepare: || fan_out(1000) },
    Path { name: "meta_connect", units: 1, prepare: answered_connect },
    Path { name: "held_poll", units: 1, prepare: held_poll },
    Path { name: "ack", units: 1, prepare: acknowledged },
];

/// A `/meta/connect` of the `n`th session that is answered at once.
pub fn meta_connect(n: u64) -> String {
    let id = client_id(n);
    format!(
        r#"[{{"id":"5","channel":"/meta/connect","clientId":"{id}","connectionType":"websocket","advice":{{"timeout":0}}}}]"#
    )
}

/// An envelope of the `n`th session with `count` publishes, each with 100 bytes of data.
pub fn publish(n: u64, channel: &str, count: usize) -> String {
    let message = format!(
        r#"{{"id":"9","channel":"{channel}","clientId":"{}","data":{{"text":"{}"}}}}"#,
        client_id(n),
        "x".repeat(89)
    );
    format!("[{}]", vec![message; count].join(","))
}

/// Envelopes that arrive in one read buffer share it.
fn decoding(envelope: &str) -> Box<dyn FnMut()> {
    let bytes = Bytes::copy_from_slice(envelope.as_bytes());
    let limits = Limits::default();
    Box::new(move || {
        let batch = decode(bytes.clone(), &limits);
        assert!(batch.is_ok(), "the envelope is valid");
    })
}

/// One publish to so many WebSocket sessions, from its bytes to the drained events.
fn fan_out(sessions: u64) -> Box<dyn FnMut()> {
    let mut bench = Bench::default();
    let publisher = bench.subscriber(1, "");
    for n in 2..=sessions + 1 {
        bench.subscriber(n, "/chat/room");
    }
    let json = publish(1, "/chat/room", 1);
    Box::new(move || {
        let drained = bench.receive(publisher, batch(&json));
        assert_eq!(drained as u64, sessions + 1, "every subscriber and the publisher's reply");
    })
}

/// A meta connect over WebSocket, and its reply.
fn answered_connect() -> Box<dyn FnMut()> {
    let mut bench = Bench::default();
    let conn = bench.subscriber(1, "");
    let json = meta_connect(1);
    Box::new(move || assert_eq!(bench.receive(conn, batch(&json)), 1, "the reply"))
}

/// A long-polling session's turn: an event resumes the held connect, and the next one is held.
fn held_poll() -> Box<dyn FnMut()> {
    let mut bench = Bench::default();
    let publisher = bench.subscriber(1, "");
    bench.poller(2);
    let id = client_id(2);
    bench.poll(
        2,
        &format!(r#"[{{"channel":"/meta/subscribe","id":"4","clientId":"{id}","subscription":"/chat/room"}}]"#),
    );
    let event = publish(1, "/chat/room", 1);
    let connect = format!(r#"[{{"id":"5","channel":"/meta/connect","clientId":"{id}"}}]"#);
    Box::new(move || {
        let drained = bench.receive(publisher, batch(&event));
        assert_eq!(drained, 3, "the publisher's reply, the event and the connect's reply");
        assert_eq!(bench.poll(2, &connect), 0, "the connect is held");
    })
}

/// A session with acknowledgements, and somebody who publishes to it.
#[derive(Debug)]
pub struct Acknowledging {
    bench: Bench,
    publisher: ConnectionKey,
    subscriber: ConnectionKey,
    event: String,
    batch: u64,
}

impl Default for Acknowledging {
    fn default() -> Self {
        let mut config = Config::default();
        config.acknowledge = true;
        let mut bench = Bench::new(config);
        let publisher = bench.subscriber(1, "");
        let subscriber = bench.open(Transport::WebSocket);
        let id = client_id(2);
        bench.send(subscriber, r#"[{"channel":"/meta/handshake","id":"1","version":"1.0","ext":{"ack":true}}]"#);
        bench.send(
            subscriber,
            &format!(r#"[{{"channel":"/meta/subscribe","id":"2","clientId":"{id}","subscription":"/chat/room"}}]"#),
        );
        let mut scene = Self { bench, publisher, subscriber, event: publish(1, "/chat/room", 1), batch: 0 };
        assert_eq!(scene.connect(), 1, "the first connect is answered");
        scene.batch = 1;
        assert_eq!(scene.connect(), 0, "the second one is held");
        scene
    }
}

impl Acknowledging {
    /// An event, delivered with the reply to the held connect; the next connect acknowledges it.
    ///
    /// # Panics
    /// Where that is not what happens.
    pub fn turn(&mut self) {
        let drained = self.bench.receive(self.publisher, batch(&self.event));
        assert_eq!(drained, 3, "the publisher's reply, the event and the connect's reply");
        self.batch += 1;
        assert_eq!(self.connect(), 0, "a connect that acknowledges everything is held");
    }

    fn connect(&mut self) -> usize {
        let (id, ack) = (client_id(2), self.batch);
        let json = format!(r#"[{{"id":"5","channel":"/meta/connect","clientId":"{id}","ext":{{"ack":{ack}}}}}]"#);
        self.bench.receive(self.subscriber, batch(&json))
    }
}

fn acknowledged() -> Box<dyn FnMut()> {
    let mut scene = Acknowledging::default();
    Box::new(move || scene.turn())
}
