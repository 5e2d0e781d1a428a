//! Callback-polling, also known as JSONP.

use serde_json::{Value, json};

use crate::conformance::agent::CALLBACK_NAME;
use crate::conformance::case::{CALLBACK, Case, case};
use crate::conformance::client::Client;
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, brief, ensure};
use crate::conformance::wire::Response;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(callback_is_called).must("TJ-4", CALLBACK, "The response calls the callback with an array"),
        case!(callback_body_is_exact).should(
            "TJ-4",
            CALLBACK,
            "The response is the callback's name and the array in parentheses, no more",
        ),
        case!(callback_response_is_javascript).should(
            "TJ-4",
            CALLBACK,
            "The response is JavaScript by its Content-Type",
        ),
        case!(callback_response_is_not_sniffed).ours(
            "Z-13",
            CALLBACK,
            "The response has X-Content-Type-Options: nosniff",
        ),
        case!(callback_may_be_fayes).should(
            "TJ-3",
            CALLBACK,
            "A callback may be called __jsonp12__, as Faye's clients do",
        ),
        case!(callback_that_is_no_name_is_refused).should("TJ-3", CALLBACK, "A callback that is a program is refused"),
        case!(callback_that_is_long_is_refused).ours("TJ-3", CALLBACK, "A callback of 65 characters gets status 400"),
        case!(callback_given_twice_is_refused).ours("TJ-3", CALLBACK, "Two callbacks get status 400"),
        case!(callback_messages_may_be_several).should(
            "TJ-1",
            CALLBACK,
            "Several parameters message make one envelope",
        ),
        case!(callback_message_may_be_single).must("TJ-1 M-1", CALLBACK, "A parameter message may be one object"),
        case!(callback_message_must_be_there).should(
            "TJ-2",
            CALLBACK,
            "A request without a message does not get status 200",
        ),
        case!(callback_message_must_be_json).should(
            "TJ-2 TH-41",
            CALLBACK,
            "A message that is not JSON gets status 400",
        ),
        case!(callback_other_parameters_are_ignored).should("TJ-1", CALLBACK, "Other parameters are ignored"),
        case!(callback_escapes_line_separators).should(
            "TJ-5",
            CALLBACK,
            "U+2028 and U+2029 are escaped in the response",
        ),
        case!(callback_publish_brings_no_messages).should(
            "TJ-7 Q-13",
            CALLBACK,
            "A publish reply comes alone; the message waits for a connect",
        ),
    ]
}

/// The response to a request with these parameters.
async fn get(client: &mut Client, parameters: &str) -> Outcome<Response> {
    let request = client.agent()?.get(parameters);
    client.respond(request).await
}

fn encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn handshake(client: &mut Client) -> String {
    encode(&json!([client.handshake_message(json!({}))]).to_string())
}

async fn status_of(cx: &Cx, callback: &str, more: &str) -> Outcome<u16> {
    let mut client = cx.client().await?;
    let message = handshake(&mut client);
    Ok(get(&mut client, &format!("{callback}&message={message}{more}")).await?.status)
}

async fn callback_is_called(cx: &Cx) -> Outcome {
    cx.client().await?.handshake().await?.successful()?;
    Ok(())
}

async fn callback_body_is_exact(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let message = handshake(&mut client);
    let response = get(&mut client, &format!("jsonp={CALLBACK_NAME}&message={message}")).await?;
    let body = String::from_utf8_lossy(&response.body).into_owned();
    let inner = body.strip_prefix(&format!("{CALLBACK_NAME}(")).and_then(|rest| rest.strip_suffix(')'));
    let exact = inner.is_some_and(|array| serde_json::from_str::<Vec<Value>>(array).is_ok());
    ensure!(exact, "expected {CALLBACK_NAME}([...]), got {}", brief(&body));
    Ok(())
}

async fn callback_response_is_javascript(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let message = handshake(&mut client);
    let response = get(&mut client, &format!("jsonp=a&message={message}")).await?;
    let kind = response.header("content-type").unwrap_or_default();
    ensure!(kind.contains("javascript"), "expected a Content-Type of JavaScript, got {kind:?}");
    Ok(())
}

async fn callback_response_is_not_sniffed(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let message = handshake(&mut client);
    let response = get(&mut client, &format!("jsonp=a&message={message}")).await?;
    let sniff = response.header("x-content-type-options");
    ensure!(sniff == Some("nosniff"), "expected X-Content-Type-Options: nosniff, got {sniff:?}");
    Ok(())
}

async fn callback_may_be_fayes(cx: &Cx) -> Outcome {
    let status = status_of(cx, "jsonp=__jsonp12__", "").await?;
    ensure!(status == 200, "expected status 200, got {status}");
    Ok(())
}

async fn callback_that_is_no_name_is_refused(cx: &Cx) -> Outcome {
    for callback in ["alert(1)//", "<script>", "a b", "a;b"] {
        let status = status_of(cx, &format!("jsonp={}", encode(callback)), "").await?;
        ensure!((400..500).contains(&status), "expected a 4xx status for {callback:?}, got {status}");
    }
    Ok(())
}

async fn callback_that_is_long_is_refused(cx: &Cx) -> Outcome {
    let (fits, long) = ("c".repeat(64), "c".repeat(65));
    let status = status_of(cx, &format!("jsonp={fits}"), "").await?;
    ensure!(status == 200, "expected status 200 for 64 characters, got {status}");
    let status = status_of(cx, &format!("jsonp={long}"), "").await?;
    ensure!(status == 400, "expected status 400 for 65 characters, got {status}");
    Ok(())
}

async fn callback_given_twice_is_refused(cx: &Cx) -> Outcome {
    let status = status_of(cx, "jsonp=a", "&jsonp=b").await?;
    ensure!(status == 400, "expected status 400, got {status}");
    Ok(())
}

async fn callback_messages_may_be_several(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let one = client.message("/meta/subscribe", json!({"subscription": cx.channel("one")}));
    let two = client.message("/meta/subscribe", json!({"subscription": cx.channel("two")}));
    let parameters = format!(
        "jsonp={CALLBACK_NAME}&message={}&message={}",
        encode(&one.to_string()),
        encode(&json!([two]).to_string())
    );
    let request = client.agent()?.get(&parameters);
    let envelope = json!([one, two]);
    for reply in client.exchange_request(request, &envelope).await?.replies_to(&envelope)? {
        reply.successful()?;
    }
    Ok(())
}

async fn callback_message_may_be_single(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let handshake = client.handshake_message(json!({}));
    client.exchange(&handshake).await?.reply_to(&handshake)?.successful()?;
    Ok(())
}

async fn callback_message_must_be_there(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let status = get(&mut client, "jsonp=a").await?.status;
    ensure!(status >= 400, "expected an error status, got {status}");
    Ok(())
}

async fn callback_message_must_be_json(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let status = get(&mut client, "jsonp=a&message=%5B%7B").await?.status;
    ensure!(status == 400, "expected status 400, got {status}");
    Ok(())
}

async fn callback_other_parameters_are_ignored(cx: &Cx) -> Outcome {
    let status = status_of(cx, "_=1700000000000&jsonp=a", "&colour=blue&").await?;
    ensure!(status == 200, "expected status 200, got {status}");
    Ok(())
}

async fn callback_escapes_line_separators(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut client = cx.subscriber(channel.as_str()).await?;
    let text = "one\u{2028}two\u{2029}three";
    client.publish(&channel, text).await?.successful()?;
    let connect = client.connect_message(json!({"advice": {"timeout": 0}}));
    let answer = client.exchange(&json!([connect])).await?;
    let raw = answer.texts.concat();
    ensure!(!raw.contains(['\u{2028}', '\u{2029}']), "expected U+2028 and U+2029 to be escaped, got {}", brief(&raw));
    client.receives(&channel, text).await?;
    Ok(())
}

async fn callback_publish_brings_no_messages(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut client = cx.subscriber(channel.as_str()).await?;
    client.publish(&channel, 1).await?.successful()?;
    ensure!(client.inbox.is_empty(), "expected the publish reply alone, got {:?} with it", client.inbox);
    client.receives(&channel, 1).await?;
    Ok(())
}
