//! Envelopes as clients send them, and nearly as clients send them.

use std::fmt::Write;

use crate::choices::Choices;

/// Where a session's id goes that is known only when the envelope is sent: `@0`, `@1`, … between `<` and `>`.
pub(crate) const ID_OPEN: &str = "<@";

/// Channels that are exact, and patterns that match some of them, with service channels and what is no channel.
pub(crate) const CHANNELS: [&str; 20] = [
    "/a",
    "/a/b",
    "/a/b/c",
    "/a/*",
    "/a/**",
    "/**",
    "/*",
    "/b",
    "/service/echo",
    "/service/s",
    "/lazy",
    "/oort/cloud",
    "/a/{x}",
    "/trailing/",
    "/a//b",
    "/a/**/b",
    "",
    "/meta/other",
    "/\u{1}\u{e9}\"",
    "relative",
];

/// JSON text of one message or an array of up to four, of sessions `<@n>`. Mostly what a client would send.
pub(crate) fn envelope(choices: &mut Choices<'_>) -> String {
    match choices.below(8) {
        0..=4 => format!("[{}]", message(choices)),
        5 => message(choices),
        _ => {
            let count = choices.below(5);
            let messages: Vec<String> = (0..count).map(|_| message(choices)).collect();
            format!("[{}]", messages.join(","))
        }
    }
}

fn message(choices: &mut Choices<'_>) -> String {
    let mut object = Object(String::from("{"));
    match choices.below(16) {
        0..=2 => {
            object.text("channel", "/meta/connect");
            object.text("connectionType", choices.pick(&["long-polling", "websocket", "callback-polling", "x"]));
            match choices.below(4) {
                0 => {}
                1 => object.raw("advice", "{\"timeout\":0}"),
                2 => {
                    let advice = format!("{{\"timeout\":{},\"interval\":{}}}", choices.pair(), choices.pair());
                    object.raw("advice", &advice);
                }
                _ => object.raw("advice", value(choices)),
            }
        }
        3 | 4 => {
            object.text("channel", "/meta/handshake");
            object.raw("supportedConnectionTypes", "[\"websocket\",\"long-polling\",\"callback-polling\"]");
            object.text("version", "1.0");
        }
        5..=7 => {
            object.text("channel", "/meta/subscribe");
            object.raw("subscription", &subscription(choices));
        }
        8 => {
            object.text("channel", "/meta/unsubscribe");
            object.raw("subscription", &subscription(choices));
        }
        9 => object.text("channel", "/meta/disconnect"),
        10 => object.raw("channel", value(choices)),
        _ => {
            object.text("channel", CHANNELS[choices.below(CHANNELS.len())]);
            object.raw("data", value(choices));
        }
    }
    object.text("clientId", &format!("{ID_OPEN}{}>", choices.below(4)));
    extras(choices, &mut object);
    object.end()
}

/// `id`, extensions, and fields that nobody asked for.
fn extras(choices: &mut Choices<'_>, object: &mut Object) {
    let has = choices.byte();
    if has & 1 == 0 {
        object.text("id", &(has / 8).to_string());
    }
    match has >> 1 & 7 {
        1 => object.raw("ext", "{\"ack\":true}"),
        2 => object.raw("ext", &format!("{{\"ack\":{}}}", choices.byte() as i8)),
        3 => object.raw("ext", &format!("{{\"timesync\":{{\"tc\":{},\"l\":1,\"o\":-3}}}}", choices.pair())),
        4 => object.raw("ext", "{\"binary\":true}"),
        5 => {
            let name =
                choices.pick(&["ext", "id", "data", "clientId", "subscription", "advice", "successful", "x\\u0041"]);
            object.raw(name, value(choices));
        }
        _ => {}
    }
}

fn subscription(choices: &mut Choices<'_>) -> String {
    match choices.below(8) {
        0..=4 => quoted(CHANNELS[choices.below(CHANNELS.len())]),
        5 | 6 => {
            let count = choices.below(6);
            let names: Vec<String> = (0..count).map(|_| quoted(CHANNELS[choices.below(CHANNELS.len())])).collect();
            format!("[{}]", names.join(","))
        }
        _ => value(choices).to_owned(),
    }
}

/// Any value: one of every kind, and the odder ones of each.
fn value<'a>(choices: &mut Choices<'_>) -> &'a str {
    choices.pick(&[
        "{\"k\":[1,true,null,\"v\"]}",
        "\"text\"",
        "null",
        "7",
        "-1.5e300",
        "[]",
        "{}",
        "true",
        "\"\\ud800\\u0000\u{2028}\"",
        "[[[[[[[[[[]]]]]]]]]]",
        "99999999999999999999999999",
        "{\"data\":\"HelloWorld\",\"last\":true}",
        "{\"timeout\":-1,\"interval\":\"x\"}",
        "{\"clientId\":\"<@0>\",\"clientId\":\"<@1>\"}",
    ])
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

struct Object(String);

impl Object {
    fn raw(&mut self, key: &str, value: &str) {
        let comma = if self.0.len() > 1 { "," } else { "" };
        write!(self.0, "{comma}\"{key}\":{value}").expect("a String takes everything");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.raw(key, &quoted(value));
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// The envelope with the ids of sessions in their places; those that are not known stay as they are, and are as good as
/// guessed.
pub(crate) fn with_ids(envelope: &str, ids: &[String]) -> String {
    let mut text = envelope.to_owned();
    for (number, id) in ids.iter().rev().take(4).enumerate() {
        text = text.replace(&format!("{ID_OPEN}{number}>"), id);
    }
    text
}

/// Changes up to four bytes, cuts, or repeats something.
pub(crate) fn damage(choices: &mut Choices<'_>, bytes: &mut Vec<u8>) {
    for _ in 0..=choices.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = usize::from(choices.pair()) % bytes.len();
        match choices.below(5) {
            0 => bytes[at] = choices.byte(),
            1 => bytes.insert(at, choices.byte()),
            2 => drop(bytes.remove(at)),
            3 => {
                let end = (at + choices.below(40)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => bytes.truncate(at),
        }
    }
}
