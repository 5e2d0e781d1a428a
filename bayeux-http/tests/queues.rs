//! A session's queue as the application sees it: conflation, limits, overflow.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::sync::{Arc, Mutex};

use bayeux_http::proto::RawJson;
use bayeux_http::{ChannelQueue, HttpOptions, Overflow, RemovalReason, Server};
use common::{quick, sharded, start_with, until};
use serde_json::{Value, json};

fn ask(price: &RawJson) -> Option<String> {
    price.to::<Value>().ok()?.get("symbol")?.as_str().map(str::to_owned)
}

/// Conflation in three lines: of each symbol the last price only, and everything else as it is.
#[tokio::test]
async fn prices_are_conflated_on_their_way_out() {
    // One shard: otherwise there is no order between a publish and a delivery.
    let running = start_with(Server::builder(quick()), HttpOptions::default()).await;
    let (mut alice, session) = running.with_session().await;
    session.on_dequeue(|queue| {
        queue.keep_latest(|event| if event.channel() == "/prices" { ask(&event.thaw().data?) } else { None });
    });
    alice.subscribe("/prices").await;
    for (symbol, price) in [("GOOG", 1), ("AAPL", 2), ("GOOG", 3), ("AAPL", 4), ("GOOG", 5)] {
        running.server.publish("/prices", &json!({"symbol": symbol, "price": price})).await.unwrap();
        session.deliver("/note", &price).unwrap();
    }
    let got: Vec<Value> = alice.poll().await.iter().map(|data| data.get("price").unwrap_or(data).clone()).collect();
    assert_eq!(got, [1, 2, 3, 4, 4, 5, 5]);
    running.stop().await;
}

#[tokio::test]
async fn queue_listener_sees_what_was_added() {
    let running = start_with(sharded(), HttpOptions::default()).await;
    let (mut alice, session) = running.with_session().await;
    let lengths = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&lengths);
    let listener = session.on_queued(move |queue| note.lock().unwrap().push((queue.len(), queue.bytes() > 0)));
    for n in 0..3 {
        session.deliver("/a", &n).unwrap();
    }
    assert_eq!(*lengths.lock().unwrap(), [(1, true), (2, true), (3, true)]);
    listener.remove();
    session.deliver("/a", &3).unwrap();
    assert_eq!(lengths.lock().unwrap().len(), 3);
    assert_eq!(alice.poll().await, [0, 1, 2, 3]);
    running.stop().await;
}

/// full by the session's own limits; the listener makes room, or drops, or lets the policy act.
#[tokio::test]
async fn full_queue_asks_its_listener_first() {
    let overflows = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&overflows);
    let builder = sharded().on_queue_overflow(move |overflow| {
        note.lock().unwrap().push((overflow.channel.to_string(), overflow.policy, overflow.messages));
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let (mut alice, session) = running.with_session().await;
    session.set_max_queue(Some(2));
    session.set_overflow(Some(Overflow::DropOldest));
    let from = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&from);
    session.on_queue_maxed(move |queue, message| {
        *seen.lock().unwrap() = message.from().map(|from| from.id().clone());
        match message.data().unwrap().as_str() {
            "3" => {
                queue.remove(1);
                true
            }
            "4" => false,
            _ => true,
        }
    });
    let (_, bob) = running.with_session().await;
    for n in 1..=5 {
        session.deliver_from(&bob, "/a", &n).unwrap();
    }
    assert_eq!(*from.lock().unwrap(), Some(bob.id().clone()));
    assert_eq!(alice.poll().await, [3, 5]);
    assert_eq!(*overflows.lock().unwrap(), [("/a".to_owned(), Overflow::DropOldest, 1)]);
    running.stop().await;
}

/// A listener that panics, or that lies, cannot make a queue grow.
#[tokio::test]
async fn bad_queue_listeners_are_harmless() {
    let running = start_with(sharded(), HttpOptions::default()).await;
    let (mut alice, session) = running.with_session().await;
    session.set_max_queue(Some(3));
    session.set_overflow(Some(Overflow::DropNewest));
    session.on_queued(|_| panic!("as it was told"));
    session.on_dequeue(|_| panic!("as it was told"));
    session.on_queue_maxed(|_, _| panic!("as it was told"));
    for n in 0..10 {
        session.deliver("/a", &n).unwrap();
    }
    assert_eq!(alice.poll().await, [0, 1, 2]);
    running.stop().await;
}

/// Per server, per channel, per session; the session's end is told with its reason.
#[tokio::test]
async fn policies_act_per_channel_and_per_session() {
    let gone = Arc::new(Mutex::new(None));
    let note = Arc::clone(&gone);
    let builder = Server::builder(quick())
        .channel("/price", |channel| {
            channel.set_queue(Some(ChannelQueue { messages: 1, overflow: Overflow::KeepLatest }));
        })
        .on_session_removed(move |_, reason| {
            *note.lock().unwrap() = Some(reason);
            async {}
        });
    let running = start_with(builder, HttpOptions::default()).await;
    let (mut alice, _) = running.with_session().await;
    let (mut bob, session) = running.with_session().await;
    for client in [&mut alice, &mut bob] {
        client.subscribe("/price").await;
        client.subscribe("/chat").await;
    }
    session.set_max_queue_bytes(Some(200));
    for n in 0..3 {
        running.server.publish("/price", &n).await.unwrap();
        running.server.publish("/chat", &n).await.unwrap();
    }
    assert_eq!(alice.poll().await, [0, 1, 2, 2]);
    running.server.publish("/chat", &"x".repeat(200)).await.unwrap();
    until("bob is removed", || gone.lock().unwrap().is_some()).await;
    assert_eq!(*gone.lock().unwrap(), Some(RemovalReason::QueueOverflow));
    assert!(!session.is_alive());
    running.stop().await;
}
