//! Requests that are none, or two: what HTTP's standards forbid, and what is used for smuggling.

use std::time::Duration;

use crate::conformance::case::{Case, LONG_POLLING, case};
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, ensure};
use crate::conformance::wire::within;

pub(super) fn cases() -> Vec<Case> {
    let cases = vec![
        case!(hostile_contradicting_lengths).should("TH-53", LONG_POLLING, "Two different Content-Lengths are refused"),
        case!(hostile_lengths_that_are_none).should(
            "TH-53",
            LONG_POLLING,
            "Content-Lengths of -1, +5, 5x, 0x5 and 2^70 are refused",
        ),
        case!(hostile_length_and_chunks).should(
            "TH-53",
            LONG_POLLING,
            "Content-Length beside chunks smuggles no second request",
        ),
        case!(hostile_unknown_transfer_encoding).should(
            "TH-53",
            LONG_POLLING,
            "An unknown Transfer-Encoding is refused",
        ),
        case!(hostile_chunk_sizes).should("TH-53", LONG_POLLING, "Chunk sizes of -1, xyz and 2^70 are refused"),
        case!(hostile_chunk_ends).should("TH-53", LONG_POLLING, "A chunk that is longer than its size is refused"),
        case!(hostile_header_lines).should(
            "TH-53",
            LONG_POLLING,
            "Header lines without a colon, or with a space before it, are refused",
        ),
        case!(hostile_header_characters).should("TH-53", LONG_POLLING, "A NUL in a header is refused"),
        case!(hostile_request_lines).should("TH-53", LONG_POLLING, "Request lines that are none are refused"),
        case!(hostile_versions).should("TH-53", LONG_POLLING, "HTTP/9.9 and HTTP/x are refused"),
        case!(hostile_host_is_missing).should(
            "TH-53",
            LONG_POLLING,
            "A request of HTTP/1.1 without Host is refused, or served",
        ),
        case!(hostile_many_headers).should("TH-53", LONG_POLLING, "A request with 20,000 headers is refused"),
        case!(hostile_long_header).should("TH-53", LONG_POLLING, "A request with a header of 2 MiB is refused"),
        case!(hostile_long_target).should("TH-53", LONG_POLLING, "A request with a URI of 2 MiB is refused"),
        case!(hostile_bytes).should("TH-53", LONG_POLLING, "Bytes that are not HTTP are refused"),
        case!(hostile_half_requests).should("TH-53", LONG_POLLING, "Connections that end within a request are let go"),
        case!(hostile_expectation).should("TH-53", LONG_POLLING, "Expect: miracle is refused, or ignored"),
        case!(hostile_methods).should(
            "TH-47 TH-53",
            LONG_POLLING,
            "CONNECT and TRACE are refused, and nothing is echoed",
        ),
        case!(hostile_many_idle_connections).should(
            "TH-53",
            LONG_POLLING,
            "A hundred connections that say nothing delay nobody",
        ),
        case!(hostile_nobody_reads).should(
            "TH-53",
            LONG_POLLING,
            "A client that never reads its answers delays nobody",
        ),
    ];
    cases.into_iter().map(Case::hostile).collect()
}

/// A handshake's text.
const HELLO: &str = r#"[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]}]"#;

/// The status of the first response to these bytes; none where the connection ends, or nothing comes for a while and
/// the server waits for more.
async fn status(cx: &Cx, bytes: &[u8]) -> Outcome<Option<u16>> {
    let answer = everything(cx, bytes).await?;
    let line = String::from_utf8_lossy(answer.get(..20).unwrap_or(&answer)).into_owned();
    let code = line.split(' ').nth(1).and_then(|code| code.get(..3)).and_then(|code| code.parse().ok());
    ensure!(answer.is_empty() || code.is_some(), "expected a response of HTTP/1.1, got {line:?}");
    Ok(code)
}

/// Everything that comes until the connection ends, after the client has said all.
async fn everything(cx: &Cx, bytes: &[u8]) -> Outcome<Vec<u8>> {
    let mut connection = cx.http1().await?;
    // The server may refuse before it has read all.
    let _ = within(cx.env.options.timeout, connection.write(bytes)).await;
    let _ = connection.shutdown().await;
    Ok(within(cx.env.options.timeout, connection.rest()).await?)
}

/// Neither served nor a fault of the server's own.
async fn refuses(cx: &Cx, bytes: &[u8]) -> Outcome {
    let status = status(cx, bytes).await?;
    let refused = status.is_none_or(|status| (400..500).contains(&status) || status == 501 || status == 505);
    let shown = bytes.get(..120).unwrap_or(bytes).escape_ascii();
    ensure!(refused, "expected a 4xx status, 501, 505 or the end of the connection, got {status:?} to {shown}");
    Ok(())
}

/// A POST with these header lines, and this after the head.
fn post(cx: &Cx, headers: &str, body: &str) -> Vec<u8> {
    let (path, host) = (cx.env.target.path(""), cx.env.target.authority());
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{headers}\r\n{body}")
        .into_bytes()
}

async fn hostile_contradicting_lengths(cx: &Cx) -> Outcome {
    let length = HELLO.len();
    refuses(cx, &post(cx, &format!("Content-Length: {length}\r\nContent-Length: 5\r\n"), HELLO)).await?;
    refuses(cx, &post(cx, &format!("Content-Length: {length}, 5\r\n"), HELLO)).await?;
    cx.still_serves().await
}

async fn hostile_lengths_that_are_none(cx: &Cx) -> Outcome {
    for length in ["-1", "+5", "5x", "0x5", "1180591620717411303424", "five", ""] {
        refuses(cx, &post(cx, &format!("Content-Length: {length}\r\n"), HELLO)).await?;
    }
    cx.still_serves().await
}

async fn hostile_length_and_chunks(cx: &Cx) -> Outcome {
    let path = cx.env.target.path("");
    // Who believes the length reads a second request out of the body; who believes the chunks must not serve on.
    let inner = format!("GET {path}/smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
    let body = format!("{:x}\r\n{HELLO}\r\n0\r\n\r\n{inner}", HELLO.len());
    for headers in
        ["Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"]
    {
        let answer = everything(cx, &post(cx, headers, &body)).await?;
        let text = String::from_utf8_lossy(&answer);
        let refused = answer.is_empty() || text.starts_with("HTTP/1.1 4");
        // RFC 9112, section 6.1: it may be read as chunked, if the connection is closed behind it.
        let alone = text.matches("HTTP/1.1 ").count() == 1;
        ensure!(refused || alone, "expected a refusal, or one response and the end, got {}", text.escape_debug());
    }
    cx.still_serves().await
}

async fn hostile_unknown_transfer_encoding(cx: &Cx) -> Outcome {
    refuses(cx, &post(cx, "Transfer-Encoding: pigeon\r\n", HELLO)).await?;
    cx.still_serves().await
}

async fn hostile_chunk_sizes(cx: &Cx) -> Outcome {
    for size in ["-1", "xyz", "10000000000000000000000", "", " 5"] {
        let body = format!("{size}\r\n{HELLO}\r\n0\r\n\r\n");
        refuses(cx, &post(cx, "Transfer-Encoding: chunked\r\n", &body)).await?;
    }
    cx.still_serves().await
}

async fn hostile_chunk_ends(cx: &Cx) -> Outcome {
    let body = format!("{:x}\r\n{HELLO}\r\n0\r\n\r\n", HELLO.len() - 3);
    refuses(cx, &post(cx, "Transfer-Encoding: chunked\r\n", &body)).await?;
    cx.still_serves().await
}

async fn hostile_header_lines(cx: &Cx) -> Outcome {
    let length = HELLO.len();
    for line in ["no colon", "X-Space : 1", ": no name", "X Y: 1"] {
        refuses(cx, &post(cx, &format!("{line}\r\nContent-Length: {length}\r\n"), HELLO)).await?;
    }
    cx.still_serves().await
}

async fn hostile_header_characters(cx: &Cx) -> Outcome {
    let length = HELLO.len();
    refuses(cx, &post(cx, &format!("X-Nul: a\0b\r\nContent-Length: {length}\r\n"), HELLO)).await?;
    cx.still_serves().await
}

async fn hostile_request_lines(cx: &Cx) -> Outcome {
    for line in ["POST", "POST HTTP/1.1", " POST / HTTP/1.1", "P\u{1}ST / HTTP/1.1", "POST / / HTTP/1.1"] {
        refuses(cx, format!("{line}\r\nHost: x\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
    }
    cx.still_serves().await
}

async fn hostile_versions(cx: &Cx) -> Outcome {
    for version in ["HTTP/9.9", "HTTP/x", "http/1.1", "HTPP/1.1"] {
        refuses(cx, format!("POST / {version}\r\nHost: x\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
    }
    cx.still_serves().await
}

async fn hostile_host_is_missing(cx: &Cx) -> Outcome {
    let request = format!("POST {} HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]", cx.env.target.path(""));
    let status = status(cx, request.as_bytes()).await?;
    ensure!(status.is_none_or(|status| status < 500), "expected anything but a fault of the server, got {status:?}");
    cx.still_serves().await
}

async fn hostile_many_headers(cx: &Cx) -> Outcome {
    let headers: String = (0..20_000).map(|number| format!("X-Header-{number}: value\r\n")).collect();
    refuses(cx, &post(cx, &format!("{headers}Content-Length: {}\r\n", HELLO.len()), HELLO)).await?;
    cx.still_serves().await
}

async fn hostile_long_header(cx: &Cx) -> Outcome {
    let long = "x".repeat(2 << 20);
    refuses(cx, &post(cx, &format!("X-Long: {long}\r\nContent-Length: {}\r\n", HELLO.len()), HELLO)).await?;
    cx.still_serves().await
}

async fn hostile_long_target(cx: &Cx) -> Outcome {
    let long = "x".repeat(2 << 20);
    refuses(cx, format!("GET {}?{long} HTTP/1.1\r\nHost: x\r\n\r\n", cx.env.target.path("")).as_bytes()).await?;
    cx.still_serves().await
}

async fn hostile_bytes(cx: &Cx) -> Outcome {
    let noise: Vec<u8> = (0..2_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\0\0\0\0\r\n\r\n", b"EHLO example.org\r\n\r\n", &noise]
    {
        let answer = everything(cx, bytes).await?;
        let text = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        let refused = answer.is_empty() || !text.starts_with("HTTP/1.1 2");
        ensure!(refused, "expected a refusal, got {text:?}");
    }
    cx.still_serves().await
}

async fn hostile_half_requests(cx: &Cx) -> Outcome {
    let request = post(cx, &format!("Content-Length: {}\r\n", HELLO.len()), HELLO);
    for part in [1, 10, 30, request.len() - HELLO.len(), request.len() - 1] {
        let answer = everything(cx, &request[..part]).await?;
        let served = String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 2");
        ensure!(!served, "expected no success for {part} bytes of a request");
    }
    cx.still_serves().await
}

async fn hostile_expectation(cx: &Cx) -> Outcome {
    let headers = format!("Expect: miracle\r\nContent-Length: {}\r\n", HELLO.len());
    let status = status(cx, &post(cx, &headers, HELLO)).await?;
    ensure!(status.is_none_or(|status| status < 500), "expected 417 or no attention, got {status:?}");
    cx.still_serves().await
}

async fn hostile_methods(cx: &Cx) -> Outcome {
    let secret = "X-Secret: do-not-echo";
    for line in ["TRACE / HTTP/1.1", "CONNECT example.org:443 HTTP/1.1"] {
        let request = format!("{line}\r\nHost: x\r\n{secret}\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8_lossy(&everything(cx, request.as_bytes()).await?).into_owned();
        let refused = !answer.starts_with("HTTP/1.1 2") && !answer.contains("do-not-echo");
        ensure!(refused, "expected a refusal to {line}, got {}", answer.escape_debug());
    }
    cx.still_serves().await
}

async fn hostile_many_idle_connections(cx: &Cx) -> Outcome {
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(cx.http1().await?);
    }
    cx.still_serves().await?;
    drop(idle);
    Ok(())
}

async fn hostile_nobody_reads(cx: &Cx) -> Outcome {
    let request = post(cx, &format!("Content-Length: {}\r\n", HELLO.len()), HELLO);
    let many = request.repeat(200);
    let mut silent = Vec::new();
    for _ in 0..10 {
        let mut connection = cx.http1().await?;
        // A server that stops reading from who does not read is right.
        let _ = within(Duration::from_millis(300), connection.write(&many)).await;
        silent.push(connection);
    }
    cx.still_serves().await?;
    drop(silent);
    Ok(())
}
