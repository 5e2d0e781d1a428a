//! Long-polling as HTTP sees it: media types, methods, paths, connections.

use serde_json::{Value, json};

use crate::conformance::case::{Case, HTTP, LONG_POLLING, POLLING, case};
use crate::conformance::client::{Client, NOBODY};
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, Stop, brief, ensure};
use crate::conformance::wire::{Http1, Request, Response, within};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = bayeux();
    cases.extend(requests());
    cases.extend(connections());
    cases
}

fn bayeux() -> Vec<Case> {
    vec![
        case!(response_is_json).must("TH-7", POLLING, "A response has a JSON content type"),
        case!(response_says_utf_8).should("TH-7", POLLING, "A response has charset UTF-8, or none"),
        case!(response_is_not_cached).ours("TH-7", POLLING, "A response must not be stored by caches"),
        case!(bayeux_errors_have_status_200).should(
            "T-7 TH-48",
            HTTP,
            "A message of an unknown session is answered with status 200",
        ),
        case!(path_suffix_is_ignored).should("T-5", POLLING, "Requests below the endpoint's path are Bayeux, too"),
        case!(content_type_may_be_missing).should("TH-6", POLLING, "A request without Content-Type is read as JSON"),
        case!(content_type_may_be_text).should("TH-6", POLLING, "text/json and text/plain are read as JSON"),
        case!(content_type_may_have_a_suffix).ours("TH-6", POLLING, "application/x+json is read as JSON"),
        case!(content_type_without_charset_is_utf_8).should(
            "TH-4",
            POLLING,
            "application/json without a charset is UTF-8",
        ),
        case!(content_type_that_is_none_is_ignored).ours(
            "TH-52",
            POLLING,
            "A Content-Type that cannot be read counts as missing",
        ),
        case!(content_type_may_be_a_form).ours("TH-6", POLLING, "A form's field message is an envelope"),
        case!(charset_is_decoded).should("TH-4", POLLING, "A body in ISO-8859-7 arrives as the Greek that it is"),
        case!(charset_that_is_unknown_is_refused).ours("TH-50", POLLING, "An unknown charset gets 415 or 400"),
        case!(body_that_is_not_json_is_refused).must(
            "TH-41 M-9",
            HTTP,
            "A body that is not JSON does not get status 200",
        ),
        case!(body_that_is_not_json_gets_400).should("TH-41", POLLING, "A body that is not JSON gets status 400"),
        case!(body_that_is_empty_is_refused).should("TH-42", POLLING, "An empty body does not get status 200"),
        case!(body_that_is_empty_gets_400).ours(
            "TH-42 Z-1",
            POLLING,
            "An empty body, or an empty array, gets status 400",
        ),
        case!(body_of_other_json_gets_400).ours(
            "TH-49 Z-1",
            POLLING,
            "null, 1, \"a\", [1], [null] and [[{}]] get status 400",
        ),
        case!(get_without_callback_is_refused).should(
            "T-3 TH-47",
            POLLING,
            "A GET without a callback gets 400, or another 4xx",
        ),
        case!(other_methods_are_refused).should(
            "TH-47",
            POLLING,
            "PUT, PATCH, DELETE and made-up methods get 400, 405 or 501",
        ),
        case!(head_is_refused).should("TH-47", LONG_POLLING, "HEAD gets 400, 405 or 501, without a body"),
        case!(options_is_answered).should("T-4", POLLING, "OPTIONS gets a 2xx status"),
        case!(other_sites_are_not_let_in).should(
            "TH-36",
            POLLING,
            "No response lets every site read it with credentials",
        ),
    ]
}

fn requests() -> Vec<Case> {
    vec![
        case!(body_may_be_chunked).should("TH-53", LONG_POLLING, "A request body may be chunked"),
        case!(body_may_come_in_tiny_chunks).should(
            "TH-53",
            LONG_POLLING,
            "Chunks may be of one byte, with extensions and trailers",
        ),
        case!(request_may_come_byte_by_byte).should(
            "TH-53",
            LONG_POLLING,
            "A request may arrive in pieces of one byte",
        ),
        case!(header_names_have_no_case).must("TH-53", LONG_POLLING, "Header names may be in upper or lower case"),
        case!(expect_continue_is_answered).should(
            "TH-53",
            LONG_POLLING,
            "Expect: 100-continue gets an interim response",
        ),
        case!(many_headers_are_fine).should(
            "TH-53 T-9",
            LONG_POLLING,
            "A request may have 50 headers and 6 KiB of cookies",
        ),
    ]
}

fn connections() -> Vec<Case> {
    vec![
        case!(connection_serves_many_requests).must(
            "TH-53",
            LONG_POLLING,
            "A connection serves several requests, one after another",
        ),
        case!(connection_serves_after_a_400).ours(
            "TH-53",
            LONG_POLLING,
            "A connection serves on after a request that was refused",
        ),
        case!(connection_close_is_honoured).must(
            "TH-53",
            LONG_POLLING,
            "After a request with Connection: close the server closes",
        ),
        case!(pipelined_requests_are_answered_in_order).should(
            "TH-53",
            LONG_POLLING,
            "Requests sent together are answered in order",
        ),
        case!(pipelined_behind_a_held_connect).ours(
            "TH-2 TH-53",
            LONG_POLLING,
            "A request behind a held connect is answered after it",
        ),
        case!(http_1_0_gets_no_chunks).should(
            "TH-53",
            LONG_POLLING,
            "A client of HTTP/1.0 gets a response without chunks",
        ),
        case!(slow_request_delays_nobody).must(
            "TH-53",
            LONG_POLLING,
            "A request that is half sent does not delay others",
        ),
    ]
}

/// A POST with these headers instead of the usual content type.
fn post(client: &Client, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Outcome<Request> {
    let mut request = client.agent()?.request(&[]).body(body);
    request.headers.retain(|(name, _)| name != "Content-Type");
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    Ok(request)
}

/// Publishes in a request with these headers; `encode` makes its body. Somebody else must receive the text.
async fn publishes(cx: &Cx, headers: &[(&str, &str)], text: &str, encode: impl Fn(String) -> Vec<u8>) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    let publish = json!([bob.message(&channel, json!({"data": text}))]);
    let request = post(&bob, headers, encode(publish.to_string()))?;
    bob.exchange_request(request, &publish).await?.reply_to(&publish[0])?.successful()?;
    alice.receives(&channel, text).await?;
    Ok(())
}

/// What a handshake gets in answer.
async fn handshake(cx: &Cx) -> Outcome<Response> {
    let mut client = cx.client().await?;
    let handshake = json!([client.handshake_message(json!({}))]).to_string();
    let request = client.agent()?.request(handshake.as_bytes());
    client.respond(request).await
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.header(name).unwrap_or_default()
}

async fn response_is_json(cx: &Cx) -> Outcome {
    let response = handshake(cx).await?;
    let kind = header(&response, "content-type").to_ascii_lowercase();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    ensure!(
        ["application/json", "text/json"].contains(&essence) || essence.ends_with("+json"),
        "expected a JSON Content-Type, got {kind:?}"
    );
    Ok(())
}

async fn response_says_utf_8(cx: &Cx) -> Outcome {
    let response = handshake(cx).await?;
    let kind = header(&response, "content-type").to_ascii_lowercase().replace([' ', '"'], "");
    let charset = kind.split("charset=").nth(1);
    ensure!(charset.is_none_or(|charset| charset == "utf-8"), "expected charset=UTF-8, got {kind:?}");
    Ok(())
}

async fn response_is_not_cached(cx: &Cx) -> Outcome {
    let response = handshake(cx).await?;
    let control = header(&response, "cache-control");
    ensure!(control.contains("no-store"), "expected Cache-Control: no-store, got {control:?}");
    Ok(())
}

async fn bayeux_errors_have_status_200(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    client.id = NOBODY.to_owned();
    let connect = json!([client.connect_message(json!({}))]).to_string();
    let request = client.agent()?.request(connect.as_bytes());
    let status = client.respond(request).await?.status;
    ensure!(status == 200, "expected status 200, got {status}");
    Ok(())
}

async fn path_suffix_is_ignored(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    for suffix in ["/", "/handshake", "/connect", "/what/ever"] {
        let handshake = json!([client.handshake_message(json!({}))]);
        let mut request = client.agent()?.request(handshake.to_string().as_bytes());
        request.target = cx.env.target.path(suffix);
        client.exchange_request(request, &handshake).await?.reply_to(&handshake[0])?.successful()?;
    }
    Ok(())
}

async fn content_type_may_be_missing(cx: &Cx) -> Outcome {
    publishes(cx, &[], "caf\u{e9}", String::into_bytes).await
}

async fn content_type_may_be_text(cx: &Cx) -> Outcome {
    publishes(cx, &[("Content-Type", "text/json; charset=utf-8")], "caf\u{e9}", String::into_bytes).await?;
    publishes(cx, &[("Content-Type", "text/plain;charset=UTF-8")], "caf\u{e9}", String::into_bytes).await
}

async fn content_type_may_have_a_suffix(cx: &Cx) -> Outcome {
    publishes(cx, &[("Content-Type", "application/vnd.example+json")], "caf\u{e9}", String::into_bytes).await
}

async fn content_type_without_charset_is_utf_8(cx: &Cx) -> Outcome {
    publishes(cx, &[("Content-Type", "application/json")], "caf\u{e9}", String::into_bytes).await
}

async fn content_type_that_is_none_is_ignored(cx: &Cx) -> Outcome {
    publishes(cx, &[("Content-Type", "///;;=")], "caf\u{e9}", String::into_bytes).await
}

async fn content_type_may_be_a_form(cx: &Cx) -> Outcome {
    let encode = |text: String| {
        let field: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        format!("message={field}").into_bytes()
    };
    publishes(cx, &[("Content-Type", "application/x-www-form-urlencoded")], "caf\u{e9} & more", encode).await
}

async fn charset_is_decoded(cx: &Cx) -> Outcome {
    // Capital and small alpha to gamma, the only letters here beyond ASCII.
    let iso_8859_7 = |text: String| {
        let byte = |c: char| match c as u32 {
            ascii @ 0..128 => ascii as u8,
            greek => (greek - 0x391 + 0xc1) as u8,
        };
        text.chars().map(byte).collect()
    };
    publishes(cx, &[("Content-Type", "application/json;charset=ISO-8859-7")], "ΑΒΓαβγ", iso_8859_7).await
}

async fn charset_that_is_unknown_is_refused(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let handshake = json!([client.handshake_message(json!({}))]).to_string();
    let request = post(&client, &[("Content-Type", "application/json;charset=klingon")], handshake)?;
    status_of(&mut client, request, &[415, 400]).await
}

/// The response to a request has one of these statuses.
async fn status_of(client: &mut Client, request: Request, statuses: &[u16]) -> Outcome {
    let response = client.respond(request).await?;
    let what = || format!("{} with {:?}", response.status, brief(&String::from_utf8_lossy(&response.body)));
    ensure!(statuses.contains(&response.status), "expected status {statuses:?}, got {}", what());
    Ok(())
}

async fn body_that_is_not_json_is_refused(cx: &Cx) -> Outcome {
    for text in ["a", "{\"channel\":\"/meta/handshake\"", "[{]", "<xml/>"] {
        cx.client().await?.provoke(text.as_bytes()).await?.refused()?;
    }
    Ok(())
}

async fn body_that_is_not_json_gets_400(cx: &Cx) -> Outcome {
    for text in ["a", "{\"channel\":\"/meta/handshake\"", "[{]", "<xml/>"] {
        cx.client().await?.provoke(text.as_bytes()).await?.refused_with(&[400], &[])?;
    }
    Ok(())
}

async fn body_that_is_empty_is_refused(cx: &Cx) -> Outcome {
    cx.client().await?.provoke(b"").await?.refused()
}

async fn body_that_is_empty_gets_400(cx: &Cx) -> Outcome {
    cx.client().await?.provoke(b"").await?.refused_with(&[400], &[])?;
    cx.client().await?.provoke(b"[]").await?.refused_with(&[400], &[])
}

async fn body_of_other_json_gets_400(cx: &Cx) -> Outcome {
    for text in ["null", "1", "\"a\"", "true", "[1]", "[null]", "[[{}]]"] {
        cx.client().await?.provoke(text.as_bytes()).await?.refused_with(&[400], &[])?;
    }
    Ok(())
}

async fn get_without_callback_is_refused(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let status = client.respond(Request::new("GET", cx.env.target.path(""))).await?.status;
    ensure!((400..500).contains(&status), "expected a 4xx status, got {status}");
    Ok(())
}

async fn other_methods_are_refused(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    for method in ["PUT", "PATCH", "DELETE", "HAVEALOOK"] {
        status_of(&mut client, Request::new(method, cx.env.target.path("")).body("[]"), &[400, 405, 501]).await?;
    }
    Ok(())
}

async fn options_is_answered(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let status = client.respond(Request::new("OPTIONS", cx.env.target.path(""))).await?.status;
    ensure!((200..300).contains(&status), "expected a 2xx status, got {status}");
    Ok(())
}

async fn other_sites_are_not_let_in(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let handshake = json!([client.handshake_message(json!({}))]).to_string();
    let request = client.agent()?.request(handshake.as_bytes()).header("Origin", "https://conformance.invalid");
    let response = client.respond(request).await?;
    let (origin, with) = ("access-control-allow-origin", "access-control-allow-credentials");
    let lets_in =
        response.header(origin).is_some_and(|allowed| allowed == "*" || allowed.contains("conformance.invalid"));
    let credentials = header(&response, with) == "true";
    ensure!(!(lets_in && credentials), "expected no permission for just any site, got {:?}", response.headers);
    Ok(())
}

/// The bytes of a request for HTTP/1.1 up to its body's length.
fn head(cx: &Cx, first: &str, headers: &[(&str, &str)]) -> String {
    let mut text = format!("{first}\r\nHost: {}\r\nContent-Type: application/json\r\n", cx.env.target.authority());
    for (name, value) in
        cx.env.options.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).chain(headers.iter().copied())
    {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text
}

fn post_line(cx: &Cx) -> String {
    format!("POST {} HTTP/1.1", cx.env.target.path(""))
}

/// A handshake's text, with whatever the user wants to be in it.
fn hello(cx: &Cx) -> String {
    let mut message = json!({"channel": "/meta/handshake", "id": "1", "version": "1.0"});
    message["supportedConnectionTypes"] = json!(["long-polling"]);
    if let Some(ext) = cx.env.ext(None) {
        message["ext"] = ext;
    }
    json!([message]).to_string()
}

async fn response(cx: &Cx, connection: &mut Http1) -> Outcome<Response> {
    Ok(within(cx.env.options.timeout, connection.response()).await?)
}

/// The next response is that to a successful handshake.
async fn greets(cx: &Cx, connection: &mut Http1) -> Outcome<Response> {
    let response = response(cx, connection).await?;
    let reply: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let successful = response.status == 200 && reply[0]["successful"] == true;
    ensure!(successful, "expected a handshake reply, got status {} with {}", response.status, brief(&reply));
    Ok(response)
}

/// Writes these bytes on a new connection; the response must be that to a handshake.
async fn accepts(cx: &Cx, bytes: &[u8]) -> Outcome<Response> {
    let mut connection = cx.http1().await?;
    connection.write(bytes).await?;
    greets(cx, &mut connection).await
}

async fn body_may_be_chunked(cx: &Cx) -> Outcome {
    let (head, body) = (head(cx, &post_line(cx), &[("Transfer-Encoding", "chunked")]), hello(cx));
    accepts(cx, format!("{head}\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes()).await?;
    Ok(())
}

async fn body_may_come_in_tiny_chunks(cx: &Cx) -> Outcome {
    let head = head(cx, &post_line(cx), &[("Transfer-Encoding", "chunked")]);
    let chunks: String = hello(cx).chars().map(|c| format!("1;note=\"tiny\"\r\n{c}\r\n")).collect();
    accepts(cx, format!("{head}\r\n{chunks}0\r\nX-Trailer: end\r\n\r\n").as_bytes()).await?;
    Ok(())
}

/// The bytes of a handshake.
fn whole(cx: &Cx, headers: &[(&str, &str)]) -> String {
    let body = hello(cx);
    format!("{}Content-Length: {}\r\n\r\n{body}", head(cx, &post_line(cx), headers), body.len())
}

async fn request_may_come_byte_by_byte(cx: &Cx) -> Outcome {
    let mut connection = cx.http1().await?;
    for byte in whole(cx, &[]).bytes() {
        connection.write(&[byte]).await?;
        tokio::task::yield_now().await;
    }
    greets(cx, &mut connection).await?;
    Ok(())
}

async fn header_names_have_no_case(cx: &Cx) -> Outcome {
    let (upper, lower) = (|text: &str| text.to_ascii_uppercase(), |text: &str| text.to_ascii_lowercase());
    for spell in [upper as fn(&str) -> String, lower] {
        let request = whole(cx, &[]).replace("Content-Length", &spell("Content-Length"));
        let request = request.replace("Content-Type", &spell("Content-Type")).replace("Host", &spell("Host"));
        accepts(cx, request.as_bytes()).await?;
    }
    Ok(())
}

async fn expect_continue_is_answered(cx: &Cx) -> Outcome {
    let body = hello(cx);
    let length = body.len().to_string();
    let head = head(cx, &post_line(cx), &[("Expect", "100-continue"), ("Content-Length", &length)]);
    let mut connection = cx.http1().await?;
    connection.write(format!("{head}\r\n").as_bytes()).await?;
    let interim = within(cx.env.options.timeout, connection.any_response(false)).await?;
    ensure!(interim.status == 100, "expected status 100 before the body is sent, got {}", interim.status);
    connection.write(body.as_bytes()).await?;
    greets(cx, &mut connection).await?;
    Ok(())
}

async fn many_headers_are_fine(cx: &Cx) -> Outcome {
    let names: Vec<String> = (0..48).map(|number| format!("X-Header-{number}")).collect();
    let cookie = (0..60).map(|number| format!("c{number}={}", "v".repeat(95))).collect::<Vec<_>>().join("; ");
    let mut headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "value")).collect();
    headers.push(("Cookie", &cookie));
    accepts(cx, whole(cx, &headers).as_bytes()).await?;
    Ok(())
}

async fn head_is_refused(cx: &Cx) -> Outcome {
    let mut connection = cx.http1().await?;
    let head = head(cx, &format!("HEAD {} HTTP/1.1", cx.env.target.path("")), &[]);
    connection.write(format!("{head}\r\n").as_bytes()).await?;
    let status = within(cx.env.options.timeout, connection.response_to_head()).await?.status;
    ensure!([400, 405, 501].contains(&status), "expected status 400, 405 or 501, got {status}");
    Ok(())
}

async fn connection_serves_many_requests(cx: &Cx) -> Outcome {
    let mut connection = cx.http1().await?;
    for _ in 0..5 {
        connection.write(whole(cx, &[]).as_bytes()).await?;
        greets(cx, &mut connection).await?;
    }
    Ok(())
}

async fn connection_serves_after_a_400(cx: &Cx) -> Outcome {
    let mut connection = cx.http1().await?;
    let refused = format!("{}Content-Length: 1\r\n\r\na", head(cx, &post_line(cx), &[]));
    connection.write(refused.as_bytes()).await?;
    let response = response(cx, &mut connection).await?;
    ensure!(response.status == 400, "expected status 400, got {}", response.status);
    if response.closes {
        return Err(Stop::Skipped("the server closes the connection, as it may".to_owned()));
    }
    connection.write(whole(cx, &[]).as_bytes()).await?;
    greets(cx, &mut connection).await?;
    Ok(())
}

async fn connection_close_is_honoured(cx: &Cx) -> Outcome {
    let mut connection = cx.http1().await?;
    connection.write(whole(cx, &[("Connection", "close")]).as_bytes()).await?;
    greets(cx, &mut connection).await?;
    let rest = within(cx.env.options.timeout, connection.rest()).await?;
    ensure!(rest.is_empty(), "expected the end of the connection, got {} more bytes", rest.len());
    Ok(())
}

async fn pipelined_requests_are_answered_in_order(cx: &Cx) -> Outcome {
    let requests: String =
        (1..=3).map(|id| whole(cx, &[]).replace("\"id\":\"1\"", &format!("\"id\":\"{id}\""))).collect();
    let mut connection = cx.http1().await?;
    connection.write(requests.as_bytes()).await?;
    for id in 1..=3 {
        let response = greets(cx, &mut connection).await?;
        let reply: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let id = id.to_string();
        ensure!(reply[0]["id"] == id, "expected the reply to request {id}, got {}", brief(&reply));
    }
    Ok(())
}

async fn pipelined_behind_a_held_connect(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let cookies = client.agent()?.cookies();
    let cookie: String = cookies.iter().map(|(name, value)| format!("{name}={value}; ")).collect();
    let cookie = cookie.trim_end_matches("; ").to_owned();
    let connect = json!([client.connect_message(json!({"advice": {"timeout": 400}}))]).to_string();
    let publish = json!([client.message(&cx.channel("a"), json!({"data": 1}))]).to_string();
    let request = |body: &str| {
        let head = head(cx, &post_line(cx), &[("Cookie", &cookie)]);
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let mut connection = cx.http1().await?;
    connection.write(format!("{}{}", request(&connect), request(&publish)).as_bytes()).await?;
    for channel in ["/meta/connect", &cx.channel("a")] {
        let reply: Value = serde_json::from_slice(&response(cx, &mut connection).await?.body).unwrap_or_default();
        ensure!(reply[0]["channel"] == channel, "expected the reply on {channel}, got {}", brief(&reply));
    }
    Ok(())
}

async fn http_1_0_gets_no_chunks(cx: &Cx) -> Outcome {
    let request = whole(cx, &[]).replace("HTTP/1.1", "HTTP/1.0");
    let response = accepts(cx, request.as_bytes()).await?;
    let chunked = response.header("transfer-encoding");
    ensure!(chunked.is_none(), "expected no Transfer-Encoding, got {chunked:?}");
    Ok(())
}

async fn slow_request_delays_nobody(cx: &Cx) -> Outcome {
    let mut slow = Vec::new();
    for part in [5, 40, 120] {
        let mut connection = cx.http1().await?;
        connection.write(&whole(cx, &[]).as_bytes()[..part]).await?;
        slow.push(connection);
    }
    cx.still_serves().await?;
    drop(slow);
    Ok(())
}
