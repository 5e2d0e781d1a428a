//! A connection with its protocol on it: bytes below, whole bodies above.

use std::io;
use std::net::IpAddr;

use mio::{Registry, Token};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::socket::Socket;
use super::target::{Target, Transport};
use super::wire::{http, ws};

/// What a link yields.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// It is open: requests may be sent.
    Open,
    /// A WebSocket message, or the body of a response with status 200; and the cookies that came with it.
    Body(&'a [u8], &'a [String]),
    /// A response with another status.
    Refused(u16),
    /// The server ended the connection in good order, and owes nothing on it.
    Ended,
}

/// Why a link broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The system's reason.
    #[error("{}", describe(.0))]
    Io(#[from] io::Error),
    /// Not HTTP.
    #[error(transparent)]
    Http(#[from] http::Violation),
    /// Not WebSocket.
    #[error(transparent)]
    Ws(#[from] ws::Violation),
    /// The server does not speak WebSocket here.
    #[error("upgrade to WebSocket answered with HTTP {0}")]
    NoUpgrade(u16),
    /// It says it does, without proof.
    #[error("upgrade to WebSocket answered with a wrong key")]
    WrongKey,
    /// The connection ended in the middle of something.
    #[error("connection closed by the server")]
    Cut,
}

/// A system's error without its number, so that a thousand of one kind are counted as one kind.
fn describe(error: &io::Error) -> String {
    // TLS puts its reasons in these two.
    let own = matches!(error.kind(), io::ErrorKind::Other | io::ErrorKind::InvalidData);
    if own { error.to_string() } else { error.kind().to_string() }
}

/// What a read of the socket gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes; and there may be more.
    Some(usize),
    /// So many bytes, which are all.
    All(usize),
    /// Nothing for now.
    Nothing,
    /// The end.
    End,
}

/// Whether a link goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It does.
    On,
    /// It has ended.
    Ended,
}

/// A connection to the target.
#[derive(Debug)]
pub(crate) struct Link {
    socket: Socket,
    protocol: Protocol,
    connected: bool,
    out: Vec<u8>,
    /// How much of `out` has been written.
    written: usize,
    /// Requests on HTTP without response.
    owed: usize,
    /// Bytes sent that nobody has counted.
    uncounted: u64,
}

#[derive(Debug)]
enum Protocol {
    Http(http::Reader),
    /// Asked to upgrade; with the answer that is right.
    Upgrading {
        accept: String,
        partial: Vec<u8>,
    },
    Ws {
        reader: ws::Reader,
        closing: bool,
    },
}

impl Link {
    /// Begins to connect.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub(crate) fn open(target: &Target, source: Option<IpAddr>, registry: &Registry, token: Token) -> io::Result<Self> {
        let socket = Socket::open(target, source, registry, token)?;
        let Target { host, path, .. } = target;
        let (protocol, out) = match target.transport {
            Transport::LongPolling => (Protocol::Http(http::Reader::default()), Vec::new()),
            Transport::WebSocket => {
                let key = generate_key();
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
                );
                let accept = derive_accept_key(key.as_bytes());
                (Protocol::Upgrading { accept, partial: Vec::new() }, request.into_bytes())
            }
        };
        Ok(Self { socket, protocol, connected: false, out, written: 0, owed: 0, uncounted: 0 })
    }

    /// Sends an envelope: a request with `cookie`, or a message. What the system does not take at once follows as it
    /// becomes writable.
    ///
    /// # Errors
    /// [`LinkError`]: it is broken.
    pub(crate) fn send(&mut self, target: &Target, cookie: &str, envelope: &[u8], mask: u32) -> Result<(), LinkError> {
        match &self.protocol {
            Protocol::Http(_) => {
                self.out.extend_from_slice(target.post.as_bytes());
                if !cookie.is_empty() {
                    self.out.extend_from_slice(b"Cookie: ");
                    self.out.extend_from_slice(cookie.as_bytes());
                    self.out.extend_from_slice(b"\r\n");
                }
                self.out.extend_from_slice(b"Content-Length: ");
                self.out.extend_from_slice(envelope.len().to_string().as_bytes());
                self.out.extend_from_slice(b"\r\n\r\n");
                self.out.extend_from_slice(envelope);
                self.owed += 1;
            }
            Protocol::Ws { .. } | Protocol::Upgrading { .. } => {
                ws::write(ws::Kind::Text, envelope, mask, &mut self.out);
            }
        }
        self.write()
    }

    /// Begins to close: tells the server, where the protocol can, and awaits its end.
    ///
    /// # Errors
    /// [`LinkError`]: it is broken.
    pub(crate) fn close(&mut self, mask: u32) -> Result<(), LinkError> {
        if let Protocol::Ws { closing, .. } = &mut self.protocol
            && !std::mem::replace(closing, true)
        {
            ws::write(ws::Kind::Close, &1000_u16.to_be_bytes(), mask, &mut self.out);
        }
        self.write()
    }

    /// The poll says that it is writable.
    ///
    /// # Errors
    /// [`LinkError`]: it could not be opened, or is broken.
    pub(crate) fn writable(&mut self, on: &mut impl FnMut(Event<'_>)) -> Result<(), LinkError> {
        if !self.connected {
            if !self.socket.is_connected()? {
                return Ok(());
            }
            self.connected = true;
            if matches!(self.protocol, Protocol::Http(_)) {
                on(Event::Open);
            }
        }
        self.write()
    }

    fn write(&mut self) -> Result<(), LinkError> {
        if !self.connected {
            return Ok(());
        }
        while self.written < self.out.len() {
            match self.socket.write(&self.out[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.uncounted += count as u64;
                }
                Err(error) if is_for_later(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.written = 0;
        self.out.clear();
        // The buffers of thousands of idle sessions add up.
        self.out.shrink_to(KEPT);
        match self.socket.flush() {
            Err(error) if !is_for_later(&error) => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Reads once.
    ///
    /// # Errors
    /// [`LinkError`]: it is broken.
    pub(crate) fn receive(&mut self, scratch: &mut [u8]) -> Result<Received, LinkError> {
        if !self.connected {
            return Ok(Received::Nothing);
        }
        match self.socket.read(scratch) {
            Ok(0) => Ok(Received::End),
            Ok(count) if count < scratch.len() && self.socket.short_read_is_all() => Ok(Received::All(count)),
            Ok(count) => Ok(Received::Some(count)),
            Err(error) if is_for_later(&error) => Ok(Received::Nothing),
            // TLS without its goodbye, which many servers omit.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Received::End),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes in what was received, and hands what it makes to `on`.
    ///
    /// # Errors
    /// [`LinkError`]: it is broken.
    pub(crate) fn take(&mut self, bytes: &[u8], mask: u32, on: &mut impl FnMut(Event<'_>)) -> Result<Life, LinkError> {
        match &mut self.protocol {
            Protocol::Http(reader) => {
                let owed = &mut self.owed;
                let mut last = false;
                reader.feed(bytes, &mut |response| {
                    *owed = owed.saturating_sub(1);
                    last |= response.last;
                    on_response(&response, on);
                })?;
                if last { Ok(end(on)) } else { Ok(Life::On) }
            }
            Protocol::Upgrading { .. } => self.upgrade(bytes, mask, on),
            Protocol::Ws { reader, closing } => {
                let out = &mut self.out;
                let mut ended = false;
                reader.feed(bytes, &mut |incoming| match incoming {
                    ws::Incoming::Text(text) => on(Event::Body(text, &[])),
                    ws::Incoming::Ping(payload) => ws::write(ws::Kind::Pong, payload, mask, out),
                    ws::Incoming::Close(code) => {
                        let code = code.unwrap_or(1000).to_be_bytes();
                        if !std::mem::replace(closing, true) {
                            ws::write(ws::Kind::Close, &code, mask, out);
                        }
                        ended = true;
                    }
                })?;
                if !self.out.is_empty() {
                    self.write()?;
                }
                if ended { Ok(end(on)) } else { Ok(Life::On) }
            }
        }
    }

    fn upgrade(&mut self, bytes: &[u8], mask: u32, on: &mut impl FnMut(Event<'_>)) -> Result<Life, LinkError> {
        let Protocol::Upgrading { accept, partial } = &mut self.protocol else { return Ok(Life::On) };
        partial.extend_from_slice(bytes);
        let Some(answer) = http::upgraded(partial)? else { return Ok(Life::On) };
        if answer.status != 101 {
            return Err(LinkError::NoUpgrade(answer.status));
        }
        if answer.accept.as_ref() != Some(accept) {
            return Err(LinkError::WrongKey);
        }
        let rest = partial.split_off(answer.length);
        self.protocol = Protocol::Ws { reader: ws::Reader::default(), closing: false };
        on(Event::Open);
        if rest.is_empty() { Ok(Life::On) } else { self.take(&rest, mask, on) }
    }

    /// The server has ended the connection.
    ///
    /// # Errors
    /// [`LinkError`]: it owed something.
    pub(crate) fn ended(&mut self, on: &mut impl FnMut(Event<'_>)) -> Result<Life, LinkError> {
        match &mut self.protocol {
            Protocol::Http(reader) => {
                let owed = &mut self.owed;
                reader.end(&mut |response| {
                    *owed = owed.saturating_sub(1);
                    on_response(&response, on);
                })?;
                // Between requests a server may end a connection whenever it likes.
                if *owed > 0 {
                    return Err(LinkError::Cut);
                }
            }
            Protocol::Upgrading { .. } => return Err(LinkError::Cut),
            Protocol::Ws { closing, .. } if !*closing => return Err(LinkError::Cut),
            Protocol::Ws { .. } => {}
        }
        Ok(end(on))
    }

    /// Bytes sent since this was last asked.
    pub(crate) fn take_uncounted(&mut self) -> u64 {
        std::mem::take(&mut self.uncounted)
    }
}

fn end(on: &mut impl FnMut(Event<'_>)) -> Life {
    on(Event::Ended);
    Life::Ended
}

fn on_response(response: &http::Response<'_>, on: &mut impl FnMut(Event<'_>)) {
    match response.status {
        200 => on(Event::Body(&response.body, &response.cookies)),
        status => on(Event::Refused(status)),
    }
}

/// Buffers up to this size stay with a link that is idle.
const KEPT: usize = 4096;

fn is_for_later(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
