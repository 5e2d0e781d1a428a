//! Sessions as the application sees them: attributes, deliveries, batches, settings, listeners, removal.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bayeux_http::proto::{Event, MessageId, RawJson};
use bayeux_http::{
    Asked, Extension, HeartBeat, HttpOptions, Incoming, Outcome, OutgoingMessage, Policy, RemovalReason, Server,
    Session, Transport, Verdict,
};
use common::{quick, sharded, start_with, until};
use serde_json::json;

type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, what: impl Into<String>) {
    log.lock().unwrap().push(what.into());
}

#[tokio::test]
async fn sessions_are_looked_up_by_id() {
    let running = start_with(sharded(), HttpOptions::default()).await;
    let (alice, session) = running.with_session().await;
    assert_eq!(session.id().as_str(), alice.id);
    assert_eq!(session.transport(), Transport::LongPolling);
    assert!(session.is_alive() && !session.is_local());
    assert_eq!(running.server.sessions(), [session]);
    for unknown in ["", "unknown", &alice.id[1..]] {
        assert!(running.server.session(unknown).is_none());
    }
    running.stop().await;
}

/// What a policy learns while it decides on the handshake it keeps with the session.
struct Login;

impl Policy for Login {
    async fn can_handshake(&self, asked: Asked) -> Verdict {
        tokio::task::yield_now().await;
        let user = asked.context.unwrap().headers().get("x-user").map(|user| user.to_str().unwrap().to_owned());
        let Some(user) = user else { return Verdict::deny() };
        let session = asked.session.unwrap();
        assert!(session.user_agent().is_some());
        session.set_attribute("user", user.clone());
        // A-34: effective for the reply of this very handshake.
        session.add_extension(Greets(user));
        Verdict::allow()
    }
}

struct Greets(String);

impl Extension for Greets {
    fn send_meta(&self, message: &mut OutgoingMessage<'_>) -> bool {
        if message.channel() == "/meta/handshake" {
            message.set_ext("welcome", RawJson::from_text(&self.0));
        }
        true
    }
}

#[tokio::test]
async fn what_a_policy_sets_on_the_session_to_be_stays() {
    let running = start_with(sharded().policy(Login), HttpOptions::default()).await;
    let hello = json!([{"id": "1", "channel": "/meta/handshake", "version": "1.0"}]).to_string();
    for user in ["alice", "bob"] {
        let mut client = running.client().await;
        let headers = format!("User-Agent: agent of {user}\r\nX-User: {user}\r\n");
        let reply = client.request("POST", "/cometd", &headers, hello.clone()).await.json().remove(0);
        assert_eq!(reply["ext"], json!({"welcome": user}));
        let session = running.server.session(reply["clientId"].as_str().unwrap()).unwrap();
        assert_eq!(session.attribute::<String>("user").unwrap().as_str(), user);
        assert_eq!(session.user_agent(), Some(&*format!("agent of {user}")));
        assert_eq!(session.attribute_names(), ["user"]);
        assert!(session.remove_attribute("user") && session.attribute::<String>("user").is_none());
    }
    let mut nobody = running.client().await;
    let reply = nobody.request("POST", "/cometd", "", hello).await.json().remove(0);
    assert_eq!(reply["error"], "403::handshake_denied");
    assert_eq!(running.server.session_count(), 2);
    running.stop().await;
}

/// A-11, B16: to one session alone, and no extra fields tell it from a publish.
#[tokio::test]
async fn delivery_looks_like_a_publish() {
    let running = start_with(sharded(), HttpOptions::default()).await;
    let (mut alice, session) = running.with_session().await;
    let (mut bob, bobs) = running.with_session().await;
    session.deliver("/some/channel", &json!({"a": 1})).unwrap();
    session.deliver_from(&bobs, "/some/channel", &2).unwrap();
    let mut event = Event::new("/some/channel", RawJson::from_text("three"));
    event.id = Some(MessageId::Text("7".into()));
    session.deliver_event(event).unwrap();
    let messages = alice.exchange(&json!([alice.connect(0)])).await;
    assert_eq!(
        messages[..3],
        [
            json!({"channel": "/some/channel", "data": {"a": 1}}),
            json!({"channel": "/some/channel", "data": 2}),
            json!({"channel": "/some/channel", "data": "three", "id": "7"}),
        ]
    );
    assert!(bob.poll().await.is_empty());
    assert!(session.deliver("/meta/connect", &1).is_err() && session.deliver("no", &1).is_err());
    running.stop().await;
}

/// Q-40, Q-41, B22, B23: what is delivered in a batch, however deep, comes in one response at its outer end.
#[tokio::test]
async fn nested_batches_end_in_one_response() {
    let running = start_with(sharded(), HttpOptions::default()).await;
    let (mut alice, session) = running.with_session().await;
    alice.subscribe("/public").await;
    alice.hold(&json!([alice.connect(5_000)])).await;
    let server = running.server.clone();
    {
        let _outer = session.start_batch();
        session.batch(|session| session.batch(|session| session.deliver("/private", &1).unwrap()));
        server.publish("/public", &2).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        session.deliver("/private", &3).unwrap();
    }
    let data: Vec<_> =
        alice.response().await.json().iter().filter_map(|message| message.get("data")).cloned().collect();
    assert_eq!(data.len(), 3, "one response: {data:?}");
    running.stop().await;
}

/// D-10, N19, B85: a kick is announced, and its reason told once.
#[tokio::test]
async fn removal_is_told_once_with_its_reason() {
    let log = Log::default();
    let removed = Arc::clone(&log);
    let builder = sharded().on_session_removed(move |session: Session, reason: RemovalReason| {
        note(&removed, format!("{} {}", reason.as_str(), reason.is_timeout()));
        async move { assert!(session.is_alive(), "its id resolves still") }
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let (mut alice, kicked) = running.with_session().await;
    kicked.disconnect();
    let messages = alice.exchange(&json!([alice.connect(0)])).await;
    assert_eq!(messages.last().unwrap()["error"], "402::session_unknown");
    let (mut bob, _) = running.with_session().await;
    bob.hold(&json!([bob.connect(5_000)])).await;
    // Held or not, it hears of it in the response to this connect.
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.server.session(&bob.id).unwrap().disconnect();
    let messages = bob.response().await.json();
    assert_eq!(messages[0], json!({"channel": "/meta/disconnect", "successful": true}));
    assert_eq!(messages[1]["advice"]["reconnect"], "none");
    let (mut carol, _) = running.with_session().await;
    carol.exchange(&json!([carol.message("/meta/disconnect", json!({"id": "d"}))])).await;
    let (_dave, removed) = running.with_session().await;
    removed.remove();
    until("all are told", || log.lock().unwrap().len() >= 4).await;
    let told = log.lock().unwrap().clone();
    assert_eq!(
        told,
        ["server_disconnect false", "server_disconnect false", "client_disconnect false", "removed false"]
    );
    running.stop().await;
}

/// L-20, N19: a client that is lost is one whose time is over.
#[tokio::test]
async fn lost_client_times_out() {
    let mut config = quick();
    config.each_transport(|options| options.max_interval = Duration::from_millis(50));
    let log = Log::default();
    let removed = Arc::clone(&log);
    let builder = Server::builder(config).on_session_removed(move |_, reason: RemovalReason| {
        note(&removed, format!("{} {}", reason.as_str(), reason.is_timeout()));
        async {}
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let (alice, _) = running.with_session().await;
    drop(alice);
    until("it expires", || !log.lock().unwrap().is_empty()).await;
    assert_eq!(*log.lock().unwrap(), ["expired true"]);
    running.stop().await;
}

/// A-24, L-31: the server's listeners of removals, those of subscriptions, the session's own.
#[tokio::test]
async fn listeners_of_a_removal_run_in_order() {
    let log = Log::default();
    let (removed, unsubscribed) = (Arc::clone(&log), Arc::clone(&log));
    let builder = sharded()
        .on_session_removed(move |_, _| {
            let log = Arc::clone(&removed);
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                note(&log, "server: removed");
            }
        })
        .on_unsubscribed(move |gone| {
            note(&unsubscribed, format!("server: {}", gone.channel.as_str()));
            async {}
        });
    let running = start_with(builder, HttpOptions::default()).await;
    let (mut alice, session) = running.with_session().await;
    for (what, register) in [("first", true), ("second", true), ("taken back", false)] {
        let own = Arc::clone(&log);
        let registration = session.on_removed(move |_, _| {
            note(&own, format!("session: {what}"));
            async {}
        });
        if !register {
            registration.remove();
        }
    }
    let channel = running.server.create_channel_if_absent("/a").unwrap();
    let own = Arc::clone(&log);
    channel.on_unsubscribed(move |_| {
        note(&own, "channel: /a");
        async {}
    });
    alice.subscribe("/a").await;
    alice.subscribe("/b").await;
    assert_eq!(session.subscriptions().len(), 2);
    alice.exchange(&json!([alice.message("/meta/disconnect", json!({"id": "d"}))])).await;
    until("all are told", || log.lock().unwrap().len() == 6).await;
    let mut told = log.lock().unwrap().clone();
    assert_eq!(told[0], "server: removed");
    assert_eq!(told[4..], ["session: first", "session: second"]);
    told[1..4].sort();
    assert_eq!(told[1..4], ["channel: /a", "server: /a", "server: /b"]);
    running.stop().await;
}

/// A-20, A-24: added, server first; subscribed: channel, server, session.
#[tokio::test]
async fn session_is_told_of_itself_behind_the_server() {
    let log = Log::default();
    let (added, subscribed, own) = (Arc::clone(&log), Arc::clone(&log), Arc::clone(&log));
    let builder = sharded()
        .on_message("/meta/handshake", |_: Incoming| async {})
        .on_session_added(move |session: Session, _| {
            note(&added, "server: added");
            let (of_added, of_subscribed, of_gone) = (Arc::clone(&own), Arc::clone(&own), Arc::clone(&own));
            session.on_added(move |_| {
                note(&of_added, "session: added");
                async {}
            });
            session.on_subscribed(move |_| {
                note(&of_subscribed, "session: subscribed");
                async {}
            });
            session.on_unsubscribed(move |_| {
                note(&of_gone, "session: unsubscribed");
                async {}
            });
            async {}
        })
        .on_subscribed(move |_| {
            note(&subscribed, "server: subscribed");
            async {}
        });
    let running = start_with(builder, HttpOptions::default()).await;
    let (mut alice, _) = running.with_session().await;
    alice.subscribe("/a").await;
    alice.exchange(&json!([alice.message("/meta/unsubscribe", json!({"id": "u", "subscription": "/a"}))])).await;
    assert_eq!(
        *log.lock().unwrap(),
        ["server: added", "session: added", "server: subscribed", "session: subscribed", "session: unsubscribed"]
    );
    running.stop().await;
}

/// Q-7: a session's message listener drops what it does not want; its extension changes what it alone receives.
#[tokio::test]
async fn messages_are_dropped_and_changed_for_one_recipient() {
    let running = start_with(sharded(), HttpOptions::default()).await;
    let (mut alice, session) = running.with_session().await;
    let (mut bob, bobs) = running.with_session().await;
    let ignored = bobs.clone();
    let ignores = session.on_message(move |message| message.from() != Some(&ignored));
    struct Shout;
    impl Extension for Shout {
        fn send(&self, message: &mut OutgoingMessage<'_>) -> bool {
            let loud = message.data().and_then(|data| data.as_text()).map(|text| text.to_uppercase());
            if let Some(loud) = loud {
                message.set_data(RawJson::from_text(&loud));
            }
            true
        }
    }
    session.add_extension(Shout);
    alice.subscribe("/chat").await;
    bob.subscribe("/chat").await;
    running.server.publish("/chat", "hello").await.unwrap();
    assert_eq!(bob.publish("/chat", "psst").await.len(), 3, "both and the reply");
    assert_eq!(alice.poll().await, ["HELLO"], "nothing of bob's");
    ignores.remove();
    bob.publish("/chat", "again").await;
    assert_eq!(alice.poll().await, ["AGAIN"]);
    running.stop().await;
}

/// V-11, K-9: settings reach the client with its next connect.
#[tokio::test]
async fn settings_are_advised() {
    let running = start_with(sharded(), HttpOptions::default()).await;
    let (mut alice, session) = running.with_session().await;
    session.set_timeout(Some(Duration::from_millis(120)));
    session.set_interval(Some(Duration::from_millis(30)));
    let reply = alice.exchange(&json!([alice.connect(None)])).await.remove(0);
    assert_eq!(reply["advice"], json!({"reconnect": "retry", "interval": 30, "timeout": 120}));
    session.set_timeout(None);
    let reply = alice.exchange(&json!([alice.connect(None)])).await.remove(0);
    assert_eq!(reply["advice"]["timeout"], 300);
    session.set_broadcast_to_publisher(false);
    alice.subscribe("/a").await;
    assert_eq!(alice.publish("/a", 1).await.len(), 1, "Q-6");
    session.set_meta_connect_delivery_only(true);
    session.deliver("/b", &1).unwrap();
    assert_eq!(alice.publish("/c", 1).await.len(), 1, "Q-13");
    assert_eq!(alice.poll().await, [1]);
    running.stop().await;
}

/// A-25: held, and ended by its timeout or by a message.
#[tokio::test]
async fn heart_beats_are_told() {
    let running = start_with(sharded(), HttpOptions::default()).await;
    let (mut alice, session) = running.with_session().await;
    let beats = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&beats);
    session.on_heartbeat(move |beat| notes.lock().unwrap().push(*beat));
    alice.exchange(&json!([alice.connect(None)])).await;
    alice.hold(&json!([alice.connect(None)])).await;
    until("it is held", || beats.lock().unwrap().len() == 3).await;
    session.deliver("/a", &1).unwrap();
    alice.response().await;
    let suspended = HeartBeat::Suspended { timeout: Duration::from_millis(300) };
    let resumed = |timed_out| HeartBeat::Resumed { timed_out };
    assert_eq!(*beats.lock().unwrap(), [suspended, resumed(true), suspended, resumed(false)]);
    running.stop().await;
}

/// A-30: what an incoming extension of one session stops concerns that session alone.
#[tokio::test]
async fn incoming_extension_of_one_session_leaves_others_alone() {
    struct Deaf;
    impl Extension for Deaf {
        async fn rcv(&self, _: Incoming) -> Outcome {
            Outcome::Veto
        }
    }
    let running = start_with(sharded(), HttpOptions::default()).await;
    let (mut alice, session) = running.with_session().await;
    let (mut bob, _) = running.with_session().await;
    let deaf = session.add_extension(Deaf);
    assert_eq!(alice.publish_error("/a", 1).await, "404::message_deleted");
    assert_eq!(bob.publish_error("/a", 1).await, json!(null));
    deaf.remove();
    assert_eq!(alice.publish_error("/a", 1).await, json!(null));
    running.stop().await;
}

/// What holds is what was set, else what the transport's options say.
#[tokio::test]
async fn settings_can_be_read() {
    let running = start_with(sharded(), HttpOptions::default()).await;
    let (_alice, session) = running.with_session().await;
    let inherited = session.settings().unwrap();
    assert_eq!((inherited.max_interval, inherited.max_queue), (Duration::from_secs(10), 10_000));
    session.set_max_interval(Some(Duration::from_secs(7)));
    session.set_max_queue(Some(5));
    session.set_broadcast_to_publisher(false);
    let own = session.settings().unwrap();
    assert_eq!((own.max_interval, own.max_queue, own.broadcast_to_publisher), (Duration::from_secs(7), 5, false));
    assert_eq!(own.overflow, inherited.overflow);
    session.remove();
    assert!(session.settings().is_none());
    running.stop().await;
}

/// The program behind a session is known whether or not anybody is asked about handshakes.
#[tokio::test]
async fn session_knows_its_user_agent() {
    let running = start_with(sharded(), HttpOptions::default()).await;
    let mut alice = running.client().await;
    let hello = r#"[{"id":"1","channel":"/meta/handshake","version":"1.0"}]"#;
    let response = alice.request("POST", "/cometd", "User-Agent: Alice/1.0\r\n", hello).await;
    let id = response.json()[0]["clientId"].as_str().unwrap().to_owned();
    assert_eq!(running.server.session(&id).unwrap().user_agent(), Some("Alice/1.0"));
    running.stop().await;
}
