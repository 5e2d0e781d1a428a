//! Suspended decisions: answers that come late, never, or when nobody wants them any more.
//!
//! Rule: a hook may wait, and only its own lane waits with it (M-2, style of the engine's hooks); an answer meets the
//! world as it is by then (L-33, E-95, E-96, D-4); no answer in time is a no. Risk: an answer acts on a session, channel
//! or connection that is gone, or a request is never answered. Method: hooks that wait, with the world changed under
//! them; the invariants see to exactly one reply per request and to every decision being answered, withdrawn or
//! expired.

use std::time::Duration;

use bayeux_core::{Answer, Command, Points, Verdict};
use bayeux_testkit::{Client, Options, World, event, pattern};
use serde_json::json;

const SHARDS: [u16; 3] = [1, 2, 4];

fn world(shards: u16) -> World {
    let mut options = Options::shards(shards);
    options.config.each_transport(|transport| transport.max_interval = Duration::from_secs(600));
    World::new(options)
}

#[test]
fn late_and_stale_answers_do_nothing() {
    for shards in SHARDS {
        let mut world = world(shards);
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        let mut bob = Client::websocket(&mut world).connected(&mut world);
        bob.subscribe(&mut world, "/slow");
        world.hooks().wait(Points::PUBLISH);
        let request = alice.send(&mut world, json!({"channel": "/slow", "data": 1}));
        assert_eq!(world.questions().len(), 1);
        let timeout = world.options().config.decision_timeout;
        world.advance(timeout - Duration::from_millis(1));
        assert_eq!(alice.reply(&world, &request), None);
        world.advance(Duration::from_millis(1));
        let reply = alice.reply(&world, &request).expect("the deadline decides");
        assert_eq!(reply["error"], "403:denied_by_security_policy:publish_denied");
        assert_eq!(world.stale_questions().len(), 1);
        world.answer_late(0, Verdict::allow());
        assert!(bob.data(&world).is_empty(), "a late yes is no yes");
        assert_eq!(alice.exchanges().len(), 3, "and answers nobody");
    }
}

/// H-4, H-5: no session exists before the policy said yes, and none is left if the client has gone.
#[test]
fn handshake_whose_client_leaves_makes_no_session() {
    for shards in SHARDS {
        let mut world = world(shards);
        world.hooks().wait(Points::HANDSHAKE);
        let mut alice = Client::long_polling(&mut world);
        let request = alice.send(&mut world, json!({"channel": "/meta/handshake", "version": "1.0"}));
        assert_eq!(world.session_count(), 0);
        world.cut(request.exchange.expect("over HTTP"));
        assert!(world.questions().is_empty(), "withdrawn");
        world.answer_late(0, Verdict::allow());
        assert_eq!(world.session_count(), 0);
    }
}

/// F-13, V-21: a handshake that nobody decides is denied.
#[test]
fn handshake_that_nobody_decides_is_denied() {
    for shards in SHARDS {
        let mut world = world(shards);
        world.hooks().wait(Points::HANDSHAKE);
        let mut alice = Client::websocket(&mut world);
        let request = alice.send(&mut world, json!({"channel": "/meta/handshake", "version": "1.0"}));
        world.advance(Duration::from_secs(60));
        let reply = alice.reply(&world, &request).expect("an answer");
        assert_eq!(reply["error"], "403::handshake_denied");
        assert_eq!(reply["advice"], json!({"reconnect": "none"}));
    }
}

/// E-96, F-19, D-2: the session disconnects while its subscribe is being authorised.
#[test]
fn subscribe_whose_session_disconnects_is_refused() {
    for shards in SHARDS {
        let mut world = world(shards);
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        world.hooks().watch(Points::SUBSCRIPTIONS);
        world.hooks().wait(Points::SUBSCRIBE);
        let request = alice.send(&mut world, json!({"channel": "/meta/subscribe", "subscription": "/foo"}));
        assert_eq!(alice.disconnect(&mut world)["successful"], true);
        if !world.questions().is_empty() {
            world.answer(0, Verdict::allow());
        }
        let reply = alice.reply(&world, &request).expect("an answer");
        assert_eq!(reply["error"], "403::subscribe_failed", "{shards} shards");
        assert_eq!(world.session_count(), 0);
        let notices = format!("{:?}", world.take_notices());
        assert!(!notices.contains("Subscribed"), "{notices}");
    }
}

/// L-33, P-7: the session ends while its publish is being authorised.
#[test]
fn publish_whose_session_ends_is_denied() {
    for shards in SHARDS {
        let mut world = world(shards);
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        let mut bob = Client::websocket(&mut world).connected(&mut world);
        bob.subscribe(&mut world, "/foo");
        world.hooks().wait(Points::PUBLISH);
        let request = alice.send(&mut world, json!([{"channel": "/foo", "data": 1}, {"channel": "/foo", "data": 2}]));
        let session = alice.session(&world);
        world.command(Command::Remove { session });
        while !world.questions().is_empty() {
            world.answer(0, Verdict::allow());
        }
        let replies = alice.replies(&world, &request);
        assert_eq!(replies.len(), 2);
        for reply in &replies {
            let error = reply["error"].as_str().expect("failed");
            assert!(
                error == "403:denied_by_security_policy:publish_denied" || error == "402::session_unknown",
                "{error}"
            );
        }
        assert!(bob.data(&world).is_empty());
    }
}

/// E-95: unsubscribe and subscribe again while the unsubscription listener waits; the last word counts.
#[test]
fn subscribing_while_the_unsubscribe_listener_waits_ends_subscribed() {
    for shards in SHARDS {
        let mut world = world(shards);
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        alice.subscribe(&mut world, "/foo");
        world.hooks().wait(Points::UNSUBSCRIBED);
        let away = alice.send(&mut world, json!({"channel": "/meta/unsubscribe", "subscription": "/foo"}));
        assert_eq!(world.questions().len(), 1);
        assert_eq!(alice.subscribe(&mut world, "/foo")["successful"], true);
        world.answer(0, Verdict::allow());
        assert_eq!(alice.reply(&world, &away).expect("an answer")["successful"], true);
        let reply = alice.publish(&mut world, "/foo", json!(1));
        assert_eq!(reply["successful"], true);
        assert_eq!(alice.data(&world), [json!(1)]);
    }
}

/// M-2, S-3, A-43: the questions of one message, and of the messages of one batch, come one after the other.
#[test]
fn questions_come_in_the_order_of_the_pipeline() {
    for shards in SHARDS {
        let mut world = world(shards);
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        world.hooks().wait(Points::CREATE.with(Points::SUBSCRIBE).with(Points::SUBSCRIBED).with(Points::PUBLISH));
        let request = alice.send(
            &mut world,
            json!([
                {"channel": "/meta/subscribe", "subscription": ["/a", "/b"]},
                {"channel": "/c", "data": 1},
            ]),
        );
        let mut order = Vec::new();
        while let Some(question) = world.questions().first() {
            order.push(format!("{:?}", question.point).split('(').next().unwrap_or_default().to_owned());
            assert_eq!(world.questions().len(), 1, "one at a time");
            assert!(alice.replies(&world, &request).is_empty());
            world.answer(0, Verdict::allow());
        }
        let one = ["Create", "Subscribe", "Subscribed"];
        assert_eq!(order, [&one[..], &one[..], &["Create", "Publish"]].concat(), "{shards} shards");
        assert_eq!(alice.replies(&world, &request).len(), 2);
    }
}

/// G-16, Z-1: a policy that fails is a no of its operation; here it answers with an error of its own (F-31).
#[test]
fn own_error_replaces_the_usual_one() {
    let mut world = world(2);
    let mut alice = Client::long_polling(&mut world).connected(&mut world);
    world.hooks().on(Points::PUBLISH, |_, _| {
        let error = bayeux_proto::ErrorField::custom(413, "64", "payload_too_large");
        Some(Answer::Now(Verdict { ruling: bayeux_core::Ruling::Fail(error), ..Verdict::allow() }))
    });
    assert_eq!(alice.publish(&mut world, "/foo", json!(1))["error"], "413:64:payload_too_large");
}

/// The engine's contract: while a lane is parked, a bounded number of envelopes waits; then the connection is not read
/// any more, and one that sends against that is closed.
#[test]
fn parked_lane_stops_the_reading_of_its_connection_only() {
    for shards in SHARDS {
        let mut options = Options::shards(shards);
        options.config.max_waiting_envelopes = 3;
        let mut world = World::new(options);
        let mut alice = Client::websocket(&mut world).connected(&mut world);
        let mut bob = Client::websocket(&mut world).connected(&mut world);
        bob.subscribe(&mut world, "/slow");
        world.hooks().wait(Points::PUBLISH);
        for n in 0..10 {
            alice.send(&mut world, json!({"channel": "/slow", "data": n}));
        }
        assert_eq!(world.questions().len(), 1);
        assert!(!world.wants_input(alice.socket()));
        assert!(world.wants_input(bob.socket()));
        assert_eq!(world.socket(alice.socket()).unread(), 6, "one parked, three waiting");
        while !world.questions().is_empty() {
            world.answer(0, Verdict::allow());
        }
        assert_eq!(bob.data(&world), (0..10).map(|n| json!(n)).collect::<Vec<_>>());
        assert!(world.wants_input(alice.socket()));

        for n in 0..4 {
            alice.send(&mut world, json!({"channel": "/slow", "data": n}));
        }
        let (text, _) = alice.fill(json!({"channel": "/slow", "data": "one too many"}));
        world.send_against_will(alice.socket(), &text);
        assert!(!world.socket(alice.socket()).is_open(), "flooded");
        while !world.questions().is_empty() {
            world.answer(0, Verdict::allow());
        }
        assert!(!bob.data(&world).contains(&json!("one too many")));
    }
}

/// What a client sent before it closed its connection is carried out, however long a hook takes: a page that publishes
/// and unloads does not lose the publish.
#[test]
fn publishes_are_carried_out_after_their_connection_closed() {
    for shards in SHARDS {
        let mut world = world(shards);
        let mut bob = Client::websocket(&mut world).connected(&mut world);
        bob.subscribe(&mut world, "/slow");
        for mut alice in [Client::websocket(&mut world), Client::long_polling(&mut world)] {
            world.hooks().forget();
            alice = alice.connected(&mut world);
            world.hooks().wait(Points::PUBLISH);
            let before = bob.data(&world).len();
            let batch = json!([{"channel": "/slow", "data": 1}, {"channel": "/slow", "data": 2}]);
            let request = alice.send(&mut world, batch);
            match request.exchange {
                Some(exchange) => world.cut(exchange),
                None => {
                    alice.send(&mut world, json!({"channel": "/slow", "data": 3}));
                    world.cut(alice.socket());
                }
            }
            while !world.questions().is_empty() {
                world.answer(0, Verdict::allow());
            }
            let count = if request.exchange.is_some() { 2 } else { 3 };
            assert_eq!(bob.data(&world)[before..], (1..=count).map(|n| json!(n)).collect::<Vec<_>>());
        }
    }
}

/// L-20, L-23: the session was added, and its client leaves before it hears of it: it expires as any other.
#[test]
fn session_whose_client_leaves_at_handshaken_expires() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        world.hooks().wait(Points::HANDSHAKEN);
        for mut alice in [Client::websocket(&mut world), Client::long_polling(&mut world)] {
            let request = alice.send(&mut world, json!({"channel": "/meta/handshake"}));
            assert_eq!(world.session_count(), 1);
            match request.exchange {
                Some(exchange) => world.cut(exchange),
                None => world.cut(alice.socket()),
            }
            world.advance(Duration::from_secs(60));
            assert_eq!(world.session_count(), 0, "{shards} shards");
        }
    }
}

/// Effects are carried out before the verdict: what a hook delivers while it waits for itself comes before the reply.
#[test]
fn effects_come_before_the_verdict() {
    for shards in SHARDS {
        let mut world = world(shards);
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        world.hooks().on(Points::LISTEN, |question, effects| {
            let to = question.session.clone()?;
            effects.push(Command::Subscribe { session: to.clone(), channel: pattern("/joined") });
            effects.push(Command::Deliver { to, event: event("/hello", &json!(1)), from: None });
            Some(Answer::Now(Verdict::allow()))
        });
        let request = alice.send(&mut world, json!({"channel": "/joined", "data": 2}));
        let exchange = world.exchange(request.exchange.expect("over HTTP"));
        let channels: Vec<_> = exchange.messages().iter().map(|m| m["channel"].clone()).collect();
        assert_eq!(channels, ["/hello", "/joined", "/joined"], "event, own publish, reply");
    }
}

/// H-4: what is asked of a handshake has the id that its session will have.
#[test]
fn handshake_question_names_the_session_to_be() {
    let mut world = world(2);
    world.hooks().wait(Points::HANDSHAKE);
    let mut alice = Client::websocket(&mut world);
    let request = alice.send(&mut world, json!({"channel": "/meta/handshake", "version": "1.0"}));
    let named = world.questions()[0].session.clone().expect("an id");
    world.answer(0, Verdict::allow());
    let reply = alice.reply(&world, &request).expect("an answer");
    assert_eq!(reply["clientId"], named.as_str());
}

/// a request holds its session while it is processed; one whose connection breaks meanwhile gives the hold back.
#[test]
fn request_that_breaks_while_it_waits_does_not_hold_its_session() {
    for shards in SHARDS {
        let mut world = world(shards);
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        world.hooks().wait(Points::PUBLISH);
        let poll = alice.connect(&mut world).exchange.expect("over HTTP");
        let request = alice.send(&mut world, json!({"channel": "/slow", "data": 1}));
        let to = alice.session(&world);
        world.command(Command::Deliver { to: to.clone(), event: event("/a", &json!(1)), from: None });
        assert!(world.exchange(poll).is_held(), "the request holds the session");
        world.cut(request.exchange.expect("over HTTP"));
        assert_eq!(world.exchange(poll).status(), Some(200), "{shards} shards: and no longer");
        let poll = alice.connect(&mut world).exchange.expect("over HTTP");
        world.command(Command::Deliver { to, event: event("/a", &json!(2)), from: None });
        assert_eq!(world.exchange(poll).status(), Some(200));
        assert_eq!(alice.data(&world), [json!(1), json!(2)]);
    }
}
