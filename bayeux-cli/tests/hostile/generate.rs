//! Inputs that no decent client would send, from a seed.

use serde_json::{Value, json};

/// SplitMix64: small, seedable, good enough to choose mischief.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// Another generator whose numbers do not depend on how often this one is asked later.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.next())
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// One input for either transport.
pub(crate) struct Input {
    /// For failure reports.
    pub(crate) kind: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) expect: Expect,
}

/// What the protocol says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It is an envelope: there are replies.
    Replies,
    /// It is none: HTTP 400, WebSocket close 1007 or 1008; HTTP 413 and close 1009 where it is also too large.
    Refused,
    /// It is larger than what is read at all: HTTP 413, WebSocket close 1009.
    TooLarge,
    /// It may be either.
    Either,
}

/// The ids that an attacker knows.
#[derive(Clone, Default)]
pub(crate) struct Known {
    /// Its own session's.
    pub(crate) own: String,
    /// Other people's, or guesses.
    pub(crate) foreign: Vec<String>,
}

const CHANNELS: &[&str] = &[
    "/meta/handshake",
    "/meta/connect",
    "/meta/subscribe",
    "/meta/unsubscribe",
    "/meta/disconnect",
    "/meta/nothing",
    "/meta/*",
    "/service/members",
    "/service/privatechat",
    "/service/nothing",
    "/chat/innocent",
    "/chat/other",
    "/members/innocent",
    "/a/b/c",
    "/**",
    "/chat/*",
    "/chat/**",
    "/a//b",
    "/a/**/b",
    "/a/ b",
    "/trailing/",
    "//",
    "/",
    "",
    "chat",
    "/\u{0}\u{1}\u{1f}",
    "/chat/\u{202e}\u{feff}\u{10ffff}",
    "/chat/{var}",
];

/// An input of any kind. The expensive ones are rare.
pub(crate) fn input(rng: &mut Rng, known: &Known) -> Input {
    let Known { own, foreign } = known;
    match rng.below(400) {
        0 => deep(rng),
        1 => many_elements(rng),
        2 => gigantic(),
        3 => long_names(rng, own),
        4..=39 => not_utf8(rng, own),
        40..=119 => truncated(rng, own),
        120..=199 => mutated(rng, own),
        200..=239 => no_envelope(rng),
        240..=279 => {
            let id = if foreign.is_empty() { "nobody" } else { &foreign[rng.below(foreign.len())] };
            Input { kind: "foreign client id", bytes: envelope(rng, id), expect: Expect::Replies }
        }
        280..=309 => Input { kind: "no session", bytes: envelope(rng, ""), expect: Expect::Replies },
        _ => wrong_types(rng, own),
    }
}

/// One well-formed message, not a handshake.
fn message(rng: &mut Rng, client: &str) -> Value {
    let channel = CHANNELS[1..][rng.below(CHANNELS.len() - 1)];
    let mut message = json!({ "channel": channel, "id": rng.below(1000).to_string() });
    if !client.is_empty() {
        message["clientId"] = client.into();
    }
    match channel {
        "/meta/connect" => {
            message["connectionType"] = "long-polling".into();
            if rng.below(4) > 0 {
                message["advice"] = json!({ "timeout": 0 });
            }
        }
        "/meta/subscribe" | "/meta/unsubscribe" => {
            message["subscription"] = match rng.below(4) {
                0 => json!([CHANNELS[rng.below(CHANNELS.len())], CHANNELS[rng.below(CHANNELS.len())]]),
                _ => CHANNELS[rng.below(CHANNELS.len())].into(),
            };
        }
        "/meta/disconnect" => {}
        _ => {
            let room = CHANNELS[rng.below(CHANNELS.len())];
            message["data"] = json!({ "user": "mallory", "room": room, "chat": "\u{7}", "peer": "alice,,bob" });
        }
    }
    message
}

/// An envelope of one to four well-formed messages.
fn envelope(rng: &mut Rng, client: &str) -> Vec<u8> {
    let messages: Vec<Value> = (0..=rng.below(4)).map(|_| message(rng, client)).collect();
    to_vec(&Value::Array(messages))
}

/// A value of every JSON type, and the nastier ones of each.
fn anything(rng: &mut Rng) -> Value {
    match rng.below(14) {
        0 => Value::Null,
        1 => true.into(),
        2 => (-1).into(),
        3 => u64::MAX.into(),
        4 => 1e308.into(),
        5 => "".into(),
        6 => "\u{0}\u{8}\u{1b}[2J\u{7f}\r\n\"\\".into(),
        7 => "😀".repeat(rng.below(600)).into(),
        8 => json!([]),
        9 => json!([[], {}, null]),
        10 => json!({}),
        11 => json!({ "timeout": "x", "interval": -1e300, "": { "": [] } }),
        12 => Value::Array(vec![Value::String("/x".into()); rng.below(3000)]),
        _ => CHANNELS[rng.below(CHANNELS.len())].into(),
    }
}

/// Well-formed JSON whose fields have types that they must not have.
fn wrong_types(rng: &mut Rng, client: &str) -> Input {
    const FIELDS: &[&str] = &[
        "channel",
        "clientId",
        "id",
        "subscription",
        "advice",
        "ext",
        "data",
        "connectionType",
        "version",
        "minimumVersion",
        "supportedConnectionTypes",
        "successful",
        "error",
        "timestamp",
        "\u{0}",
    ];
    let mut message = message(rng, client);
    // A handshake alone is allowed; its fields are as easily wrong.
    if rng.below(10) == 0 {
        message = json!({ "channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": ["websocket"] });
    }
    for _ in 0..=rng.below(3) {
        message[rng.pick(FIELDS)] = anything(rng);
    }
    Input { kind: "wrong types", bytes: to_vec(&json!([message])), expect: Expect::Either }
}

/// The beginning of an envelope: never JSON.
fn truncated(rng: &mut Rng, client: &str) -> Input {
    let mut bytes = envelope(rng, client);
    bytes.truncate(1 + rng.below(bytes.len() - 1));
    Input { kind: "truncated", bytes, expect: Expect::Refused }
}

/// An envelope with a few bytes changed, inserted or removed.
fn mutated(rng: &mut Rng, client: &str) -> Input {
    let mut bytes = envelope(rng, client);
    for _ in 0..=rng.below(6) {
        let at = rng.below(bytes.len());
        match rng.below(5) {
            0 if bytes.len() > 2 => {
                bytes.remove(at);
            }
            1 => bytes.insert(at, rng.next() as u8),
            2 => bytes.insert(at, b"{}[]\",:\\ue0-"[rng.below(12)]),
            3 => {
                let end = (at + rng.below(20)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => bytes[at] ^= 1 << rng.below(8),
        }
    }
    Input { kind: "mutated", bytes, expect: Expect::Either }
}

fn not_utf8(rng: &mut Rng, client: &str) -> Input {
    const BAD: &[&[u8]] =
        &[b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80", b"\xf0\x9f\x98"];
    let mut bytes = envelope(rng, client);
    let at = rng.below(bytes.len());
    bytes.splice(at..at, rng.pick(BAD).iter().copied());
    Input { kind: "not UTF-8", bytes, expect: Expect::Refused }
}

/// JSON, but nothing with messages in it.
fn no_envelope(rng: &mut Rng) -> Input {
    const NOT: &[&str] = &[
        "null",
        "1",
        "-0.0e-0",
        "true",
        "\"/meta/connect\"",
        "[null]",
        "[1]",
        "[[{}]]",
        "[{},1]",
        "[[[[]]]]",
        " ",
        "{",
        "]",
        "[{}}",
        "[{\"a\":1,}]",
        "[{'channel':'/x'}]",
        "\u{feff}[",
        "[{\"channel\":\"\\ud800\\udc\"}]",
        "[{\"channel\":\"\u{1}\"}]",
        "[{\"a\":01}]",
        "[{\"a\":1e}]",
        "[{\"a\":NaN}]",
        "[{\"channel\":\"/meta/handshake\"},{\"channel\":\"/meta/handshake\"}]",
    ];
    let bytes = rng.pick(NOT).as_bytes().to_vec();
    Input { kind: "no envelope", bytes, expect: Expect::Refused }
}

fn deep(rng: &mut Rng) -> Input {
    let depth = 10_000;
    let (open, close) = if rng.below(2) == 0 { ("[", "]") } else { ("{\"a\":", "}") };
    let core = format!("{}1{}", open.repeat(depth), close.repeat(depth));
    let bytes = match rng.below(3) {
        0 => core,
        1 => format!("[{{\"channel\":\"/a\",\"data\":{core}}}]"),
        // Not even closed.
        _ => open.repeat(depth),
    };
    Input { kind: "deep", bytes: bytes.into(), expect: Expect::Refused }
}

fn many_elements(rng: &mut Rng) -> Input {
    let element = rng.pick(&["1", "{}", "[]"]);
    let list = format!("[{}{element}]", format!("{element},").repeat(999_999));
    Input { kind: "million elements", bytes: list.into(), expect: Expect::Refused }
}

fn gigantic() -> Input {
    let bytes = format!("[{{\"channel\":\"/a\",\"data\":\"{}\"}}]", "x".repeat(5 * 1024 * 1024));
    Input { kind: "gigantic", bytes: bytes.into(), expect: Expect::TooLarge }
}

fn long_names(rng: &mut Rng, client: &str) -> Input {
    let length = 1 + rng.below(100_000);
    let long = match rng.below(3) {
        0 => format!("/{}", "c".repeat(length)),
        1 => "/s".repeat(length),
        _ => "\u{1}".repeat(length),
    };
    let mut message = message(rng, client);
    message[rng.pick(&["channel", "id", "subscription", "clientId", "connectionType"])] = long.into();
    Input { kind: "long names", bytes: to_vec(&json!([message])), expect: Expect::Either }
}

fn to_vec(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Bytes that are not a WebSocket frame that a client may send, or the first part of one.
pub(crate) fn frame(rng: &mut Rng) -> (&'static str, Vec<u8>) {
    let mask = [1, 2, 3, 4];
    match rng.below(12) {
        0 => ("unmasked", vec![0x81, 2, b'[', b']']),
        1 => ("reserved opcode", [&[0x83 + rng.below(5) as u8, 0x80][..], &mask].concat()),
        2 => ("reserved bits", [&[0x81 | (0x10 << rng.below(3)), 0x80][..], &mask].concat()),
        3 => ("continuation of nothing", [&[0x80, 0x81][..], &mask, b"x"].concat()),
        4 => ("long ping", [&[0x89, 0xfe, 0, 126][..], &mask, &[0; 126]].concat()),
        5 => ("fragmented ping", [&[0x09, 0x80][..], &mask].concat()),
        6 => ("close with one byte", [&[0x88, 0x81][..], &mask, b"x"].concat()),
        7 => {
            let code = [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 65535][rng.below(8)].to_be_bytes();
            ("invalid close code", [&[0x88, 0x82][..], &mask, &[code[0] ^ 1, code[1] ^ 2]].concat())
        }
        8 => ("huge length", [&[0x81, 0xff][..], &(u64::MAX >> (1 + rng.below(20))).to_be_bytes(), &mask].concat()),
        9 => ("binary", [&[0x82, 0x81][..], &mask, b"x"].concat()),
        10 => ("text within a fragmented text", [&[0x01, 0x80][..], &mask, &[0x81, 0x80], &mask].concat()),
        _ => {
            // Noise that does not happen to be a valid frame: the reserved bits are set.
            let length = 2 + rng.below(300);
            let mut noise = rng.bytes(length);
            noise[0] |= 0x70;
            ("noise", noise)
        }
    }
}

/// Bytes to send instead of HTTP.
pub(crate) fn garbage(rng: &mut Rng) -> (&'static str, Vec<u8>) {
    const REQUESTS: &[&str] = &[
        "GET /cometd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /cometd/connect?message=%5B%5D HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "PUT /cometd HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]",
        "DELETE /cometd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "BREW /cometd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "HEAD /cometd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n[]",
        "POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n[]",
        "POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n[]",
        "POST /cometd HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n0\r\n\r\n",
        "POST /cometd HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n[]",
        "POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n[{\"channel\":",
        "POST /cometd HTTP/9.9\r\nHost: x\r\n\r\n",
        "POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Type: text/\0;charset=\r\nContent-Length: 2\r\n\r\n[]",
        "POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Type: application/json;charset=klingon\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]",
        "POST /cometd HTTP/1.1\r\nHost: x\r\nCookie: =;;; BAYEUX_BROWSER; BAYEUX_BROWSER=\"\x01\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]",
        "GET /cometd HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "GET /cometd HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x01\x09\x09\x09\x09\x09\x09\x09",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03",
        "\r\n\r\n\r\n",
    ];
    match rng.below(4) {
        0 => {
            let length = 1 + rng.below(2000);
            ("random bytes", rng.bytes(length))
        }
        1 => {
            let mut request = rng.pick(REQUESTS).as_bytes().to_vec();
            request.truncate(rng.below(request.len()));
            ("half a request", request)
        }
        2 if rng.below(10) == 0 => {
            let header = format!("X-{}: {}\r\n", "n".repeat(200), "v".repeat(2000)).repeat(100);
            ("large headers", format!("POST /cometd HTTP/1.1\r\nHost: x\r\n{header}\r\n").into_bytes())
        }
        _ => ("bad request", rng.pick(REQUESTS).as_bytes().to_vec()),
    }
}
