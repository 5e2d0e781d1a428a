//! A running server is thrown twenty thousand inputs that no decent client sends: broken JSON, wrong types, other
//! people's ids, enormous and bottomless envelopes, frames and requests that are none, over both transports. Each must
//! get an answer that the protocol permits (sections 16.1 and 18.4) or a clean close; nothing may panic; memory stays
//! bounded; and two people who chat meanwhile must not notice.
//!
//! The seed is printed with a failure; `HOSTILE_SEED=… cargo test -p bayeux-cli --test hostile` sends the same inputs.

#![allow(clippy::print_stdout, reason = "a failure must tell its seed")]

#[path = "hostile/generate.rs"]
mod generate;
#[path = "hostile/innocent.rs"]
mod innocent;
mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bayeux_cli::options::{self, Settings};
use bayeux_cli::serve;
use generate::{Expect, Input, Known, Rng};
use innocent::Talk;
use serde_json::Value;
use tokio::sync::{Barrier, mpsc, watch};
use wire::{Frame, Frames, Http, PATIENCE, WebSocket};

/// Inputs over each way in: twice the ten thousand, since they take ten seconds in a debug build.
const LONG_POLLING: usize = 10_000;
const WEBSOCKET: usize = 8_000;
const FRAMES: usize = 1_000;
const GARBAGE: usize = 1_200;
const SLOW: usize = 40;

/// Attackers at work at the same time over each way in.
const ATTACKERS: usize = 4;

/// What the process may grow by, the test's own buffers included: a few dozen envelopes of several megabytes are under
/// way or in the allocator's hands at the worst of times. Without limits it would be gigabytes.
const GROWTH_MAX: u64 = 256 << 20;

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn hostile_input_harms_nobody() {
    let from_clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64);
    let seed = std::env::var("HOSTILE_SEED").ok().map_or_else(from_clock, |seed| seed.parse().expect("a number"));
    println!("HOSTILE_SEED={seed}");
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        report(panic);
    }));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(attack(Rng::new(seed)));
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "panics");
}

fn settings() -> Settings {
    let flags = [
        "serve",
        "--listen=127.0.0.1:0",
        "--shards=2",
        // Held connects answer soon, sessions left behind end soon.
        "--timeout=300ms",
        "--max-interval=5s",
        // So that no 5xx is ever right.
        "--duplicate-meta-connect-http-response-code=409",
    ];
    let matches = options::command().try_get_matches_from(flags).expect("these flags exist");
    options::load(&matches, std::iter::empty()).expect("these options are valid").settings
}

async fn attack(mut rng: Rng) {
    let running = serve::start(settings(), |server| server).await.expect("a server");
    let address = running.addresses()[0];
    let (stop, stopped) = watch::channel(false);
    let (ids, mut known) = mpsc::unbounded_channel();
    let both = Arc::new(Barrier::new(2));
    let talk = Talk { address, secret: rng.next() >> 12, start: Instant::now(), stop: stopped, ids, both };
    let alice = tokio::spawn(innocent::over_websocket(talk.clone(), "alice", "bob"));
    let bob = tokio::spawn(innocent::over_long_polling(talk, "bob", "alice"));
    let mut foreign = Vec::new();
    for _ in 0..2 {
        foreign.push(known.recv().await.expect("two sessions"));
    }
    let before = resident();
    let started = Instant::now();

    let mut work = tokio::task::JoinSet::new();
    for _ in 0..ATTACKERS {
        work.spawn(by_long_polling(address, rng.split(), foreign.clone(), LONG_POLLING / ATTACKERS));
        work.spawn(by_websocket(address, rng.split(), foreign.clone(), WEBSOCKET / ATTACKERS));
        work.spawn(by_frames(address, rng.split(), FRAMES / ATTACKERS));
        work.spawn(by_garbage(address, rng.split(), GARBAGE / ATTACKERS));
    }
    for _ in 0..SLOW {
        work.spawn(slowly(address, rng.split()));
    }
    // These never finish a request, and occupy nobody but themselves.
    let idlers = tokio::spawn(idle(address));
    let mut inputs = 0;
    while let Some(done) = work.join_next().await {
        inputs += done.expect("an attack that is answered as the protocol says");
    }
    let grown = resident().saturating_sub(before);
    println!("{inputs} inputs in {:?}, {} MiB more than before", started.elapsed(), grown >> 20);
    assert!(inputs >= 20_000, "{inputs} inputs");
    assert!(grown < GROWTH_MAX, "memory grew by {grown} bytes");

    // They chat on for a while when all is over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.send(true).expect("they listen");
    let alice = alice.await.expect("alice chats undisturbed");
    let bob = bob.await.expect("bob chats undisturbed");
    println!("the slowest message of the chat took {:?}", alice.slowest.max(bob.slowest));
    innocent::judge(&HashMap::from([("alice", alice), ("bob", bob)]));

    // Nothing stays behind of all those sessions.
    let deadline = Instant::now() + PATIENCE;
    while running.server().session_count() > 0 {
        assert!(Instant::now() < deadline, "{} sessions stay", running.server().session_count());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    idlers.abort();
    tokio::time::timeout(PATIENCE, running.stop()).await.expect("the server stops");
}

/// Posts inputs on a keep-alive connection, with a session of its own whose cookie it has.
async fn by_long_polling(address: SocketAddr, mut rng: Rng, foreign: Vec<String>, count: usize) -> usize {
    let mut http = Http::connect(address).await.expect("a connection");
    let mut known = Known { own: String::new(), foreign };
    let mut cookie = String::new();
    let mut before = String::new();
    for number in 0..count {
        if number % 40 == 0 {
            let handshake = br#"[{"channel":"/meta/handshake","supportedConnectionTypes":["long-polling"]}]"#;
            let response = http.post(&cookie, handshake).await.expect("a handshake's response");
            known.own = own_id(&response.body).expect("a session");
            cookie = response.cookie.unwrap_or(cookie);
        }
        let input = generate::input(&mut rng, &known);
        match http.post(&cookie, &input.bytes).await {
            Ok(response) => {
                check_status(&input, response.status, &response.body);
                before = format!("{} to {}", response.status, input.kind);
                // A body that is refused unread is in the way of the next request.
                if !response.closed && response.status != 413 {
                    continue;
                }
            }
            // A body that is refused unread: the connection may be reset before the answer is read.
            Err(error) if input.expect == Expect::TooLarge && error.kind() != std::io::ErrorKind::TimedOut => {}
            Err(error) => panic!("{error} after {before}, to {}", describe(&input)),
        }
        http = Http::connect(address).await.expect("a connection");
    }
    count
}

fn own_id(body: &[u8]) -> Option<String> {
    let replies: Value = serde_json::from_slice(body).ok()?;
    replies[0]["clientId"].as_str().map(str::to_owned)
}

fn check_status(input: &Input, status: u16, body: &[u8]) {
    let permitted: &[u16] = match input.expect {
        Expect::Replies => &[200, 409],
        Expect::Refused => &[400, 413],
        Expect::TooLarge => &[413],
        Expect::Either => &[200, 400, 409, 413],
    };
    assert!(permitted.contains(&status), "{status} to {}", describe(input));
    if status == 200 {
        check_messages(input, body);
    }
}

/// Replies are an array of at least one message (rule TH-8), each with a channel.
fn check_messages(input: &Input, text: &[u8]) {
    let messages: Vec<Value> =
        serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error} in the answer to {}", describe(input)));
    assert!(!messages.is_empty(), "nothing in the answer to {}", describe(input));
    for message in messages {
        assert!(message.is_object(), "{message} in the answer to {}", describe(input));
    }
}

fn describe(input: &Input) -> String {
    let shown = &input.bytes[..input.bytes.len().min(400)];
    format!("{} ({} bytes): {}", input.kind, input.bytes.len(), shown.escape_ascii())
}

/// Sends inputs as text messages, a new connection whenever the last one was closed.
async fn by_websocket(address: SocketAddr, mut rng: Rng, foreign: Vec<String>, count: usize) -> usize {
    // Over WebSocket an id alone finds its session (rule TW-11): what protects it is that nobody can guess it.
    let foreign = foreign.into_iter().map(|id| id.chars().rev().collect()).collect();
    let mut known = Known { own: String::new(), foreign };
    let mut connection: Option<(WebSocket, Frames)> = None;
    for number in 0..count {
        let (socket, frames) = match &mut connection {
            Some(open) => open,
            closed => {
                let (mut socket, mut frames) = wire::upgrade(address, "/cometd").await.expect("a WebSocket");
                // Some begin without a handshake, with the id of a session that they left behind or had none.
                if rng.below(4) > 0 {
                    known.own = handshake(&mut socket, &mut frames).await;
                }
                closed.insert((socket, frames))
            }
        };
        let input = generate::input(&mut rng, &known);
        if !is_answered(socket, frames, &input, number).await {
            connection = None;
        }
    }
    count
}

async fn handshake(socket: &mut WebSocket, frames: &mut Frames) -> String {
    let handshake = br#"[{"channel":"/meta/handshake","supportedConnectionTypes":["websocket"]}]"#;
    socket.text(handshake).await.expect("an open connection");
    match frames.next().await.expect("a frame") {
        Frame::Text(text) => own_id(text.as_bytes()).expect("a session"),
        other @ (Frame::Pong(_) | Frame::Close(_) | Frame::Cut) => panic!("{other:?} to a handshake"),
    }
}

/// Sends an input and waits for its answer; says whether the connection is open still.
///
/// Every text message is answered, by replies or by a close (rule TW-29), an empty array excepted. A ping behind it is
/// answered whatever the input was, unless the connection closes.
async fn is_answered(socket: &mut WebSocket, frames: &mut Frames, input: &Input, number: usize) -> bool {
    let ping = number.to_be_bytes();
    let sent = async {
        socket.text(&input.bytes).await?;
        socket.ping(&ping).await
    };
    // The server may close before it has read it all; the frames tell.
    let reading = async {
        let (mut replied, mut ponged) = (is_empty_array(&input.bytes), false);
        while !(replied && ponged) {
            match frames.next().await {
                Ok(Frame::Text(text)) => {
                    check_messages(input, text.as_bytes());
                    replied = true;
                }
                Ok(Frame::Pong(payload)) => {
                    assert_eq!(payload, ping, "pong to {}", describe(input));
                    ponged = true;
                }
                Ok(Frame::Close(code)) => {
                    check_close(input, code);
                    return false;
                }
                // The close frame may be lost where the server stopped reading a large message.
                Ok(Frame::Cut) => {
                    assert!(input.bytes.len() > 1 << 20, "cut after {}", describe(input));
                    return false;
                }
                Err(error) => panic!("{error} after {}", describe(input)),
            }
        }
        let refused = matches!(input.expect, Expect::Refused | Expect::TooLarge);
        assert!(!refused, "accepted: {}", describe(input));
        true
    };
    let (_, open) = tokio::join!(sent, reading);
    open
}

fn is_empty_array(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Vec<Value>>(bytes).is_ok_and(|messages| messages.is_empty())
}

fn check_close(input: &Input, code: u16) {
    // 1000: its session was disconnected by an earlier input (rule TW-23).
    let permitted: &[u16] = match input.expect {
        Expect::Replies => &[1000],
        Expect::Refused => &[1000, 1007, 1008, 1009],
        Expect::TooLarge => &[1000, 1009],
        Expect::Either => &[1000, 1007, 1008, 1009],
    };
    assert!(permitted.contains(&code), "close {code} to {}", describe(input));
}

/// Sends what is no frame: the connection is closed with a code that says so, or cut (rule TW-28).
async fn by_frames(address: SocketAddr, mut rng: Rng, count: usize) -> usize {
    for number in 0..count {
        let (mut socket, mut frames) = wire::upgrade(address, "/cometd").await.expect("a WebSocket");
        if number % 2 == 0 {
            handshake(&mut socket, &mut frames).await;
        }
        let (kind, bytes) = generate::frame(&mut rng);
        // A part of it, now and then, and then no more: a half-closed connection.
        let part = if rng.below(5) == 0 { rng.below(bytes.len()) } else { bytes.len() };
        let _ = socket.raw(&bytes[..part]).await;
        if part < bytes.len() || matches!(kind, "huge length" | "noise") {
            let _ = socket.shutdown().await;
        }
        let what = || format!("{kind}: {}", bytes[..part].escape_ascii());
        let answer = frames.next().await.unwrap_or_else(|error| panic!("{error} after {}", what()));
        let permitted = matches!(answer, Frame::Cut | Frame::Close(1000 | 1002 | 1003 | 1005 | 1007 | 1009));
        assert!(permitted, "{answer:?} to {}", what());
    }
    count
}

/// Sends what is no request, or one that nobody serves: a status that says so, or a close (rules TH-47, TH-53).
async fn by_garbage(address: SocketAddr, mut rng: Rng, count: usize) -> usize {
    for _ in 0..count {
        let (kind, bytes) = generate::garbage(&mut rng);
        let what = || format!("{kind}: {}", bytes[..bytes.len().min(300)].escape_ascii());
        let answer = wire::converse(address, &bytes).await.unwrap_or_else(|error| panic!("{error} to {}", what()));
        // HTTP/2 answers in frames of its own.
        if answer.is_empty() || bytes.starts_with(b"PRI") {
            continue;
        }
        let line = String::from_utf8_lossy(&answer[..answer.len().min(60)]).into_owned();
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("{line:?} to {}", what()));
        assert!((200..500).contains(&status) || [501, 505].contains(&status), "{status} to {}", what());
    }
    count
}

/// Sends a good request a byte at a time: it is answered like any other.
async fn slowly(address: SocketAddr, mut rng: Rng) -> usize {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let body = r#"[{"channel":"/meta/connect","clientId":"nobody","connectionType":"long-polling"}]"#;
    let request = format!(
        "POST /cometd HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = wire::connect(address).await.expect("a connection");
    for byte in request.bytes() {
        stream.write_all(&[byte]).await.expect("an open connection");
        tokio::time::sleep(Duration::from_millis(1 + rng.below(20) as u64)).await;
    }
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.expect("an answer in time").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("402::session_unknown"), "{answer}");
    1
}

/// Opens connections that say nothing, or never finish what they say.
async fn idle(address: SocketAddr) {
    let beginnings = ["", "P", "POST /cometd HTTP/1.1\r\n", "POST /cometd HTTP/1.1\r\nContent-Length: 9\r\n\r\n["];
    let mut open = Vec::new();
    for beginning in beginnings.iter().cycle().take(100) {
        use tokio::io::AsyncWriteExt;
        let mut stream = wire::connect(address).await.expect("a connection");
        stream.write_all(beginning.as_bytes()).await.expect("an open connection");
        open.push(stream);
    }
    let open = Arc::new(open);
    std::future::pending::<()>().await;
    drop(open);
}

/// Bytes of memory that the process has, where the system says so.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}
