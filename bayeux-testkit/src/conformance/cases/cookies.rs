//! Browsers: the cookie that protects sessions, several tabs, and the limit of held connects.

use std::time::Duration;

use serde_json::json;

use crate::conformance::case::{ANY, Case, HTTP, HTTP2, LONG_POLLING, POLLING, Transport, WEBSOCKET, case};
use crate::conformance::client::Client;
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, Stop, ensure};
use crate::conformance::wire::Response;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(session_outlives_its_connection).must("L-2", HTTP, "A session goes on over new TCP connections"),
        case!(session_of_another_is_protected).should(
            "F-12 G-4",
            ANY,
            "A message with another session's clientId gets 402",
        ),
        case!(session_of_another_is_protected_in_a_batch).should(
            "TH-10 G-4",
            ANY,
            "A batch whose second message has another's clientId gets 402 for it",
        ),
        case!(session_needs_its_cookie).should("TH-11", HTTP, "A clientId without the browser's cookie gets 402"),
        case!(cookie_is_set_by_the_handshake).should(
            "TH-20",
            HTTP,
            "The first handshake of a browser sets BAYEUX_BROWSER",
        ),
        case!(cookie_is_http_only).should("TH-20", HTTP, "The cookie is HttpOnly"),
        case!(cookie_is_set_once).should(
            "TH-21 TH-20",
            HTTP,
            "No later response sets the cookie again, not even to a handshake",
        ),
        case!(cookie_may_come_among_others).must(
            "TH-25 TH-20",
            HTTP,
            "Other cookies beside the browser's do not disturb",
        ),
        case!(cookie_header_is_read_leniently).ours("TH-25", LONG_POLLING, "Odd cookies do not make a request fail"),
        case!(cookie_that_is_made_up_is_replaced).ours(
            "Z-12",
            HTTP,
            "A browser id with odd characters is replaced by a new one",
        ),
        case!(one_browser_has_several_sessions).should(
            "L-3",
            HTTP,
            "Two handshakes of one browser make two sessions that both work",
        ),
        case!(second_tab_polls).should(
            "TH-30 TH-31",
            LONG_POLLING,
            "The second tab's connect is answered with advice multiple-clients",
        ),
        case!(second_tab_is_told_an_interval).should(
            "TH-31",
            LONG_POLLING,
            "multiple-clients comes with an interval, and reconnect retry",
        ),
        case!(second_tab_gets_messages).must("L-3", HTTP, "Both tabs of a browser get messages"),
        case!(second_tab_holds_when_the_first_is_gone).should(
            "TH-34",
            LONG_POLLING,
            "When the first tab disconnects, the second's connect is held",
        ),
        case!(tabs_are_not_limited_over_http2).should(
            "T2-1",
            HTTP2,
            "Over HTTP/2 the connects of two tabs are both held",
        ),
        case!(session_moves_to_a_websocket).should(
            "L-40 TW-11",
            POLLING,
            "A session of long-polling goes on over a WebSocket",
        ),
        case!(session_moves_to_another_websocket).should(
            "L-41 L-46",
            WEBSOCKET,
            "A session goes on over a second WebSocket when the first is gone",
        ),
        case!(session_is_pushed_to_where_it_moved).should(
            "L-41 TW-13",
            WEBSOCKET,
            "After a move, messages come over the new WebSocket",
        ),
        case!(session_loses_nothing_while_away).ours(
            "L-2 L-46",
            WEBSOCKET,
            "What is published between two WebSockets of a session arrives",
        ),
        case!(cut_poll_takes_no_message).ours(
            "L-47 Z-16",
            POLLING,
            "A message that comes after a poll was cut is not lost",
        ),
    ]
}

async fn session_outlives_its_connection(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut client = cx.subscriber(channel.as_str()).await?;
    client.reconnect().await?;
    client.publish(&channel, 1).await?.successful()?;
    client.reconnect().await?;
    client.receives(&channel, 1).await?;
    Ok(())
}

async fn session_of_another_is_protected(cx: &Cx) -> Outcome {
    let alice = cx.session().await?;
    let mut mallory = cx.session().await?;
    let message = json!({"clientId": alice.id, "data": "I am Alice"});
    mallory.request(&cx.channel("a"), message).await?.error("402::session_unknown")?;
    Ok(())
}

async fn session_of_another_is_protected_in_a_batch(cx: &Cx) -> Outcome {
    let mut alice = cx.session().await?;
    let mut mallory = cx.session().await?;
    let own = mallory.message(&cx.channel("a"), json!({"data": 1}));
    let foreign = mallory.message("/meta/disconnect", json!({"clientId": alice.id}));
    let answer = mallory.exchange(&json!([own, foreign])).await?;
    answer.reply_to(&own)?.successful()?;
    answer.reply_to(&foreign)?.error("402::session_unknown")?;
    alice.publish(&cx.channel("a"), 1).await?.successful()?;
    Ok(())
}

/// A connected client whose server protects its session by a cookie.
async fn with_cookie(cx: &Cx) -> Outcome<Client> {
    let client = cx.session().await?;
    if client.agent()?.cookies().is_empty() {
        return Err(Stop::Skipped("the server sets no cookie".to_owned()));
    }
    Ok(client)
}

async fn session_needs_its_cookie(cx: &Cx) -> Outcome {
    let mut client = with_cookie(cx).await?;
    client.agent()?.set_cookies(Vec::new());
    client.publish(&cx.channel("a"), 1).await?.error("402::session_unknown")?;
    Ok(())
}

/// The response to a handshake, with these cookies sent.
async fn handshake_response(cx: &Cx, cookies: Vec<(String, String)>) -> Outcome<Response> {
    let mut client = cx.client().await?;
    client.agent()?.set_cookies(cookies);
    let handshake = json!([client.handshake_message(json!({}))]).to_string();
    let request = client.agent()?.request(handshake.as_bytes());
    let response = client.respond(request).await?;
    ensure!(response.status == 200, "expected status 200 for a handshake, got {}", response.status);
    Ok(response)
}

const NAME: &str = "BAYEUX_BROWSER";

fn cookie_of(response: &Response) -> Option<String> {
    response.all("set-cookie").find(|cookie| cookie.starts_with(&format!("{NAME}="))).map(str::to_owned)
}

async fn cookie_is_set_by_the_handshake(cx: &Cx) -> Outcome {
    let response = handshake_response(cx, Vec::new()).await?;
    ensure!(cookie_of(&response).is_some(), "expected Set-Cookie: {NAME}=..., got {:?}", response.headers);
    Ok(())
}

async fn cookie_is_http_only(cx: &Cx) -> Outcome {
    let response = handshake_response(cx, Vec::new()).await?;
    let Some(cookie) = cookie_of(&response) else { return Err(Stop::Skipped("the server sets no cookie".to_owned())) };
    ensure!(cookie.to_ascii_lowercase().contains("httponly"), "expected HttpOnly, got {cookie:?}");
    Ok(())
}

async fn cookie_is_set_once(cx: &Cx) -> Outcome {
    let client = with_cookie(cx).await?;
    let response = handshake_response(cx, client.agent()?.cookies()).await?;
    ensure!(
        cookie_of(&response).is_none(),
        "expected no Set-Cookie for a browser that has it, got {:?}",
        cookie_of(&response)
    );
    Ok(())
}

async fn cookie_may_come_among_others(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let mut cookies = client.agent()?.cookies();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    cookies.insert(0, pair("JSESSIONID", "abc=def"));
    cookies.push(pair("theme", "dark"));
    client.agent()?.set_cookies(cookies);
    client.publish(&cx.channel("a"), 1).await?.successful()?;
    Ok(())
}

async fn cookie_header_is_read_leniently(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let mut cookies = client.agent()?.cookies();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    cookies.insert(0, pair("", ""));
    cookies.insert(1, pair("a b", "\"quoted, with comma\""));
    cookies.insert(2, pair("nothing", ""));
    client.agent()?.set_cookies(cookies);
    client.publish(&cx.channel("a"), 1).await?.successful()?;
    Ok(())
}

async fn cookie_that_is_made_up_is_replaced(cx: &Cx) -> Outcome {
    for value in ["<script>", "", &"x".repeat(2000)] {
        let response = handshake_response(cx, vec![(NAME.to_owned(), value.to_owned())]).await?;
        let shown: String = value.chars().take(20).collect();
        ensure!(
            cookie_of(&response).is_some(),
            "expected a new cookie in place of {shown:?}, got {:?}",
            response.headers
        );
    }
    Ok(())
}

/// Two connected sessions of one browser.
async fn two_tabs(cx: &Cx) -> Outcome<(Client, Client)> {
    let first = with_cookie(cx).await?;
    let mut second = first.tab()?;
    second.handshake().await?.successful()?;
    second.connect().await?.successful()?;
    Ok((first, second))
}

async fn one_browser_has_several_sessions(cx: &Cx) -> Outcome {
    let (mut first, mut second) = two_tabs(cx).await?;
    ensure!(first.id != second.id, "expected two sessions, both are {}", first.id);
    first.publish(&cx.channel("a"), 1).await?.successful()?;
    second.publish(&cx.channel("a"), 2).await?.successful()?;
    Ok(())
}

async fn second_tab_polls(cx: &Cx) -> Outcome {
    let (mut first, mut second) = two_tabs(cx).await?;
    first.hold().await?;
    second.connect_with(json!({})).await?.successful()?.advises("multiple-clients", true)?;
    Ok(())
}

async fn second_tab_is_told_an_interval(cx: &Cx) -> Outcome {
    let (mut first, mut second) = two_tabs(cx).await?;
    first.hold().await?;
    let reply = second.connect_with(json!({})).await?;
    let positive = reply.message["advice"]["interval"].as_u64().is_some_and(|interval| interval > 0);
    reply.advises("reconnect", "retry")?.expect(positive, "advice with a positive interval")?;
    Ok(())
}

async fn second_tab_gets_messages(cx: &Cx) -> Outcome {
    let mut first = cx.session().await?;
    let mut second = first.tab()?;
    second.handshake().await?.successful()?;
    second.connect().await?.successful()?;
    let channel = cx.channel("a");
    first.subscribe(channel.as_str()).await?.successful()?;
    second.subscribe(channel.as_str()).await?.successful()?;
    cx.session().await?.publish(&channel, 1).await?.successful()?;
    first.receives(&channel, 1).await?;
    second.receives(&channel, 1).await?;
    Ok(())
}

async fn second_tab_holds_when_the_first_is_gone(cx: &Cx) -> Outcome {
    let (mut first, mut second) = two_tabs(cx).await?;
    let held = first.hold().await?;
    second.connect_with(json!({})).await?.advises("multiple-clients", true)?;
    first.disconnect().await?.successful()?;
    // The disconnect may be answered before it has ended the connect.
    first.finish(held).await?;
    second.hold().await?;
    Ok(())
}

async fn tabs_are_not_limited_over_http2(cx: &Cx) -> Outcome {
    let (mut first, mut second) = two_tabs(cx).await?;
    first.hold().await?;
    second.hold().await?;
    Ok(())
}

async fn session_moves_to_a_websocket(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let polling = cx.subscriber(channel.as_str()).await?;
    let mut moved = cx.client_over(Transport::WebSocket).await?;
    moved.id = polling.id.clone();
    moved.connect().await?.successful()?;
    moved.publish(&channel, 1).await?.successful()?;
    moved.receives(&channel, 1).await?;
    Ok(())
}

async fn session_moves_to_another_websocket(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.reconnect().await?;
    client.connect().await?.successful()?;
    Ok(())
}

async fn session_is_pushed_to_where_it_moved(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut first = cx.subscriber(channel.as_str()).await?;
    let mut second = cx.client().await?;
    second.id = first.id.clone();
    second.connect().await?.successful()?;
    let mut bob = cx.session().await?;
    bob.publish(&channel, 1).await?.successful()?;
    second.receives(&channel, 1).await?;
    let socket = first.socket()?;
    let stray = tokio::time::timeout(Duration::from_millis(200), socket.next()).await;
    let pushed = matches!(stray, Ok(Ok(crate::conformance::wire::Frame::Text(_))));
    ensure!(!pushed, "expected nothing over the first WebSocket, got {stray:?}");
    Ok(())
}

async fn session_loses_nothing_while_away(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let away = cx.client().await?;
    let mut bob = cx.session().await?;
    // A close in good order, so that the server does not write into a connection that is gone.
    let socket = alice.socket()?;
    socket.frame(crate::conformance::wire::Opcode::Close, true, &1000_u16.to_be_bytes()).await?;
    while !matches!(
        crate::conformance::wire::within(cx.env.options.timeout, socket.next()).await?,
        crate::conformance::wire::Frame::Cut
    ) {}
    bob.publish(&channel, 1).await?.successful()?;
    let mut back = away;
    back.id = alice.id.clone();
    back.receives(&channel, 1).await?;
    Ok(())
}

async fn cut_poll_takes_no_message(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    alice.hold().await?.cut();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Nor can a server that is slow have noticed it before it answers what was sent later.
    bob.catch_up().await?;
    bob.publish(&channel, 1).await?.successful()?;
    alice.receives(&channel, 1).await?;
    Ok(())
}
