//! WebSocket frames by hand: a library would refuse to send most of what a script may want to send.

use std::fmt;
use std::io;

use bayeux_testkit::script;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The first byte of a whole text message: FIN and the opcode 1.
pub(crate) const TEXT: u8 = 0x81;
/// Of a whole binary message.
pub(crate) const BINARY: u8 = 0x82;
/// Of a close frame.
pub(crate) const CLOSE: u8 = 0x88;
/// Of a ping.
pub(crate) const PING: u8 = 0x89;
/// Of a pong.
pub(crate) const PONG: u8 = 0x8a;

/// A frame.
#[derive(Debug)]
pub(crate) struct Frame {
    /// FIN, reserved bits and opcode.
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Its bytes as clients send them, masked, or as servers do.
    pub(crate) fn encode(&self, masked: bool) -> Vec<u8> {
        let mask_bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match self.payload.len() {
            length @ 0..126 => bytes.push(mask_bit | length as u8),
            length @ 126..65_536 => {
                bytes.push(mask_bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(mask_bit | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            let mask = [0x37, 0xfa, 0x21, 0x3d];
            bytes.extend(mask);
            bytes.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// Reads one that a server sent.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let first = stream.read_u8().await?;
        let length = match stream.read_u8().await? {
            126 => u64::from(stream.read_u16().await?),
            127 => stream.read_u64().await?,
            masked if masked > 127 => return Err(io::Error::other("servers do not mask")),
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        stream.read_exact(&mut payload).await?;
        Ok(Self { first, payload })
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.payload);
        match self.first {
            TEXT => match serde_json::from_slice(&self.payload) {
                Ok(json) => f.write_str(&script::print(&json)),
                Err(_) => write!(f, "text {text}"),
            },
            PING => write!(f, "ping {text}"),
            PONG => write!(f, "pong {text}"),
            CLOSE => match self.payload.split_first_chunk() {
                Some((code, reason)) => {
                    let line = format!("close {} {}", u16::from_be_bytes(*code), String::from_utf8_lossy(reason));
                    f.write_str(line.trim_end())
                }
                None => f.write_str("close"),
            },
            other => write!(f, "frame {other:02x} {text}"),
        }
    }
}
