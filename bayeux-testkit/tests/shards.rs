//! One server made of several engines: what clients see must not tell how many.
//!
//! Rule: a session lives in the shard that its id names, a channel is created and removed by its home shard once for the
//! whole server, links between shards are first in, first out; per publishing connection and channel, order is kept on
//! each receiving connection. Risk: races between shards, such as a channel that is removed at its home while it
//! is subscribed elsewhere. Method: the same steps with 1, 2 and 4 shards and with links that take their time.

use std::collections::BTreeSet;
use std::time::Duration;

use bayeux_core::{Answer, ChannelSetting, Command, Notice, Points, ShardId, Verdict};
use bayeux_testkit::{Client, Http, Options, Via, World, channel, event, pattern};
use serde_json::{Value, json};

const SHARDS: [u16; 3] = [1, 2, 4];

fn options(shards: u16, link_delay: Duration) -> Options {
    let mut options = Options::shards(shards);
    options.link_delay = link_delay;
    options.config.each_transport(|transport| transport.max_interval = Duration::from_secs(6_000));
    options
}

const SLOW: Duration = Duration::from_millis(200);

/// Lets what is on its way between shards arrive.
fn arrive(world: &mut World) {
    world.advance(Duration::from_secs(2));
}

fn channel_notices(world: &mut World) -> Vec<String> {
    let name = |notice| {
        if let Notice::ChannelAdded { channel } = notice {
            Some(format!("+{}", channel.as_str()))
        } else if let Notice::ChannelRemoved { channel } = notice {
            Some(format!("-{}", channel.as_str()))
        } else {
            None
        }
    };
    world.take_notices().into_iter().filter_map(name).collect()
}

/// H-11, TH-10: sessions spread over the shards, and an id names its shard.
#[test]
fn sessions_live_where_their_ids_say() {
    for shards in SHARDS {
        let mut world = World::new(options(shards, Duration::ZERO));
        let mut seen = BTreeSet::new();
        for _ in 0..8 {
            for client in [Client::long_polling(&mut world), Client::websocket(&mut world)] {
                seen.insert(client.connected(&mut world).session(&world).shard());
            }
        }
        assert_eq!(seen.len(), usize::from(shards));
    }
}

/// TH-11, TH-30: all sessions of a browser are in one shard, because limits count per browser.
#[test]
fn sessions_of_one_browser_share_a_shard() {
    for shards in SHARDS {
        let mut world = World::new(options(shards, Duration::ZERO));
        for _ in 0..4 {
            let first = Client::long_polling(&mut world).connected(&mut world);
            let browser = Via::Http(first.browser(), Http::default());
            for _ in 0..3 {
                let tab = Client::over(browser).connected(&mut world);
                assert_eq!(tab.session(&world).shard(), first.session(&world).shard());
            }
        }
    }
}

/// L-40, L-41: a WebSocket that a shard accepted without knowing whose it would be moves to the shard of the session.
#[test]
fn websocket_moves_to_the_shard_of_its_session() {
    for shards in SHARDS {
        let mut world = World::new(options(shards, Duration::ZERO));
        let mut moves = 0;
        for _ in 0..4 {
            let mut alice = Client::long_polling(&mut world).connected(&mut world);
            alice.subscribe(&mut world, "/foo");
            let poll = alice.connect(&mut world);
            for shard in 0..shards {
                let socket = world.open_socket_at(ShardId(shard));
                let mut moved = alice.moved(Via::Socket(socket));
                let reply = moved.publish(&mut world, "/foo", json!(shard));
                assert_eq!(reply["successful"], true);
                assert_eq!(moved.data(&world), [json!(shard)]);
                moves += world.socket(socket).moves;
            }
            assert_eq!(world.exchange(poll.exchange.expect("over HTTP")).status(), Some(500), "L-43");
            alice.unsubscribe(&mut world, "/foo");
        }
        assert_eq!(moves, 4 * (usize::from(shards) - 1));
    }
}

/// TW-10, E-66: a WebSocket that carries a session stays, whatever its envelopes name; and a handshake stays too.
#[test]
fn bound_websocket_does_not_move() {
    for shards in SHARDS {
        let mut world = World::new(options(shards, Duration::ZERO));
        let clients: Vec<_> = (0..4).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
        for client in &clients {
            let mut thief = client.moved(client.via());
            for other in &clients {
                thief = thief.with_id(other.id());
                let reply = thief.publish(&mut world, "/foo", json!(1));
                assert_eq!(reply["successful"], client.id() == other.id());
            }
            assert_eq!(world.socket(client.socket()).moves, 0);
        }
    }
}

/// the first publish on a channel waits for its home, and no longer; it reaches wildcard subscribers of every
/// shard, once each, whatever the links' delays.
#[test]
fn publish_reaches_every_shard_once() {
    for shards in SHARDS {
        for (delay, interests) in [(Duration::ZERO, true), (SLOW, true), (SLOW, false)] {
            let mut options = options(shards, delay);
            options.interests = interests;
            let mut world = World::new(options);
            let mut clients: Vec<_> = (0..8).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
            for client in &mut clients {
                for name in ["/a/*", "/a/**", "/**"] {
                    client.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": name}));
                    arrive(&mut world);
                }
            }
            for (at, client) in clients.iter_mut().enumerate() {
                client.send(&mut world, json!({"channel": format!("/a/{at}"), "data": at}));
            }
            arrive(&mut world);
            for client in &clients {
                let mut data: Vec<_> = client.data(&world).iter().filter_map(Value::as_u64).collect();
                data.sort_unstable();
                assert_eq!(data, (0..8).collect::<Vec<_>>(), "{shards} shards");
            }
        }
    }
}

/// With shared interests a publish goes to the shards that have somebody for it, and to no other; without, to all.
#[test]
fn publish_goes_where_it_is_wanted() {
    for shards in [2, 4] {
        let mut world = World::new(options(shards, Duration::ZERO));
        let mut blind = options(shards, Duration::ZERO);
        blind.interests = false;
        let mut blind = World::new(blind);
        let mut alone = Client::websocket(&mut blind).connected(&mut blind);
        alone.publish(&mut blind, "/a/b", json!(0));
        assert_eq!(blind.forwarded_publishes(), u64::from(shards) - 1);

        // Each in a shard of its own.
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        let mut others: Vec<_> = (1..shards).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
        let mut publisher = alice.moved(alice.via());
        let mut forwarded = |world: &mut World| {
            let before = world.forwarded_publishes();
            publisher.publish(world, "/a/b", json!(1));
            world.forwarded_publishes() - before
        };
        assert_eq!(forwarded(&mut world), 0, "nobody");
        alice.subscribe(&mut world, "/a/b");
        assert_eq!(forwarded(&mut world), 0, "nobody else");
        for name in ["/a/b", "/a/*", "/a/**", "/**"] {
            for (at, other) in others.iter_mut().enumerate() {
                other.subscribe(&mut world, name);
                assert_eq!(forwarded(&mut world), at as u64 + 1, "{name}");
            }
            for (at, other) in others.iter_mut().enumerate() {
                other.unsubscribe(&mut world, name);
                assert_eq!(forwarded(&mut world), u64::from(shards) - 2 - at as u64, "{name}");
            }
        }
        others[0].subscribe(&mut world, "/a/c");
        assert_eq!(forwarded(&mut world), 0, "another channel");
        others[0].subscribe(&mut world, "/a/b");
        others[0].subscribe(&mut world, "/**");
        assert_eq!(forwarded(&mut world), 1, "once");
        others[0].disconnect(&mut world);
        assert_eq!(forwarded(&mut world), 0, "who has gone");
    }
}

/// Who publishes having seen a subscription confirmed reaches its subscriber, however slow the links are.
#[test]
fn confirmed_subscription_misses_nothing() {
    for shards in [2, 4] {
        let mut world = World::new(options(shards, SLOW));
        let mut clients: Vec<_> = (0..4).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
        // So that it exists, and no link has to be waited for.
        clients[0].send(&mut world, json!({"channel": "/a", "data": 0}));
        arrive(&mut world);
        for at in 1..4 {
            let reply = clients[at].subscribe(&mut world, "/a");
            assert_eq!(reply["successful"], true, "{reply}");
            clients[0].publish(&mut world, "/a", json!(at));
        }
        arrive(&mut world);
        for (at, client) in clients.iter().enumerate().skip(1) {
            let data: Vec<_> = client.data(&world).iter().filter_map(Value::as_u64).collect();
            // Earlier ones may have been under way to another session in its shard.
            assert!(data.ends_with(&(at as u64..4).collect::<Vec<_>>()), "{data:?}, {shards} shards");
        }
    }
}

/// A channel's last message is kept in every shard, also where nobody is subscribed yet, and where the wish to keep it is
/// still under way.
#[test]
fn retained_message_reaches_every_shard() {
    for shards in SHARDS {
        let mut world = World::new(options(shards, SLOW));
        world.command(Command::SetChannel { channel: pattern("/a"), setting: ChannelSetting::Retained(true) });
        let mut clients: Vec<_> = (0..4).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
        arrive(&mut world);
        clients[0].publish(&mut world, "/a", json!(1));
        arrive(&mut world);
        for client in &mut clients {
            client.subscribe(&mut world, "/a");
            assert_eq!(client.data(&world), [json!(1)], "{shards} shards");
        }
    }
}

/// per publishing connection and channel, every receiver sees the order of sending, over links of any speed.
#[test]
fn order_of_one_publisher_is_kept_across_shards() {
    for shards in SHARDS {
        let mut world = World::new(options(shards, SLOW));
        let mut readers: Vec<_> = (0..4).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
        for reader in &mut readers {
            reader.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": ["/a", "/b"]}));
            arrive(&mut world);
        }
        let mut writers: Vec<_> = (0..4).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
        for n in 0..20 {
            for (at, writer) in writers.iter_mut().enumerate() {
                let name = if n % 2 == 0 { "/a" } else { "/b" };
                writer.send(&mut world, json!({"channel": name, "data": {"from": at, "n": n}}));
            }
            world.advance(Duration::from_millis(10));
        }
        arrive(&mut world);
        for reader in &readers {
            for from in 0..4 {
                for name in ["/a", "/b"] {
                    let events = reader.events(&world);
                    let own = |event: &&Value| event["channel"] == name && event["data"]["from"] == from;
                    let order: Vec<_> = events.iter().filter(own).filter_map(|e| e["data"]["n"].as_u64()).collect();
                    assert_eq!(order.len(), 10);
                    assert!(order.is_sorted(), "{order:?}");
                }
            }
        }
    }
}

/// E-91: one life of a channel, whoever uses it from wherever: added once, swept once, three sweeps after the
/// last subscriber of the last shard has gone.
#[test]
fn channel_lives_once_for_all_shards() {
    for shards in SHARDS {
        for delay in [Duration::ZERO, SLOW] {
            let mut world = World::new(options(shards, delay));
            world.hooks().watch(Points::CHANNELS);
            let mut clients: Vec<_> = (0..6).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
            // All at once: losers of the race wait for the winner.
            for client in &mut clients {
                client.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/foo"}));
            }
            arrive(&mut world);
            assert_eq!(channel_notices(&mut world), ["+/foo"]);
            let last = clients.len() - 1;
            for (at, client) in clients.iter_mut().enumerate() {
                let request = client.send(&mut world, json!({"channel": "/meta/unsubscribe", "subscription": "/foo"}));
                world.advance(Duration::from_secs(30));
                assert_eq!(client.reply(&world, &request).expect("an answer")["successful"], true);
                let gone = channel_notices(&mut world);
                assert_eq!(gone, if at == last { vec!["-/foo"] } else { Vec::new() }, "{shards} shards, client {at}");
            }
            // Everybody knows that it is gone, or asks its home (S-13, F-11).
            for client in &mut clients {
                let request = client.send(&mut world, json!({"channel": "/meta/unsubscribe", "subscription": "/foo"}));
                arrive(&mut world);
                assert_eq!(client.reply(&world, &request).expect("an answer")["error"], "400::channel_missing");
            }
        }
    }
}

/// not before the third sweep, and not long after it.
#[test]
fn unused_channel_is_removed_at_the_third_sweep() {
    for shards in SHARDS {
        for delay in [Duration::ZERO, SLOW] {
            let mut world = World::new(options(shards, delay));
            world.hooks().watch(Points::CHANNELS);
            world.command(Command::CreateChannel { channel: pattern("/foo") });
            let period = world.options().config.sweep_period;
            world.advance(period * 2);
            assert!(!channel_notices(&mut world).contains(&"-/foo".to_owned()), "{shards} shards");
            world.advance(period * 2);
            assert_eq!(channel_notices(&mut world), ["-/foo"]);
        }
    }
}

/// create-if-absent of an existing channel, subscribe and a persistent flag reset the count; publishing does not.
#[test]
fn what_resets_the_count_of_sweeps() {
    for shards in SHARDS {
        let mut world = World::new(options(shards, Duration::ZERO));
        world.hooks().watch(Points::CHANNELS);
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        let period = world.options().config.sweep_period;
        for name in ["/created", "/published", "/subscribed", "/set"] {
            world.command(Command::CreateChannel { channel: pattern(name) });
        }
        channel_notices(&mut world);
        for _ in 0..4 {
            world.advance(period * 2);
            world.command(Command::CreateChannel { channel: pattern("/created") });
            alice.publish(&mut world, "/published", json!(1));
            alice.subscribe(&mut world, "/subscribed");
            alice.unsubscribe(&mut world, "/subscribed");
            let setting = ChannelSetting::Persistent(false);
            world.command(Command::SetChannel { channel: pattern("/set"), setting });
        }
        let notices = channel_notices(&mut world);
        for name in ["/created", "/subscribed", "/set"] {
            assert!(!notices.contains(&format!("-{name}")), "{shards} shards: {notices:?}");
        }
        assert!(notices.contains(&"-/published".to_owned()), "{shards} shards: {notices:?}");
        assert!(notices.contains(&"+/published".to_owned()), "re-created by the next publish");
    }
}

/// The race of removal and use: while the home removes the channel, another shard subscribes and publishes. Whoever got
/// a success is subscribed in the end.
#[test]
fn channel_removed_while_it_is_being_used_is_not_lost() {
    for shards in SHARDS {
        for seed in 0..30 {
            let mut options = options(shards, Duration::from_millis(50));
            options.seed = seed;
            let mut world = World::new(options);
            let mut alice = Client::websocket(&mut world).connected(&mut world);
            let mut bob = Client::websocket(&mut world).connected(&mut world);
            let mut carol = Client::websocket(&mut world).connected(&mut world);
            carol.send(&mut world, json!({"channel": "/foo", "data": 0}));
            // Around the third sweep, whenever exactly the home hears of what.
            world.advance(world.options().config.sweep_period * 3 - Duration::from_millis(10 * (seed % 6)));
            let a = alice.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/foo"}));
            world.advance(Duration::from_millis(7));
            let b = bob.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/foo"}));
            arrive(&mut world);
            for (client, request) in [(&alice, a), (&bob, b)] {
                assert_eq!(client.reply(&world, &request).expect("an answer")["successful"], true);
            }
            world.advance(Duration::from_secs(20));
            carol.send(&mut world, json!({"channel": "/foo", "data": 1}));
            arrive(&mut world);
            assert_eq!(alice.data(&world), [json!(1)], "seed {seed}, {shards} shards");
            assert_eq!(bob.data(&world), [json!(1)], "seed {seed}, {shards} shards");
        }
    }
}

/// A-7 across shards: the application removes a channel; the subscribers of all shards are gone.
#[test]
fn removal_by_the_application_clears_all_shards() {
    for shards in SHARDS {
        for delay in [Duration::ZERO, SLOW] {
            let mut world = World::new(options(shards, delay));
            let mut clients: Vec<_> = (0..4).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
            for client in &mut clients {
                client.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/foo"}));
            }
            arrive(&mut world);
            world.command(Command::RemoveChannel { channel: pattern("/foo") });
            arrive(&mut world);
            world.command(Command::Publish {
                channel: channel("/foo"),
                event: event("/foo", &json!(1)),
                from: None,
                chain: 0,
            });
            arrive(&mut world);
            for client in &mut clients {
                assert!(client.data(&world).is_empty(), "{shards} shards");
            }
            let request = clients[0].send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/foo"}));
            arrive(&mut world);
            assert_eq!(clients[0].reply(&world, &request).expect("an answer")["successful"], true);
            clients[1].send(&mut world, json!({"channel": "/foo", "data": 2}));
            arrive(&mut world);
            assert_eq!(clients[0].data(&world), [json!(2)]);
        }
    }
}

/// O-40: a channel's setting holds in every shard, also for publishers and subscribers that come later.
#[test]
fn settings_hold_in_every_shard() {
    for shards in SHARDS {
        for delay in [Duration::ZERO, SLOW] {
            let mut world = World::new(options(shards, delay));
            for (name, setting) in [
                ("/lazy", ChannelSetting::Lazy(true)),
                ("/lazy", ChannelSetting::Persistent(true)),
                ("/quiet", ChannelSetting::BroadcastToPublisher(false)),
                ("/quiet", ChannelSetting::Persistent(true)),
            ] {
                world.command(Command::SetChannel { channel: pattern(name), setting });
            }
            arrive(&mut world);
            let mut clients: Vec<_> = (0..4).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
            for client in &mut clients {
                client.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": ["/lazy", "/quiet"]}));
                arrive(&mut world);
            }
            for client in &mut clients {
                client.send(&mut world, json!({"channel": "/quiet", "data": 1}));
                arrive(&mut world);
            }
            for client in &clients {
                assert_eq!(client.data(&world).len(), 3, "all but its own");
            }
            clients[0].send(&mut world, json!({"channel": "/lazy", "data": 1}));
            world.advance(Duration::from_secs(4));
            assert!(clients[1..].iter().all(|client| client.data(&world).len() == 3), "{shards} shards: not yet");
            world.advance(Duration::from_secs(2));
            assert!(clients[1..].iter().all(|client| client.data(&world).len() == 4), "{shards} shards: lazily");
        }
    }
}

/// S-9, M-2: messages behind one that waits for a channel's home wait too, and keep their order.
#[test]
fn batch_waits_for_a_new_channel_and_keeps_its_order() {
    for shards in SHARDS {
        let mut world = World::new(options(shards, SLOW));
        let mut bob = Client::websocket(&mut world).connected(&mut world);
        bob.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/**"}));
        arrive(&mut world);
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        let names = ["/a", "/b", "/a", "/c", "/b", "/d", "/a"];
        let batch: Vec<_> = names.iter().enumerate().map(|(n, name)| json!({"channel": name, "data": n})).collect();
        let request = alice.send(&mut world, Value::Array(batch));
        arrive(&mut world);
        assert_eq!(alice.replies(&world, &request).len(), names.len());
        assert_eq!(bob.data(&world), (0..names.len()).map(|n| json!(n)).collect::<Vec<_>>());
    }
}

/// Command::Publish without sender goes to any one shard: each reaches everybody.
#[test]
fn server_publishes_from_any_shard() {
    for shards in SHARDS {
        let mut world = World::new(options(shards, Duration::ZERO));
        let mut clients: Vec<_> = (0..4).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
        for client in &mut clients {
            client.subscribe(&mut world, "/foo");
        }
        for shard in 0..shards {
            let command = Command::Publish {
                channel: channel("/foo"),
                event: event("/foo", &json!(shard)),
                from: None,
                chain: 0,
            };
            world.command_at(ShardId(shard), command);
        }
        for client in &clients {
            assert_eq!(client.data(&world).len(), usize::from(shards));
        }
    }
}

/// A-7 against a first subscriber on its way: whatever the order in which home and shard hear of each other, no channel
/// is kept that nobody uses.
#[test]
fn channel_removed_by_the_application_under_a_first_subscriber_leaves_nothing() {
    for shards in SHARDS {
        for seed in 0..40 {
            let mut options = options(shards, Duration::from_millis(50));
            options.seed = seed;
            let mut world = World::new(options);
            let mut alice = Client::websocket(&mut world).connected(&mut world);
            let mut bob = Client::websocket(&mut world).connected(&mut world);
            world.command(Command::CreateChannel { channel: pattern("/foo") });
            arrive(&mut world);
            alice.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/foo"}));
            world.advance(Duration::from_millis(seed % 5 * 10));
            world.command(Command::RemoveChannel { channel: pattern("/foo") });
            bob.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/foo"}));
            arrive(&mut world);
            for client in [&mut alice, &mut bob] {
                client.send(&mut world, json!({"channel": "/meta/disconnect"}));
            }
            arrive(&mut world);
            world.advance(Duration::from_secs(30));
            assert_eq!(world.channel_count(), 0, "seed {seed}, {shards} shards");
        }
    }
}

/// the sender that a per-recipient hook sees is the publisher, in every shard.
#[test]
fn outgoing_hook_sees_the_sender_in_every_shard() {
    for shards in SHARDS {
        let mut world = World::new(options(shards, Duration::ZERO));
        let mut clients: Vec<_> = (0..4).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
        for client in &mut clients {
            client.subscribe(&mut world, "/foo");
        }
        let publisher = clients[0].session(&world);
        let seen = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = seen.clone();
        world.hooks().on_outgoing(move |_, from, _| {
            if from == Some(&publisher) {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            bayeux_core::Edit::Keep
        });
        clients[0].publish(&mut world, "/foo", json!(1));
        assert_eq!(seen.load(std::sync::atomic::Ordering::Relaxed), 4, "{shards} shards");
    }
}

/// A client over a WebSocket, in a shard.
fn client_in(world: &mut World, shard: u16) -> Client {
    let socket = world.open_socket_at(ShardId(shard));
    Client::over(Via::Socket(socket)).connected(world)
}

/// Alice has created a channel at its home, where she lives, and says so to Bob before his shard hears of it: what he is
/// told when he sends at once what `message` makes of the channel's name. Only she may create channels.
fn told_early(shards: u16, message: impl Fn(&str) -> Value) -> Value {
    let mut world = World::new(options(shards, SLOW));
    let mut alice = client_in(&mut world, 0);
    let mut bob = client_in(&mut world, shards - 1);
    let creator = alice.session(&world);
    world.hooks().on(Points::CREATE, move |question, _| {
        let may = question.session.as_ref() == Some(&creator);
        Some(Answer::Now(if may { Verdict::allow() } else { Verdict::deny() }))
    });
    let mut names = (0..).map(|number| format!("/new/{number}"));
    let name = names.find(|name| ShardId::home_of(name, shards) == ShardId(0)).expect("names enough");
    assert_eq!(alice.subscribe(&mut world, &name)["successful"], true);
    let request = bob.send(&mut world, message(&name));
    arrive(&mut world);
    bob.reply(&world, &request).expect("an answer")
}

/// S-12, G-6, S-3: who was told of a channel can use it, whichever shard they are in.
#[test]
fn channel_that_one_client_has_created_is_there_for_all() {
    for shards in SHARDS {
        let unsubscribe = |name: &str| json!({"channel": "/meta/unsubscribe", "subscription": [name, name]});
        assert_eq!(told_early(shards, unsubscribe)["successful"], true, "{shards} shards");
        let publish = |name: &str| json!({"channel": name, "data": 1});
        assert_eq!(told_early(shards, publish)["successful"], true, "{shards} shards");
        let subscribe = |name: &str| json!({"channel": "/meta/subscribe", "subscription": [name]});
        assert_eq!(told_early(shards, subscribe)["successful"], true, "{shards} shards");
    }
}

/// F-11, F-17, F-16: what is nowhere is missing, or may not be created, wherever its home is.
#[test]
fn channel_that_nobody_has_created_is_missing_in_all_shards() {
    for shards in SHARDS {
        for number in 0..4 {
            let name = format!("/nowhere/{number}");
            let unsubscribe = |_: &str| json!({"channel": "/meta/unsubscribe", "subscription": name});
            assert_eq!(told_early(shards, unsubscribe)["error"], "400::channel_missing", "{shards} shards");
            let subscribe = |_: &str| json!({"channel": "/meta/subscribe", "subscription": name});
            let refused = "403:denied_by_security_policy:create_denied";
            assert_eq!(told_early(shards, subscribe)["error"], refused, "{shards} shards");
            let publish = |_: &str| json!({"channel": name, "data": 1});
            let refused = "403:denied_by_security_policy:channel_create_denied";
            assert_eq!(told_early(shards, publish)["error"], refused, "{shards} shards");
        }
    }
}

/// Lanes that look for a channel and lanes that create it wait for the same word, whoever came first.
#[test]
fn looking_for_a_channel_and_creating_it_at_once() {
    for shards in SHARDS {
        for number in 0..4 {
            for creator_first in [false, true] {
                let mut world = World::new(options(shards, SLOW));
                let (mut alice, mut bob) = (client_in(&mut world, 0), client_in(&mut world, 0));
                let name = format!("/both/{number}");
                let publish = json!({"channel": name, "data": 1});
                let unsubscribe = json!({"channel": "/meta/unsubscribe", "subscription": name});
                let early = creator_first.then(|| alice.send(&mut world, publish.clone()));
                let asked = bob.send(&mut world, unsubscribe);
                let created = early.unwrap_or_else(|| alice.send(&mut world, publish));
                arrive(&mut world);
                let reply = bob.reply(&world, &asked).expect("an answer");
                assert!(reply["successful"] == true || reply["error"] == "400::channel_missing", "{reply}");
                assert!(!creator_first || reply["successful"] == true, "{reply}");
                assert_eq!(alice.reply(&world, &created).expect("an answer")["successful"], true);
            }
        }
    }
}
