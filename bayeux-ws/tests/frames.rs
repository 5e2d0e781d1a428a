//! Frames and upgrades, good and bad, byte by byte: RFC 6455 below Bayeux, and the close codes of section 18.4.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::time::Duration;

use bayeux_ws::{AllowedOrigins, Config, Endpoint, Server, Transport, WebSocket, WsOptions};
use common::{Client, frame, head, quick, read_close, read_frame, start, start_with, upgrade};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TEXT: u8 = 0x81;

/// Any envelope that is answered: by `400::channel_missing`.
const ASK: &[u8] = b"[{}]";

async fn answered(stream: &mut TcpStream) {
    stream.write_all(&frame(TEXT, ASK)).await.unwrap();
    let (first, payload) = read_frame(stream).await.unwrap();
    assert_eq!(first, TEXT);
    let messages: Vec<Value> = serde_json::from_slice(&payload).unwrap();
    assert_eq!(messages[0]["error"], "400::channel_missing");
}

/// TW-7: a single object is an envelope, too; fragments are one message.
#[tokio::test]
async fn fragments_are_one_message() {
    let running = start(quick()).await;
    let mut stream = running.raw().await;
    stream.write_all(&frame(0x01, b"[")).await.unwrap();
    stream.write_all(&frame(0x00, b"{")).await.unwrap();
    // TW-28: a ping is answered between fragments, before any handshake.
    stream.write_all(&frame(0x89, b"are you there?")).await.unwrap();
    assert_eq!(read_frame(&mut stream).await, Some((0x8a, b"are you there?".to_vec())));
    stream.write_all(&frame(0x80, b"}]")).await.unwrap();
    assert_eq!(read_frame(&mut stream).await.unwrap().0, TEXT);
    stream.write_all(&frame(TEXT, b"{}")).await.unwrap();
    assert_eq!(read_frame(&mut stream).await.unwrap().1.first(), Some(&b'['));
    // A character in two fragments, and a frame in single bytes.
    stream.write_all(&frame(0x01, b"[{\"x\":\"\xc3")).await.unwrap();
    stream.write_all(&frame(0x80, b"\xa9\"}]")).await.unwrap();
    assert_eq!(read_frame(&mut stream).await.unwrap().0, TEXT);
    for byte in frame(TEXT, ASK) {
        stream.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(read_frame(&mut stream).await.unwrap().0, TEXT);
}

/// TW-20, TW-21, TW-28: what each mistake is closed with.
#[tokio::test]
async fn each_mistake_has_its_close_code() {
    let mut config = quick();
    config.websocket.max_message_size = 100_000;
    let running = start(config).await;
    let deep = format!("[{{\"data\":{}{}}}]", "[".repeat(10_000), "]".repeat(10_000));
    let large = vec![b' '; 100_001];
    let hello = br#"[{"channel":"/meta/handshake","version":"1.0"},{"channel":"/meta/connect"}]"#;
    let mut unmasked = frame(TEXT, ASK);
    unmasked[1] &= 0x7f;
    let mut two_halves = frame(0x01, &large[..60_000]);
    two_halves.extend(frame(0x80, &large[..60_000]));
    let cases: [(u16, &str, Vec<u8>); 20] = [
        (1007, "TW-20 bad JSON", frame(TEXT, b"[{")),
        (1007, "TW-20 an empty frame", frame(TEXT, b"")),
        (1007, "TW-28 invalid UTF-8", frame(TEXT, b"[{\"x\":\"\xff\"}]")),
        (1007, "TW-28 invalid UTF-8, cut off", frame(TEXT, b"[{\"x\":\"\xc3")),
        (1008, "TW-20 no envelope", frame(TEXT, b"1")),
        (1008, "TW-20 no envelope", frame(TEXT, b"[null]")),
        (1008, "TW-20 too deep", frame(TEXT, deep.as_bytes())),
        (1008, "TW-20 a handshake in a batch", frame(TEXT, hello)),
        (1009, "TW-21 too large", frame(TEXT, &large)),
        (1009, "TW-21 too large in fragments", two_halves),
        (1009, "TW-21 too large, declared", [&[TEXT, 0xff][..], &(u64::MAX >> 1).to_be_bytes(), &[0; 4]].concat()),
        (1003, "TW-7 binary", frame(0x82, ASK)),
        (1002, "TW-28 unmasked", unmasked),
        (1002, "TW-28 reserved opcode", frame(0x83, b"")),
        (1002, "TW-28 reserved control opcode", frame(0x8b, b"")),
        (1002, "TW-28 reserved bit", frame(0xc1, ASK)),
        (1002, "TW-28 continuation of nothing", frame(0x80, ASK)),
        (1002, "TW-28 a new message inside another", [frame(0x01, b"["), frame(TEXT, ASK)].concat()),
        (1002, "TW-28 control frame over 125 bytes", frame(0x89, &[0; 126])),
        (1002, "TW-28 fragmented control frame", frame(0x09, b"")),
    ];
    for (code, rule, bytes) in cases {
        let mut stream = running.raw().await;
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(read_close(&mut stream).await, Some(code), "{rule}");
    }
    answered(&mut running.raw().await).await;
}

/// Who pings behind a message learns by the answer that the message was processed: whatever arrives together, pongs are in
/// their place among the replies, and none comes behind what is no envelope (TW-20).
#[tokio::test]
async fn pongs_keep_their_place() {
    let running = start(quick()).await;
    let ping = |payload: &[u8]| frame(0x89, payload);
    let ask = frame(TEXT, ASK);
    let mut stream = running.raw().await;
    let large = frame(TEXT, format!("[{{\"x\":\"{}\"}}]", "x".repeat(200_000)).as_bytes());
    stream
        .write_all(&[&ping(b"1")[..], &ask, &ping(b"2"), &ping(b"3"), &ask, &large, &ping(b"4")].concat())
        .await
        .unwrap();
    let mut seen = Vec::new();
    for _ in 0..7 {
        let (first, payload) = read_frame(&mut stream).await.unwrap();
        seen.push(if first == 0x8a { String::from_utf8(payload).unwrap() } else { format!("{first:x}") });
    }
    assert_eq!(seen, ["1", "81", "2", "3", "81", "81", "4"]);

    for bad in [&b"[{"[..], b"1", b"[{\"a\":1,}]"] {
        let mut stream = running.raw().await;
        stream.write_all(&[&ask[..], &frame(TEXT, bad), &ping(b"in vain"), &ask].concat()).await.unwrap();
        assert_eq!(read_frame(&mut stream).await.unwrap().0, TEXT);
        let (first, _) = read_frame(&mut stream).await.unwrap();
        assert_eq!(first, 0x88);
    }
}

/// TW-20: a connection that is closed for an envelope is closed for that, whatever came behind it.
#[tokio::test]
async fn first_mistake_counts() {
    let running = start(quick()).await;
    let hello = br#"[{"channel":"/meta/handshake","version":"1.0"},{"channel":"/meta/connect"}]"#;
    for behind in [frame(0x89, b"in vain"), frame(0x83, b""), frame(0x82, ASK), frame(TEXT, b"[{")] {
        let mut stream = running.raw().await;
        stream.write_all(&[frame(TEXT, hello), behind].concat()).await.unwrap();
        let (first, payload) = read_frame(&mut stream).await.unwrap();
        assert_eq!((first, payload.get(..2)), (0x88, Some(&1008_u16.to_be_bytes()[..])));
    }
    running.stop().await;
}

/// TW-28: a close frame is answered with its code; one with a code that may not be sent fails the connection.
#[tokio::test]
async fn close_is_answered() {
    let running = start(quick()).await;
    for (sent, answer) in [(&[][..], None), (&1000_u16.to_be_bytes()[..], Some(1000)), (b"\x0b\xb8bye", Some(3000))] {
        let mut stream = running.raw().await;
        stream.write_all(&frame(0x88, sent)).await.unwrap();
        let (first, payload) = read_frame(&mut stream).await.unwrap();
        assert_eq!(first, 0x88);
        assert_eq!(payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]])), answer);
        assert_eq!(read_frame(&mut stream).await, None);
    }
    for invalid in [&1005_u16.to_be_bytes()[..], &999_u16.to_be_bytes(), b"\x03"] {
        let mut stream = running.raw().await;
        stream.write_all(&frame(0x88, invalid)).await.unwrap();
        assert!(matches!(read_close(&mut stream).await, Some(1002) | None), "{invalid:?}");
    }
}

/// DI-F7: `[]` is ignored.
#[tokio::test]
async fn empty_array_is_ignored() {
    let running = start(quick()).await;
    let mut stream = running.raw().await;
    stream.write_all(&frame(TEXT, b"[]")).await.unwrap();
    stream.write_all(&frame(TEXT, b" [ ] ")).await.unwrap();
    answered(&mut stream).await;
}

/// Bytes that follow the upgrade's head at once are the first frames.
#[tokio::test]
async fn frames_may_come_with_the_upgrade() {
    let running = start(quick()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = "GET /cometd HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // More than the read buffer of a connection.
    let ask = format!("[{{\"x\":\"{}\"}}]", "x".repeat(3_000));
    stream.write_all(&[request.as_bytes(), &frame(TEXT, ask.as_bytes())].concat()).await.unwrap();
    assert!(head(&mut stream, "").await.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(read_frame(&mut stream).await.unwrap().0, TEXT);
}

/// TW-1, TW-28: upgrades that are none.
#[tokio::test]
async fn bad_upgrades_are_refused() {
    let running = start(quick()).await;
    let good = "GET /cometd HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let without = |line: &str| good.replacen(line, "X: y", 1);
    for (status, request) in [
        ("101", good.to_owned()),
        ("426", good.replace(": 13", ": 8")),
        ("426", without("Sec-WebSocket-Version: 13")),
        ("400", without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")),
        ("400", good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short")),
        ("400", without("Connection: Upgrade")),
        ("400", without("Upgrade: websocket")),
        ("400", good.replacen("websocket", "h2c", 1)),
        ("400", good.replacen("GET", "POST", 1)),
        ("404", good.replacen("/cometd", "/", 1)),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let answer = head(&mut stream, &request).await;
        assert_eq!(&answer[9..12], status, "{request}{answer}");
        assert_eq!(status == "426", answer.contains("sec-websocket-version: 13"), "{answer}");
    }
}

/// T-6: a transport that is not allowed refuses.
#[tokio::test]
async fn upgrade_is_refused_where_not_allowed() {
    let mut config = quick();
    config.allowed_transports = vec![Transport::LongPolling];
    let running = start(config).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    assert!(upgrade(&mut stream, "").await.starts_with("HTTP/1.1 400"));
}

/// TW-3, Z-19, E-156: the subprotocol.
#[tokio::test]
async fn subprotocol_is_selected() {
    let ours = Some("bayeux/1.0");
    for (option, offered, selected) in [
        (None, None, Some(None)),
        (None, Some("a, b"), Some(Some("a"))),
        (ours, Some("a,bayeux/1.0"), Some(ours)),
        (ours, Some("a"), None),
        (ours, None, None),
    ] {
        let mut options = WsOptions::default();
        options.protocol = option.map(str::to_owned);
        let running = start_with(Server::builder(quick()), options).await;
        let offer = offered.map(|offer| format!("Sec-WebSocket-Protocol: {offer}\r\n")).unwrap_or_default();
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let answer = upgrade(&mut stream, &offer).await;
        assert_eq!(answer.starts_with("HTTP/1.1 101"), selected.is_some(), "{answer}");
        assert_eq!(answer.starts_with("HTTP/1.1 400"), selected.is_none(), "{answer}");
        let line = answer.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(line, selected.flatten());
    }
}

/// TW-4, Z-14: origins.
#[tokio::test]
async fn origins_are_checked_where_listed() {
    let only = AllowedOrigins::from_list(["https://a.example".to_owned()]);
    for (allowed, origin, status) in [
        (AllowedOrigins::Any, "Origin: https://b.example\r\n", "101"),
        (only.clone(), "Origin: https://a.example\r\n", "101"),
        (only.clone(), "Origin: https://b.example\r\n", "403"),
        (only.clone(), "Origin: null\r\n", "403"),
        (only, "", "101"),
    ] {
        let mut options = WsOptions::default();
        options.allowed_origins = allowed;
        let running = start_with(Server::builder(quick()), options).await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        assert_eq!(&upgrade(&mut stream, origin).await[9..12], status);
    }
}

/// TW-6, O-37: a silent connection is closed; one that only pings is not silent.
#[tokio::test]
async fn silent_connection_is_closed() {
    let mut options = WsOptions::default();
    options.idle_timeout = Duration::from_millis(400);
    let running = start_with(Server::builder(quick()), options).await;
    let mut silent = running.raw().await;
    let mut pinging = running.raw().await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        pinging.write_all(&frame(0x89, b"")).await.unwrap();
        assert_eq!(read_frame(&mut pinging).await, Some((0x8a, Vec::new())));
    }
    assert_eq!(read_close(&mut silent).await, Some(1001));
    answered(&mut pinging).await;
}

/// Pings that nobody reads the answers to: we stop reading, and keep no more than one of them.
#[tokio::test]
async fn unread_pongs_are_not_piled_up() {
    let running = start(quick()).await;
    let mut stream = running.raw().await;
    let pings = frame(0x89, &[0; 125]).repeat(8_192);
    let mut taken = 0;
    // What the operating system keeps for both ends is less than this by far.
    while taken < 64 << 20 {
        match tokio::time::timeout(Duration::from_secs(1), stream.write(&pings[taken % pings.len()..])).await {
            Ok(written) => taken += written.unwrap(),
            Err(_) => break,
        }
    }
    assert!(taken < 64 << 20, "the server read on");
    answered(&mut running.raw().await).await;
    // As soon as the client reads, all goes on.
    let (mut reading, mut writing) = stream.split();
    let asked = frame(TEXT, ASK);
    let rest = pings[taken % pings.len()..].to_vec();
    let write = async {
        writing.write_all(&rest).await.unwrap();
        writing.write_all(&asked).await.unwrap();
    };
    let read = async {
        let mut seen = Vec::new();
        let needle = b"400::channel_missing";
        while !seen.windows(needle.len()).any(|window| window == needle) {
            let kept = seen.len().saturating_sub(needle.len());
            seen.drain(..kept);
            assert_ne!(reading.read_buf(&mut seen).await.unwrap(), 0);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(write, read) }).await.unwrap();
}

/// Frames cut off at every byte, and noise: each costs its own connection only.
#[tokio::test]
async fn garbage_leaves_the_server_alone() {
    let running = start(quick()).await;
    let mut seed: u64 = 1;
    for length in 0..200 {
        let noise: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 56) as u8
            })
            .collect();
        let mut stream = running.raw().await;
        let _ = stream.write_all(&noise).await;
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
    let hello = frame(TEXT, br#"[{"channel":"/meta/handshake","version":"1.0"}]"#);
    for end in 0..hello.len() {
        let mut stream = running.raw().await;
        stream.write_all(&hello[..end]).await.unwrap();
    }
    answered(&mut running.raw().await).await;
    assert_eq!(running.server.session_count(), 0);
}

/// The wildest envelopes get their answers, one by one, and the connection stays (TW-29).
#[tokio::test]
async fn odd_messages_are_answered_one_by_one() {
    let running = start(quick()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    let control = "/\u{0}\u{1}\u{7f}";
    for (message, error) in [
        (json!({"channel": 7}), "400::message_invalid"),
        (json!({"channel": "/a", "clientId": []}), "400::message_invalid"),
        (json!({"channel": "/a", "ext": "x"}), "400::message_invalid"),
        (json!({"channel": control}), "405::channel_invalid"),
        (json!({"channel": "/".repeat(5_000)}), "405::channel_invalid"),
        (json!({"channel": format!("/{}", "x".repeat(5_000))}), "405::channel_invalid"),
        (json!({"channel": "/a", "id": "\u{1}"}), "405::message_id_invalid"),
        (json!({"channel": "/a", "clientId": "\u{0}".repeat(10_000)}), "402::session_unknown"),
        (json!({"channel": "/meta/connect"}), "402::session_unknown"),
    ] {
        let replies = alice.exchange(&json!([message])).await;
        assert_eq!(replies[0]["error"], error, "{:.80}", message.to_string());
    }
    alice.subscribe("/still/here").await;
}

/// E-160: messages of nearly the limit go both ways.
#[tokio::test]
async fn large_message_goes_both_ways() {
    let running = start(quick()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/large").await;
    let data = "é".repeat(500_000);
    alice.send(&json!([alice.message("/large", json!({"data": data}))])).await;
    loop {
        if let Some(received) = alice.frame().await[0].get("data") {
            assert_eq!(received, &json!(data));
            return;
        }
    }
}

/// A WebSocket in somebody else's router: there the stream is not ours to take.
#[tokio::test]
async fn mounts_in_an_axum_router_and_over_any_stream() {
    let server = Server::builder(Config::default()).build().unwrap();
    let endpoint = Endpoint::new(server.clone()).with(WebSocket::new(WsOptions::default()).unwrap());
    let app = axum::Router::new().nest_service("/cometd", endpoint.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let stream = TcpStream::connect(address).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/cometd/connect"), stream).await.unwrap();
    let mut client = Client { socket, id: String::new() };
    client.handshake().await;
    client.subscribe("/a").await;
    server.publish("/a", &1).await.unwrap();
    assert_eq!(client.frame().await, [json!({"channel": "/a", "data": 1})]);

    // In memory, with hyper alone.
    let (near, far) = tokio::io::duplex(256);
    tokio::spawn(async move {
        let http = hyper::server::conn::http1::Builder::new();
        http.serve_connection(hyper_util::rt::TokioIo::new(far), endpoint).with_upgrades().await
    });
    let (mut socket, _) = tokio_tungstenite::client_async("ws://test/cometd", near).await.unwrap();
    use futures_util::{SinkExt, StreamExt};
    socket.send(tokio_tungstenite::tungstenite::Message::text("[{}]")).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(answer.contains("400::channel_missing"), "{answer}");
    assert_eq!(server.session_count(), 1);
}
