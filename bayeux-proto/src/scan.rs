//! The JSON scanner: one pass over the text, no recursion, nothing built.
//!
//! It accepts the texts of RFC 8259 and no others, and says where values begin and end. Escaped lone surrogates and
//! numbers that no double holds are fine: such values are passed on as they were written.

use crate::json::DecodeError;

/// A place in a JSON text, moving forward only.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    position: usize,
    depth_max: usize,
}

/// Why a text is not JSON, or not JSON that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScanError {
    Syntax { offset: usize },
    TooDeep { offset: usize, limit: usize },
}

/// One value as it was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) raw: &'a str,
    /// Whether it is a string with escapes.
    pub(crate) is_escaped: bool,
}

/// What the first byte of a value says about its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str, depth_max: usize) -> Self {
        Self { text, position: 0, depth_max }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Bytes that are left.
    pub(crate) fn rest(&self) -> usize {
        self.text.len() - self.position
    }

    /// Past white space; the next byte, 0 at the end. A real NUL is as wrong wherever this is asked.
    #[inline]
    pub(crate) fn token(&mut self) -> u8 {
        self.position = space_end(self.text.as_bytes(), self.position);
        byte(self.text.as_bytes(), self.position)
    }

    /// Past the bracket of an array or object that `outer` others are around.
    #[inline]
    pub(crate) fn open(&mut self, outer: usize) -> Result<(), ScanError> {
        if outer >= self.depth_max {
            return Err(ScanError::TooDeep { offset: self.position, limit: self.depth_max });
        }
        self.position += 1;
        Ok(())
    }

    /// After the opening bracket: to the first item, or past `close` if there is none.
    #[inline]
    pub(crate) fn first_item(&mut self, close: u8) -> bool {
        let is_empty = self.token() == close;
        self.position += usize::from(is_empty);
        !is_empty
    }

    /// After an item: to the next one, or past `close`.
    #[inline]
    pub(crate) fn next_item(&mut self, close: u8) -> Result<bool, ScanError> {
        let (at, has_item) = item_end(self.text.as_bytes(), self.position, close)?;
        self.position = at;
        Ok(has_item)
    }

    /// Past a key and its colon, to the value.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<Value<'a>, ScanError> {
        let bytes = self.text.as_bytes();
        let start = self.position;
        let (end, is_escaped) = key_end(bytes, start)?;
        self.position = colon_end(bytes, end)?;
        Ok(Value { raw: &self.text[start..end], is_escaped })
    }

    /// Past one value that `outer` arrays and objects are around.
    #[inline]
    pub(crate) fn value(&mut self, outer: usize) -> Result<Value<'a>, ScanError> {
        let bytes = self.text.as_bytes();
        let start = self.position;
        let (end, is_escaped) = match byte(bytes, start) {
            b'"' => string_end(bytes, start)?,
            b'{' | b'[' => (self.container_end(outer)?, false),
            _ => (literal_end(bytes, start)?, false),
        };
        self.position = end;
        Ok(Value { raw: &self.text[start..end], is_escaped })
    }

    /// Nothing but white space may be left.
    pub(crate) fn end(&mut self) -> Result<(), ScanError> {
        self.token();
        if self.position == self.text.len() { Ok(()) } else { Err(Unexpected(self.position).into()) }
    }

    /// The whole text as one value, white space around it cut off.
    pub(crate) fn document(mut self) -> Result<Value<'a>, ScanError> {
        self.token();
        let value = self.value(0)?;
        self.end()?;
        Ok(value)
    }

    /// Behind the array or object that begins here, and all that it holds.
    fn container_end(&self, outer: usize) -> Result<usize, ScanError> {
        let bytes = self.text.as_bytes();
        let depth_max = self.depth_max.saturating_sub(outer);
        let mut nest = Nest::default();
        let mut at = self.position;
        loop {
            // Here a value begins.
            match byte(bytes, at) {
                b'"' => at = string_end(bytes, at)?.0,
                opening @ (b'{' | b'[') => {
                    if nest.depth >= depth_max {
                        return Err(ScanError::TooDeep { offset: at, limit: self.depth_max });
                    }
                    let is_object = opening == b'{';
                    at = space_end(bytes, at + 1);
                    if byte(bytes, at) == closing(is_object) {
                        at += 1;
                    } else {
                        nest.push(is_object);
                        if is_object {
                            at = colon_end(bytes, key_end(bytes, at)?.0)?;
                        }
                        continue;
                    }
                }
                _ => at = literal_end(bytes, at)?,
            }
            // Here one has ended, and with it perhaps those around it.
            loop {
                let Some(is_object) = nest.top() else { return Ok(at) };
                let (item, has_item) = item_end(bytes, at, closing(is_object))?;
                at = item;
                if has_item {
                    if is_object {
                        at = colon_end(bytes, key_end(bytes, at)?.0)?;
                    }
                    break;
                }
                nest.pop();
            }
        }
    }
}

/// The place where no JSON text could go on. One word wide, so that results of the functions below stay in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unexpected(usize);

impl From<Unexpected> for ScanError {
    fn from(Unexpected(offset): Unexpected) -> Self {
        Self::Syntax { offset }
    }
}

impl<'a> Value<'a> {
    /// A value that is known to be valid.
    pub(crate) fn trusted(raw: &'a str) -> Self {
        Self { raw, is_escaped: raw.starts_with('"') && raw.contains('\\') }
    }

    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        match self.raw.as_bytes().first() {
            Some(b'"') => Kind::String,
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// Of a string: what is between the quotes, as it was written. Keys that an application made up may have none.
    #[inline]
    pub(crate) fn inner(&self) -> &'a str {
        self.raw.get(1..self.raw.len().saturating_sub(1)).unwrap_or_default()
    }

    /// The keys and values of an object; none where it is something else.
    pub(crate) fn entries(&self) -> Entries<'a> {
        Entries(Items::new(*self, Kind::Object))
    }

    /// The elements of an array; none where it is something else.
    pub(crate) fn elements(&self) -> Elements<'a> {
        Elements(Items::new(*self, Kind::Array))
    }
}

/// See [`Value::entries`].
#[derive(Debug)]
pub(crate) struct Entries<'a>(Items<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let scanner = self.0.advance(b'}')?;
        let key = scanner.key().ok()?;
        let value = scanner.value(0).ok()?;
        Some((key, value))
    }
}

/// See [`Value::elements`].
#[derive(Debug)]
pub(crate) struct Elements<'a>(Items<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.advance(b']')?.value(0).ok()
    }
}

/// A walk through the items of a value that is known to be valid, so that no error is ever met.
#[derive(Debug)]
struct Items<'a> {
    scanner: Scanner<'a>,
    is_first: bool,
    is_done: bool,
}

impl<'a> Items<'a> {
    fn new(value: Value<'a>, kind: Kind) -> Self {
        let mut scanner = Scanner::new(value.raw, usize::MAX);
        let is_done = value.kind() != kind || scanner.open(0).is_err();
        Self { scanner, is_first: true, is_done }
    }

    /// To the next item, if there is one.
    fn advance(&mut self, close: u8) -> Option<&mut Scanner<'a>> {
        if self.is_done {
            return None;
        }
        let has_item = if std::mem::take(&mut self.is_first) {
            self.scanner.first_item(close)
        } else {
            self.scanner.next_item(close).unwrap_or(false)
        };
        self.is_done = !has_item;
        has_item.then_some(&mut self.scanner)
    }
}

impl From<ScanError> for DecodeError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Syntax { offset } => Self::Syntax { offset },
            ScanError::TooDeep { limit, .. } => Self::TooDeep { limit },
        }
    }
}

/// Which containers are open, one bit each: true for an object.
#[derive(Debug, Default)]
struct Nest {
    depth: usize,
    /// The innermost up to 64, the innermost in the lowest bit.
    word: u64,
    /// The others, 64 in each: empty for all but hostile texts.
    outer: Vec<u64>,
}

impl Nest {
    #[inline]
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.word);
        }
        self.word = self.word << 1 | u64::from(is_object);
        self.depth += 1;
    }

    #[inline]
    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.word >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.word = self.outer.pop().unwrap_or_default();
        }
    }

    #[inline]
    fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.word & 1 == 1)
    }
}

/// The byte at `at`, 0 at the end.
#[inline]
fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

#[inline]
fn closing(is_object: bool) -> u8 {
    if is_object { b'}' } else { b']' }
}

/// Behind the white space at `at`.
#[inline]
fn space_end(bytes: &[u8], mut at: usize) -> usize {
    while let b' ' | b'\n' | b'\t' | b'\r' = byte(bytes, at) {
        at += 1;
    }
    at
}

/// Behind an item: at the next one, which there then is, or behind `close`.
#[inline]
fn item_end(bytes: &[u8], at: usize, close: u8) -> Result<(usize, bool), Unexpected> {
    let at = space_end(bytes, at);
    let token = byte(bytes, at);
    if token == b',' {
        Ok((space_end(bytes, at + 1), true))
    } else if token == close {
        Ok((at + 1, false))
    } else {
        Err(Unexpected(at))
    }
}

/// Behind the key at `at`, and whether it has escapes.
#[inline]
fn key_end(bytes: &[u8], at: usize) -> Result<(usize, bool), Unexpected> {
    if byte(bytes, at) == b'"' { string_end(bytes, at) } else { Err(Unexpected(at)) }
}

/// At the value whose key ends at `at`.
#[inline]
fn colon_end(bytes: &[u8], at: usize) -> Result<usize, Unexpected> {
    let at = space_end(bytes, at);
    if byte(bytes, at) == b':' { Ok(space_end(bytes, at + 1)) } else { Err(Unexpected(at)) }
}

/// Behind the string at `at`, and whether it has escapes.
#[inline]
fn string_end(bytes: &[u8], at: usize) -> Result<(usize, bool), Unexpected> {
    let at = plain_end(bytes, at + 1);
    if byte(bytes, at) == b'"' { Ok((at + 1, false)) } else { Ok((escaped_end(bytes, at)?, true)) }
}

/// Behind the string that has its first escape at `at`, if it has not ended in an error there.
#[inline(never)]
fn escaped_end(bytes: &[u8], mut at: usize) -> Result<usize, Unexpected> {
    loop {
        match byte(bytes, at) {
            b'"' => return Ok(at + 1),
            b'\\' => at = plain_end(bytes, escape_end(bytes, at)?),
            // A control character, or the end of the text.
            _ => return Err(Unexpected(at)),
        }
    }
}

/// Behind the escape at `at`.
#[inline]
fn escape_end(bytes: &[u8], at: usize) -> Result<usize, Unexpected> {
    match byte(bytes, at + 1) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' => match (at + 2..at + 6).find(|&digit| !byte(bytes, digit).is_ascii_hexdigit()) {
            Some(other) => Err(Unexpected(other)),
            None => Ok(at + 6),
        },
        _ => Err(Unexpected(at + 1)),
    }
}

/// The first place from `at` on that is a quote, a backslash, a control character or the end.
///
/// Eight bytes at a time: most strings are longer than that, and the bytes after a shorter one are there to be read.
#[inline]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let stops = stops(u64::from_le_bytes(*chunk));
        if stops != 0 {
            return at + stops.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(&byte) = bytes.get(at) {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            break;
        }
        at += 1;
    }
    at
}

/// The high bit of each byte at which a plain run of string ends. Only the lowest one set is exact: the borrow of a
/// subtraction can run into the bytes above it.
#[inline]
fn stops(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // With its second bit turned the quote, 0x22, is 0x20: right above the control characters, which stay below.
    let control_or_quote = (word ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (control_or_quote | backslash) & !word & HIGH
}

/// Behind the number, `true`, `false` or `null` at `at`.
#[inline]
fn literal_end(bytes: &[u8], at: usize) -> Result<usize, Unexpected> {
    match byte(bytes, at) {
        b'-' | b'0'..=b'9' => number_end(bytes, at),
        b't' => word_end(bytes, at, b"true"),
        b'f' => word_end(bytes, at, b"false"),
        b'n' => word_end(bytes, at, b"null"),
        _ => Err(Unexpected(at)),
    }
}

#[inline]
fn word_end(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, Unexpected> {
    match word.iter().enumerate().find(|&(offset, &expected)| byte(bytes, at + offset) != expected) {
        Some((offset, _)) => Err(Unexpected(at + offset)),
        None => Ok(at + word.len()),
    }
}

#[inline]
fn number_end(bytes: &[u8], mut at: usize) -> Result<usize, Unexpected> {
    if byte(bytes, at) == b'-' {
        at += 1;
    }
    at = if byte(bytes, at) == b'0' { at + 1 } else { digits_end(bytes, at)? };
    if byte(bytes, at) == b'.' {
        at = digits_end(bytes, at + 1)?;
    }
    if let b'e' | b'E' = byte(bytes, at) {
        at += 1;
        if let b'+' | b'-' = byte(bytes, at) {
            at += 1;
        }
        at = digits_end(bytes, at)?;
    }
    Ok(at)
}

/// Behind one or more digits.
#[inline]
fn digits_end(bytes: &[u8], at: usize) -> Result<usize, Unexpected> {
    let mut end = at;
    while byte(bytes, end).is_ascii_digit() {
        end += 1;
    }
    if end > at { Ok(end) } else { Err(Unexpected(at)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_plain_run_is_found_at_every_offset() {
        for length in 0..20 {
            for stop in ['"', '\\', '\u{0}', '\u{1f}'] {
                let text = format!("{}{stop}\"\\xxxxxxxxxxxx", "\u{7f}".repeat(length));
                assert_eq!(plain_end(text.as_bytes(), 0), length);
            }
            assert_eq!(plain_end("é ".repeat(length).as_bytes(), 0), 3 * length);
        }
    }

    #[test]
    fn every_byte_is_judged_alike_alone_and_among_eight() {
        for byte in u8::MIN..=u8::MAX {
            let is_stop = byte < 0x20 || byte == b'"' || byte == b'\\';
            for at in 0..8 {
                let mut word = [b'a'; 8];
                word[at] = byte;
                let expected = if is_stop { at } else { 8 };
                assert_eq!(plain_end(&word, 0), expected, "{byte:#x}");
            }
            assert_eq!(plain_end(&[byte], 0), usize::from(!is_stop), "{byte:#x}");
        }
    }

    #[test]
    fn kinds_of_brackets_are_remembered_beyond_64_levels() {
        for depth in [1, 63, 64, 65, 127, 128, 129, 300] {
            let open = "[{\"a\":".repeat(depth);
            let close = "}]".repeat(depth);
            assert!(Scanner::new(&format!("{open}1{close}"), 2 * depth).document().is_ok());
            let text = format!("{open}1{close}");
            for wrong in 1..=2 * depth {
                let mut bytes = text.clone().into_bytes();
                let at = bytes.len() - wrong;
                bytes[at] = if bytes[at] == b'}' { b']' } else { b'}' };
                let text = String::from_utf8(bytes).expect("ASCII");
                let error = Scanner::new(&text, 2 * depth).document().map(|value| value.raw.len());
                assert_eq!(error, Err(ScanError::Syntax { offset: at }));
            }
        }
    }

    #[test]
    fn depth_ends_the_scan_where_it_is_exceeded() {
        let error = |text: &str| Scanner::new(text, 3).document().map(|value| value.raw.len());
        assert_eq!(error("[[[[[["), Err(ScanError::TooDeep { offset: 3, limit: 3 }));
        assert_eq!(error("[[[]], [[]], {\"a\": {\"a\": 1}}]"), Ok(29));
    }

    #[test]
    fn a_walk_through_an_object_yields_keys_and_values() {
        let value = Value::trusted(r#"{ "a" : 1 , "\u0062":[2, {}],"c":"x\"" }"#);
        let entries: Vec<_> = value.entries().map(|(key, value)| (key.raw, value.raw)).collect();
        assert_eq!(entries, [("\"a\"", "1"), (r#""\u0062""#, "[2, {}]"), ("\"c\"", r#""x\"""#)]);
        assert_eq!(value.elements().count(), 0, "an object has no elements");
        let elements: Vec<_> = Value::trusted("[ 1,[2] , \"]\"]").elements().map(|element| element.raw).collect();
        assert_eq!(elements, ["1", "[2]", "\"]\""]);
        assert_eq!(Value::trusted("[]").elements().count() + Value::trusted("{}").entries().count(), 0);
    }
}
