//! Binary data in messages: Z85 text and the object around it (section XB).

use bytes::Bytes;
use bytestring::ByteString;

use crate::frozen::Event;
use crate::json::RawJson;
use crate::message::Message;
use crate::scan::Kind;
use crate::text::{self, Object};

/// A piece of binary data, as a message's `data` carries it (rule XB-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryData {
    /// The bytes.
    pub data: Bytes,
    /// Whether it is the last piece: large data may come in several messages.
    pub last: bool,
    /// The application's description of the data: an object, usually with the first piece.
    pub meta: Option<RawJson>,
}

/// A message says that its data is binary, and it is none (rule XB-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not binary data")]
pub struct BinaryError;

impl BinaryData {
    /// Data in one piece.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self { data: data.into(), last: true, meta: None }
    }

    /// Reads the object that carries it. A missing `last` counts as true.
    ///
    /// # Errors
    /// [`BinaryError`] where `data` is no Z85, `last` no boolean, or `meta` no object.
    pub fn from_data(json: &RawJson) -> Result<Self, BinaryError> {
        let value = json.value();
        if value.kind() != Kind::Object {
            return Err(BinaryError);
        }
        let (mut data, mut last, mut meta) = (None, true, None);
        for (key, value) in value.entries() {
            match (&*text::plain(key), value.kind()) {
                ("data", Kind::String) => data = Some(z85_decode(&text::plain(value)).ok_or(BinaryError)?),
                ("last", Kind::Bool) => last = value.raw == "true",
                ("meta", Kind::Object) => meta = Some(RawJson::trusted(ByteString::from(value.raw))),
                ("meta", Kind::Null) => {}
                ("data" | "last" | "meta", _) => return Err(BinaryError),
                _ => {}
            }
        }
        Ok(Self { data: data.ok_or(BinaryError)?.into(), last, meta })
    }

    /// The object that carries it.
    pub fn to_data(&self) -> RawJson {
        let mut json = Vec::with_capacity(self.data.len() / 4 * 5 + 40);
        let mut object = Object::new(&mut json);
        object.string("\"data\"", &z85_encode(&self.data));
        object.bool("\"last\"", self.last);
        if let Some(meta) = &self.meta {
            object.raw("\"meta\"", meta.as_str());
        }
        object.end();
        RawJson::trusted(ByteString::try_from(json).expect("an object of UTF-8 texts is UTF-8"))
    }
}

impl Event {
    /// An event with binary data.
    pub fn binary(channel: impl Into<ByteString>, data: &BinaryData) -> Self {
        let mut event = Self::new(channel, data.to_data());
        event.ext = Some(RawJson::trusted(ByteString::from_static(r#"{"binary":{}}"#)));
        event
    }
}

impl Message {
    /// Whether it says that its data is binary: `ext.binary` is there, and not `false`, 0 or `null` (rule XB-5).
    pub fn is_binary(&self) -> bool {
        let Some(ext) = &self.ext else { return false };
        let mut binary = false;
        for (key, value) in ext.value().entries() {
            if text::is_key(key.raw, "binary") {
                binary = !matches!(value.raw, "false" | "null" | "0" | "\"\"");
            }
        }
        binary
    }

    /// Its binary data; `None` where it says that it has none.
    ///
    /// # Errors
    /// [`BinaryError`] where it says so and it is not true.
    pub fn binary(&self) -> Result<Option<BinaryData>, BinaryError> {
        if !self.is_binary() {
            return Ok(None);
        }
        BinaryData::from_data(self.data.as_ref().ok_or(BinaryError)?).map(Some)
    }
}

/// The digits of Z85, by value (rule XB-2).
const ALPHABET: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// What no digit is.
const NONE: u8 = 85;

/// The values of characters, `NONE` where they are no digits.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// Bytes as Z85 text: five characters for four bytes; one more than there are bytes for a rest of one to three (rule
/// XB-3).
fn z85_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(4) * 5);
    for chunk in bytes.chunks(4) {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u32::from_be_bytes(word);
        for at in 0..=chunk.len() {
            let digit = word / 85_u32.pow(4 - at as u32) % 85;
            text.push(char::from(ALPHABET[digit as usize]));
        }
    }
    text
}

/// The inverse of [`z85_encode`]; `None` where the text is none of it.
fn z85_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 5 * 4 + 3);
    for chunk in text.as_bytes().chunks(5) {
        if chunk.len() == 1 {
            return None;
        }
        let mut word: u64 = 0;
        for at in 0..5 {
            // What is missing at the end counts as the highest digit, so that the bytes before it are not rounded down.
            let value = chunk.get(at).map_or(84, |&character| VALUES[usize::from(character)]);
            if value == NONE {
                return None;
            }
            word = word * 85 + u64::from(value);
        }
        let word = u32::try_from(word).ok()?.to_be_bytes();
        bytes.extend_from_slice(&word[..chunk.len() - 1]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XB-4
    #[test]
    fn the_vector_of_the_specification() {
        let bytes = [0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b];
        assert_eq!(z85_encode(&bytes), "HelloWorld");
        assert_eq!(z85_decode("HelloWorld").as_deref(), Some(&bytes[..]));
    }

    /// XB-3: every length, and the bytes that round worst.
    #[test]
    fn every_length_comes_back() {
        for length in 0..40 {
            for fill in [0, 1, 0x7f, 0x80, 0xff] {
                let bytes: Vec<u8> = (0..length).map(|at| if at % 3 == 0 { fill } else { at as u8 }).collect();
                let text = z85_encode(&bytes);
                assert_eq!(text.len(), length / 4 * 5 + if length % 4 == 0 { 0 } else { length % 4 + 1 });
                assert_eq!(z85_decode(&text).as_deref(), Some(&bytes[..]), "{text}");
            }
        }
    }

    /// XB-6
    #[test]
    fn other_text_is_refused() {
        for text in ["H", "HelloW", "Hell\"", "Hell~", "Hell ", "é", "#####", "Hello#####", "%nSc1", "####"] {
            assert_eq!(z85_decode(text), None, "{text}");
        }
        assert_eq!(z85_decode("%nSc0").as_deref(), Some(&[0xff; 4][..]), "the largest");
    }

    fn message(data: &'static str, ext: &'static str) -> Message {
        let mut message = Message::new("/a");
        message.data = Some(RawJson::new(data).expect("JSON of this test"));
        message.ext = Some(RawJson::new(ext).expect("JSON of this test"));
        message
    }

    /// XB-1
    #[test]
    fn the_object_goes_in_and_comes_out() {
        let mut binary = BinaryData::new(&b"\x86\x4f\xd2\x6f"[..]);
        binary.last = false;
        binary.meta = Some(RawJson::new(r#"{"name":"a.png"}"#).expect("JSON"));
        let event = Event::binary("/a", &binary);
        assert_eq!(
            event.freeze().as_object(),
            br#"{"channel":"/a","data":{"data":"Hello","last":false,"meta":{"name":"a.png"}},"ext":{"binary":{}}}"#
        );
        let read = message(r#"{"data":"Hello","last":false,"meta":{"name":"a.png"},"x":1}"#, r#"{"binary":{}}"#);
        assert_eq!(read.binary(), Ok(Some(binary)));
        // In text, the digits that JSON could escape are read unescaped.
        assert_eq!(
            BinaryData::from_data(&RawJson::new(r#"{"data":"\u0048ello"}"#).expect("JSON")).map(|b| b.last),
            Ok(true)
        );
    }

    #[test]
    fn what_says_that_it_is_binary_must_be() {
        for data in [
            "1",
            "null",
            "{}",
            r#"{"data":1}"#,
            r#"{"data":"H"}"#,
            r#"{"data":"","last":1}"#,
            r#"{"data":"","meta":[]}"#,
        ] {
            assert_eq!(message(data, r#"{"binary":{}}"#).binary(), Err(BinaryError), "{data}");
            for ext in ["{}", r#"{"binary":false}"#, r#"{"binary":null}"#, r#"{"other":{}}"#] {
                assert_eq!(message(data, ext).binary(), Ok(None), "{ext}");
            }
        }
    }
}
