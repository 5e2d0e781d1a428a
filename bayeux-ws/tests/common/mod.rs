//! A server on a port of its own, a WebSocket client, and a raw one for frames that no client would send.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::time::Duration;

use bayeux_ws::{Config, Endpoint, Listener, Server, ServerBuilder, WebSocket, WsOptions};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub struct Running {
    pub server: Server,
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

/// With holds that end within a test's patience.
pub fn quick() -> Config {
    let mut config = Config::default();
    config.each_transport(|options| options.timeout = Duration::from_millis(300));
    config
}

pub async fn start(config: Config) -> Running {
    start_with(Server::builder(config), WsOptions::default()).await
}

pub async fn start_with(builder: ServerBuilder, options: WsOptions) -> Running {
    let server = builder.build().unwrap();
    let endpoint = Endpoint::new(server.clone()).with(WebSocket::new(options).unwrap()).at("/cometd");
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let serving = listener.serve(server.clone(), endpoint, async {
        let _ = stopped.await;
    });
    Running { server, address, stop, served: tokio::spawn(serving) }
}

impl Running {
    pub async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}/cometd/connect", self.address);
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        Client { socket, id: String::new() }
    }

    /// A connection that has been upgraded by hand.
    pub async fn raw(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let response = upgrade(&mut stream, "").await;
        assert!(response.starts_with("HTTP/1.1 101"), "{response}");
        stream
    }

    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap();
    }
}

/// Asks for an upgrade with some more headers; returns the response's head.
pub async fn upgrade(stream: &mut TcpStream, headers: &str) -> String {
    let request = format!(
        "GET /cometd HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    head(stream, &request).await
}

/// Sends a request; returns the response's head.
pub async fn head(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A masked frame with that first byte (FIN, reserved bits, opcode).
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=65535 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Reads one frame of the server: its first byte and its payload. `None` at the end of the stream.
pub async fn read_frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let read = async {
        let first = stream.read_u8().await.ok()?;
        let length = match stream.read_u8().await.ok()? {
            126 => u64::from(stream.read_u16().await.ok()?),
            127 => stream.read_u64().await.ok()?,
            length => u64::from(length),
        };
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.ok()?;
        Some((first, payload))
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("a frame within 20 s")
}

/// Reads up to the close frame and returns its code.
pub async fn read_close(stream: &mut TcpStream) -> Option<u16> {
    loop {
        let (first, payload) = read_frame(stream).await?;
        if first == 0x88 {
            return payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
        }
    }
}

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    pub id: String,
}

impl Client {
    pub async fn send(&mut self, messages: &Value) {
        self.socket.send(Message::text(messages.to_string())).await.unwrap();
    }

    pub async fn next(&mut self) -> Option<Message> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.socket.next());
        next.await.expect("a frame within 20 s").and_then(Result::ok)
    }

    /// The messages of the next text frame.
    pub async fn frame(&mut self) -> Vec<Value> {
        match self.next().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("no text frame: {other:?}"),
        }
    }

    /// The code and reason that the server closes with, whatever it sends before.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(close) = self.next().await.expect("a close frame") {
                let close = close.expect("a close with a code");
                return (close.code.into(), close.reason.to_string());
            }
        }
    }

    pub async fn exchange(&mut self, messages: &Value) -> Vec<Value> {
        self.send(messages).await;
        self.frame().await
    }

    /// Handshakes, and sends the first connect, which is answered at once.
    pub async fn handshake(&mut self) {
        let hello = json!([{"id": "1", "channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": ["websocket"]}]);
        let reply = self.exchange(&hello).await.remove(0);
        assert_eq!(reply["successful"], true, "{reply}");
        self.id = reply["clientId"].as_str().unwrap().to_owned();
        let replies = self.exchange(&json!([self.connect(0)])).await;
        assert_eq!(replies[0]["successful"], true, "{replies:?}");
    }

    pub fn connect(&self, timeout: impl Into<Option<u64>>) -> Value {
        let mut connect =
            json!({"id": "c", "channel": "/meta/connect", "clientId": self.id, "connectionType": "websocket"});
        if let Some(timeout) = timeout.into() {
            connect["advice"] = json!({"timeout": timeout});
        }
        connect
    }

    pub fn message(&self, channel: &str, mut fields: Value) -> Value {
        fields["channel"] = json!(channel);
        fields["clientId"] = json!(self.id);
        fields
    }

    pub async fn subscribe(&mut self, channel: &str) {
        let subscribe = self.message("/meta/subscribe", json!({"id": "s", "subscription": channel}));
        let replies = self.exchange(&json!([subscribe])).await;
        assert_eq!(replies.last().unwrap()["successful"], true, "{replies:?}");
    }
}

/// Waits until something is so, for what no message tells.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..500 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}
