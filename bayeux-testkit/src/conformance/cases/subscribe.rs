//! Subscribing and unsubscribing.

use serde_json::{Value, json};

use crate::conformance::case::{ANY, BIG, Case, case};
use crate::conformance::client::{Client, NOBODY};
use crate::conformance::cx::Cx;
use crate::conformance::outcome::Outcome;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = subscribing();
    cases.extend(unsubscribing());
    cases
}

fn subscribing() -> Vec<Case> {
    vec![
        case!(subscribe_succeeds).must("S-1", ANY, "A subscribe is answered successfully"),
        case!(subscribe_reply_echoes_the_id).must("M-15", ANY, "A subscribe reply has the request's id"),
        case!(subscribe_reply_names_the_channel).must("M-15", ANY, "A subscribe reply is on /meta/subscribe"),
        case!(subscribe_reply_echoes_the_subscription).must("M-15", ANY, "A subscribe reply names the subscription"),
        case!(subscribe_takes_an_array).must(
            "S-1 S-4",
            ANY,
            "A subscription may be an array; each channel of it works",
        ),
        case!(subscribe_array_has_one_reply).should("S-4", ANY, "A subscribe with an array has one reply"),
        case!(subscribe_array_is_echoed).should("M-15", ANY, "An array of subscriptions is echoed as it was"),
        case!(subscribe_text_is_echoed_verbatim).should(
            "M-15 C-3",
            ANY,
            "A trailing slash is echoed with the subscription",
        ),
        case!(subscribe_twice_succeeds).should("S-5", ANY, "To subscribe twice succeeds"),
        case!(subscribe_twice_delivers_once).should("S-5 Q-4", ANY, "Who has subscribed twice gets a message once"),
        case!(subscribe_brings_nothing_older).must("S-10", ANY, "A subscription brings nothing from before it"),
        case!(subscribe_without_subscription_is_refused).must(
            "F-21",
            ANY,
            "A subscribe without subscription is not successful",
        ),
        case!(subscribe_without_subscription_is_told).should(
            "F-21",
            ANY,
            "A subscribe without subscription gets 403::subscription_missing",
        ),
        case!(subscribe_null_is_missing).should(
            "M-19 F-21",
            ANY,
            "A subscription of null gets 403::subscription_missing",
        ),
        case!(subscribe_object_is_invalid).should(
            "F-22",
            ANY,
            "A subscription that is an object gets 403::subscription_invalid",
        ),
        case!(subscribe_number_is_invalid).should(
            "F-22",
            ANY,
            "A subscription that is a number gets 403::subscription_invalid",
        ),
        case!(subscribe_array_of_numbers_is_invalid).should(
            "S-1 F-22",
            ANY,
            "An array of numbers gets 403::subscription_invalid",
        ),
        case!(subscribe_empty_array_is_invalid).ours("Z-7", ANY, "An empty array gets 403::subscription_invalid"),
        case!(subscribe_markup_is_invalid).should(
            "C-26 F-22",
            ANY,
            "A subscription with markup gets 403::subscription_invalid",
        ),
        case!(subscribe_without_slash_is_refused).must(
            "C-27",
            ANY,
            "A subscription without a leading slash is not successful",
        ),
        case!(subscribe_without_slash_is_invalid).should(
            "C-27 F-22",
            ANY,
            "A subscription without a leading slash gets 403::subscription_invalid",
        ),
        case!(subscribe_slash_is_invalid).should(
            "C-27 F-22",
            ANY,
            "A subscription to / gets 403::subscription_invalid",
        ),
        case!(subscribe_empty_text_is_invalid).should(
            "C-27 F-22",
            ANY,
            "An empty subscription gets 403::subscription_invalid",
        ),
        case!(subscribe_non_ascii_is_invalid).should(
            "C-2 F-22",
            ANY,
            "A subscription with an é gets 403::subscription_invalid",
        ),
        case!(subscribe_bad_structure_is_invalid).ours(
            "Z-2 C-4",
            ANY,
            "Empty segments and stars in the middle get 403::subscription_invalid",
        ),
        case!(subscribe_array_is_checked_first).should(
            "S-2",
            ANY,
            "An array with an invalid channel subscribes to none of it",
        ),
        case!(subscribe_array_stops_at_a_denial).should(
            "S-6 F-18",
            ANY,
            "An array with a denied channel keeps those before it",
        ),
        case!(subscribe_meta_is_refused).must("C-23", ANY, "To subscribe to a meta channel is not successful"),
        case!(subscribe_meta_is_denied).should(
            "C-23 F-18",
            ANY,
            "/meta/connect gets 403:denied_by_security_policy:subscribe_denied",
        ),
        case!(subscribe_unknown_meta_is_denied).should(
            "C-24 F-17",
            ANY,
            "/meta/other gets 403:denied_by_security_policy:create_denied",
        ),
        case!(subscribe_meta_wildcards_are_refused).must(
            "C-25",
            ANY,
            "To subscribe to /meta/* or /meta/** is not successful",
        ),
        case!(subscribe_meta_wildcards_are_denied).should(
            "C-25 F-17",
            ANY,
            "/meta/** gets 403:denied_by_security_policy:create_denied",
        ),
        case!(subscribe_service_succeeds).should("C-22", ANY, "To subscribe to a service channel succeeds"),
        case!(subscribe_of_nobody_is_refused).must("F-12", ANY, "A subscribe of an unknown session is not successful"),
        case!(subscribe_of_nobody_gets_402).should(
            "F-12 V-20",
            ANY,
            "A subscribe of an unknown session gets 402::session_unknown, without advice",
        ),
        case!(subscribe_syntax_is_checked_before_sessions).should(
            "G-2",
            ANY,
            "An unknown session with an invalid id is told of the id",
        ),
        case!(subscribe_to_a_thousand).ours("Z-20", BIG, "A session may subscribe to 1,000 channels in one array"),
    ]
}

fn unsubscribing() -> Vec<Case> {
    vec![
        case!(unsubscribe_succeeds).must("S-12", ANY, "An unsubscribe is answered successfully"),
        case!(unsubscribe_reply_echoes_the_id).must("M-15", ANY, "An unsubscribe reply has the request's id"),
        case!(unsubscribe_reply_names_the_channel).must("M-15", ANY, "An unsubscribe reply is on /meta/unsubscribe"),
        case!(unsubscribe_reply_echoes_the_subscription).must(
            "M-15",
            ANY,
            "An unsubscribe reply names the subscription",
        ),
        case!(unsubscribe_ends_delivery).must("S-12", ANY, "After an unsubscribe nothing more is delivered"),
        case!(unsubscribe_takes_an_array).should(
            "S-12 S-4",
            ANY,
            "An unsubscribe may have an array; each channel of it ends",
        ),
        case!(unsubscribe_leaves_other_subscriptions).must(
            "S-12",
            ANY,
            "An unsubscribe leaves other subscriptions alone",
        ),
        case!(unsubscribe_of_a_stranger_succeeds).should(
            "S-12",
            ANY,
            "To unsubscribe from what others have subscribed to succeeds",
        ),
        case!(unsubscribe_from_an_unknown_channel).should(
            "F-11",
            ANY,
            "To unsubscribe from an unknown channel gets 400::channel_missing",
        ),
        case!(unsubscribe_from_meta_fails).should(
            "F-20 C-23",
            ANY,
            "To unsubscribe from /meta/connect gets 403::unsubscribe_failed",
        ),
        case!(unsubscribe_without_subscription_is_told).should(
            "F-21",
            ANY,
            "An unsubscribe without subscription gets 403::subscription_missing",
        ),
        case!(unsubscribe_markup_is_invalid).should(
            "C-26 F-22",
            ANY,
            "To unsubscribe from markup gets 403::subscription_invalid",
        ),
        case!(unsubscribe_then_subscribe_again).must("S-12 S-10", ANY, "Who subscribes again gets messages again"),
    ]
}

/// A subscription that is refused in these words.
async fn refuses(cx: &Cx, subscription: Value, error: &str) -> Outcome {
    cx.session().await?.subscribe(subscription).await?.error(error)?;
    Ok(())
}

async fn subscribe_succeeds(cx: &Cx) -> Outcome {
    cx.session().await?.subscribe(cx.channel("a")).await?.successful()?;
    Ok(())
}

async fn subscribe_reply_echoes_the_id(cx: &Cx) -> Outcome {
    cx.session().await?.subscribe(cx.channel("a")).await?.successful()?.echoes_id()?;
    Ok(())
}

async fn subscribe_reply_names_the_channel(cx: &Cx) -> Outcome {
    cx.session().await?.subscribe(cx.channel("a")).await?.successful()?.names_the_channel()?;
    Ok(())
}

async fn subscribe_reply_echoes_the_subscription(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    cx.session().await?.subscribe(channel.as_str()).await?.successful()?.has("subscription", channel)?;
    Ok(())
}

/// Publishes on each channel, and receives from each.
async fn hears(client: &mut Client, channels: &[String]) -> Outcome {
    for channel in channels {
        client.publish(channel, 1).await?.successful()?;
        client.receives(channel, 1).await?;
    }
    Ok(())
}

async fn subscribe_takes_an_array(cx: &Cx) -> Outcome {
    let channels = [cx.channel("one"), cx.channel("two")];
    let mut client = cx.subscriber(json!(channels)).await?;
    hears(&mut client, &channels).await
}

async fn subscribe_array_has_one_reply(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let subscribe = client.message("/meta/subscribe", json!({"subscription": [cx.channel("one"), cx.channel("two")]}));
    let answer = client.exchange(&json!([subscribe])).await?;
    let replies = answer.messages.iter().filter(|message| message["channel"] == "/meta/subscribe").count();
    answer.reply_to(&subscribe)?.expect(replies == 1, "one reply, not several")?;
    Ok(())
}

async fn subscribe_array_is_echoed(cx: &Cx) -> Outcome {
    let channels = json!([cx.channel("one"), cx.channel("two")]);
    cx.session().await?.subscribe(channels.clone()).await?.successful()?.has("subscription", channels)?;
    Ok(())
}

async fn subscribe_text_is_echoed_verbatim(cx: &Cx) -> Outcome {
    let channel = cx.channel("a/");
    cx.session().await?.subscribe(channel.as_str()).await?.successful()?.has("subscription", channel)?;
    Ok(())
}

async fn subscribe_twice_succeeds(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    cx.subscriber(channel.as_str()).await?.subscribe(channel.as_str()).await?.successful()?;
    Ok(())
}

async fn subscribe_twice_delivers_once(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    alice.subscribe(channel.as_str()).await?.successful()?;
    let mut bob = cx.session().await?;
    bob.publish(&channel, 1).await?.successful()?;
    alice.receives(&channel, 1).await?;
    alice.hears_no_more(&mut bob, &channel).await
}

async fn subscribe_brings_nothing_older(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut bob = cx.session().await?;
    bob.publish(&channel, "old").await?.successful()?;
    let mut alice = cx.subscriber(channel.as_str()).await?;
    bob.publish(&channel, "new").await?.successful()?;
    alice.receives(&channel, "new").await?;
    alice.hears_no_more(&mut bob, &channel).await
}

async fn subscribe_without_subscription_is_refused(cx: &Cx) -> Outcome {
    cx.session().await?.fails("/meta/subscribe", json!({})).await
}

async fn subscribe_without_subscription_is_told(cx: &Cx) -> Outcome {
    cx.session().await?.request("/meta/subscribe", json!({})).await?.error("403::subscription_missing")?;
    Ok(())
}

async fn subscribe_null_is_missing(cx: &Cx) -> Outcome {
    refuses(cx, Value::Null, "403::subscription_missing").await
}

async fn subscribe_object_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, json!({"a": "/b"}), "403::subscription_invalid").await
}

async fn subscribe_number_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, json!(5), "403::subscription_invalid").await
}

async fn subscribe_array_of_numbers_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, json!([5]), "403::subscription_invalid").await
}

async fn subscribe_empty_array_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, json!([]), "403::subscription_invalid").await
}

async fn subscribe_markup_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, json!(cx.channel("bar<script>")), "403::subscription_invalid").await
}

async fn subscribe_without_slash_is_refused(cx: &Cx) -> Outcome {
    cx.session().await?.fails("/meta/subscribe", json!({"subscription": "foo"})).await
}

async fn subscribe_without_slash_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, json!("foo"), "403::subscription_invalid").await
}

async fn subscribe_slash_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, json!("/"), "403::subscription_invalid").await
}

async fn subscribe_empty_text_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, json!(""), "403::subscription_invalid").await
}

async fn subscribe_non_ascii_is_invalid(cx: &Cx) -> Outcome {
    refuses(cx, json!(cx.channel("caf\u{e9}")), "403::subscription_invalid").await
}

async fn subscribe_bad_structure_is_invalid(cx: &Cx) -> Outcome {
    for name in ["a//b", "*/b", "**/b", "**/*", "a/ /b", "{x}/*"] {
        refuses(cx, json!(cx.channel(name)), "403::subscription_invalid").await?;
    }
    Ok(())
}

async fn subscribe_array_is_checked_first(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.session().await?;
    alice.subscribe(json!([channel, "no channel"])).await?.error("403::subscription_invalid")?;
    let mut bob = cx.session().await?;
    bob.publish(&channel, 1).await?.successful()?;
    alice.hears_no_more(&mut bob, &channel).await
}

async fn subscribe_array_stops_at_a_denial(cx: &Cx) -> Outcome {
    let (before, after) = (cx.channel("before"), cx.channel("after"));
    let mut alice = cx.session().await?;
    let reply = alice.subscribe(json!([before, "/meta/connect", after])).await?;
    reply.error("403:denied_by_security_policy:subscribe_denied")?;
    let mut bob = cx.session().await?;
    bob.publish(&after, 1).await?.successful()?;
    bob.publish(&before, 2).await?.successful()?;
    alice.receives(&before, 2).await?;
    alice.hears_no_more(&mut bob, &after).await
}

async fn subscribe_meta_is_refused(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    for name in ["handshake", "connect", "subscribe", "unsubscribe", "disconnect"] {
        client.subscribe(format!("/meta/{name}")).await?.refused()?;
    }
    Ok(())
}

async fn subscribe_meta_is_denied(cx: &Cx) -> Outcome {
    refuses(cx, json!("/meta/connect"), "403:denied_by_security_policy:subscribe_denied").await
}

async fn subscribe_unknown_meta_is_denied(cx: &Cx) -> Outcome {
    refuses(cx, json!("/meta/other"), "403:denied_by_security_policy:create_denied").await
}

async fn subscribe_meta_wildcards_are_refused(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.subscribe("/meta/*").await?.refused()?;
    client.subscribe("/meta/**").await?.refused()?;
    Ok(())
}

async fn subscribe_meta_wildcards_are_denied(cx: &Cx) -> Outcome {
    refuses(cx, json!("/meta/**"), "403:denied_by_security_policy:create_denied").await
}

async fn subscribe_service_succeeds(cx: &Cx) -> Outcome {
    cx.session().await?.subscribe(format!("/service{}", cx.channel("a"))).await?.successful()?;
    Ok(())
}

/// A client that claims a session which the server never gave.
async fn nobody(cx: &Cx) -> Outcome<Client> {
    let mut client = cx.client().await?;
    client.id = NOBODY.to_owned();
    Ok(client)
}

async fn subscribe_of_nobody_is_refused(cx: &Cx) -> Outcome {
    nobody(cx).await?.subscribe(cx.channel("a")).await?.refused()?;
    Ok(())
}

async fn subscribe_of_nobody_gets_402(cx: &Cx) -> Outcome {
    nobody(cx).await?.subscribe(cx.channel("a")).await?.error("402::session_unknown")?.lacks("advice")?;
    Ok(())
}

async fn subscribe_syntax_is_checked_before_sessions(cx: &Cx) -> Outcome {
    let mut client = nobody(cx).await?;
    let message = json!({"id": "<id>", "subscription": cx.channel("a")});
    client.request("/meta/subscribe", message).await?.error("405::message_id_invalid")?;
    Ok(())
}

async fn subscribe_to_a_thousand(cx: &Cx) -> Outcome {
    let channels: Vec<String> = (0..1000).map(|number| format!("/conformance-many/{number}")).collect();
    cx.session().await?.subscribe(json!(channels)).await?.successful()?;
    Ok(())
}

async fn unsubscribe_succeeds(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    cx.subscriber(channel.as_str()).await?.unsubscribe(channel).await?.successful()?;
    Ok(())
}

async fn unsubscribe_reply_echoes_the_id(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    cx.subscriber(channel.as_str()).await?.unsubscribe(channel).await?.successful()?.echoes_id()?;
    Ok(())
}

async fn unsubscribe_reply_names_the_channel(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    cx.subscriber(channel.as_str()).await?.unsubscribe(channel).await?.successful()?.names_the_channel()?;
    Ok(())
}

async fn unsubscribe_reply_echoes_the_subscription(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut client = cx.subscriber(channel.as_str()).await?;
    client.unsubscribe(channel.as_str()).await?.successful()?.has("subscription", channel)?;
    Ok(())
}

async fn unsubscribe_ends_delivery(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    alice.unsubscribe(channel.as_str()).await?.successful()?;
    bob.publish(&channel, 1).await?.successful()?;
    alice.hears_no_more(&mut bob, &channel).await
}

async fn unsubscribe_takes_an_array(cx: &Cx) -> Outcome {
    let channels = [cx.channel("one"), cx.channel("two")];
    let mut alice = cx.subscriber(json!(channels)).await?;
    alice.unsubscribe(json!(channels)).await?.successful()?;
    let mut bob = cx.session().await?;
    for channel in &channels {
        bob.publish(channel, 1).await?.successful()?;
        alice.hears_no_more(&mut bob, channel).await?;
    }
    Ok(())
}

async fn unsubscribe_leaves_other_subscriptions(cx: &Cx) -> Outcome {
    let channels = [cx.channel("one"), cx.channel("two"), cx.channel("*")];
    let mut client = cx.subscriber(json!(channels)).await?;
    client.unsubscribe(channels[0].as_str()).await?.successful()?;
    // The first still matches the wildcard.
    hears(&mut client, &channels[..2]).await
}

async fn unsubscribe_of_a_stranger_succeeds(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let _alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    bob.unsubscribe(channel).await?.successful()?;
    Ok(())
}

async fn unsubscribe_from_an_unknown_channel(cx: &Cx) -> Outcome {
    cx.session().await?.unsubscribe(cx.channel("nowhere")).await?.error("400::channel_missing")?;
    Ok(())
}

async fn unsubscribe_from_meta_fails(cx: &Cx) -> Outcome {
    cx.session().await?.unsubscribe("/meta/connect").await?.error("403::unsubscribe_failed")?;
    Ok(())
}

async fn unsubscribe_without_subscription_is_told(cx: &Cx) -> Outcome {
    cx.session().await?.request("/meta/unsubscribe", json!({})).await?.error("403::subscription_missing")?;
    Ok(())
}

async fn unsubscribe_markup_is_invalid(cx: &Cx) -> Outcome {
    cx.session().await?.unsubscribe(cx.channel("bar<script>")).await?.error("403::subscription_invalid")?;
    Ok(())
}

async fn unsubscribe_then_subscribe_again(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut client = cx.subscriber(channel.as_str()).await?;
    client.unsubscribe(channel.as_str()).await?.successful()?;
    client.subscribe(channel.as_str()).await?.successful()?;
    hears(&mut client, &[channel]).await
}
