//! HTTP and WebSocket by hand: a library would refuse to send most of what the hostile test sends.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// Nothing that is answered at all is answered later than this, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// A connection on which a small write does not wait for the acknowledgement of the last.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A keep-alive connection.
pub(crate) struct Http {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) cookie: Option<String>,
    pub(crate) body: Vec<u8>,
    /// The connection is of no further use.
    pub(crate) closed: bool,
}

impl Http {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let (reader, writer) = connect(address).await?.into_split();
        Ok(Self { reader: BufReader::new(reader), writer })
    }

    pub(crate) async fn post(&mut self, cookie: &str, body: &[u8]) -> io::Result<Response> {
        let cookie = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
        let head = format!(
            "POST /cometd HTTP/1.1\r\nHost: test\r\nContent-Type: application/json;charset=UTF-8\r\n{cookie}\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.writer.write_all(head.as_bytes()).await?;
        // A server may answer before it has read everything, so the answer is read meanwhile.
        let Self { reader, writer } = self;
        let response = timeout(PATIENCE, read_response(reader));
        tokio::pin!(response);
        tokio::select! {
            biased;
            response = &mut response => return response.map_err(|_| io::ErrorKind::TimedOut)?,
            _ = writer.write_all(body) => {}
        }
        response.await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

async fn read_response(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Response> {
    let mut response = Response { status: 0, cookie: None, body: Vec::new(), closed: false };
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end();
        if let Some(status) = text.strip_prefix("HTTP/1.1 ") {
            response.status = status.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
        } else if let Some((name, value)) = text.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "connection" => response.closed = value.eq_ignore_ascii_case("close"),
                "set-cookie" => response.cookie = value.split(';').next().map(str::to_owned),
                _ => {}
            }
        } else if text.is_empty() {
            break;
        }
    }
    response.body = vec![0; length];
    reader.read_exact(&mut response.body).await?;
    Ok(response)
}

/// Sends `bytes`, closes that direction, and reads to the end.
pub(crate) async fn converse(address: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let (mut reader, mut writer) = connect(address).await?.into_split();
    let write = async {
        // Fails where the server has had enough, which is its right.
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    };
    let mut answer = Vec::new();
    let read = async {
        match reader.read_to_end(&mut answer).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            other => other.map(|_| ()),
        }
    };
    let ((), read) = timeout(PATIENCE, async { tokio::join!(write, read) }).await?;
    read.map(|()| answer)
}

/// The reading side of a WebSocket.
pub(crate) struct Frames {
    reader: BufReader<OwnedReadHalf>,
}

/// The writing side.
pub(crate) struct WebSocket {
    writer: OwnedWriteHalf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Pong(Vec<u8>),
    /// With its code, 1005 for none.
    Close(u16),
    /// The connection ended without a close frame.
    Cut,
}

/// Opens a WebSocket.
pub(crate) async fn upgrade(address: SocketAddr, path: &str) -> io::Result<(WebSocket, Frames)> {
    let (reader, mut writer) = connect(address).await?.into_split();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    writer.write_all(request.as_bytes()).await?;
    let mut reader = BufReader::new(reader);
    let response = timeout(PATIENCE, read_response(&mut reader)).await??;
    if response.status == 101 {
        Ok((WebSocket { writer }, Frames { reader }))
    } else {
        Err(io::Error::other(format!("upgrade answered with {}", response.status)))
    }
}

impl WebSocket {
    pub(crate) async fn text(&mut self, payload: &[u8]) -> io::Result<()> {
        self.send(0x81, payload).await
    }

    pub(crate) async fn ping(&mut self, payload: &[u8]) -> io::Result<()> {
        self.send(0x89, payload).await
    }

    /// One frame; the mask is zero, so that the payload stays as it is.
    async fn send(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.raw(&frame).await
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.writer.write_all(bytes)).await?
    }

    /// Closes the TCP connection's sending side, without a close frame.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.writer.shutdown().await
    }
}

impl Frames {
    /// The next frame; an error is a server that is silent, or one that breaks the rules of framing.
    pub(crate) async fn next(&mut self) -> io::Result<Frame> {
        match timeout(PATIENCE, self.read()).await? {
            Err(error) if is_cut(&error) => Ok(Frame::Cut),
            other => other,
        }
    }

    async fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 2];
        self.reader.read_exact(&mut head).await?;
        let length = match head[1] {
            126 => u64::from(self.reader.read_u16().await?),
            127 => self.reader.read_u64().await?,
            short => u64::from(short),
        };
        if length > 64 << 20 {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut payload = vec![0; length as usize];
        self.reader.read_exact(&mut payload).await?;
        match head[0] {
            0x81 => String::from_utf8(payload).map(Frame::Text).map_err(io::Error::other),
            0x8a => Ok(Frame::Pong(payload)),
            0x88 => Ok(Frame::Close(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code)))),
            other => Err(io::Error::other(format!("a frame that begins with {other:#x}"))),
        }
    }
}

fn is_cut(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}
