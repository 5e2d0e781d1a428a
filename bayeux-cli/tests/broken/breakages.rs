//! The rules that are broken, each by a lie, and the cases that must notice.
//!
//! Where a lie touches a message, the proxy writes the whole envelope anew: that its spelling changes is noticed, too,
//! by `data-arrives-byte-for-byte`.

use bayeux_testkit::conformance::Transport;
use serde_json::{Value, json};

use super::{HONEST, Head, Lies};

/// A rule that is broken, over which transport, and the cases that must notice, and no others.
pub(crate) struct Breakage {
    pub(crate) rule: &'static str,
    pub(crate) over: Transport,
    pub(crate) lies: Lies,
    pub(crate) noticed_by: &'static [&'static str],
}

fn is_delivery(message: &Value) -> bool {
    message.get("data").is_some() && !is_on(message, "/meta/")
}

fn is_on(message: &Value, channel: &str) -> bool {
    message["channel"].as_str().is_some_and(|on| on.starts_with(channel))
}

fn remove(message: &mut Value, field: &str) {
    if let Some(fields) = message.as_object_mut() {
        fields.remove(field);
    }
}

const WS: Transport = Transport::WebSocket;
const LP: Transport = Transport::LongPolling;

const fn messages(lie: fn(&Value, &mut Value)) -> Lies {
    Lies { message: lie, ..HONEST }
}

const fn requests(lie: fn(&mut Value)) -> Lies {
    Lies { request: lie, ..HONEST }
}

const fn responses(lie: fn(&mut Head, &mut Vec<u8>)) -> Lies {
    Lies { response: lie, ..HONEST }
}

pub(crate) const BREAKAGES: &[Breakage] = &[
    Breakage {
        rule: "M-1: a response is one object",
        over: LP,
        lies: responses(|_, body| {
            if let Ok(Value::Array(messages)) = serde_json::from_slice::<Value>(body)
                && let [message] = &messages[..]
                && message["channel"] == "/meta/unsubscribe"
            {
                *body = message.to_string().into_bytes();
            }
        }),
        noticed_by: &[
            "other-replies-have-no-client-id",
            "star-star-brings-no-meta-messages",
            "unknown-fields-are-ignored",
            "unsubscribe-ends-delivery",
            "unsubscribe-from-an-unknown-channel",
            "unsubscribe-from-meta-fails",
            "unsubscribe-leaves-other-subscriptions",
            "unsubscribe-markup-is-invalid",
            "unsubscribe-of-a-stranger-succeeds",
            "unsubscribe-reply-echoes-the-id",
            "unsubscribe-reply-echoes-the-subscription",
            "unsubscribe-reply-names-the-channel",
            "unsubscribe-succeeds",
            "unsubscribe-takes-an-array",
            "unsubscribe-then-subscribe-again",
            "unsubscribe-without-subscription-is-told",
        ],
    },
    Breakage {
        rule: "M-15: subscribe replies have no id",
        over: WS,
        lies: messages(|_, message| {
            if is_on(message, "/meta/subscribe") {
                remove(message, "id");
            }
        }),
        noticed_by: &[
            "batch-goes-on-after-a-refusal",
            "batch-is-answered-in-order",
            "long-id-is-echoed",
            "messages-are-answered-in-order",
            "numeric-id-is-echoed-as-text",
            "subscribe-reply-echoes-the-id",
            "text-id-is-echoed-as-text",
            "wrong-type-does-not-stop-the-batch",
            "wrong-type-of-client-id-is-told",
        ],
    },
    Breakage {
        rule: "M-11: numeric ids are echoed as numbers",
        over: LP,
        lies: messages(|request, message| {
            if request["id"].is_number() {
                message["id"] = request["id"].clone();
            }
        }),
        noticed_by: &["numeric-id-is-echoed-as-text"],
    },
    Breakage {
        rule: "M-4: unknown fields of a subscribe are echoed",
        over: WS,
        lies: messages(|request, message| {
            if is_on(message, "/meta/subscribe")
                && let Some(colour) = request.get("x-colour")
            {
                message["x-colour"] = colour.clone();
            }
        }),
        noticed_by: &["unknown-fields-are-not-echoed"],
    },
    Breakage {
        rule: "M-4: unknown fields of a publish are dropped",
        over: WS,
        lies: messages(|_, message| {
            if is_delivery(message) {
                remove(message, "x-colour");
            }
        }),
        noticed_by: &["extra-fields-are-delivered"],
    },
    Breakage {
        rule: "M-4: the ext of a publish is dropped",
        over: WS,
        lies: messages(|_, message| {
            if is_delivery(message) {
                remove(message, "ext");
            }
        }),
        noticed_by: &["binary-message-arrives", "ext-is-delivered"],
    },
    Breakage {
        rule: "M-13: deliveries have an id",
        over: LP,
        lies: messages(|_, message| {
            if is_delivery(message) {
                message["id"] = json!("stray");
            }
        }),
        noticed_by: &["data-arrives-byte-for-byte", "delivery-has-no-id"],
    },
    Breakage {
        rule: "M-14: deliveries have a clientId",
        over: WS,
        lies: messages(|_, message| {
            if is_delivery(message) {
                message["clientId"] = json!("publisher");
            }
        }),
        noticed_by: &["data-arrives-byte-for-byte", "delivery-has-no-client-id"],
    },
    Breakage {
        rule: "M-16: what is falsy is no data",
        over: LP,
        lies: messages(|_, message| {
            let falsy = [json!(""), json!(0), json!(false), Value::Null];
            if is_delivery(message) && falsy.contains(&message["data"]) {
                message["data"] = json!({});
            }
        }),
        noticed_by: &[
            "connect-brings-what-is-queued",
            "data-may-be-empty",
            "data-may-be-null",
            "data-that-is-missing-becomes-null",
            "order-is-kept",
            "order-is-kept-between-channels",
            "order-is-kept-within-an-envelope",
        ],
    },
    Breakage {
        rule: "F-2: what succeeds has an error",
        over: WS,
        lies: messages(|_, message| {
            if message["successful"] == true {
                message["error"] = json!("000::none");
            }
        }),
        noticed_by: &["success-has-no-error"],
    },
    Breakage {
        rule: "F-12: unknown sessions get 401",
        over: WS,
        lies: messages(|_, message| {
            if message["error"] == "402::session_unknown" {
                message["error"] = json!("401::session_unknown");
            }
        }),
        noticed_by: &[
            "after-disconnect-connect-gets-402",
            "after-disconnect-disconnect-gets-402",
            "after-disconnect-publish-gets-402",
            "disconnect-works-at-once-in-a-batch",
            "disconnected-session-is-not-bound",
            "handshake-on-a-bound-websocket-rebinds",
            "publish-null-client-id-gets-402",
            "publish-of-nobody-gets-402",
            "publish-without-client-id-gets-402",
            "session-of-another-is-protected",
            "session-of-another-is-protected-in-a-batch",
            "subscribe-of-nobody-gets-402",
            "unknown-session-gets-402",
        ],
    },
    Breakage {
        rule: "V-7: the interval is negative",
        over: WS,
        lies: messages(|_, message| {
            if message["advice"]["interval"] == 0 {
                message["advice"]["interval"] = json!(-1);
            }
        }),
        noticed_by: &["handshake-advice-is-not-negative", "unknown-session-may-handshake-at-once"],
    },
    Breakage {
        rule: "V-13: replies to plain connects have advice",
        over: LP,
        lies: messages(|_, message| {
            if is_on(message, "/meta/connect") && message["successful"] == true && message.get("advice").is_none() {
                message["advice"] = json!({"reconnect": "retry", "interval": 0, "timeout": 30000});
            }
        }),
        noticed_by: &["first-connect-needs-no-advice", "held-connect-reply-has-no-advice"],
    },
    Breakage {
        rule: "V-20: 402 comes without advice",
        over: LP,
        lies: messages(|_, message| {
            if message["error"] == "402::session_unknown" {
                remove(message, "advice");
            }
        }),
        noticed_by: &[
            "after-disconnect-connect-gets-402",
            "unknown-session-is-told-to-handshake",
            "unknown-session-may-handshake-at-once",
        ],
    },
    Breakage {
        rule: "C-1: channels have no case",
        over: WS,
        lies: requests(|message| {
            for field in ["channel", "subscription"] {
                if let Some(channel) = message[field].as_str().filter(|channel| !channel.starts_with("/meta/")) {
                    message[field] = json!(channel.to_lowercase());
                }
            }
        }),
        noticed_by: &["names-are-case-sensitive", "names-may-have-the-specs-characters"],
    },
    Breakage {
        rule: "C-7: /a/* is /a/**",
        over: WS,
        lies: requests(|message| {
            if let Some(pattern) = message["subscription"].as_str().and_then(|pattern| pattern.strip_suffix("a/*")) {
                message["subscription"] = json!(format!("{pattern}a/**"));
            }
        }),
        noticed_by: &["shallow-wildcard-matches-not-two-segments"],
    },
    Breakage {
        rule: "H-10: handshake replies say version 0.9",
        over: LP,
        lies: messages(|_, message| {
            if is_on(message, "/meta/handshake") {
                message["version"] = json!("0.9");
            }
        }),
        noticed_by: &["handshake-reply-has-the-version"],
    },
    Breakage {
        rule: "H-11: clientIds have a sign in front",
        over: WS,
        lies: Lies {
            request: |message| {
                if let Some(id) = message["clientId"].as_str().and_then(|id| id.strip_prefix('-')) {
                    message["clientId"] = json!(id);
                }
            },
            message: |_, message| {
                if let Some(id) = message["clientId"].as_str() {
                    message["clientId"] = json!(format!("-{id}"));
                }
            },
            ..HONEST
        },
        noticed_by: &["client-id-is-unguessable", "data-arrives-byte-for-byte"],
    },
    Breakage {
        rule: "H-12: the client's transports are the server's",
        over: WS,
        lies: messages(|request, message| {
            if is_on(message, "/meta/handshake") && request["supportedConnectionTypes"].is_array() {
                message["supportedConnectionTypes"] = request["supportedConnectionTypes"].clone();
            }
        }),
        noticed_by: &["handshake-names-the-servers-transports"],
    },
    Breakage {
        rule: "K-11: no connect is held",
        over: LP,
        lies: requests(|message| {
            if is_on(message, "/meta/connect") {
                message["advice"] = json!({"timeout": 0});
            }
        }),
        noticed_by: &[
            "ack-holds-a-connect-without-loss",
            "connect-advice-has-the-clients-interval",
            "connect-is-held",
            "connect-negative-timeout-counts-as-absent",
            "connect-reply-ends-with-the-clients-timeout",
            "disconnect-advises-the-held-connect",
            "disconnect-answers-the-held-connect",
            "first-connect-needs-no-advice",
            "held-connect-reply-has-no-advice",
            "message-ends-a-held-connect",
            "null-fields-count-as-absent",
            "second-connect-ends-the-first",
            "second-connect-first-gets-an-error",
            "second-connect-is-held",
            "second-tab-holds-when-the-first-is-gone",
            "second-tab-is-told-an-interval",
            "second-tab-polls",
            "timesync-counts-the-time-of-a-hold",
        ],
    },
    Breakage {
        rule: "K-9: the client's interval is ignored",
        over: WS,
        lies: requests(|message| {
            if let Some(advice) = message.get_mut("advice") {
                remove(advice, "interval");
            }
        }),
        noticed_by: &["connect-advice-has-the-clients-interval"],
    },
    Breakage {
        rule: "S-4: arrays of subscriptions are echoed as their first",
        over: WS,
        lies: messages(|_, message| {
            if let Some(first) = message["subscription"].as_array().and_then(|all| all.first()) {
                message["subscription"] = first.clone();
            }
        }),
        noticed_by: &["subscribe-array-is-echoed"],
    },
    Breakage {
        rule: "S-1: of an array only the first is subscribed to",
        over: WS,
        lies: requests(|message| {
            if let Some(first) = message["subscription"].as_array().and_then(|all| all.first()) {
                message["subscription"] = json!([first]);
            }
        }),
        noticed_by: &[
            "subscribe-array-is-checked-first",
            "subscribe-array-is-echoed",
            "subscribe-array-stops-at-a-denial",
            "subscribe-takes-an-array",
            "unsubscribe-leaves-other-subscriptions",
        ],
    },
    Breakage {
        rule: "Q-4: everything is delivered twice",
        over: WS,
        lies: Lies {
            envelope: |messages| {
                let twice = messages.drain(..).flat_map(|message| {
                    let again = is_delivery(&message).then(|| message.clone());
                    [Some(message), again].into_iter().flatten()
                });
                *messages = twice.collect();
            },
            ..HONEST
        },
        noticed_by: &[
            "ack-pushes-nothing",
            "ack-repeats-in-order",
            "ack-repeats-nothing-acknowledged",
            "ack-repeats-what-was-lost",
            "ack-survives-a-new-connection",
            "connect-brings-what-is-queued",
            "data-arrives-byte-for-byte",
            "data-keeps-large-numbers",
            "data-keeps-non-ascii",
            "data-may-be-any-json",
            "data-may-be-empty",
            "disconnect-in-a-batch-lets-earlier-messages-pass",
            "order-is-kept",
            "order-is-kept-between-channels",
            "order-is-kept-within-an-envelope",
            "overlapping-subscriptions-deliver-once",
            "push-of-many-is-in-order",
            "subscribe-brings-nothing-older",
            "subscribe-twice-delivers-once",
        ],
    },
    Breakage {
        rule: "Q-20: replies come before messages",
        over: LP,
        lies: Lies { envelope: |messages| messages.sort_by_key(is_delivery), ..HONEST },
        noticed_by: &[
            "data-arrives-byte-for-byte",
            "message-comes-before-the-connect-reply",
            "own-message-comes-before-the-reply",
        ],
    },
    Breakage {
        rule: "Q-21: the messages of a response come in reverse",
        over: LP,
        lies: Lies {
            envelope: |messages| {
                let count = messages.iter().take_while(|message| is_delivery(message)).count();
                messages[..count].reverse();
            },
            ..HONEST
        },
        noticed_by: &[
            "ack-repeats-in-order",
            "ack-repeats-what-was-lost",
            "ack-survives-a-new-connection",
            "connect-brings-what-is-queued",
            "order-is-kept",
            "order-is-kept-between-channels",
            "order-is-kept-within-an-envelope",
        ],
    },
    Breakage {
        rule: "Q-24: numbers are floats",
        over: WS,
        lies: messages(|_, message| {
            if let Some(number) = message["data"].as_f64().filter(|number| number.abs() > 1e15) {
                message["data"] = json!(number / 3.0 * 3.0 + 2.0);
            }
        }),
        noticed_by: &["data-keeps-large-numbers"],
    },
    Breakage {
        rule: "M-3: what is not ASCII is a question mark",
        over: LP,
        lies: messages(|_, message| {
            if let Some(text) = message["data"].as_str() {
                message["data"] = json!(text.replace(|c: char| !c.is_ascii(), "?"));
            }
        }),
        noticed_by: &[
            "charset-is-decoded",
            "content-type-may-be-a-form",
            "content-type-may-be-missing",
            "content-type-may-be-text",
            "content-type-may-have-a-suffix",
            "content-type-that-is-none-is-ignored",
            "content-type-without-charset-is-utf-8",
            "data-keeps-control-characters",
            "data-keeps-escapes-meaning",
            "data-keeps-non-ascii",
        ],
    },
    Breakage {
        rule: "TW-8: each reply has a frame of its own",
        over: WS,
        lies: Lies { one_by_one: true, ..HONEST },
        noticed_by: &["batch-is-answered-in-one-frame", "data-arrives-byte-for-byte"],
    },
    Breakage {
        rule: "TW-28: pongs are empty",
        over: WS,
        lies: Lies {
            frame: |opcode, payload| {
                if opcode == 10 {
                    payload.clear();
                }
            },
            ..HONEST
        },
        noticed_by: &[
            "disconnect-leaves-the-websocket-open",
            "ping-between-fragments-is-answered",
            "ping-is-answered-before-the-handshake",
            "ping-is-answered-while-a-connect-is-held",
        ],
    },
    Breakage {
        rule: "TW-20: closes have code 1011",
        over: WS,
        lies: Lies {
            frame: |opcode, payload| {
                if opcode == 8 {
                    *payload = 1011_u16.to_be_bytes().to_vec();
                }
            },
            ..HONEST
        },
        noticed_by: &[
            "bad-json-closes-with-1007",
            "binary-message-closes-with-1003",
            "close-is-returned",
            "empty-text-closes",
            "handshake-must-be-alone-status",
            "other-json-closes-with-1008",
        ],
    },
    Breakage {
        rule: "TH-7: responses are text/html",
        over: LP,
        lies: responses(|head, _| head.set("Content-Type", "text/html; charset=ISO-8859-1")),
        noticed_by: &["response-is-json", "response-says-utf-8"],
    },
    Breakage {
        rule: "TH-7: responses may be cached",
        over: LP,
        lies: responses(|head, _| head.remove("Cache-Control")),
        noticed_by: &["response-is-not-cached"],
    },
    Breakage {
        rule: "TH-20: scripts may read the cookie",
        over: LP,
        lies: responses(|head, _| {
            if let Some(cookie) = head.get("Set-Cookie").map(|cookie| cookie.replace("HttpOnly", "Secure")) {
                head.set("Set-Cookie", &cookie);
            }
        }),
        noticed_by: &["cookie-is-http-only"],
    },
    Breakage {
        rule: "TH-41: refusals have status 200",
        over: LP,
        lies: responses(|head, body| {
            if head.line.contains(" 400 ") {
                head.line = "HTTP/1.1 200 OK".to_owned();
                *body = b"[]".to_vec();
            }
        }),
        noticed_by: &[
            "body-of-other-json-gets-400",
            "body-that-is-empty-gets-400",
            "body-that-is-empty-is-refused",
            "body-that-is-not-json-gets-400",
            "body-that-is-not-json-is-refused",
            "connection-serves-after-a-400",
            "get-without-callback-is-refused",
            "handshake-must-be-alone",
            "handshake-must-be-alone-status",
            "handshake-must-come-first",
            "other-methods-are-refused",
        ],
    },
    Breakage {
        rule: "T-7: Bayeux errors have status 403",
        over: LP,
        lies: responses(|head, body| {
            if String::from_utf8_lossy(body).contains("402::session_unknown") {
                head.line = "HTTP/1.1 403 Forbidden".to_owned();
            }
        }),
        noticed_by: &[
            "after-disconnect-connect-gets-402",
            "after-disconnect-disconnect-gets-402",
            "after-disconnect-publish-gets-402",
            "bayeux-errors-have-status-200",
            "disconnect-ends-the-session",
            "disconnect-in-a-batch-lets-earlier-messages-pass",
            "disconnect-works-at-once-in-a-batch",
            "publish-null-client-id-gets-402",
            "publish-of-nobody-gets-402",
            "publish-of-nobody-is-refused",
            "publish-of-nobody-reaches-nobody",
            "publish-without-client-id-gets-402",
            "session-needs-its-cookie",
            "session-of-another-is-protected",
            "session-of-another-is-protected-in-a-batch",
            "subscribe-of-nobody-gets-402",
            "subscribe-of-nobody-is-refused",
            "unknown-session-cannot-connect",
            "unknown-session-gets-402",
            "unknown-session-is-answered-at-once",
            "unknown-session-is-told-to-handshake",
            "unknown-session-may-handshake-at-once",
        ],
    },
    Breakage {
        rule: "TH-36: every site is let in",
        over: LP,
        lies: responses(|head, _| {
            head.set("Access-Control-Allow-Origin", "*");
            head.set("Access-Control-Allow-Credentials", "true");
        }),
        noticed_by: &["other-sites-are-not-let-in"],
    },
    Breakage {
        rule: "XA-4: ext.ack does not grow",
        over: WS,
        lies: messages(|_, message| {
            if is_on(message, "/meta/connect") && message["ext"]["ack"].is_number() {
                message["ext"]["ack"] = json!(1);
            }
        }),
        noticed_by: &[
            "ack-numbers-grow",
            "ack-of-an-older-number-repeats-nothing-acknowledged",
            "ack-repeats-nothing-acknowledged",
        ],
    },
    Breakage {
        rule: "XA-8: losses are not made good",
        over: WS,
        lies: requests(|message| {
            if message["ext"]["ack"].is_number() {
                message["ext"]["ack"] = json!(1_000_000);
            }
        }),
        noticed_by: &[
            "ack-repeats-at-once",
            "ack-repeats-in-order",
            "ack-repeats-what-was-lost",
            "ack-survives-a-new-connection",
        ],
    },
    Breakage {
        rule: "XT-3: the server's clock stands at 1970",
        over: WS,
        lies: messages(|_, message| {
            if message["ext"]["timesync"].is_object() {
                message["ext"]["timesync"]["ts"] = json!(0);
            }
        }),
        noticed_by: &["timesync-tells-the-servers-time"],
    },
    Breakage {
        rule: "XS-2: deliveries have no timestamp",
        over: WS,
        lies: messages(|_, message| {
            if is_delivery(message) {
                remove(message, "timestamp");
            }
        }),
        noticed_by: &["data-arrives-byte-for-byte", "timestamp-is-in-every-message"],
    },
    Breakage {
        rule: "XB-3: binary data loses its last character",
        over: WS,
        lies: messages(|_, message| {
            if let Some(text) = message["data"]["data"].as_str().filter(|_| message["ext"].get("binary").is_some()) {
                message["data"]["data"] = json!(text[..text.len() - 1]);
            }
        }),
        noticed_by: &["binary-message-arrives", "binary-message-of-any-length-arrives"],
    },
];
