//! A run: several connections, what is sent on them, and what must have come.

use std::time::Duration;

use crate::choices::Choices;
use crate::envelope::{damage, envelope, with_ids};

use super::answers::{browser, client_ids};
use super::connection::Connection;
use super::http1::{self, Known, Request};
use super::server::Network;
use super::{frames, good, http2};

/// What a connection begins as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Http1,
    WebSocket,
    Http2,
}

/// One connection, and what was sent on it.
struct Open {
    connection: Connection,
    start: Start,
    /// For each HTTP/1.1 request whether it was a `HEAD`.
    heads: Vec<bool>,
    /// The next stream of HTTP/2.
    stream: u32,
}

/// More teach nothing and make an input slow.
const STEPS_MAX: usize = 40;
const CONNECTIONS_MAX: usize = 4;

struct Run<'s> {
    network: Network,
    starts: &'s [Start],
    open: Vec<Open>,
    known: Known,
}

/// Does what `choices` say on connections that begin as `starts` allow, and checks what comes of it.
pub(super) async fn run(network: Network, mut choices: Choices<'_>, starts: &[Start]) -> Network {
    let mut run = Run { network, starts, open: Vec::new(), known: Known::default() };
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            break;
        }
        run.step(&mut choices).await;
    }
    run.end().await
}

impl Run<'_> {
    async fn step(&mut self, choices: &mut Choices<'_>) {
        let what = choices.byte();
        let at = usize::from(what >> 6);
        if at >= self.open.len() {
            self.connect(choices).await;
        }
        let at = at.min(self.open.len() - 1);
        match what & 0x3f {
            0..48 => self.send(at, choices).await,
            48..54 => self.wait(choices).await,
            54 => self.open[at].connection.read(false),
            55..58 => self.open[at].connection.read(true),
            58 => self.open[at].connection.shut().await,
            59 | 60 => {
                let open = self.open.swap_remove(at);
                check(&open);
                open.connection.cut();
            }
            61 => {
                let _ = self.network.server.try_publish("/a/b", "by the application");
            }
            _ => self.send_raw(at, choices).await,
        }
        self.network.settle().await;
        self.look();
    }

    async fn connect(&mut self, choices: &mut Choices<'_>) {
        if self.open.len() == CONNECTIONS_MAX {
            return;
        }
        let start = self.starts[choices.below(self.starts.len())];
        let mut connection = Connection::open(&mut self.network).await;
        match start {
            Start::Http1 => {}
            Start::WebSocket => {
                let (request, is_right) = frames::upgrade(choices);
                connection.send(&self.network, &request, 0).await;
                connection.is_clean = is_right;
            }
            Start::Http2 => connection.send(&self.network, &http2::opening(), 0).await,
        }
        self.open.push(Open { connection, start, heads: Vec::new(), stream: 1 });
    }

    /// Sends what a client sends, mostly, in one piece, mostly.
    async fn send(&mut self, at: usize, choices: &mut Choices<'_>) {
        let how = choices.byte();
        let piece = if how >= 0xc0 { choices.below(64) } else { 0 };
        let open = &mut self.open[at];
        let mut bytes = match open.start {
            Start::Http1 => {
                let request = Request::choose(choices, &self.known);
                open.connection.is_clean &= request.is_clean;
                open.heads.push(request.is_head);
                request.bytes
            }
            Start::WebSocket => {
                let envelope = with_ids(&envelope(choices), &self.known.ids);
                let (bytes, is_clean) = frames::choose(choices, &envelope);
                open.connection.is_clean &= is_clean;
                bytes
            }
            Start::Http2 if how & 7 == 7 => http2::other(choices),
            Start::Http2 => {
                open.stream += 2;
                http2::request(choices, &self.known, open.stream - 2)
            }
        };
        if how & 0x38 == 0x38 {
            damage(choices, &mut bytes);
            open.connection.is_clean = false;
        }
        open.connection.send(&self.network, &bytes, piece).await;
    }

    async fn send_raw(&mut self, at: usize, choices: &mut Choices<'_>) {
        let connection = &mut self.open[at].connection;
        connection.is_clean = false;
        connection.send(&self.network, choices.bytes(255), 0).await;
    }

    async fn wait(&self, choices: &mut Choices<'_>) {
        let time = Duration::from_millis(u64::from(choices.byte()) * 50);
        if self.network.is_virtual() {
            tokio::time::sleep(time).await;
        }
    }

    /// Learns ids from what came.
    fn look(&mut self) {
        for open in &mut self.open {
            let received = open.connection.received();
            if received.len() == open.connection.searched {
                continue;
            }
            self.known.ids.extend(client_ids(&received, open.connection.searched));
            if let Some(browser) = browser(&received) {
                self.known.browser = Some(browser);
            }
            open.connection.searched = received.len();
        }
    }

    /// Everything is answered, everything ends, and others are served as ever.
    async fn end(mut self) -> Network {
        for open in &self.open {
            open.connection.read(true);
        }
        if self.network.is_virtual() {
            // Longer than a connect is held, than a body may take, and than a closed WebSocket waits.
            tokio::time::sleep(Duration::from_secs(45)).await;
            // Connects in a pipeline are held one after the other.
            for _ in 0..STEPS_MAX {
                if self.open.iter().all(is_answered) {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        }
        self.network.settle().await;
        for open in &self.open {
            check(open);
            if self.network.is_virtual() {
                assert!(is_answered(open), "TH-2: {}", open.connection.received().escape_ascii());
            }
        }
        good::serves(&mut self.network).await;
        for open in self.open {
            let (protocol, is_known) = (open.protocol(), open.is_known());
            let received = open.connection.end(&self.network).await;
            if is_known {
                check_bytes(protocol, &open.heads, &received);
            }
        }
        self.network
    }
}

impl Open {
    /// What the server takes it for: bytes at random may have made it HTTP/2.
    fn protocol(&self) -> Start {
        if self.connection.is_http2() { Start::Http2 } else { self.start }
    }

    /// Whether it is known which response answers a `HEAD`, and so has no body: not where a request may have become
    /// none, or two.
    fn is_known(&self) -> bool {
        self.connection.is_clean || !self.heads.contains(&true)
    }
}

fn check(open: &Open) {
    if open.is_known() {
        check_bytes(open.protocol(), &open.heads, &open.connection.received());
    }
}

/// All that came is what this server may send.
fn check_bytes(start: Start, heads: &[bool], received: &[u8]) {
    match start {
        Start::Http1 | Start::WebSocket => {
            if let Some(frames) = http1::responses(received, heads).upgraded {
                frames::read(frames);
            }
        }
        Start::Http2 => http2::read(received),
    }
}

/// Whether there is one response to each HTTP/1.1 request and no part of another, as long as nothing was damaged.
fn is_answered(open: &Open) -> bool {
    if open.start != Start::Http1 || !open.connection.is_clean || open.connection.is_over() {
        return true;
    }
    let received = open.connection.received();
    let responses = http1::responses(&received, &open.heads);
    responses.cut.is_empty() && responses.count == open.heads.len() && !responses.is_last
}
