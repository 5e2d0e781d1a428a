//! Requests, appended as JSON to a buffer.

use std::io::Write;

use super::stamp::{Stamp, Stamps};
use super::target::Transport;

/// Appends a handshake.
pub(crate) fn handshake(transport: Transport, ack: bool, out: &mut Vec<u8>) {
    let ext = if ack { r#","ext":{"ack":true}"# } else { "" };
    let name = transport.name();
    text(
        out,
        format_args!(
            r#"{{"id":"h","channel":"/meta/handshake","version":"1.0","minimumVersion":"1.0","supportedConnectionTypes":["{name}"]{ext}}}"#
        ),
    );
}

/// Appends a meta connect: with a timeout of 0, which is answered at once, or one that the server holds.
pub(crate) fn connect(transport: Transport, client_id: &str, ack: Option<&str>, at_once: bool, out: &mut Vec<u8>) {
    let name = transport.name();
    text(
        out,
        format_args!(r#"{{"id":"c","channel":"/meta/connect","connectionType":"{name}","clientId":"{client_id}""#),
    );
    if at_once {
        text(out, format_args!(r#","advice":{{"timeout":0}}"#));
    }
    if let Some(ack) = ack {
        text(out, format_args!(r#","ext":{{"ack":{ack}}}"#));
    }
    out.push(b'}');
}

/// Appends a subscribe.
pub(crate) fn subscribe(client_id: &str, channel: &str, out: &mut Vec<u8>) {
    text(
        out,
        format_args!(r#"{{"id":"s","channel":"/meta/subscribe","subscription":"{channel}","clientId":"{client_id}"}}"#),
    );
}

/// Appends a disconnect.
pub(crate) fn disconnect(client_id: &str, out: &mut Vec<u8>) {
    text(out, format_args!(r#"{{"id":"d","channel":"/meta/disconnect","clientId":"{client_id}"}}"#));
}

/// The parts of a publish that are always the same, so that the rest is a few copies.
#[derive(Debug)]
pub(crate) struct PublishTemplate {
    /// Between the stamp's mark and the member before it: the text that gives the message its size.
    chat: String,
}

impl PublishTemplate {
    /// Publishes with a text of `size` bytes, with stamps of `stamps`.
    ///
    /// The data has the members that CometD's benchmark sends, because parsing them is a part of a server's work.
    pub(crate) fn new(size: usize, stamps: &Stamps) -> Self {
        Self { chat: format!(r#","chat":"{}","stamp":"{}"#, "x".repeat(size), stamps.mark()) }
    }

    /// Appends a publish with the id `id`.
    pub(crate) fn write(&self, id: u32, client_id: &str, channel: &[u8], stamp: &Stamp, out: &mut Vec<u8>) {
        text(out, format_args!(r#"{{"id":"{id}","channel":"#));
        out.extend_from_slice(channel);
        out.extend_from_slice(br#","clientId":""#);
        out.extend_from_slice(client_id.as_bytes());
        text(out, format_args!(r#"","data":{{"room":{},"user":{}"#, stamp.room, stamp.publisher));
        out.extend_from_slice(self.chat.as_bytes());
        Stamps::write_digits(stamp, out);
        out.extend_from_slice(br#""}}"#);
    }
}

fn text(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // A vector takes whatever is written to it.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::load::clock::Moment;

    fn parsed(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut out = Vec::new();
        write(&mut out);
        serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&out)))
    }

    #[test]
    fn requests_are_what_the_protocol_asks_for() {
        let handshake = parsed(|out| handshake(Transport::LongPolling, true, out));
        assert_eq!(handshake["supportedConnectionTypes"], json!(["long-polling"]));
        assert_eq!((&handshake["version"], &handshake["ext"]), (&json!("1.0"), &json!({"ack": true})));
        let first = parsed(|out| connect(Transport::WebSocket, "a", None, true, out));
        assert_eq!((&first["connectionType"], &first["advice"]), (&json!("websocket"), &json!({"timeout": 0})));
        let held = parsed(|out| connect(Transport::WebSocket, "a", Some("7"), false, out));
        assert_eq!((&held["clientId"], &held["advice"], &held["ext"]), (&json!("a"), &Value::Null, &json!({"ack": 7})));
        let subscribe = parsed(|out| subscribe("a", "/load/1", out));
        assert_eq!((&subscribe["subscription"], &subscribe["clientId"]), (&json!("/load/1"), &json!("a")));
        assert_eq!(parsed(|out| disconnect("a", out))["channel"], "/meta/disconnect");
    }

    #[test]
    fn a_publish_carries_its_stamp_and_its_size() {
        let stamps = Stamps::new(7);
        let stamp = Stamp { room: 4, number: 5, publisher: 6, slot: 0, due: Moment(99) };
        let template = PublishTemplate::new(50, &stamps);
        let publish = parsed(|out| template.write(12, "a\\\"b", b"\"/load/4\"", &stamp, out));
        assert_eq!(
            (&publish["id"], &publish["channel"], &publish["clientId"]),
            (&json!("12"), &json!("/load/4"), &json!("a\"b"))
        );
        assert_eq!((&publish["data"]["room"], &publish["data"]["user"]), (&json!(4), &json!(6)));
        assert_eq!(publish["data"]["chat"].as_str().map(str::len), Some(50));
        assert_eq!(stamps.find(publish["data"].to_string().as_bytes()), Some(stamp));
    }
}
