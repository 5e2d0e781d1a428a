//! Messages in the log, at debug level: each in and out, with its connection, session and channel.

use bayeux_core::{ClientId, ConnectionKey, Engine};
use bayeux_proto::{Batch, Outgoing, encode};
use bytes::BytesMut;

/// Bytes of a message that the log shows.
const SHOWN_MAX: usize = 1_024;

/// Logs what a connection sent.
pub(crate) fn received(conn: ConnectionKey, batch: &Batch) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    for message in &batch.messages {
        let mut json = BytesMut::new();
        message.encode_into(&mut json);
        let session = message.client_id.as_deref().unwrap_or_default();
        let channel = message.channel.as_deref().unwrap_or_default();
        tracing::debug!(conn = conn.0, session, channel, message = %shown(&json), "received");
    }
}

/// Logs what a connection is sent.
pub(crate) fn sent(conn: ConnectionKey, engine: &Engine, messages: &[Outgoing]) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let session = engine.session_of(conn).map(ClientId::as_str).unwrap_or_default();
    for message in messages {
        let channel = match message {
            Outgoing::Event(event) => &**event.channel(),
            Outgoing::Reply(reply) => reply.channel.as_deref().unwrap_or_default(),
        };
        let json = encode(std::slice::from_ref(message));
        let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
        tracing::debug!(conn = conn.0, session, channel, message = %shown(json), "sent");
    }
}

/// The beginning of a message, with control characters made harmless to a terminal.
fn shown(json: &[u8]) -> String {
    let cut = json.get(..SHOWN_MAX).unwrap_or(json);
    let text = String::from_utf8_lossy(cut);
    let mut text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if cut.len() < json.len() {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_and_control_characters_replaced() {
        assert_eq!(shown(b"{\"a\":\"\x1b[2J\"}"), "{\"a\":\"\u{fffd}[2J\"}");
        assert_eq!(shown(&[b'x'; 2_000]).len(), SHOWN_MAX + 3);
    }
}
