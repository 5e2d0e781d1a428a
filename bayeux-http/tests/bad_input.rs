//! What is no Bayeux, and what is no HTTP: each gets its answer, and the server goes on.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::time::Duration;

use bayeux_http::{HttpOptions, Server};
use common::{Client, quick, start, start_with};
use serde_json::json;
use tokio::io::AsyncWriteExt;

const JSON: &str = "Content-Type: application/json\r\n";

/// TH-41 to TH-51, M-9: the status of each, on one connection: it is kept after every one of them (TH-53).
#[tokio::test]
async fn each_mistake_has_its_status_and_the_connection_is_kept() {
    let running = start(quick()).await;
    let mut client = running.client().await;
    let deep = format!("[{{\"data\":{}{}}}]", "[".repeat(10_000), "]".repeat(10_000));
    let many = format!("[{}{{}}]", "{},".repeat(1_000_000));
    let cases: [(u16, &str, &str, &[u8]); 22] = [
        (400, "TH-41", JSON, b"[{"),
        (400, "E-10", JSON, b"a"),
        (400, "TH-42", JSON, b""),
        (400, "TH-42", JSON, b"[]"),
        (400, "TH-42", JSON, b" [ ] "),
        (400, "TH-43, H-3", JSON, br#"[{"channel":"/meta/handshake","version":"1.0"},{"channel":"/meta/connect"}]"#),
        (400, "TH-49", JSON, b"1"),
        (400, "TH-49", JSON, b"null"),
        (400, "TH-49", JSON, b"[null]"),
        (400, "TH-49", JSON, b"[1]"),
        (400, "TH-49", JSON, b"[[{}]]"),
        (400, "TH-51", JSON, deep.as_bytes()),
        (400, "M-9", JSON, b"[{\"x\":\"\xff\"}]"),
        (400, "M-9", JSON, b"[{}] x"),
        (400, "Z-9", JSON, many.as_bytes()),
        (415, "TH-50", "Content-Type: application/json;charset=klingon\r\n", b"[{}]"),
        (400, "M-9", "Content-Type: application/json;charset=ISO-8859-7\r\n", b"[{\"x\":\"\xff\"}]"),
        (400, "TH-42", "Content-Type: application/x-www-form-urlencoded\r\n", b"a=b"),
        (400, "TH-41", "Content-Type: application/x-www-form-urlencoded\r\n", b"message=%5B"),
        (200, "M-5, TH-52", "Content-Type: ???\r\n", b"[{}]"),
        (200, "M-5, E-6", "", b"{}"),
        (
            200,
            "TH-6",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            b"message=%7B%7D&x=y&message=%5B%7B%7D%5D",
        ),
    ];
    for (status, rule, headers, body) in cases {
        let response = client.request("POST", "/cometd", headers, body).await;
        assert_eq!(response.status, status, "{rule}: {:.60?}: {response:?}", String::from_utf8_lossy(body));
        if status == 200 {
            for reply in response.json() {
                assert_eq!(reply, json!({"successful": false, "error": "400::channel_missing"}), "{rule}");
            }
        }
    }
    client.handshake().await;
    running.stop().await;
}

/// TH-47, T-3, T-4: methods and transports that are not.
#[tokio::test]
async fn unknown_transports_are_told_so() {
    let running = start(quick()).await;
    for method in ["GET", "PUT", "DELETE", "PATCH", "BREW"] {
        let mut client = running.client().await;
        let response = client.request(method, "/cometd?jsonp=cb&message=[]", "", "").await;
        assert_eq!((response.status, response.text().as_str()), (400, "Unknown Bayeux Transport"), "{method}");
    }
    let mut client = running.client().await;
    let response = client.request("OPTIONS", "/cometd", "", "").await;
    assert_eq!((response.status, response.body.len()), (200, 0));
    // T-3: the method's case does not matter.
    let response = client.request("post", "/cometd", JSON, "[{}]").await;
    assert_eq!(response.status, 200);
    running.stop().await;
}

/// T-5: the path below the mapping is ignored; other paths are not ours.
#[tokio::test]
async fn any_path_below_the_mapping_is_the_same() {
    let running = start(quick()).await;
    let mut client = running.client().await;
    for path in ["/cometd", "/cometd/", "/cometd/handshake", "/cometd/a/b?c=d"] {
        assert_eq!(client.request("POST", path, JSON, "[{}]").await.status, 200, "{path}");
    }
    for path in ["/", "/cometdx", "/x/cometd"] {
        assert_eq!(client.request("POST", path, JSON, "[{}]").await.status, 404, "{path}");
    }
    running.stop().await;
}

/// TH-44, E-9, Z-10: bodies over `maxMessageSize`, with a length and without.
#[tokio::test]
async fn body_over_the_limit_is_413() {
    let mut config = quick();
    config.long_polling.max_message_size = 512;
    let running = start(config).await;
    let fits = format!("[{{\"x\":\"{}\"}}]", "x".repeat(502));
    assert_eq!(fits.len(), 512);
    let mut client = running.client().await;
    assert_eq!(client.post(&fits).await.status, 200);
    assert_eq!(client.post(format!("{fits} ")).await.status, 413);
    // Declared, never sent: refused before it comes.
    let mut client = running.client().await;
    client.send("POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n").await;
    assert_eq!(client.response().await.status, 413);
    let mut client = running.client().await;
    client.send("POST /cometd HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..3 {
        client.send(format!("c8\r\n{}\r\n", "x".repeat(200))).await;
    }
    assert_eq!(client.response().await.status, 413);
    running.stop().await;
}

/// TH-53: `Expect: 100-continue`, and a body in single bytes.
#[tokio::test]
async fn body_comes_as_it_likes() {
    let running = start(quick()).await;
    let mut client = running.client().await;
    client.send("POST /cometd HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    let mut interim = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut client.stream, &mut interim).await.unwrap();
    assert_eq!(&interim[..], b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("[{}]").await;
    assert_eq!(client.response().await.status, 200);
    client.send("POST /cometd HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for byte in "[{}]".chars() {
        client.send(format!("1\r\n{byte}\r\n")).await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    running.stop().await;
}

/// TH-50, TH-53: what a header says is refused behind the body, so that the connection goes on.
#[tokio::test]
async fn unknown_charset_is_refused_behind_the_body() {
    let running = start(quick()).await;
    let mut client = running.client().await;
    let head = "POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Type: application/json;charset=klingon\r\n";
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).await;
    // As other clients do that send head and body by themselves.
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.send("4\r\n[{}]\r\n0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 415);
    client.handshake().await;
    running.stop().await;
}

/// TH-53: no chunked body for an HTTP/1.0 client, and the connection ends as it expects.
#[tokio::test]
async fn http_1_0_is_served() {
    let running = start(quick()).await;
    let mut client = running.client().await;
    client.send("POST /cometd HTTP/1.0\r\nContent-Length: 4\r\n\r\n[{}]").await;
    let all = String::from_utf8(client.rest().await).unwrap();
    assert!(all.starts_with("HTTP/1.0 200") && all.ends_with("channel_missing\"}]"), "{all}");
    assert!(!all.to_ascii_lowercase().contains("transfer-encoding"), "{all}");
    running.stop().await;
}

/// A body that does not come is given up, and delays nobody.
#[tokio::test]
async fn slow_body_is_given_up() {
    let mut options = HttpOptions::default();
    options.body_timeout = Duration::from_millis(300);
    let running = start_with(Server::builder(quick()), options).await;
    let mut slow = running.client().await;
    slow.send("POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n[").await;
    let mut quick = running.client().await;
    quick.handshake().await;
    assert_eq!(slow.response().await.status, 408);
    running.stop().await;
}

/// TH-53: requests sent at once are answered in order, one behind a held connect after it (TH-2).
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let running = start(quick()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.hold(&json!([alice.connect(None)])).await;
    for n in 0..10 {
        let publish = alice.message("/service/x", json!({"id": n.to_string(), "data": n}));
        alice.begin("POST", "/cometd", JSON, json!([publish]).to_string()).await;
    }
    assert_eq!(alice.response().await.json()[0]["id"], "c");
    for n in 0..10 {
        assert_eq!(alice.response().await.json()[0]["id"], n.to_string());
    }
    running.stop().await;
}

/// A client that closes its half after a request gets its answer; one that does so under a held connect has gone.
#[tokio::test]
async fn half_closed_connection_gets_its_answer() {
    let running = start(quick()).await;
    let mut client = running.client().await;
    client.begin("POST", "/cometd", JSON, "[{}]").await;
    client.stream.shutdown().await.unwrap();
    let all = client.rest().await;
    assert!(all.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&all));
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.hold(&json!([alice.connect(None)])).await;
    alice.stream.shutdown().await.unwrap();
    let mut other = running.client().await;
    other.handshake().await;
    running.stop().await;
}

/// TH-53: bytes that are not HTTP, cut off at every place, and contradictions; then an ordinary client chats.
#[tokio::test]
async fn garbage_leaves_the_server_alone() {
    let running = start(quick()).await;
    let mut bytes: u64 = 1;
    let mut garbage: Vec<Vec<u8>> = vec![
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"POST /cometd HTTP/9.9\r\n\r\n".to_vec(),
        b"POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n".to_vec(),
        b"POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(),
        b"POST /cometd HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\xff\xff\xff\xff\xff\xff".to_vec(),
        [&b"POST /cometd HTTP/1.1\r\nHost: x\r\nX: "[..], &[b'x'; 100_000], b"\r\n\r\n"].concat(),
    ];
    for length in 0..200 {
        let noise = (0..length).map(|_| {
            bytes = bytes.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (bytes >> 56) as u8
        });
        garbage.push(noise.collect());
    }
    let whole = b"POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n[{}]";
    garbage.extend((0..whole.len()).map(|end| whole[..end].to_vec()));
    for bytes in &garbage {
        let mut client = running.client().await;
        // The server may have closed already.
        let _ = client.stream.write_all(bytes).await;
        let _ = client.stream.shutdown().await;
        let answer = client.rest().await;
        let status = answer.get(9..10);
        let refused = status.is_none_or(|status| status == b"4" || status == b"5") || !answer.starts_with(b"HTTP");
        assert!(refused, "{bytes:?}: {:?}", String::from_utf8_lossy(&answer));
    }
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/chat").await;
    let publish = alice.message("/chat", json!({"id": "p", "data": "still here"}));
    assert_eq!(alice.exchange(&json!([publish])).await[0]["data"], "still here");
    running.stop().await;
}

/// A client that vanishes at any moment costs its own connection.
#[tokio::test]
async fn in_memory_clients_come_and_go() {
    let server = Server::builder(quick()).build().unwrap();
    let endpoint =
        bayeux_http::Endpoint::new(server.clone()).with(bayeux_http::LongPolling::new(HttpOptions::default()).unwrap());
    for _ in 0..20 {
        let (near, far) = tokio::io::duplex(64);
        let service = endpoint.clone();
        let serving = tokio::spawn(async move {
            let http = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
            let _ = http.serve_connection(hyper_util::rt::TokioIo::new(far), service).await;
        });
        let mut client = Client::new(near);
        client.handshake().await;
        client.hold(&json!([client.connect(None)])).await;
        drop(client);
        serving.await.unwrap();
    }
    assert_eq!(server.session_count(), 20);
    // All of them have ended: nothing is left to wait for.
    server.shutdown(Duration::from_secs(5)).await;
}
