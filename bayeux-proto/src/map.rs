//! Changing single values inside JSON, and nothing else of it.

use std::borrow::Cow;

use bytestring::ByteString;

use crate::json::RawJson;
use crate::scan::Value;
use crate::text;

/// A value in JSON that is neither an array nor an object nor `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// A string, unescaped.
    Text(Cow<'a, str>),
    /// A number, as it was written.
    Number(&'a str),
    /// `true` or `false`.
    Bool(bool),
}

impl RawJson {
    /// The same with other scalars in the places of those that `change` has something else for, however deep in arrays
    /// and objects. Keys stay as they are, and all else stays exactly as it was written.
    #[must_use]
    pub fn map_scalars(&self, change: &mut dyn FnMut(Scalar<'_>) -> Option<Self>) -> Self {
        let json = self.as_str();
        let mut changed: Option<String> = None;
        // Up to here the text was copied, if any was.
        let mut copied = 0;
        let mut at = 0;
        while let Some(&byte) = json.as_bytes().get(at) {
            let Some((end, scalar)) = scalar_at(json, at, byte) else {
                at += 1;
                continue;
            };
            if let Some(other) = scalar.and_then(&mut *change) {
                let changed = changed.get_or_insert_with(|| String::with_capacity(json.len()));
                changed.push_str(json.get(copied..at).unwrap_or_default());
                changed.push_str(other.as_str());
                copied = end;
            }
            at = end;
        }
        match changed {
            None => self.clone(),
            Some(mut changed) => {
                changed.push_str(json.get(copied..).unwrap_or_default());
                // Values in the places of values.
                Self::trusted(ByteString::from(changed))
            }
        }
    }
}

/// The end of the scalar or key that begins at `at`, and what it is where it is no key and not `null`. `None`: white
/// space or structure.
fn scalar_at(json: &str, at: usize, first: u8) -> Option<(usize, Option<Scalar<'_>>)> {
    let rest = json.as_bytes().get(at..)?;
    match first {
        b'"' => {
            let end = at + string_length(rest);
            let key = json.as_bytes().get(end..)?.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
            let raw = json.get(at..end)?;
            Some((end, (!key).then(|| Scalar::Text(text::plain(Value::trusted(raw))))))
        }
        b'-' | b'0'..=b'9' => {
            let length = rest.iter().take_while(|byte| matches!(byte, b'+' | b'-' | b'.' | b'0'..=b'9' | b'e' | b'E'));
            let end = at + length.count();
            Some((end, Some(Scalar::Number(json.get(at..end)?))))
        }
        b't' => Some((at + 4, Some(Scalar::Bool(true)))),
        b'f' => Some((at + 5, Some(Scalar::Bool(false)))),
        b'n' => Some((at + 4, None)),
        _ => None,
    }
}

/// The length of the string that `json` begins with, quotes included.
fn string_length(json: &[u8]) -> usize {
    let mut escaped = false;
    for (at, &byte) in json.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(json: &'static str, mut change: impl FnMut(Scalar<'_>) -> Option<RawJson>) -> String {
        let json = RawJson::new(json).expect("JSON of this test");
        json.map_scalars(&mut change).as_str().to_owned()
    }

    #[test]
    fn every_scalar_is_seen_and_no_key() {
        let mut seen = Vec::new();
        let json = r#" {"k\"" : [1.50e3, -2,"a\\\"b", {"x" :true,"y":null }, [false], "é\u00e9"]} "#;
        let same = map(json, |scalar| {
            seen.push(format!("{scalar:?}"));
            None
        });
        assert_eq!(same, json.trim());
        assert_eq!(
            seen,
            [
                r#"Number("1.50e3")"#,
                r#"Number("-2")"#,
                r#"Text("a\\\"b")"#,
                "Bool(true)",
                "Bool(false)",
                "Text(\"éé\")"
            ]
        );
    }

    #[test]
    fn only_what_changes_is_written_anew() {
        let upper = |scalar: Scalar<'_>| match scalar {
            Scalar::Text(text) => Some(RawJson::from_text(&text.to_uppercase())),
            Scalar::Bool(true) => Some(RawJson::null()),
            Scalar::Number(_) | Scalar::Bool(false) => None,
        };
        assert_eq!(
            map(r#"{ "a":"x\n", "b": 1.0,"c":[true , false]}"#, upper),
            r#"{ "a":"X\n", "b": 1.0,"c":[null , false]}"#
        );
        assert_eq!(map(r#""x""#, upper), r#""X""#);
        assert_eq!(map("12345678901234567890", upper), "12345678901234567890");
    }
}
