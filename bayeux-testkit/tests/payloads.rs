//! Payloads arrive exactly as they were sent, encoded once for all.
//!
//! Rule: `data`, `ext` and unknown fields are never interpreted (E-11, E-12, M-4, M-16), one encoding serves every
//! recipient (Q-24), and per-recipient hooks change only their recipient's copy (Q-7, E-114). Risk: numbers lose digits,
//! keys their order, escapes their form; a change for one leaks to all. Method: the raw text of what was received.

use bayeux_core::{Edit, Points, Verdict};
use bayeux_testkit::{Client, Options, World, event};
use serde_json::json;

const SHARDS: [u16; 3] = [1, 2, 4];

#[test]
fn payload_text_is_untouched() {
    let data =
        r#"{"z":1.0,"a":12345678901234567890123,"e":1.0E+300,"u":"\u00e9\/é","dup":1,"dup":2,"n":null,"deep":[[[]]]}"#;
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut bob = Client::websocket(&mut world).connected(&mut world);
        bob.subscribe(&mut world, "/foo");
        world.take_frames(bob.socket());
        let alice = Client::long_polling(&mut world).connected(&mut world);
        let body = format!(
            r#"[{{"channel":"/foo","id":"x1","clientId":"{}","data": {data} ,"ext":{{"k":1.50}},"mine":[ 1,2 ]}}]"#,
            alice.id()
        );
        world.post(alice.browser(), bayeux_testkit::Http::default(), &body);
        let frames = world.take_frames(bob.socket());
        assert_eq!(frames.len(), 1);
        assert!(frames[0].text.contains(data), "{}", frames[0].text);
        assert!(frames[0].text.contains(r#""ext":{"k":1.50}"#), "{}", frames[0].text);
        assert!(!frames[0].text.contains("x1"), "{}", frames[0].text);
    }
}

/// Q-24: the same bytes for every recipient, in whichever shard.
#[test]
fn all_recipients_get_the_same_bytes() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut readers: Vec<_> = (0..6).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
        for reader in &mut readers {
            reader.subscribe(&mut world, "/foo");
            world.take_frames(reader.socket());
        }
        let command = bayeux_core::Command::Publish {
            channel: bayeux_testkit::channel("/foo"),
            event: event("/foo", &json!({"a": [1, 2, {"b": "c"}]})),
            from: None,
            chain: 0,
        };
        world.command(command);
        let texts: Vec<_> = readers.iter().map(|reader| world.socket(reader.socket()).frames[0].text.clone()).collect();
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    }
}

/// Q-7, E-114: a hook drops or changes the event for one recipient; the others have theirs as it was.
#[test]
fn outgoing_hook_touches_one_recipient_only() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut clients: Vec<_> = (0..3).map(|_| Client::websocket(&mut world).connected(&mut world)).collect();
        for client in &mut clients {
            client.subscribe(&mut world, "/foo");
        }
        let (dropped, changed) = (clients[0].session(&world), clients[1].session(&world));
        let publisher = clients[2].session(&world);
        world.hooks().on_outgoing(move |to, from, frozen| {
            if frozen.channel() == "/foo" {
                assert!(from.is_none_or(|from| *from == publisher), "the sender is the publisher");
            }
            if *to == dropped {
                Edit::Drop
            } else if *to == changed {
                Edit::Replace(event("/foo", &json!("for you")).freeze())
            } else {
                Edit::Keep
            }
        });
        clients[2].publish(&mut world, "/foo", json!("for all"));
        assert!(clients[0].data(&world).is_empty());
        assert_eq!(clients[1].data(&world), [json!("for you")]);
        assert_eq!(clients[2].data(&world), [json!("for all")]);
    }
}

/// G-14: a hook on replies may change or drop them. A request without reply still ends its exchange (TH-8).
#[test]
fn reply_hook_changes_and_drops_replies() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        world.hooks().on_reply(|_, reply| {
            if reply.channel.as_deref() == Some("/drop") {
                return Edit::Drop;
            }
            reply.ext = Some(bayeux_proto::RawJson::new(r#"{"seen":true}"#).expect("JSON"));
            Edit::Keep
        });
        let request = alice.send(&mut world, json!([{"channel": "/drop", "data": 1}, {"channel": "/keep", "data": 1}]));
        let replies = alice.replies(&world, &request);
        assert_eq!(replies.len(), 1);
        assert_eq!(replies[0]["channel"], "/keep");
        assert_eq!(replies[0]["ext"], json!({"seen": true}));
        let request = alice.send(&mut world, json!({"channel": "/drop", "data": 1}));
        let exchange = world.exchange(request.exchange.expect("over HTTP"));
        assert_eq!(exchange.status(), Some(200));
        assert!(exchange.messages().is_empty());
    }
}

/// G-10, P-10, M-13, M-14: listeners of broadcasts see neither id nor clientId, listeners of services both.
#[test]
fn listeners_see_ids_on_service_channels_only() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        world.hooks().always(Points::LISTEN, Verdict::allow());
        world.hooks().take_asked();
        alice.publish(&mut world, "/foo", json!(1));
        alice.publish(&mut world, "/service/foo", json!(1));
        let asked = world.hooks().take_asked();
        let seen: Vec<_> = asked.iter().map(|q| (q.message.id.is_some(), q.message.client_id.is_some())).collect();
        assert_eq!(seen, [(false, false), (true, true)]);
        assert!(asked.iter().all(|question| question.session.as_ref() == Some(&alice.session(&world))));
    }
}

/// R-4 to R-6, M-13, A-13, A-14, E-190, E-191: the result of a remote call is a delivery with the request's id and
/// `successful`; extra fields are sent; over HTTP it comes before the publish's own reply.
#[test]
fn result_of_a_remote_call_keeps_its_id() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        world.hooks().on(Points::LISTEN, |question, effects| {
            let to = question.session.clone()?;
            let mut result = event("/service/sum", &json!({"sum": 3}));
            result.id = question.message.id.clone();
            result.successful = Some(true);
            let key = bayeux_proto::ByteString::from_static("\"took\"");
            result.fields.push((key, bayeux_proto::RawJson::new("5").expect("JSON")));
            effects.push(bayeux_core::Command::Deliver { to, event: result, from: None });
            None
        });
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        let request = alice.send(&mut world, json!({"channel": "/service/sum", "id": "call7", "data": [1, 2]}));
        let messages = world.exchange(request.exchange.expect("over HTTP")).messages();
        let result =
            json!({"channel": "/service/sum", "id": "call7", "successful": true, "data": {"sum": 3}, "took": 5});
        let reply = json!({"channel": "/service/sum", "id": "call7", "successful": true});
        assert_eq!(messages, [result.clone(), reply.clone()]);
        let mut bob = Client::websocket(&mut world).connected(&mut world);
        world.take_frames(bob.socket());
        bob.send(&mut world, json!({"channel": "/service/sum", "id": "call7", "data": [1, 2]}));
        assert_eq!(world.socket(bob.socket()).messages(), [result, reply]);
    }
}

/// A-10, A-23, G-11: what the application publishes goes through listeners, nothing before them; they may stop or change
/// it.
#[test]
fn publish_of_the_application_goes_through_listeners() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut bob = Client::websocket(&mut world).connected(&mut world);
        bob.subscribe(&mut world, "/**");
        world.hooks().always(Points::INCOMING.with(Points::PUBLISH).with(Points::CREATE), Verdict::deny());
        world.hooks().on(Points::LISTEN, |question, _| {
            let ruling = match question.message.channel.as_deref() {
                Some("/stop") => bayeux_core::Ruling::Deny { reason: None },
                Some("/change") => {
                    let mut message = bayeux_proto::Message::clone(&question.message);
                    message.data = Some(bayeux_proto::RawJson::new("\"changed\"").expect("JSON"));
                    bayeux_core::Ruling::Replace(Box::new(message))
                }
                _ => return Some(bayeux_core::Answer::Later),
            };
            Some(bayeux_core::Answer::Now(Verdict { ruling, ..Verdict::allow() }))
        });
        for name in ["/stop", "/change", "/wait"] {
            let channel = bayeux_testkit::channel(name);
            let command =
                bayeux_core::Command::Publish { channel, event: event(name, &json!(name)), from: None, chain: 0 };
            world.command(command);
        }
        assert_eq!(bob.data(&world), [json!("changed")]);
        assert_eq!(world.questions().len(), 1);
        world.answer(0, Verdict::allow());
        assert_eq!(bob.data(&world), [json!("changed"), json!("/wait")], "{shards} shards");
    }
}

/// E-126, Q-10, Q-21: while a client polls again and again, a fast publisher loses nothing and reorders nothing.
#[test]
fn polling_client_misses_nothing() {
    for shards in SHARDS {
        let mut world = World::new(Options::shards(shards));
        let mut alice = Client::long_polling(&mut world).connected(&mut world);
        let mut bob = Client::websocket(&mut world).connected(&mut world);
        alice.subscribe(&mut world, "/foo");
        let mut poll = alice.connect(&mut world).exchange.expect("over HTTP");
        for n in 0..1_000 {
            bob.publish(&mut world, "/foo", json!(n));
            // It polls again at its own pace.
            if n % 3 == 0 && !world.exchange(poll).is_held() {
                poll = alice.connect(&mut world).exchange.expect("over HTTP");
            }
        }
        alice.connect(&mut world);
        assert_eq!(alice.data(&world), (0..1_000).map(|n| json!(n)).collect::<Vec<_>>());
    }
}
