//! WebSocket: opening, frames, binding of sessions, pushes.

use std::time::Duration;

use serde_json::json;

use crate::conformance::case::{Case, WEBSOCKET, case};
use crate::conformance::client::{NOBODY, Reaction, upgrade, upgrade_request, upgrade_with};
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, ensure};
use crate::conformance::reply::envelope;
use crate::conformance::wire::{Frame, Opcode, Response, WebSocket, within};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = opening();
    cases.extend(messages());
    cases.extend(sessions());
    cases
}

fn opening() -> Vec<Case> {
    vec![
        case!(upgrade_is_accepted).must("TW-1", WEBSOCKET, "An upgrade is answered with 101 and the key's answer"),
        case!(upgrade_below_the_path_is_accepted).should(
            "TW-1 T-5",
            WEBSOCKET,
            "An upgrade below the endpoint's path is accepted",
        ),
        case!(upgrade_header_spelling_does_not_matter).must(
            "TW-28",
            WEBSOCKET,
            "Upgrade: WebSocket and Connection: keep-alive, upgrade are accepted",
        ),
        case!(upgrade_with_a_subprotocol_is_accepted).should(
            "TW-3",
            WEBSOCKET,
            "A client that offers a subprotocol is not refused",
        ),
        case!(upgrade_selects_the_first_subprotocol).ours(
            "Z-19",
            WEBSOCKET,
            "Of the subprotocols that a client offers the first is selected",
        ),
        case!(upgrade_selects_nothing_unasked).must(
            "TW-3",
            WEBSOCKET,
            "No subprotocol is selected where none is offered",
        ),
        case!(upgrade_agrees_on_nothing_unasked).must(
            "TW-28",
            WEBSOCKET,
            "No extension is agreed on where none is offered",
        ),
        case!(upgrade_without_a_key_is_refused).must("TW-28", WEBSOCKET, "An upgrade without a key is refused"),
        case!(upgrade_of_another_version_is_refused).must("TW-28", WEBSOCKET, "An upgrade with version 12 is refused"),
        case!(upgrade_of_another_version_gets_426).should(
            "TW-28",
            WEBSOCKET,
            "An upgrade with version 12 gets 426 or 400",
        ),
    ]
}

fn messages() -> Vec<Case> {
    vec![
        case!(frame_may_hold_a_single_message).must("TW-7 M-1", WEBSOCKET, "A text message may be one object"),
        case!(message_may_be_in_fragments).must("TW-7", WEBSOCKET, "A text message may come in fragments"),
        case!(message_may_be_in_many_fragments).should(
            "TW-7",
            WEBSOCKET,
            "Fragments may be empty, and split a character",
        ),
        case!(ping_between_fragments_is_answered).must(
            "TW-28",
            WEBSOCKET,
            "A ping between fragments is answered at once",
        ),
        case!(ping_is_answered_before_the_handshake).must(
            "TW-28",
            WEBSOCKET,
            "A ping before the handshake is answered, with its payload",
        ),
        case!(ping_is_answered_while_a_connect_is_held).must(
            "TW-28",
            WEBSOCKET,
            "A ping during a held connect is answered",
        ),
        case!(pong_unasked_is_ignored).must("TW-28", WEBSOCKET, "A pong that nobody asked for is ignored"),
        case!(close_is_returned).must("TW-28", WEBSOCKET, "A close is answered by a close with its code"),
        case!(close_without_a_code_is_returned).must(
            "TW-28",
            WEBSOCKET,
            "A close without a code is answered by a close",
        ),
        case!(empty_array_is_a_keep_alive).ours("DI-F7", WEBSOCKET, "The text [] does not close the connection"),
        case!(batch_is_answered_in_one_frame).should(
            "TW-8",
            WEBSOCKET,
            "The replies to one envelope come in one frame",
        ),
        case!(bad_json_closes).should("TW-20 TW-29", WEBSOCKET, "Text that is not JSON closes the connection"),
        case!(bad_json_closes_with_1007).ours(
            "TW-20 Z-1",
            WEBSOCKET,
            "Text that is not JSON closes the connection with 1007",
        ),
        case!(other_json_closes_with_1008).ours(
            "TW-20 Z-1",
            WEBSOCKET,
            "JSON that is no envelope closes the connection with 1008",
        ),
        case!(empty_text_closes).ours("TW-20 M-9", WEBSOCKET, "An empty text message closes the connection with 1007"),
        case!(binary_message_closes_with_1003).ours(
            "TW-7",
            WEBSOCKET,
            "A binary message closes the connection with 1003",
        ),
        case!(messages_are_answered_in_order).should(
            "M-2 TW-29",
            WEBSOCKET,
            "Envelopes sent together are answered in order",
        ),
    ]
}

fn sessions() -> Vec<Case> {
    vec![
        case!(unknown_session_leaves_the_websocket_open).should(
            "TW-29 F-12",
            WEBSOCKET,
            "A message of an unknown session does not close the connection",
        ),
        case!(handshake_on_a_bound_websocket_rebinds).should(
            "TW-10",
            WEBSOCKET,
            "A second handshake on a connection binds it to the new session",
        ),
        case!(push_needs_no_connect).should("TW-9 TW-13", WEBSOCKET, "A message is pushed before the first connect"),
        case!(push_needs_no_held_connect).should("TW-9", WEBSOCKET, "A message is pushed although no connect is held"),
        case!(push_comes_in_arrays).must("M-1 TW-7", WEBSOCKET, "A pushed message comes in an array"),
        case!(push_of_many_is_in_order).must(
            "Q-21",
            WEBSOCKET,
            "A hundred messages are pushed, each once and in order",
        ),
        case!(disconnected_session_is_not_bound).should(
            "TW-11 F-12",
            WEBSOCKET,
            "After a disconnect the connection's session is unknown",
        ),
    ]
}

/// The response to an upgrade with these headers in place of the usual ones of their names.
async fn respond(cx: &Cx, headers: &[(&str, Option<&str>)]) -> Outcome<Response> {
    let mut request = upgrade_request(&cx.env, "", &[]);
    for (name, value) in headers {
        request.headers.retain(|(known, _)| known != name);
        if let Some(value) = value {
            request = request.header(name, *value);
        }
    }
    let mut connection = cx.http1().await?;
    connection.write(&request.encode()).await?;
    Ok(within(cx.env.options.timeout, connection.response()).await?)
}

async fn upgrade_is_accepted(cx: &Cx) -> Outcome {
    upgrade(&cx.env, &cx.log, "", &[]).await?;
    Ok(())
}

async fn upgrade_below_the_path_is_accepted(cx: &Cx) -> Outcome {
    for suffix in ["/", "/connect", "/what/ever"] {
        upgrade(&cx.env, &cx.log, suffix, &[]).await?;
    }
    Ok(())
}

async fn upgrade_header_spelling_does_not_matter(cx: &Cx) -> Outcome {
    let headers = [("Upgrade", Some("WebSocket")), ("Connection", Some("keep-alive, upgrade"))];
    let status = respond(cx, &headers).await?.status;
    ensure!(status == 101, "expected status 101, got {status}");
    Ok(())
}

async fn upgrade_with_a_subprotocol_is_accepted(cx: &Cx) -> Outcome {
    upgrade(&cx.env, &cx.log, "", &[("Sec-WebSocket-Protocol", "bayeux/1.0")]).await?;
    Ok(())
}

async fn upgrade_selects_the_first_subprotocol(cx: &Cx) -> Outcome {
    let offer = [("Sec-WebSocket-Protocol", "first, second")];
    let (_, response) = upgrade_with(&cx.env, &cx.log, "", &offer).await?;
    let selected = response.header("sec-websocket-protocol");
    ensure!(selected == Some("first"), "expected the subprotocol \"first\", got {selected:?}");
    Ok(())
}

async fn upgrade_selects_nothing_unasked(cx: &Cx) -> Outcome {
    let (_, response) = upgrade_with(&cx.env, &cx.log, "", &[]).await?;
    let selected = response.header("sec-websocket-protocol");
    ensure!(selected.is_none(), "expected no subprotocol, got {selected:?}");
    Ok(())
}

async fn upgrade_agrees_on_nothing_unasked(cx: &Cx) -> Outcome {
    let (_, response) = upgrade_with(&cx.env, &cx.log, "", &[]).await?;
    let agreed = response.header("sec-websocket-extensions");
    ensure!(agreed.is_none_or(str::is_empty), "expected no extension, got {agreed:?}");
    Ok(())
}

async fn upgrade_without_a_key_is_refused(cx: &Cx) -> Outcome {
    let status = respond(cx, &[("Sec-WebSocket-Key", None)]).await?.status;
    ensure!(status >= 400, "expected an error status, got {status}");
    Ok(())
}

async fn upgrade_of_another_version_is_refused(cx: &Cx) -> Outcome {
    let status = respond(cx, &[("Sec-WebSocket-Version", Some("12"))]).await?.status;
    ensure!(status >= 400, "expected an error status, got {status}");
    Ok(())
}

async fn upgrade_of_another_version_gets_426(cx: &Cx) -> Outcome {
    let status = respond(cx, &[("Sec-WebSocket-Version", Some("12"))]).await?.status;
    ensure!([400, 426].contains(&status), "expected status 426 or 400, got {status}");
    Ok(())
}

async fn frame_may_hold_a_single_message(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let handshake = client.handshake_message(json!({}));
    client.exchange(&handshake).await?.reply_to(&handshake)?.successful()?;
    Ok(())
}

/// The next frame.
async fn next(cx: &Cx, socket: &mut WebSocket) -> Outcome<Frame> {
    Ok(within(cx.env.options.timeout, socket.next()).await?)
}

/// The next frame is the successful reply to a handshake.
async fn is_greeted(cx: &Cx, socket: &mut WebSocket) -> Outcome {
    let frame = next(cx, socket).await?;
    let Frame::Text(text) = &frame else {
        ensure!(false, "expected a handshake reply, got {frame:?}");
        return Ok(());
    };
    let messages = envelope(text)?;
    ensure!(messages.iter().any(|reply| reply["successful"] == true), "expected a handshake reply, got {text}");
    Ok(())
}

/// A handshake's text, which has characters beyond ASCII in it.
async fn hello(cx: &Cx) -> Outcome<String> {
    let mut client = cx.client().await?;
    let mut handshake = client.handshake_message(json!({}));
    handshake["x-greeting"] = json!("caf\u{e9} 🦀");
    Ok(json!([handshake]).to_string())
}

async fn message_may_be_in_fragments(cx: &Cx) -> Outcome {
    let text = hello(cx).await?;
    let mut socket = upgrade(&cx.env, &cx.log, "", &[]).await?;
    let (start, end) = text.as_bytes().split_at(20);
    socket.frame(Opcode::Text, false, start).await?;
    socket.frame(Opcode::Continuation, true, end).await?;
    is_greeted(cx, &mut socket).await
}

async fn message_may_be_in_many_fragments(cx: &Cx) -> Outcome {
    let text = hello(cx).await?;
    let mut socket = upgrade(&cx.env, &cx.log, "", &[]).await?;
    socket.frame(Opcode::Text, false, b"").await?;
    for byte in text.as_bytes() {
        socket.frame(Opcode::Continuation, false, &[*byte]).await?;
    }
    socket.frame(Opcode::Continuation, true, b"").await?;
    is_greeted(cx, &mut socket).await
}

async fn ping_between_fragments_is_answered(cx: &Cx) -> Outcome {
    let text = hello(cx).await?;
    let mut socket = upgrade(&cx.env, &cx.log, "", &[]).await?;
    let (start, end) = text.as_bytes().split_at(20);
    socket.frame(Opcode::Text, false, start).await?;
    pings(cx, &mut socket).await?;
    socket.frame(Opcode::Continuation, true, end).await?;
    is_greeted(cx, &mut socket).await
}

/// A ping is answered by a pong with the same payload.
async fn pings(cx: &Cx, socket: &mut WebSocket) -> Outcome {
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        socket.frame(Opcode::Ping, true, payload).await?;
        let frame = next(cx, socket).await?;
        ensure!(frame == Frame::Pong(payload.to_vec()), "expected a pong with the ping's payload, got {frame:?}");
    }
    Ok(())
}

async fn ping_is_answered_before_the_handshake(cx: &Cx) -> Outcome {
    let mut socket = upgrade(&cx.env, &cx.log, "", &[]).await?;
    pings(cx, &mut socket).await
}

async fn ping_is_answered_while_a_connect_is_held(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.hold().await?;
    pings(cx, client.socket()?).await?;
    Ok(())
}

async fn pong_unasked_is_ignored(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.socket()?.frame(Opcode::Pong, true, b"unasked").await?;
    client.publish(&cx.channel("a"), 1).await?.successful()?;
    Ok(())
}

async fn close_is_returned(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let payload = [&1000_u16.to_be_bytes()[..], b"Disconnect"].concat();
    client.socket()?.frame(Opcode::Close, true, &payload).await?;
    let frame = next(cx, client.socket()?).await?;
    ensure!(matches!(frame, Frame::Close(Some(1000), _)), "expected a close with 1000, got {frame:?}");
    Ok(())
}

async fn close_without_a_code_is_returned(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.socket()?.frame(Opcode::Close, true, b"").await?;
    let frame = next(cx, client.socket()?).await?;
    ensure!(matches!(frame, Frame::Close(..)), "expected a close, got {frame:?}");
    Ok(())
}

async fn empty_array_is_a_keep_alive(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.socket()?.text(b"[]").await?;
    client.publish(&cx.channel("a"), 1).await?.successful()?;
    Ok(())
}

async fn batch_is_answered_in_one_frame(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let batch = json!([
        client.message("/meta/subscribe", json!({"subscription": cx.channel("a")})),
        client.message(&cx.channel("b"), json!({"data": 1})),
        client.message("/meta/unsubscribe", json!({"subscription": cx.channel("a")})),
    ]);
    let answer = client.exchange(&batch).await?;
    ensure!(
        answer.texts.len() == 1,
        "expected one frame with all replies, got {}: {}",
        answer.texts.len(),
        answer.shown()
    );
    Ok(())
}

async fn provoke(cx: &Cx, text: &[u8]) -> Outcome<Reaction> {
    cx.session().await?.provoke(text).await
}

async fn bad_json_closes(cx: &Cx) -> Outcome {
    provoke(cx, b"[{").await?.refused()?;
    provoke(cx, b"hello").await?.refused()
}

async fn bad_json_closes_with_1007(cx: &Cx) -> Outcome {
    provoke(cx, b"[{").await?.refused_with(&[], &[1007])?;
    provoke(cx, b"hello").await?.refused_with(&[], &[1007])
}

async fn other_json_closes_with_1008(cx: &Cx) -> Outcome {
    for text in ["null", "1", "\"a\"", "[1]", "[null]", "[[{}]]"] {
        provoke(cx, text.as_bytes()).await?.refused_with(&[], &[1008])?;
    }
    Ok(())
}

async fn empty_text_closes(cx: &Cx) -> Outcome {
    provoke(cx, b"").await?.refused_with(&[], &[1007])
}

async fn binary_message_closes_with_1003(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.socket()?.frame(Opcode::Binary, true, b"[]").await?;
    client.reaction().await?.refused_with(&[], &[1003])
}

async fn messages_are_answered_in_order(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let subscribes: Vec<_> = (0..10)
        .map(|number| client.message("/meta/subscribe", json!({"subscription": cx.channel(&number.to_string())})))
        .collect();
    for subscribe in &subscribes {
        client.socket()?.text(json!([subscribe]).to_string().as_bytes()).await?;
    }
    for subscribe in &subscribes {
        let frame = next(cx, client.socket()?).await?;
        let Frame::Text(text) = &frame else {
            ensure!(false, "expected the reply to {subscribe}, got {frame:?}");
            continue;
        };
        ensure!(envelope(text)?[0]["id"] == subscribe["id"], "expected the reply to {subscribe}, got {text}");
    }
    Ok(())
}

async fn unknown_session_leaves_the_websocket_open(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    client.id = NOBODY.to_owned();
    client.publish(&cx.channel("a"), 1).await?.refused()?;
    client.handshake().await?.successful()?;
    Ok(())
}

async fn handshake_on_a_bound_websocket_rebinds(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let old = client.id.clone();
    client.handshake().await?.successful()?;
    client.publish(&cx.channel("a"), 1).await?.successful()?;
    let message = json!({"clientId": old, "data": 1});
    client.request(&cx.channel("a"), message).await?.error("402::session_unknown")?;
    Ok(())
}

/// Waits for a push without sending anything.
async fn is_pushed(cx: &Cx, socket: &mut WebSocket, channel: &str) -> Outcome<String> {
    loop {
        match next(cx, socket).await? {
            Frame::Text(text) => {
                if envelope(&text)?.iter().any(|message| message["channel"] == channel) {
                    return Ok(text);
                }
            }
            Frame::Ping(_) => {}
            other @ (Frame::Binary(_) | Frame::Pong(_) | Frame::Close(..) | Frame::Cut) => {
                ensure!(false, "expected a push, got {other:?}");
            }
        }
    }
}

async fn push_needs_no_connect(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.handshaken().await?;
    alice.subscribe(channel.as_str()).await?.successful()?;
    cx.session().await?.publish(&channel, 1).await?.successful()?;
    is_pushed(cx, alice.socket()?, &channel).await?;
    Ok(())
}

async fn push_needs_no_held_connect(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    cx.session().await?.publish(&channel, 1).await?.successful()?;
    is_pushed(cx, alice.socket()?, &channel).await?;
    Ok(())
}

async fn push_comes_in_arrays(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    alice.start_connect(json!({})).await?;
    cx.session().await?.publish(&channel, 1).await?.successful()?;
    // Anything but an array is an error already.
    is_pushed(cx, alice.socket()?, &channel).await?;
    Ok(())
}

async fn push_of_many_is_in_order(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    for number in 0..100 {
        bob.publish(&channel, number).await?.successful()?;
    }
    for number in 0..100 {
        alice.receives(&channel, number).await?;
    }
    alice.hears_no_more(&mut bob, &channel).await
}

async fn disconnected_session_is_not_bound(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.disconnect().await?.successful()?;
    // Time enough for a server that closes the connection after a while (rule TW-23) to do so too early.
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.publish(&cx.channel("a"), 1).await?.error("402::session_unknown")?;
    Ok(())
}
