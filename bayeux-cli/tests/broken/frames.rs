//! The proxy's WebSocket side.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Asked, Lies, Result, lie_to_server};

type Side = (TcpStream, Vec<u8>);

/// One frame: its first byte, its mask, its payload without the mask.
struct Frame {
    first: u8,
    mask: Option<[u8; 4]>,
    payload: Vec<u8>,
}

/// Passes frames on in both directions, until one side ends.
pub(super) async fn relay(client: Side, server: Side, lies: Lies, asked: Asked) -> Result<()> {
    let asked = Arc::new(Mutex::new(asked));
    let (mut from_client, mut to_client) = client.0.into_split();
    let (mut from_server, mut to_server) = server.0.into_split();
    let (mut client_buffer, mut server_buffer) = (client.1, server.1);
    let upwards = async {
        while let Some(mut frame) = read(&mut from_client, &mut client_buffer).await? {
            if frame.first == 0x81 {
                let told = lie_to_server(lies, &mut asked.lock().expect("no panic"), &frame.payload);
                frame.payload = told.unwrap_or(frame.payload);
            }
            to_server.write_all(&frame.encode()).await?;
        }
        to_server.shutdown().await
    };
    let downwards = async {
        while let Some(mut frame) = read(&mut from_server, &mut server_buffer).await? {
            tokio::time::sleep(lies.delay).await;
            if frame.first != 0x81 {
                (lies.frame)(frame.first & 0x0f, &mut frame.payload);
                to_client.write_all(&frame.encode()).await?;
                continue;
            }
            let text = String::from_utf8_lossy(&frame.payload).into_owned();
            let told = asked.lock().expect("no panic").lie(lies, &text);
            let messages = told.or_else(|| serde_json::from_str(&text).ok().filter(|_| lies.one_by_one));
            for payload in payloads(messages, lies, text) {
                to_client.write_all(&Frame { payload, ..frame }.encode()).await?;
            }
        }
        to_client.shutdown().await
    };
    tokio::try_join!(upwards, downwards)?;
    Ok(())
}

fn payloads(messages: Option<Vec<Value>>, lies: Lies, text: String) -> Vec<Vec<u8>> {
    match messages {
        None => vec![text.into_bytes()],
        Some(messages) if lies.one_by_one => {
            messages.into_iter().map(|message| Value::Array(vec![message]).to_string().into_bytes()).collect()
        }
        Some(messages) => vec![Value::Array(messages).to_string().into_bytes()],
    }
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin), buffer: &mut Vec<u8>) -> Result<Option<Frame>> {
    loop {
        if let Some((frame, length)) = parse(buffer) {
            buffer.drain(..length);
            return Ok(Some(frame));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let [first, second] = *bytes.first_chunk::<2>()?;
    let (at, length) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
        length => (2, usize::from(length)),
    };
    let mask = if second & 0x80 != 0 { Some(*bytes.get(at..)?.first_chunk::<4>()?) } else { None };
    let at = at + if mask.is_some() { 4 } else { 0 };
    let mut payload = bytes.get(at..at + length)?.to_vec();
    apply(mask, &mut payload);
    Some((Frame { first, mask, payload }, at + length))
}

fn apply(mask: Option<[u8; 4]>, payload: &mut [u8]) {
    let Some(mask) = mask else { return };
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

impl Frame {
    fn encode(mut self) -> Vec<u8> {
        let bit = if self.mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match self.payload.len() {
            length @ 0..=125 => bytes.push(bit | length as u8),
            length @ 126..=0xffff => {
                bytes.push(bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(bit | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(self.mask.into_iter().flatten());
        apply(self.mask, &mut self.payload);
        bytes.extend(self.payload);
        bytes
    }
}
