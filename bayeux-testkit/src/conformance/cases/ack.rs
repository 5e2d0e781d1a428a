//! The extension ack: acknowledged delivery from server to client.

use serde_json::{Value, json};

use crate::conformance::case::{ANY, Case, HTTP, Need, POLLING, WEBSOCKET, case};
use crate::conformance::client::Client;
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, brief, ensure};
use crate::conformance::reply::Reply;

pub(super) fn cases() -> Vec<Case> {
    let cases = vec![
        case!(ack_is_agreed_on).should("XA-1", ANY, "A handshake with ext.ack true is answered with ext.ack"),
        case!(ack_is_not_pressed_on_anybody).should(
            "XA-1 XA-4",
            ANY,
            "Who does not ask for ack gets none, in no reply",
        ),
        case!(ack_needs_true).should("XA-1", ANY, "A handshake with ext.ack false is answered without"),
        case!(ack_numbers_connect_replies).should("XA-4", ANY, "Each connect reply has a number ext.ack"),
        case!(ack_numbers_grow).should("XA-4", ANY, "ext.ack grows from one connect reply to the next"),
        case!(ack_leaves_other_replies_alone).should(
            "XA-4",
            ANY,
            "Replies to subscribes and publishes have no ext.ack",
        ),
        case!(ack_delivers_with_connects_only).should(
            "XA-2 Q-13",
            POLLING,
            "With ack a publish reply brings no messages",
        ),
        case!(ack_pushes_nothing).should(
            "XA-2 Q-13",
            WEBSOCKET,
            "With ack over WebSocket messages come with connect replies",
        ),
        case!(ack_repeats_what_was_lost).should(
            "XA-8 XA-5",
            ANY,
            "A connect that repeats its ext.ack gets the same messages again",
        ),
        case!(ack_repeats_at_once).should("XA-8", ANY, "A connect that tells of a loss is not held"),
        case!(ack_repeats_in_order).should("XA-5", ANY, "Lost messages come before newer ones, in order"),
        case!(ack_repeats_nothing_acknowledged).should("XA-7", ANY, "What was acknowledged does not come again"),
        case!(ack_survives_a_new_connection).should(
            "XA-8 L-2",
            ANY,
            "What was lost with a connection comes over the next",
        ),
        case!(ack_of_another_type_is_ignored).should(
            "XA-16",
            ANY,
            "An ext.ack that is a text does not disturb the connect",
        ),
        case!(ack_of_an_older_number_repeats_nothing_acknowledged).should(
            "XA-7",
            ANY,
            "An ext.ack of -1 is answered like any other",
        ),
        case!(ack_starts_anew_with_a_session).should(
            "XA-13",
            ANY,
            "A second session's first connect reply has ext.ack 1 again",
        ),
        case!(ack_holds_a_connect_without_loss).should(
            "XA-8 K-11",
            HTTP,
            "A connect that acknowledges all is held as usual",
        ),
    ];
    cases.into_iter().map(|case| case.needs(Need::Ack)).collect()
}

/// A client with acknowledgement, and the batch that it has got.
struct Acked {
    client: Client,
    batch: i64,
}

impl Acked {
    /// A session with acknowledgement, after its first connect.
    async fn new(cx: &Cx) -> Outcome<Self> {
        let client = cx.handshaken_with(json!({"ext": {"ack": true}})).await?;
        let mut acked = Self { client, batch: 0 };
        acked.connect().await?;
        Ok(acked)
    }

    async fn subscribed(cx: &Cx, channel: &str) -> Outcome<Self> {
        let mut acked = Self::new(cx).await?;
        acked.client.subscribe(channel).await?.successful()?;
        Ok(acked)
    }

    /// A connect that is not to be held; acknowledges, and takes the reply's number.
    async fn connect(&mut self) -> Outcome<Reply> {
        let reply = self.lose(json!({"timeout": 0})).await?;
        self.batch = number(&reply)?;
        Ok(reply)
    }

    /// A connect whose reply's number is forgotten, as if it had been lost.
    async fn lose(&mut self, advice: Value) -> Outcome<Reply> {
        let fields = json!({"advice": advice, "ext": {"ack": self.batch}});
        let reply = self.client.connect_with(fields).await?;
        reply.successful()?;
        Ok(reply)
    }

    /// Connects until `count` messages have come, acknowledging none of them; yields their data.
    async fn fetch(&mut self, channel: &str, count: usize) -> Outcome<Vec<Value>> {
        for _ in 0..20 {
            let seen = self.client.inbox.iter().filter(|message| message["channel"] == channel).count();
            if seen >= count {
                break;
            }
            self.lose(json!({"timeout": 100})).await?;
        }
        let data = self.client.inbox.drain(..).filter(|message| message["channel"] == channel);
        Ok(data.map(|message| message["data"].clone()).collect())
    }
}

fn number(reply: &Reply) -> Outcome<i64> {
    let number = reply.message["ext"]["ack"].as_i64();
    reply.expect(number.is_some(), "a number ext.ack")?;
    Ok(number.unwrap_or_default())
}

async fn publish(cx: &Cx, channel: &str, data: &[i64]) -> Outcome {
    let mut bob = cx.session().await?;
    for number in data {
        bob.publish(channel, *number).await?.successful()?;
    }
    Ok(())
}

async fn ack_is_agreed_on(cx: &Cx) -> Outcome {
    let reply = cx.client().await?.handshake_with(json!({"ext": {"ack": true}})).await?;
    let ack = &reply.message["ext"]["ack"];
    reply.successful()?.expect(*ack == true || ack["enabled"] == true, "ext.ack true, or with enabled true")?;
    Ok(())
}

async fn ack_is_not_pressed_on_anybody(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let reply = client.handshake().await?;
    reply.expect(reply.message["ext"].get("ack").is_none_or(|ack| *ack == false), "no ext.ack")?;
    let reply = client.connect().await?;
    reply.successful()?.expect(reply.message["ext"].get("ack").is_none(), "no ext.ack")?;
    Ok(())
}

async fn ack_needs_true(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let reply = client.handshake_with(json!({"ext": {"ack": false}})).await?;
    reply.successful()?.expect(reply.message["ext"]["ack"] != true, "no ext.ack")?;
    Ok(())
}

async fn ack_numbers_connect_replies(cx: &Cx) -> Outcome {
    Acked::new(cx).await?.connect().await?;
    Ok(())
}

async fn ack_numbers_grow(cx: &Cx) -> Outcome {
    let mut alice = Acked::new(cx).await?;
    for _ in 0..3 {
        let before = alice.batch;
        let reply = alice.connect().await?;
        reply.expect(alice.batch > before, &format!("an ext.ack of more than {before}"))?;
    }
    Ok(())
}

async fn ack_leaves_other_replies_alone(cx: &Cx) -> Outcome {
    let mut alice = Acked::new(cx).await?;
    let subscribe = alice.client.subscribe(cx.channel("a")).await?;
    let publish = alice.client.publish(&cx.channel("b"), 1).await?;
    for reply in [subscribe, publish] {
        reply.successful()?.expect(reply.message["ext"].get("ack").is_none(), "no ext.ack")?;
    }
    Ok(())
}

async fn ack_delivers_with_connects_only(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = Acked::subscribed(cx, &channel).await?;
    alice.client.publish(&channel, 1).await?.successful()?;
    ensure!(alice.client.inbox.is_empty(), "expected the publish reply alone, got {:?} with it", alice.client.inbox);
    let data = alice.fetch(&channel, 1).await?;
    ensure!(data == [json!(1)], "expected the message with a connect, got {data:?}");
    Ok(())
}

async fn ack_pushes_nothing(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = Acked::subscribed(cx, &channel).await?;
    publish(cx, &channel, &[1]).await?;
    // The reply to anything comes after what was pushed before it.
    alice.client.publish(&cx.channel("b"), 1).await?.successful()?;
    ensure!(alice.client.inbox.is_empty(), "expected no push, got {:?}", alice.client.inbox);
    let data = alice.fetch(&channel, 1).await?;
    ensure!(data == [json!(1)], "expected the message with a connect, got {data:?}");
    Ok(())
}

async fn ack_repeats_what_was_lost(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = Acked::subscribed(cx, &channel).await?;
    publish(cx, &channel, &[1, 2]).await?;
    for _ in 0..3 {
        let data = alice.fetch(&channel, 2).await?;
        ensure!(data == [json!(1), json!(2)], "expected 1 and 2 each time, got {data:?}");
    }
    Ok(())
}

async fn ack_repeats_at_once(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = Acked::subscribed(cx, &channel).await?;
    publish(cx, &channel, &[1]).await?;
    alice.fetch(&channel, 1).await?;
    let fields = json!({"ext": {"ack": alice.batch}});
    let mut held = alice.client.start_connect(fields).await?;
    let answered = alice.client.is_answered(&mut held).await?;
    ensure!(answered, "expected an answer at once, the connect is held");
    alice.client.finish(held).await?;
    let again = alice.client.inbox.iter().any(|message| message["channel"] == channel);
    ensure!(again, "expected the message again, got {:?}", alice.client.inbox);
    Ok(())
}

async fn ack_repeats_in_order(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = Acked::subscribed(cx, &channel).await?;
    publish(cx, &channel, &[1, 2]).await?;
    alice.fetch(&channel, 2).await?;
    publish(cx, &channel, &[3]).await?;
    alice.lose(json!({"timeout": 0})).await?;
    let inbox = alice.client.inbox.drain(..);
    let data: Vec<Value> = inbox.filter(|m| m["channel"] == channel).map(|m| m["data"].clone()).collect();
    ensure!(data == [json!(1), json!(2), json!(3)], "expected 1, 2 and 3, got {data:?}");
    Ok(())
}

async fn ack_repeats_nothing_acknowledged(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = Acked::subscribed(cx, &channel).await?;
    publish(cx, &channel, &[1]).await?;
    for _ in 0..20 {
        alice.connect().await?;
        if !alice.client.inbox.is_empty() {
            break;
        }
    }
    let first = alice.client.inbox.drain(..).count();
    ensure!(first == 1, "expected the message once, got it {first} times");
    alice.connect().await?;
    publish(cx, &channel, &[2]).await?;
    let data = alice.fetch(&channel, 1).await?;
    ensure!(data == [json!(2)], "expected 2 alone, got {data:?}");
    Ok(())
}

async fn ack_survives_a_new_connection(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = Acked::subscribed(cx, &channel).await?;
    publish(cx, &channel, &[1]).await?;
    alice.fetch(&channel, 1).await?;
    alice.client.reconnect().await?;
    publish(cx, &channel, &[2]).await?;
    let data = alice.fetch(&channel, 2).await?;
    ensure!(data == [json!(1), json!(2)], "expected 1 and 2 over the new connection, got {data:?}");
    Ok(())
}

async fn ack_of_another_type_is_ignored(cx: &Cx) -> Outcome {
    let mut alice = Acked::new(cx).await?;
    for odd in [json!("one"), json!({"a": 1}), json!(null), json!([])] {
        let fields = json!({"advice": {"timeout": 0}, "ext": {"ack": odd}});
        alice.client.connect_with(fields).await?.successful()?;
    }
    Ok(())
}

async fn ack_of_an_older_number_repeats_nothing_acknowledged(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = Acked::subscribed(cx, &channel).await?;
    publish(cx, &channel, &[1]).await?;
    for _ in 0..20 {
        alice.connect().await?;
        if !alice.client.inbox.is_empty() {
            break;
        }
    }
    ensure!(!alice.client.inbox.is_empty(), "expected the message with a connect, it did not come");
    alice.client.inbox.clear();
    // It acknowledges the message; what follows cannot take that back.
    alice.connect().await?;
    let fields = json!({"advice": {"timeout": 0}, "ext": {"ack": -1}});
    alice.client.connect_with(fields).await?.successful()?;
    let again = alice.client.inbox.iter().find(|message| message["channel"] == channel);
    ensure!(again.is_none(), "expected nothing, got {} again", brief(&again.cloned().unwrap_or_default()));
    Ok(())
}

async fn ack_starts_anew_with_a_session(cx: &Cx) -> Outcome {
    let mut alice = Acked::new(cx).await?;
    let first = alice.batch;
    alice.connect().await?;
    alice.client.handshake_with(json!({"ext": {"ack": true}})).await?.successful()?;
    alice.batch = 0;
    let reply = alice.connect().await?;
    reply.expect(alice.batch == first, &format!("ext.ack {first} again"))?;
    Ok(())
}

async fn ack_holds_a_connect_without_loss(cx: &Cx) -> Outcome {
    let mut alice = Acked::new(cx).await?;
    let mut held = alice.client.start_connect(json!({"ext": {"ack": alice.batch}})).await?;
    alice.client.stays_held(&mut held).await
}
