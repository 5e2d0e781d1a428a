//! The scanner against serde_json, which many eyes have read: on valid, nearly valid and random texts both must say the
//! same, and what we cut out must mean the same.
//!
//! No differences are tolerated. serde_json's `IgnoredAny` takes lone surrogates and numbers of any size, as we do; where
//! it builds values it does not, and those cases are left out by name.

use bayeux_proto::{DecodeError, Limits, Message, MessageId, RawJson, decode};
use bytes::Bytes;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_scanner_takes_what_serde_json_takes(text in mutated()) {
        let serde_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
        prop_assert_eq!(RawJson::new(text.as_str()).is_ok(), serde_json, "{}", text);
        match decode(Bytes::from(text.clone()), &wide()) {
            Ok(_) => prop_assert!(serde_json, "{}", text),
            Err(DecodeError::Syntax { .. }) => prop_assert!(!serde_json, "{}", text),
            Err(DecodeError::NotMessages { .. }) => {
                prop_assert!(serde_json, "{}", text);
                let value = serde_json::from_str::<Vec<serde_json::Map<String, Value>>>(&text);
                prop_assert!(value.is_err() && !text.trim_start().starts_with('{'), "{}", text);
            }
            Err(error) => prop_assert!(false, "{} {}", error, text),
        }
    }

    #[test]
    fn what_is_cut_off_at_the_syntax_error_could_have_gone_on(text in mutated()) {
        if let Err(error) = RawJson::new(text.as_str()) {
            // Cut there, the text is incomplete, not wrong: the error moves to its end and never before it.
            let offset = error.offset;
            prop_assert!(text.is_char_boundary(offset));
            if let Err(error) = RawJson::new(&text[..offset]) {
                prop_assert_eq!(error.offset, offset, "{}", text);
            }
        }
    }

    #[test]
    fn fields_mean_what_serde_json_reads(messages in prop::collection::vec(message(), 0..4)) {
        let text = format!("[{}]", messages.join(","));
        let batch = decode(Bytes::from(text.clone()), &wide());
        let batch = batch.map_err(|error| TestCaseError::fail(format!("{error} {text}")))?;
        // A value in which serde_json finds a lone surrogate or a number out of range is no value to compare with.
        if let Ok(values) = serde_json::from_str::<Vec<serde_json::Map<String, Value>>>(&text) {
            prop_assert_eq!(batch.messages.len(), values.len());
            for (message, value) in batch.messages.iter().zip(&values) {
                compare(message, value)?;
            }
        }
    }
}

/// Cheap inputs in large numbers: random bytes, cut, doubled and overwritten envelopes.
#[test]
fn no_input_panics() {
    let seeds: [&[u8]; 6] = [
        br#"[{"id":"42","channel":"/meta/connect","clientId":"4f1k","connectionType":"long-polling","advice":{"timeout":0}}]"#,
        br#"[{"id":1,"channel":"/a","data":{"a":[1.5e-3,true,false,null,"\u00e9\ud83d\ude00\n"],"b":{}},"ext":{},"x":"\"\\"}]"#,
        br#"[{"channel":"/meta/subscribe","subscription":["/a/*","/b/**",3]},{"\u0063hannel":null,"data":null}]"#,
        "{\"channel\":\"/é\u{2028}😀\",\"ext\":[],\"advice\":{\"interval\":-1e400,\"timeout\":99999999999999999999}}".as_bytes(),
        br#" [ [[[[{"a":[{"b":[]}]}]]]] , 1 ] "#,
        br#"[{},{},{},{},{},{},{},{}]"#,
    ];
    let alphabet = b"{}[]\",:\\/u0123456789eE+-.truefalsnl \n\t\x00\x1f\x7f\x80\xc3\xa9\xe2\xed\xf0\xff*";
    let mut limits = Limits::default();
    limits.depth_max = 5;
    let mut random = SplitMix(1);
    for _ in 0..100_000 {
        let mut input = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..=random.below(4) {
            match random.below(5) {
                0 => input.truncate(random.below(input.len() + 1)),
                1 => input.extend_from_within(random.below(input.len() + 1)..),
                2 => drop(input.drain(..random.below(input.len() + 1))),
                3 => input.insert(random.below(input.len() + 1), alphabet[random.below(alphabet.len())]),
                _ => {
                    let at = random.below(input.len().max(1));
                    if let Some(byte) = input.get_mut(at) {
                        *byte = alphabet[random.below(alphabet.len())];
                    }
                }
            }
        }
        let input = Bytes::from(input);
        match decode(input.clone(), &limits) {
            Ok(batch) => {
                for message in batch.messages {
                    let _ = (message.subscriptions(), message.connect_advice(), message.x_messages(), message.error());
                    let _ = (message.supported_connection_types(), message.successful(), message.connection_type());
                    let _ = bayeux_proto::Event::from_publish("/a".into(), message).freeze();
                }
            }
            Err(DecodeError::Syntax { offset } | DecodeError::NotUtf8 { offset }) => assert!(offset <= input.len()),
            Err(_) => {}
        }
    }
}

/// The generator of Steele, Lea and Flood: three lines, and the same numbers everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

/// Every field against the tree that serde_json built; it too lets the last of repeated keys count.
fn compare(message: &Message, value: &serde_json::Map<String, Value>) -> Result<(), TestCaseError> {
    let string = |name: &str| value.get(name).and_then(Value::as_str);
    let present = |name: &str| value.get(name).filter(|value| !value.is_null()).cloned();
    let parsed = |raw: &Option<RawJson>| raw.as_ref().map(|raw| raw.to::<Value>().expect("a value of a valid text"));
    prop_assert_eq!(message.channel.as_deref(), string("channel"));
    prop_assert_eq!(message.client_id.as_deref(), string("clientId"));
    prop_assert_eq!(parsed(&message.data), value.get("data").cloned());
    prop_assert_eq!(parsed(&message.ext), present("ext").filter(Value::is_object));
    prop_assert_eq!(parsed(&message.advice), present("advice"));
    prop_assert_eq!(parsed(&message.subscription), present("subscription"));
    prop_assert_eq!(parsed(&message.connection_type), present("connectionType"));
    match (&message.id, present("id")) {
        (Some(MessageId::Text(id)), Some(Value::String(text))) => prop_assert_eq!(&**id, text),
        (Some(MessageId::Text(id)), Some(number @ Value::Number(_))) => {
            prop_assert_eq!(serde_json::from_str::<Value>(id).ok(), Some(number));
        }
        (Some(MessageId::Other(raw)), Some(other)) => prop_assert_eq!(raw.to::<Value>().ok(), Some(other)),
        (None, None) => {}
        (ours, theirs) => prop_assert!(false, "{:?} {:?}", ours, theirs),
    }
    for (key, raw) in &message.fields {
        let name: String = serde_json::from_str(key).expect("a key of a valid text");
        let last = message.field(&name);
        prop_assert!(last.is_some());
        prop_assert_eq!(last.map(|last| last.to::<Value>().expect("a value")), value.get(&name).cloned());
        prop_assert!(raw.to::<Value>().is_ok());
    }
    Ok(())
}

/// Deep enough that depth is no reason to refuse a generated text; `RawJson` has 512.
fn wide() -> Limits {
    let mut limits = Limits::default();
    limits.depth_max = 512;
    limits
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![8 => Just(String::new()), 1 => "[ \n\r\t]{1,3}"]
}

fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z/*{} ]{0,12}",
        1 => Just(String::from("é😀\u{2028}\u{7f}")),
        1 => prop::sample::select(vec!["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"]).prop_map(String::from),
        1 => "\\\\u[0-9a-fA-C][0-9a-fA-F]{3}",
        1 => Just(String::from("\\ud83d\\ude00")),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "true", "false", "{}", "[]", "0", "-0", "1e3"]).prop_map(String::from),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        string(),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let item = (space(), inner.clone(), space()).prop_map(|(before, value, after)| before + &value + &after);
        let entry = (string(), space(), space(), inner)
            .prop_map(|(key, before, after, value)| format!("{before}{key}{before}:{after}{value}{after}"));
        prop_oneof![
            prop::collection::vec(item, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(entry, 0..5).prop_map(|entries| format!("{{{}}}", entries.join(","))),
        ]
    })
}

fn message() -> impl Strategy<Value = String> {
    let known =
        ["channel", "clientId", "id", "data", "ext", "advice", "subscription", "connectionType", "\\u0069d", "x"];
    let key =
        prop_oneof![3 => prop::sample::select(known.to_vec()).prop_map(|key| format!("\"{key}\"")), 1 => string()];
    let any = prop_oneof![1 => string(), 2 => value()];
    let entry = (key, space(), any).prop_map(|(key, space, value)| format!("{key}{space}:{space}{value}{space}"));
    prop::collection::vec(entry, 0..8).prop_map(|entries| format!("{{{}}}", entries.join(",")))
}

/// Texts that are JSON, or were before something happened to them.
fn mutated() -> impl Strategy<Value = String> {
    let envelope = prop::collection::vec(message(), 0..3).prop_map(|messages| format!("[{}]", messages.join(",")));
    // What a change at random seldom hits: numbers, words and escapes that are nearly right.
    let nearly = prop_oneof![
        "[-+]?[01]{0,3}(\\.[05]{0,2})?([eE][-+]?[07]{0,2})?",
        "(t|tr|true|fals|false|nul|null)[a-z]?",
        "\"(\\\\[\"\\\\/a-z0-9]{1,6}|[ -~\u{1f}\u{7f}]){0,4}\"",
        "[\\[\\]{}:,\"]{0,6}",
    ];
    let around =
        prop::sample::select(vec![("", ""), ("[", "]"), ("{\"a\":", "}"), ("[{\"a\":[", ",0]}]"), ("{", ":1}")]);
    let nearly = (around, nearly).prop_map(|((before, after), text)| format!("{before}{text}{after}"));
    let text = prop_oneof![1 => envelope, 1 => message(), 1 => value(), 2 => nearly];
    let noise = prop::sample::select("{}[]\",:\\u019eE+-. tfn\n\u{0}\u{1f}é".chars().collect::<Vec<_>>());
    let change = prop::option::of((any::<prop::sample::Index>(), 0..4_u8, noise));
    (text, prop::collection::vec(change, 0..3)).prop_map(|(text, changes)| {
        let mut chars: Vec<char> = text.chars().collect();
        for (index, what, noise) in changes.into_iter().flatten() {
            if chars.is_empty() {
                break;
            }
            let at = index.index(chars.len());
            match what {
                0 => chars.insert(at, noise),
                1 => chars[at] = noise,
                2 => drop(chars.remove(at)),
                _ => chars.truncate(at),
            }
        }
        chars.into_iter().collect()
    })
}
