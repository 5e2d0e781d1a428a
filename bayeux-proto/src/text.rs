//! JSON strings: from and to plain text.

use std::borrow::Cow;

use bytes::BytesMut;
use bytestring::ByteString;

use crate::scan::Value;

/// Where encoded bytes go. The same code runs over a [`Length`] first where the exact size is to be known.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

/// Counts what would be written.
#[derive(Debug, Default)]
pub(crate) struct Length(pub(crate) usize);

impl Sink for Length {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for BytesMut {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// The plain text of a string value: a slice of `source`, which the value was scanned from, unless it has escapes.
pub(crate) fn string_value(source: &ByteString, value: Value<'_>) -> ByteString {
    if value.is_escaped { unescape(value.inner()).into() } else { source.slice_ref(value.inner()) }
}

/// As [`string_value`], borrowed.
pub(crate) fn plain(value: Value<'_>) -> Cow<'_, str> {
    if value.is_escaped { Cow::Owned(unescape(value.inner())) } else { Cow::Borrowed(value.inner()) }
}

/// Whether `key`, a JSON string, is `name`.
pub(crate) fn is_key(key: &str, name: &str) -> bool {
    plain(Value::trusted(key)) == name
}

/// Resolves the escapes of a valid string. A surrogate without its other half becomes U+FFFD: no Rust text can hold it,
/// and two different names never become the same known one that way.
fn unescape(escaped: &str) -> String {
    let mut plain = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut chars = after.chars();
        let character = match chars.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let (character, length) = code_point(after);
                chars = after.get(length..).unwrap_or_default().chars();
                character
            }
            Some(other) => other,
            None => char::REPLACEMENT_CHARACTER,
        };
        plain.push(character);
        rest = chars.as_str();
    }
    plain.push_str(rest);
    plain
}

/// The character of a `u` escape and how many bytes it takes, the second escape of a surrogate pair included.
fn code_point(escape: &str) -> (char, usize) {
    let unit = |at: usize| {
        let digits = escape.get(at..at + 4)?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(1) else { return (char::REPLACEMENT_CHARACTER, 1) };
    if let 0xD800..=0xDBFF = first
        && escape.get(5..7) == Some("\\u")
        && let Some(second @ 0xDC00..=0xDFFF) = unit(7)
    {
        let code = 0x1_0000 + ((first - 0xD800) << 10 | (second - 0xDC00));
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 11);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 5)
}

/// Writes `text` as a JSON string, quotes included.
pub(crate) fn write_string<S: Sink>(sink: &mut S, text: &str) {
    sink.put(b"\"");
    write_escaped(sink, text);
    sink.put(b"\"");
}

/// Writes `text` as the inside of a JSON string.
///
/// U+2028 and U+2029 are escaped too, since older JavaScript takes them for the end of a line: the same bytes can then
/// be sent as a script.
pub(crate) fn write_escaped<S: Sink>(sink: &mut S, text: &str) {
    let bytes = text.as_bytes();
    let mut written = 0;
    let mut at = 0;
    loop {
        at += plain_words(&bytes[at..]);
        let Some(&byte) = bytes.get(at) else { break };
        let Some((escape, length)) = escape(byte, &bytes[at..]) else {
            at += 1;
            continue;
        };
        sink.put(&bytes[written..at]);
        match escape {
            Escape::Short(letter) => sink.put(&[b'\\', letter]),
            Escape::Control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                sink.put(b"\\u00");
                sink.put(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            Escape::LineSeparator => sink.put(b"\\u2028"),
            Escape::ParagraphSeparator => sink.put(b"\\u2029"),
        }
        at += length;
        written = at;
    }
    sink.put(&bytes[written..]);
}

/// How many bytes at the beginning of `bytes` are not escaped, counted in words of eight.
#[inline]
fn plain_words(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xFF;
    const TOPS: u64 = ONES << 7;
    let (words, _) = bytes.as_chunks::<8>();
    let special = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        // The top bit of a byte is set where the byte is zero; a byte above it may have it wrongly, which costs a look.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        let backslash = zero(word ^ (ONES * u64::from(b'\\')));
        // Beyond ASCII, where a line separator may be.
        (control | quote | backslash | word) & TOPS != 0
    };
    8 * words.iter().position(special).unwrap_or(words.len())
}

enum Escape {
    Short(u8),
    Control,
    LineSeparator,
    ParagraphSeparator,
}

/// How the character that begins with `byte` is escaped and how long it is; `None` if it is not.
#[inline]
fn escape(byte: u8, rest: &[u8]) -> Option<(Escape, usize)> {
    match byte {
        b'"' | b'\\' => Some((Escape::Short(byte), 1)),
        0x00..=0x1F => Some((
            match byte {
                0x08 => Escape::Short(b'b'),
                0x0C => Escape::Short(b'f'),
                b'\n' => Escape::Short(b'n'),
                b'\r' => Escape::Short(b'r'),
                b'\t' => Escape::Short(b't'),
                _ => Escape::Control,
            },
            1,
        )),
        0xE2 => match rest.get(1..3) {
            Some([0x80, 0xA8]) => Some((Escape::LineSeparator, 3)),
            Some([0x80, 0xA9]) => Some((Escape::ParagraphSeparator, 3)),
            _ => None,
        },
        _ => None,
    }
}

/// Writes an array of strings.
pub(crate) fn write_strings<'t, S: Sink>(sink: &mut S, texts: impl Iterator<Item = &'t str>) {
    sink.put(b"[");
    for (index, text) in texts.enumerate() {
        if index > 0 {
            sink.put(b",");
        }
        write_string(sink, text);
    }
    sink.put(b"]");
}

/// Writes a number in decimal.
pub(crate) fn write_number<S: Sink>(sink: &mut S, mut number: u64) {
    // The longest, 18,446,744,073,709,551,615, has 20 digits.
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] += (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    sink.put(&digits[start..]);
}

/// Writes a JSON object, field by field.
#[derive(Debug)]
pub(crate) struct Object<'s, S: Sink> {
    sink: &'s mut S,
    is_empty: bool,
}

impl<'s, S: Sink> Object<'s, S> {
    pub(crate) fn new(sink: &'s mut S) -> Self {
        sink.put(b"{");
        Self { sink, is_empty: true }
    }

    /// Writes a key, given as a valid JSON string with its quotes; the value is then to be written to what is returned.
    pub(crate) fn key(&mut self, quoted: &str) -> &mut S {
        if !std::mem::take(&mut self.is_empty) {
            self.sink.put(b",");
        }
        self.sink.put(quoted.as_bytes());
        self.sink.put(b":");
        self.sink
    }

    pub(crate) fn string(&mut self, quoted: &str, text: &str) {
        write_string(self.key(quoted), text);
    }

    pub(crate) fn raw(&mut self, quoted: &str, json: &str) {
        self.key(quoted).put(json.as_bytes());
    }

    pub(crate) fn number(&mut self, quoted: &str, number: u64) {
        write_number(self.key(quoted), number);
    }

    pub(crate) fn bool(&mut self, quoted: &str, value: bool) {
        self.raw(quoted, if value { "true" } else { "false" });
    }

    pub(crate) fn end(self) {
        self.sink.put(b"}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_survives_writing_and_reading() {
        for code in (0..0x3000).chain(0xFFF0..0x1_0010) {
            let Some(character) = char::from_u32(code) else { continue };
            let text = format!("a{character}{character}b");
            let mut json = Vec::new();
            write_string(&mut json, &text);
            let json = String::from_utf8(json).expect("JSON is UTF-8");
            assert_eq!(serde_json::from_str::<String>(&json).expect("a JSON string"), text);
            assert_eq!(plain(Value::trusted(&json)), text);
            assert!(!json.contains(['\u{2028}', '\u{2029}', '\n']), "JSONP bodies are scripts");
            assert!(!json.chars().any(|character| character < ' '));
        }
    }

    /// Texts are looked through in words.
    #[test]
    fn character_to_escape_is_found_at_any_place() {
        for length in 1..20 {
            for at in 0..length {
                for character in
                    ['"', '\\', '\n', '\0', '\u{1f}', ' ', '!', '#', '[', '~', '\u{7f}', 'é', '\u{2028}', '😀']
                {
                    let mut text = "x".repeat(length);
                    text.replace_range(at..=at, character.encode_utf8(&mut [0; 4]));
                    let mut json = Vec::new();
                    write_string(&mut json, &text);
                    let json = String::from_utf8(json).expect("JSON is UTF-8");
                    assert_eq!(serde_json::from_str::<String>(&json).expect("a JSON string"), text);
                    assert!(!json.contains('\u{2028}'));
                }
            }
        }
    }

    #[test]
    fn escapes_are_short_where_json_has_short_ones() {
        let mut json = Vec::new();
        write_string(&mut json, "\"\\/\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}\u{2028}\u{2029}\u{2027}");
        assert_eq!(
            String::from_utf8_lossy(&json),
            "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\u{7f}\\u2028\\u2029\u{2027}\""
        );
    }

    #[test]
    fn surrogates_count_in_pairs_only() {
        let plain = |json: &'static str| plain(Value::trusted(json)).into_owned();
        assert_eq!(plain(r#""\ud83d\ude00""#), "😀");
        assert_eq!(plain(r#""\uDBFF\uDFFF""#), "\u{10FFFF}");
        assert_eq!(plain(r#""\ud83dx\ude00""#), "\u{fffd}x\u{fffd}");
        assert_eq!(plain(r#""\ud83d\ud83d\ude00""#), "\u{fffd}😀");
        assert_eq!(plain(r#""\ud83d\n""#), "\u{fffd}\n");
        assert_eq!(plain(r#""\ud83d\u00e9\ud83d""#), "\u{fffd}é\u{fffd}");
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 12_345, u64::MAX] {
            let mut text = Vec::new();
            write_number(&mut text, number);
            assert_eq!(String::from_utf8_lossy(&text), number.to_string());
        }
    }
}
