//! The extensions that come with the server, as an application uses them: acknowledgement, time, binary data, idleness.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bayeux_http::filter::NoMarkup;
use bayeux_http::proto::{BinaryData, RawJson};
use bayeux_http::{
    Acknowledgement, Activity, ActivityPolicy, Config, HttpOptions, Incoming, RemovalReason, Server, Session,
    TimestampFormat,
};
use common::{Client, Running, quick, start_with, until};
use serde_json::{Value, json};
use tokio::net::TcpStream;

async fn start(change: impl FnOnce(&mut Config)) -> Running {
    let mut config = quick();
    config.shards = 2;
    change(&mut config);
    start_with(Server::builder(config), HttpOptions::default()).await
}

async fn handshake(running: &Running, ext: Value) -> (Client<TcpStream>, Session, Value) {
    let mut client = running.client().await;
    let hello = json!([{"id": "1", "channel": "/meta/handshake", "version": "1.0", "ext": ext}]);
    let response = client.post(hello.to_string()).await;
    client.cookie = response.header("set-cookie").map(|cookie| cookie.split(';').next().unwrap().to_owned());
    let reply = response.json()[0].clone();
    client.id = reply["clientId"].as_str().unwrap().to_owned();
    let session = running.server.session(&client.id).unwrap();
    (client, session, reply)
}

async fn connect(client: &mut Client<TcpStream>, ext: Value) -> Vec<Value> {
    let mut connect = client.connect(0);
    connect["ext"] = ext;
    client.exchange(&json!([connect])).await
}

/// XA-14: what was sent, and what arrived.
#[tokio::test]
async fn acknowledgements_are_told() {
    let running = start(|config| config.acknowledge = true).await;
    let (mut alice, session, reply) = handshake(&running, json!({"ack": true})).await;
    assert_eq!(reply["ext"], json!({"ack": true}));
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&told);
    session.on_acknowledgement(move |news| note.lock().unwrap().push(*news));
    connect(&mut alice, json!({"ack": 0})).await;
    session.deliver("/a", &1).unwrap();
    session.deliver("/a", &2).unwrap();
    let lost = connect(&mut alice, json!({"ack": 1})).await;
    assert_eq!(lost.last().unwrap()["ext"]["ack"], 2);
    let again = connect(&mut alice, json!({"ack": 1})).await;
    assert_eq!(again.iter().filter_map(|message| message["data"].as_u64()).collect::<Vec<_>>(), [1, 2]);
    connect(&mut alice, json!({"ack": 3})).await;
    assert_eq!(
        *told.lock().unwrap(),
        [
            Acknowledgement::Sent { batch: 2, messages: 2 },
            Acknowledgement::Sent { batch: 3, messages: 2 },
            Acknowledgement::Received { batch: 3 },
        ]
    );
    running.stop().await;
}

/// XS-2: of every message to clients.
#[tokio::test]
async fn messages_have_timestamps() {
    let running = start(|config| config.timestamp = Some(TimestampFormat::HttpDate)).await;
    let (mut alice, session, reply) = handshake(&running, json!({})).await;
    session.deliver("/a", &1).unwrap();
    let messages = connect(&mut alice, json!({})).await;
    for message in messages.iter().chain([&reply]) {
        let timestamp = message["timestamp"].as_str().unwrap_or_else(|| panic!("{message}"));
        assert!(timestamp.ends_with(" GMT") && timestamp.len() == 29, "{timestamp}");
    }
    running.stop().await;
}

/// XT-2, XT-3: the client learns the time, the application its lag.
#[tokio::test]
async fn clients_learn_the_time() {
    let running = start(|config| config.timesync = true).await;
    let timesync = json!({"timesync": {"tc": 1000, "l": 0, "o": 0}});
    let (mut alice, session, reply) = handshake(&running, timesync).await;
    let ts = reply["ext"]["timesync"]["ts"].as_u64().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    assert!(u128::from(ts).abs_diff(now) < 10_000, "{ts} is the time");
    assert_eq!(reply["ext"]["timesync"]["a"].as_i64(), Some(1000 - i64::try_from(ts).unwrap()));
    assert_eq!(session.lag(), None);
    connect(&mut alice, json!({"timesync": {"tc": 1000, "l": 12, "o": 0}})).await;
    assert_eq!(session.lag(), Some(Duration::from_millis(12)));
    running.stop().await;
}

/// XB-2: what looks like markup in Z85 is bytes, and no filter's business.
#[tokio::test]
async fn filters_of_text_leave_binary_data_alone() {
    let mut config = quick();
    config.binary = true;
    let builder = Server::builder(config).filter("/**", NoMarkup);
    let running = start_with(builder, HttpOptions::default()).await;
    let (mut alice, ..) = handshake(&running, json!({})).await;
    alice.subscribe("/bytes").await;
    let fields = json!({"id": "p", "data": {"data": "<<<<<", "last": true}, "ext": {"binary": {}}});
    let sent = json!([alice.message("/bytes", fields), alice.message("/bytes", json!({"id": "t", "data": "<"}))]);
    let mut heard = alice.exchange(&sent).await;
    heard.extend(connect(&mut alice, json!({})).await);
    heard.retain(|message| message.get("data").is_some());
    let data: Vec<&Value> = heard.iter().map(|message| &message["data"]).collect();
    assert_eq!(data, [&json!({"data": "<<<<<", "last": true}), &json!("&lt;")]);
    running.stop().await;
}

/// XB-1, XB-5, XB-6: bytes in, bytes out, on publishes, deliveries and in listeners.
#[tokio::test]
async fn binary_data_is_read_and_sent() {
    let mut config = quick();
    config.binary = true;
    let read = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&read);
    let builder = Server::builder(config).on_message("/service/bytes", async |call: Incoming| {
        let mut bytes = call.binary().unwrap().unwrap().data.to_vec();
        bytes.reverse();
        call.answer_binary(&BinaryData::new(bytes)).unwrap();
    });
    let builder = builder.on_message("/bytes", move |message: Incoming| {
        *seen.lock().unwrap() = message.binary().unwrap();
        async {}
    });
    let running = start_with(builder, HttpOptions::default()).await;
    let (mut alice, session, _) = handshake(&running, json!({})).await;
    alice.subscribe("/bytes").await;
    let fields = json!({"id": "p", "data": {"data": "HelloWorld", "last": true}, "ext": {"binary": {}}});
    let replies = alice.exchange(&json!([alice.message("/bytes", fields)])).await;
    assert_eq!(replies[0]["data"]["data"], "HelloWorld");
    assert_eq!(replies[0]["ext"], json!({"binary": {}}));
    let bytes = [0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b];
    assert_eq!(read.lock().unwrap().take().map(|binary| binary.data.to_vec()), Some(bytes.to_vec()), "XB-4");
    let forged = json!({"id": "p", "data": {"data": "H", "last": true}, "ext": {"binary": {}}});
    let replies = alice.exchange(&json!([alice.message("/bytes", forged)])).await;
    assert_eq!(replies[0]["error"], "400::binary_invalid");
    let data = BinaryData::new(bytes.to_vec());
    //
    let call = json!({"id": "c", "data": {"data": "HelloWorld", "last": true}, "ext": {"binary": {}}});
    let replies = alice.exchange(&json!([alice.message("/service/bytes", call)])).await;
    let answer = BinaryData::from_data(&RawJson::from_serialize(&replies[0]["data"]).unwrap()).unwrap();
    assert_eq!(answer.data.iter().rev().copied().collect::<Vec<u8>>(), bytes);
    assert_eq!((&replies[0]["id"], &replies[0]["successful"]), (&json!("c"), &json!(true)));
    running.server.publish_binary("/bytes", &data).await.unwrap();
    session.deliver_binary("/service/file", &data).unwrap();
    let messages = connect(&mut alice, json!({})).await;
    for message in &messages[..2] {
        assert_eq!(message["data"], json!({"data": "HelloWorld", "last": true}), "{message}");
        assert_eq!(message["ext"], json!({"binary": {}}));
    }
    running.stop().await;
}

/// XV-2, XV-3
#[tokio::test]
async fn idle_sessions_are_disconnected() {
    let activity = Activity { max_inactivity: Duration::from_secs(60), policy: ActivityPolicy::Client };
    let running = start(|config| config.activity = Some(activity)).await;
    let (mut alice, session, _) = handshake(&running, json!({})).await;
    let gone = Arc::new(Mutex::new(None));
    let note = Arc::clone(&gone);
    running.server.on_session_removed(move |_, reason| {
        *note.lock().unwrap() = Some(reason);
        async {}
    });
    assert_eq!(connect(&mut alice, json!({})).await[0]["successful"], true);
    session.set_max_inactivity(Some(Duration::from_millis(20)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let messages = connect(&mut alice, json!({})).await;
    assert_eq!(messages[0], json!({"channel": "/meta/disconnect", "successful": true}));
    assert_eq!(messages[1]["error"], "402::session_unknown");
    assert_eq!(messages[1]["advice"]["reconnect"], "none");
    until("the reason", || *gone.lock().unwrap() == Some(RemovalReason::Inactive)).await;
    running.stop().await;
}
