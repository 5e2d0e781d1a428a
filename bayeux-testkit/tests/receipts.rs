//! Whether anybody got it: what the application is told of a publish and a delivery.
//!
//! Risk: subscribers of other shards are forgotten, or the answer comes twice, or never. Method: the same questions with
//! one shard and with several, subscribers anywhere.

use std::time::Duration;

use bayeux_core::{Command, Notice, Receipt, ShardId};
use bayeux_testkit::{Client, Options, World, channel, event};
use serde_json::json;

const SHARDS: [u16; 3] = [1, 2, 4];

/// Carries out a command with a receipt, in the shard that it is for; the answers to it.
fn confirm(world: &mut World, shard: ShardId, command: Command) -> Vec<bool> {
    world.take_notices();
    world.command_at(shard, Command::Confirm { command: Box::new(command), receipt: Receipt(7) });
    world.advance(Duration::from_millis(100));
    let notices = world.take_notices().into_iter();
    notices
        .filter_map(|notice| {
            let Notice::Confirmed { receipt, queued } = notice else { return None };
            assert_eq!(receipt, Receipt(7));
            Some(queued)
        })
        .collect()
}

/// Publishes in any shard.
fn publish(world: &mut World, name: &str) -> Vec<bool> {
    let event = event(name, &json!(1));
    confirm(world, ShardId(0), Command::Publish { channel: channel(name), event, from: None, chain: 0 })
}

#[test]
fn publish_is_confirmed_once_wherever_its_subscribers_are() {
    for (shards, interests) in [(1, true), (2, true), (2, false), (4, true), (4, false)] {
        let mut options = Options::shards(shards);
        options.interests = interests;
        let mut world = World::new(options);
        assert_eq!(publish(&mut world, "/a"), [false], "nobody is there, of {shards} shards");
        // One after the other, so that they are in different shards.
        for _ in 0..6 {
            let mut subscriber = Client::websocket(&mut world).connected(&mut world);
            assert_eq!(publish(&mut world, "/a"), [false], "nobody is subscribed, of {shards} shards");
            subscriber.subscribe(&mut world, "/a");
            assert_eq!(publish(&mut world, "/a"), [true], "{shards} shards");
            subscriber.unsubscribe(&mut world, "/a");
        }
        // Service messages have no subscribers.
        assert_eq!(publish(&mut world, "/service/a"), [false]);
    }
}

#[test]
fn delivery_is_confirmed_while_its_session_lives() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let alice = Client::websocket(&mut world).connected(&mut world);
        let session = alice.session(&world);
        let deliver = || Command::Deliver { to: session.clone(), event: event("/a", &json!(1)), from: None };
        assert_eq!(confirm(&mut world, session.shard(), deliver()), [true]);
        assert_eq!(alice.data(&world), [json!(1)]);
        world.command(Command::Remove { session: session.clone() });
        assert_eq!(confirm(&mut world, session.shard(), deliver()), [false], "{shards} shards");
    }
}

/// A hook that stops an event has nobody get it.
#[test]
fn event_that_an_extension_stops_reaches_nobody() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        alice.subscribe(&mut world, "/a");
        world.hooks().on_send(|_, _, _| false);
        assert_eq!(publish(&mut world, "/a"), [false]);
        assert_eq!(alice.data(&world), [] as [serde_json::Value; 0]);
    }
}
