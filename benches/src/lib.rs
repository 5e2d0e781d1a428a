//! Benchmarks; see the `[[bench]]` targets. This library is what several of them drive the engine with.

pub mod paths;

use std::sync::Arc;
use std::time::Duration;

use bayeux_core::{
    Budget, Config, ConnectionKey, Engine, Forward, IdSource, Input, Interests, LinkFacts, NoHooks, Output, ShardId,
    Time, Transport, UnixTime,
};
use bayeux_proto::{Batch, Limits, Outgoing, decode};
use bytes::Bytes;

/// An engine and the connections that were opened on it, without sockets.
#[derive(Debug)]
pub struct Bench {
    engine: Engine,
    now: Time,
    opened: u64,
    out: Vec<Outgoing>,
    ready: Vec<ConnectionKey>,
}

struct Counter(u128);

impl IdSource for Counter {
    fn draw(&mut self) -> u128 {
        self.0 += 1;
        self.0
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Bench {
    /// An engine with these options.
    pub fn new(config: Config) -> Self {
        let ids = Box::new(Counter(0));
        let engine = Engine::new(Arc::new(config), ShardId(0), ids, Box::new(NoHooks), Time::ZERO, UnixTime::default());
        Self { engine, now: Time::ZERO, opened: 0, out: Vec::new(), ready: Vec::new() }
    }

    /// Has the engine send publishes only to shards that want them.
    pub fn share_interests(&mut self, interests: &Arc<Interests>) {
        self.engine.share_interests(Arc::clone(interests));
    }

    /// Opens a connection; the `n`th session's id is [`client_id`]`(n)`, counted from 1.
    pub fn open(&mut self, transport: Transport) -> ConnectionKey {
        self.opened += 1;
        let conn = ConnectionKey(self.opened);
        let link = LinkFacts { transport, http2: false, browser: None };
        self.engine.handle(self.now, Input::Opened { conn, link });
        conn
    }

    /// A session on a WebSocket of its own, subscribed to `channel`, with a connect held; `n` as for [`client_id`].
    pub fn subscriber(&mut self, n: u64, channel: &str) -> ConnectionKey {
        let conn = self.open(Transport::WebSocket);
        let id = client_id(n);
        self.send(conn, r#"[{"channel":"/meta/handshake","id":"1","version":"1.0"}]"#);
        for id_of_connect in ["2", "3"] {
            self.send(conn, &format!(r#"[{{"channel":"/meta/connect","id":"{id_of_connect}","clientId":"{id}"}}]"#));
        }
        if !channel.is_empty() {
            let subscribe =
                format!(r#"[{{"channel":"/meta/subscribe","id":"4","clientId":"{id}","subscription":"{channel}"}}]"#);
            self.send(conn, &subscribe);
        }
        conn
    }

    /// A long-polling session with a connect held.
    pub fn poller(&mut self, n: u64) {
        let id = client_id(n);
        self.poll(n, r#"[{"channel":"/meta/handshake","id":"1","version":"1.0"}]"#);
        self.poll(
            n,
            &format!(r#"[{{"channel":"/meta/connect","id":"2","clientId":"{id}","advice":{{"timeout":0}}}}]"#),
        );
        self.poll(n, &format!(r#"[{{"channel":"/meta/connect","id":"3","clientId":"{id}"}}]"#));
    }

    /// A request of the `n`th poller, as an exchange of its own; returns how many messages were drained.
    pub fn poll(&mut self, n: u64, json: &str) -> usize {
        self.opened += 1;
        let conn = ConnectionKey(self.opened);
        // Each poller is a browser of its own.
        let browser = bayeux_core::BrowserId::parse(&format!("browser{n}"));
        let link = LinkFacts { transport: Transport::LongPolling, http2: false, browser };
        self.engine.handle(self.now, Input::Opened { conn, link });
        self.send(conn, json)
    }

    /// The other side closed the connection.
    pub fn close(&mut self, conn: ConnectionKey) {
        self.engine.handle(self.now, Input::Closed { conn });
        self.carry_out();
    }

    /// Feeds what another shard forwarded; returns how many messages were drained.
    pub fn forwarded(&mut self, item: Forward) -> usize {
        self.engine.handle(self.now, Input::Forwarded { from: ShardId(1), item });
        self.carry_out()
    }

    /// Lets time pass, and carries out what falls due; returns how many messages were drained.
    pub fn pass(&mut self, time: Duration) -> usize {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let until = Time::from_nanos(self.now.as_nanos().saturating_add(nanos));
        let mut drained = 0;
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.engine.handle(self.now, Input::Tick);
            drained += self.carry_out();
        }
        self.now = until;
        drained
    }

    /// Feeds an envelope and carries out all that follows; returns how many messages were drained.
    pub fn send(&mut self, conn: ConnectionKey, json: &str) -> usize {
        self.receive(conn, batch(json))
    }

    /// Feeds a decoded envelope and carries out all that follows; returns how many messages were drained.
    pub fn receive(&mut self, conn: ConnectionKey, batch: Batch) -> usize {
        self.engine.handle(self.now, Input::Received { conn, batch });
        self.carry_out()
    }

    /// Feeds an envelope that is answered at once, and returns the answer.
    pub fn answer(&mut self, conn: ConnectionKey, json: &str) -> Vec<Outgoing> {
        self.engine.handle(self.now, Input::Received { conn, batch: batch(json) });
        let mut answer = Vec::new();
        self.engine.drain(self.now, conn, Budget::UNLIMITED, &mut answer);
        self.engine.handle(self.now, Input::Written { conn });
        self.carry_out();
        answer
    }

    /// Does all that the engine wants done; returns how many messages were drained.
    fn carry_out(&mut self) -> usize {
        let mut drained = 0;
        loop {
            while let Some(output) = self.engine.poll_output() {
                if let Output::Ready(conn) = output {
                    self.ready.push(conn);
                }
            }
            if self.ready.is_empty() {
                return drained;
            }
            for conn in std::mem::take(&mut self.ready) {
                self.engine.drain(self.now, conn, Budget::UNLIMITED, &mut self.out);
                drained += self.out.len();
                self.out.clear();
                self.engine.handle(self.now, Input::Written { conn });
            }
        }
    }

    /// Live sessions.
    pub fn sessions(&self) -> usize {
        self.engine.session_count()
    }
}

/// The id of the `n`th session of a [`Bench`].
pub fn client_id(n: u64) -> String {
    let mut digits = [b'0'; 27];
    let mut rest = n;
    for digit in digits.iter_mut().rev() {
        let value = (rest % 36) as u8;
        *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        rest /= 36;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// Decodes an envelope that is known to be one.
///
/// # Panics
/// Where it is none.
pub fn batch(json: &str) -> Batch {
    decode(Bytes::copy_from_slice(json.as_bytes()), &Limits::default()).expect("the benchmark's envelopes are valid")
}
