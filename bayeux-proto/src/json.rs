//! JSON values as they were written, the limits of an envelope, and what can be wrong with one.

use bytestring::ByteString;

use crate::scan::{Kind, ScanError, Scanner, Value};
use crate::text;

/// Limits of one envelope, checked while it is decoded.
///
/// The defaults stay above the floors of rule Z-20.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one envelope: a whole HTTP body or WebSocket message. Default: 4 MiB (rule Z-10).
    pub bytes_max: usize,
    /// Arrays and objects inside each other, the envelope's own array included. Default: 128 (rule Z-10).
    pub depth_max: usize,
    /// Messages in one envelope. Default: 20,000.
    pub messages_max: usize,
    /// Fields without a meaning of their own in one envelope, all messages together. Default: 100,000 (ours, because
    /// one of five bytes takes more than ten times as many in memory).
    pub fields_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 4 * 1024 * 1024, depth_max: 128, messages_max: 20_000, fields_max: 100_000 }
    }
}

/// Why bytes are not an envelope (rule M-9). Nothing of such an envelope is processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// More bytes than [`Limits::bytes_max`].
    #[error("envelope larger than {limit} bytes")]
    TooLarge {
        /// The limit in force.
        limit: usize,
    },
    /// The bytes are not UTF-8.
    #[error("invalid UTF-8 at byte {offset}")]
    NotUtf8 {
        /// Offset of the first bad byte.
        offset: usize,
    },
    /// Not exactly one JSON text.
    #[error("invalid JSON at byte {offset}")]
    Syntax {
        /// Offset where no JSON text could go on.
        offset: usize,
    },
    /// Nested deeper than [`Limits::depth_max`].
    #[error("nested deeper than {limit}")]
    TooDeep {
        /// The limit in force.
        limit: usize,
    },
    /// A JSON text, but neither an object nor an array of objects.
    #[error("neither a message nor an array of messages at byte {offset}")]
    NotMessages {
        /// Offset of the value that is no object.
        offset: usize,
    },
    /// More messages than [`Limits::messages_max`].
    #[error("more than {limit} messages in one envelope")]
    TooMany {
        /// The limit in force.
        limit: usize,
    },
    /// More fields than [`Limits::fields_max`].
    #[error("more than {limit} unknown fields in one envelope")]
    TooManyFields {
        /// The limit in force.
        limit: usize,
    },
}

impl DecodeError {
    /// The HTTP status that answers it: 413 for [`DecodeError::TooLarge`], else 400 (rules TH-41, TH-44, TH-49, TH-51).
    pub fn http_status(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 413,
            Self::NotUtf8 { .. }
            | Self::Syntax { .. }
            | Self::TooDeep { .. }
            | Self::NotMessages { .. }
            | Self::TooMany { .. }
            | Self::TooManyFields { .. } => 400,
        }
    }

    /// The WebSocket close code that answers it: 1009 for size, 1007 for what is not JSON or UTF-8, 1008 for the rest
    /// (rules TW-20, TW-21).
    pub fn close_code(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 1009,
            Self::NotUtf8 { .. } | Self::Syntax { .. } => 1007,
            Self::TooDeep { .. } | Self::NotMessages { .. } | Self::TooMany { .. } | Self::TooManyFields { .. } => 1008,
        }
    }
}

/// One JSON value, syntactically valid, kept exactly as it was written. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawJson(ByteString);

/// The text given to [`RawJson::new`] is not one JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON at byte {offset}")]
pub struct RawJsonError {
    /// Offset where no JSON text could go on.
    pub offset: usize,
}

impl RawJson {
    /// Checks `text` and wraps it, white space around it removed.
    ///
    /// # Errors
    /// [`RawJsonError`] where `text` is not exactly one JSON value, or one nested deeper than 512: then the offset is that of
    /// the bracket that is too much.
    pub fn new(text: impl Into<ByteString>) -> Result<Self, RawJsonError> {
        let text = text.into();
        match Scanner::new(&text, RAW_DEPTH_MAX).document() {
            Ok(value) => Ok(Self(text.slice_ref(value.raw))),
            Err(ScanError::Syntax { offset } | ScanError::TooDeep { offset, .. }) => Err(RawJsonError { offset }),
        }
    }

    /// Wraps a slice that the scanner has already validated.
    pub(crate) fn trusted(text: ByteString) -> Self {
        Self(text)
    }

    /// Serialises a value.
    ///
    /// # Errors
    /// Where `value`'s `Serialize` fails or has map keys that are not strings.
    pub fn from_serialize<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self(serde_json::to_string(value)?.into()))
    }

    /// Reads the value into a type.
    ///
    /// # Errors
    /// Where the value does not have the shape of `T`.
    pub fn to<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// An object with the members of both; where both have one, with that of `over`. Where either is no object, `over`
    /// itself.
    #[must_use]
    pub fn overlaid_with(&self, over: &Self) -> Self {
        let (below, above) = (self.value(), over.value());
        if below.kind() != Kind::Object || above.kind() != Kind::Object {
            return over.clone();
        }
        let mut json = Vec::with_capacity(self.as_str().len() + over.as_str().len());
        let mut object = text::Object::new(&mut json);
        for (key, value) in below.entries() {
            let name = text::plain(key);
            if !above.entries().any(|(other, _)| text::plain(other) == name) {
                object.raw(key.raw, value.raw);
            }
        }
        for (key, value) in above.entries() {
            object.raw(key.raw, value.raw);
        }
        object.end();
        // Pieces of two texts that are valid, put together validly.
        ByteString::try_from(json).map_or_else(|_| over.clone(), Self::trusted)
    }

    /// An object with one member.
    pub fn from_member(name: &str, value: &Self) -> Self {
        let mut json = Vec::with_capacity(name.len() + value.as_str().len() + 5);
        json.push(b'{');
        text::write_string(&mut json, name);
        json.push(b':');
        json.extend_from_slice(value.as_str().as_bytes());
        json.push(b'}');
        Self(ByteString::try_from(json).expect("JSON of UTF-8 texts is UTF-8"))
    }

    /// The JSON string of a text.
    pub fn from_text(text: &str) -> Self {
        let mut json = Vec::with_capacity(text.len() + 2);
        text::write_string(&mut json, text);
        Self(ByteString::try_from(json).expect("a JSON string of UTF-8 text is UTF-8"))
    }

    /// The JSON array of some texts.
    pub(crate) fn from_texts(texts: &[&str]) -> Self {
        let mut json = Vec::new();
        text::write_strings(&mut json, texts.iter().copied());
        Self(ByteString::try_from(json).expect("an array of UTF-8 texts is UTF-8"))
    }

    /// The text of a JSON string, unescaped; `None` where it is none. Without escapes it is a slice, not a copy.
    pub fn as_text(&self) -> Option<ByteString> {
        self.0.starts_with('"').then(|| text::string_value(&self.0, self.value()))
    }

    /// JSON `null`.
    pub fn null() -> Self {
        Self(ByteString::from_static("null"))
    }

    /// The text of the value.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }

    /// A copy that does not keep the buffer it was cut from alive.
    pub fn detach(&self) -> Self {
        Self(ByteString::from(self.as_str()))
    }

    pub(crate) fn value(&self) -> Value<'_> {
        Value::trusted(&self.0)
    }

    pub(crate) fn text(&self) -> &ByteString {
        &self.0
    }
}

/// What [`RawJson::new`] takes: far more than any [`Limits::depth_max`] in use lets through.
const RAW_DEPTH_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_value_is_what_was_written_without_the_space_around_it() {
        let raw = RawJson::new(" \n{ \"a\" : 1.0 }\t").expect("JSON");
        assert_eq!(raw.as_str(), "{ \"a\" : 1.0 }");
        assert!(raw.is_object() && !raw.is_null());
        assert_eq!(RawJson::new("null").expect("JSON"), RawJson::null());
        assert_eq!(raw.detach(), raw);
        assert_ne!(raw.detach().as_str().as_ptr(), raw.as_str().as_ptr());
    }

    #[test]
    fn overlaying_objects_keeps_the_members_of_both() {
        let json = |text: &'static str| RawJson::new(text).expect("JSON");
        for (below, over, both) in [
            (r#"{"a":1,"b":2}"#, r#"{"b":3,"c":4}"#, r#"{"a":1,"b":3,"c":4}"#),
            // The same name, written otherwise.
            (r#"{"a":1,"\u0062":2}"#, r#"{"b":3}"#, r#"{"a":1,"b":3}"#),
            ("{}", "{}", "{}"),
            (r#"{ "a" : [1, 2] }"#, "{}", r#"{"a":[1, 2]}"#),
            ("[1]", r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1}"#, "null", "null"),
        ] {
            assert_eq!(json(below).overlaid_with(&json(over)).as_str(), both, "{below} under {over}");
        }
    }

    #[test]
    fn texts_and_members_are_escaped() {
        assert_eq!(RawJson::from_text("a\"\n\u{2028}é").as_str(), r#""a\"\n\u2028é""#);
        let member = RawJson::from_member("k\"", &RawJson::from_text("v"));
        assert_eq!(member.as_str(), r#"{"k\"":"v"}"#);
        assert_eq!(RawJson::from_serialize(&[1, 2]).expect("numbers").to::<Vec<u8>>().expect("numbers"), [1, 2]);
    }

    #[test]
    fn what_is_not_one_value_is_refused() {
        for (text, offset) in [("", 0), ("1 2", 2), ("[1", 2), ("{,}", 1), ("\u{feff}1", 0)] {
            assert_eq!(RawJson::new(text), Err(RawJsonError { offset }), "{text}");
        }
        let nested = |depth: usize| RawJson::new("[".repeat(depth) + &"]".repeat(depth));
        assert!(nested(512).is_ok());
        assert_eq!(nested(513), Err(RawJsonError { offset: 512 }));
    }

    #[test]
    fn text_goes_in_and_comes_out() {
        let raw = RawJson::from_text("a\"é\n");
        assert_eq!(raw.as_str(), "\"a\\\"é\\n\"");
        assert_eq!(raw.as_text().as_deref(), Some("a\"é\n"));
        assert_eq!(RawJson::new("1").expect("JSON").as_text(), None);
        let plain = RawJson::from_text("plain");
        assert_eq!(plain.as_text().map(|text| text.as_ptr()), Some(plain.as_str()[1..].as_ptr()), "a slice");
    }

    #[test]
    fn values_go_in_and_come_out() {
        let raw = RawJson::from_serialize(&[Some(1), None]).expect("serialisable");
        assert_eq!(raw.as_str(), "[1,null]");
        assert_eq!(raw.to::<Vec<Option<u8>>>().expect("of this shape"), [Some(1), None]);
        assert!(raw.to::<String>().is_err());
    }
}
