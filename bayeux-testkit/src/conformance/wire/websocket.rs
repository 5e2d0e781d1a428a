//! WebSocket frames: sent as told, right or wrong, and read strictly (RFC 6455).

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{BODY_MAX, Http1, Lost, Stream};
use crate::conformance::transcript::Log;

/// The kinds of frames that the suite sends; [`encode`] takes any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::conformance) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// What the server sent; fragments are put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::conformance) enum Frame {
    Text(String),
    Binary(usize),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// A close frame, with its code if it has one.
    Close(Option<u16>, String),
    /// The end of the connection without a close frame before it.
    Cut,
}

/// An open WebSocket.
pub(in crate::conformance) struct WebSocket {
    stream: Stream,
    buffer: Vec<u8>,
    message: Option<(u8, Vec<u8>)>,
    log: Log,
    link: String,
    ended: bool,
}

/// Any mask is as good as another against a server.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame's bytes. `first` is the first byte: FIN, reserved bits and opcode.
pub(in crate::conformance) fn encode(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(mask_bit | length as u8),
        length @ 126..=0xffff => {
            frame.push(mask_bit | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(mask_bit | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        frame.extend(payload);
    }
    frame
}

impl WebSocket {
    /// Takes a connection over after status 101.
    pub(in crate::conformance) fn new(connection: Http1, log: Log) -> Self {
        let link = log.link("ws");
        log.note(&link, "opened");
        let (stream, buffer) = connection.into_parts();
        Self { stream, buffer, message: None, log, link, ended: false }
    }

    /// Sends a text message in one frame.
    pub(in crate::conformance) async fn text(&mut self, text: &[u8]) -> Result<(), Lost> {
        self.frame(Opcode::Text, true, text).await
    }

    /// Sends a frame, the last of its message or not.
    pub(in crate::conformance) async fn frame(
        &mut self,
        opcode: Opcode,
        last: bool,
        payload: &[u8],
    ) -> Result<(), Lost> {
        let first = opcode as u8 | if last { 0x80 } else { 0 };
        if opcode == Opcode::Text {
            self.log.sent(&self.link, payload);
        } else {
            self.log.sent(&self.link, &[format!("{opcode:?} ").as_bytes(), payload].concat());
        }
        self.write(&encode(first, true, payload)).await
    }

    /// Writes bytes that may be no frame.
    pub(in crate::conformance) async fn raw(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.log.sent(&self.link, format!("bytes {}", bytes[..bytes.len().min(60)].escape_ascii()).as_bytes());
        self.write(bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next frame or message. Pings are answered. Nothing is lost where the future is dropped.
    pub(in crate::conformance) async fn next(&mut self) -> Result<Frame, Lost> {
        if self.ended {
            return Ok(Frame::Cut);
        }
        loop {
            if let Some((first, payload)) = self.parse()? {
                if let Some(frame) = self.take(first, payload)? {
                    self.show(&frame);
                    if let Frame::Ping(payload) = &frame {
                        self.frame(Opcode::Pong, true, payload).await?;
                    }
                    return Ok(frame);
                }
                continue;
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => {
                    self.ended = true;
                    self.log.note(&self.link, "closed by the server");
                    return Ok(Frame::Cut);
                }
                Ok(_) => {}
            }
        }
    }

    fn show(&mut self, frame: &Frame) {
        match frame {
            Frame::Text(text) => self.log.received(&self.link, text.as_bytes()),
            Frame::Close(..) => {
                self.ended = true;
                self.log.received(&self.link, format!("{frame:?}").as_bytes());
            }
            Frame::Binary(_) | Frame::Ping(_) | Frame::Pong(_) | Frame::Cut => {
                self.log.received(&self.link, format!("{frame:?}").as_bytes());
            }
        }
    }

    /// Cuts one frame off the buffer, if there is one.
    fn parse(&mut self) -> Result<Option<(u8, Vec<u8>)>, Lost> {
        let &[first, second, ref rest @ ..] = &self.buffer[..] else { return Ok(None) };
        if second & 0x80 != 0 {
            return Err(malformed("a server's frame is masked"));
        }
        let (head, length) = match second {
            126 => match rest.first_chunk::<2>() {
                Some(bytes) => (4, usize::from(u16::from_be_bytes(*bytes))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(bytes) => (10, usize::try_from(u64::from_be_bytes(*bytes)).unwrap_or(usize::MAX)),
                None => return Ok(None),
            },
            length => (2, usize::from(length)),
        };
        if length > BODY_MAX {
            return Err(malformed("a frame is too long"));
        }
        if self.buffer.len() < head + length {
            return Ok(None);
        }
        let frame: Vec<u8> = self.buffer.drain(..head + length).collect();
        Ok(Some((first, frame[head..].to_vec())))
    }

    /// What a frame means, together with those before it; nothing as long as its message goes on.
    fn take(&mut self, first: u8, payload: Vec<u8>) -> Result<Option<Frame>, Lost> {
        if first & 0x70 != 0 {
            return Err(malformed("a frame has reserved bits though no extension was agreed on"));
        }
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        match opcode {
            0..=2 => {
                let (kind, mut text) = match (opcode, self.message.take()) {
                    (0, Some(begun)) => begun,
                    (0, None) => return Err(malformed("a continuation continues nothing")),
                    (kind, None) => (kind, Vec::new()),
                    (_, Some(_)) => return Err(malformed("a message begins within another")),
                };
                if text.len() + payload.len() > BODY_MAX {
                    return Err(malformed("a message is too long"));
                }
                text.extend(payload);
                if !last {
                    self.message = Some((kind, text));
                    return Ok(None);
                }
                if kind == 2 {
                    return Ok(Some(Frame::Binary(text.len())));
                }
                String::from_utf8(text).map(|text| Some(Frame::Text(text))).map_err(|_| malformed("text is not UTF-8"))
            }
            8 => {
                let code = payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code));
                let reason = payload.get(2..).unwrap_or_default();
                Ok(Some(Frame::Close(code, String::from_utf8_lossy(reason).into_owned())))
            }
            9 => Ok(Some(Frame::Ping(payload))),
            10 => Ok(Some(Frame::Pong(payload))),
            _ => Err(malformed("a frame has a reserved opcode")),
        }
    }
}

fn malformed(what: &str) -> Lost {
    Lost::Malformed { protocol: "WebSocket", what: what.to_owned() }
}
