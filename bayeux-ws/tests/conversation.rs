//! Whole conversations over real sockets: pushes, held connects, takeover between connections, in one shard and in
//! several; what happens when one side is slow or stops.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::time::Duration;

use bayeux_ws::{Config, Incoming, RemovalReason, ResponseHeaderError, Server, WsOptions};
use common::{quick, start, start_with, until};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

fn sharded(shards: u16) -> Config {
    let mut config = quick();
    config.shards = shards;
    config
}

/// TW-9, E-150: a push comes at once, the connect stays held until its timeout.
#[tokio::test]
async fn push_comes_during_a_held_connect() {
    let running = start(quick()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/chat/*").await;
    alice.send(&json!([alice.connect(None)])).await;
    running.server.publish("/chat/a", &json!({"n": 1.50})).await.unwrap();
    assert_eq!(alice.frame().await, [json!({"channel": "/chat/a", "data": {"n": 1.5}})]);
    assert_eq!(alice.frame().await, [json!({"id": "c", "channel": "/meta/connect", "successful": true})]);
}

/// Z-6: other envelopes are read and answered while a connect is held.
#[tokio::test]
async fn messages_are_answered_while_a_connect_is_held() {
    let mut config = quick();
    config.websocket.timeout = Duration::from_secs(60);
    let running = start(config).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.send(&json!([alice.connect(None)])).await;
    for n in 0..3 {
        let publish = alice.message("/service/x", json!({"id": n.to_string(), "data": n}));
        let replies = alice.exchange(&json!([publish])).await;
        assert_eq!(replies, [json!({"id": n.to_string(), "channel": "/service/x", "successful": true})]);
    }
}

/// E-155: `[subscribe, publish]` in one frame: replies in one frame, in order.
#[tokio::test]
async fn batched_replies_come_in_one_frame() {
    let running = start(quick()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    let subscribe = alice.message("/meta/subscribe", json!({"id": "1", "subscription": "/a"}));
    let publish = alice.message("/b", json!({"id": "2", "data": 1}));
    let replies = alice.exchange(&json!([subscribe, publish])).await;
    let ids: Vec<_> = replies.iter().map(|reply| reply["id"].clone()).collect();
    assert_eq!(ids, ["1", "2"], "{replies:?}");
}

/// E-153, L-41: the first connection lost, a second one takes the session over, in whatever shard it was accepted.
#[tokio::test]
async fn second_connection_takes_the_session_over() {
    for shards in [1, 2, 4] {
        let running = start(sharded(shards)).await;
        // More of them than shards, so that most were accepted in another shard than their session's.
        for _ in 0..8 {
            let mut first = running.client().await;
            first.handshake().await;
            first.subscribe("/news").await;
            let mut second = running.client().await;
            second.id = first.id.clone();
            drop(first);
            let replies = second.exchange(&json!([second.connect(0)])).await;
            assert_eq!(replies[0]["successful"], true, "{shards} shards: {replies:?}");
            running.server.publish("/news", &1).await.unwrap();
            assert_eq!(second.frame().await, [json!({"channel": "/news", "data": 1})]);
            let disconnect = second.message("/meta/disconnect", json!({"id": "d"}));
            assert_eq!(second.exchange(&json!([disconnect])).await[0]["successful"], true);
        }
        assert_eq!(running.server.session_count(), 0);
    }
}

/// L-41: the old socket stays open and is not used for pushes any more.
#[tokio::test]
async fn old_connection_gets_nothing_after_a_takeover() {
    let running = start(sharded(2)).await;
    let mut first = running.client().await;
    first.handshake().await;
    first.subscribe("/news").await;
    let mut second = running.client().await;
    second.id = first.id.clone();
    second.exchange(&json!([second.connect(0)])).await;
    running.server.publish("/news", &1).await.unwrap();
    assert_eq!(second.frame().await, [json!({"channel": "/news", "data": 1})]);
    // The first frame on the old connection is what it asks for itself.
    let publish = first.message("/service/x", json!({"id": "p", "data": 1}));
    assert_eq!(first.exchange(&json!([publish])).await[0]["id"], "p");
}

/// E-66, H-11: a foreign client id, of our shape or not, is unknown; the connection stays.
#[tokio::test]
async fn foreign_client_ids_are_unknown() {
    let running = start(sharded(4)).await;
    let mut alice = running.client().await;
    let zeros = "0".repeat(27);
    let beyond = format!("zz{}", "0".repeat(25));
    for id in ["", "nobody", "é", &zeros, &beyond] {
        let connect = json!([{"id": "1", "channel": "/meta/connect", "clientId": id}]);
        let replies = alice.exchange(&connect).await;
        assert_eq!(replies[0]["error"], "402::session_unknown", "{id}");
        assert_eq!(replies[0]["advice"]["reconnect"], "handshake", "{id}");
    }
    alice.handshake().await;
    let mut mallory = running.client().await;
    mallory.handshake().await;
    let stolen = json!([{"id": "1", "channel": "/service/x", "clientId": alice.id, "data": 1}]);
    assert_eq!(mallory.exchange(&stolen).await[0]["error"], "402::session_unknown");
}

/// What one connection publishes arrives in order, across shards.
#[tokio::test]
async fn order_is_kept_across_shards() {
    let running = start(sharded(4)).await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut reader = running.client().await;
        reader.handshake().await;
        reader.subscribe("/numbers").await;
        readers.push(reader);
    }
    let mut writer = running.client().await;
    writer.handshake().await;
    for n in 0..500 {
        let publish = writer.message("/numbers", json!({"data": n}));
        writer.send(&json!([publish])).await;
    }
    for reader in &mut readers {
        let mut numbers = Vec::new();
        while numbers.len() < 500 {
            for message in reader.frame().await {
                numbers.push(message["data"].as_u64().unwrap());
            }
        }
        assert!(numbers.iter().copied().eq(0..500), "{numbers:?}");
    }
}

/// E-157: `messagesPerFrame` 1 and 0: as many frames as messages, or one.
#[tokio::test]
async fn frames_have_as_many_messages_as_the_option_says() {
    for (option, sizes) in [(1, vec![1, 1, 1]), (2, vec![2, 1]), (0, vec![3])] {
        let mut options = WsOptions::default();
        options.messages_per_frame = option;
        // What a listener delivers leaves in one turn.
        let builder = Server::builder(quick()).on_message("/service/three", |message: Incoming| async move {
            for n in 0..3 {
                message.deliver(&n).unwrap();
            }
        });
        let running = start_with(builder, options).await;
        let mut alice = running.client().await;
        alice.handshake().await;
        let publish = alice.message("/service/three", json!({"id": "p", "data": 1}));
        alice.send(&json!([publish])).await;
        let mut deliveries = Vec::new();
        while deliveries.iter().sum::<usize>() < 3 {
            let frame = alice.frame().await;
            let count = frame.iter().filter(|message| message.get("data").is_some()).count();
            deliveries.extend((count > 0).then_some(count));
        }
        assert_eq!(deliveries, sizes, "messagesPerFrame {option}");
    }
}

/// Z-11, TW-22: a reader so slow that its queue overflows loses its session and its connection; nobody else notices.
#[tokio::test]
async fn slow_reader_is_cut_and_nobody_else_notices() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut config = quick();
    config.websocket.max_queue = 100;
    let builder = Server::builder(config).on_session_removed(move |session, reason| {
        let tell = tell.clone();
        async move {
            let _ = tell.send((session.id().clone(), reason));
        }
    });
    let running = start_with(builder, WsOptions::default()).await;
    let mut slow = running.client().await;
    slow.handshake().await;
    slow.subscribe("/flood").await;
    let mut quick = running.client().await;
    quick.handshake().await;
    quick.subscribe("/flood").await;
    let data = "x".repeat(100_000);
    let mut received = 0;
    let removed = loop {
        running.server.publish("/flood", &data).await.unwrap();
        assert_eq!(quick.frame().await[0]["channel"], "/flood");
        received += 1;
        assert!(received < 2_000, "200 MB and no overflow");
        if let Ok(removed) = told.try_recv() {
            break removed;
        }
    };
    assert_eq!((removed.0.as_str(), removed.1), (slow.id.as_str(), RemovalReason::QueueOverflow));
    let publish = quick.message("/service/x", json!({"id": "p", "data": 1}));
    assert_eq!(quick.exchange(&json!([publish])).await[0]["id"], "p");
    // Cut: what was on its way may still come, then it ends.
    while slow.next().await.is_some() {}
}

/// TW-24: when the server stops, connections are closed 1001, held connects answered before.
#[tokio::test]
async fn stop_answers_held_connects_and_closes_1001() {
    let mut config = sharded(2);
    config.websocket.timeout = Duration::from_secs(60);
    let running = start(config).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.send(&json!([alice.connect(None)])).await;
    // Answered behind the connect, so that the connect is held by now.
    let publish = alice.message("/service/x", json!({"id": "p", "data": 1}));
    alice.send(&json!([publish])).await;
    assert_eq!(alice.frame().await[0]["id"], "p");
    let mut idle = running.client().await;
    let stopped = tokio::spawn(running.stop());
    let reply = alice.frame().await.remove(0);
    assert_eq!((&reply["id"], &reply["successful"]), (&json!("c"), &json!(true)), "{reply}");
    assert_eq!(alice.closed().await.0, 1001);
    assert_eq!(idle.closed().await.0, 1001);
    stopped.await.unwrap();
}

/// L-46, E-159: closing a WebSocket removes nothing at once; the session expires, and is removed with that reason.
#[tokio::test]
async fn session_of_a_lost_connection_expires() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut config = quick();
    config.websocket.max_interval = Duration::from_millis(200);
    let builder = Server::builder(config).on_session_removed(move |session, reason| {
        let tell = tell.clone();
        async move {
            // Its id still resolves.
            let _ = tell.send((session.is_alive(), reason));
        }
    });
    let running = start_with(builder, WsOptions::default()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    drop(alice);
    assert_eq!(told.recv().await, Some((true, RemovalReason::Expired)));
    until("the session is gone", || running.server.session_count() == 0).await;
}

/// TW-23: the server closes a connection whose session was disconnected and which the client keeps open.
#[tokio::test]
async fn connection_of_a_disconnected_session_is_closed() {
    let mut config = quick();
    config.linger = Duration::from_millis(100);
    let running = start(config).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    running.server.session(&alice.id).unwrap().disconnect();
    let farewell = alice.frame().await;
    assert_eq!(farewell.last().map(|message| message["channel"].clone()), Some(Value::from("/meta/disconnect")));
    assert_eq!(alice.closed().await.0, 1000);
}

/// What the upgrade said is there for each message; a response to set headers of is not.
#[tokio::test]
async fn hooks_read_the_upgrade_and_cannot_set_headers() {
    let server = Server::builder(quick()).on_message("/service/who", async |message: Incoming| {
        let context = message.context.as_ref().unwrap();
        assert_eq!((context.method().as_str(), context.uri().path()), ("GET", "/cometd/connect"));
        assert_eq!(context.set_response_header("X-My-Header", "mine"), Err(ResponseHeaderError::NoResponse));
        let upgrade = context.headers().get("upgrade").unwrap().to_str().unwrap().to_owned();
        message.answer(&upgrade).unwrap();
    });
    let running = start_with(server, WsOptions::default()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    for n in 0..2 {
        let ask = alice.message("/service/who", json!({"id": n.to_string()}));
        alice.send(&json!([ask])).await;
        let answer = alice.frame().await;
        assert_eq!(answer[0]["data"], "websocket", "{answer:?}");
        alice.frame().await;
    }
}

/// A client that reads late: what the kernel did not take at once comes all the same, in order, and the answers to
/// pings come between frames, not within them.
#[tokio::test]
async fn nothing_mixes_where_the_client_reads_late() {
    const EVENTS: u64 = 1_500;
    const PINGS: usize = 50;
    let running = start(quick()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/large").await;
    let padding = "x".repeat(8 * 1024);
    for n in 0..EVENTS {
        running.server.publish("/large", &json!([n, padding])).await.unwrap();
        if n % 30 == 0 {
            alice.socket.send(Message::Ping(n.to_string().into())).await.unwrap();
        }
    }
    let (mut events, mut pongs) = (0, 0);
    while events < EVENTS || pongs < PINGS {
        match alice.next().await.expect("the connection stays") {
            Message::Text(text) => {
                let messages: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(messages[0]["data"][0], events);
                events += 1;
            }
            Message::Pong(_) => pongs += 1,
            other @ (Message::Binary(_) | Message::Ping(_) | Message::Close(_) | Message::Frame(_)) => {
                panic!("{other:?}")
            }
        }
    }
    assert_eq!((events, pongs), (EVENTS, PINGS));
}

/// Envelopes that come together are processed together, and answered as if they had come one by one.
#[tokio::test]
async fn envelopes_that_come_together_are_answered_in_order() {
    for shards in [1, 3] {
        let running = start(sharded(shards)).await;
        let mut alice = running.client().await;
        alice.handshake().await;
        alice.subscribe("/a").await;
        for n in 0..200 {
            let publish = json!([alice.message("/a", json!({"id": n.to_string(), "data": n}))]);
            alice.socket.feed(Message::text(publish.to_string())).await.unwrap();
        }
        alice.socket.flush().await.unwrap();
        for n in 0..200 {
            assert_eq!(alice.frame().await, [json!({"channel": "/a", "data": n})], "{shards} shards");
            assert_eq!(alice.frame().await[0]["id"], n.to_string());
        }
    }
}
