//! Sessions and their ids, browsers and their cookies.
//!
//! Rule: ids are unguessable, unique and never reused (H-11, L-1); a browser id is accepted only if it looks like one of
//! ours (Z-12, TH-25); sessions and browsers leave nothing behind (TH-22, L-31). Risk: an id is accepted, reused or kept
//! that should not be. Method: many sessions, odd cookies, and counts afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use bayeux_core::{Command, Notice, RemovalReason, SessionSetting};
use bayeux_testkit::{Client, Http, Options, Via, World, event};
use serde_json::json;

const SHARDS: [u16; 3] = [1, 2, 4];

/// H-11: alphanumeric, at least 20 characters, none twice.
#[test]
fn client_ids_are_long_alphanumeric_and_unique() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let ids: BTreeSet<_> =
            (0..200).map(|_| Client::websocket(&mut world).connected(&mut world).id().to_owned()).collect();
        assert_eq!(ids.len(), 200);
        assert!(ids.iter().all(|id| id.len() >= 20 && id.bytes().all(|b| b.is_ascii_alphanumeric())));
    }
}

/// Z-12, TH-20, TH-25: a cookie that does not look like ours counts as none, and a new one is set.
#[test]
fn odd_cookie_is_replaced() {
    for shards in SHARDS {
        for (cookie, ours) in [("a b", false), ("", false), ("<x>", false), (&*"a".repeat(129), false), ("4f1k", true)]
        {
            let mut world = World::new(Options::shards(shards));
            let browser = world.browser();
            world.set_cookie(browser, Some(cookie));
            let mut alice = Client::over(Via::Http(browser, Http::default())).connected(&mut world);
            assert_eq!(world.cookie(browser) == Some(cookie), ours, "{cookie:?}");
            let poll = alice.connect(&mut world).exchange.expect("over HTTP");
            assert!(world.exchange(poll).is_held());
        }
    }
}

/// TH-21: only the response of a handshake sets the cookie.
#[test]
fn cookie_is_set_once() {
    let mut world = World::new(Options::shards(2));
    let mut alice = Client::long_polling(&mut world).connected(&mut world);
    alice.publish(&mut world, "/foo", json!(1));
    alice.handshake(&mut world);
    alice.disconnect(&mut world);
    let cookies = alice.exchanges().iter().filter(|&&key| world.exchange(key).cookie.is_some()).count();
    assert_eq!(cookies, 1);
    assert!(world.exchange(alice.exchanges()[0]).cookie.is_some());
}

/// TH-22: the cookie outlives its sessions, and is good for the next.
#[test]
fn cookie_is_reused_after_all_its_sessions_have_ended() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        let cookie = world.cookie(alice.browser()).map(str::to_owned);
        world.advance(Duration::from_secs(300));
        assert_eq!(world.session_count(), 0);
        alice.handshake(&mut world);
        assert_eq!(world.cookie(alice.browser()).map(str::to_owned), cookie);
        alice.ask(&mut world, json!({"channel": "/meta/connect"}));
        let poll = alice.connect(&mut world).exchange.expect("over HTTP");
        assert!(world.exchange(poll).is_held());
    }
}

/// L-34: each way to go has its reason, once per session.
#[test]
fn every_removal_has_its_reason() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.each_transport(|transport| transport.max_queue = 3);
        let mut world = World::new(options);
        let mut clients: Vec<_> = (0..5).map(|_| Client::long_polling(&mut world).connected(&mut world)).collect();
        let sessions: Vec<_> = clients.iter().map(|client| client.session(&world)).collect();
        world.take_notices();
        clients[0].disconnect(&mut world);
        world.command(Command::Disconnect { session: sessions[1].clone() });
        world.command(Command::Remove { session: sessions[2].clone() });
        for n in 0..4 {
            world.command(Command::Deliver { to: sessions[3].clone(), event: event("/a", &json!(n)), from: None });
        }
        world.advance(Duration::from_secs(10));
        let reasons: Vec<_> = world
            .take_notices()
            .into_iter()
            .filter_map(|notice| {
                if let Notice::SessionRemoved { session, reason } = notice { Some((session, reason)) } else { None }
            })
            .collect();
        let expected = [
            RemovalReason::ClientDisconnect,
            RemovalReason::ServerDisconnect,
            RemovalReason::Removed,
            RemovalReason::QueueOverflow,
            RemovalReason::Expired,
        ];
        assert_eq!(reasons, sessions.into_iter().zip(expected).collect::<Vec<_>>());
        assert_eq!(world.session_count(), 0);
    }
}

/// L-32: commands for a session that is gone, or was never there, do nothing.
#[test]
fn commands_for_dead_sessions_do_nothing() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        let session = alice.session(&world);
        alice.disconnect(&mut world);
        world.take_notices();
        let before = world.socket(alice.socket()).frames.len();
        let to = session.clone();
        world.command(Command::Deliver { to: to.clone(), event: event("/a", &json!(1)), from: None });
        world.command(Command::Disconnect { session: session.clone() });
        world.command(Command::Remove { session: session.clone() });
        world.command(Command::Hold { session: session.clone() });
        world.command(Command::Release { session: session.clone() });
        world.command(Command::Subscribe { session: session.clone(), channel: bayeux_testkit::pattern("/a") });
        world.command(Command::SetSession { session, setting: SessionSetting::Timeout(None) });
        assert!(world.take_notices().is_empty());
        assert_eq!(world.socket(alice.socket()).frames.len(), before);
    }
}

/// the application subscribes without anybody being asked; meta channels are refused, service channels ignored.
#[test]
fn application_subscribes_without_policy() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        world
            .hooks()
            .always(bayeux_core::Points::SUBSCRIBE.with(bayeux_core::Points::CREATE), bayeux_core::Verdict::deny());
        let session = alice.session(&world);
        for name in ["/foo", "/meta/connect", "/service/x", "/bar/*"] {
            let channel = bayeux_testkit::pattern(name);
            world.command(Command::Subscribe { session: session.clone(), channel });
        }
        for name in ["/foo", "/bar/x"] {
            let channel = bayeux_testkit::channel(name);
            world.command(Command::Publish { channel, event: event(name, &json!(name)), from: None, chain: 0 });
        }
        assert_eq!(alice.data(&world), [json!("/foo"), json!("/bar/x")], "{shards} shards");
        world.command(Command::Unsubscribe { session, channel: bayeux_testkit::pattern("/foo") });
        let channel = bayeux_testkit::channel("/foo");
        world.command(Command::Publish { channel, event: event("/foo", &json!(2)), from: None, chain: 0 });
        assert_eq!(alice.data(&world).len(), 2);
        alice.handshake(&mut world);
    }
}

/// L-20, L-22: timers that fire late, as on a busy machine, still do everything once and in the right order.
#[test]
fn late_timers_do_everything_once() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        let mut bob = Client::websocket(&mut world).connected(&mut world);
        let held = alice.connect(&mut world);
        bob.connect(&mut world);
        world.oversleep(Duration::from_secs(500));
        assert_eq!(alice.reply(&world, &held).expect("the timeout, late")["successful"], true);
        assert_eq!(world.session_count(), 2, "expiry counts from the reply, which was late too");
        world.oversleep(Duration::from_secs(500));
        assert_eq!(world.session_count(), 0);
    }
}

/// K-22, L-20: a hold that was replaced no longer decides about expiry.
#[test]
fn replaced_hold_does_not_start_expiry() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        for _ in 0..20 {
            alice.connect(&mut world);
            world.advance(Duration::from_secs(9));
        }
        assert_eq!(world.session_count(), 1);
        let last = *alice.exchanges().last().expect("it polled");
        assert!(world.exchange(last).is_held());
        let replaced = alice.exchanges().iter().filter(|&&key| world.exchange(key).status() == Some(500)).count();
        assert_eq!(replaced, 19);
    }
}

/// L-47, Z-16, TH-33: a poll that breaks starts expiry at once, unless it was replaced before.
#[test]
fn broken_poll_starts_expiry() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        let poll = alice.connect(&mut world);
        world.advance(Duration::from_secs(5));
        world.cut(poll.exchange.expect("over HTTP"));
        world.advance(Duration::from_secs(9));
        assert_eq!(world.session_count(), 1);
        world.advance(Duration::from_secs(1));
        assert_eq!(world.session_count(), 0);
    }
}

/// L-46: a WebSocket that closes while no connect is held leaves the clock of the last reply running.
#[test]
fn closing_an_idle_websocket_does_not_prolong_its_session() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let alice = Client::websocket(&mut world).connected(&mut world);
        world.advance(Duration::from_secs(6));
        world.cut(alice.socket());
        world.advance(Duration::from_secs(3));
        assert_eq!(world.session_count(), 1);
        world.advance(Duration::from_secs(1));
        assert_eq!(world.session_count(), 0);
    }
}

/// L-46: and one that closes during a hold is gone at most `timeout + interval + maxInterval` later.
#[test]
fn closing_a_websocket_during_a_hold_lets_its_session_expire() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        alice.connect(&mut world);
        world.advance(Duration::from_secs(6));
        world.cut(alice.socket());
        world.advance(Duration::from_secs(9));
        assert_eq!(world.session_count(), 1, "there is time to come back");
        world.advance(Duration::from_secs(25));
        assert_eq!(world.session_count(), 0);
    }
}

/// L-43, L-46: a hold that a takeover cancels must not keep its session alive for ever: the new connection sent something
/// that is no connect, and falls silent.
#[test]
fn session_taken_over_without_connect_expires() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        for mut alice in [Client::websocket(&mut world), Client::long_polling(&mut world)] {
            alice = alice.connected(&mut world);
            alice.connect(&mut world);
            let socket = world.open_socket();
            let mut moved = alice.moved(Via::Socket(socket));
            assert_eq!(moved.publish(&mut world, "/foo", json!(1))["successful"], true);
            world.advance(Duration::from_secs(9));
            assert!(world.is_alive(alice.id()), "there is time for a connect");
            world.advance(Duration::from_secs(32));
            assert!(!world.is_alive(alice.id()), "{shards} shards, {:?}", alice.via());
        }
    }
}

/// The same where the first connection closed before.
#[test]
fn session_taken_over_after_a_close_expires() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        for held in [true, false] {
            let mut alice = Client::websocket(&mut world).connected(&mut world);
            if held {
                alice.connect(&mut world);
            }
            world.cut(alice.socket());
            let socket = world.open_socket();
            let mut moved = alice.moved(Via::Socket(socket));
            assert_eq!(moved.publish(&mut world, "/foo", json!(1))["successful"], true);
            world.cut(socket);
            world.advance(Duration::from_secs(41));
            assert!(!world.is_alive(alice.id()), "{shards} shards, held: {held}");
        }
    }
}
