//! Reads Bayeux messages out of JSON without building a tree of it.
//!
//! A generator that parses what it receives as thoroughly as a client does is slower than the server it measures. What
//! it needs of a delivery is a few top-level members; the rest is skipped. The result does not depend on how a server
//! spells its JSON: order of members, white space, escapes, a single object instead of an array.

use std::borrow::Cow;

use memchr::memchr2;

/// The members of one message that matter here, as JSON texts without white space around them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    /// `channel`
    pub(crate) channel: Option<Json<'a>>,
    /// `id`
    pub(crate) id: Option<Json<'a>>,
    /// `clientId`
    pub(crate) client_id: Option<Json<'a>>,
    /// `successful`
    pub(crate) successful: Option<Json<'a>>,
    /// `error`
    pub(crate) error: Option<Json<'a>>,
    /// `advice`
    pub(crate) advice: Option<Json<'a>>,
    /// `ext`
    pub(crate) ext: Option<Json<'a>>,
    /// `data`
    pub(crate) data: Option<Json<'a>>,
}

/// The text of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Json<'a>(pub(crate) &'a [u8]);

impl<'a> Json<'a> {
    /// What a JSON string says; nothing where it is another value.
    pub(crate) fn string(self) -> Option<Cow<'a, [u8]>> {
        let inner = self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if inner.contains(&b'\\') {
            return serde_json::from_slice::<String>(self.0).ok().map(|text| Cow::Owned(text.into_bytes()));
        }
        Some(Cow::Borrowed(inner))
    }

    /// Whether it is `true`.
    pub(crate) fn is_true(self) -> bool {
        self.0 == b"true"
    }
}

/// The text is not a message, or not an array of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a batch of JSON messages")]
pub(crate) struct Malformed;

/// Yields the messages of a batch: an array of objects, or one object.
///
/// What is skipped is not checked: a text that is no JSON may pass as a batch. One that is JSON never reads wrongly.
pub(crate) fn messages(text: &[u8]) -> Messages<'_> {
    Messages { cursor: Cursor { text, at: 0 }, state: State::Start }
}

/// See [`messages`].
#[derive(Debug)]
pub(crate) struct Messages<'a> {
    cursor: Cursor<'a>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    InArray,
    Last,
    Ended,
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Fields<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let next = self.advance();
        if !matches!(next, Some(Ok(_))) {
            self.state = State::Ended;
        }
        next
    }
}

impl<'a> Messages<'a> {
    fn advance(&mut self) -> Option<Result<Fields<'a>, Malformed>> {
        let cursor = &mut self.cursor;
        match (self.state, cursor.token()) {
            (State::Start, Some(b'[')) => {
                self.state = State::InArray;
                match cursor.token() {
                    Some(b']') => self.end(),
                    Some(b'{') => Some(cursor.members().ok_or(Malformed)),
                    Some(_) | None => Some(Err(Malformed)),
                }
            }
            (State::Start, Some(b'{')) => {
                self.state = State::Last;
                Some(cursor.members().ok_or(Malformed))
            }
            (State::InArray, Some(b',')) => match cursor.token() {
                Some(b'{') => Some(cursor.members().ok_or(Malformed)),
                Some(_) | None => Some(Err(Malformed)),
            },
            (State::InArray, Some(b']')) => self.end(),
            (State::Last, None) => None,
            (State::Start | State::InArray | State::Last | State::Ended, _) => Some(Err(Malformed)),
        }
    }

    /// The array is closed; nothing may follow.
    fn end(&mut self) -> Option<Result<Fields<'a>, Malformed>> {
        self.cursor.token().map(|_| Err(Malformed))
    }
}

#[derive(Debug)]
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next byte that is not white space, which is consumed.
    fn token(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.get(self.at)?;
            self.at += 1;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
        }
    }

    /// The rest of an object whose brace has been read.
    fn members(&mut self) -> Option<Fields<'a>> {
        let mut fields = Fields::default();
        let mut first = true;
        loop {
            match (self.token()?, first) {
                (b'}', _) => return Some(fields),
                (b'"', true) => {}
                (b',', false) => {
                    if self.token()? != b'"' {
                        return None;
                    }
                }
                _ => return None,
            }
            first = false;
            let key = self.string()?;
            if self.token()? != b':' {
                return None;
            }
            let value = self.value()?;
            // Of a repeated member the last counts, as with most parsers.
            if let Some(field) = fields.named(key) {
                *field = Some(value);
            }
        }
    }

    /// The rest of a string whose first quote has been read, with both quotes.
    fn string(&mut self) -> Option<Json<'a>> {
        let start = self.at - 1;
        loop {
            let found = self.at + quote_or_escape(self.text.get(self.at..)?)?;
            if self.text[found] == b'"' {
                self.at = found + 1;
                return Some(Json(&self.text[start..self.at]));
            }
            // What is escaped is at least one byte; no escape has a quote further on.
            self.at = found + 2;
        }
    }

    fn value(&mut self) -> Option<Json<'a>> {
        match self.token()? {
            b'"' => self.string(),
            b'{' | b'[' => self.nested(),
            _ => {
                let start = self.at - 1;
                let rest = &self.text[start..];
                let length =
                    rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'))?;
                self.at = start + length;
                (length > 0).then(|| Json(&rest[..length]))
            }
        }
    }

    /// The rest of an object or array whose opening bracket has been read.
    fn nested(&mut self) -> Option<Json<'a>> {
        let start = self.at - 1;
        let mut depth = 1_usize;
        while depth > 0 {
            let byte = *self.text.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
        }
        Some(Json(&self.text[start..self.at]))
    }
}

/// Where the first quote or backslash is.
///
/// Most strings are names of a few characters, for which the call of a vectorised search costs more than the search.
fn quote_or_escape(text: &[u8]) -> Option<usize> {
    let (words, _) = text.as_chunks::<8>();
    for (index, word) in words.iter().take(SHORT).enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (EACH * 0x22)) | zeros(word ^ (EACH * 0x5c));
        if found != 0 {
            return Some(8 * index + found.trailing_zeros() as usize / 8);
        }
    }
    let searched = 8 * words.len().min(SHORT);
    Some(searched + memchr2(b'"', b'\\', &text[searched..])?)
}

/// Words that are searched before the rest is left to vector instructions.
const SHORT: usize = 2;

/// A one in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;

/// A bit at the top of the lowest byte that is zero; higher ones may have one without being zero.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(EACH) & !word & EACH << 7
}

impl<'a> Fields<'a> {
    fn named(&mut self, key: Json<'_>) -> Option<&mut Option<Json<'a>>> {
        match key.0 {
            b"\"channel\"" => Some(&mut self.channel),
            b"\"data\"" => Some(&mut self.data),
            b"\"id\"" => Some(&mut self.id),
            b"\"successful\"" => Some(&mut self.successful),
            b"\"clientId\"" => Some(&mut self.client_id),
            b"\"error\"" => Some(&mut self.error),
            b"\"advice\"" => Some(&mut self.advice),
            b"\"ext\"" => Some(&mut self.ext),
            escaped if escaped.contains(&b'\\') => {
                let plain = serde_json::from_slice::<String>(escaped).ok()?;
                // A name with a quote or a backslash is none of ours, and would not be plain either.
                let plain = plain.bytes().all(|byte| byte.is_ascii_alphabetic()).then(|| format!("\"{plain}\""))?;
                self.named(Json(plain.as_bytes()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "scan/tests.rs"]
mod tests;
