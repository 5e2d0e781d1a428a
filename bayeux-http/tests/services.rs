//! Typed services and remote calls (section 11), templates, and data filters (section 21.7).

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bayeux_http::filter::{Json, JsonFilter, NoMarkup, NoScripts, RegexFilter};
use bayeux_http::proto::{ErrorField, RawJson};
use bayeux_http::{Abort, BuildError, Call, CallError, HttpOptions, Incoming, Server, ServerBuilder, Service};
use common::{Client, quick, sharded, start_with, until};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Sends a call, and returns the whole response.
async fn call(client: &mut Client<TcpStream>, target: &str, id: &str, data: Value) -> Vec<Value> {
    let call = client.message(&format!("/service/{target}"), json!({"id": id, "data": data}));
    client.exchange(&json!([call])).await
}

/// Calls, and waits for the result, whichever response brings it.
async fn result(client: &mut Client<TcpStream>, target: &str, id: &str, data: Value) -> Value {
    let mut messages = call(client, target, id, data).await;
    loop {
        if let Some(result) = messages.iter().find(|message| message["id"] == id && !message["data"].is_null()) {
            return result["data"].clone();
        }
        messages = client.exchange(&json!([client.connect(100)])).await;
    }
}

/// Polls until a message comes that is no reply to a connect.
async fn next(client: &mut Client<TcpStream>) -> Value {
    for _ in 0..200 {
        let mut messages = client.exchange(&json!([client.connect(100)])).await;
        messages.retain(|message| message["channel"] != "/meta/connect");
        if let Some(message) = messages.pop() {
            assert!(messages.is_empty(), "{messages:?}");
            return message;
        }
    }
    panic!("nothing came");
}

#[derive(Deserialize)]
struct Divide {
    dividend: f64,
    divisor: f64,
}

#[derive(Debug, thiserror::Error)]
#[error("by zero")]
struct DivisionByZero;

#[derive(Serialize)]
struct Quotient {
    quotient: f64,
}

async fn divide(call: Call<Divide>) -> Result<Quotient, CallError> {
    if call.data.divisor == 0.0 {
        return Err(DivisionByZero.into());
    }
    Ok(Quotient { quotient: call.data.dividend / call.data.divisor })
}

/// E-190: a result, a failure, and data that is no arguments; each with the call's id, beside the reply.
#[tokio::test]
async fn remote_call_has_one_typed_answer() {
    let running = start_with(sharded().remote_call("divide", divide), HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    let response = call(&mut alice, "divide", "7", json!({"dividend": 1, "divisor": 4})).await;
    assert_eq!(
        response,
        [
            json!({"channel": "/service/divide", "id": "7", "data": {"quotient": 0.25}, "successful": true}),
            json!({"channel": "/service/divide", "id": "7", "successful": true}),
        ]
    );
    let response = call(&mut alice, "divide", "8", json!({"dividend": 1, "divisor": 0})).await;
    assert_eq!(response[0]["data"], json!({"class": "DivisionByZero", "message": "by zero"}));
    assert_eq!((&response[0]["successful"], &response[1]["successful"]), (&json!(false), &json!(true)));
    for data in [json!("x"), json!(null), json!({"dividend": 1})] {
        let response = call(&mut alice, "divide", "9", data).await;
        assert_eq!((&response[0]["successful"], &response[0]["data"]["class"]), (&json!(false), &json!("InvalidData")));
    }
    running.stop().await;
}

/// E-191: a call that takes its time does not keep others waiting, of its own session least.
#[tokio::test]
async fn slow_call_is_answered_later() {
    let builder = sharded().remote_call("wait", |call: Call<u64>| async move {
        call.session().deliver("/begun", &call.data).unwrap();
        tokio::time::sleep(Duration::from_millis(call.data)).await;
        call.session().deliver("/ends", &call.data).unwrap();
        Ok(call.data)
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    let response = call(&mut alice, "wait", "slow", json!(300)).await;
    assert_eq!(response[0], json!({"channel": "/begun", "data": 300}), "what it did at once rides along");
    assert_eq!(response[1], json!({"channel": "/service/wait", "id": "slow", "successful": true}));
    assert_eq!(call(&mut alice, "wait", "none", json!(0)).await.last().unwrap()["id"], "none");
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let messages = alice.exchange(&json!([alice.connect(100)])).await;
        seen.extend(messages.into_iter().filter(|message| message["channel"] != "/meta/connect"));
    }
    let ends: Vec<_> = seen.iter().map(|message| message["data"].clone()).collect();
    assert_eq!(ends, [0, 0, 300, 300]);
    assert_eq!(seen[3], json!({"channel": "/service/wait", "id": "slow", "data": 300, "successful": true}));
    running.stop().await;
}

/// E-192: no answer in time, and a panic, are failures.
#[tokio::test]
async fn call_that_never_answers_or_panics_fails() {
    let service = Service::new(())
        .timeout(Duration::from_millis(50))
        .call("never", |_: Arc<()>, _: Call<Value>| std::future::pending::<Result<(), CallError>>())
        .call("panics", |_: Arc<()>, call: Call<bool>| async move {
            if call.data {
                tokio::task::yield_now().await;
            }
            assert!(call.message().is_meta(), "as it was told");
            Ok(())
        });
    let running = start_with(sharded().bind(service), HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    assert_eq!(call(&mut alice, "never", "1", json!(1)).await.len(), 1);
    let failure = next(&mut alice).await;
    assert_eq!(
        (&failure["id"], &failure["successful"], &failure["data"]["class"]),
        (&json!("1"), &json!(false), &json!("Timeout"))
    );
    let at_once = call(&mut alice, "panics", "2", json!(false)).await;
    assert_eq!((&at_once[0]["successful"], &at_once[0]["data"]["class"]), (&json!(false), &json!("Panic")));
    assert_eq!(call(&mut alice, "panics", "3", json!(true)).await.len(), 1);
    assert_eq!(next(&mut alice).await["data"]["class"], "Panic");
    running.stop().await;
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The calls of a session end with it; 64 run at most.
#[tokio::test]
async fn calls_are_bounded_and_end_with_their_session() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let drops = Arc::clone(&dropped);
    let builder = sharded().remote_call("never", move |_: Call<Value>| {
        let guard = Dropped(Arc::clone(&drops));
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok(())
        }
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    let calls: Vec<_> =
        (0..66).map(|n| alice.message("/service/never", json!({"id": n.to_string(), "data": n}))).collect();
    let response = alice.exchange(&json!(calls)).await;
    let busy: Vec<_> = response.iter().filter(|message| message["data"]["class"] == "Busy").collect();
    assert_eq!(busy.len(), 2, "{response:?}");
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
    let mut bob = running.handshaken().await;
    assert_eq!(call(&mut bob, "never", "1", json!(1)).await.len(), 1, "another session's own");
    alice.exchange(&json!([alice.message("/meta/disconnect", json!({"id": "d"}))])).await;
    until("they are dropped", || dropped.load(Ordering::Relaxed) == 66).await;
    running.stop().await;
}

/// P-11, A-65: what a service returns is a message to its sender, unless it is nothing; failures tell nobody.
#[tokio::test]
async fn service_answers_with_messages() {
    let builder = sharded().service("/service/{room}/say", |call: Call<String>| async move {
        match &*call.data {
            "nothing" => Ok(None),
            "fail" => Err(CallError::new("No", "no")),
            text => Ok(Some(format!("{text} in {}", call.param("room").unwrap()))),
        }
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    let response = call(&mut alice, "lounge/say", "1", json!("hi")).await;
    assert_eq!(response[0], json!({"channel": "/service/lounge/say", "data": "hi in lounge"}));
    assert_eq!(call(&mut alice, "lounge/say", "2", json!("nothing")).await.len(), 1);
    assert_eq!(call(&mut alice, "lounge/say", "3", json!("fail")).await.len(), 1);
    // the server's own messages call nobody.
    running.server.publish("/service/lounge/say", "hi").await.unwrap();
    assert!(alice.poll().await.is_empty());
    running.stop().await;
}

/// C-10: variables are bound, wildcards come before templates and templates before the channel itself.
#[tokio::test]
async fn templates_bind_parameters() {
    let tag = |tag: &'static str| {
        move |message: Incoming| async move {
            let params: Vec<_> = message.params().map(|(name, value)| format!("{name}={value}")).collect();
            let text: String = message.data().unwrap();
            bayeux_http::Outcome::Data(RawJson::from_text(&format!("{text} {tag}({})", params.join(","))))
        }
    };
    let builder = sharded()
        .on_message("/news/sport/{event}", tag("event"))
        .on_message("/news/{category}/{event}", tag("both"))
        .on_message("/news/sport/goal", tag("exact"))
        .on_message("/news/**", tag("wide"))
        .on_message("/other/{x}/{y}", tag("other"));
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    alice.subscribe("/news/**").await;
    assert_eq!(
        alice.publish("/news/sport/goal", "").await[0]["data"],
        " wide() event(event=goal) both(category=sport,event=goal) exact()"
    );
    assert_eq!(alice.publish("/news/sport", "").await[0]["data"], " wide()");
    running.stop().await;
    let wild = builder_error(Server::builder(quick()).on_message("/a/{x}/*", |_: Incoming| async {}));
    assert!(matches!(wild, BuildError::Channel { .. }), "C-4: {wild:?}");
    for bad in ["/{x}/{x}", "/{}", "/{x y}"] {
        let refused = builder_error(Server::builder(quick()).on_message(bad, |_: Incoming| async {}));
        assert!(matches!(refused, BuildError::Template { .. }), "{bad}: {refused:?}");
    }
}

fn builder_error(builder: ServerBuilder) -> BuildError {
    builder.build().unwrap_err()
}

#[derive(Default)]
struct Counter(AtomicUsize);

impl Counter {
    async fn add(self: Arc<Self>, call: Call<usize>) -> Result<usize, CallError> {
        tokio::task::yield_now().await;
        Ok(self.0.fetch_add(call.data, Ordering::Relaxed) + call.data)
    }

    async fn reset(self: Arc<Self>, call: Call<()>) -> Result<(), CallError> {
        self.0.store(0, Ordering::Relaxed);
        call.server().publish("/counter", "reset").await?;
        Ok(())
    }
}

#[tokio::test]
async fn methods_of_a_struct_are_bound() {
    let service =
        Service::new(Counter::default()).call("/counter/add", Counter::add).listen("/service/reset", Counter::reset);
    let running = start_with(sharded().bind(service), HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    alice.subscribe("/counter").await;
    assert_eq!(result(&mut alice, "counter/add", "1", json!(2)).await, 2);
    assert_eq!(result(&mut alice, "counter/add", "2", json!(3)).await, 5);
    call(&mut alice, "reset", "3", json!(null)).await;
    assert_eq!(result(&mut alice, "counter/add", "4", json!(1)).await, 1);
    running.stop().await;
}

/// B25, B26: matching channels only, nested data, keys and numbers untouched.
#[tokio::test]
async fn filters_change_data_on_matching_channels() {
    let builder = sharded()
        .filter("/chat/**", NoMarkup)
        .filter("/scripts", NoScripts)
        .filter("/words", RegexFilter::new([("(?i)darn", "*")]).unwrap());
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    alice.subscribe("/**").await;
    let data =
        json!({"<k>": ["<b>hi</b><script>", {"deep": "<i>Darn"}, 12_345_678_901_234_567_890_u64, 1.5, true, null]});
    for (channel, text, deep) in [
        ("/chat/room", "&lt;b&gt;hi&lt;/b&gt;&lt;script&gt;", "&lt;i&gt;Darn"),
        ("/scripts", "<b>hi</b><span>", "<i>Darn"),
        ("/words", "<b>hi</b><script>", "<i>*"),
        ("/chat", "<b>hi</b><script>", "<i>Darn"),
    ] {
        let expected = json!({"<k>": [text, {"deep": deep}, 12_345_678_901_234_567_890_u64, 1.5, true, null]});
        assert_eq!(alice.publish(channel, data.clone()).await[0]["data"], expected, "{channel}");
    }
    running.stop().await;
}

struct NoBooleans;

impl JsonFilter for NoBooleans {
    fn boolean(&self, value: bool) -> Option<RawJson> {
        Some(RawJson::from_text(if value { "yes" } else { "no" }))
    }
}

/// B25: a filter drops a message or refuses it with an error, and the publisher is told; one that panics fails its
/// message alone; filters see each other's work, and can be taken out.
#[tokio::test]
async fn filters_abort_and_follow_each_other() {
    let own = async |message: Incoming, data: RawJson| match &*data.to::<Value>()?.to_string() {
        "\"drop\"" => Err(Abort::deleted()),
        "\"refuse\"" => Err(Abort::with(ErrorField::custom(422, "", "too_rude"))),
        "\"panic\"" => panic!("as it was told"),
        _ => {
            assert!(message.session.is_some());
            Ok(RawJson::from_serialize(&[data.to::<Value>()?])?)
        }
    };
    let builder = sharded().filter("/a", Json(NoBooleans)).filter("/a", own);
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    alice.subscribe("/a").await;
    assert_eq!(alice.publish_error("/a", "drop").await, "404::message_deleted");
    assert_eq!(alice.publish_error("/a", "refuse").await, "422::too_rude");
    assert_eq!(alice.publish_error("/a", "panic").await, "404::message_deleted");
    assert_eq!(alice.publish("/a", true).await[0]["data"], json!(["yes"]));
    let channel = running.server.create_channel_if_absent("/b").unwrap();
    alice.subscribe("/b").await;
    let filter = channel.add_filter(NoMarkup);
    assert_eq!(alice.publish("/b", "<").await[0]["data"], "&lt;");
    filter.remove();
    assert_eq!(alice.publish("/b", "<").await[0]["data"], "<");
    running.stop().await;
}
