//! Binary data in messages: Z85.

use bayeux_proto::{BinaryData, RawJson};
use bytes::Bytes;
use serde_json::{Value, json};

/// Bytes as data, and the same bytes as text that claims to be Z85.
///
/// What is encoded is decoded to the same (XB-3), and so is what was decoded and encoded; a text that is taken has only
/// Z85's characters.
pub fn binary_data(data: &[u8]) {
    let binary = BinaryData { data: Bytes::copy_from_slice(data), last: data.len().is_multiple_of(2), meta: None };
    let json = binary.to_data();
    assert_eq!(BinaryData::from_data(&json), Ok(binary), "XB-3");
    let encoded = json.to::<Value>().expect("what we write is JSON");
    let text = encoded["data"].as_str().expect("data is a string");
    assert_eq!(text.len(), data.len() + data.len().div_ceil(4), "XB-3");

    let text = String::from_utf8_lossy(data);
    let claimed = RawJson::from_serialize(&json!({"data": text})).expect("a value serialises");
    if let Ok(read) = BinaryData::from_data(&claimed) {
        assert!(text.bytes().all(|byte| DIGITS.contains(&byte)), "XB-2: {text:?}");
        assert!(read.last && read.meta.is_none());
        assert_eq!(BinaryData::from_data(&read.to_data()), Ok(read));
    }
    if let Ok(any) = RawJson::new(text.into_owned())
        && let Ok(read) = BinaryData::from_data(&any)
    {
        assert_eq!(BinaryData::from_data(&read.to_data()), Ok(read));
    }
}

const DIGITS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
