//! A server that breaks one rule: ours, behind a proxy that lies.

pub(crate) mod breakages;
mod frames;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the proxy does to what passes it.
#[derive(Clone, Copy)]
pub(crate) struct Lies {
    /// To each message of a client.
    pub(crate) request: fn(&mut Value),
    /// To each message of the server; with it comes the request with the same id, where it is known.
    pub(crate) message: fn(&Value, &mut Value),
    /// To an envelope of the server as a whole.
    pub(crate) envelope: fn(&mut Vec<Value>),
    /// To a response's head, before its length is written, and to its body's text.
    pub(crate) response: fn(&mut Head, &mut Vec<u8>),
    /// To each frame of the server that is no text: opcode and payload.
    pub(crate) frame: fn(u8, &mut Vec<u8>),
    /// Each message of an envelope in a frame of its own.
    pub(crate) one_by_one: bool,
    /// How much later whatever the server says is passed on.
    pub(crate) delay: Duration,
}

/// No lies at all.
pub(crate) const HONEST: Lies = Lies {
    request: |_| {},
    message: |_, _| {},
    envelope: |_| {},
    response: |_, _| {},
    frame: |_, _| {},
    one_by_one: false,
    delay: Duration::ZERO,
};

/// A response's first line and headers, or a request's.
#[derive(Default)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// A proxy that runs until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn start(server: SocketAddr, lies: Lies) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    // Ends of connections are passed on by dropping the other side.
                    let _ = relay(client, server, lies).await;
                });
            }
        });
        Self { address, task }
    }
}

type Result<T> = std::io::Result<T>;

/// Messages of clients by their id, so that a reply's request can be found.
#[derive(Default)]
pub(crate) struct Asked(HashMap<String, Value>);

impl Asked {
    fn remember(&mut self, message: &Value) {
        if message.get("id").is_some() {
            self.0.insert(text(&message["id"]), message.clone());
        }
    }

    fn of(&self, message: &Value) -> Value {
        self.0.get(&text(&message["id"])).cloned().unwrap_or_default()
    }

    /// What a server's envelope becomes.
    pub(crate) fn lie(&self, lies: Lies, text: &str) -> Option<Vec<Value>> {
        let mut messages: Vec<Value> = serde_json::from_str(text).ok()?;
        let before = messages.clone();
        for message in &mut messages {
            (lies.message)(&self.of(message), message);
        }
        (lies.envelope)(&mut messages);
        (messages != before).then_some(messages)
    }
}

/// An id as text, whether it is a number or a text.
fn text(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

/// What a client's envelope becomes.
pub(crate) fn lie_to_server(lies: Lies, asked: &mut Asked, text: &[u8]) -> Option<Vec<u8>> {
    let mut envelope: Value = serde_json::from_slice(text).ok()?;
    let before = envelope.clone();
    let messages = if let Value::Array(messages) = &mut envelope {
        messages.as_mut_slice()
    } else {
        std::slice::from_mut(&mut envelope)
    };
    for message in messages {
        if message.is_object() {
            asked.remember(message);
            (lies.request)(message);
        }
    }
    (envelope != before).then(|| envelope.to_string().into_bytes())
}

/// Passes requests and responses on, one after another, as long as they are plain ones.
async fn relay(mut client: TcpStream, mut server: TcpStream, lies: Lies) -> Result<()> {
    let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
    let mut asked = Asked::default();
    loop {
        let Some((mut head, length)) = read_head(&mut client, &mut from_client).await? else { return Ok(()) };
        let is_upgrade = head.get("upgrade").is_some();
        let has_body = head.line.starts_with("POST ");
        let length = length.or_else(|| (is_upgrade || !has_body).then_some(0));
        let plain = head.line.ends_with("HTTP/1.1") && !head.line.starts_with("HEAD ");
        let Some(length) = length.filter(|_| plain) else {
            return pipe(client, server, &head, from_client).await;
        };
        let body = read_body(&mut client, &mut from_client, length).await?;
        let body = lie_to_server(lies, &mut asked, &body).unwrap_or(body);
        server.write_all(&head.encode(&body, length > 0)).await?;
        let Some((mut answer, length)) = read_head(&mut server, &mut from_server).await? else { return Ok(()) };
        if answer.line.contains(" 101 ") {
            client.write_all(&answer.encode(&[], false)).await?;
            return frames::relay((client, from_client), (server, from_server), lies, asked).await;
        }
        let mut body = read_body(&mut server, &mut from_server, length.unwrap_or(0)).await?;
        if let Some(messages) = asked.lie(lies, &String::from_utf8_lossy(&body)) {
            body = Value::Array(messages).to_string().into_bytes();
        }
        (lies.response)(&mut answer, &mut body);
        tokio::time::sleep(lies.delay).await;
        client.write_all(&answer.encode(&body, true)).await?;
        if head.get("connection").is_some_and(|value| value == "close") {
            return Ok(());
        }
        head.headers.clear();
    }
}

impl Head {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    fn encode(&mut self, body: &[u8], with_length: bool) -> Vec<u8> {
        if with_length {
            self.set("Content-Length", &body.len().to_string());
        }
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        [format!("{}\r\n{headers}\r\n", self.line).as_bytes(), body].concat()
    }
}

/// Reads a head and its `Content-Length`; nothing at the end of the connection.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<(Head, Option<usize>)>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head: Vec<u8> = buffer.drain(..end + 4).collect();
    let text = String::from_utf8_lossy(&head[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    let head = Head { line, headers: lines.filter_map(pair).collect() };
    let length = head.get("content-length").and_then(|length| length.parse().ok());
    // What is not asked to be sent, or comes in chunks, is none of the proxy's business.
    let plain = head.get("expect").is_none() && head.get("transfer-encoding").is_none();
    Ok(Some((head, length.filter(|_| plain))))
}

async fn read_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Result<Vec<u8>> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.drain(..length).collect())
}

/// Everything else passes as it is.
async fn pipe(mut client: TcpStream, mut server: TcpStream, head: &Head, rest: Vec<u8>) -> Result<()> {
    let mut text = format!("{}\r\n", head.line);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    server.write_all(&[text.as_bytes(), b"\r\n", &rest].concat()).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
