//! Sessions inside the server's process: the same interface, the same rules, no wire.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bayeux_http::proto::{Message, RawJson};
use bayeux_http::{
    Asked, HttpOptions, Incoming, LocalError, LocalExtension, LocalMessage, LocalSession, Outcome, Policy, Server,
    ServerBuilder, Verdict,
};
use common::{Running, quick, sharded, start_with, until};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

async fn start(builder: ServerBuilder) -> (Running, LocalSession) {
    let running = start_with(builder, HttpOptions::default()).await;
    let robot = running.server.local_session("robot");
    (running, robot)
}

type Heard = Arc<Mutex<Vec<Value>>>;

/// A listener that notes the data of messages.
fn noting(heard: &Heard) -> impl Fn(LocalMessage) -> std::future::Ready<()> + Send + Sync + 'static {
    let heard = Arc::clone(heard);
    move |message| {
        heard.lock().unwrap().push(message.data().unwrap());
        std::future::ready(())
    }
}

/// A-60, A-62, A-64
#[tokio::test]
async fn handshake_makes_a_session_like_any_other() {
    let (running, robot) = start(sharded()).await;
    assert!(!robot.is_handshaken());
    assert!(matches!(robot.publish("/a", &1).await, Err(LocalError::NoSession)));
    let session = robot.handshake().await.unwrap();
    assert!(session.is_local() && session.is_alive());
    assert!(session.id().as_str().starts_with("robot_"), "{}", session.id());
    assert!(running.server.sessions().contains(&session));
    assert!(matches!(robot.handshake().await, Err(LocalError::Handshaken)));
    session.set_attribute("k", 1_u8);
    assert_eq!(running.server.session(session.id().as_str()).unwrap().attribute::<u8>("k").as_deref(), Some(&1));
    robot.disconnect().await.unwrap();
    assert!(!session.is_alive() && !robot.is_handshaken());
    // Once more, and it is another.
    let second = robot.handshake().await.unwrap();
    assert_ne!(second.id(), session.id());
    running.stop().await;
}

/// B8: one publish reaches a local session and a remote client, and comes from either.
#[tokio::test]
async fn local_and_remote_hear_each_other() {
    let (running, robot) = start(sharded()).await;
    robot.handshake().await.unwrap();
    let heard = Heard::default();
    let _ = robot.subscribe("/room/*", noting(&heard)).await.unwrap();
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/room/1").await;
    alice.publish("/room/1", "from alice").await;
    until("the robot heard alice", || heard.lock().unwrap().len() == 1).await;
    alice.poll().await;
    robot.publish("/room/1", "from robot").await.unwrap();
    assert_eq!(alice.poll().await, ["from robot"]);
    until("the robot heard itself", || heard.lock().unwrap().len() == 2).await;
    assert_eq!(*heard.lock().unwrap(), ["from alice", "from robot"]);
    running.stop().await;
}

/// B11, B10: local subscribers share one subscription; the last one ends it.
#[tokio::test]
async fn listeners_of_a_channel_share_a_subscription() {
    let (running, robot) = start(sharded()).await;
    let session = robot.handshake().await.unwrap();
    let (one, two) = (Heard::default(), Heard::default());
    let first = robot.subscribe("/a", noting(&one)).await.unwrap();
    let second = robot.subscribe("/a/", noting(&two)).await.unwrap();
    assert_eq!(session.subscriptions().len(), 1);
    running.server.publish("/a", &1).await.unwrap();
    until("both heard", || one.lock().unwrap().len() + two.lock().unwrap().len() == 2).await;
    first.remove().await.unwrap();
    assert_eq!(session.subscriptions().len(), 1);
    running.server.publish("/a", &2).await.unwrap();
    until("the second heard", || two.lock().unwrap().len() == 2).await;
    second.remove().await.unwrap();
    assert!(session.subscriptions().is_empty());
    assert_eq!(*one.lock().unwrap(), [1]);
    running.stop().await;
}

#[tokio::test]
async fn listeners_hear_deliveries_and_meta_messages() {
    let (running, robot) = start(sharded()).await;
    let heard = Heard::default();
    let metas = Arc::new(Mutex::new(0));
    let count = Arc::clone(&metas);
    let _ = robot.add_listener("/service/*", noting(&heard)).unwrap();
    let _ = robot
        .add_listener("/meta/subscribe", move |message| {
            *count.lock().unwrap() += usize::from(message.message.successful() == Some(true));
            async {}
        })
        .unwrap();
    let session = robot.handshake().await.unwrap();
    session.deliver("/service/note", "hello").unwrap();
    until("the delivery", || *heard.lock().unwrap() == ["hello"]).await;
    let _ = robot.subscribe("/a", |_| async {}).await.unwrap();
    until("the answer", || *metas.lock().unwrap() == 1).await;
    assert!(matches!(robot.add_listener("a", |_| async {}), Err(LocalError::Send(_))));
    running.stop().await;
}

struct NoRobots;

impl Policy for NoRobots {
    async fn can_handshake(&self, asked: Asked) -> Verdict {
        // A-42: asked for local sessions, too.
        let local = asked.session.as_ref().unwrap().is_local();
        let key = asked.message.ext.as_ref().is_some_and(|ext| ext.as_str().contains("secret"));
        if local && !key { Verdict::deny() } else { Verdict::allow() }
    }

    async fn can_publish(&self, channel: bayeux_http::proto::ChannelName, asked: Asked) -> Verdict {
        let _ = asked;
        if channel.as_str() == "/closed" { Verdict::deny() } else { Verdict::allow() }
    }
}

#[tokio::test]
async fn policies_decide_on_local_sessions_too() {
    let (running, robot) = start(sharded().policy(NoRobots)).await;
    let refused = robot.handshake().await.unwrap_err();
    assert_eq!(refused.to_string(), "refused: 403::handshake_denied");
    let ext = RawJson::new(r#"{"key":"secret"}"#).unwrap();
    robot.handshake_with(Some(ext)).await.unwrap();
    robot.publish("/open", &1).await.unwrap();
    assert!(matches!(robot.publish("/closed", &1).await, Err(LocalError::Refused(_))));
    assert!(matches!(robot.subscribe("/meta/*", |_| async {}).await, Err(LocalError::Refused(_))), "F-19");
    running.stop().await;
}

/// R-1 to R-8
#[tokio::test]
async fn calls_yield_results_failures_and_timeouts() {
    let builder = sharded().on_message("/service/double", async |call: Incoming| {
        match call.data::<i64>() {
            Ok(n) => call.answer(&(2 * n)),
            Err(_) => call.fail("not a number"),
        }
        .unwrap();
    });
    let (running, robot) = start(builder).await;
    robot.handshake().await.unwrap();
    let heard = Heard::default();
    let _ = robot.add_listener("/service/**", noting(&heard)).unwrap();
    assert_eq!(robot.call::<i64>("double", &21, PATIENCE).await.unwrap(), 42);
    assert_eq!(robot.call::<i64>("/double", &4, PATIENCE).await.unwrap(), 8);
    match robot.call::<i64>("double", "x", PATIENCE).await {
        Err(LocalError::Failed(data)) => assert_eq!(data.as_str(), r#""not a number""#),
        other => panic!("{other:?}"),
    }
    let none = robot.call::<i64>("nobody", &1, Duration::from_millis(50)).await;
    assert!(matches!(none, Err(LocalError::Timeout)), "R-9");
    assert!(heard.lock().unwrap().is_empty(), "R-7");
    running.stop().await;
}

/// Several publishes in one envelope: nobody hears one without the other.
#[tokio::test]
async fn batch_is_one_envelope() {
    let (running, robot) = start(sharded()).await;
    robot.handshake().await.unwrap();
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/**").await;
    robot
        .batch(|batch| {
            batch.publish("/a", &1).publish("/b", &2).publish("/a", &3);
        })
        .await
        .unwrap();
    assert_eq!(alice.poll().await, [1, 2, 3]);
    let refused = robot
        .batch(|batch| {
            batch.publish("/a", &4).publish("b", &5).publish("/c", &6);
        })
        .await;
    assert!(matches!(refused, Err(LocalError::Send(_))));
    assert!(alice.poll().await.is_empty(), "nothing of it");
    running.stop().await;
}

/// A kick reaches it, and it can come back.
#[tokio::test]
async fn server_disconnects_it_like_any_other() {
    let (running, robot) = start(sharded()).await;
    let told = Arc::new(Mutex::new(false));
    let note = Arc::clone(&told);
    let _ = robot
        .add_listener("/meta/disconnect", move |_| {
            *note.lock().unwrap() = true;
            async {}
        })
        .unwrap();
    let session = robot.handshake().await.unwrap();
    session.disconnect();
    until("it was told", || *told.lock().unwrap()).await;
    until("it is over", || !robot.is_handshaken()).await;
    assert!(robot.publish("/a", &1).await.is_err());
    robot.handshake().await.unwrap();
    let gone = robot.session().unwrap();
    gone.remove();
    until("it is gone", || !gone.is_alive()).await;
    assert!(robot.publish("/a", &1).await.is_err());
    robot.handshake().await.unwrap();
    robot.publish("/a", &1).await.unwrap();
    running.stop().await;
}

/// With nobody to speak for it, its session ends: it would never expire.
#[tokio::test]
async fn session_ends_with_its_last_clone() {
    let (running, robot) = start(sharded()).await;
    let session = robot.handshake().await.unwrap();
    let clone = robot.clone();
    drop(robot);
    assert!(clone.is_handshaken());
    drop(clone);
    until("it is removed", || !session.is_alive()).await;
    running.stop().await;
}

/// A handshake that is given up leaves no session behind.
#[tokio::test]
async fn abandoned_handshake_leaves_nothing() {
    let slow = sharded().on_session_added(|_, _| tokio::time::sleep(Duration::from_millis(50)));
    let (running, robot) = start(slow).await;
    let given_up = tokio::time::timeout(Duration::from_millis(20), robot.handshake()).await;
    assert!(given_up.is_err() && running.server.session_count() <= 1);
    until("it is gone", || running.server.session_count() == 0).await;
    robot.handshake().await.unwrap();
    running.stop().await;
}

/// However many ask at once, there is one session.
#[tokio::test]
async fn handshakes_at_once_make_one_session() {
    let (running, robot) = start(sharded()).await;
    let all = (0..8).map(|_| {
        let robot = robot.clone();
        tokio::spawn(async move { robot.handshake().await.is_ok() })
    });
    let mut made = 0;
    for handshake in all.collect::<Vec<_>>() {
        made += usize::from(handshake.await.unwrap());
    }
    assert_eq!((made, running.server.session_count()), (1, 1));
    robot.disconnect().await.unwrap();
    until("it is gone", || running.server.session_count() == 0).await;
    running.stop().await;
}

/// A-61: it takes what it is sent, however much and however slowly it listens; a listener may publish and wait.
#[tokio::test]
async fn slow_listener_loses_nothing() {
    let mut config = quick();
    config.each_transport(|options| options.max_queue = 10);
    let (running, robot) = start(Server::builder(config)).await;
    robot.handshake().await.unwrap();
    let heard = Heard::default();
    let (note, own) = (noting(&heard), robot.clone());
    let _ = robot
        .subscribe("/many", move |message: LocalMessage| {
            drop(note(message.clone()));
            let own = own.clone();
            async move { own.publish("/echo", &message.raw().as_str()).await.unwrap() }
        })
        .await
        .unwrap();
    for n in 0..1_000 {
        running.server.publish("/many", &n).await.unwrap();
    }
    until("all arrived", || heard.lock().unwrap().len() == 1_000).await;
    assert!(heard.lock().unwrap().iter().enumerate().all(|(at, n)| *n == json!(at)));
    robot.disconnect().await.unwrap();
    running.stop().await;
}

struct Stamp(&'static str);

impl LocalExtension for Stamp {
    fn outgoing(&self, message: &mut Message) -> bool {
        if message.channel.as_deref() == Some("/dropped") {
            return false;
        }
        let earlier = message.data.as_ref().map(|data| data.as_str().trim_matches('"').to_owned());
        message.data = earlier.map(|earlier| RawJson::from_text(&format!("{earlier}{}", self.0)));
        true
    }
}

/// CL-50: outgoing in reverse order.
#[tokio::test]
async fn extensions_change_and_drop_what_it_sends() {
    let seen = Heard::default();
    let note = Arc::clone(&seen);
    let builder = sharded().on_message("/a", move |message: Incoming| {
        note.lock().unwrap().push(message.data().unwrap());
        async { Outcome::Continue }
    });
    let (running, robot) = start(builder).await;
    robot.add_extension(Stamp("1"));
    robot.add_extension(Stamp("2"));
    robot.handshake().await.unwrap();
    robot.publish("/a", "x").await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["x21"]);
    assert!(matches!(robot.publish("/dropped", "x").await, Err(LocalError::Deleted)));
    running.stop().await;
}

/// Its session is its own: a remote client that knows the id has nothing of it.
#[tokio::test]
async fn remote_client_cannot_take_it_over() {
    let mut config = quick();
    config.trust_client_session = true;
    let (running, robot) = start(Server::builder(config)).await;
    let session = robot.handshake().await.unwrap();
    let mut thief = running.client().await;
    thief.id = session.id().as_str().to_owned();
    let replies = thief.exchange(&json!([thief.message("/a", json!({"id": "p", "data": 1}))])).await;
    assert_eq!(replies[0]["error"], "402::session_unknown");
    assert!(session.is_alive());
    running.stop().await;
}

/// Stops the replies to what is published on one channel.
struct Mute;

impl LocalExtension for Mute {
    fn incoming(&self, message: &mut Message) -> bool {
        message.channel.as_deref() != Some("/chat")
    }
}

/// A reply that an extension stops is an answer, too.
#[tokio::test]
async fn publish_whose_reply_is_stopped_ends() {
    let (running, robot) = start(sharded()).await;
    robot.handshake().await.unwrap();
    robot.add_extension(Mute);
    let published = tokio::time::timeout(PATIENCE, robot.publish("/chat", &"x")).await.unwrap();
    assert!(matches!(published, Err(LocalError::Deleted)), "{published:?}");
    robot.publish("/elsewhere", &"x").await.unwrap();
    running.stop().await;
}

/// Two subscribe to what is denied: each is told so, and neither's listener stays.
#[tokio::test]
async fn all_who_subscribe_in_vain_hear_so() {
    let (running, robot) = start(sharded()).await;
    robot.handshake().await.unwrap();
    let ignore = |_| std::future::ready(());
    let (first, second) =
        tokio::join!(robot.subscribe("/meta/connect", ignore), robot.subscribe("/meta/connect", ignore));
    assert!(first.is_err() && second.is_err());
    assert!(robot.subscribe("/meta/connect", ignore).await.is_err());
    running.stop().await;
}

/// Acknowledgement is for wires: a local session that asks for it hears its messages at once, as without.
#[tokio::test]
async fn local_session_needs_no_acknowledgement() {
    let mut config = quick();
    config.acknowledge = true;
    let (running, robot) = start(Server::builder(config)).await;
    robot.handshake_with(Some(RawJson::from_serialize(&json!({"ack": true})).unwrap())).await.unwrap();
    let heard = Heard::default();
    let _ = robot.subscribe("/a", noting(&heard)).await.unwrap();
    running.server.publish("/a", &1).await.unwrap();
    until("the message", || *heard.lock().unwrap() == [json!(1)]).await;
    running.stop().await;
}

/// Publishes when it is dropped.
struct Parting(Server);

impl Drop for Parting {
    fn drop(&mut self) {
        self.0.try_publish("/left", "bye").unwrap();
    }
}

/// What an application leaves in sessions and channels may use the server in its destructor.
#[tokio::test(flavor = "multi_thread")]
async fn destructors_of_attributes_may_publish() {
    let (running, robot) = start(Server::builder(quick())).await;
    let listener = running.server.local_session("listener");
    listener.handshake().await.unwrap();
    let heard = Heard::default();
    let _ = listener.subscribe("/left", noting(&heard)).await.unwrap();
    let session = robot.handshake().await.unwrap();
    session.set_attribute("parting", Parting(running.server.clone()));
    drop(session);
    robot.disconnect().await.unwrap();
    until("the session's farewell", || heard.lock().unwrap().len() == 1).await;
    let channel = running.server.create_channel_if_absent("/room").unwrap();
    channel.set_attribute("parting", Parting(running.server.clone()));
    drop(channel);
    until("the channel's farewell", || heard.lock().unwrap().len() == 2).await;
    running.stop().await;
}
