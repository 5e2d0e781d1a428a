//! The application's side: listeners, policy, what they may do and how long they may take.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bayeux_http::proto::{Advice, RawJson, Reconnect};
use bayeux_http::{
    Asked, BuildError, Config, HttpOptions, Incoming, Outcome, Policy, Questions, Ruling, Server, Session, Verdict,
    proto,
};
use common::{quick, start_with, until};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

fn builder() -> bayeux_http::ServerBuilder {
    let mut config = quick();
    config.shards = 2;
    Server::builder(config)
}

/// R-4, R-6: a remote call is answered on its channel with its id, in the response to it.
#[tokio::test]
async fn remote_call_is_answered() {
    let builder = builder().on_message("/service/double", |message: Incoming| async move {
        match message.data::<i64>() {
            Ok(number) => message.answer(&(number * 2)),
            Err(_) => message.fail(&json!({"expected": "a number"})),
        }
        .unwrap();
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    let call = alice.message("/service/double", json!({"id": "7", "data": 21}));
    let reply = json!({"id": "7", "channel": "/service/double", "successful": true});
    assert_eq!(
        alice.exchange(&json!([call])).await,
        [json!({"id": "7", "channel": "/service/double", "data": 42, "successful": true}), reply]
    );
    let call = alice.message("/service/double", json!({"id": "8", "data": "x"}));
    let result = alice.exchange(&json!([call])).await.remove(0);
    assert_eq!((&result["successful"], &result["data"]["expected"]), (&json!(false), &json!("a number")));
    running.stop().await;
}

/// G-11, A-21, A-22, A-23: listeners run from the widest wildcard to the channel, may change the message, and a veto
/// is told to the publisher.
#[tokio::test]
async fn listeners_change_and_stop_messages() {
    let note = |tag: &'static str| {
        move |message: Incoming| async move {
            assert_eq!(message.channel.as_str(), "/a/b");
            // G-10: neither id nor clientId on a broadcast.
            assert!(message.message.id.is_none() && message.message.client_id.is_none());
            let data: String = message.data().unwrap();
            if data.contains("stop") {
                return Outcome::Veto;
            }
            Outcome::Data(RawJson::from_serialize(&format!("{data}{tag}")).unwrap())
        }
    };
    let builder = builder().on_message("/a/b", note("3")).on_message("/a/*", note("2")).on_message(
        "/**",
        move |message: Incoming| {
            let note = note("1");
            async move { if message.channel.as_str() == "/a/b" { note(message).await } else { Outcome::Continue } }
        },
    );
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/a/b").await;
    let publish = alice.message("/a/b", json!({"id": "p", "data": "x"}));
    assert_eq!(alice.exchange(&json!([publish])).await[0], json!({"channel": "/a/b", "data": "x123"}));
    let publish = alice.message("/a/b", json!({"id": "p", "data": "stop"}));
    let replies = alice.exchange(&json!([publish])).await;
    assert_eq!(replies, [json!({"id": "p", "channel": "/a/b", "successful": false, "error": "404::message_deleted"})]);
    running.stop().await;
}

/// Calling into the server from inside a hook works, whatever shard it concerns, and rides with the verdict.
#[tokio::test]
async fn hook_publishes_and_delivers() {
    let builder = builder().on_message("/service/fan", |message: Incoming| async move {
        let server = message.server().clone();
        server.publish("/out", &message.data::<u32>().unwrap()).await.unwrap();
        server.try_publish("/out", "again").unwrap();
        for session in server.sessions() {
            session.deliver("/direct", &1).unwrap();
        }
        message.session.unwrap().publish("/out", "as the sender").await.unwrap();
        assert!(server.session_count() > 0);
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = running.client().await;
        client.handshake().await;
        client.subscribe("/out").await;
        clients.push(client);
    }
    let call = clients[0].message("/service/fan", json!({"id": "7", "data": 5}));
    let reply = clients[0].exchange(&json!([call])).await;
    let data: Vec<_> = reply.iter().filter_map(|message| message.get("data")).cloned().collect();
    assert_eq!(data, [json!(5), json!("again"), json!(1), json!("as the sender")], "{reply:?}");
    for client in &mut clients[1..] {
        let mut data = Vec::new();
        while data.len() < 4 {
            let messages = client.exchange(&json!([client.connect(0)])).await;
            data.extend(messages.iter().filter_map(|message| message.get("data")).map(ToString::to_string));
        }
        data.sort();
        assert_eq!(data, ["\"again\"", "\"as the sender\"", "1", "5"]);
    }
    running.stop().await;
}

/// What a subscription listener delivers rides in that subscribe's response; session listeners see sessions come and
/// go, before their ids stop resolving.
#[tokio::test]
async fn session_and_subscription_listeners() {
    let (tell, mut told) = mpsc::unbounded_channel::<String>();
    let removed = tell.clone();
    let unsubscribed = tell.clone();
    let builder = builder()
        .on_session_added(move |session: Session, context| {
            let agent = context.and_then(|request| request.headers().get("user-agent").cloned());
            let _ = tell.send(format!("added by {:?}", agent.unwrap()));
            async move { session.deliver("/welcome", "hi").unwrap() }
        })
        .on_session_removed(move |session: Session, reason| {
            let _ = removed.send(format!("removed {} alive {}", reason.as_str(), session.is_alive()));
            async {}
        })
        .on_subscribed(|subscribed| async move {
            assert!(subscribed.message.is_some() && subscribed.context.unwrap().peer().is_some());
            subscribed.session.deliver("/snapshot", subscribed.channel.as_str()).unwrap();
        })
        .on_unsubscribed(move |subscribed| {
            let _ = unsubscribed.send(format!("unsubscribed {}", subscribed.channel.as_str()));
            async {}
        });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.client().await;
    let hello = json!([{"id": "1", "channel": "/meta/handshake", "version": "1.0"}]).to_string();
    let response = alice.request("POST", "/cometd", "User-Agent: me\r\n", hello).await;
    alice.cookie = response.header("set-cookie").unwrap().split(';').next().map(str::to_owned);
    alice.id = response.json()[0]["clientId"].as_str().unwrap().to_owned();
    assert_eq!(told.recv().await.unwrap(), "added by \"me\"");
    let messages = alice.exchange(&json!([alice.connect(0)])).await;
    assert_eq!(messages[0], json!({"channel": "/welcome", "data": "hi"}));
    for channel in ["/a", "/b"] {
        let subscribe = alice.message("/meta/subscribe", json!({"id": "s", "subscription": channel}));
        let messages = alice.exchange(&json!([subscribe])).await;
        assert_eq!(messages[0], json!({"channel": "/snapshot", "data": channel}));
        assert_eq!(messages[1]["successful"], true);
    }
    let unsubscribe = alice.message("/meta/unsubscribe", json!({"id": "u", "subscription": "/a"}));
    alice.exchange(&json!([unsubscribe])).await;
    assert_eq!(told.recv().await.unwrap(), "unsubscribed /a");
    alice.exchange(&json!([alice.message("/meta/disconnect", json!({"id": "d"}))])).await;
    let mut last = [told.recv().await.unwrap(), told.recv().await.unwrap()];
    last.sort();
    assert_eq!(last, ["removed client_disconnect alive true", "unsubscribed /b"]);
    until("its id does not resolve", || running.server.session(&alice.id).is_none()).await;
    running.stop().await;
}

struct Strict;

impl Policy for Strict {
    async fn can_handshake(&self, asked: Asked) -> Verdict {
        tokio::task::yield_now().await;
        assert!(asked.session.is_some());
        if asked.context.unwrap().headers().contains_key("x-token") {
            return Verdict::allow();
        }
        let advice = Advice { reconnect: Some(Reconnect::Handshake), interval_ms: Some(500), ..Advice::default() };
        let ext = Some(RawJson::new(r#"{"reason":"no token"}"#).unwrap());
        Verdict { advice, ext, ..Verdict::deny() }
    }

    async fn can_create(&self, channel: proto::ChannelPattern, _: Asked) -> Verdict {
        if channel.as_str().starts_with("/closed") { Verdict::deny() } else { Verdict::allow() }
    }

    async fn can_subscribe(&self, channel: proto::ChannelPattern, asked: Asked) -> Verdict {
        assert!(asked.message.subscription.is_some());
        if channel.as_str() != "/private" {
            return Verdict::allow();
        }
        Verdict { ruling: Ruling::Deny { reason: Some("members only".into()) }, ..Verdict::allow() }
    }

    async fn can_publish(&self, channel: proto::ChannelName, _: Asked) -> Verdict {
        assert_ne!(channel.as_str(), "/panic", "as planned");
        Verdict::allow()
    }
}

/// A-40, A-43, F-13 to F-18, V-24: the four questions, their errors, advice and ext; a panic denies one message.
#[tokio::test]
async fn policy_is_asked() {
    let running = start_with(builder().policy(Strict), HttpOptions::default()).await;
    let mut alice = running.client().await;
    let hello = json!([{"id": "1", "channel": "/meta/handshake", "version": "1.0"}]).to_string();
    let denied = alice.post(&hello).await;
    let reply = denied.json().remove(0);
    assert_eq!(reply["error"], "403::handshake_denied");
    assert_eq!(reply["advice"], json!({"reconnect": "handshake", "interval": 500}));
    assert_eq!(reply["ext"], json!({"reason": "no token"}));
    // TH-21: a failed handshake sets no cookie.
    assert_eq!(denied.header("set-cookie"), None);
    let response = alice.request("POST", "/cometd", "X-Token: 1\r\n", hello).await;
    alice.cookie = response.header("set-cookie").unwrap().split(';').next().map(str::to_owned);
    alice.id = response.json()[0]["clientId"].as_str().unwrap().to_owned();
    for (channel, fields, error) in [
        ("/meta/subscribe", json!({"subscription": "/private"}), "403:members only:subscribe_denied"),
        ("/meta/subscribe", json!({"subscription": "/closed/1"}), "403:denied_by_security_policy:create_denied"),
        ("/closed/1", json!({"data": 1}), "403:denied_by_security_policy:channel_create_denied"),
        ("/panic", json!({"data": 1}), "403:denied_by_security_policy:publish_denied"),
    ] {
        let reply = alice.exchange(&json!([alice.message(channel, fields)])).await.remove(0);
        assert_eq!(reply["error"], error, "{channel}");
    }
    let replies = alice.exchange(&json!([alice.message("/open", json!({"id": "p", "data": 1}))])).await;
    assert_eq!(replies[0]["successful"], true);
    running.stop().await;
}

/// E-144, Z-1: a hook that takes long delays its own connection only, and is a no at its deadline.
#[tokio::test]
async fn slow_hook_delays_nobody_else_and_ends_at_its_deadline() {
    struct Slow(Arc<Semaphore>);

    impl Policy for Slow {
        fn questions(&self) -> Questions {
            Questions::SUBSCRIBE
        }

        async fn can_subscribe(&self, channel: proto::ChannelPattern, _: Asked) -> Verdict {
            if channel.as_str() == "/never" {
                std::future::pending::<()>().await;
            }
            let _ = self.0.acquire().await;
            Verdict::allow()
        }
    }

    let gate = Arc::new(Semaphore::new(0));
    let mut config: Config = quick();
    config.decision_timeout = Duration::from_millis(500);
    let running = start_with(Server::builder(config).policy(Slow(Arc::clone(&gate))), HttpOptions::default()).await;
    let mut slow = running.client().await;
    slow.handshake().await;
    let subscribe = slow.message("/meta/subscribe", json!({"id": "1", "subscription": "/later"}));
    let publish = slow.message("/later", json!({"id": "2", "data": 1}));
    slow.hold(&json!([subscribe, publish])).await;
    let mut other = running.client().await;
    other.handshake().await;
    other.exchange(&json!([other.message("/service/x", json!({"id": "p", "data": 1}))])).await;
    gate.add_permits(1);
    // M-2: the order of the batch is kept.
    let messages = slow.response().await.json();
    let ids: Vec<_> = messages.iter().filter_map(|message| message.get("id")).cloned().collect();
    assert_eq!(ids, ["1", "2"], "{messages:?}");
    let subscribe = slow.message("/meta/subscribe", json!({"id": "3", "subscription": "/never"}));
    let reply = slow.exchange(&json!([subscribe])).await.remove(0);
    assert_eq!(reply["successful"], false, "{reply}");
    running.stop().await;
}

#[tokio::test]
async fn listeners_come_to_a_running_server() {
    let running = start_with(builder(), HttpOptions::default()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    let echo = |message: Incoming| async move { message.answer(message.raw()).unwrap() };
    running.server.on_message("/service/echo", echo).unwrap();
    let call = alice.message("/service/echo", json!({"id": "7", "data": [1, 2.50]}));
    assert_eq!(alice.exchange(&json!([call])).await[0]["data"], json!([1, 2.5]));
    assert!(matches!(running.server.on_message("nothing", echo), Err(BuildError::Channel { .. })));
    running.stop().await;
}

#[test]
fn server_needs_a_runtime_and_valid_options() {
    assert!(matches!(Server::builder(quick()).build(), Err(BuildError::NoRuntime)));
    let mut config = quick();
    config.shards = 0;
    assert!(matches!(Server::builder(config).build(), Err(BuildError::Config(_))));
}
