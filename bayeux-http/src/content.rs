//! What kind of text a body is: the `Content-Type`, read as far as it matters (rules TH-4, TH-6, TH-52).

use bytes::Bytes;
use encoding_rs::{Encoding, UTF_8};

/// A body's kind and charset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content {
    kind: Kind,
    charset: &'static Encoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Anything that is no form is tried as JSON.
    Json,
    /// JSON, or what Faye's cross-origin requests are: a form under another name (rule DI-F8).
    Plain,
    Form,
}

/// Why a body has no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentError {
    /// The charset is not known (rule TH-50).
    UnknownCharset,
    /// The bytes are not text of that charset (rule M-9).
    Malformed,
}

/// What nearly all clients send: JSON in UTF-8.
const USUAL: [&str; 3] = ["application/json;charset=UTF-8", "application/json", "application/json; charset=utf-8"];

impl Content {
    /// What the `Content-Type` says of the body. One that cannot be parsed counts as missing, and so as JSON in UTF-8.
    pub(crate) fn of(header: Option<&[u8]>) -> Result<Self, ContentError> {
        if header.is_some_and(|value| USUAL.iter().any(|usual| value == usual.as_bytes())) {
            return Ok(Self { kind: Kind::Json, charset: UTF_8 });
        }
        let header = header.filter(|value| value.is_ascii()).and_then(|value| std::str::from_utf8(value).ok());
        let Some((media, charset)) = header.and_then(parse) else {
            return Ok(Self { kind: Kind::Json, charset: UTF_8 });
        };
        let kind = if media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Kind::Form
        } else if media.eq_ignore_ascii_case("text/plain") {
            Kind::Plain
        } else {
            Kind::Json
        };
        let charset = match charset {
            Some(label) => Encoding::for_label(label.as_bytes()).ok_or(ContentError::UnknownCharset)?,
            None => UTF_8,
        };
        Ok(Self { kind, charset })
    }

    /// Whether `body` is a form.
    pub(crate) fn is_form(self, body: &[u8]) -> bool {
        match self.kind {
            Kind::Json => false,
            // No JSON text begins with an `m`.
            Kind::Plain => body.starts_with(b"message="),
            // `curl -d` calls anything a form, and CometD reads JSON whatever it is called (rule N-6). No field that
            // counts begins like a JSON text.
            Kind::Form => !matches!(body.trim_ascii_start().first(), Some(b'[' | b'{')),
        }
    }

    /// The text as UTF-8: shared where it is already (whether it really is, the decoder checks), decoded where not.
    pub(crate) fn to_utf8(self, text: Bytes) -> Result<Bytes, ContentError> {
        if self.charset == UTF_8 {
            return Ok(text);
        }
        let decoded = self.charset.decode_without_bom_handling_and_without_replacement(&text);
        let decoded = decoded.ok_or(ContentError::Malformed)?;
        Ok(Bytes::from(decoded.into_owned()))
    }
}

/// The media type and its charset, or `None` where the text is no media type.
fn parse(header: &str) -> Option<(&str, Option<&str>)> {
    let mut parts = header.split(';');
    let media = parts.next()?.trim();
    let (kind, subtype) = media.split_once('/')?;
    if !is_token(kind) || !is_token(subtype) {
        return None;
    }
    let mut charset = None;
    for parameter in parts {
        let parameter = parameter.trim();
        if parameter.is_empty() {
            continue;
        }
        let (name, value) = parameter.split_once('=')?;
        if !is_token(name.trim()) {
            return None;
        }
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        if name.trim().eq_ignore_ascii_case("charset") && !value.is_empty() {
            charset = Some(value);
        }
    }
    Some((media, charset))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(header: &str) -> Result<Content, ContentError> {
        Content::of(Some(header.as_bytes()))
    }

    /// TH-4: charset from the parameter, default UTF-8.
    #[test]
    fn charset_is_that_of_the_parameter() {
        for utf8 in [
            "application/json",
            "application/json;charset=UTF-8",
            "application/json; charset=\"utf-8\"",
            "application/json; version=1; CHARSET=utf8",
            "application/json;charset=",
            "application/json;",
        ] {
            assert_eq!(content(utf8).unwrap().charset, UTF_8, "{utf8}");
        }
        let greek = content("application/json; charset=ISO-8859-7").unwrap();
        assert_eq!(greek.to_utf8(Bytes::from_static(b"\xe1\xe2")), Ok(Bytes::from("αβ")));
    }

    /// TH-50: a charset that the server does not know.
    #[test]
    fn unknown_charset_is_an_error() {
        assert_eq!(content("application/json;charset=klingon").unwrap_err(), ContentError::UnknownCharset);
    }

    /// M-9: not valid in the charset of TH-4.
    #[test]
    fn text_outside_its_charset_is_an_error() {
        let greek = content("text/json; charset=ISO-8859-7").unwrap();
        assert_eq!(greek.to_utf8(Bytes::from_static(b"[\xff]")), Err(ContentError::Malformed));
    }

    /// TH-52: a `Content-Type` that cannot be parsed counts as missing.
    #[test]
    fn type_that_cannot_be_parsed_counts_as_missing() {
        for odd in ["", "json", "a b/c", "/", "application/json;charset", ";charset=klingon", "application/json;a b=c"]
        {
            let content = content(odd).unwrap();
            assert_eq!((content.kind, content.charset), (Kind::Json, UTF_8), "{odd}");
        }
    }

    /// TH-6, DI-F8: forms under two names.
    #[test]
    fn form_is_told_from_json() {
        assert!(content("application/x-www-form-urlencoded;charset=UTF-8").unwrap().is_form(b"message=[]"));
        assert!(!content("application/x-www-form-urlencoded").unwrap().is_form(b" [{}]"), "N-6");
        assert!(content("text/plain").unwrap().is_form(b"message=[]"));
        assert!(!content("text/plain").unwrap().is_form(b"[]"));
        assert!(!content("application/bayeux+json").unwrap().is_form(b"message=[]"));
    }
}
