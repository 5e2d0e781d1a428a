//! Texts that no decent client sends. Each gets an answer that the rules permit, and harms nobody else.

use serde_json::{Value, json};

use crate::conformance::case::{ANY, BIG, Case, POLLING, Transport, WEBSOCKET, case};
use crate::conformance::client::Reaction;
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, brief, ensure};

pub(super) fn cases() -> Vec<Case> {
    let cases = vec![
        case!(hostile_truncated_json).should("M-9", ANY, "JSON that is cut anywhere is refused"),
        case!(hostile_trailing_text).should("M-9", ANY, "Text behind the JSON is refused"),
        case!(hostile_two_texts).should("M-9", ANY, "Two JSON texts in one body are refused"),
        case!(hostile_other_spellings).ours("M-9", ANY, "Single quotes, comments, NaN and bare names are refused"),
        case!(hostile_control_characters).ours("M-9", ANY, "Unescaped control characters in texts are refused"),
        case!(hostile_utf_8).should("M-9 M-3", BIG, "Bytes that are not UTF-8 are refused"),
        case!(hostile_utf_8_in_ignored_fields).ours(
            "M-9",
            BIG,
            "Bytes that are not UTF-8 are refused in unknown fields, too",
        ),
        case!(hostile_byte_order_mark).should("M-9", BIG, "A byte order mark is accepted or refused, no more"),
        case!(hostile_lone_surrogates).should("M-9", ANY, "An escaped lone surrogate is accepted or refused, no more"),
        case!(hostile_repeated_keys).should("M-9", ANY, "Repeated keys are accepted or refused, no more"),
        case!(hostile_numbers).should(
            "M-9",
            ANY,
            "1e999 and a number of 10,000 digits are accepted or refused, no more",
        ),
        case!(hostile_depth).ours("TH-51 Z-10", BIG, "Nesting of 100,000 levels is refused"),
        case!(hostile_depth_status).ours(
            "TH-51 TW-20 Z-1",
            BIG,
            "Nesting of 100,000 levels gets status 400, or close 1007 or 1008",
        ),
        case!(hostile_depth_in_data).ours("TH-51 TW-20 Z-10", BIG, "Data nested 1,000 deep is refused"),
        case!(hostile_id).should("M-10", BIG, "An id of 40,000 characters is answered, or refused"),
        case!(hostile_channel).should("C-2", BIG, "A channel of 40,000 characters is answered, or refused"),
        case!(hostile_channel_segments).should("C-2", BIG, "A channel of 15,000 segments is answered, or refused"),
        case!(hostile_subscriptions).should("S-1", BIG, "A subscription of 5,000 wildcards is answered, or refused"),
        case!(hostile_keys).should("M-4", BIG, "A message with 3,000 unknown fields is answered, or refused"),
        case!(hostile_field_names).should(
            "M-4 P-9",
            ANY,
            "Fields such as __proto__ and constructor are data like any other",
        ),
        case!(hostile_types).should("M-6", ANY, "Known fields of wrong types are answered, or refused"),
        case!(hostile_types_are_the_clients_fault).ours(
            "Z-1 M-6",
            ANY,
            "Known fields of wrong types never get status 500 or close 1011",
        ),
        case!(hostile_advice).should("K-9", ANY, "Advice of absurd numbers does not disturb a connect"),
        case!(hostile_ext).should("X-1 XA-16 XT-6", ANY, "An ext of absurd values does not disturb a message"),
        case!(hostile_client_ids).should("F-12", ANY, "Absurd clientIds are of no session"),
        case!(hostile_size).should(
            "Z-10 TH-44",
            POLLING,
            "A body of 12 MiB is answered or refused, and is read no longer than needed",
        ),
        case!(hostile_size_status).ours("TH-44", POLLING, "A body beyond the limit gets status 413"),
        case!(hostile_size_over_websocket).should(
            "TW-21 Z-10",
            WEBSOCKET,
            "A message of 12 MiB is answered, or closes the connection with 1009",
        ),
        case!(hostile_many_handshakes).should("H-2", ANY, "Two hundred handshakes of one client are answered"),
        case!(hostile_handshakes_in_an_envelope).should("H-3", BIG, "An envelope of 500 handshakes is refused"),
        case!(hostile_connects_in_an_envelope).should("K-16", POLLING, "An envelope of 300 connects is answered"),
    ];
    cases.into_iter().map(Case::hostile).collect()
}

/// A text that is almost an envelope: a subscribe of this client's with something in it.
async fn envelope(cx: &Cx, edit: impl Fn(String) -> Vec<u8>) -> Outcome<Reaction> {
    let mut client = cx.session().await?;
    let message = client.message("/meta/subscribe", json!({"subscription": cx.channel("a"), "x": "HERE"}));
    client.provoke(&edit(json!([message]).to_string())).await
}

/// With this in place of a value that the server ignores.
async fn value(cx: &Cx, text: &str) -> Outcome<Reaction> {
    envelope(cx, |envelope| envelope.replace("\"HERE\"", text).into_bytes()).await
}

/// Either replies or a refusal: but not silence.
fn any_answer(reaction: &Reaction) -> Outcome {
    ensure!(*reaction != Reaction::Silence, "expected an answer or a refusal, got nothing");
    Ok(())
}

async fn hostile_truncated_json(cx: &Cx) -> Outcome {
    for part in [1, 2, 10, 30] {
        envelope(cx, |text| text.as_bytes()[..part].to_vec()).await?.refused()?;
    }
    envelope(cx, |text| text.as_bytes()[..text.len() - 1].to_vec()).await?.refused()?;
    cx.still_serves().await
}

async fn hostile_trailing_text(cx: &Cx) -> Outcome {
    for trailing in ["]", "x", ",", "}"] {
        envelope(cx, |text| (text + trailing).into_bytes()).await?.refused()?;
    }
    cx.still_serves().await
}

async fn hostile_two_texts(cx: &Cx) -> Outcome {
    envelope(cx, |text| format!("{text}{text}").into_bytes()).await?.refused()?;
    cx.still_serves().await
}

async fn hostile_other_spellings(cx: &Cx) -> Outcome {
    for text in
        ["'x'", "NaN", "Infinity", "undefined", "TRUE", "1 /* one */", "+1", "01", ".5", "0x10", "[1,,2]", "{a:1}"]
    {
        value(cx, text).await?.refused()?;
    }
    cx.still_serves().await
}

async fn hostile_control_characters(cx: &Cx) -> Outcome {
    for text in ["\"a\u{0}b\"", "\"a\nb\"", "\"a\u{1f}b\""] {
        value(cx, text).await?.refused()?;
    }
    cx.still_serves().await
}

const NO_UTF_8: [&[u8]; 5] = [b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"];

/// These bytes in place of a piece of text.
async fn bytes(cx: &Cx, place: &str, bytes: &[u8]) -> Outcome<Reaction> {
    let mut client = cx.session().await?;
    let message = client.message("/meta/subscribe", json!({"subscription": cx.channel("aHERE1"), "x": "HERE2"}));
    let text = json!([message]).to_string().into_bytes();
    let at = text.windows(place.len()).position(|window| window == place.as_bytes()).unwrap_or_default();
    client.provoke(&[&text[..at], bytes, &text[at + place.len()..]].concat()).await
}

async fn hostile_utf_8(cx: &Cx) -> Outcome {
    for no_utf_8 in NO_UTF_8 {
        let reaction = bytes(cx, "HERE1", no_utf_8).await?;
        // A server that puts U+FFFD in its place has a channel then that it must refuse.
        if let Reaction::Answered(replies) = &reaction {
            let refused = replies.iter().all(|reply| reply["successful"] == false);
            ensure!(refused, "expected a refusal, got {}", brief(&Value::Array(replies.clone())));
        }
    }
    cx.still_serves().await
}

async fn hostile_utf_8_in_ignored_fields(cx: &Cx) -> Outcome {
    for no_utf_8 in NO_UTF_8 {
        bytes(cx, "HERE2", no_utf_8).await?.refused()?;
    }
    cx.still_serves().await
}

async fn hostile_byte_order_mark(cx: &Cx) -> Outcome {
    any_answer(&envelope(cx, |text| format!("\u{feff}{text}").into_bytes()).await?)?;
    cx.still_serves().await
}

async fn hostile_lone_surrogates(cx: &Cx) -> Outcome {
    for text in [r#""\ud800""#, r#""\udc00\ud800""#, r#""\ud800\u0041""#] {
        any_answer(&value(cx, text).await?)?;
    }
    cx.still_serves().await
}

async fn hostile_repeated_keys(cx: &Cx) -> Outcome {
    any_answer(&value(cx, "1,\"x\":2,\"channel\":\"/meta/subscribe\",\"id\":\"7\",\"id\":\"8\"").await?)?;
    cx.still_serves().await
}

async fn hostile_numbers(cx: &Cx) -> Outcome {
    // Callback-polling has no room for more in a URL.
    let digits = if cx.transport == Transport::CallbackPolling { 1_000 } else { 10_000 };
    for text in ["1e999", "-1e-999", "1E+400", &"9".repeat(digits)] {
        any_answer(&value(cx, text).await?)?;
    }
    cx.still_serves().await
}

const DEEP: usize = 100_000;

async fn deep(cx: &Cx) -> Outcome<Reaction> {
    // Within the smallest limit of size that a server may have for a frame, it is deep enough for any stack.
    let depth = if cx.transport == Transport::WebSocket { 30_000 } else { DEEP };
    value(cx, &format!("{}{}", "[".repeat(depth), "]".repeat(depth))).await
}

async fn hostile_depth(cx: &Cx) -> Outcome {
    deep(cx).await?.refused()?;
    cx.client().await?.provoke("[".repeat(60_000).as_bytes()).await?.refused()?;
    cx.client().await?.provoke("[{\"a\":".repeat(10_000).as_bytes()).await?.refused()?;
    cx.still_serves().await
}

async fn hostile_depth_status(cx: &Cx) -> Outcome {
    deep(cx).await?.refused_with(&[400], &[1007, 1008])
}

async fn hostile_depth_in_data(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let message = client.message(&cx.channel("a"), json!({"data": "HERE"}));
    let nested = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    let text = json!([message]).to_string().replace("\"HERE\"", &nested);
    client.provoke(text.as_bytes()).await?.refused_with(&[400], &[1007, 1008])
}

/// One message with these fields instead of the usual ones.
async fn message(cx: &Cx, channel: &str, fields: Value) -> Outcome<Reaction> {
    let mut client = cx.session().await?;
    let message = client.message(channel, fields);
    client.provoke(json!([message]).to_string().as_bytes()).await
}

async fn hostile_id(cx: &Cx) -> Outcome {
    let fields = json!({"id": "x".repeat(40_000), "subscription": cx.channel("a")});
    any_answer(&message(cx, "/meta/subscribe", fields).await?)?;
    cx.still_serves().await
}

async fn hostile_channel(cx: &Cx) -> Outcome {
    any_answer(&message(cx, &cx.channel(&"x".repeat(40_000)), json!({"data": 1})).await?)?;
    any_answer(&message(cx, "/meta/subscribe", json!({"subscription": cx.channel(&"y".repeat(40_000))})).await?)?;
    cx.still_serves().await
}

async fn hostile_channel_segments(cx: &Cx) -> Outcome {
    let channel = cx.channel(&"x/".repeat(15_000)) + "x";
    any_answer(&message(cx, &channel, json!({"data": 1})).await?)?;
    any_answer(&message(cx, "/meta/subscribe", json!({"subscription": channel})).await?)?;
    cx.still_serves().await
}

async fn hostile_subscriptions(cx: &Cx) -> Outcome {
    let channels: Vec<String> = (0..5_000).map(|number| format!("/c{number}/**")).collect();
    any_answer(&message(cx, "/meta/subscribe", json!({"subscription": channels})).await?)?;
    cx.still_serves().await
}

async fn hostile_keys(cx: &Cx) -> Outcome {
    let mut fields = json!({"subscription": cx.channel("a")});
    for number in 0..3_000 {
        fields[format!("k{number}")] = json!(number);
    }
    any_answer(&message(cx, "/meta/subscribe", fields).await?)?;
    cx.still_serves().await
}

async fn hostile_field_names(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    let data =
        json!({"__proto__": {"polluted": true}, "constructor": {"prototype": {}}, "toString": 1, "": [], "\u{0}": 0});
    bob.request(&channel, json!({"data": data, "hasOwnProperty": 1})).await?.successful()?;
    let message = alice.receive(&channel).await?;
    // JavaScript's own objects drop __proto__, which is harmless.
    let (mut sent, mut got) = (data, message["data"].clone());
    for side in [&mut sent, &mut got] {
        side.as_object_mut().map(|object| object.remove("__proto__"));
    }
    ensure!(sent == got, "expected the data as it was, got {}", brief(&message));
    cx.still_serves().await
}

/// Every known field with every wrong type.
async fn wrong_types(cx: &Cx, check: impl Fn(&Reaction) -> Outcome) -> Outcome {
    let odd = [json!(5), json!(true), json!([]), json!({}), json!("text"), json!([{}])];
    for field in ["channel", "clientId", "id", "subscription", "advice", "ext", "connectionType", "version"] {
        for value in &odd {
            for channel in ["/meta/subscribe", "/meta/connect"] {
                let mut fields = json!({"advice": {"timeout": 0}, "subscription": cx.channel("a")});
                fields[field] = value.clone();
                // A connect with odd advice may be held, which is an answer that takes too long.
                if channel == "/meta/connect" && field == "advice" {
                    continue;
                }
                check(&message(cx, channel, fields).await?)?;
            }
        }
    }
    Ok(())
}

async fn hostile_types(cx: &Cx) -> Outcome {
    wrong_types(cx, any_answer).await?;
    cx.still_serves().await
}

async fn hostile_types_are_the_clients_fault(cx: &Cx) -> Outcome {
    wrong_types(cx, |reaction| match reaction {
        Reaction::Status(status) => {
            ensure!(*status < 500, "expected a reply or a 4xx status, got {status}");
            Ok(())
        }
        Reaction::Closed(code) => {
            ensure!(*code != Some(1011), "expected a reply or another close code, got 1011");
            Ok(())
        }
        Reaction::Answered(_) => Ok(()),
        Reaction::Silence => any_answer(reaction),
    })
    .await
}

async fn hostile_advice(cx: &Cx) -> Outcome {
    for advice in [
        json!({"timeout": 0, "interval": -9_223_372_036_854_775_808_i64}),
        json!({"timeout": 0.0, "interval": 1.5}),
        json!({"timeout": -0.0, "reconnect": 7, "multiple-clients": "yes"}),
    ] {
        // Each its own session: an interval may be long.
        any_answer(&message(cx, "/meta/connect", json!({"advice": advice})).await?)?;
    }
    cx.still_serves().await
}

async fn hostile_ext(cx: &Cx) -> Outcome {
    for ext in [
        json!({"ack": -1}),
        json!({"ack": 1e300}),
        json!({"ack": {"ack": {"ack": []}}}),
        json!({"timesync": {"tc": 1e300, "l": -1e300, "o": 9_223_372_036_854_775_807_i64}}),
        json!({"timesync": [[[]]]}),
        json!({"binary": 7}),
    ] {
        for channel in ["/meta/subscribe", "/meta/connect"] {
            let fields = json!({"advice": {"timeout": 0}, "subscription": cx.channel("a"), "ext": ext});
            any_answer(&message(cx, channel, fields).await?)?;
        }
        let mut client = cx.client().await?;
        client.handshake_with(json!({"ext": ext})).await?.successful()?;
    }
    cx.still_serves().await
}

async fn hostile_client_ids(cx: &Cx) -> Outcome {
    for id in ["", " ", "../../etc/passwd", "'; DROP TABLE sessions; --", "\u{0}", "caf\u{e9}", &"x".repeat(2_000)] {
        let mut client = cx.client().await?;
        client.id = id.to_owned();
        client.publish(&cx.channel("a"), 1).await?.refused()?;
    }
    cx.still_serves().await
}

async fn oversized(cx: &Cx) -> Outcome<Reaction> {
    value(cx, &format!("\"{}\"", "x".repeat(12 << 20))).await
}

async fn hostile_size(cx: &Cx) -> Outcome {
    any_answer(&oversized(cx).await?)?;
    cx.still_serves().await
}

async fn hostile_size_status(cx: &Cx) -> Outcome {
    match oversized(cx).await? {
        // Refused unread, the answer may be lost: the server need not wait for twelve megabytes.
        Reaction::Closed(None) => Ok(()),
        reaction @ (Reaction::Answered(_) | Reaction::Status(_) | Reaction::Closed(_) | Reaction::Silence) => {
            reaction.refused_with(&[413], &[])
        }
    }
}

async fn hostile_size_over_websocket(cx: &Cx) -> Outcome {
    match oversized(cx).await? {
        Reaction::Answered(_) | Reaction::Closed(None) => {}
        reaction @ (Reaction::Status(_) | Reaction::Closed(_) | Reaction::Silence) => {
            reaction.refused_with(&[], &[1009])?
        }
    }
    cx.still_serves().await
}

async fn hostile_many_handshakes(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    for _ in 0..200 {
        client.handshake().await?.successful()?;
    }
    cx.still_serves().await
}

async fn hostile_handshakes_in_an_envelope(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let handshakes: Vec<Value> = (0..500).map(|_| client.handshake_message(json!({}))).collect();
    client.provoke(json!(handshakes).to_string().as_bytes()).await?.refused()?;
    cx.still_serves().await
}

async fn hostile_connects_in_an_envelope(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let connects: Vec<Value> = (0..300).map(|_| client.connect_message(json!({}))).collect();
    let answer = client.exchange(&json!(connects)).await?;
    let replies = answer.messages.len();
    ensure!(replies == 300, "expected 300 replies, got {replies}");
    cx.still_serves().await
}
