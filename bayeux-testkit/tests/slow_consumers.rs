//! Queues that hooks edit, and slow clients that harm nobody else.
//!
//! Rule: a session's queue is bounded in messages and bytes, and the application may edit it when something is added,
//! when it is about to be sent, and when it is full. Risk: an edit leaves replies, acknowledgements or
//! lazy timers pointing at messages that are gone; a hook that answers nonsense makes a queue grow for ever. Method:
//! each hook on both transports, with and without acknowledgements, with 1, 2 and 4 shards.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bayeux_core::{ChannelQueue, ChannelSetting, Command, Notice, Overflow, RemovalReason};
use bayeux_testkit::{Client, Http, Options, Via, World, event, pattern};
use serde_json::{Value, json};

const SHARDS: [u16; 3] = [1, 2, 4];

fn world(shards: u16) -> World {
    let mut options = Options::shards(shards);
    options.config.acknowledge = true;
    World::new(options)
}

fn deliver(world: &mut World, client: &Client, channel: &str, data: &Value) {
    let to = client.session(world);
    world.command(Command::Deliver { to, event: event(channel, data), from: None });
}

/// What the events of a response say, without its replies.
fn data_of(messages: &[Value]) -> Vec<Value> {
    messages
        .iter()
        .filter(|message| message.get("successful").is_none())
        .map(|message| message["data"].clone())
        .collect()
}

fn poll(world: &mut World, client: &mut Client) -> Vec<Value> {
    let request = client.connect(world);
    data_of(world.exchange(request.exchange.expect("over HTTP")).messages())
}

/// Conflation on the way out: of prices only the last one of each symbol.
#[test]
fn queue_is_conflated_before_it_is_sent() {
    for shards in SHARDS {
        let mut world = world(shards);
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        world.hooks().on_dequeue(|_, queue| queue.keep_latest(|event| Some(event.channel().clone())));
        for (channel, price) in [("/goog", 1), ("/aapl", 2), ("/goog", 3), ("/goog", 4), ("/aapl", 5)] {
            deliver(&mut world, &alice, channel, &json!(price));
        }
        assert_eq!(poll(&mut world, &mut alice), [json!(4), json!(5)]);
    }
}

/// Over WebSocket a slow reader is what makes a queue: what it has not taken is conflated, replies keep their places.
#[test]
fn slow_websocket_gets_the_latest_only() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.writes = bayeux_testkit::Writes::Manual;
        let mut world = World::new(options);
        world.hooks().on_queued(|_, queue| queue.keep_latest(|event| Some(event.channel().clone())));
        let mut alice = Client::websocket(&mut world);
        let socket = alice.socket();
        let write = |world: &mut World| {
            while world.is_writing(socket) {
                world.written(socket);
            }
        };
        alice.send(&mut world, json!([{"channel": "/meta/handshake", "version": "1.0"}]));
        write(&mut world);
        let id = world.socket(socket).messages()[0]["clientId"].as_str().expect("an id").to_owned();
        alice.set_id(&id);
        alice.send(&mut world, json!([{"channel": "/meta/connect"}]));
        write(&mut world);
        world.take_frames(socket);
        for n in 0..10 {
            deliver(&mut world, &alice, "/price", &json!(n));
        }
        let publish = alice.send(&mut world, json!([{"channel": "/other", "data": 1}]));
        for n in 10..20 {
            deliver(&mut world, &alice, "/price", &json!(n));
        }
        write(&mut world);
        let messages: Vec<Value> = world.take_frames(socket).into_iter().flat_map(|frame| frame.messages).collect();
        assert_eq!(data_of(&messages), [json!(0), json!(19)], "the first was on its way");
        assert!(messages.iter().any(|message| message["id"] == publish.ids[0].as_str()), "{messages:?}");
    }
}

/// What a hook takes out of a queue that is acknowledged is gone; what was sent already is not the hook's any more.
#[test]
fn edits_and_acknowledgements_agree() {
    for shards in SHARDS {
        let mut world = world(shards);
        let mut alice = Client::long_polling(&mut world);
        let Via::Http(browser, http) = alice.via() else { unreachable!("over HTTP") };
        let post = |world: &mut World, message: Value| {
            let key = world.post(browser, http, &message.to_string());
            world.exchange(key).messages().to_vec()
        };
        let hello = json!({"channel": "/meta/handshake", "version": "1.0", "ext": {"ack": true}});
        let id = post(&mut world, hello)[0]["clientId"].as_str().expect("an id").to_owned();
        alice.set_id(&id);
        let connect = |ack: u64| {
            let advice = json!({"timeout": 0});
            json!({"channel": "/meta/connect", "clientId": id, "connectionType": "long-polling", "ext": {"ack": ack}, "advice": advice})
        };
        post(&mut world, connect(0));
        for n in 0..3 {
            deliver(&mut world, &alice, "/a", &json!(n));
        }
        assert_eq!(data_of(&post(&mut world, connect(1))), [json!(0), json!(1), json!(2)]);
        world.hooks().on_dequeue(|_, queue| {
            queue.retain(|event| event.channel() == "/b");
        });
        for (channel, n) in [("/a", 3), ("/b", 4), ("/a", 5)] {
            deliver(&mut world, &alice, channel, &json!(n));
        }
        // The second batch was lost: all of it comes again, and of the new ones what the hook left.
        let again = post(&mut world, connect(1));
        assert_eq!(data_of(&again), [json!(0), json!(1), json!(2), json!(4)]);
        assert_eq!(again.last().expect("a reply")["ext"]["ack"], 3);
        assert_eq!(data_of(&post(&mut world, connect(3))), [] as [Value; 0]);
    }
}

/// Where a hook empties the queue, the connect that was woken for it is answered all the same.
#[test]
fn hook_may_take_everything() {
    for shards in SHARDS {
        for websocket in [false, true] {
            let mut world = world(shards);
            let mut alice = if websocket { Client::websocket(&mut world) } else { Client::long_polling(&mut world) }
                .connected(&mut world);
            world.hooks().on_dequeue(|_, queue| queue.clear());
            let request = alice.connect(&mut world);
            deliver(&mut world, &alice, "/a", &json!(1));
            assert_eq!(alice.data(&world), [] as [Value; 0]);
            world.advance(Duration::from_secs(30));
            assert_eq!(alice.reply(&world, &request).expect("a reply")["successful"], true);
        }
    }
}

/// the hook may make room, drop the message, or leave it to the policy; it cannot make the queue grow.
#[test]
fn full_queue_asks_first() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.each_transport(|options| {
            options.max_queue = 3;
            options.overflow = Overflow::DropNewest;
        });
        let mut world = World::new(options);
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&asked);
        world.hooks().on_queue_maxed(move |_, queue, event| {
            let data = event.thaw().data.expect("data").as_str().to_owned();
            note.lock().expect("no rule panicked").push(data.clone());
            match data.as_str() {
                "3" => {
                    queue.remove(0);
                    true
                }
                "4" => false,
                _ => true,
            }
        });
        world.take_notices();
        for n in 0..6 {
            deliver(&mut world, &alice, "/a", &json!(n));
        }
        let overflows: Vec<_> = world
            .take_notices()
            .into_iter()
            .filter_map(|notice| {
                let Notice::Overflowed { policy, messages, channel, .. } = notice else { return None };
                Some((policy, messages, channel.to_string()))
            })
            .collect();
        assert_eq!(overflows, [(Overflow::DropNewest, 1, "/a".to_owned())], "the last one only");
        assert_eq!(*asked.lock().expect("no rule panicked"), ["3", "4", "5"]);
        assert_eq!(poll(&mut world, &mut alice), [json!(1), json!(2), json!(3)]);
    }
}

/// A client that acknowledges and never reads: what was sent to it counts, too.
#[test]
fn client_that_never_acknowledges_is_removed() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.acknowledge = true;
        options.config.each_transport(|options| options.max_queue = 100);
        let mut world = World::new(options);
        let browser = world.browser();
        let hello = json!({"channel": "/meta/handshake", "version": "1.0", "ext": {"ack": true}});
        let key = world.post(browser, Http::default(), &hello.to_string());
        let id = world.exchange(key).messages()[0]["clientId"].as_str().expect("an id").to_owned();
        let alice = Client::over(Via::Http(browser, Http::default())).with_id(&id);
        let mut sent = 0;
        while world.is_alive(&id) && sent < 1_000 {
            let connect = json!({"channel": "/meta/connect", "clientId": id, "connectionType": "long-polling", "ext": {"ack": 0}});
            world.post(browser, Http::default(), &connect.to_string());
            deliver(&mut world, &alice, "/a", &json!(sent));
            sent += 1;
        }
        assert_eq!(sent, 101, "{shards} shards");
        let reasons: Vec<_> = world
            .take_notices()
            .into_iter()
            .filter_map(|notice| {
                let Notice::SessionRemoved { reason, .. } = notice else { return None };
                Some(reason)
            })
            .collect();
        assert_eq!(reasons, [RemovalReason::QueueOverflow]);
    }
}

/// One that does not read costs the others nothing: they get everything, and its queue stays within its limit.
#[test]
fn slow_session_harms_nobody_else() {
    for shards in SHARDS {
        for overflow in [Overflow::RemoveSession, Overflow::DropNewest, Overflow::DropOldest, Overflow::KeepLatest] {
            let mut options = Options::shards(shards);
            options.config.each_transport(|options| {
                options.max_queue = 50;
                options.overflow = overflow;
            });
            let mut world = World::new(options);
            let mut slow = Client::long_polling(&mut world).connected(&mut world);
            let mut quick = Client::websocket(&mut world).connected(&mut world);
            let mut publisher = Client::websocket(&mut world).connected(&mut world);
            slow.subscribe(&mut world, "/**");
            quick.subscribe(&mut world, "/**");
            for n in 0..500 {
                publisher.publish(&mut world, &format!("/c/{}", n % 60), json!(n));
            }
            assert_eq!(quick.data(&world), (0..500).map(|n| json!(n)).collect::<Vec<_>>());
            let alive = world.is_alive(slow.id());
            assert_eq!(alive, overflow != Overflow::RemoveSession, "{overflow:?}");
            if alive {
                let left = poll(&mut world, &mut slow);
                assert_eq!(left.len(), 50, "{overflow:?}");
                let first = if overflow == Overflow::DropNewest { 0 } else { 450 };
                assert_eq!(left, (first..first + 50).map(|n| json!(n)).collect::<Vec<_>>(), "{overflow:?}");
            }
        }
    }
}

/// A channel's limit is the same wherever its home is, and is lifted again.
#[test]
fn limit_of_a_channel_holds_in_every_shard() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut clients: Vec<Client> = (0..4).map(|_| Client::long_polling(&mut world).connected(&mut world)).collect();
        for client in &mut clients {
            client.subscribe(&mut world, "/price");
        }
        let set = |world: &mut World, queue| {
            world.command(Command::SetChannel { channel: pattern("/price"), setting: ChannelSetting::Queue(queue) });
        };
        set(&mut world, Some(ChannelQueue { messages: 1, overflow: Overflow::KeepLatest }));
        let mut publisher = Client::websocket(&mut world).connected(&mut world);
        for n in 0..5 {
            publisher.publish(&mut world, "/price", json!(n));
        }
        for client in &mut clients {
            assert_eq!(poll(&mut world, client), [json!(4)]);
        }
        set(&mut world, None);
        for n in 0..3 {
            publisher.publish(&mut world, "/price", json!(n));
        }
        for client in &mut clients {
            assert_eq!(poll(&mut world, client).len(), 3);
        }
    }
}
