//! What a server sends to `bayeux load` and `bayeux check`, who must survive any.

use bayeux_cli::fuzzing as load;
use bayeux_testkit::conformance::fuzzing as check;
use serde_json::Value;

use crate::choices::Choices;
use crate::envelope::{damage, envelope};

/// Choices of what a server sends: responses of HTTP, frames of WebSocket, or messages; whole or damaged, in pieces.
///
/// Neither reader waits for more than the end, makes more of the bytes than there are, or depends on where pieces end.
/// Both read what a decent server means, and the scanner of messages reads no JSON differently from serde_json.
pub fn server_answers(data: &[u8]) {
    let mut choices = Choices::new(data);
    match choices.below(3) {
        0 => responses(&mut choices),
        1 => frames(&mut choices),
        _ => messages(&mut choices),
    }
}

/// What was sent, and what it means where it was not damaged.
struct Sent<T> {
    bytes: Vec<u8>,
    meaning: Vec<T>,
    is_clean: bool,
    piece: usize,
}

impl<T> Sent<T> {
    fn choose(choices: &mut Choices<'_>, one: impl Fn(&mut Choices<'_>, &mut Vec<u8>) -> (Vec<T>, Goes)) -> Self {
        let mut sent = Self { bytes: Vec::new(), meaning: Vec::new(), is_clean: true, piece: 1 + choices.below(64) };
        for _ in 0..AT_ONCE_MAX {
            let (meaning, goes) = one(choices, &mut sent.bytes);
            sent.meaning.extend(meaning);
            sent.is_clean &= goes != Goes::Wrong;
            if goes != Goes::On || choices.is_empty() {
                break;
            }
        }
        if choices.rarely(100) {
            damage(choices, &mut sent.bytes);
            sent.is_clean = false;
        }
        sent
    }

    /// What `read` reads, in one piece and in several.
    fn read_by<R: PartialEq + std::fmt::Debug>(&self, read: impl Fn(&mut dyn Iterator<Item = &[u8]>) -> R) -> R {
        let whole = read(&mut std::iter::once(&self.bytes[..]));
        let pieces = read(&mut self.bytes.chunks(self.piece));
        assert_eq!(whole, pieces, "in pieces of {}: {}", self.piece, self.bytes.escape_ascii());
        whole
    }
}

/// What comes behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    /// Nothing.
    Last,
    /// Something, but who knows whether it is read.
    Wrong,
}

const AT_ONCE_MAX: usize = 8;

fn responses(choices: &mut Choices<'_>) {
    let sent = Sent::choose(choices, response);
    let (by_load, load_ends_well) = sent.read_by(|pieces| load::responses(pieces));
    let (by_check, check_ends_well) = sent.read_by(|pieces| check::responses(pieces));
    for read in [&by_load, &by_check] {
        assert!(read.iter().map(|(_, body)| body.len()).sum::<usize>() <= sent.bytes.len(), "a body out of nothing");
    }
    if sent.is_clean {
        assert!(load_ends_well && check_ends_well, "refused: {}", sent.bytes.escape_ascii());
        assert_eq!(by_load, sent.meaning, "by load: {}", sent.bytes.escape_ascii());
        assert_eq!(by_check, sent.meaning, "by check: {}", sent.bytes.escape_ascii());
    }
}

/// Appends a response; its status and content, unless it is an interim one.
fn response(choices: &mut Choices<'_>, out: &mut Vec<u8>) -> (Vec<(u16, Vec<u8>)>, Goes) {
    let status = [200, 200, 200, 400, 500, 204, 304, 100, 103][choices.below(9)];
    let body = if matches!(status, 100..200 | 204 | 304) { String::new() } else { envelope(choices) };
    let extra = choices.pick(&[
        "",
        "Content-Type: application/json;charset=UTF-8\r\n",
        "Set-Cookie: BAYEUX_BROWSER=x; Path=/\r\nset-cookie: y\r\n",
        "Connection: keep-alive\r\n",
        "X:\t \r\nServer: \u{e9}\r\n",
    ]);
    out.extend(format!("HTTP/1.1 {status} Some Words\r\n{extra}").bytes());
    let goes = match choices.below(8) {
        _ if body.is_empty() => {
            out.extend(b"\r\n");
            Goes::On
        }
        0..=3 => {
            out.extend(format!("Content-Length: {}\r\n\r\n{body}", body.len()).bytes());
            Goes::On
        }
        4 | 5 => {
            out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body.as_bytes().chunks(1 + choices.below(64)) {
                out.extend(format!("{:x}{}\r\n", chunk.len(), choices.pick(&["", ";x=y", "  "])).bytes());
                out.extend(chunk);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\n\r\n");
            Goes::On
        }
        6 => {
            out.extend(format!("\r\n{body}").bytes());
            Goes::Last
        }
        _ => {
            let header = choices.pick(&[
                "Content-Length: 1\r\nContent-Length: 2",
                "Content-Length: 99999",
                "Content-Length: 18446744073709551615",
                "Content-Length: -1",
                "Transfer-Encoding: gzip",
                "Transfer-Encoding: gzip, chunked",
                "Transfer-Encoding: chunked\r\nContent-Length: 3",
                "Connection: close",
            ]);
            out.extend(format!("{header}\r\n\r\n{body}").bytes());
            Goes::Wrong
        }
    };
    (if status >= 200 { vec![(status, body.into_bytes())] } else { Vec::new() }, goes)
}

fn frames(choices: &mut Choices<'_>) {
    let sent = Sent::choose(choices, frame);
    let (by_load, load_ends_well) = sent.read_by(|pieces| load::frames(pieces));
    let (by_check, check_ends_well) = sent.read_by(|pieces| check::frames(pieces));
    if sent.is_clean {
        assert!(load_ends_well && check_ends_well, "refused: {}", sent.bytes.escape_ascii());
        // That one has no use for a pong.
        let expected: Vec<_> = sent.meaning.iter().filter_map(for_load).collect();
        assert_eq!(by_load, expected, "by load: {}", sent.bytes.escape_ascii());
        assert_eq!(by_check, sent.meaning, "by check: {}", sent.bytes.escape_ascii());
    }
}

fn for_load(read: &check::Read) -> Option<load::Read> {
    match read.clone() {
        check::Read::Text(text) => Some(load::Read::Text(text.into_bytes())),
        check::Read::Ping(payload) => Some(load::Read::Ping(payload)),
        check::Read::Close(code) => Some(load::Read::Close(code)),
        check::Read::Pong(_) => None,
        check::Read::Binary(_) => panic!("nothing binary was sent"),
    }
}

/// Appends a frame, or a message in several with a pong between them.
fn frame(choices: &mut Choices<'_>, out: &mut Vec<u8>) -> (Vec<check::Read>, Goes) {
    match choices.below(8) {
        0..=2 => {
            let text = envelope(choices);
            put_frame(out, 0x81, text.as_bytes());
            (vec![check::Read::Text(text)], Goes::On)
        }
        3 => {
            let text = envelope(choices);
            let (first, rest) = text.as_bytes().split_at(choices.below(256).min(text.len()));
            let (second, third) = rest.split_at(choices.below(256).min(rest.len()));
            put_frame(out, 0x01, first);
            put_frame(out, 0x00, second);
            put_frame(out, 0x8a, b"between");
            put_frame(out, 0x80, third);
            (vec![check::Read::Pong(b"between".to_vec()), check::Read::Text(text)], Goes::On)
        }
        4 => {
            let payload = choices.bytes(125);
            put_frame(out, 0x89, payload);
            (vec![check::Read::Ping(payload.to_vec())], Goes::On)
        }
        5 => {
            let payload = choices.bytes(125);
            put_frame(out, 0x8a, payload);
            (vec![check::Read::Pong(payload.to_vec())], Goes::On)
        }
        6 => {
            let code = choices.pair();
            put_frame(out, 0x88, &[&code.to_be_bytes()[..], b"reason"].concat());
            (vec![check::Read::Close(Some(code))], Goes::Last)
        }
        _ => {
            let first = choices.byte();
            put_frame(out, first, choices.bytes(200));
            (Vec::new(), Goes::Wrong)
        }
    }
}

/// A frame as servers send it: without a mask.
fn put_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match payload.len() {
        length @ 0..126 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend(payload);
}

fn messages(choices: &mut Choices<'_>) {
    let mut text = envelope(choices).into_bytes();
    if choices.rarely(160) {
        damage(choices, &mut text);
    }
    let found = load::messages(&text);
    // Lone surrogates and huge numbers have no place in a `Value`: such a text need only not hurt.
    let Ok(parsed) = serde_json::from_slice::<Value>(&text) else { return };
    let expected = if let Value::Array(messages) = parsed { messages } else { vec![parsed] };
    let text = text.escape_ascii();
    if !expected.iter().all(Value::is_object) {
        assert_eq!(found, None, "what is no message passes for one: {text}");
        return;
    }
    let found = found.unwrap_or_else(|| panic!("refused: {text}"));
    assert_eq!(found.len(), expected.len(), "{text}");
    for (found, expected) in found.iter().zip(&expected) {
        for name in ["channel", "id", "clientId", "successful", "error", "advice", "ext", "data"] {
            let value = found.iter().find(|member| member.0 == name).map(|member| member.1);
            let read = value.map(|value| serde_json::from_slice::<Value>(value).expect("a value"));
            assert_eq!(read.as_ref(), expected.get(name), "{name} in {text}");
            if let (Some(value), Some(Value::String(said))) = (value, read) {
                assert_eq!(load::string(value).as_deref(), Some(said.as_bytes()), "{name} in {text}");
            }
        }
    }
}
