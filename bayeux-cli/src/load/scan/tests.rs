//! The scanner against a real parser, over every spelling of JSON that a generator of spellings comes up with.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

const NAMES: [&str; 8] = ["channel", "id", "clientId", "successful", "error", "advice", "ext", "data"];

fn members<'a>(fields: &Fields<'a>) -> [Option<Json<'a>>; 8] {
    let Fields { channel, id, client_id, successful, error, advice, ext, data } = *fields;
    [channel, id, client_id, successful, error, advice, ext, data]
}

/// What the scanner found, parsed, beside what a parser found.
fn compare(text: &str) {
    let parsed: Value = serde_json::from_str(text).expect("JSON");
    let expected = if let Value::Array(messages) = parsed { messages } else { vec![parsed] };
    let found: Vec<_> = messages(text.as_bytes()).collect::<Result<_, _>>().unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(found.len(), expected.len(), "{text}");
    for (found, expected) in found.iter().zip(&expected) {
        for (name, member) in NAMES.iter().zip(members(found)) {
            let value = member.map(|json| serde_json::from_slice::<Value>(json.0).expect("a value"));
            assert_eq!(value.as_ref(), expected.get(name), "{name} in {text}");
            if let Some(Value::String(string)) = &value {
                assert_eq!(member.and_then(Json::string).as_deref(), Some(string.as_bytes()), "{name} in {text}");
            }
        }
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        "[a-z/\"\\\\{}\\[\\]:, \n\u{e9}\u{1f600}]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec(("[a-z\"\\\\ ]{0,6}", inner), 0..5).prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn message() -> impl Strategy<Value = Value> {
    let name = prop_oneof![proptest::sample::select(&NAMES[..]).prop_map(str::to_owned), "[a-z\"\\\\]{0,8}"];
    vec((name, json()), 0..9).prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>()))
}

/// Writes `value` in a spelling that `choice` draws.
fn spell(value: &Value, choice: &mut impl FnMut(u32) -> u32, out: &mut String) {
    let space = |choice: &mut dyn FnMut(u32) -> u32, out: &mut String| {
        for _ in 0..choice(8).saturating_sub(5) {
            out.push([' ', '\n', '\r', '\t'][choice(4) as usize]);
        }
    };
    space(choice, out);
    match value {
        Value::String(text) => spell_string(text, choice, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                spell(item, choice, out);
            }
            space(choice, out);
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            let mut entries: Vec<_> = entries.iter().collect();
            let turn = choice(8) as usize;
            let length = entries.len().max(1);
            entries.rotate_left(turn % length);
            for (index, (key, item)) in entries.into_iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                space(choice, out);
                spell_string(key, choice, out);
                space(choice, out);
                out.push(':');
                spell(item, choice, out);
            }
            space(choice, out);
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
    space(choice, out);
}

fn spell_string(text: &str, choice: &mut impl FnMut(u32) -> u32, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        let must = matches!(character, '"' | '\\') || character.is_control();
        match choice(6) {
            0 => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            1 if character == '/' => out.push_str("\\/"),
            _ if character == '\n' => out.push_str("\\n"),
            _ if must => {
                out.push('\\');
                out.push(character);
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

proptest! {
    #[test]
    fn any_spelling_reads_as_a_parser_reads_it(batch in vec(message(), 0..5), bare: bool, seed: u64) {
        let mut state = seed | 1;
        let mut choice = |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32 % below
        };
        let value = match <[Value; 1]>::try_from(batch) {
            Ok([message]) if bare => message,
            Ok(message) => Value::from(message.to_vec()),
            Err(batch) => Value::from(batch),
        };
        let mut text = String::new();
        spell(&value, &mut choice, &mut text);
        compare(&text);
    }

    #[test]
    fn no_bytes_make_it_panic_or_go_on_for_ever(bytes in vec(prop_oneof![
        proptest::sample::select(&b"[]{}\",:\\ tu0"[..]), any::<u8>()], 0..60)) {
        prop_assert!(messages(&bytes).count() <= bytes.len() + 1);
    }

    #[test]
    fn a_batch_that_is_cut_short_is_malformed(cut in 0..110_usize) {
        let text = br#"[{"channel":"/a","data":{"b":[1,"\"]"]}},{"channel":"/meta/connect","successful":true,"advice":{"a":1}} ]"#;
        prop_assume!(cut < text.len());
        prop_assert_eq!(messages(&text[..cut]).last(), Some(Err(Malformed)));
    }
}

#[test]
fn what_is_no_batch_is_malformed() {
    for text in [
        "",
        " ",
        "1",
        "\"a\"",
        "[1]",
        "[[]]",
        "[{}",
        "[{}]x",
        "{}x",
        "[{},]",
        "[{\"a\"}]",
        "[{\"a\":}]",
        "[,{}]",
        "nul",
    ] {
        assert_eq!(messages(text.as_bytes()).last(), Some(Err(Malformed)), "{text}");
    }
    assert_eq!(messages(b" [ ] ").count(), 0);
}

#[test]
fn the_last_of_a_repeated_member_counts() {
    compare(r#"{"id":"1","id":"2","\u0069d":"3"}"#);
}
