//! Whole conversations over real sockets: requests, responses, held connects, sessions in one shard and in several.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use bayeux_http::{Config, HttpOptions, Server};
use common::{config, quick, start, start_with, until};
use serde_json::json;

/// Section 1.3: the minimal exchange.
#[tokio::test]
async fn minimal_exchange() {
    let running = start(quick()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    assert_eq!(running.server.session_count(), 1);
    let subscribe = json!([alice.message("/meta/subscribe", json!({"id": "3", "subscription": "/chat/**"}))]);
    let replies = alice.exchange(&subscribe).await;
    assert_eq!(
        replies,
        [json!({"id": "3", "channel": "/meta/subscribe", "subscription": "/chat/**", "successful": true})]
    );
    let publish = alice.message("/chat/a", json!({"id": "5", "data": {"t": "hi"}}));
    let replies = alice.exchange(&json!([publish])).await;
    // the response to the publish takes the queue, replies follow.
    assert_eq!(
        replies,
        [
            json!({"channel": "/chat/a", "data": {"t": "hi"}}),
            json!({"id": "5", "channel": "/chat/a", "successful": true})
        ]
    );
    let replies = alice.exchange(&json!([alice.connect(None)])).await;
    assert_eq!(replies, [json!({"id": "c", "channel": "/meta/connect", "successful": true})]);
    let disconnect = alice.message("/meta/disconnect", json!({"id": "6"}));
    let replies = alice.exchange(&json!([disconnect])).await;
    assert_eq!(replies, [json!({"id": "6", "channel": "/meta/disconnect", "successful": true})]);
    assert_eq!(running.server.session_count(), 0);
    running.stop().await;
}

/// Z-16, L-47: an aborted poll is noticed, and nothing is written into it.
#[tokio::test]
async fn nothing_is_written_into_a_dropped_poll() {
    let mut config = config();
    config.shards = 2;
    let running = start(config).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.subscribe("/news").await;
    alice.hold(&json!([alice.connect(None)])).await;
    let mut again = running.client().await;
    again.cookie = alice.cookie.clone();
    again.id = alice.id.clone();
    // Answered behind the connect, in its shard: it is held by now.
    again.exchange(&json!([again.message("/service/x", json!({"data": 1}))])).await;
    drop(alice);
    // The next connect is not a duplicate once the first one's end was noticed; either way it must get the message.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    running.server.publish("/news", &1).await.unwrap();
    let replies = again.exchange(&json!([again.connect(None)])).await;
    assert_eq!(replies[0], json!({"channel": "/news", "data": 1}));
    running.stop().await;
}

/// K-13: a held connect is answered by a message.
#[tokio::test]
async fn held_connect_is_answered_by_a_message() {
    for shards in [1, 2, 4] {
        let mut config = config();
        config.shards = shards;
        let running = start(config).await;
        let mut clients = Vec::new();
        for _ in 0..6 {
            let mut client = running.client().await;
            client.handshake().await;
            client.subscribe("/news/*").await;
            client.hold(&json!([client.connect(None)])).await;
            clients.push(client);
        }
        let mut writer = running.client().await;
        writer.handshake().await;
        let publish = writer.message("/news/today", json!({"id": "p", "data": "x"}));
        writer.exchange(&json!([publish])).await;
        for client in &mut clients {
            let messages = client.response().await.json();
            assert_eq!(messages[0], json!({"channel": "/news/today", "data": "x"}), "{shards} shards");
            assert_eq!(messages[1]["channel"], "/meta/connect");
        }
        running.stop().await;
    }
}

/// K-20, TH-46, O-29: a held connect that is replaced gets the configured status.
#[tokio::test]
async fn replaced_connect_gets_the_configured_status() {
    let mut options = HttpOptions::default();
    options.duplicate_meta_connect_http_response_code = 408;
    let running = start_with(Server::builder(quick()), options).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.hold(&json!([alice.connect(None)])).await;
    let mut again = running.client().await;
    again.cookie = alice.cookie.clone();
    again.id = alice.id.clone();
    let publish = again.message("/service/x", json!({"id": "p", "data": 1}));
    again.exchange(&json!([publish])).await;
    let replies = again.exchange(&json!([again.connect(None)])).await;
    assert_eq!(replies[0]["successful"], true);
    assert_eq!(alice.response().await.status, 408);
    running.stop().await;
}

/// E-60, E-61, TH-11, TH-12: a client id is of no use without its browser's cookie, unless sessions are trusted.
#[tokio::test]
async fn session_is_found_by_cookie_or_by_trust() {
    for (trust, shards) in [(false, 1), (false, 4), (true, 1), (true, 4)] {
        let mut config = quick();
        config.shards = shards;
        config.trust_client_session = trust;
        let running = start(config).await;
        let mut alice = running.client().await;
        alice.handshake().await;
        let replies = alice.exchange(&json!([alice.connect(0)])).await;
        assert_eq!(replies[0]["successful"], true);
        for cookie in [None, Some("BAYEUX_BROWSER=somebodyelse".to_owned())] {
            alice.cookie = cookie;
            let replies = alice.exchange(&json!([alice.connect(0)])).await;
            assert_eq!(replies[0]["successful"], trust, "{replies:?}");
            if !trust {
                assert_eq!(replies[0]["error"], "402::session_unknown");
            }
        }
        running.stop().await;
    }
}

/// E-62, E-64, TH-30: the limit of held connects counts per browser, whatever shard each client connected to.
#[tokio::test]
async fn second_tab_of_a_browser_polls() {
    for shards in [1, 2, 4] {
        let mut config = config();
        config.shards = shards;
        let running = start(config).await;
        let mut first = running.client().await;
        first.handshake().await;
        first.hold(&json!([first.connect(None)])).await;
        let mut second = running.client().await;
        second.cookie = first.cookie.clone();
        second.handshake().await;
        let replies = second.exchange(&json!([second.connect(None)])).await;
        assert_eq!(replies[0]["advice"]["multiple-clients"], true, "{shards} shards: {replies:?}");
        assert_eq!(replies[0]["advice"]["interval"], 2000);
        running.stop().await;
    }
}

/// L-20: a session without connects is removed when its time is over, which starts when the response was written.
#[tokio::test]
async fn silent_session_expires() {
    let mut config: Config = quick();
    config.long_polling.max_interval = std::time::Duration::from_millis(200);
    let running = start(config).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    assert_eq!(running.server.session_count(), 1);
    until("the session has expired", || running.server.session_count() == 0).await;
    let replies = alice.exchange(&json!([alice.connect(None)])).await;
    assert_eq!(replies[0]["error"], "402::session_unknown");
    running.stop().await;
}

/// L-36 and the drain: a held connect is answered when the server stops.
#[tokio::test]
async fn held_connect_is_answered_when_the_server_stops() {
    let running = start(config()).await;
    let mut alice = running.client().await;
    alice.handshake().await;
    alice.hold(&json!([alice.connect(None)])).await;
    let mut other = running.client().await;
    other.cookie = alice.cookie.clone();
    other.id = alice.id.clone();
    other.exchange(&json!([other.message("/service/x", json!({"data": 1}))])).await;
    let stopped = tokio::spawn(running.stop());
    let response = alice.response().await;
    assert!(response.status == 200 && response.json()[0]["channel"] == "/meta/connect", "{response:?}");
    stopped.await.unwrap();
}

/// E-163: what the application does reaches the session wherever it is.
#[tokio::test]
async fn application_reaches_sessions_in_all_shards() {
    let mut config = config();
    config.shards = 4;
    let running = start(config).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = running.client().await;
        client.handshake().await;
        client.hold(&json!([client.connect(None)])).await;
        clients.push(client);
    }
    assert_eq!(running.server.session_count(), 8);
    assert_eq!(running.server.sessions().len(), 8);
    for client in &mut clients {
        let session = running.server.session(&client.id).unwrap();
        session.deliver("/private", &json!({"to": client.id})).unwrap();
        assert_eq!(client.response().await.json()[0], json!({"channel": "/private", "data": {"to": client.id}}));
        session.disconnect();
    }
    until("all are disconnected", || running.server.session_count() == 0).await;
    assert!(running.server.session("nobody").is_none());
    running.stop().await;
}
