//! The floor server speaks to the load generator as far as that needs, or what it is compared with is nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A floor that ends with the test.
struct Floor {
    child: Child,
    address: String,
}

impl Floor {
    fn start() -> Self {
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_floor")).stdout(Stdio::piped()).spawn().expect("the floor starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("stdout is piped")).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on http://").and_then(|url| url.strip_suffix('/'));
        Self { address: address.expect("an address").to_owned(), child }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn post(stream: &mut TcpStream, body: &str) {
    let request = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).expect("it reads");
}

/// Reads until `end` is there.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {text}"));
        text.push(char::from(byte[0]));
    }
    text
}

#[test]
fn a_publish_reaches_a_held_connect_and_a_websocket() {
    let floor = Floor::start();
    let (mut poll, mut requests, mut socket) = (floor.connect(), floor.connect(), floor.connect());
    post(&mut poll, r#"[{"id":"h","channel":"/meta/handshake"}]"#);
    assert!(read_until(&mut poll, "}}]").contains(r#""clientId":"0""#));
    post(&mut requests, r#"[{"id":"s","channel":"/meta/subscribe","subscription":"/a","clientId":"0"}]"#);
    read_until(&mut requests, "true}]");
    post(&mut poll, r#"[{"id":"c","channel":"/meta/connect","clientId":"0"}]"#);

    let upgrade = "GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(upgrade.as_bytes()).expect("it reads");
    // The key and its answer are RFC 6455's own example.
    assert!(read_until(&mut socket, "\r\n\r\n").contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for body in [
        r#"[{"id":"h","channel":"/meta/handshake"}]"#,
        r#"[{"id":"s","channel":"/meta/subscribe","subscription":"/a","clientId":"1"}]"#,
    ] {
        // With a mask of zero, the payload is as it is.
        let frame = [&[0x81, 0x80 | body.len() as u8, 0, 0, 0, 0], body.as_bytes()].concat();
        socket.write_all(&frame).expect("it reads");
        read_until(&mut socket, "}]");
    }
    post(&mut requests, r#"[{"id":"7","channel":"/a","clientId":"0","data":{"room":0}}]"#);
    let event = r#"{"channel":"/a","data":{"room":0}}"#;
    let reply = r#"{"id":"7","channel":"/a","successful":true}"#;
    assert!(read_until(&mut requests, "]").ends_with(&format!("[{reply}]")));
    assert!(read_until(&mut poll, "true}]").contains(&format!("[{event},{{\"id\":\"c\"")));
    assert!(read_until(&mut socket, "]").ends_with(&format!("[{event}]")));
}
