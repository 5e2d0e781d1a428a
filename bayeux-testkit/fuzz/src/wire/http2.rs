//! HTTP/2: frames as clients send them, and the server's read as far as that needs no state of header compression.

use std::collections::BTreeMap;

use crate::choices::Choices;
use crate::envelope::{envelope, with_ids};

use super::answers::is_envelope;
use super::http1::Known;

/// What every connection begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client begins with: the preface, and settings that change nothing.
pub(super) fn opening() -> Vec<u8> {
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, b"")].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block without compression: every field a literal that is added to no table.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // Lengths from 127 on take another form, which nothing here needs.
            let text = &text.as_bytes()[..text.len().min(126)];
            block.push(text.len() as u8);
            block.extend(text);
        }
    }
    block
}

/// A request on the stream of that number: mostly a `POST` with an envelope.
pub(super) fn request(choices: &mut Choices<'_>, known: &Known, stream: u32) -> Vec<u8> {
    let body = with_ids(&envelope(choices), &known.ids);
    let cookie = format!("BAYEUX_BROWSER={}", known.browser.as_deref().unwrap_or("unknown"));
    let length = body.len().to_string();
    let mut fields = vec![
        (":method", choices.pick(&["POST", "POST", "POST", "GET", "OPTIONS", "CONNECT"])),
        (":scheme", "http"),
        (":path", choices.pick(&["/cometd", "/cometd", "/cometd/connect", "/", "/cometd?jsonp=f&message=[]"])),
        (":authority", "test"),
        ("content-type", choices.pick(&["application/json", "text/plain", "application/x-www-form-urlencoded"])),
        ("cookie", &cookie),
    ];
    match choices.below(16) {
        0..=5 => {}
        6..=9 => fields.push(("content-length", &length)),
        10 => fields.push(("content-length", "1")),
        11 => fields.push(("connection", "close")),
        12 => fields.push((":late", "pseudo")),
        13 => fields.push(("transfer-encoding", "chunked")),
        14 => drop(fields.remove(choices.below(6))),
        _ => fields.push(("Upper", "case")),
    }
    let mut frames = frame(HEADERS, END_HEADERS, stream, &block(&fields));
    let size = 1 + choices.below(200);
    for chunk in body.as_bytes().chunks(size.max(body.len() / 20 + 1)) {
        frames.extend(frame(DATA, 0, stream, chunk));
    }
    frames.extend(frame(DATA, END_STREAM, stream, b""));
    frames
}

/// A frame that is about the connection or a stream, or about nothing.
pub(super) fn other(choices: &mut Choices<'_>) -> Vec<u8> {
    let stream = [1, 3, 5, 0, 2][choices.below(5)];
    match choices.below(8) {
        0 => frame(PING, choices.byte() & ACK, 0, b"8 bytes."),
        1 => frame(RST_STREAM, 0, stream, &u32::from(choices.byte()).to_be_bytes()),
        2 => frame(WINDOW_UPDATE, 0, stream, &(u32::from(choices.pair()) << 15).to_be_bytes()),
        3 => frame(GO_AWAY, 0, 0, &[0; 8]),
        4 => {
            let setting = [&[0, choices.byte() % 8][..], &(u32::from(choices.pair()) * 4).to_be_bytes()].concat();
            frame(SETTINGS, 0, 0, &setting)
        }
        5 => frame(DATA, choices.byte(), stream, choices.bytes(60)),
        6 => frame(HEADERS, choices.byte(), stream, choices.bytes(60)),
        _ => frame(choices.byte(), choices.byte(), stream, choices.bytes(60)),
    }
}

/// Reads all frames of the server.
///
/// # Panics
/// Where they are none, or the body of a 200 is no envelope.
pub(super) fn read(mut bytes: &[u8]) {
    // Streams that are answered 200, and their bodies.
    let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let [high, middle, low, kind, flags, stream @ ..] = *head;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let stream = u32::from_be_bytes(stream);
        assert!(length <= 16_384, "a frame larger than we allowed");
        assert!(kind <= 9 && kind != 5 && stream < 1 << 31, "frame type {kind} on stream {stream}");
        let Some(payload) = rest.get(..length) else { return };
        bytes = &rest[length..];
        match kind {
            HEADERS => {
                assert!(stream % 2 == 1, "an answer to nothing");
                // `:status: 200`, by its number in the static table.
                if payload.first() == Some(&0x88) {
                    bodies.insert(stream, Vec::new());
                }
            }
            DATA => {
                if let Some(body) = bodies.get_mut(&stream) {
                    body.extend(payload);
                }
            }
            _ => continue,
        }
        if flags & END_STREAM != 0
            && let Some(body) = bodies.remove(&stream)
            && !body.is_empty()
            && !body.starts_with(b"f([")
        {
            is_envelope(&body);
        }
    }
}
