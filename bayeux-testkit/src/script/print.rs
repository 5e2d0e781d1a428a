//! JSON in transcripts: one line, keys in the order in which people read them, compared by structure.

use serde_json::Value;

/// Stands for any value in an expected line.
pub(crate) const ANY: &str = "<any>";

/// Keys that come first, in this order; all others follow by alphabet.
const FIRST: [&str; 12] = [
    "channel",
    "id",
    "clientId",
    "successful",
    "error",
    "subscription",
    "version",
    "minimumVersion",
    "supportedConnectionTypes",
    "data",
    "reconnect",
    "advice",
];

/// One line of JSON, keys in the order in which people read them.
pub fn print(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
            let mut keys: Vec<_> = fields.keys().collect();
            keys.sort_by_key(|key| (rank(key), key.as_str()));
            let field = |key: &String| format!("{}:{}", Value::from(key.as_str()), print(&fields[key]));
            format!("{{{}}}", keys.into_iter().map(field).collect::<Vec<_>>().join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// The ids of the messages of an envelope, which is one or an array of them.
pub fn ids_of(envelope: &Value) -> Vec<String> {
    let one = |message: &Value| match &message["id"] {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match envelope {
        Value::Array(messages) => messages.iter().filter_map(one).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            one(envelope).into_iter().collect()
        }
    }
}

/// Whether `actual` is what `expected` says.
pub(crate) fn matches(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::String(text), _) if text == ANY => true,
        (Value::Array(expected), Value::Array(actual)) => {
            expected.len() == actual.len() && expected.iter().zip(actual).all(|(e, a)| matches(e, a))
        }
        (Value::Object(expected), Value::Object(actual)) => {
            expected.len() == actual.len()
                && expected.iter().all(|(key, e)| actual.get(key).is_some_and(|a| matches(e, a)))
        }
        (Value::Number(e), Value::Number(a)) => e == a || e.as_f64() == a.as_f64(),
        (
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_),
            _,
        ) => expected == actual,
    }
}

/// Whether two transcript lines say the same: JSON alike, and the text before it equal.
pub(crate) fn same_line(expected: &str, actual: &str) -> bool {
    match (split(expected), split(actual)) {
        (Some((text, e)), Some((other, a))) => text == other && matches(&e, &a),
        _ => expected == actual,
    }
}

fn split(line: &str) -> Option<(&str, Value)> {
    let (text, json) = if line.starts_with(['[', '{']) { ("", line) } else { line.split_once(" <- ")? };
    Some((text, serde_json::from_str(json).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_come_in_reading_order() {
        let value = json!([{"data": 1, "advice": {"timeout": 0, "reconnect": "retry"}, "channel": "/a", "z": null}]);
        let line = r#"[{"channel":"/a","data":1,"advice":{"reconnect":"retry","timeout":0},"z":null}]"#;
        assert_eq!(print(&value), line);
    }

    #[test]
    fn lines_are_compared_by_structure_and_wildcards_match_anything() {
        assert!(same_line(r#"[{"a":1, "b":2}]"#, r#"[{"b":2,"a":1}]"#));
        assert!(!same_line(r#"[{"a":1, "b":2}]"#, r#"[{"b":2,"a":2}]"#));
        assert!(same_line(r#"alice <- [{"a":1, "b":"<any>"}]"#, r#"alice <- [{"b":[2],"a":1}]"#));
        assert!(!same_line(r#"alice <- [{"a":1}]"#, r#"alice <- [{"a":1,"b":2}]"#));
        assert!(!same_line(r#"alice <- [{"a":1}]"#, r#"bob <- [{"a":1}]"#));
        assert!(same_line("alice waits for 4", "alice waits for 4"));
    }
}
