//! What the application sets up and changes: extensions before the freeze, channels at their creation, retained
//! messages.
//!
//! Rule: an outgoing extension sees a broadcast once and each delivery with its target (G-12, A-11, A-33); a channel is
//! configured before anybody can use it; a retained message reaches each new subscriber before its reply. Risk: a
//! shard that did not create the channel knows less of it. Method: the same steps with one shard and with several.

use std::sync::{Arc, Mutex};

use bayeux_core::{ChannelSetting, Command, Points};
use bayeux_testkit::{Client, Options, World, channel, event, pattern};
use serde_json::json;

const SHARDS: [u16; 3] = [1, 2, 4];

/// G-12, A-33: once for all subscribers, without a target, and what it changed is what they get.
#[test]
fn outgoing_extension_sees_a_broadcast_once_and_changes_it_for_all() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut subscribers: Vec<_> = (0..6).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
        for subscriber in &mut subscribers {
            subscriber.subscribe(&mut world, "/a");
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = Arc::clone(&seen);
        world.hooks().on_send(move |from, to, event| {
            sees.lock().expect("no panic").push((from.cloned(), to.cloned()));
            event.data = Some(bayeux_proto::RawJson::new("\"changed\"").expect("JSON"));
            true
        });
        let sender = subscribers[0].session(&world);
        subscribers[0].publish(&mut world, "/a", json!("original"));
        assert_eq!(*seen.lock().expect("no panic"), [(Some(sender), None)]);
        for subscriber in &subscribers {
            assert_eq!(subscriber.data(&world), [json!("changed")]);
        }
    }
}

/// the publisher is told `404::message_deleted`, a delivery is dropped for its session alone.
#[test]
fn outgoing_extension_stops_broadcasts_and_deliveries() {
    let mut world = World::new(Options::shards(2));
    let mut alice = Client::websocket(&mut world).connected(&mut world);
    let mut bob = Client::websocket(&mut world).connected(&mut world);
    alice.subscribe(&mut world, "/a");
    let to_bob = bob.session(&world);
    let target = to_bob.clone();
    world.hooks().on_send(move |_, to, _| to.is_some_and(|to| *to != target));
    let reply = bob.publish(&mut world, "/a", json!(1));
    assert_eq!(reply["error"], "404::message_deleted");
    for to in [alice.session(&world), to_bob] {
        world.command(Command::Deliver { to, event: event("/b", &json!(2)), from: None });
    }
    assert_eq!(alice.data(&world), [json!(2)]);
    assert!(bob.data(&world).is_empty());
}

/// settings made at the creation count from the first message on, in every shard.
#[test]
fn channel_is_configured_before_its_first_message() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        world.hooks().on_channel_created(|channel, settings| {
            settings.broadcast_to_publisher = channel.as_str() != "/quiet";
            settings.retained = channel.as_str() == "/kept";
        });
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        alice.subscribe(&mut world, "/quiet");
        alice.publish(&mut world, "/quiet", json!(1));
        assert!(alice.data(&world).is_empty(), "Q-6");
        alice.publish(&mut world, "/kept", json!(2));
        for _ in 0..usize::from(shards) * 2 {
            let mut late = Client::websocket(&mut world).connected(&mut world);
            late.subscribe(&mut world, "/kept");
            assert_eq!(late.data(&world), [json!(2)], "{shards} shards");
        }
    }
}

/// The last message, once, in the response of the subscribe; not to those who subscribed before; the newest wins.
#[test]
fn retained_message_comes_with_the_subscribe() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let setting = ChannelSetting::Retained(true);
        world.command(Command::SetChannel { channel: pattern("/price"), setting });
        for n in 1..=3 {
            world.command(Command::Publish {
                channel: channel("/price"),
                event: event("/price", &json!(n)),
                from: None,
                chain: 0,
            });
        }
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        let request = alice.send(&mut world, json!([{"channel": "/meta/subscribe", "subscription": "/price"}]));
        assert_eq!(alice.reply(&world, &request).expect("a reply")["successful"], true);
        assert_eq!(alice.data(&world), [json!(3)], "{shards} shards");
        alice.subscribe(&mut world, "/price");
        assert_eq!(alice.data(&world), [json!(3)], "subscribed already");
        let setting = ChannelSetting::Retained(false);
        world.command(Command::SetChannel { channel: pattern("/price"), setting });
        let mut bob = Client::websocket(&mut world).connected(&mut world);
        bob.subscribe(&mut world, "/price");
        assert!(bob.data(&world).is_empty(), "forgotten");
    }
}

/// a channel with listeners or authorizers is no idle channel, and is one again without.
#[test]
fn attended_channel_is_not_swept() {
    let mut world = World::new(Options::shards(2));
    world.hooks().watch(Points::CHANNELS);
    let attended = |on| Command::SetChannel { channel: pattern("/a"), setting: ChannelSetting::Attended(on) };
    world.command(attended(true));
    let channels = world.channel_count();
    world.advance(std::time::Duration::from_secs(60));
    assert_eq!(world.channel_count(), channels);
    world.command(attended(false));
    world.advance(std::time::Duration::from_secs(60));
    assert!(world.channel_count() < channels);
}
