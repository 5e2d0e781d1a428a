//! HTTP/1.1 and WebSocket as a client reads and writes them, on bytes.
//!
//! Not a library's, because the receiving side is where the generator spends its time: both read in place, out of the
//! buffer that the system call filled, and copy only what is cut in two.

pub(super) mod http;
pub(super) mod ws;
