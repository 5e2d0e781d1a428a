//! Heartbeats: what is held, for how long, and what ends it.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::conformance::case::{ANY, Case, HTTP, POLLING, WEBSOCKET, case};
use crate::conformance::client::{HELD, NOBODY};
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, Stop, ensure};
use crate::conformance::wire::human;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(connect_succeeds).must("K-2", ANY, "A connect is answered successfully"),
        case!(connect_reply_echoes_the_id).must("M-15", ANY, "A connect reply has the request's id"),
        case!(connect_reply_names_the_channel).must("M-15", ANY, "A connect reply is on /meta/connect"),
        case!(first_connect_returns_at_once).should("K-11 K-30", ANY, "A session's first connect is answered at once"),
        case!(first_connect_needs_no_advice).should("V-13", ANY, "The reply to the first connect has no advice again"),
        case!(connect_with_timeout_zero_returns_at_once).should(
            "K-9 K-11",
            ANY,
            "A connect with advice timeout 0 is answered at once, whenever it comes",
        ),
        case!(connect_with_advice_gets_advice).should(
            "V-11 V-13",
            ANY,
            "The reply to a connect with advice has advice",
        ),
        case!(connect_is_held).should("K-11 K-30", ANY, "A connect after the first is held"),
        case!(connect_reply_ends_with_the_clients_timeout).should(
            "K-9 K-13",
            ANY,
            "A connect with advice timeout 600 is held that long, and not much longer",
        ),
        case!(connect_advice_is_the_servers).should(
            "V-10 K-9",
            ANY,
            "Whatever timeout a connect wants, the reply advises the server's own",
        ),
        case!(connect_negative_timeout_counts_as_absent).should("K-9", ANY, "A connect with timeout -1 is held"),
        case!(connect_advice_has_the_clients_interval).should(
            "K-9 V-10",
            ANY,
            "A connect with advice interval 50 is answered with that interval, the next without",
        ),
        case!(message_ends_a_held_connect).must(
            "K-13",
            HTTP,
            "A message for a session is delivered by its held connect",
        ),
        case!(held_connect_reply_has_no_advice).should(
            "V-13",
            HTTP,
            "A held connect without advice is answered without",
        ),
        case!(message_leaves_a_connect_held).should(
            "K-31",
            WEBSOCKET,
            "A message is pushed while the connect stays held",
        ),
        case!(second_connect_ends_the_first).should(
            "K-20 K-10",
            POLLING,
            "A second connect ends the first one at once",
        ),
        case!(second_connect_first_gets_an_error).should(
            "K-20",
            POLLING,
            "A connect that another replaced gets an error status",
        ),
        case!(second_connect_is_held).should("K-20", POLLING, "The connect that replaced another is held"),
        case!(second_connect_replaces_the_first).should(
            "K-21",
            WEBSOCKET,
            "Of two connects over WebSocket only the second is answered",
        ),
        case!(unknown_session_cannot_connect).must("K-3", ANY, "A connect of an unknown session is not successful"),
        case!(unknown_session_is_told_to_handshake).must(
            "K-3 V-20",
            ANY,
            "It comes with the advice to handshake again",
        ),
        case!(unknown_session_gets_402).should(
            "F-12 K-3",
            ANY,
            "A connect of an unknown session gets 402::session_unknown",
        ),
        case!(unknown_session_may_handshake_at_once).should("V-20", ANY, "It comes with interval 0"),
        case!(unknown_session_is_answered_at_once).should("K-3", ANY, "A connect of an unknown session is not held"),
        case!(connect_without_client_id_is_refused).must("G-4", ANY, "A connect without a clientId is not successful"),
        case!(connect_needs_no_connection_type).should("K-2", ANY, "A connect without connectionType succeeds"),
        case!(connect_type_is_not_checked).should("K-2", ANY, "A connect with another connectionType succeeds"),
        case!(connect_in_a_batch_is_not_held).should(
            "K-16",
            HTTP,
            "A connect with other messages is answered with them",
        ),
        case!(connect_in_a_batch_withholds_nothing).ours(
            "Z-6",
            WEBSOCKET,
            "A held connect does not withhold the replies of other messages",
        ),
        case!(connect_and_subscribes_may_come_together).should(
            "DI-A3 K-16",
            ANY,
            "The first connect may come in one envelope with subscribes",
        ),
        case!(connect_brings_what_is_queued).must("K-13 L-2", ANY, "Messages from between two connects are not lost"),
        case!(connect_is_held_for_the_advised_timeout)
            .should("V-10 K-13", ANY, "A connect is held for as long as the server advised")
            .slow(),
        case!(connect_cannot_be_held_longer_than_advised)
            .ours("Z-5", ANY, "A connect that wants to be held for an hour is held for the server's timeout")
            .slow(),
    ]
}

async fn connect_succeeds(cx: &Cx) -> Outcome {
    cx.handshaken().await?.connect().await?.successful()?;
    Ok(())
}

async fn connect_reply_echoes_the_id(cx: &Cx) -> Outcome {
    cx.handshaken().await?.connect().await?.echoes_id()?;
    Ok(())
}

async fn connect_reply_names_the_channel(cx: &Cx) -> Outcome {
    cx.handshaken().await?.connect().await?.names_the_channel()?;
    Ok(())
}

async fn first_connect_returns_at_once(cx: &Cx) -> Outcome {
    let mut client = cx.handshaken().await?;
    let clock = Instant::now();
    client.connect_with(json!({})).await?.successful()?;
    ensure_at_once(cx, clock)
}

/// What came now came at once, and not at the end of a hold.
fn ensure_at_once(cx: &Cx, clock: Instant) -> Outcome {
    let took = clock.elapsed();
    ensure!(took < cx.env.at_once(), "expected an answer at once, it took {}", human(took));
    Ok(())
}

async fn first_connect_needs_no_advice(cx: &Cx) -> Outcome {
    let mut client = cx.handshaken().await?;
    let mut first = client.start_connect(json!({})).await?;
    if !client.is_answered(&mut first).await? {
        return Err(Stop::Skipped("the server holds the first connect, too".to_owned()));
    }
    client.finish(first).await?.successful()?.lacks("advice")?;
    Ok(())
}

async fn connect_with_timeout_zero_returns_at_once(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    for _ in 0..3 {
        let clock = Instant::now();
        client.connect().await?.successful()?;
        ensure_at_once(cx, clock)?;
    }
    Ok(())
}

async fn connect_with_advice_gets_advice(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.connect().await?.successful()?.advises("reconnect", "retry")?;
    Ok(())
}

async fn connect_is_held(cx: &Cx) -> Outcome {
    cx.session().await?.hold().await?;
    Ok(())
}

async fn connect_reply_ends_with_the_clients_timeout(cx: &Cx) -> Outcome {
    const HOLD: Duration = Duration::from_millis(600);
    if cx.env.at_once() < HOLD * 2 {
        return Err(Stop::Skipped("the server's own timeout is hardly longer".to_owned()));
    }
    let mut client = cx.session().await?;
    let clock = Instant::now();
    let held = client.start_connect(json!({"advice": {"timeout": 600}})).await?;
    client.finish(held).await?.successful()?;
    let took = clock.elapsed();
    let about = HOLD / 2 < took && took < cx.env.at_once();
    ensure!(about, "expected an answer after {}, it came after {}", human(HOLD), human(took));
    Ok(())
}

async fn connect_advice_is_the_servers(cx: &Cx) -> Outcome {
    let Some(timeout) = cx.env.server.timeout else {
        return Err(Stop::Skipped("the server advises no timeout".to_owned()));
    };
    let mut client = cx.session().await?;
    let reply = client.connect_with(json!({"advice": {"timeout": 100}})).await?;
    reply.successful()?.advises("timeout", timeout)?;
    Ok(())
}

async fn connect_negative_timeout_counts_as_absent(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let mut held = client.start_connect(json!({"advice": {"timeout": -1}})).await?;
    client.stays_held(&mut held).await
}

async fn connect_advice_has_the_clients_interval(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let reply = client.connect_with(json!({"advice": {"timeout": 0, "interval": 50}})).await?;
    reply.successful()?.advises("interval", 50)?;
    let reply = client.connect().await?;
    let reset = reply.successful()?.message["advice"]["interval"] != 50;
    reply.expect(reset, "advice with the server's own interval again")?;
    Ok(())
}

async fn message_ends_a_held_connect(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    let held = alice.hold().await?;
    bob.publish(&channel, "wake up").await?.successful()?;
    let (answer, reply) = alice.finish_all(held).await?;
    reply?.successful()?;
    let brought = answer.messages.iter().any(|message| message["channel"] == channel && message["data"] == "wake up");
    ensure!(brought, "expected the message with the connect's reply, got {}", answer.shown());
    Ok(())
}

async fn held_connect_reply_has_no_advice(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    let held = alice.hold().await?;
    bob.publish(&channel, 1).await?.successful()?;
    alice.finish(held).await?.successful()?.lacks("advice")?;
    Ok(())
}

async fn message_leaves_a_connect_held(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    let mut held = alice.hold().await?;
    bob.publish(&channel, 1).await?.successful()?;
    alice.is_pushed_beside(&mut held, &channel).await
}

async fn second_connect_ends_the_first(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let mut first = client.hold().await?;
    client.start_connect(json!({})).await?;
    let answered = client.is_answered(&mut first).await?;
    ensure!(answered, "expected the first connect to be answered, it is held still");
    Ok(())
}

async fn second_connect_first_gets_an_error(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let first = client.hold().await?;
    client.start_connect(json!({})).await?;
    let response = first.response().await?;
    let status = response?.status;
    ensure!((400..600).contains(&status), "expected an error status for the first connect, got {status}");
    Ok(())
}

async fn second_connect_is_held(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.hold().await?;
    client.hold().await?;
    Ok(())
}

async fn second_connect_replaces_the_first(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let mut first = client.hold().await?;
    let second = client.start_connect(json!({"advice": {"timeout": 600}})).await?;
    client.finish(second).await?.successful()?;
    let pending = client.is_pending(&mut first, HELD).await?;
    ensure!(pending, "expected no reply to the first connect, it came");
    Ok(())
}

/// The reply to a connect with an id that the server never gave.
async fn connect_of_nobody(cx: &Cx) -> Outcome<crate::conformance::reply::Reply> {
    let mut client = cx.client().await?;
    client.id = NOBODY.to_owned();
    client.connect_with(json!({})).await
}

async fn unknown_session_cannot_connect(cx: &Cx) -> Outcome {
    connect_of_nobody(cx).await?.refused()?;
    Ok(())
}

async fn unknown_session_is_told_to_handshake(cx: &Cx) -> Outcome {
    connect_of_nobody(cx).await?.refused()?.advises("reconnect", "handshake")?;
    Ok(())
}

async fn unknown_session_gets_402(cx: &Cx) -> Outcome {
    connect_of_nobody(cx).await?.error("402::session_unknown")?;
    Ok(())
}

async fn unknown_session_may_handshake_at_once(cx: &Cx) -> Outcome {
    connect_of_nobody(cx).await?.refused()?.advises("interval", 0)?;
    Ok(())
}

async fn unknown_session_is_answered_at_once(cx: &Cx) -> Outcome {
    let clock = Instant::now();
    connect_of_nobody(cx).await?.refused()?;
    ensure_at_once(cx, clock)
}

async fn connect_without_client_id_is_refused(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let kind = cx.transport.connection_type();
    let connect = json!({"channel": "/meta/connect", "id": client.fresh_id(), "connectionType": kind});
    client.fails_as_it_is(&connect).await
}

async fn connect_needs_no_connection_type(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.request("/meta/connect", json!({"advice": {"timeout": 0}})).await?.successful()?;
    Ok(())
}

async fn connect_type_is_not_checked(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.connect_with(json!({"advice": {"timeout": 0}, "connectionType": "pigeon"})).await?.successful()?;
    Ok(())
}

async fn connect_in_a_batch_is_not_held(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let connect = client.connect_message(json!({}));
    let subscribe = client.message("/meta/subscribe", json!({"subscription": cx.channel("a")}));
    let clock = Instant::now();
    let answer = client.exchange(&json!([connect, subscribe])).await?;
    answer.reply_to(&connect)?.successful()?;
    answer.reply_to(&subscribe)?.successful()?;
    ensure_at_once(cx, clock)
}

async fn connect_in_a_batch_withholds_nothing(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let connect = client.connect_message(json!({}));
    let subscribe = client.message("/meta/subscribe", json!({"subscription": cx.channel("a")}));
    let text = json!([connect, subscribe]).to_string();
    client.exchange_text(text.as_bytes(), &json!([subscribe])).await?.reply_to(&subscribe)?.successful()?;
    Ok(())
}

async fn connect_and_subscribes_may_come_together(cx: &Cx) -> Outcome {
    let mut client = cx.handshaken().await?;
    let (one, two) = (cx.channel("one"), cx.channel("two"));
    let batch = json!([
        client.connect_message(json!({})),
        client.message("/meta/subscribe", json!({"subscription": one})),
        client.message("/meta/subscribe", json!({"subscription": two})),
    ]);
    let clock = Instant::now();
    for reply in client.exchange(&batch).await?.replies_to(&batch)? {
        reply.successful()?;
    }
    ensure_at_once(cx, clock)?;
    client.publish(&two, 2).await?.successful()?;
    client.receives(&two, 2).await?;
    Ok(())
}

async fn connect_brings_what_is_queued(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    for number in 0..3 {
        bob.publish(&channel, number).await?.successful()?;
    }
    for number in 0..3 {
        alice.receives(&channel, number).await?;
    }
    Ok(())
}

/// Holds a connect with these fields; yields how long it took.
async fn time_of_a_hold(cx: &Cx, fields: serde_json::Value) -> Outcome<Duration> {
    let mut client = cx.session().await?;
    let clock = Instant::now();
    let held = client.start_connect(fields).await?;
    let reply = client.finish(held).await?;
    reply.successful()?;
    Ok(clock.elapsed())
}

fn advised(cx: &Cx) -> Outcome<Duration> {
    let skipped = || Stop::Skipped("the server advises no timeout".to_owned());
    cx.env.server.timeout.map(Duration::from_millis).ok_or_else(skipped)
}

/// A hold that took so long ended when it should have; the answer to it may take as long as any.
fn ensure_about(cx: &Cx, took: Duration, expected: Duration) -> Outcome {
    let early = expected / 10 + Duration::from_secs(1);
    let about = took + early >= expected && took <= expected + cx.env.options.timeout;
    ensure!(about, "expected an answer after {}, it took {}", human(expected), human(took));
    Ok(())
}

async fn connect_is_held_for_the_advised_timeout(cx: &Cx) -> Outcome {
    let advised = advised(cx)?;
    ensure_about(cx, time_of_a_hold(cx, json!({})).await?, advised)
}

async fn connect_cannot_be_held_longer_than_advised(cx: &Cx) -> Outcome {
    let advised = advised(cx)?;
    ensure_about(cx, time_of_a_hold(cx, json!({"advice": {"timeout": 3_600_000}})).await?, advised)
}
