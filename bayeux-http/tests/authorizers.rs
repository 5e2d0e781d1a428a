//! Who may do what: policy, authorizers, reserved channels (sections 21.5, 25.7).

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bayeux_http::proto::ChannelPattern;
use bayeux_http::{
    Asked, Authorization, Authorizer, Channel, GrantAuthorizer, HttpOptions, Operation, Policy, Verdict,
};
use common::{Client, sharded, start_with};
use serde_json::{Value, json};
use tokio::net::TcpStream;

async fn subscribe_error(client: &mut Client<TcpStream>, channel: &str) -> Value {
    client.try_subscribe(channel).await.pop().unwrap()["error"].clone()
}

/// Answers late, always the same.
#[derive(Clone)]
struct Says(Authorization);

impl Authorizer for Says {
    async fn authorize(&self, _: Operation, _: ChannelPattern, _: Asked) -> Authorization {
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.0.clone()
    }
}

/// A-51, E-141: none, one that grants, one that denies, only ones that ignore.
#[tokio::test]
async fn one_deny_decides_else_one_grant() {
    use Authorization::{Grant, Ignore};
    let deny = || Authorization::deny("closed");
    let not_granted = json!("403:denied_by_not_granting:publish_denied");
    let closed = json!("403:closed:publish_denied");
    for (wide, exact, error) in [
        (vec![], vec![], json!(null)),
        (vec![Ignore], vec![], not_granted.clone()),
        (vec![Ignore], vec![Ignore], not_granted),
        (vec![Ignore], vec![Grant], json!(null)),
        (vec![Grant], vec![Ignore], json!(null)),
        (vec![Grant], vec![deny()], closed.clone()),
        (vec![deny(), Grant], vec![Grant], closed),
    ] {
        let running = start_with(sharded(), HttpOptions::default()).await;
        let exists = running.server.create_channel_if_absent("/a/b").unwrap();
        for (name, authorizers) in [("/a/**", &wide), ("/a/b", &exact)] {
            for authorizer in authorizers {
                running.server.add_authorizer(name, Says(authorizer.clone())).unwrap();
            }
        }
        let mut alice = running.handshaken().await;
        assert_eq!(alice.publish_error("/a/b", 1).await, error, "{wide:?} {exact:?}");
        assert!(exists.exists());
        running.stop().await;
    }
}

/// E-142: one authorizer on `/**` makes everything need a grant; creation needs one from a wildcard.
#[tokio::test]
async fn creation_is_granted_by_wildcards_alone() {
    let builder = sharded()
        .authorizer("/**", GrantAuthorizer::NONE)
        .authorizer("/open/*", GrantAuthorizer::CREATE.with(GrantAuthorizer::SUBSCRIBE))
        .authorizer("/own", GrantAuthorizer::ALL);
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    assert_eq!(alice.publish_error("/own", 1).await, json!(null), "it exists: it has an authorizer");
    assert_eq!(alice.publish_error("/closed", 1).await, "403:denied_by_not_granting:channel_create_denied");
    assert_eq!(alice.publish_error("/open/other", 1).await, "403:denied_by_not_granting:publish_denied");
    assert_eq!(subscribe_error(&mut alice, "/open/third").await, json!(null));
    assert_eq!(subscribe_error(&mut alice, "/b").await, "403:denied_by_not_granting:create_denied");
    // the server itself asks nobody.
    running.server.create_channel_if_absent("/b").unwrap();
    assert_eq!(subscribe_error(&mut alice, "/b").await, "403:denied_by_not_granting:subscribe_denied");
    running.server.publish("/b", &1).await.unwrap();
    // the authorizers of a wildcard that is subscribed to are its own and those of wider ones.
    assert_eq!(subscribe_error(&mut alice, "/open/*").await, json!(null));
    assert_eq!(subscribe_error(&mut alice, "/open/**").await, "403:denied_by_not_granting:create_denied");
    running.stop().await;
}

///
#[tokio::test]
async fn grants_are_for_the_operations_they_name() {
    for (grant, create, subscribe, publish) in [
        (GrantAuthorizer::NONE, false, false, false),
        (GrantAuthorizer::CREATE, true, false, false),
        (GrantAuthorizer::SUBSCRIBE, false, true, false),
        (GrantAuthorizer::PUBLISH, false, false, true),
        (GrantAuthorizer::CREATE.with(GrantAuthorizer::PUBLISH), true, false, true),
        (GrantAuthorizer::ALL, true, true, true),
    ] {
        let running = start_with(sharded().authorizer("/**", grant), HttpOptions::default()).await;
        let kept = running.server.create_channel_with("/a", |channel| channel.set_persistent(true)).unwrap();
        let mut alice = running.handshaken().await;
        assert_eq!(subscribe_error(&mut alice, "/a").await.is_null(), subscribe, "{grant:?}");
        assert_eq!(alice.publish_error("/a", 1).await.is_null(), publish, "{grant:?}");
        let error = alice.publish_error("/new", 1).await;
        assert_eq!(error != "403:denied_by_not_granting:channel_create_denied", create, "{grant:?} {error}");
        assert!(kept.exists());
        running.stop().await;
    }
}

/// E-143: one that grants once.
#[tokio::test]
async fn authorizer_may_take_itself_out() {
    let running = start_with(sharded(), HttpOptions::default()).await;
    running.server.create_channel_if_absent("/test/*").unwrap().add_authorizer(GrantAuthorizer::CREATE);
    let channel: Channel = running.server.create_channel_if_absent("/test/granted").unwrap();
    let registration = Arc::new(Mutex::new(None));
    let own = Arc::clone(&registration);
    let once = channel.add_authorizer(move |_: Operation, _: ChannelPattern, _: Asked| {
        if let Some(registration) = own.lock().unwrap().take() {
            bayeux_http::Registration::remove(registration);
        }
        async { Authorization::Grant }
    });
    *registration.lock().unwrap() = Some(once);
    channel.set_persistent(true);
    let mut alice = running.handshaken().await;
    assert_eq!(alice.publish_error("/test/granted", 1).await, json!(null));
    assert_eq!(alice.publish_error("/test/granted", 1).await, "403:denied_by_not_granting:publish_denied");
    running.stop().await;
}

/// C-3: what is asked about is the normal form, whatever was sent; the reply has what was sent.
#[tokio::test]
async fn normal_form_is_what_is_authorised() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let builder = sharded().authorizer("/**", move |operation, channel: ChannelPattern, _| {
        notes.lock().unwrap().push((operation, channel.as_str().to_owned()));
        async { Authorization::Grant }
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    let reply = alice.publish("/a/b/ ", 1).await.pop().unwrap();
    assert_eq!((&reply["successful"], &reply["channel"]), (&json!(true), &json!("/a/b/ ")));
    let asked = [Operation::Create, Operation::Publish].map(|operation| (operation, "/a/b".to_owned()));
    assert_eq!(*seen.lock().unwrap(), asked);
    running.stop().await;
}

struct Refuses(&'static str);

impl Policy for Refuses {
    async fn can_handshake(&self, _: Asked) -> Verdict {
        if self.0 == "handshake" { Verdict::deny() } else { Verdict::allow() }
    }

    async fn can_create(&self, _: ChannelPattern, _: Asked) -> Verdict {
        if self.0 == "create" { Verdict::deny() } else { Verdict::allow() }
    }

    async fn can_subscribe(&self, _: ChannelPattern, _: Asked) -> Verdict {
        if self.0 == "subscribe" { Verdict::deny() } else { Verdict::allow() }
    }

    async fn can_publish(&self, _: bayeux_http::proto::ChannelName, asked: Asked) -> Verdict {
        asked.associated.set_field("hint", bayeux_http::proto::RawJson::from_text("ask for it"));
        if self.0 == "publish" { Verdict::deny() } else { Verdict::allow() }
    }
}

/// A-40, F-14 to F-18, B29: four refusals, four errors; authorizers are not asked then.
#[tokio::test]
async fn each_refusal_has_its_error() {
    for refused in ["handshake", "create", "subscribe", "publish"] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        let builder = sharded().policy(Refuses(refused)).authorizer("/**", move |operation, _, _| {
            notes.lock().unwrap().push(operation);
            async { Authorization::Grant }
        });
        let running = start_with(builder, HttpOptions::default()).await;
        if refused == "handshake" {
            let hello = json!([{"id": "1", "channel": "/meta/handshake", "version": "1.0"}]);
            let reply = running.client().await.exchange(&hello).await.remove(0);
            assert_eq!(
                (&reply["error"], &reply["advice"]["reconnect"]),
                (&json!("403::handshake_denied"), &json!("none"))
            );
            running.stop().await;
            continue;
        }
        let mut alice = running.handshaken().await;
        let subscribed = subscribe_error(&mut alice, "/a").await;
        let published = alice.publish("/b", 1).await.pop().unwrap();
        let reason = "denied_by_security_policy";
        let (subscribe, publish) = match refused {
            "create" => {
                (json!(format!("403:{reason}:create_denied")), json!(format!("403:{reason}:channel_create_denied")))
            }
            "subscribe" => (json!(format!("403:{reason}:subscribe_denied")), json!(null)),
            _ => (json!(null), json!(format!("403:{reason}:publish_denied"))),
        };
        assert_eq!((subscribed, published["error"].clone()), (subscribe, publish), "{refused}");
        assert_eq!(published["hint"] == "ask for it", refused != "create", "{published}");
        let asked = asked.lock().unwrap().clone();
        assert_eq!(asked.contains(&Operation::Create), refused != "create");
        assert_eq!(asked.contains(&Operation::Subscribe), refused == "publish");
        assert_eq!(asked.contains(&Operation::Publish), refused == "subscribe");
        running.stop().await;
    }
}

/// The channels of clusters are nobody's else, whatever a policy or an authorizer says.
#[tokio::test]
async fn reserved_channels_are_refused_to_remote_sessions() {
    let builder = sharded().authorizer("/**", GrantAuthorizer::ALL);
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.handshaken().await;
    for channel in ["/oort/cloud", "/seti/all", "/oort/", "/service/oort", "/service/seti/x"] {
        assert_eq!(alice.publish_error(channel, 1).await, "403:denied_by_security_policy:publish_denied", "{channel}");
    }
    for channel in ["/oort/cloud", "/oort/*", "/seti/**"] {
        let error = subscribe_error(&mut alice, channel).await;
        assert_eq!(error, "403:denied_by_security_policy:subscribe_denied", "{channel}");
    }
    assert_eq!(subscribe_error(&mut alice, "/**").await, json!(null));
    assert_eq!(alice.publish_error("/oortx", 1).await, json!(null));
    running.stop().await;
}
