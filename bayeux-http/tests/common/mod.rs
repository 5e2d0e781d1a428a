//! A server on a port of its own, and an HTTP client that hides nothing.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::time::Duration;

use bayeux_http::{Config, Endpoint, HttpOptions, Listener, LongPolling, Server, ServerBuilder, Session};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub struct Running {
    pub server: Server,
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

pub fn config() -> Config {
    Config::default()
}

/// With holds that end within a test's patience.
pub fn quick() -> Config {
    let mut config = config();
    config.each_transport(|options| options.timeout = Duration::from_millis(300));
    config
}

/// Two shards, so that what a test uses need not be on the same one.
pub fn sharded() -> ServerBuilder {
    let mut config = quick();
    config.shards = 2;
    Server::builder(config)
}

pub async fn start(config: Config) -> Running {
    start_with(Server::builder(config), HttpOptions::default()).await
}

pub async fn start_with(builder: ServerBuilder, options: HttpOptions) -> Running {
    start_on(Listener::bind("127.0.0.1:0").await.unwrap(), builder, options)
}

pub fn start_on(listener: Listener, builder: ServerBuilder, options: HttpOptions) -> Running {
    let server = builder.build().unwrap();
    let endpoint = Endpoint::new(server.clone()).with(LongPolling::new(options).unwrap()).at("/cometd");
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let serving = listener.serve(server.clone(), endpoint, async {
        let _ = stopped.await;
    });
    Running { server, address, stop, served: tokio::spawn(serving) }
}

impl Running {
    pub async fn client(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// A client with a session.
    pub async fn handshaken(&self) -> Client<TcpStream> {
        let mut client = self.client().await;
        client.handshake().await;
        client
    }

    /// The same, and its session as the application has it.
    pub async fn with_session(&self) -> (Client<TcpStream>, Session) {
        let client = self.handshaken().await;
        let session = self.server.session(&client.id).unwrap();
        (client, session)
    }

    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap();
    }
}

/// One connection. Remembers the browser cookie.
pub struct Client<S> {
    pub stream: S,
    read: Vec<u8>,
    pub cookie: Option<String>,
    pub id: String,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, read: Vec::new(), cookie: None, id: String::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub async fn request(&mut self, method: &str, path: &str, headers: &str, body: impl AsRef<[u8]>) -> Response {
        self.begin(method, path, headers, body).await;
        self.response().await
    }

    /// Sends a request and does not wait for its response.
    pub async fn begin(&mut self, method: &str, path: &str, headers: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let cookie = self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\n{cookie}{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.send([head.as_bytes(), body].concat()).await;
    }

    pub async fn post(&mut self, body: impl AsRef<[u8]>) -> Response {
        self.request("POST", "/cometd/", "Content-Type: application/json;charset=UTF-8\r\n", body).await
    }

    /// Sends messages that must be answered 200.
    pub async fn exchange(&mut self, messages: &Value) -> Vec<Value> {
        let response = self.post(messages.to_string()).await;
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    pub async fn hold(&mut self, messages: &Value) {
        let headers = "Content-Type: application/json;charset=UTF-8\r\n";
        self.begin("POST", "/cometd/connect", headers, messages.to_string()).await;
    }

    /// Handshakes, and sends the first connect, which is answered at once.
    pub async fn handshake(&mut self) {
        let hello = json!([{"id": "1", "channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": ["long-polling"]}]);
        let response = self.post(hello.to_string()).await;
        if let Some(cookie) = response.header("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        let reply = &response.json()[0];
        assert_eq!(reply["successful"], true, "{reply}");
        self.id = reply["clientId"].as_str().unwrap().to_owned();
        let replies = self.exchange(&json!([self.connect(0)])).await;
        assert_eq!(replies[0]["successful"], true, "{replies:?}");
    }

    pub fn connect(&self, timeout: impl Into<Option<u64>>) -> Value {
        let mut connect =
            json!({"id": "c", "channel": "/meta/connect", "clientId": self.id, "connectionType": "long-polling"});
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

    /// Subscribes, and returns the whole response.
    pub async fn try_subscribe(&mut self, channel: &str) -> Vec<Value> {
        let subscribe = self.message("/meta/subscribe", json!({"id": "s", "subscription": channel}));
        self.exchange(&json!([subscribe])).await
    }

    /// Publishes, and returns the whole response: its last message is the reply.
    pub async fn publish(&mut self, channel: &str, data: impl Into<Value>) -> Vec<Value> {
        let publish = self.message(channel, json!({"id": "p", "data": data.into()}));
        self.exchange(&json!([publish])).await
    }

    /// Publishes, and returns the reply's error; `null` for a success.
    pub async fn publish_error(&mut self, channel: &str, data: impl Into<Value>) -> Value {
        let reply = self.publish(channel, data).await.pop().unwrap();
        assert_eq!(reply["successful"], reply["error"].is_null(), "{reply}");
        reply["error"].clone()
    }

    /// Connects once, without being held, and returns the data of what came.
    pub async fn poll(&mut self) -> Vec<Value> {
        let messages = self.exchange(&json!([self.connect(0)])).await;
        messages.iter().filter_map(|message| message.get("data")).cloned().collect()
    }

    pub async fn response(&mut self) -> Response {
        tokio::time::timeout(Duration::from_secs(20), self.read_response()).await.expect("a response within 20 s")
    }

    async fn read_response(&mut self) -> Response {
        loop {
            let head = self.line_end(b"\r\n\r\n").await;
            let head = String::from_utf8(head).unwrap();
            let mut lines = head.split("\r\n");
            let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let mut response = Response { status, headers, body: Vec::new() };
            if status == 100 {
                continue;
            }
            if status == 101 {
                return response;
            }
            if let Some(length) = response.header("content-length") {
                let length: usize = length.parse().unwrap();
                while self.read.len() < length {
                    self.fill().await;
                }
                response.body = self.read.drain(..length).collect();
            }
            return response;
        }
    }

    async fn line_end(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return self.read.drain(..at + end.len()).collect();
            }
            self.fill().await;
        }
    }

    async fn fill(&mut self) {
        let read = self.stream.read_buf(&mut self.read).await.unwrap();
        assert!(read > 0, "connection closed after {:?}", String::from_utf8_lossy(&self.read));
    }

    /// Reads until the other side closes; what came is returned.
    pub async fn rest(mut self) -> Vec<u8> {
        let mut read = std::mem::take(&mut self.read);
        let end = self.stream.read_to_end(&mut read);
        // A reset is an end, too.
        let _ = tokio::time::timeout(Duration::from_secs(20), end).await.expect("an end within 20 s");
        read
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Vec<Value> {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not an array: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
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
