//! Publishing: what arrives, how, and what does not.

use serde_json::{Value, json};

use crate::conformance::case::{ANY, BIG, Case, HTTP, case};
use crate::conformance::client::NOBODY;
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, brief, ensure};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = accepted();
    cases.extend(refused());
    cases
}

fn accepted() -> Vec<Case> {
    vec![
        case!(publish_reaches_a_subscriber).must("P-1 P-9", ANY, "A publish is delivered to who has subscribed"),
        case!(publish_reaches_all_subscribers).must("P-1", ANY, "A publish is delivered to all who have subscribed"),
        case!(publish_reaches_nobody_else).must("P-1", ANY, "A publish is not delivered to who has not subscribed"),
        case!(publish_reaches_the_publisher).should(
            "P-5",
            ANY,
            "A publish is delivered to its publisher, if subscribed",
        ),
        case!(publish_is_acknowledged).should("P-2", ANY, "A publish is answered successfully"),
        case!(publish_reply_echoes_the_id).should("M-15 TW-27", ANY, "A publish reply has the request's id"),
        case!(publish_reply_names_the_channel).should("M-15", ANY, "A publish reply is on the request's channel"),
        case!(publish_reply_has_no_data).must("M-17", ANY, "A publish reply has no data: clients tell it by that"),
        case!(delivery_has_no_client_id).should("M-14", ANY, "A delivery has no clientId"),
        case!(delivery_has_no_id).should("M-13", ANY, "A delivery has no id"),
        case!(delivery_has_no_outcome).should("P-9 M-17", ANY, "A delivery has no successful"),
        case!(data_may_be_any_json).must(
            "M-16",
            ANY,
            "Texts, numbers, truth values, arrays and objects are delivered as they are",
        ),
        case!(data_may_be_empty).must("M-16", ANY, "An empty text, 0, false, {} and [] are delivered as they are"),
        case!(data_may_be_null).should("M-16", ANY, "Data null is delivered as null"),
        case!(data_may_be_missing).should("P-3", ANY, "A publish without data is accepted"),
        case!(data_that_is_missing_becomes_null).ours("P-3", ANY, "A publish without data is delivered with data null"),
        case!(data_keeps_non_ascii).must("M-3", ANY, "Text of all planes of Unicode arrives unchanged"),
        case!(data_keeps_escapes_meaning).must("M-3", ANY, "Escaped characters arrive as the characters that they are"),
        case!(data_keeps_control_characters).must("M-3", ANY, "Control characters in text arrive unchanged"),
        case!(data_keeps_large_numbers).should("Q-24 M-3", ANY, "Integers up to 2^53 and fractions arrive unchanged"),
        case!(data_arrives_byte_for_byte).ours(
            "Q-24",
            ANY,
            "The spelling of data, numbers and escapes, is not changed",
        ),
        case!(data_may_be_nested).should("Z-20", ANY, "Data may be nested 60 deep"),
        case!(data_may_be_large).should("Z-20", BIG, "Data of 60,000 bytes is delivered"),
        case!(data_may_be_larger_over_http).should(
            "Z-20",
            crate::conformance::case::POLLING,
            "Data of 1 MiB is delivered over HTTP",
        ),
        case!(order_is_kept).must("Q-21", ANY, "Messages of one publisher on one channel arrive in order"),
        case!(order_is_kept_within_an_envelope).must(
            "Q-21 M-2",
            ANY,
            "Messages published in one envelope arrive in order",
        ),
        case!(order_is_kept_between_channels).should(
            "Q-21",
            ANY,
            "Messages of one publisher on two channels arrive in order",
        ),
        case!(overlapping_subscriptions_deliver_once).should(
            "Q-4",
            ANY,
            "Who matches by several subscriptions gets a message once",
        ),
        case!(extra_fields_are_delivered).should("M-4 P-9", ANY, "Unknown fields of a publish are delivered"),
        case!(ext_is_delivered).should("M-4", ANY, "The ext of a publish is delivered"),
        case!(own_message_comes_before_the_reply).should(
            "Q-20 Q-12",
            crate::conformance::case::POLLING,
            "Over HTTP the publisher's own message precedes the publish reply",
        ),
        case!(message_comes_before_the_connect_reply).should(
            "Q-20",
            HTTP,
            "Over HTTP messages precede the reply of the connect that brings them",
        ),
        case!(service_publish_succeeds).should(
            "R-9 C-22",
            ANY,
            "A publish to a service channel succeeds, service or not",
        ),
        case!(service_publish_reaches_no_subscriber).must(
            "Q-5 C-22",
            ANY,
            "A publish to a service channel is not delivered",
        ),
    ]
}

fn refused() -> Vec<Case> {
    vec![
        case!(publish_of_nobody_is_refused).should("F-12", ANY, "A publish of an unknown session is not successful"),
        case!(publish_of_nobody_reaches_nobody).should("F-12", ANY, "A publish of an unknown session is not delivered"),
        case!(publish_of_nobody_gets_402).should(
            "F-12 V-20",
            ANY,
            "A publish of an unknown session gets 402::session_unknown, without advice",
        ),
        case!(publish_without_client_id_gets_402).should(
            "G-4 F-12",
            ANY,
            "A publish without clientId gets 402::session_unknown",
        ),
        case!(publish_null_client_id_gets_402).should(
            "G-4 M-19",
            ANY,
            "A publish with clientId null gets 402::session_unknown",
        ),
        case!(publish_to_unknown_meta_is_denied).should(
            "C-24 F-15",
            ANY,
            "/meta/other gets 403:denied_by_security_policy:channel_create_denied",
        ),
        case!(publish_to_unknown_meta_is_refused).must(
            "C-24",
            ANY,
            "A publish to a meta channel that does not exist is not successful",
        ),
        case!(publish_to_markup_is_invalid).should(
            "C-26 F-24",
            ANY,
            "A publish to a channel with markup gets 405::channel_invalid",
        ),
        case!(publish_without_slash_is_refused).must(
            "C-27",
            ANY,
            "A publish to a channel without a leading slash is not successful",
        ),
        case!(publish_without_slash_is_invalid).should(
            "C-27 F-24",
            ANY,
            "A publish to a channel without a leading slash gets 405::channel_invalid",
        ),
        case!(publish_to_slash_is_invalid).should("C-27 F-24", ANY, "A publish to / gets 405::channel_invalid"),
        case!(publish_to_non_ascii_is_invalid).should(
            "C-2 F-24",
            ANY,
            "A publish to a channel with an é gets 405::channel_invalid",
        ),
        case!(publish_invalid_channel_is_echoed).should(
            "F-24 M-15",
            ANY,
            "The reply to an invalid channel is on that channel",
        ),
        case!(publish_to_bad_structure_is_invalid).ours(
            "Z-2 C-4",
            ANY,
            "Empty segments and stars in the middle get 405::channel_invalid",
        ),
        case!(publish_to_wildcards_is_invalid).ours("Z-4", ANY, "A publish to a wildcard gets 405::channel_invalid"),
        case!(publish_syntax_is_checked_before_sessions).should(
            "G-2",
            ANY,
            "An unknown session with an invalid channel is told of the channel",
        ),
        case!(reserved_fields_are_not_delivered).ours(
            "Z-3",
            ANY,
            "A publish cannot carry advice, error, successful and the like to others",
        ),
    ]
}

/// Publishes `data`, as text, and compares what arrives.
async fn carries(cx: &Cx, values: &[Value]) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    for value in values {
        bob.publish(&channel, value.clone()).await?.successful()?;
        let message = alice.receive(&channel).await?;
        ensure!(message.get("data") == Some(value), "expected data {}, got {}", brief(value), brief(&message));
    }
    Ok(())
}

async fn publish_reaches_a_subscriber(cx: &Cx) -> Outcome {
    carries(cx, &[json!("hello")]).await
}

async fn publish_reaches_all_subscribers(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(cx.subscriber(channel.as_str()).await?);
    }
    cx.session().await?.publish(&channel, "to all").await?;
    for client in &mut all {
        client.receives(&channel, "to all").await?;
    }
    Ok(())
}

async fn publish_reaches_nobody_else(cx: &Cx) -> Outcome {
    let mut alice = cx.subscriber(cx.channel("a")).await?;
    let mut bob = cx.session().await?;
    let other = cx.channel("b");
    bob.publish(&other, 1).await?.successful()?;
    alice.hears_no_more(&mut bob, &other).await
}

async fn publish_reaches_the_publisher(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut client = cx.subscriber(channel.as_str()).await?;
    client.publish(&channel, 1).await?.successful()?;
    client.receives(&channel, 1).await?;
    Ok(())
}

async fn publish_is_acknowledged(cx: &Cx) -> Outcome {
    cx.session().await?.publish(&cx.channel("a"), 1).await?.successful()?;
    Ok(())
}

async fn publish_reply_echoes_the_id(cx: &Cx) -> Outcome {
    cx.session().await?.publish(&cx.channel("a"), 1).await?.successful()?.echoes_id()?;
    Ok(())
}

async fn publish_reply_names_the_channel(cx: &Cx) -> Outcome {
    cx.session().await?.publish(&cx.channel("a"), 1).await?.successful()?.names_the_channel()?;
    Ok(())
}

async fn publish_reply_has_no_data(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let publish = client.message(&cx.channel("a"), json!({"data": 1}));
    // Nobody has subscribed, so the only message on the channel is the reply.
    let messages = client.provoke(json!([publish]).to_string().as_bytes()).await?.answered()?;
    let with_data = messages.iter().find(|message| message["id"] == publish["id"] && message.get("data").is_some());
    ensure!(with_data.is_none(), "expected a reply without data, got {}", brief(&Value::Array(messages)));
    Ok(())
}

/// What somebody else receives of a publish with these fields.
async fn delivery_of(cx: &Cx, fields: Value) -> Outcome<Value> {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    bob.request(&channel, fields).await?.successful()?;
    alice.receive(&channel).await
}

async fn delivery_lacks(cx: &Cx, field: &str) -> Outcome {
    let message = delivery_of(cx, json!({"data": 1})).await?;
    ensure!(message.get(field).is_none(), "expected a delivery without {field:?}, got {}", brief(&message));
    Ok(())
}

async fn delivery_has_no_client_id(cx: &Cx) -> Outcome {
    delivery_lacks(cx, "clientId").await
}

async fn delivery_has_no_id(cx: &Cx) -> Outcome {
    delivery_lacks(cx, "id").await
}

async fn delivery_has_no_outcome(cx: &Cx) -> Outcome {
    delivery_lacks(cx, "successful").await
}

async fn data_may_be_any_json(cx: &Cx) -> Outcome {
    let values =
        [json!("text"), json!(42), json!(-1.5), json!(true), json!([1, [2, {"a": 3}]]), json!({"a": {"b": []}})];
    carries(cx, &values).await
}

async fn data_may_be_empty(cx: &Cx) -> Outcome {
    carries(cx, &[json!(""), json!(0), json!(false), json!({}), json!([])]).await
}

async fn data_may_be_null(cx: &Cx) -> Outcome {
    carries(cx, &[Value::Null]).await
}

async fn data_may_be_missing(cx: &Cx) -> Outcome {
    cx.session().await?.request(&cx.channel("a"), json!({})).await?.successful()?;
    Ok(())
}

async fn data_that_is_missing_becomes_null(cx: &Cx) -> Outcome {
    let message = delivery_of(cx, json!({})).await?;
    ensure!(message.get("data") == Some(&Value::Null), "expected data null, got {}", brief(&message));
    Ok(())
}

async fn data_keeps_non_ascii(cx: &Cx) -> Outcome {
    carries(cx, &[json!("Ærøskøbing, Ελλάδα, 日本語, 🦀, e\u{301}, \u{10ffff}"), json!({"ключ": "значение"})]).await
}

/// Publishes data in this spelling; yields what somebody else receives, parsed and as text.
async fn spelt(cx: &Cx, data: &str) -> Outcome<Value> {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    let publish = bob.message(&channel, json!({"data": "DATA"}));
    let text = json!([publish]).to_string().replace("\"DATA\"", data);
    bob.exchange_text(text.as_bytes(), &json!([publish])).await?.reply_to(&publish)?.successful()?;
    alice.receive(&channel).await
}

async fn data_keeps_escapes_meaning(cx: &Cx) -> Outcome {
    let message = spelt(cx, r#""\u0041\u00e9\ud83e\udd80\/\"\\""#).await?;
    ensure!(
        message["data"] == "A\u{e9}\u{1f980}/\"\\",
        "expected data \"A\u{e9}\u{1f980}/\\\"\\\\\", got {}",
        brief(&message)
    );
    Ok(())
}

async fn data_keeps_control_characters(cx: &Cx) -> Outcome {
    carries(cx, &[json!("\u{0}\u{1}\t\r\n\u{8}\u{c}\u{1f}\u{7f}\u{2028}\u{2029}")]).await
}

async fn data_keeps_large_numbers(cx: &Cx) -> Outcome {
    carries(cx, &[json!(9_007_199_254_740_992_i64), json!(-9_007_199_254_740_992_i64), json!(0.1), json!(1e-7)]).await
}

async fn data_arrives_byte_for_byte(cx: &Cx) -> Outcome {
    let data = r#"{"z":1.0,"a":[1e2,-0,123456789012345678901234567890],"t":"\u0041\/","a b":{ "c" :null}}"#;
    let channel = cx.channel("a");
    let mut client = cx.subscriber(channel.as_str()).await?;
    let publish = client.message(&channel, json!({"data": "DATA"}));
    let connect = client.connect_message(json!({"advice": {"timeout": 0}}));
    // The connect is for transports whose publish replies bring no messages.
    let envelope = json!([publish, connect]);
    let text = envelope.to_string().replace("\"DATA\"", data);
    let mut answer = client.exchange_text(text.as_bytes(), &envelope).await?;
    if answer.position(|message| message.get("data").is_some()).is_none() {
        let more = client.connect_message(json!({"advice": {"timeout": 0}}));
        answer = client.exchange(&json!([more])).await?;
    }
    let whole = answer.texts.concat();
    ensure!(whole.contains(data), "expected {data}, got {whole}");
    Ok(())
}

async fn data_may_be_nested(cx: &Cx) -> Outcome {
    let nested = (0..60).fold(json!(1), |inner, _| json!([inner]));
    carries(cx, &[nested]).await
}

async fn data_may_be_large(cx: &Cx) -> Outcome {
    carries(cx, &[json!("x".repeat(60_000))]).await
}

async fn data_may_be_larger_over_http(cx: &Cx) -> Outcome {
    carries(cx, &[json!("x".repeat(1 << 20))]).await
}

async fn order_is_kept(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    for number in 0..30 {
        bob.publish(&channel, number).await?;
    }
    for number in 0..30 {
        alice.receives(&channel, number).await?;
    }
    Ok(())
}

async fn order_is_kept_within_an_envelope(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    // Callback-polling has a URL for it, which must not be long.
    let batch: Vec<Value> = (0..10).map(|number| bob.message(&channel, json!({"data": number}))).collect();
    bob.exchange(&json!(batch)).await?;
    for number in 0..10 {
        alice.receives(&channel, number).await?;
    }
    Ok(())
}

async fn order_is_kept_between_channels(cx: &Cx) -> Outcome {
    let channels = [cx.channel("one"), cx.channel("two")];
    let mut alice = cx.subscriber(cx.channel("*")).await?;
    let mut bob = cx.session().await?;
    for number in 0..10 {
        bob.publish(&channels[number % 2], number).await?.successful()?;
    }
    for number in 0..10 {
        let message = alice.receive_below(&cx.channel("")).await?;
        ensure!(message["data"] == number, "expected data {number} next, got {}", brief(&message));
    }
    Ok(())
}

async fn overlapping_subscriptions_deliver_once(cx: &Cx) -> Outcome {
    let channel = cx.channel("a/b");
    let mut alice = cx.subscriber(json!([channel, cx.channel("a/*"), cx.channel("a/**"), cx.channel("**")])).await?;
    let mut bob = cx.session().await?;
    bob.publish(&channel, 1).await?.successful()?;
    alice.receives(&channel, 1).await?;
    alice.hears_no_more(&mut bob, &channel).await
}

async fn extra_fields_are_delivered(cx: &Cx) -> Outcome {
    let message = delivery_of(cx, json!({"data": 1, "x-colour": {"name": "blue"}})).await?;
    ensure!(message["x-colour"] == json!({"name": "blue"}), "expected the field \"x-colour\", got {}", brief(&message));
    Ok(())
}

async fn ext_is_delivered(cx: &Cx) -> Outcome {
    let message = delivery_of(cx, json!({"data": 1, "ext": {"org.example": [1]}})).await?;
    ensure!(message["ext"]["org.example"] == json!([1]), "expected ext with \"org.example\", got {}", brief(&message));
    Ok(())
}

async fn own_message_comes_before_the_reply(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut client = cx.subscriber(channel.as_str()).await?;
    let publish = client.message(&channel, json!({"data": 1}));
    let answer = client.exchange(&json!([publish])).await?;
    let message = answer.position(|message| message.get("data").is_some());
    let reply = answer.position(|message| message["id"] == publish["id"]);
    ensure!(message.is_some() && message < reply, "expected the message, then the reply, got {}", answer.shown());
    Ok(())
}

async fn message_comes_before_the_connect_reply(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    cx.session().await?.publish(&channel, 1).await?.successful()?;
    let connect = alice.connect_message(json!({}));
    let answer = alice.exchange(&json!([connect])).await?;
    let message = answer.position(|message| message.get("data").is_some());
    let reply = answer.position(|message| message["id"] == connect["id"]);
    ensure!(message.is_some() && message < reply, "expected the message, then the reply, got {}", answer.shown());
    Ok(())
}

async fn service_publish_succeeds(cx: &Cx) -> Outcome {
    cx.session().await?.publish(&format!("/service{}", cx.channel("a")), 1).await?.successful()?;
    Ok(())
}

async fn service_publish_reaches_no_subscriber(cx: &Cx) -> Outcome {
    let channel = format!("/service{}", cx.channel("a"));
    let mut alice = cx.session().await?;
    // Whether a server permits these is for other cases.
    alice.subscribe(channel.as_str()).await?;
    alice.subscribe(format!("/service{}", cx.channel("*"))).await?;
    let mut bob = cx.session().await?;
    bob.publish(&channel, 1).await?;
    alice.hears_no_more(&mut bob, &channel).await
}

/// The reply to a publish by a session that the server never gave.
async fn publish_of_nobody(cx: &Cx, channel: &str) -> Outcome<crate::conformance::reply::Reply> {
    let mut client = cx.client().await?;
    client.id = NOBODY.to_owned();
    client.publish(channel, 1).await
}

async fn publish_of_nobody_is_refused(cx: &Cx) -> Outcome {
    publish_of_nobody(cx, &cx.channel("a")).await?.refused()?;
    Ok(())
}

async fn publish_of_nobody_reaches_nobody(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    publish_of_nobody(cx, &channel).await?;
    let mut bob = cx.session().await?;
    alice.hears_no_more(&mut bob, &channel).await
}

async fn publish_of_nobody_gets_402(cx: &Cx) -> Outcome {
    publish_of_nobody(cx, &cx.channel("a")).await?.error("402::session_unknown")?.lacks("advice")?;
    Ok(())
}

async fn publish_without_client_id_gets_402(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let publish = json!({"channel": cx.channel("a"), "id": client.fresh_id(), "data": 1});
    client.send(publish).await?.error("402::session_unknown")?;
    Ok(())
}

async fn publish_null_client_id_gets_402(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.request(&cx.channel("a"), json!({"clientId": null, "data": 1})).await?.error("402::session_unknown")?;
    Ok(())
}

async fn publish_to_unknown_meta_is_refused(cx: &Cx) -> Outcome {
    cx.session().await?.fails("/meta/other", json!({"data": 1})).await
}

async fn publish_to_unknown_meta_is_denied(cx: &Cx) -> Outcome {
    let reply = cx.session().await?.publish("/meta/other", 1).await?;
    reply.error("403:denied_by_security_policy:channel_create_denied")?;
    Ok(())
}

/// A publish to what is no channel.
async fn refuses(cx: &Cx, channel: &str) -> Outcome {
    cx.session().await?.publish(channel, 1).await?.error("405::channel_invalid")?;
    Ok(())
}

async fn publish_to_markup_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, &cx.channel("foo<>")).await
}

async fn publish_without_slash_is_refused(cx: &Cx) -> Outcome {
    cx.session().await?.fails("foo", json!({"data": 1})).await
}

async fn publish_without_slash_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, "foo").await
}

async fn publish_to_slash_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, "/").await
}

async fn publish_to_non_ascii_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, &cx.channel("caf\u{e9}")).await
}

async fn publish_invalid_channel_is_echoed(cx: &Cx) -> Outcome {
    cx.session().await?.publish(&cx.channel("foo<>"), 1).await?.refused()?.names_the_channel()?;
    Ok(())
}

async fn publish_to_bad_structure_is_invalid(cx: &Cx) -> Outcome {
    for name in ["a//b", "*/b", "**/b", "a/ /b"] {
        refuses(cx, &cx.channel(name)).await?;
    }
    Ok(())
}

async fn publish_to_wildcards_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, &cx.channel("*")).await?;
    refuses(cx, &cx.channel("a/**")).await
}

async fn publish_syntax_is_checked_before_sessions(cx: &Cx) -> Outcome {
    publish_of_nobody(cx, &cx.channel("foo<>")).await?.error("405::channel_invalid")?;
    Ok(())
}

async fn reserved_fields_are_not_delivered(cx: &Cx) -> Outcome {
    let fields = json!({
        "data": 1,
        "advice": {"reconnect": "none"},
        "successful": false,
        "error": "402::session_unknown",
        "subscription": "/a",
        "connectionType": "pigeon",
        "supportedConnectionTypes": ["pigeon"],
    });
    let message = delivery_of(cx, fields).await?;
    for field in ["advice", "successful", "error", "subscription", "connectionType", "supportedConnectionTypes"] {
        ensure!(message.get(field).is_none(), "expected a delivery without {field:?}, got {}", brief(&message));
    }
    Ok(())
}
