//! WebSocket: frames as clients send them, and the server's read as strictly as they must be written.

use crate::choices::Choices;

use super::answers::is_envelope;

/// An upgrade request, right but for one header in a few cases; whether it is right.
pub(super) fn upgrade(choices: &mut Choices<'_>) -> (Vec<u8>, bool) {
    let mut headers = [
        "Host: test",
        "Connection: keep-alive, Upgrade",
        "Upgrade: WebSocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: bayeux, x",
        "Sec-WebSocket-Extensions: permessage-deflate",
    ];
    let is_right = !choices.rarely(24);
    if !is_right {
        let wrong = choices.pick(&[
            "X: y",
            "Connection: close",
            "Upgrade: h2c",
            "Sec-WebSocket-Version: 8",
            "Sec-WebSocket-Key: short",
            "Sec-WebSocket-Protocol: \u{1}",
            "Content-Length: 5",
        ]);
        headers[choices.below(headers.len())] = wrong;
    }
    let request = format!("GET /cometd/connect HTTP/1.1\r\n{}\r\n\r\n", headers.join("\r\n"));
    (request.into_bytes(), is_right)
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;

/// A masked frame with that first byte.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [0x11, 0x22, 0x33, 0x44];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A text in one frame.
pub(super) fn text(payload: &[u8]) -> Vec<u8> {
    frame(FIN | TEXT, payload)
}

/// Frames of a client around an envelope; whether the connection is as before after them.
pub(super) fn choose(choices: &mut Choices<'_>, envelope: &str) -> (Vec<u8>, bool) {
    let envelope = envelope.as_bytes();
    match choices.below(16) {
        0..=8 => (text(envelope), true),
        9 | 10 => {
            // In fragments, a ping between them.
            let (first, second) = envelope.split_at(envelope.len() / 2);
            let ping = if choices.below(2) == 0 { Vec::new() } else { frame(FIN | PING, b"between") };
            ([frame(TEXT, first), ping, frame(FIN | CONTINUATION, second)].concat(), true)
        }
        11 => (frame(FIN | PING, choices.bytes(125)), true),
        12 => (frame(FIN | PONG, choices.bytes(125)), true),
        13 => {
            let code = [1000, 1001, 3000, 4999, 1005, 0][choices.below(6)];
            let payload = [&u16::to_be_bytes(code)[..], choices.bytes(40)].concat();
            (frame(FIN | CLOSE, &payload), false)
        }
        14 => (frame(choices.byte(), choices.bytes(130)), false),
        _ => {
            let repeated = "x".repeat(choices.below(4) * 2_000);
            let long = format!("[{{\"channel\":\"/a\",\"data\":\"{repeated}\"}}]");
            (text(long.as_bytes()), repeated.len() < 4_000)
        }
    }
}

/// Reads all frames of the server; whether it has closed. What is not complete yet is left.
///
/// # Panics
/// Where a frame is none that this server may send.
pub(super) fn read(mut bytes: &[u8]) -> (bool, &[u8]) {
    let mut closed = false;
    while let Some((first, payload, rest)) = next(bytes) {
        assert!(!closed, "TW-20: a frame after the close");
        bytes = rest;
        match first {
            0x81 => is_envelope(payload),
            0x88 => {
                closed = true;
                is_close(payload);
            }
            0x8a => {}
            other => panic!("a frame that begins with {other:#x}"),
        }
    }
    (closed, bytes)
}

/// Splits one frame off.
fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    assert!(length < 0x80, "a server does not mask");
    let (length, rest) = match length {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes(*length));
            assert!(length >= 126, "not the shortest form");
            (length, rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            let length = usize::try_from(u64::from_be_bytes(*length)).expect("not that long");
            assert!(length > 0xffff, "not the shortest form");
            (length, rest)
        }
        length => (usize::from(length), rest),
    };
    assert!(first < 0x88 || length <= 125, "a long control frame");
    Some((first, rest.get(..length)?, &rest[length..]))
}

fn is_close(payload: &[u8]) {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return assert!(payload.is_empty(), "half a code");
    };
    let code = u16::from_be_bytes(*code);
    // Of the client's own code, which it is answered with, only the range is known.
    let permitted = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    assert!(permitted, "close {code}");
    std::str::from_utf8(reason).expect("a reason is UTF-8");
}
