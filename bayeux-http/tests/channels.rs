//! Channels as the application sees them: creation, settings, attributes, listeners, removal (section 21.1).

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bayeux_http::proto::RawJson;
use bayeux_http::{
    Authorization, ChannelSetting, GrantAuthorizer, HttpOptions, Incoming, NewChannel, Outcome, SendError, Server,
    ServerBuilder,
};
use common::{quick, start_with, until};
use serde_json::json;

fn builder() -> ServerBuilder {
    let mut config = quick();
    config.shards = 3;
    config.sweep_period = Duration::from_millis(20);
    Server::builder(config)
}

fn server() -> Server {
    builder().build().unwrap()
}

/// A-1, C-3: the same channel, however its name is spelled.
#[tokio::test]
async fn channel_created_twice_is_one_channel() {
    let server = server();
    let first = server.create_channel_if_absent("/chat/room").unwrap();
    first.set_attribute("topic", "weather");
    let second = server.create_channel_if_absent("/chat/room/ ").unwrap();
    assert_eq!(first, second);
    assert_eq!(second.name(), "/chat/room");
    assert_eq!(second.attribute::<&str>("topic").as_deref(), Some(&"weather"));
    assert_eq!(server.channels().iter().filter(|channel| channel.name() == "/chat/room").count(), 1);
}

#[tokio::test]
async fn names_that_are_no_channels_are_errors() {
    let server = server();
    for name in ["chat", "", "/", "/a/**/b", "/a//b", "/a/*/b", "/ä", "/a\n"] {
        assert!(matches!(server.create_channel_if_absent(name), Err(SendError::Channel(_))), "{name:?}");
        assert!(server.channel(name).is_none());
    }
    assert!(server.create_channel_if_absent("/meta/other").is_err());
    assert!(server.create_channel_if_absent("/meta/connect").unwrap().is_persistent(), "A-3");
}

///
#[tokio::test]
async fn looking_for_a_channel_creates_none() {
    let server = server();
    assert!(server.channel("/a").is_none());
    assert!(server.channels().is_empty());
    assert!(server.channel("/meta/handshake").is_some());
}

/// the initialisers of the call, then the server's; those who are not first see a channel that is configured.
#[tokio::test]
async fn initialisers_run_once_and_in_order() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (servers, mine) = (Arc::clone(&log), Arc::clone(&log));
    let server = builder()
        .on_channel_created(move |channel: &mut NewChannel<'_>| {
            servers.lock().unwrap().push(format!("server's, {}", channel.settings().persistent));
            channel.set_lazy(true);
        })
        .build()
        .unwrap();
    let created = server.create_channel_with("/a", move |channel| {
        mine.lock().unwrap().push("mine".into());
        channel.set_persistent(true);
        channel.set_attribute("who", 1_u8);
    });
    let created = created.unwrap();
    assert!(created.is_persistent() && created.is_lazy());
    assert_eq!(created.attribute::<u8>("who").as_deref(), Some(&1));
    let never = |_: &mut NewChannel<'_>| panic!("it exists already");
    assert!(server.create_channel_with("/a", never).unwrap().is_persistent());
    assert_eq!(*log.lock().unwrap(), ["mine", "server's, true"]);
}

/// an authorizer of the initialiser decides on the very message that creates the channel, whichever of many
/// clients is first, and settings count from then on.
#[tokio::test]
async fn channel_is_configured_for_the_message_that_creates_it() {
    let created = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&created);
    let builder = builder().on_channel_created(move |channel: &mut NewChannel<'_>| {
        if channel.name().starts_with("/locked/") {
            count.fetch_add(1, Ordering::Relaxed);
            channel.add_authorizer(GrantAuthorizer::SUBSCRIBE);
            channel.set_persistent(true);
        }
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = running.client().await;
        client.handshake().await;
        clients.push(client);
    }
    for round in 0..10 {
        let name = format!("/locked/{round}");
        let racing = clients.iter_mut().map(|client| {
            let name = name.clone();
            async move { client.publish_error(&name, 1).await }
        });
        for error in futures_util::future::join_all(racing).await {
            assert_eq!(error, "403:denied_by_not_granting:publish_denied");
        }
        assert!(running.server.channel(&name).unwrap().is_persistent());
    }
    assert_eq!(created.load(Ordering::Relaxed), 10, "one creation each");
    running.stop().await;
}

/// unused broadcast channels go, with their settings and attributes; persistent ones, those with listeners or
/// authorizers of their own and service channels stay.
#[tokio::test]
async fn idle_channels_are_removed_and_others_stay() {
    let server = server();
    let idle = server.create_channel_if_absent("/idle").unwrap();
    idle.set_attribute("a", 1);
    server.create_channel_if_absent("/persistent").unwrap().set_persistent(true);
    let heard = server.create_channel_if_absent("/heard").unwrap().on_message(|_| async {});
    let guarded = server.create_channel_if_absent("/guarded").unwrap().add_authorizer(GrantAuthorizer::ALL);
    server.create_channel_if_absent("/service/x").unwrap();
    until("/idle is gone", || !idle.exists()).await;
    assert!(idle.attribute_names().is_empty());
    let names: Vec<_> = server.channels().iter().map(|channel| channel.name().to_owned()).collect();
    assert_eq!(names, ["/guarded", "/heard", "/persistent", "/service/x"]);
    heard.remove();
    guarded.remove();
    until("unattended ones are gone, too", || server.channels().len() == 2).await;
}

/// with everything that was its own; what listens to the name alone stays, and the next use makes a new one.
#[tokio::test]
async fn removed_channel_takes_its_own_with_it() {
    let own = Arc::new(AtomicUsize::new(0));
    let all = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&all);
    let builder = builder().on_message("/a", move |_: Incoming| {
        counts.fetch_add(1, Ordering::Relaxed);
        async {}
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    let channel = running.server.create_channel_if_absent("/a").unwrap();
    let counts = Arc::clone(&own);
    channel.on_message(move |_| {
        counts.fetch_add(1, Ordering::Relaxed);
        async {}
    });
    channel.set_lazy(true);
    channel.set_attribute("x", 1);
    alice.subscribe("/a").await;
    alice.publish("/a", 1).await;
    assert_eq!((own.load(Ordering::Relaxed), all.load(Ordering::Relaxed)), (1, 1));
    assert_eq!(channel.subscribers().len(), 1);
    channel.remove();
    assert!(!channel.exists() && channel.subscribers().is_empty() && channel.attribute_names().is_empty());
    alice.publish("/a", 2).await;
    assert!(!running.server.channel("/a").unwrap().is_lazy(), "a new one");
    assert_eq!((own.load(Ordering::Relaxed), all.load(Ordering::Relaxed)), (1, 2));
    running.stop().await;
}

///
#[tokio::test]
async fn channels_that_come_and_go_are_told() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (added, removed) = (Arc::clone(&log), Arc::clone(&log));
    let server = builder()
        .on_channel_added(move |channel| added.lock().unwrap().push(format!("added {}", channel.name())))
        .on_channel_removed(move |channel| removed.lock().unwrap().push(format!("removed {}", channel.as_str())))
        .build()
        .unwrap();
    server.create_channel_if_absent("/a").unwrap();
    until("it is told", || log.lock().unwrap().len() == 2).await;
    server.create_channel_if_absent("/b").unwrap().remove();
    assert_eq!(*log.lock().unwrap(), ["added /a", "removed /a", "added /b", "removed /b"]);
}

/// from the widest wildcard to the channel, in the order of registration; the channel is the
/// message's.
#[tokio::test]
async fn listeners_run_from_the_widest_wildcard_to_the_channel() {
    let running = start_with(builder(), HttpOptions::default()).await;
    let server = &running.server;
    let append = |tag: &'static str| {
        move |message: Incoming| async move {
            assert_eq!(message.channel.as_str(), "/a/b");
            let text: String = message.data().unwrap();
            Outcome::Data(RawJson::from_text(&format!("{text}{tag}")))
        }
    };
    for (name, tags) in [("/a/b", ["5", "6"]), ("/a/*", ["3", "4"]), ("/a/**", ["1", "2"])] {
        let channel = server.create_channel_if_absent(name).unwrap();
        for tag in tags {
            channel.on_message(append(tag));
        }
    }
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/a/b").await;
    assert_eq!(alice.publish("/a/b", "").await[0]["data"], "123456");
    server.publish("/a/b", "0").await.unwrap();
    assert_eq!(alice.poll().await, ["0123456"], "A-10");
    running.stop().await;
}

/// the channel's listeners before the server's; what they deliver rides in the response of the subscribe (B17).
#[tokio::test]
async fn subscription_listeners_of_the_channel_come_before_the_servers() {
    let builder = builder().on_subscribed(|subscribed| async move {
        subscribed.session.deliver("/snapshot", "server").unwrap();
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let channel = running.server.create_channel_if_absent("/price").unwrap();
    channel.on_subscribed(|subscribed| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        subscribed.session.deliver("/snapshot", "channel").unwrap();
    });
    let log = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&log);
    channel.on_unsubscribed(move |gone| {
        notes.lock().unwrap().push(gone.message.is_some());
        async {}
    });
    let mut alice = running.client().await;
    alice.handshake().await;
    let response = alice.try_subscribe("/price").await;
    let data: Vec<_> = response.iter().filter_map(|message| message.get("data")).collect();
    assert_eq!(data, ["channel", "server"]);
    assert_eq!(response[2]["successful"], true);
    let unsubscribe = alice.message("/meta/unsubscribe", json!({"id": "u", "subscription": "/price"}));
    alice.exchange(&json!([unsubscribe])).await;
    assert_eq!(*log.lock().unwrap(), [true], "told before the reply, once");
    running.server.session(&alice.id).unwrap().subscribe("/price").unwrap();
    until("the application's subscription is told", || log.lock().unwrap().len() == 1).await;
    running.server.session(&alice.id).unwrap().unsubscribe("/price").unwrap();
    until("and its end", || *log.lock().unwrap() == [true, false]).await;
    running.stop().await;
}

/// The setting that needs no code: the last value, in the response of the subscribe (B17).
#[tokio::test]
async fn retained_value_arrives_with_the_subscription() {
    let running = start_with(builder(), HttpOptions::default()).await;
    let channel = running.server.create_channel_with("/price", |channel| channel.set_retained(true)).unwrap();
    channel.publish(&41).await.unwrap();
    channel.publish(&42).await.unwrap();
    for _ in 0..6 {
        let mut client = running.client().await;
        client.handshake().await;
        let response = client.try_subscribe("/price").await;
        assert_eq!(response[0], json!({"channel": "/price", "data": 42}));
        assert_eq!(response[1]["successful"], true);
    }
    running.stop().await;
}

/// B18, B19: a lazy message wakes no held connect; the lazy timeout does.
#[tokio::test]
async fn lazy_messages_wait_for_the_lazy_timeout() {
    let running = start_with(
        {
            let mut config = quick();
            config.shards = 2;
            config.each_transport(|options| options.timeout = Duration::from_secs(20));
            Server::builder(config)
        },
        HttpOptions::default(),
    )
    .await;
    let channel = running.server.create_channel_if_absent("/status").unwrap();
    channel.set_lazy_timeout(Some(Duration::from_millis(200)));
    assert_eq!((channel.is_lazy(), channel.lazy_timeout()), (true, Some(Duration::from_millis(200))));
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/status").await;
    alice.subscribe("/news").await;
    alice.hold(&json!([alice.connect(None)])).await;
    until("the connect is held", || running.server.session(&alice.id).is_some()).await;
    let begun = std::time::Instant::now();
    channel.publish("a").await.unwrap();
    let response = alice.response().await.json();
    assert_eq!(response[0]["data"], "a");
    assert!(begun.elapsed() >= Duration::from_millis(200), "not woken at once");
    // A message that is lazy by itself comes with the next ordinary one.
    alice.hold(&json!([alice.connect(None)])).await;
    let news = running.server.create_channel_if_absent("/news").unwrap();
    news.publish_lazy("b").await.unwrap();
    news.publish("c").await.unwrap();
    let response = alice.response().await.json();
    assert_eq!((&response[0]["data"], &response[1]["data"]), (&json!("b"), &json!("c")));
    channel.set(ChannelSetting::Lazy(false));
    assert_eq!(channel.lazy_timeout(), None);
    running.stop().await;
}

/// a listener makes a message lazy.
#[tokio::test]
async fn listener_makes_a_message_lazy() {
    let builder = builder().on_message("/a", |message: Incoming| async move { message.set_lazy(true) });
    let running = start_with(builder, HttpOptions::default()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/a").await;
    alice.hold(&json!([alice.connect(None)])).await;
    let mut bob = running.client().await;
    bob.handshake().await;
    assert_eq!(bob.publish_error("/a", 1).await, json!(null));
    // The hold of 300 ms ends by its timeout, long before the lazy timeout of 5 s, and takes the message along.
    let response = alice.response().await.json();
    assert_eq!(response[0]["data"], 1);
    running.stop().await;
}

///
#[tokio::test]
async fn publisher_is_spared_where_the_channel_says_so() {
    let running = start_with(builder(), HttpOptions::default()).await;
    let channel = running.server.create_channel_if_absent("/chat").unwrap();
    channel.set_broadcast_to_publisher(false);
    channel.set_persistent(true);
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/chat").await;
    let mut bob = running.client().await;
    bob.handshake().await;
    bob.subscribe("/chat").await;
    assert_eq!(alice.publish("/chat", 1).await.len(), 1, "the reply alone");
    assert_eq!(bob.poll().await, [1]);
    let session = running.server.session(&alice.id).unwrap();
    channel.publish_from(&session, &2).await.unwrap();
    assert!(alice.poll().await.is_empty());
    assert_eq!(bob.poll().await, [2]);
    let mut names: Vec<_> = channel.subscribers().iter().map(|session| session.id().as_str().to_owned()).collect();
    names.sort();
    let mut both = [alice.id.clone(), bob.id.clone()];
    both.sort();
    assert_eq!(names, both);
    running.stop().await;
}

/// hooks can be taken out again.
#[tokio::test]
async fn registration_can_be_taken_back() {
    let running = start_with(builder(), HttpOptions::default()).await;
    let server = &running.server;
    let veto = server.on_message("/a", |_: Incoming| async { Outcome::Veto }).unwrap();
    let authorizer = async |_, _, _| Authorization::deny("closed");
    let closed = server.add_authorizer("/a", authorizer).unwrap();
    let mut alice = running.client().await;
    alice.handshake().await;
    assert_eq!(alice.publish_error("/a", 1).await, "403:closed:publish_denied");
    closed.remove();
    assert_eq!(alice.publish_error("/a", 1).await, "404::message_deleted");
    veto.remove();
    assert_eq!(alice.publish_error("/a", 1).await, json!(null));
    running.stop().await;
}

/// C-21, Z-4: nobody publishes on wildcards or meta channels.
/// whether anybody gets it, whichever shard they are in, and whatever hooks say.
#[tokio::test]
async fn publish_says_whether_it_reached_anybody() {
    let mut config = quick();
    config.shards = 4;
    let builder = Server::builder(config)
        .on_message("/vetoed", async |_: Incoming| Outcome::Veto)
        .on_message("/slow", async |_: Incoming| tokio::time::sleep(Duration::from_millis(20)).await)
        .on_message("/asks", async |message: Incoming| {
            let refused = message.server().publish_confirmed("/other", &1).await;
            assert!(matches!(refused, Err(SendError::InHook)));
        });
    let running = start_with(builder, HttpOptions::default()).await;
    let server = &running.server;
    let mut sessions = Vec::new();
    for n in 0..8 {
        let mut client = running.client().await;
        client.handshake().await;
        let name = format!("/only/{n}");
        assert!(!server.publish_confirmed(&name, &0).await.unwrap());
        client.subscribe(&name).await;
        assert!(server.publish_confirmed(&name, &0).await.unwrap(), "{name}");
        let session = server.session(&client.id).unwrap();
        assert!(session.deliver_confirmed("/service/x", &1).await.unwrap());
        sessions.push((client, session));
    }
    let (client, session) = &mut sessions[0];
    for name in ["/vetoed", "/slow", "/asks"] {
        client.subscribe(name).await;
        assert_eq!(server.publish_confirmed(name, &1).await.unwrap(), name != "/vetoed", "{name}");
    }
    session.on_message(|message| message.channel() != "/dropped");
    client.subscribe("/dropped").await;
    assert!(!server.publish_confirmed("/dropped", &1).await.unwrap());
    assert!(!session.deliver_confirmed("/dropped", &1).await.unwrap());
    assert!(!server.publish_confirmed("/service/nobody", &1).await.unwrap(), "service messages go to nobody");
    session.remove();
    assert!(!session.deliver_confirmed("/x", &1).await.unwrap());
    running.stop().await;
}

#[tokio::test]
async fn publishing_on_wildcards_and_meta_channels_is_refused() {
    let server = server();
    let wild = server.create_channel_if_absent("/a/*").unwrap();
    assert!(wild.is_wild() && matches!(wild.publish(&1).await, Err(SendError::Channel(_))));
    let meta = server.channel("/meta/connect").unwrap();
    assert!(meta.is_meta() && matches!(meta.publish(&1).await, Err(SendError::Meta)));
    assert!(server.create_channel_if_absent("/service/x").unwrap().is_service());
}
