//! Nothing that a peer can grow grows without bound.
//!
//! Rule: limits on queues, subscriptions, sessions and channels, each with its answer (Z-9, Z-11, Z-20, E-117). Risk: a
//! client eats the server's memory, or a limit is hit by what ordinary clients do. Method: small limits, one step
//! beyond; and the defaults' floors.

use std::time::Duration;

use bayeux_core::{Command, Notice, Overflow, ShardId};
use bayeux_testkit::{Client, Options, Via, World, event};
use serde_json::{Value, json};

const SHARDS: [u16; 3] = [1, 2, 4];

#[test]
fn subscriptions_of_a_session_are_limited() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.max_subscriptions = 3;
        let mut world = World::new(options);
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        for name in ["/1", "/2", "/3"] {
            assert_eq!(alice.subscribe(&mut world, name)["successful"], true);
        }
        assert_eq!(alice.subscribe(&mut world, "/3")["successful"], true, "nothing new");
        assert_eq!(alice.subscribe(&mut world, "/4")["successful"], false);
        let many: Vec<_> = (0..4).map(|n| format!("/many/{n}")).collect();
        let reply = alice.ask(&mut world, json!({"channel": "/meta/subscribe", "subscription": many}));
        assert_eq!(reply["successful"], false);
        alice.unsubscribe(&mut world, "/3");
        assert_eq!(alice.subscribe(&mut world, "/4")["successful"], true);
    }
}

#[test]
fn sessions_are_limited() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.max_sessions = 2;
        let mut world = World::new(options);
        let mut refused = 0;
        for _ in 0..12 {
            let mut client = Client::websocket(&mut world);
            let reply = client.handshake(&mut world);
            refused += usize::from(reply["successful"] == false);
        }
        assert_eq!(refused, 12 - 2 * usize::from(shards));
        world.advance(Duration::from_secs(10));
        assert_eq!(Client::websocket(&mut world).handshake(&mut world)["successful"], true);
    }
}

#[test]
fn channels_are_limited() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.max_channels = 8;
        let mut world = World::new(options);
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        let refused =
            (0..100).filter(|n| alice.publish(&mut world, &format!("/c/{n}"), json!(1))["successful"] == false).count();
        assert!(refused > 50, "{shards} shards: only {refused} refused");
        assert_eq!(alice.subscribe(&mut world, "/one/more")["error"], "403:too_many_channels:create_denied");
        // They are swept, and there is room again.
        world.advance(Duration::from_secs(5));
        assert_eq!(alice.publish(&mut world, "/again", json!(1))["successful"], true);
    }
}

/// The last room for a channel is given away by its home, however many shards ask for it at once.
#[test]
fn channels_are_limited_where_their_home_is() {
    let mut options = Options::shards(4);
    options.config.max_channels = 8;
    options.link_delay = Duration::from_millis(5);
    let mut world = World::new(options);
    let mut clients: Vec<Client> = [0, 2, 3]
        .into_iter()
        .cycle()
        .take(12)
        .map(|shard| Client::over(Via::Socket(world.open_socket_at(ShardId(shard)))).connected(&mut world))
        .collect();
    let at_home = |name: &String| ShardId::home_of(name, 4) == ShardId(1);
    let names = (0..).map(|n| format!("/h/{n}")).filter(at_home);
    let subscribe = |(client, name): (&mut Client, String)| {
        client.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": name}))
    };
    let requests: Vec<_> = clients.iter_mut().zip(names).map(subscribe).collect();
    world.advance(Duration::from_secs(1));
    let replies = clients.iter().zip(&requests).map(|(client, request)| client.reply(&world, request));
    let errors: Vec<_> = replies.map(|reply| reply.expect("it is answered")["error"].clone()).collect();
    let refused = json!("403:too_many_channels:create_denied");
    assert_eq!(errors.iter().filter(|error| error.is_null()).count(), 8, "{errors:?}");
    assert_eq!(errors.iter().filter(|error| **error == refused).count(), 4, "{errors:?}");
}

/// Z-11: bytes count as well as messages.
#[test]
fn queue_is_bounded_in_bytes() {
    for shards in SHARDS {
        for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
            let mut options = Options::shards(shards);
            options.config.long_polling.max_queue_bytes = 10_000;
            options.config.long_polling.overflow = overflow;
            let mut world = World::new(options);
            let mut alice = Client::long_polling(&mut world).connected(&mut world);
            let to = alice.session(&world);
            world.take_notices();
            for n in 0..20 {
                let data = json!({"n": n, "pad": "x".repeat(1_000)});
                world.command(Command::Deliver { to: to.clone(), event: event("/a", &data), from: None });
            }
            alice.connect(&mut world);
            let got: Vec<_> = alice.data(&world).iter().filter_map(|data| data["n"].as_u64()).collect();
            assert!(got.len() >= 8 && got.len() <= 10, "{got:?}");
            let first = if overflow == Overflow::DropOldest { 20 - got.len() as u64 } else { 0 };
            assert_eq!(got, (first..first + got.len() as u64).collect::<Vec<_>>());
            let lost: usize = world
                .take_notices()
                .iter()
                .map(|notice| if let Notice::Overflowed { messages, .. } = notice { *messages } else { 0 })
                .sum();
            assert_eq!(lost, 20 - got.len(), "nothing is dropped in silence");
        }
    }
}

/// Q-9, Z-11: over WebSocket the queue fills while the client does not read; the session is removed, the others go on.
#[test]
fn slow_reader_is_removed_and_others_are_not_harmed() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.writes = bayeux_testkit::Writes::Manual;
        options.config.websocket.max_queue = 5;
        let mut world = World::new(options);
        let socket = world.open_socket();
        let mut alice = Client::over(Via::Socket(socket));
        for message in [json!({"channel": "/meta/handshake"}), json!({"channel": "/meta/connect"})] {
            let request = alice.send(&mut world, message);
            world.written(socket);
            if let Some(id) = alice.reply(&world, &request).expect("an answer")["clientId"].as_str() {
                alice = alice.moved(alice.via()).with_id(id);
            }
        }
        let to = alice.session(&world);
        for n in 0..6 {
            world.command(Command::Deliver { to: to.clone(), event: event("/a", &json!(n)), from: None });
            assert_eq!(world.session_count(), 1);
        }
        world.command(Command::Deliver { to, event: event("/a", &json!(6)), from: None });
        assert_eq!(world.session_count(), 0, "one in flight, five queued, one too many");
    }
}

/// Z-20: what ordinary clients do stays below the defaults.
#[test]
fn floors_of_the_defaults() {
    let mut world = World::new(Options::shards(2));
    let mut alice = Client::long_polling(&mut world).connected(&mut world);
    let id = "a".repeat(256);
    let reply = alice.ask(&mut world, json!({"channel": "/foo", "id": id, "data": 1}));
    assert_eq!(reply["successful"], true);
    let long = format!("/{}", "a".repeat(1_023));
    assert_eq!(alice.publish(&mut world, &long, json!(1))["successful"], true);
    let deep = "/s".repeat(32);
    assert_eq!(alice.publish(&mut world, &deep, json!(1))["successful"], true);
    let names: Vec<_> = (0..1_000).map(|n| format!("/n/{n}")).collect();
    let reply = alice.ask(&mut world, json!({"channel": "/meta/subscribe", "subscription": names}));
    assert_eq!(reply["successful"], true);
    let batch: Vec<Value> = (0..10_000).map(|n| json!({"channel": "/n/1", "data": n})).collect();
    let request = alice.send(&mut world, Value::Array(batch));
    assert_eq!(alice.replies(&world, &request).len(), 10_000);
    assert_eq!(alice.data(&world).len(), 10_000);
    // And beyond: names that are too long or too deep are bad names (Z-2, Z-9).
    let too_long = format!("/{}", "a".repeat(100_000));
    assert_eq!(alice.publish(&mut world, &too_long, json!(1))["error"], "405::channel_invalid");
    assert_eq!(alice.subscribe(&mut world, &too_long)["error"], "403::subscription_invalid");
    let too_deep = "/s".repeat(1_000);
    assert_eq!(alice.publish(&mut world, &too_deep, json!(1))["error"], "405::channel_invalid");
}

/// T-8: who does not read its answers is not read any more; once it reads, everything goes on.
#[test]
fn client_that_does_not_read_its_replies_is_not_read() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.writes = bayeux_testkit::Writes::Manual;
        let mut world = World::new(options);
        let socket = world.open_socket();
        let mut alice = Client::over(Via::Socket(socket));
        for n in 0..20_000 {
            alice.send(&mut world, json!({"channel": "/foo", "clientId": "nobody", "data": n}));
            if !world.wants_input(socket) {
                break;
            }
        }
        assert!(!world.wants_input(socket), "twenty thousand replies wait");
        let (text, ids) = alice.fill(json!({"channel": "/foo", "clientId": "nobody", "data": "last"}));
        world.send(socket, &text);
        assert_eq!(world.socket(socket).unread(), 1);
        while world.is_writing(socket) {
            world.written(socket);
        }
        assert!(world.wants_input(socket));
        let last = world.socket(socket).messages().last().cloned().expect("replies");
        assert_eq!(last["id"], *ids[0]);
    }
}
