//! The extensions timesync, timestamp and binary.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::conformance::case::{ANY, Case, Need, case};
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, brief, ensure};
use crate::conformance::reply::Reply;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(timesync_is_answered)
            .should("XT-3", ANY, "A meta message with timesync is answered with tc, ts and p")
            .needs(Need::Timesync),
        case!(timesync_echoes_the_clients_time)
            .should("XT-3", ANY, "The tc of the answer is that of the question")
            .needs(Need::Timesync),
        case!(timesync_tells_the_servers_time)
            .should("XT-3", ANY, "ts is a time of these days, in milliseconds, and does not go back")
            .needs(Need::Timesync),
        case!(timesync_counts_the_time_of_a_hold)
            .should("XT-3", ANY, "The p of a held connect is the time that it was held")
            .needs(Need::Timesync),
        case!(timesync_is_not_pressed_on_anybody)
            .should("XT-3", ANY, "A meta message without timesync is answered without")
            .needs(Need::Timesync),
        case!(timesync_of_another_type_is_ignored)
            .should("XT-6", ANY, "A timesync of the wrong type does not disturb the message")
            .needs(Need::Timesync),
        case!(timestamp_is_in_every_message)
            .should("XS-2", ANY, "Replies and deliveries have a timestamp")
            .needs(Need::Timestamp),
        case!(timestamp_is_a_text)
            .should("XS-1", ANY, "A timestamp is a text that names a year")
            .needs(Need::Timestamp),
        case!(binary_message_arrives).should(
            "XB-1",
            ANY,
            "A binary message arrives with its text, its last and its ext.binary",
        ),
        case!(binary_message_of_any_length_arrives).should(
            "XB-3",
            ANY,
            "Binary messages of 1, 2 and 3 bytes arrive as well",
        ),
        case!(binary_message_keeps_its_meta).should("XB-1", ANY, "A binary message arrives with its meta"),
        case!(binary_message_that_is_none_is_refused)
            .ours("XB-6", ANY, "Text that is not Z85 gets 400::binary_invalid")
            .needs(Need::Binary),
        case!(binary_message_that_is_none_reaches_nobody)
            .ours("XB-6", ANY, "Text that is not Z85 is not delivered")
            .needs(Need::Binary),
    ]
}

const TC: i64 = 1_700_000_000_123;

/// The reply to a subscribe with timesync.
async fn synchronised(cx: &Cx) -> Outcome<Reply> {
    let ext = json!({"timesync": {"tc": TC, "l": 0, "o": 0}});
    cx.session().await?.request("/meta/subscribe", json!({"subscription": cx.channel("a"), "ext": ext})).await
}

fn number(reply: &Reply, field: &str) -> Outcome<i64> {
    let number = reply.message["ext"]["timesync"][field].as_i64();
    reply.expect(number.is_some(), &format!("a number ext.timesync.{field}"))?;
    Ok(number.unwrap_or_default())
}

async fn timesync_is_answered(cx: &Cx) -> Outcome {
    let reply = synchronised(cx).await?;
    for field in ["tc", "ts", "p"] {
        number(&reply, field)?;
    }
    Ok(())
}

async fn timesync_echoes_the_clients_time(cx: &Cx) -> Outcome {
    let reply = synchronised(cx).await?;
    reply.expect(number(&reply, "tc")? == TC, &format!("ext.timesync.tc {TC}"))?;
    Ok(())
}

async fn timesync_tells_the_servers_time(cx: &Cx) -> Outcome {
    let (first, second) = (synchronised(cx).await?, synchronised(cx).await?);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let week = 7 * 86_400_000;
    let ts = number(&first, "ts")?;
    first.expect((ts - now).abs() < week, "ext.timesync.ts of these days")?;
    second.expect(number(&second, "ts")? >= ts, &format!("ext.timesync.ts of {ts} or later"))?;
    Ok(())
}

async fn timesync_counts_the_time_of_a_hold(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let ext = json!({"timesync": {"tc": TC, "l": 0, "o": 0}});
    let held = client.start_connect(json!({"advice": {"timeout": 300}, "ext": ext})).await?;
    let reply = client.finish(held).await?;
    let p = number(&reply, "p")?;
    reply.expect((200..10_000).contains(&p), "ext.timesync.p of about 300")?;
    Ok(())
}

async fn timesync_is_not_pressed_on_anybody(cx: &Cx) -> Outcome {
    let reply = cx.session().await?.subscribe(cx.channel("a")).await?;
    reply.successful()?.expect(reply.message["ext"].get("timesync").is_none(), "no ext.timesync")?;
    Ok(())
}

async fn timesync_of_another_type_is_ignored(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    for odd in [json!("now"), json!(5), json!([]), json!({"tc": "now"}), json!({})] {
        let fields = json!({"subscription": cx.channel("a"), "ext": {"timesync": odd}});
        client.request("/meta/subscribe", fields).await?.successful()?;
    }
    Ok(())
}

async fn timestamp_is_in_every_message(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut client = cx.session().await?;
    for reply in
        [client.connect().await?, client.subscribe(channel.as_str()).await?, client.publish(&channel, 1).await?]
    {
        reply.successful()?.expect(reply.message.get("timestamp").is_some(), "a timestamp")?;
    }
    let message = client.receive(&channel).await?;
    ensure!(message.get("timestamp").is_some(), "expected a timestamp, got {}", brief(&message));
    Ok(())
}

async fn timestamp_is_a_text(cx: &Cx) -> Outcome {
    let reply = cx.session().await?.connect().await?;
    let text = reply.text("timestamp")?;
    let digits: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).collect();
    reply
        .expect(digits.iter().any(|number| number.len() == 4 && number.starts_with("20")), "a timestamp with a year")?;
    Ok(())
}

/// What somebody else receives of a binary message with this text.
async fn binary(cx: &Cx, text: &str) -> Outcome<Value> {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    let data = json!({"data": text, "last": true, "meta": {"name": "picture.png"}});
    bob.request(&channel, json!({"data": data, "ext": {"binary": {}}})).await?.successful()?;
    alice.receive(&channel).await
}

async fn binary_message_arrives(cx: &Cx) -> Outcome {
    let message = binary(cx, "HelloWorld").await?;
    let (data, marked) = (&message["data"], message["ext"].get("binary").is_some_and(Value::is_object));
    let arrived = data["data"] == "HelloWorld" && data["last"] == true && marked;
    ensure!(arrived, "expected data \"HelloWorld\", last true and ext.binary, got {}", brief(&message));
    Ok(())
}

async fn binary_message_of_any_length_arrives(cx: &Cx) -> Outcome {
    // 86; 86 4f; 86 4f d2.
    for text in ["Hc", "Hek", "Helk"] {
        let message = binary(cx, text).await?;
        // A server that decodes and encodes may spell the last character otherwise, if the bytes are the same.
        let (sent, got) = (z85(text), message["data"]["data"].as_str().map(z85));
        ensure!(got.as_ref() == Some(&sent), "expected the bytes {sent:02x?}, got {}", brief(&message));
    }
    Ok(())
}

/// The bytes of a Z85 text without its fifth character (rule XB-3).
fn z85(text: &str) -> Vec<u8> {
    const DIGITS: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    let padded = text.chars().chain(std::iter::repeat_n('#', 5 - text.len().min(5)));
    let value = padded.fold(0_u64, |value, c| value * 85 + DIGITS.find(c).unwrap_or(84) as u64);
    (value as u32).to_be_bytes()[..text.len().saturating_sub(1)].to_vec()
}

async fn binary_message_keeps_its_meta(cx: &Cx) -> Outcome {
    let message = binary(cx, "HelloWorld").await?;
    let meta = &message["data"]["meta"];
    ensure!(*meta == json!({"name": "picture.png"}), "expected meta with the name, got {}", brief(&message));
    Ok(())
}

async fn binary_message_that_is_none_is_refused(cx: &Cx) -> Outcome {
    let fields = json!({"data": {"data": "caf\u{e9}", "last": true}, "ext": {"binary": {}}});
    cx.session().await?.request(&cx.channel("a"), fields).await?.error("400::binary_invalid")?;
    Ok(())
}

async fn binary_message_that_is_none_reaches_nobody(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    let fields = json!({"data": {"data": "caf\u{e9}", "last": true}, "ext": {"binary": {}}});
    bob.request(&channel, fields).await?.refused()?;
    alice.hears_no_more(&mut bob, &channel).await
}
