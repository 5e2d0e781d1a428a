//! How a session begins.

use std::collections::HashSet;

use serde_json::json;

use crate::conformance::case::{ANY, BIG, Case, case};
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, ensure};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(handshake_gives_a_session).must("H-10", ANY, "A handshake is answered with a clientId"),
        case!(handshake_reply_echoes_the_id).must("M-15", ANY, "A handshake reply has the request's id"),
        case!(handshake_reply_names_the_channel).must("M-15", ANY, "A handshake reply is on /meta/handshake"),
        case!(handshake_reply_has_the_version).must("H-10", ANY, "A handshake reply says version 1.0"),
        case!(handshake_reply_lists_transports).must(
            "H-10 T-1",
            ANY,
            "A handshake reply lists transports, that of the handshake among them",
        ),
        case!(handshake_reply_has_the_minimum_version).should("H-10", ANY, "A handshake reply says minimumVersion 1.0"),
        case!(handshake_reply_has_advice).should(
            "V-10 V-13 V-1",
            ANY,
            "A handshake reply has reconnect, interval and timeout",
        ),
        case!(handshake_advice_is_not_negative).should("V-7", ANY, "No advice of a handshake reply is negative"),
        case!(client_ids_differ).must("H-11", ANY, "Each of many handshakes gets another clientId"),
        case!(client_id_is_unguessable).should(
            "H-11",
            ANY,
            "A clientId is alphanumeric and has room for 128 random bits",
        ),
        case!(handshake_accepts_a_minimum_version).must("H-1", ANY, "A handshake may say a minimumVersion"),
        case!(handshake_ignores_unknown_ext).must(
            "X-1",
            ANY,
            "A handshake may have an ext that the server does not know",
        ),
        case!(handshake_ignores_unknown_fields).must(
            "M-4",
            ANY,
            "A handshake may have fields that the server does not know",
        ),
        case!(handshake_needs_no_version).should("H-1", ANY, "A handshake without a version succeeds"),
        case!(handshake_needs_no_connection_types).should(
            "H-1",
            ANY,
            "A handshake without supportedConnectionTypes succeeds",
        ),
        case!(handshake_names_the_servers_transports).should(
            "H-12 T-1",
            ANY,
            "A handshake with unknown transports gets the server's own list",
        ),
        case!(handshake_ignores_a_client_id).should(
            "H-2",
            ANY,
            "A handshake with another session's clientId gets a new one",
        ),
        case!(handshake_ignores_advice).should(
            "V-1 H-1",
            ANY,
            "A handshake may have advice, as CometD's JavaScript sends it",
        ),
        case!(handshake_again_makes_a_new_session).should(
            "H-2",
            ANY,
            "A second handshake gets a new session, usable at once",
        ),
        case!(handshake_must_be_alone).should(
            "H-3",
            ANY,
            "An envelope with a handshake and a subscribe is refused as a whole",
        ),
        case!(handshake_must_be_alone_status).ours(
            "TH-43 Z-1",
            ANY,
            "An envelope with a handshake and a subscribe gets status 400, or close 1008",
        ),
        case!(handshake_must_come_first).ours(
            "H-3 Z-1",
            ANY,
            "An envelope with a handshake at its end has no effect at all",
        ),
        case!(session_is_usable_before_its_first_connect).should(
            "S-9",
            ANY,
            "A session may subscribe and publish before its first connect",
        ),
        case!(handshake_may_be_large).should("Z-20", BIG, "A handshake may carry 16 KiB of credentials in ext"),
    ]
}

async fn handshake_gives_a_session(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let reply = client.handshake().await?;
    reply.successful()?;
    reply.expect(!reply.text("clientId")?.is_empty(), "a clientId that is not empty")?;
    Ok(())
}

async fn handshake_reply_echoes_the_id(cx: &Cx) -> Outcome {
    cx.client().await?.handshake().await?.successful()?.echoes_id()?;
    Ok(())
}

async fn handshake_reply_names_the_channel(cx: &Cx) -> Outcome {
    cx.client().await?.handshake().await?.names_the_channel()?;
    Ok(())
}

async fn handshake_reply_has_the_version(cx: &Cx) -> Outcome {
    cx.client().await?.handshake().await?.successful()?.has("version", "1.0")?;
    Ok(())
}

async fn handshake_reply_lists_transports(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let reply = client.handshake().await?;
    let types = reply.message["supportedConnectionTypes"].as_array().cloned().unwrap_or_default();
    reply.expect(types.iter().all(serde_json::Value::is_string), "names in supportedConnectionTypes")?;
    let own = cx.transport.connection_type();
    reply.expect(types.contains(&json!(own)), &format!("{own} in supportedConnectionTypes"))?;
    Ok(())
}

async fn handshake_reply_has_the_minimum_version(cx: &Cx) -> Outcome {
    cx.client().await?.handshake().await?.successful()?.has("minimumVersion", "1.0")?;
    Ok(())
}

async fn handshake_reply_has_advice(cx: &Cx) -> Outcome {
    let reply = cx.client().await?.handshake().await?;
    reply.advises("reconnect", "retry")?;
    for field in ["interval", "timeout"] {
        reply.expect(reply.message["advice"][field].is_number(), &format!("advice with a number {field:?}"))?;
    }
    Ok(())
}

async fn handshake_advice_is_not_negative(cx: &Cx) -> Outcome {
    let reply = cx.client().await?.handshake().await?;
    reply.successful()?;
    for field in ["interval", "timeout", "maxInterval"] {
        let negative = reply.message["advice"][field].as_f64().is_some_and(|number| number < 0.0);
        reply.expect(!negative, &format!("advice {field:?} of 0 or more"))?;
    }
    Ok(())
}

async fn client_ids_differ(cx: &Cx) -> Outcome {
    let mut ids = HashSet::new();
    for _ in 0..20 {
        let id = cx.handshaken().await?.id;
        ensure!(!ids.contains(&id), "expected another clientId each time, got {id} twice");
        ids.insert(id);
    }
    Ok(())
}

async fn client_id_is_unguessable(cx: &Cx) -> Outcome {
    let mut ids = Vec::new();
    for _ in 0..8 {
        let id = cx.handshaken().await?.id;
        ensure!(id.chars().all(|c| c.is_ascii_alphanumeric()), "expected letters and digits, got {id}");
        ids.push(id);
    }
    // What never changes is not random. A character holds at most six bits.
    let fixed =
        (0..ids[0].len()).filter(|at| ids.iter().all(|id| id.as_bytes().get(*at) == ids[0].as_bytes().get(*at)));
    let random = ids[0].len() - fixed.count();
    ensure!(random * 6 >= 128, "expected 128 random bits, only {random} characters of {} change", ids[0]);
    Ok(())
}

async fn handshake_accepts_a_minimum_version(cx: &Cx) -> Outcome {
    cx.client().await?.handshake_with(json!({"minimumVersion": "1.0"})).await?.successful()?;
    Ok(())
}

async fn handshake_ignores_unknown_ext(cx: &Cx) -> Outcome {
    let ext = json!({"org.example": {"deep": [1, {"a": null}]}, "number": 1});
    cx.client().await?.handshake_with(json!({"ext": ext})).await?.successful()?;
    Ok(())
}

async fn handshake_ignores_unknown_fields(cx: &Cx) -> Outcome {
    cx.client().await?.handshake_with(json!({"colour": "blue", "nothing": null})).await?.successful()?;
    Ok(())
}

async fn handshake_needs_no_version(cx: &Cx) -> Outcome {
    cx.client().await?.handshake_with(json!({"version": null})).await?.successful()?;
    Ok(())
}

async fn handshake_needs_no_connection_types(cx: &Cx) -> Outcome {
    cx.client().await?.handshake_with(json!({"supportedConnectionTypes": null})).await?.successful()?;
    Ok(())
}

async fn handshake_names_the_servers_transports(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let reply = client.handshake_with(json!({"supportedConnectionTypes": ["pigeon"]})).await?;
    let types = reply.successful()?.message["supportedConnectionTypes"].as_array().cloned().unwrap_or_default();
    reply.expect(!types.is_empty() && !types.contains(&json!("pigeon")), "the server's own transports")?;
    Ok(())
}

async fn handshake_ignores_a_client_id(cx: &Cx) -> Outcome {
    let alice = cx.handshaken().await?;
    let mut bob = cx.client().await?;
    let reply = bob.handshake_with(json!({"clientId": alice.id})).await?;
    reply.successful()?.expect(bob.id != alice.id, "a clientId of its own")?;
    Ok(())
}

async fn handshake_ignores_advice(cx: &Cx) -> Outcome {
    let advice = json!({"timeout": 60000, "interval": 0});
    cx.client().await?.handshake_with(json!({"advice": advice})).await?.successful()?;
    Ok(())
}

async fn handshake_again_makes_a_new_session(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let first = client.id.clone();
    let reply = client.handshake().await?;
    reply.successful()?.expect(client.id != first, "another clientId than before")?;
    let channel = cx.channel("a");
    client.connect().await?.successful()?;
    client.subscribe(channel.as_str()).await?.successful()?;
    client.publish(&channel, 1).await?.successful()?;
    client.receives(&channel, 1).await?;
    Ok(())
}

async fn handshake_must_be_alone(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let handshake = client.handshake_message(json!({}));
    let subscribe = client.message("/meta/subscribe", json!({"subscription": cx.channel("a")}));
    client.provoke(json!([handshake, subscribe]).to_string().as_bytes()).await?.refused()
}

async fn handshake_must_be_alone_status(cx: &Cx) -> Outcome {
    let mut client = cx.client().await?;
    let handshake = client.handshake_message(json!({}));
    let subscribe = client.message("/meta/subscribe", json!({"subscription": cx.channel("a")}));
    client.provoke(json!([handshake, subscribe]).to_string().as_bytes()).await?.refused_with(&[400], &[1008])
}

async fn handshake_must_come_first(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut listener = cx.subscriber(channel.as_str()).await?;
    let mut client = cx.session().await?;
    let publish = client.message(&channel, json!({"data": "before the handshake"}));
    let handshake = client.handshake_message(json!({}));
    client.provoke(json!([publish, handshake]).to_string().as_bytes()).await?.refused()?;
    let mut publisher = cx.session().await?;
    listener.hears_no_more(&mut publisher, &channel).await
}

async fn session_is_usable_before_its_first_connect(cx: &Cx) -> Outcome {
    let mut client = cx.handshaken().await?;
    let channel = cx.channel("a");
    client.subscribe(channel.as_str()).await?.successful()?;
    client.publish(&channel, 1).await?.successful()?;
    client.receives(&channel, 1).await?;
    Ok(())
}

async fn handshake_may_be_large(cx: &Cx) -> Outcome {
    let ext = json!({"authentication": {"token": "t".repeat(16 << 10)}});
    cx.client().await?.handshake_with(json!({"ext": ext})).await?.successful()?;
    Ok(())
}
