//! A decent client on new connections: whatever others did, it is served.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::connection::Connection;
use super::frames;
use super::http1::{self, Response};
use super::server::Network;

/// Two clients, one on each transport, meet on a channel that nobody else knows.
///
/// # Panics
/// Where they do not.
pub(super) async fn serves(network: &mut Network) {
    let mut polling = Connection::open(network).await;
    let mut socket = Connection::open(network).await;
    let mut choices = crate::choices::Choices::new(&[]);
    socket.send(network, &frames::upgrade(&mut choices).0, 0).await;

    let handshake = json!([{"channel": "/meta/handshake", "version": "1.0",
        "supportedConnectionTypes": ["websocket", "long-polling"]}]);
    let reply = ask(network, &mut polling, &handshake).await;
    let poller = reply[0]["clientId"].as_str().expect("a handshake succeeds").to_owned();
    let subscribe = json!([{"channel": "/meta/subscribe", "clientId": poller, "subscription": "/good/*"}]);
    let reply = ask(network, &mut polling, &subscribe).await;
    assert_eq!(reply.last().map(|reply| &reply["successful"]), Some(&json!(true)), "{reply:?}");

    socket.send(network, &frames::text(handshake.to_string().as_bytes()), 0).await;
    let talker = until(network, &socket, |received| super::answers::client_ids(received, 0).pop()).await;
    let publish = json!([{"channel": "/good/word", "clientId": talker, "data": "to be heard"}]);
    socket.send(network, &frames::text(publish.to_string().as_bytes()), 0).await;

    let connect = json!([{"channel": "/meta/connect", "clientId": poller, "connectionType": "long-polling",
        "advice": {"timeout": 2000}}]);
    let messages = ask(network, &mut polling, &connect).await;
    // The first connect is answered at once, perhaps before the word has arrived.
    let heard = |messages: &[Value]| messages.iter().any(|message| message["data"] == "to be heard");
    let is_heard = heard(&messages) || heard(&ask(network, &mut polling, &connect).await);
    assert!(is_heard, "a message is lost: {messages:?}");
    let disconnect = |id| json!([{"channel": "/meta/disconnect", "clientId": id}]);
    ask(network, &mut polling, &disconnect(poller)).await;
    socket.send(network, &frames::text(disconnect(talker).to_string().as_bytes()), 0).await;
    polling.end(network).await;
    socket.end(network).await;
}

/// Posts messages; those that answer them.
async fn ask(network: &Network, connection: &mut Connection, messages: &Value) -> Vec<Value> {
    let received = connection.received();
    let before = received.len();
    let browser = super::answers::browser(&received);
    connection.send(network, &http1::post(browser.as_deref(), &messages.to_string()), 0).await;
    until(network, connection, |received| {
        let (Response { status, body, .. }, _) = http1::response(received.get(before..)?, false)?;
        assert_eq!(status, 200, "to {messages}");
        Some(serde_json::from_slice(body).expect("it was checked"))
    })
    .await
}

/// Waits until `found` finds what it looks for in what came.
async fn until<T>(network: &Network, connection: &Connection, found: impl Fn(&[u8]) -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = found(&connection.received()) {
                return found;
            }
            network.settle().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    match timeout(network.patience(), waiting).await {
        Ok(found) => found,
        Err(_) => panic!("a decent client waits in vain after {}", connection.received().escape_ascii()),
    }
}
