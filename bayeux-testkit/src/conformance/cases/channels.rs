//! Names of channels and what wildcards match.

use serde_json::json;

use crate::conformance::case::{ANY, Case, case};
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, ensure};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(shallow_wildcard_matches_one_segment).must("C-7", ANY, "/a/* matches /a/b"),
        case!(shallow_wildcard_matches_not_two_segments).must("C-7", ANY, "/a/* does not match /a/b/c"),
        case!(shallow_wildcard_matches_not_its_parent).must("C-7", ANY, "/a/* does not match /a"),
        case!(deep_wildcard_matches_any_depth).must("C-7", ANY, "/a/** matches /a/b and /a/b/c/d"),
        case!(deep_wildcard_matches_not_its_parent).should("C-7", ANY, "/a/** does not match /a"),
        case!(wildcards_match_not_siblings).must("C-7", ANY, "/a/** does not match /b/c, nor /ab/c"),
        case!(wildcard_subscription_sees_the_channel).must(
            "C-7 P-9",
            ANY,
            "A message by way of a wildcard has the channel that it was published to",
        ),
        case!(star_within_a_segment_is_literal).should("C-4", ANY, "/a* is a plain channel and matches only itself"),
        case!(names_are_case_sensitive).must("C-1", ANY, "/a and /A are two channels"),
        case!(names_are_not_decoded).should("C-1", ANY, "/a+b and /a b are two channels"),
        case!(names_may_have_the_specs_characters).must("C-2", ANY, "Letters, digits and -_!~()$@ may be in a channel"),
        case!(names_may_have_cometds_characters).should("C-2", ANY, "Space and #+.{} may be in a channel, too"),
        case!(trailing_slash_does_not_count).should(
            "C-3",
            ANY,
            "/a/ is /a: a subscriber of the one gets what is published to the other",
        ),
        case!(delivery_has_the_normal_name).ours("Z-15", ANY, "What is published to /a/ is delivered as /a"),
        case!(names_may_have_many_segments).should("Z-20", ANY, "A channel may have 32 segments"),
        case!(names_may_be_long).should("Z-20", ANY, "A channel may have 1,000 characters"),
        case!(meta_alone_is_a_broadcast_channel).should(
            "C-6",
            ANY,
            "Channels such as /metafoo and /servicefoo are broadcast channels",
        ),
        case!(star_star_brings_no_meta_messages).should("C-28", ANY, "A subscription to /** brings no meta messages"),
        case!(star_star_brings_no_service_messages).should(
            "C-28 Q-5",
            ANY,
            "A subscription to /** brings no service messages",
        ),
        case!(star_star_brings_broadcasts).must("C-7 C-28", ANY, "A subscription to /** brings every broadcast"),
    ]
}

/// Whether a subscription to `pattern` brings what is published to each of `channels`.
async fn matches(cx: &Cx, pattern: &str, channels: &[&str]) -> Outcome {
    let mut alice = cx.subscriber(cx.channel(pattern)).await?;
    let mut bob = cx.session().await?;
    for name in channels {
        let channel = cx.channel(name);
        bob.publish(&channel, *name).await?.successful()?;
        alice.receives(&channel, *name).await?;
    }
    Ok(())
}

/// Whether a subscription to `pattern` brings nothing of what is published to `channels`.
async fn matches_not(cx: &Cx, pattern: &str, channels: &[&str]) -> Outcome {
    let mut alice = cx.subscriber(cx.channel(pattern)).await?;
    let mut bob = cx.session().await?;
    for name in channels {
        let channel = cx.channel(name);
        bob.publish(&channel, *name).await?.successful()?;
        alice.hears_no_more(&mut bob, &channel).await?;
        // Nor may it come under another name.
        let stray = alice.inbox.iter().find(|message| message["data"] == *name);
        ensure!(stray.is_none(), "expected nothing of what was published on {channel}, got {stray:?}");
    }
    Ok(())
}

async fn shallow_wildcard_matches_one_segment(cx: &Cx) -> Outcome {
    matches(cx, "a/*", &["a/b", "a/c"]).await
}

async fn shallow_wildcard_matches_not_two_segments(cx: &Cx) -> Outcome {
    matches_not(cx, "a/*", &["a/b/c"]).await
}

async fn shallow_wildcard_matches_not_its_parent(cx: &Cx) -> Outcome {
    matches_not(cx, "a/*", &["a"]).await
}

async fn deep_wildcard_matches_any_depth(cx: &Cx) -> Outcome {
    matches(cx, "a/**", &["a/b", "a/b/c", "a/b/c/d"]).await
}

async fn deep_wildcard_matches_not_its_parent(cx: &Cx) -> Outcome {
    matches_not(cx, "a/**", &["a"]).await
}

async fn wildcards_match_not_siblings(cx: &Cx) -> Outcome {
    matches_not(cx, "a/**", &["b/c", "ab/c"]).await
}

async fn wildcard_subscription_sees_the_channel(cx: &Cx) -> Outcome {
    matches(cx, "**", &["some/where"]).await
}

async fn star_within_a_segment_is_literal(cx: &Cx) -> Outcome {
    matches(cx, "a*", &["a*"]).await?;
    matches_not(cx, "b*", &["bc"]).await
}

async fn names_are_case_sensitive(cx: &Cx) -> Outcome {
    matches_not(cx, "a", &["A"]).await
}

async fn names_are_not_decoded(cx: &Cx) -> Outcome {
    matches_not(cx, "a+b", &["a b"]).await
}

async fn names_may_have_the_specs_characters(cx: &Cx) -> Outcome {
    for name in ["azAZ09", "-_!~()$@"] {
        matches(cx, name, &[name]).await?;
    }
    Ok(())
}

async fn names_may_have_cometds_characters(cx: &Cx) -> Outcome {
    for name in ["a b", "a#b+c.d", "a{b}c"] {
        matches(cx, name, &[name]).await?;
    }
    Ok(())
}

async fn trailing_slash_does_not_count(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(format!("{channel}/")).await?;
    cx.session().await?.publish(&channel, 1).await?.successful()?;
    alice.receives(&channel, 1).await?;
    Ok(())
}

async fn delivery_has_the_normal_name(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    cx.session().await?.publish(&format!("{channel}/"), 1).await?.successful()?;
    alice.receives(&channel, 1).await?;
    Ok(())
}

async fn names_may_have_many_segments(cx: &Cx) -> Outcome {
    // The prefix has three or four.
    let segments = 32 - cx.channel("").matches('/').count();
    let name = vec!["s"; segments + 1].join("/");
    matches(cx, &name, &[&name]).await
}

async fn names_may_be_long(cx: &Cx) -> Outcome {
    let name = "n".repeat(1000 - cx.channel("").len());
    matches(cx, &name, &[&name]).await
}

async fn meta_alone_is_a_broadcast_channel(cx: &Cx) -> Outcome {
    let mut alice = cx.session().await?;
    let mut bob = cx.session().await?;
    for root in ["/metafoo", "/servicefoo"] {
        let channel = format!("{root}{}", cx.channel("a"));
        alice.subscribe(channel.as_str()).await?.successful()?;
        bob.publish(&channel, 1).await?.successful()?;
        alice.receives(&channel, 1).await?;
    }
    Ok(())
}

async fn star_star_brings_broadcasts(cx: &Cx) -> Outcome {
    let channel = cx.channel("any/where");
    let mut alice = cx.subscriber("/**").await?;
    cx.session().await?.publish(&channel, 1).await?.successful()?;
    alice.receives(&channel, 1).await?;
    Ok(())
}

async fn star_star_brings_no_meta_messages(cx: &Cx) -> Outcome {
    let mut alice = cx.subscriber("/**").await?;
    let mut bob = cx.session().await?;
    bob.subscribe(cx.channel("a")).await?.successful()?;
    bob.request("/meta/unsubscribe", json!({"subscription": cx.channel("a"), "data": 1})).await?.successful()?;
    let mark = cx.channel("mark");
    bob.publish(&mark, 1).await?.successful()?;
    alice.receives(&mark, 1).await?;
    for message in &alice.inbox {
        let channel = message["channel"].as_str().unwrap_or_default();
        ensure!(!channel.starts_with("/meta/"), "expected no meta messages, got {message}");
    }
    Ok(())
}

async fn star_star_brings_no_service_messages(cx: &Cx) -> Outcome {
    let channel = format!("/service{}", cx.channel("a"));
    let mut alice = cx.subscriber("/**").await?;
    let mut bob = cx.session().await?;
    bob.publish(&channel, 1).await?;
    alice.hears_no_more(&mut bob, &channel).await
}
