//! The floor under a server's cost: what the machine needs for the sockets and bytes of `bayeux load`, with no protocol
//! behind them.
//!
//! ```text
//! cargo run --release -p bayeux-benches --bin floor -- 127.0.0.1:8081
//! bayeux load http://127.0.0.1:8081/ --mode fanout --clients 1000 --pid $(pidof floor)
//! ```
//!
//! It takes exactly what the generator sends, and nothing else: members are found by their bytes, ids are indexes,
//! nothing expires, nothing is checked, connects are answered only when there is something to deliver. One thread, one
//! poll; an event is framed once, copied to each subscriber, and each connection is written once a turn with all that
//! it has. A real server cannot be cheaper, so the distance to it is what the protocol costs.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const LISTENER: Token = Token(usize::MAX);

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    // Where the limit is too low for the connections, accepting them fails.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut floor = Floor::bind(address)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on http://{}/", floor.listener.local_addr()?)?;
    let mut events = Events::with_capacity(1024);
    loop {
        floor.poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => floor.accept()?,
                Token(index) => {
                    floor.connections.entry(index).and_modify(|connection| connection.write());
                    floor.read(index);
                }
            }
        }
        floor.write();
    }
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    connections: HashMap<usize, Connection>,
    next: usize,
    sessions: Vec<Session>,
    channels: HashMap<Vec<u8>, Vec<usize>>,
    /// Connections with something to write, and sessions with something to deliver.
    dirty: Vec<usize>,
    waiting: Vec<usize>,
    scratch: Vec<u8>,
}

/// A session; over WebSocket it has a connection, over HTTP at times a held connect.
#[derive(Default)]
struct Session {
    websocket: Option<usize>,
    held: Option<usize>,
    /// Events for the next response, each with a comma behind it.
    queue: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    upgraded: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    dirty: bool,
    ended: bool,
}

impl Floor {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            connections: HashMap::new(),
            next: 0,
            sessions: Vec::new(),
            channels: HashMap::new(),
            dirty: Vec::new(),
            waiting: Vec::new(),
            scratch: vec![0; 64 * 1024],
        })
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(self.next), interest)?;
            self.connections.insert(self.next, Connection::new(stream));
            self.next += 1;
        }
    }

    fn read(&mut self, index: usize) {
        loop {
            let Some(connection) = self.connections.get_mut(&index) else { return };
            match connection.stream.read(&mut self.scratch) {
                Ok(0) => break,
                Ok(count) => {
                    connection.input.extend_from_slice(&self.scratch[..count]);
                    self.requests(index);
                    if count < self.scratch.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.connections.remove(&index);
        for session in &mut self.sessions {
            session.websocket = session.websocket.filter(|websocket| *websocket != index);
            session.held = session.held.filter(|held| *held != index);
        }
    }

    /// Takes all whole requests or frames of a connection.
    fn requests(&mut self, index: usize) {
        while let Some(connection) = self.connections.get_mut(&index) {
            let taken = if connection.upgraded { connection.frame() } else { connection.request() };
            let Some(body) = taken else { return };
            let mut replies = b"[".to_vec();
            let mut held = false;
            for message in split(&body) {
                held |= self.message(index, message, &mut replies);
            }
            if held && replies.len() == 1 {
                continue;
            }
            replies.pop();
            replies.push(b']');
            if replies.len() > 1 {
                self.answer(index, &replies);
            }
        }
    }

    /// Does what a message asks for; whether its reply is held.
    fn message(&mut self, connection: usize, message: &[u8], replies: &mut Vec<u8>) -> bool {
        let id = between(message, b"{\"id\":\"");
        let channel = between(message, b"\"channel\":\"");
        let session = std::str::from_utf8(between(message, b"\"clientId\":\"")).ok().and_then(|id| id.parse().ok());
        let session: usize = session.unwrap_or(0);
        let upgraded = self.connections.get(&connection).is_some_and(|connection| connection.upgraded);
        match channel {
            b"/meta/handshake" => {
                let client = self.sessions.len();
                self.sessions.push(Session { websocket: upgraded.then_some(connection), ..Session::default() });
                let advice = "\"advice\":{\"reconnect\":\"retry\",\"interval\":0,\"timeout\":30000}";
                replies.extend(reply(id, channel, &format!(",\"clientId\":\"{client}\",{advice}")));
            }
            b"/meta/connect" if memmem::find(message, b"\"timeout\":0").is_none() => {
                if let Some(held) = self.sessions.get_mut(session).filter(|_| !upgraded) {
                    held.held = Some(connection);
                    if !held.queue.is_empty() {
                        self.waiting.push(session);
                    }
                }
                return true;
            }
            b"/meta/subscribe" => {
                let subscription = between(message, b"\"subscription\":\"").to_vec();
                self.channels.entry(subscription).or_default().push(session);
                replies.extend(reply(id, channel, ""));
            }
            b"/meta/connect" | b"/meta/disconnect" => replies.extend(reply(id, channel, "")),
            _ => {
                self.publish(channel, message);
                replies.extend(reply(id, channel, ""));
            }
        }
        false
    }

    /// Gives an event to all subscribers: framed once, copied to each.
    fn publish(&mut self, channel: &[u8], message: &[u8]) {
        let Some(subscribers) = self.channels.get(channel) else { return };
        let Some(data) = memmem::find(message, b"\"data\":") else { return };
        let mut event = b"{\"channel\":\"".to_vec();
        event.extend_from_slice(channel);
        event.extend_from_slice(b"\",");
        event.extend_from_slice(&message[data..]);
        let mut frame = Vec::new();
        write_frame(&[b"[", event.as_slice(), b"]"].concat(), &mut frame);
        event.push(b',');
        for &index in subscribers {
            let Some(session) = self.sessions.get_mut(index) else { continue };
            match session.websocket {
                Some(websocket) => {
                    if let Some(connection) = self.connections.get_mut(&websocket) {
                        connection.output.extend_from_slice(&frame);
                        if !std::mem::replace(&mut connection.dirty, true) {
                            self.dirty.push(websocket);
                        }
                    }
                }
                None => {
                    session.queue.extend_from_slice(&event);
                    if session.held.is_some() {
                        self.waiting.push(index);
                    }
                }
            }
        }
    }

    /// Writes what the turn has made: each connection once.
    fn write(&mut self) {
        for index in std::mem::take(&mut self.waiting) {
            let Some(session) = self.sessions.get_mut(index) else { continue };
            if session.queue.is_empty() {
                continue;
            }
            let Some(held) = session.held.take() else { continue };
            let mut body = b"[".to_vec();
            body.append(&mut session.queue);
            body.extend_from_slice(b"{\"id\":\"c\",\"channel\":\"/meta/connect\",\"successful\":true}]");
            self.answer(held, &body);
        }
        for index in std::mem::take(&mut self.dirty) {
            if let Some(connection) = self.connections.get_mut(&index) {
                connection.dirty = false;
                connection.write();
                if connection.ended && connection.output.is_empty() {
                    self.connections.remove(&index);
                }
            }
        }
    }

    /// Sends a body: as a response, or as a frame.
    fn answer(&mut self, index: usize, body: &[u8]) {
        let Some(connection) = self.connections.get_mut(&index) else { return };
        if connection.upgraded {
            write_frame(body, &mut connection.output);
        } else {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
            connection.output.extend_from_slice(format!("{head}{}\r\n\r\n", body.len()).as_bytes());
            connection.output.extend_from_slice(body);
        }
        if !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(index);
        }
    }
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, upgraded: false, input: Vec::new(), output: Vec::new(), dirty: false, ended: false }
    }

    /// Writes what the system takes; the rest follows when it is writable again.
    fn write(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(_) => return,
            }
        }
    }

    /// The body of the next request; an upgrade is answered on the way.
    fn request(&mut self) -> Option<Vec<u8>> {
        let head = memmem::find(&self.input, b"\r\n\r\n")? + 4;
        let length = match memmem::find(&self.input[..head], b"Content-Length: ") {
            Some(at) => {
                let digits = self.input[at + 16..].iter().take_while(|byte| byte.is_ascii_digit());
                digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
            }
            None => 0,
        };
        if self.input.len() < head + length {
            return None;
        }
        if let Some(key) = memmem::find(&self.input[..head], b"Sec-WebSocket-Key: ") {
            let key = self.input.get(key + 19..key + 43)?;
            let accept = derive_accept_key(key);
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
            self.output.extend_from_slice(format!("{head}Sec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes());
            self.upgraded = true;
            self.write();
        }
        let body = self.input[head..head + length].to_vec();
        self.input.drain(..head + length);
        Some(body)
    }

    /// The payload of the next frame.
    fn frame(&mut self) -> Option<Vec<u8>> {
        let &[first, second, ref rest @ ..] = self.input.as_slice() else { return None };
        let (length, mask) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?, 10),
            short => (usize::from(short), 2),
        };
        let key: [u8; 4] = *self.input.get(mask..)?.first_chunk()?;
        let payload = self.input.get(mask + 4..mask + 4 + length)?;
        let payload: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        self.input.drain(..mask + 4 + length);
        if first & 15 == 8 {
            self.output.extend_from_slice(&[0x88, 0]);
            self.ended = true;
            self.write();
        }
        Some(if first & 15 == 1 { payload } else { Vec::new() })
    }
}

/// The messages of an envelope, each as it begins and with what is behind its last member cut off.
fn split(envelope: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<_> = memmem::find_iter(envelope, b"{\"id\":\"").collect();
    let ends = starts.iter().skip(1).map(|start| start - 1).chain([envelope.len().saturating_sub(1)]);
    starts.iter().zip(ends).map(|(start, end)| &envelope[*start..end]).collect()
}

/// What follows `mark`, up to the next quote.
fn between<'a>(message: &'a [u8], mark: &[u8]) -> &'a [u8] {
    let Some(at) = memmem::find(message, mark) else { return b"" };
    let rest = &message[at + mark.len()..];
    &rest[..memchr::memchr(b'"', rest).unwrap_or(0)]
}

/// A successful reply, with a comma behind it.
fn reply(id: &[u8], channel: &[u8], more: &str) -> Vec<u8> {
    let (id, channel) = (String::from_utf8_lossy(id), String::from_utf8_lossy(channel));
    format!("{{\"id\":\"{id}\",\"channel\":\"{channel}\",\"successful\":true{more}}},").into_bytes()
}

/// Appends a frame with `text`.
fn write_frame(text: &[u8], out: &mut Vec<u8>) {
    out.push(0x81);
    match text.len() {
        length @ 0..126 => out.push(length as u8),
        length @ 126..65_536 => {
            out.push(126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}
