//! HTTP/2: long-polling with many streams on one connection.

use std::time::Duration;

use serde_json::json;

use crate::conformance::case::{Case, HTTP2, case};
use crate::conformance::client::HELD;
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, ensure};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(http2_publishes_while_a_connect_is_held).must(
            "T2-1",
            HTTP2,
            "A held connect does not block other streams of its connection",
        ),
        case!(http2_holds_many_connects).should("T2-1", HTTP2, "Twenty sessions hold their connects on one connection"),
        case!(http2_reset_ends_a_request_alone).should(
            "T2-2",
            HTTP2,
            "A stream that is reset disturbs no other, nor its session",
        ),
        case!(http2_many_resets_are_survived)
            .should("T2-2", HTTP2, "Two hundred connects that are reset leave the session as it was")
            .hostile(),
        case!(http2_accepts_split_cookies).should(
            "T2-1 TH-25",
            HTTP2,
            "The cookies of a request may come in several headers",
        ),
        case!(http2_large_response_arrives).should(
            "T2-1 Z-20",
            HTTP2,
            "A response of several flow-control windows arrives whole",
        ),
    ]
}

async fn http2_publishes_while_a_connect_is_held(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut client = cx.subscriber(channel.as_str()).await?;
    let mut held = client.hold().await?;
    client.publish(&cx.channel("b"), 1).await?.successful()?;
    let pending = client.is_pending(&mut held, Duration::from_millis(50)).await?;
    ensure!(pending, "expected the connect to stay held");
    Ok(())
}

async fn http2_holds_many_connects(cx: &Cx) -> Outcome {
    let first = cx.session().await?;
    // Clones of one agent share its connection, as tabs of a browser do; each has its session.
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = first.sharing()?;
        client.handshake().await?.successful()?;
        client.connect().await?.successful()?;
        clients.push(client);
    }
    let mut holds = Vec::new();
    for client in &mut clients {
        holds.push(client.start_connect(json!({})).await?);
    }
    tokio::time::sleep(HELD).await;
    for (client, held) in clients.iter_mut().zip(&mut holds) {
        let pending = client.is_pending(held, Duration::ZERO).await?;
        ensure!(pending, "expected all connects to be held");
    }
    Ok(())
}

async fn http2_reset_ends_a_request_alone(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    client.hold().await?.cut();
    client.publish(&cx.channel("a"), 1).await?.successful()?;
    client.connect().await?.successful()?;
    Ok(())
}

async fn http2_many_resets_are_survived(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    for _ in 0..200 {
        let held = client.start_connect(json!({})).await?;
        tokio::task::yield_now().await;
        held.cut();
    }
    // A server may end the connection of who resets so much.
    client.reconnect().await?;
    client.publish(&cx.channel("a"), 1).await?.successful()?;
    cx.still_serves().await
}

async fn http2_accepts_split_cookies(cx: &Cx) -> Outcome {
    let mut client = cx.session().await?;
    let cookies = client.agent()?.cookies();
    client.agent()?.set_cookies(Vec::new());
    let publish = json!([client.message(&cx.channel("a"), json!({"data": 1}))]);
    let mut request = client.agent()?.request(publish.to_string().as_bytes()).header("Cookie", "theme=dark");
    for (name, value) in cookies {
        request = request.header("Cookie", format!("{name}={value}"));
    }
    request = request.header("Cookie", "last=one");
    client.exchange_request(request, &publish).await?.reply_to(&publish[0])?.successful()?;
    Ok(())
}

async fn http2_large_response_arrives(cx: &Cx) -> Outcome {
    let channel = cx.channel("a");
    let mut alice = cx.subscriber(channel.as_str()).await?;
    let mut bob = cx.session().await?;
    let text = "0123456789abcdef".repeat(16 << 10);
    for number in 0..4 {
        bob.publish(&channel, format!("{number}{text}")).await?.successful()?;
    }
    for number in 0..4 {
        alice.receives(&channel, format!("{number}{text}")).await?;
    }
    Ok(())
}
