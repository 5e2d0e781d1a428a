//! How a session ends.

use serde_json::json;
use tokio::time::{Duration, Instant, sleep};

use crate::conformance::case::{ANY, Case, HTTP, POLLING, WEBSOCKET, case};
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, Stop, ensure};
use crate::conformance::wire::{Frame, Opcode, within};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(disconnect_succeeds).must("D-2", ANY, "A disconnect is answered successfully"),
        case!(disconnect_reply_echoes_the_id).must("M-15", ANY, "A disconnect reply has the request's id"),
        case!(disconnect_reply_names_the_channel).must("M-15", ANY, "A disconnect reply is on /meta/disconnect"),
        case!(disconnect_ends_the_session).must("D-1", ANY, "After a disconnect the session can connect no more"),
        case!(disconnect_ends_subscriptions).should(
            "D-2",
            WEBSOCKET,
            "After a disconnect nothing is delivered any more",
        ),
        case!(after_disconnect_publish_gets_402).should(
            "F-12 D-1",
            ANY,
            "A publish after the disconnect gets 402::session_unknown",
        ),
        case!(after_disconnect_connect_gets_402).should(
            "D-4 V-20",
            ANY,
            "A connect after the disconnect gets 402 and advice to handshake",
        ),
        case!(after_disconnect_disconnect_gets_402).should(
            "D-1 V-20",
            ANY,
            "A second disconnect gets 402::session_unknown, without advice",
        ),
        case!(disconnect_answers_the_held_connect).should(
            "D-3",
            POLLING,
            "A disconnect ends the session's held connect",
        ),
        case!(disconnect_advises_the_held_connect).should(
            "D-3 V-22",
            ANY,
            "The held connect is answered with reconnect none",
        ),
        case!(disconnect_reply_comes_last).ours(
            "Z-17",
            WEBSOCKET,
            "The reply to the held connect comes before that to the disconnect",
        ),
        case!(disconnect_works_at_once_in_a_batch).should(
            "D-5 F-12",
            ANY,
            "In one envelope, a publish behind a disconnect gets 402",
        ),
        case!(disconnect_in_a_batch_lets_earlier_messages_pass).should(
            "D-5",
            ANY,
            "In one envelope, a publish before a disconnect is delivered, one behind it is not",
        ),
        case!(disconnect_without_a_connect).should(
            "D-2",
            ANY,
            "A session may disconnect without ever having connected",
        ),
        case!(disconnect_leaves_the_websocket_open).should(
            "D-6",
            WEBSOCKET,
            "A disconnect does not make the server close the WebSocket at once",
        ),
        case!(disconnect_allows_a_new_session).should(
            "H-2 TW-10",
            ANY,
            "After a disconnect the same client may handshake again",
        ),
        case!(session_without_a_connect_expires)
            .should("L-23 L-33", ANY, "A session that never connects ends some time after interval plus maxInterval")
            .slow(),
        case!(session_between_connects_expires)
            .should("L-20 L-33", HTTP, "A session ends when no connect follows the last for interval plus maxInterval")
            .slow(),
        case!(session_that_publishes_lives)
            .should("L-21", ANY, "A session that only publishes lives as long as it does so often")
            .slow(),
        case!(session_that_is_held_lives).must("L-20", ANY, "A session with a held connect does not end").slow(),
    ]
}

async fn disconnect_succeeds(cx: &Cx) -> Outcome {
    cx.session().await?.disconnect().await?.successful()?;
    Ok(())
}

async fn disconnect_reply_echoes_the_id(cx: &Cx) -> Outcome {
    cx.session().await?.disconnect().await?.successful()?.echoes_id()?;
    Ok(())
}

async fn disconnect_reply_names_the_channel(cx: &Cx) -> Outcome {
    cx.session().await?.disconnect().await?.successful()?.names_the_channel()?;
    Ok(())
}

async fn disconnect_ends_the_session(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let id = client.id.clone();
    client.disconnect().await?.successful()?;
    // Over a new connection: some servers close a WebSocket together with its session.
    let mut late = cx.client().await?;
    late.id = id;
    late.connect().await?.refused()?;
    Ok(())
}

async fn disconnect_ends_subscriptions(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    alice.disconnect().await?.successful()?;
    bob.publish(&channel, "nobody listens").await?.successful()?;
    // The same connection, a new session: what is for the old one does not come.
    alice.handshake().await?.successful()?;
    alice.connect().await?.successful()?;
    alice.hears_no_more(&mut bob, &channel).await
}

async fn after_disconnect_publish_gets_402(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.disconnect().await?.successful()?;
    client.publish(&cx.channel("a"), 1).await?.error("402::session_unknown")?;
    Ok(())
}

async fn after_disconnect_connect_gets_402(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.disconnect().await?.successful()?;
    client.connect().await?.error("402::session_unknown")?.advises("reconnect", "handshake")?;
    Ok(())
}

async fn after_disconnect_disconnect_gets_402(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.disconnect().await?.successful()?;
    client.disconnect().await?.error("402::session_unknown")?.lacks("advice")?;
    Ok(())
}

async fn disconnect_answers_the_held_connect(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let mut held = client.hold().await?;
    client.disconnect().await?.successful()?;
    let answered = client.is_answered(&mut held).await?;
    ensure!(answered, "expected the held connect to be answered, it is not");
    Ok(())
}

async fn disconnect_advises_the_held_connect(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let held = client.hold().await?;
    client.disconnect().await?.successful()?;
    client.finish(held).await?.advises("reconnect", "none")?;
    Ok(())
}

async fn disconnect_reply_comes_last(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let held = client.hold().await?;
    let disconnect = client.message("/meta/disconnect", json!({}));
    let answer = client.exchange(&json!([disconnect])).await?;
    let connect = answer.position(|message| message["id"] == held.request["id"]);
    let disconnect = answer.position(|message| message["id"] == disconnect["id"]);
    ensure!(connect.is_some() && connect < disconnect, "expected the connect's reply first, got {}", answer.shown());
    Ok(())
}

async fn disconnect_works_at_once_in_a_batch(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let disconnect = client.message("/meta/disconnect", json!({}));
    let publish = client.message(&cx.channel("a"), json!({"data": 1}));
    let answer = client.exchange(&json!([disconnect, publish])).await?;
    answer.reply_to(&disconnect)?.successful()?;
    answer.reply_to(&publish)?.error("402::session_unknown")?;
    Ok(())
}

async fn disconnect_in_a_batch_lets_earlier_messages_pass(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    let batch = json!([
        bob.message(&channel, json!({"data": "before"})),
        bob.message("/meta/disconnect", json!({})),
        bob.message(&channel, json!({"data": "after"})),
    ]);
    bob.exchange(&batch).await?;
    alice.receives(&channel, "before").await?;
    let mut carol = cx.session().await?;
    alice.hears_no_more(&mut carol, &channel).await
}

async fn disconnect_without_a_connect(cx: &Cx) -> Outcome {
    cx.handshaken().await?.disconnect().await?.successful()?;
    Ok(())
}

async fn disconnect_leaves_the_websocket_open(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.disconnect().await?.successful()?;
    let patience = cx.env.options.timeout;
    let socket = client.socket()?;
    within(patience, socket.frame(Opcode::Ping, true, b"open?")).await?;
    let frame = within(patience, socket.next()).await?;
    ensure!(frame == Frame::Pong(b"open?".to_vec()), "expected a pong on the open connection, got {frame:?}");
    Ok(())
}

async fn disconnect_allows_a_new_session(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.disconnect().await?.successful()?;
    client.handshake().await?.successful()?;
    client.connect().await?.successful()?;
    let channel = cx.channel("a");
    client.subscribe(channel.as_str()).await?.successful()?;
    client.publish(&channel, 1).await?.successful()?;
    client.receives(&channel, 1).await?;
    Ok(())
}

/// How long a session surely needs to end: CometD's default where the server does not advise it, and some sweeping.
fn silence(cx: &Cx) -> Duration {
    Duration::from_millis(cx.env.server.max_interval.unwrap_or(10_000)) + Duration::from_secs(5)
}

/// The session is gone: its connect is refused with advice to handshake.
async fn has_expired(client: &mut crate::conformance::client::Client) -> Outcome {
    let reply = client.connect().await?;
    if reply.message["successful"] == true {
        let longer = "the session lives still; the server may have a longer maxInterval than it tells";
        return Err(Stop::Skipped(longer.to_owned()));
    }
    reply.error("402::session_unknown")?.advises("reconnect", "handshake")?;
    Ok(())
}

async fn session_without_a_connect_expires(cx: &Cx) -> Outcome {
    let mut client = cx.handshaken().await?;
    sleep(silence(cx)).await;
    has_expired(&mut client).await
}

async fn session_between_connects_expires(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    sleep(silence(cx)).await;
    has_expired(&mut client).await
}

async fn session_that_publishes_lives(cx: &Cx) -> Outcome {
    let mut client = cx.handshaken().await?;
    let end = Instant::now() + silence(cx);
    while Instant::now() < end {
        client.publish(&cx.channel("a"), "alive").await?.successful()?;
        sleep(Duration::from_secs(1)).await;
    }
    client.connect().await?.successful()?;
    Ok(())
}

async fn session_that_is_held_lives(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let end = Instant::now() + silence(cx);
    while Instant::now() < end {
        let held = client.start_connect(json!({})).await?;
        client.finish(held).await?.successful()?;
    }
    Ok(())
}
