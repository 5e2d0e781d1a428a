//! A whole server, and bytes from the network: HTTP/1.1, HTTP/2 and WebSocket, whole and damaged, in whatever pieces.

mod answers;
mod connection;
mod frames;
mod good;
mod hold;
mod http1;
mod http2;
mod server;
mod session;

pub use hold::while_connected;

use session::Start;

use crate::choices::Choices;

/// HTTP/1.1 requests, in memory and virtual time.
///
/// Nothing panics or hangs. Responses are well-formed HTTP with well-formed messages and a status that the protocol knows,
/// as many as there were requests while nothing was damaged. Afterwards the server serves decent clients as ever, no
/// session stays, and every connection ends.
pub fn http_requests(data: &[u8]) {
    server::in_memory(|network| session::run(network, Choices::new(data), &[Start::Http1]));
}

/// WebSocket frames, after an upgrade that succeeds mostly, in memory and virtual time.
///
/// As [`http_requests`]; frames are well-formed, texts are messages, the close code is one that the protocol knows, and
/// nothing follows a close.
pub fn ws_frames(data: &[u8]) {
    server::in_memory(|network| session::run(network, Choices::new(data), &[Start::WebSocket]));
}

/// HTTP/2 frames with requests, in memory and virtual time. As [`http_requests`], as far as frames show it.
pub fn http2_frames(data: &[u8]) {
    server::in_memory(|network| session::run(network, Choices::new(data), &[Start::Http2]));
}

/// All of them against a listener, over real sockets: what parks held connects, and what takes sockets out of hyper.
pub fn listener(data: &[u8]) {
    let starts = [Start::Http1, Start::WebSocket, Start::Http2];
    server::on_loopback(|network| session::run(network, Choices::new(data), &starts));
}
