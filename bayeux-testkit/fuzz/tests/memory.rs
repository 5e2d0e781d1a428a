//! What peers can make the server hold, in bytes: never more than a stated multiple of what they sent and a stated
//! constant, and never more than the limits allow.
//!
//! A counting allocator sees every byte; so this is one test in a process of its own. Inputs are shaped to cost the most
//! for what they send. The figures are those of the README's table, rounded up so that another platform's alignment does
//! not matter.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bayeux_core::{
    Answer, Budget, ClientId, Config, ConnectionKey, Edit, Engine, Hooks, IdSource, Input, LinkFacts, Output, Points,
    Question, ShardId, Time, Transport, UnixTime,
};
use bayeux_proto::{Frozen, Limits, Reply, decode, encode};
use bytes::Bytes;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

#[test]
fn nobody_makes_us_hold_more_than_is_stated() {
    decoding();
    decoding_the_corpora();
    queues();
    subscriptions();
    waiting_envelopes();
    streams();
    answers();
}

/// The most that was allocated at once while `what` ran, beside what was there before.
fn peak(what: impl FnOnce()) -> usize {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    what();
    MEMORY.peak_usage().saturating_sub(before)
}

/// What is held for `sent` bytes is within `times` as much and `more`.
fn assert_within(what: &str, held: usize, sent: usize, times: usize, more: usize) {
    assert!(held <= sent * times + more, "{what}: {held} bytes are held for {sent}");
}

/// Of each byte that a message may be short of: a message of two takes three hundred, its list grows by doubling, and
/// while it is moved both are there.
const DECODE_TIMES: usize = 320;
/// With the default limits on messages and fields, and whatever the bytes are.
const DECODE_MOST: usize = 24 * MIB;

fn decoding() {
    for size in [10, 1_000, 100_000, 4_000_000] {
        for (what, text) in shapes(size) {
            decodes_within(what, &text);
        }
    }
}

fn decodes_within(what: &str, text: &[u8]) {
    let input = Bytes::copy_from_slice(text);
    let held = peak(|| {
        let Ok(batch) = decode(input, &Limits::default()) else { return };
        for message in &batch.messages {
            // Whoever asks for the list has a limit on its length, and has asked for that before (rule Z-9).
            if message.subscription_count() < 10_000 {
                drop(message.subscriptions());
            }
        }
    });
    assert_within(what, held, text.len(), DECODE_TIMES, KIB);
    assert!(held <= text.len() + DECODE_MOST, "{what}: {held} bytes are held for {}", text.len());
}

/// Texts of about `size` bytes that cost the most.
fn shapes(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let fill = |open: &str, item: &str, close: &str| {
        let room = size.saturating_sub(open.len() + close.len());
        let count = (room / item.len()).max(1);
        // The last item has no comma behind it.
        let items = item.repeat(count);
        format!("{open}{}{close}", items.trim_end_matches(',')).into_bytes()
    };
    vec![
        ("empty messages", fill("[", "{},", "]")),
        ("fields", fill("[{", "\"\":0,", "}]")),
        ("messages with a field", fill("[", "{\"\":0},", "]")),
        ("nested arrays", fill("[{\"data\":", "[", "")),
        ("nested objects", fill("[{\"data\":", "{\"\":", "")),
        ("a long id", fill("[{\"id\":\"", "i", "\"}]")),
        ("an escaped channel", fill("[{\"channel\":\"", "\\u0061", "\"}]")),
        ("escaped keys", fill("[{", "\"\\u0061\":0,", "}]")),
        ("names", fill("[{\"subscription\":[", "1,", "]}]")),
        ("messages with an id", fill("[", "{\"id\":\"\\n\"},", "]")),
        ("one that is not closed", fill("[", "{\"\":0},", "")),
        ("an array of numbers", fill("[{\"data\":[", "0,", "]}]")),
    ]
}

fn decoding_the_corpora() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(corpora.join("decode_batch")).expect("a corpus") {
        let path = entry.expect("a folder that can be read").path();
        decodes_within(&path.display().to_string(), &fs::read(&path).expect("the file was listed"));
    }
    // A whole run, with what the test itself holds: clients, and a trace or a runtime.
    for name in ["engine_inputs", "http_requests", "ws_frames", "http2_frames"] {
        let target = bayeux_fuzz::TARGETS.iter().find(|target| target.0 == name).expect("a target of that name").1;
        for entry in fs::read_dir(corpora.join(name)).expect("a corpus") {
            let path = entry.expect("a folder that can be read").path();
            let input = fs::read(&path).expect("the file was listed");
            let held = peak(|| target(&input));
            assert_within(&path.display().to_string(), held, input.len(), 1_000, 4 * MIB);
        }
    }
}

/// An engine, and a session that reads nothing.
struct Driver {
    engine: Engine,
    opened: u64,
    /// Bytes that clients have sent.
    sent: usize,
}

struct Ids(u128);

impl IdSource for Ids {
    fn draw(&mut self) -> u128 {
        self.0 += 1;
        self.0
    }
}

/// Nobody answers about publishes on `/slow`.
struct Slow;

impl Hooks for Slow {
    fn points(&self) -> Points {
        Points::PUBLISH
    }

    fn ask(&self, question: &Question, _: &mut Vec<bayeux_core::Command>) -> Answer {
        match question.message.channel.as_deref() {
            Some("/slow") => Answer::Later,
            _ => Answer::Now(bayeux_core::Verdict::allow()),
        }
    }

    fn outgoing(&self, _: &ClientId, _: Option<&ClientId>, _: &Frozen) -> Edit<Frozen> {
        Edit::Keep
    }

    fn reply(&self, _: Option<&ClientId>, _: &mut Reply) -> Edit<()> {
        Edit::Keep
    }
}

const NOW: Time = Time::ZERO;

impl Driver {
    fn new(config: Config) -> Self {
        let (ids, hooks) = (Box::new(Ids(0)), Box::new(Slow));
        let engine = Engine::new(Arc::new(config), ShardId(0), ids, hooks, NOW, UnixTime::default());
        Self { engine, opened: 0, sent: 0 }
    }

    /// A WebSocket with a session; its id.
    fn open(&mut self) -> (ConnectionKey, String) {
        self.opened += 1;
        let conn = ConnectionKey(self.opened);
        let link = LinkFacts { transport: Transport::WebSocket, http2: false, browser: None };
        self.engine.handle(NOW, Input::Opened { conn, link });
        self.receive(conn, r#"[{"channel":"/meta/handshake","version":"1.0"}]"#);
        let mut id = String::new();
        self.drain(|text| {
            let replies: serde_json::Value = serde_json::from_slice(text).expect("an envelope");
            id.push_str(replies[0]["clientId"].as_str().expect("a session"));
        });
        (conn, id)
    }

    fn receive(&mut self, conn: ConnectionKey, text: &str) {
        self.sent += text.len();
        let batch = decode(Bytes::copy_from_slice(text.as_bytes()), &Limits::default()).expect("an envelope");
        self.engine.handle(NOW, Input::Received { conn, batch });
    }

    /// Writes what is ready, but for the first connection once there is a second.
    fn drain(&mut self, mut write: impl FnMut(&[u8])) {
        while let Some(output) = self.engine.poll_output() {
            if let Output::Ready(conn) = output
                && (conn.0 > 1 || self.opened == 1)
            {
                let mut out = Vec::new();
                self.engine.drain(NOW, conn, Budget::UNLIMITED, &mut out);
                write(&encode(&out));
                self.engine.handle(NOW, Input::Written { conn });
            }
        }
    }
}

/// A session's queue: its bytes, and 200 for each of its messages.
fn queues() {
    let mut config = Config::default();
    config.each_transport(|options| {
        options.max_queue_bytes = MIB;
        options.overflow = bayeux_core::Overflow::DropOldest;
    });
    let most = MIB + 200 * config.websocket.max_queue;
    for data in [String::from("1"), "[".repeat(50) + &"]".repeat(50), format!("\"{}\"", "x".repeat(100 * KIB))] {
        let mut driver = Driver::new(config.clone());
        let (conn, id) = driver.open();
        driver.receive(conn, &format!(r#"[{{"channel":"/meta/subscribe","clientId":"{id}","subscription":"/a"}}]"#));
        driver.drain(|_| {});
        let (other, id) = driver.open();
        let publish = format!(r#"[{{"channel":"/a","clientId":"{id}","data":{data}}}]"#);
        let (before, sent) = (MEMORY.current_usage(), driver.sent);
        for _ in 0..(20 * MIB / publish.len()).min(30_000) {
            driver.receive(other, &publish);
            driver.drain(|_| {});
        }
        let held = MEMORY.current_usage().saturating_sub(before);
        assert!(held <= most, "a queue: {held} bytes are held");
        assert_within("a queue", held, driver.sent - sent, 1, 64 * KIB);
    }
}

/// Subscriptions to channels that nobody has thought of before: 600 bytes and the name, for each of eight bytes.
fn subscriptions() {
    for name in ["", "long/name/with/segments/and/more/and/more/"] {
        let mut driver = Driver::new(Config::default());
        let (conn, id) = driver.open();
        let names: Vec<String> = (0..9_000).map(|number| format!("\"/{name}{number}\"")).collect();
        let subscribe =
            format!(r#"[{{"channel":"/meta/subscribe","clientId":"{id}","subscription":[{}]}}]"#, names.join(","));
        let before = MEMORY.current_usage();
        driver.receive(conn, &subscribe);
        driver.drain(|_| {});
        let held = MEMORY.current_usage().saturating_sub(before);
        assert_within("subscriptions", held, subscribe.len(), 1, 600 * names.len());
    }
}

/// Envelopes behind one that a hook has not decided about: `maxWaitingBytes`, and one envelope.
fn waiting_envelopes() {
    let config = Config::default();
    let most = config.max_waiting_bytes + DECODE_MOST;
    for (what, text) in shapes(100_000) {
        let Ok(text) = String::from_utf8(text) else { continue };
        if decode(Bytes::copy_from_slice(text.as_bytes()), &Limits::default()).is_err() {
            continue;
        }
        let mut driver = Driver::new(config.clone());
        let (conn, id) = driver.open();
        driver.receive(conn, &format!(r#"[{{"channel":"/slow","clientId":"{id}","data":1}}]"#));
        let before = MEMORY.current_usage();
        while driver.engine.wants_input(conn) {
            driver.receive(conn, &text);
        }
        let held = MEMORY.current_usage().saturating_sub(before);
        assert!(held <= most, "{what} waiting: {held} bytes are held");
    }
}

/// Bytes on a connection that make no message, or one that nobody reads the answer to: what hyper and tungstenite buffer
/// of a connection, and a message of the greatest size while it is collected.
fn streams() {
    let message_max = 256 * KIB;
    let most = 4 * message_max + 256 * KIB;
    for (what, bytes) in hostile_streams(2 * MIB) {
        for reads in [true, false] {
            let mut held = 0;
            let before = MEMORY.current_usage();
            MEMORY.reset_peak_usage();
            bayeux_fuzz::while_connected(message_max, &bytes, reads, |kept| {
                // What a reading client keeps was moved as it grew: of that the peak cannot be told apart.
                let now = if reads { MEMORY.current_usage() } else { MEMORY.peak_usage() };
                held = now.saturating_sub(before + kept);
            });
            assert!(held <= most, "{what}: {held} bytes are held for {}", bytes.len());
        }
    }
}

fn hostile_streams(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let post = "POST /cometd HTTP/1.1\r\nHost: x\r\n";
    let upgrade = "GET /cometd HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let stream = |open: &str, piece: &[u8]| [open.as_bytes(), &piece.repeat(size / piece.len())].concat();
    let begun = [upgrade.as_bytes(), b"\x01\x80\0\0\0\0"].concat();
    // Masked with zeros: `[` in fragments, pings, texts that are answered.
    let (fragment, ping) = (b"\x00\x81\0\0\0\0 ", b"\x89\x84\0\0\0\0ping");
    let text = b"\x81\x82\0\0\0\0{}";
    vec![
        ("a header without end", stream(&format!("{post}X: "), b"x")),
        ("headers without end", stream(post, b"X: y\r\n")),
        ("a body larger than is taken", stream(&format!("{post}Content-Length: 99999999\r\n\r\n"), b"[{}]")),
        ("chunks of a byte", stream(&format!("{post}Transfer-Encoding: chunked\r\n\r\n"), b"1\r\n \r\n")),
        (
            "chunks with extensions",
            stream(&format!("{post}Transfer-Encoding: chunked\r\n\r\n"), b"1;e=xxxxxx\r\n \r\n"),
        ),
        ("requests in a pipeline", stream("", format!("{post}Content-Length: 4\r\n\r\n[{{}}]").as_bytes())),
        ("fragments of a byte", [begun, fragment.repeat(size / fragment.len())].concat()),
        ("pings", stream(upgrade, ping)),
        ("messages", stream(upgrade, text)),
    ]
}

/// What a server sends to `bayeux load` and `bayeux check`, whatever lengths it claims: 8 bytes for each that it sent,
/// with the copies that the test itself keeps of what was read.
fn answers() {
    use bayeux_cli::fuzzing as load;
    use bayeux_testkit::conformance::fuzzing as check;
    for (what, bytes) in hostile_answers(256 * KIB) {
        let pieces = || bytes.chunks(16 * KIB);
        let by_load = peak(|| drop((load::responses(pieces()), load::frames(pieces()))));
        assert_within(&format!("{what}, load"), by_load, bytes.len(), 8, 64 * KIB);
        let by_check = peak(|| drop((check::responses(pieces()), check::frames(pieces()))));
        assert_within(&format!("{what}, check"), by_check, bytes.len(), 8, 64 * KIB);
    }
}

fn hostile_answers(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let ok = "HTTP/1.1 200 OK\r\n";
    let stream = |open: &[u8], piece: &[u8]| [open, &piece.repeat(size / piece.len())].concat();
    vec![
        ("a header without end", stream(format!("{ok}X: ").as_bytes(), b"x")),
        ("headers without end", stream(ok.as_bytes(), b"X: y\r\n")),
        ("a body shorter than it says", stream(format!("{ok}Content-Length: 60000000\r\n\r\n").as_bytes(), b"[{}]")),
        (
            "a chunk shorter than it says",
            stream(format!("{ok}Transfer-Encoding: chunked\r\n\r\n3ffffff\r\n").as_bytes(), b"[{}]"),
        ),
        ("chunks of a byte", stream(format!("{ok}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), b"1\r\n \r\n")),
        ("a body without end", stream(format!("{ok}\r\n").as_bytes(), b"[{}]")),
        ("a frame shorter than it says", stream(b"\x81\x7f\0\0\0\0\x03\xff\xff\xff", b"[{}]")),
        ("a message of fragments without end", stream(b"\x01\0", b"\0\x01 ")),
    ]
}
