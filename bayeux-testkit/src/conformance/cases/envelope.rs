//! Envelopes, ids and fields: what is true of every message.

use serde_json::{Value, json};

use crate::conformance::case::{ANY, BIG, Case, case};
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, brief, ensure};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(single_message_is_accepted).must(
            "M-1",
            ANY,
            "A message that is not in an array is answered with an array",
        ),
        case!(white_space_is_accepted).must("M-9", ANY, "White space around and within an envelope is fine"),
        case!(escaped_names_are_accepted).must("M-9", ANY, "Field names may be written with escapes"),
        case!(fields_may_come_in_any_order).must("M-9", ANY, "The order of a message's fields does not matter"),
        case!(numeric_id_is_echoed_as_text).should("M-11", ANY, "The id 7 is echoed as \"7\""),
        case!(text_id_is_echoed_as_text).should("M-11 TW-27", ANY, "The id \"7\" is echoed as \"7\""),
        case!(null_id_counts_as_absent).should("M-12 P-2", ANY, "The reply to a message with id null has no id"),
        case!(message_without_id_is_answered).should("P-2", ANY, "The reply to a message without an id has none"),
        case!(long_id_is_echoed).should("Z-20 M-10", ANY, "An id of 256 letters and digits is echoed"),
        case!(id_with_markup_is_refused).should("M-10 F-25", ANY, "An id with markup gets 405::message_id_invalid"),
        case!(empty_id_is_refused).should("M-10 F-25", ANY, "An empty id gets 405::message_id_invalid"),
        case!(negative_id_is_refused).should("M-11 F-25", ANY, "The id -1 gets 405::message_id_invalid"),
        case!(missing_channel_is_refused).must("M-5", ANY, "A message without a channel is not successful"),
        case!(missing_channel_is_named).should("M-5", ANY, "A message without a channel gets 400::channel_missing"),
        case!(null_channel_counts_as_missing).should(
            "M-19 M-5",
            ANY,
            "A message with channel null gets 400::channel_missing",
        ),
        case!(missing_channel_reply_has_the_id).should(
            "M-5 M-15",
            ANY,
            "A reply to a message without a channel has its id",
        ),
        case!(batch_is_answered_in_order).should(
            "M-2 Q-20",
            ANY,
            "The replies to an envelope come in the order of its messages",
        ),
        case!(batch_goes_on_after_a_refusal).must("M-2", ANY, "A refused message does not stop those behind it"),
        case!(batch_takes_effect_in_order).must(
            "M-2",
            ANY,
            "In one envelope a subscribe works for the publish behind it",
        ),
        case!(batch_of_a_thousand).should("Z-20", BIG, "An envelope may have 1,000 messages"),
        case!(batch_of_ten_thousand).ours("Z-20", BIG, "An envelope may have 10,000 messages"),
        case!(unknown_fields_are_ignored).must("M-4", ANY, "Unknown fields do no harm in any meta message"),
        case!(unknown_fields_are_not_echoed).should("M-4", ANY, "Unknown fields of a meta message are not echoed"),
        case!(unknown_ext_is_not_echoed).should("M-4 X-1", ANY, "Unknown members of ext are not echoed"),
        case!(null_fields_count_as_absent).should("M-19", ANY, "advice and ext of null count as absent"),
        case!(error_comes_with_failure).should(
            "F-2 F-1",
            ANY,
            "A refusal has successful false and an error of the usual form",
        ),
        case!(success_has_no_error).should("F-2", ANY, "A successful reply has no error"),
        case!(wrong_type_of_channel_is_told).ours(
            "Z-1 M-6",
            ANY,
            "A channel that is a number gets 400::message_invalid",
        ),
        case!(wrong_type_of_client_id_is_told).ours(
            "Z-1 M-6",
            ANY,
            "A clientId that is a number gets 400::message_invalid",
        ),
        case!(wrong_type_of_id_is_told).ours("M-6 F-25", ANY, "An id that is an object gets 405::message_id_invalid"),
        case!(wrong_type_does_not_stop_the_batch).ours(
            "Z-1 M-2",
            ANY,
            "A message with a field of the wrong type does not stop those behind it",
        ),
        case!(other_replies_have_no_client_id).ours("M-14", ANY, "Only handshake replies carry the clientId"),
    ]
}

async fn single_message_is_accepted(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let handshake = client.handshake_message(json!({}));
    client.exchange(&handshake).await?.reply_to(&handshake)?.successful()?;
    Ok(())
}

async fn white_space_is_accepted(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let channel = cx.channel("a");
    let subscribe = json!([client.message("/meta/subscribe", json!({"subscription": channel}))]);
    let text = serde_json::to_string_pretty(&subscribe).unwrap_or_default();
    let answer = client.exchange_text(format!("\r\n\t {text} \n\t\r\n").as_bytes(), &subscribe).await?;
    answer.reply_to(&subscribe[0])?.successful()?;
    Ok(())
}

async fn escaped_names_are_accepted(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let subscribe = json!([client.message("/meta/subscribe", json!({"subscription": cx.channel("a")}))]);
    let text = subscribe.to_string().replace("\"channel\"", "\"ch\\u0061nnel\"").replace("/meta/", "\\/meta\\u002f");
    client.exchange_text(text.as_bytes(), &subscribe).await?.reply_to(&subscribe[0])?.successful()?;
    Ok(())
}

async fn fields_may_come_in_any_order(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let subscribe = client.message("/meta/subscribe", json!({"subscription": cx.channel("a")}));
    let fields: Vec<String> =
        subscribe.as_object().into_iter().flatten().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    for turn in 0..fields.len() {
        let turned = [&fields[turn..], &fields[..turn]].concat().join(",");
        let text = format!("[{{{turned}}}]");
        client.exchange_text(text.as_bytes(), &json!([subscribe])).await?.reply_to(&subscribe)?.successful()?;
    }
    Ok(())
}

async fn numeric_id_is_echoed_as_text(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.request("/meta/subscribe", json!({"id": 7, "subscription": cx.channel("a")})).await?.has("id", "7")?;
    Ok(())
}

async fn text_id_is_echoed_as_text(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.request("/meta/subscribe", json!({"id": "7", "subscription": cx.channel("a")})).await?.has("id", "7")?;
    Ok(())
}

async fn null_id_counts_as_absent(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let reply = client.request("/meta/subscribe", json!({"id": null, "subscription": cx.channel("a")})).await?;
    reply.successful()?.lacks("id")?;
    Ok(())
}

async fn message_without_id_is_answered(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let message = json!({"channel": cx.channel("a"), "clientId": client.id, "data": 1});
    client.send(message).await?.successful()?.lacks("id")?;
    Ok(())
}

async fn long_id_is_echoed(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let id = "Az09".repeat(64);
    let reply = client.request("/meta/subscribe", json!({"id": id, "subscription": cx.channel("a")})).await?;
    reply.successful()?.echoes_id()?;
    Ok(())
}

/// The reply to a subscribe with an id that is none.
async fn refuses_id(cx: &Cx, id: impl Into<Value>) -> Outcome {
    let mut client = cx.session().await?;
    let message = json!({"id": id.into(), "subscription": cx.channel("a")});
    client.request("/meta/subscribe", message).await?.error("405::message_id_invalid")?;
    Ok(())
}

async fn id_with_markup_is_refused(cx: &Cx) -> Outcome {
    refuses_id(cx, "<script>alert();</script>").await
}

async fn empty_id_is_refused(cx: &Cx) -> Outcome {
    refuses_id(cx, "").await
}

async fn negative_id_is_refused(cx: &Cx) -> Outcome {
    refuses_id(cx, -1).await
}

async fn missing_channel_is_refused(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let message = json!({"id": client.fresh_id(), "clientId": client.id, "data": 1});
    client.fails_as_it_is(&message).await
}

async fn missing_channel_is_named(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let message = json!({"id": client.fresh_id(), "clientId": client.id, "data": 1});
    client.send(message).await?.error("400::channel_missing")?.lacks("channel")?;
    Ok(())
}

async fn null_channel_counts_as_missing(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let message = json!({"channel": null, "id": client.fresh_id(), "clientId": client.id, "data": 1});
    client.send(message).await?.error("400::channel_missing")?;
    Ok(())
}

async fn missing_channel_reply_has_the_id(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let message = json!({"id": "abc", "clientId": client.id, "data": 1});
    client.send(message).await?.refused()?.echoes_id()?;
    Ok(())
}

async fn batch_is_answered_in_order(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let channel = cx.channel("a");
    let batch: Vec<Value> = (0..6)
        .map(|number| match number % 3 {
            0 => client.message("/meta/subscribe", json!({"subscription": format!("{channel}{number}")})),
            1 => client.message(&channel, json!({"data": number})),
            _ => client.message("/meta/unsubscribe", json!({"subscription": channel})),
        })
        .collect();
    let answer = client.exchange(&json!(batch)).await?;
    let asked: Vec<&Value> = batch.iter().map(|message| &message["id"]).collect();
    let ids = answer.messages.iter().filter(|message| message.get("data").is_none()).map(|reply| &reply["id"]);
    let answered: Vec<&Value> = ids.collect();
    ensure!(asked == answered, "expected replies to {asked:?} in this order, got {answered:?}");
    Ok(())
}

async fn batch_goes_on_after_a_refusal(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let refused = client.message("/meta/subscribe", json!({"subscription": "/meta/connect"}));
    let accepted = client.message("/meta/subscribe", json!({"subscription": cx.channel("a")}));
    let answer = client.exchange(&json!([refused, accepted])).await?;
    answer.reply_to(&refused)?.refused()?;
    answer.reply_to(&accepted)?.successful()?;
    Ok(())
}

async fn batch_takes_effect_in_order(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let channel = cx.channel("a");
    let early = client.message(&channel, json!({"data": "too early"}));
    let subscribe = client.message("/meta/subscribe", json!({"subscription": channel}));
    let publish = client.message(&channel, json!({"data": "in time"}));
    let answer = client.exchange(&json!([early, subscribe, publish])).await?;
    answer.reply_to(&subscribe)?.successful()?;
    client.receives(&channel, "in time").await?;
    Ok(())
}

/// Sends so many messages in one envelope. They are of no session, and so as short as can be: a thousand of them stay
/// below any server's limit for a WebSocket frame.
async fn batch_of(cx: &Cx, count: usize) -> Outcome {
    let mut client = cx.session().await?;
    let batch: Vec<Value> = (0..count).map(|_| json!({"channel": "/a", "clientId": ""})).collect();
    let answer = client.exchange(&json!(batch)).await?;
    let refused = answer.messages.iter().filter(|message| message["successful"] == false).count();
    ensure!(refused == count, "expected {count} replies, all of them refusals, got {refused}");
    Ok(())
}

async fn batch_of_a_thousand(cx: &Cx) -> Outcome {
    batch_of(cx, 1_000).await
}

async fn batch_of_ten_thousand(cx: &Cx) -> Outcome {
    batch_of(cx, 10_000).await
}

async fn unknown_fields_are_ignored(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let channel = cx.channel("a");
    let more = json!({"subscription": channel, "advice": {"timeout": 0}, "x-colour": {"deep": [null]}, "": 1});
    client.request("/meta/subscribe", more.clone()).await?.successful()?;
    client.connect_with(more.clone()).await?.successful()?;
    client.request("/meta/unsubscribe", more.clone()).await?.successful()?;
    client.request("/meta/disconnect", more).await?.successful()?;
    Ok(())
}

async fn unknown_fields_are_not_echoed(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let fields = json!({"subscription": cx.channel("a"), "x-colour": "blue", "data": 1});
    client.request("/meta/subscribe", fields).await?.successful()?.lacks("x-colour")?.lacks("data")?;
    Ok(())
}

async fn unknown_ext_is_not_echoed(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let fields = json!({"subscription": cx.channel("a"), "ext": {"org.example": 1}});
    let reply = client.request("/meta/subscribe", fields).await?;
    reply.successful()?.expect(reply.message["ext"].get("org.example").is_none(), "no ext of the request's")?;
    Ok(())
}

async fn null_fields_count_as_absent(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.request("/meta/subscribe", json!({"subscription": cx.channel("a"), "ext": null})).await?.successful()?;
    let mut held = client.start_connect(json!({"advice": null, "ext": null})).await?;
    client.stays_held(&mut held).await
}

async fn error_comes_with_failure(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let reply = client.subscribe("/meta/connect").await?;
    let error = reply.refused()?.text("error")?;
    let (code, rest) = error.split_once(':').unwrap_or((error, ""));
    let is_code = code.len() == 3 && code.chars().all(|c| c.is_ascii_digit());
    reply.expect(is_code && rest.contains(':'), "an error with a code, arguments and a text")?;
    Ok(())
}

async fn success_has_no_error(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let reply = client.subscribe(cx.channel("a")).await?;
    let silent = reply.message["error"].as_str().is_none_or(str::is_empty);
    reply.successful()?.expect(silent, "no error")?;
    Ok(())
}

async fn wrong_type_of_channel_is_told(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let message = json!({"channel": 5, "id": "abc", "clientId": client.id, "data": 1});
    client.send(message).await?.error("400::message_invalid")?;
    Ok(())
}

async fn wrong_type_of_client_id_is_told(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.request("/meta/subscribe", json!({"clientId": 5})).await?.error("400::message_invalid")?.echoes_id()?;
    Ok(())
}

async fn wrong_type_of_id_is_told(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let message = json!({"channel": "/meta/subscribe", "id": {"a": 1}, "clientId": client.id, "subscription": "/a"});
    let messages = client.provoke(json!([message]).to_string().as_bytes()).await?.answered()?;
    let told = messages.iter().any(|reply| reply["error"] == "405::message_id_invalid");
    ensure!(told, "expected 405::message_id_invalid, got {}", brief(&Value::Array(messages)));
    Ok(())
}

async fn wrong_type_does_not_stop_the_batch(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let wrong = client.message("/meta/subscribe", json!({"clientId": [1]}));
    let right = client.message("/meta/subscribe", json!({"subscription": cx.channel("a")}));
    // The session of a request is that of its first message (rule TH-10).
    let first = client.message("/meta/subscribe", json!({"subscription": cx.channel("b")}));
    let answer = client.exchange(&json!([first, wrong, right])).await?;
    answer.reply_to(&wrong)?.error("400::message_invalid")?;
    answer.reply_to(&right)?.successful()?;
    Ok(())
}

async fn other_replies_have_no_client_id(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let channel = cx.channel("a");
    client.connect().await?.successful()?.lacks("clientId")?;
    client.subscribe(channel.as_str()).await?.successful()?.lacks("clientId")?;
    client.publish(&channel, 1).await?.successful()?.lacks("clientId")?;
    client.unsubscribe(channel.as_str()).await?.successful()?.lacks("clientId")?;
    client.disconnect().await?.successful()?.lacks("clientId")?;
    Ok(())
}
