//! The `error` strings a server produces (section F), in one table.

use bytestring::ByteString;

use crate::text::{self, Sink};

/// One `error` value: `code:args:text` (rule F-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorField {
    code: u16,
    args: ByteString,
    text: &'static str,
}

impl ErrorField {
    const fn plain(code: u16, text: &'static str) -> Self {
        Self { code, args: ByteString::from_static(""), text }
    }

    /// F-10, F-11: `400::channel_missing`.
    pub const CHANNEL_MISSING: Self = Self::plain(400, "channel_missing");
    /// Z-1: `400::message_invalid`, a known field of a wrong type.
    pub const MESSAGE_INVALID: Self = Self::plain(400, "message_invalid");
    /// XB-6: `400::binary_invalid`, data that says that it is binary and is not.
    pub const BINARY_INVALID: Self = Self::plain(400, "binary_invalid");
    /// F-12: `402::session_unknown`.
    pub const SESSION_UNKNOWN: Self = Self::plain(402, "session_unknown");
    /// F-13: `403::handshake_denied`.
    pub const HANDSHAKE_DENIED: Self = Self::plain(403, "handshake_denied");
    /// F-14: `403::handshake_failed`.
    pub const HANDSHAKE_FAILED: Self = Self::plain(403, "handshake_failed");
    /// F-19: `403::subscribe_failed`.
    pub const SUBSCRIBE_FAILED: Self = Self::plain(403, "subscribe_failed");
    /// F-20: `403::unsubscribe_failed`.
    pub const UNSUBSCRIBE_FAILED: Self = Self::plain(403, "unsubscribe_failed");
    /// F-21: `403::subscription_missing`.
    pub const SUBSCRIPTION_MISSING: Self = Self::plain(403, "subscription_missing");
    /// F-22: `403::subscription_invalid`.
    pub const SUBSCRIPTION_INVALID: Self = Self::plain(403, "subscription_invalid");
    /// F-23: `404::message_deleted`.
    pub const MESSAGE_DELETED: Self = Self::plain(404, "message_deleted");
    /// F-24: `405::channel_invalid`.
    pub const CHANNEL_INVALID: Self = Self::plain(405, "channel_invalid");
    /// F-25: `405::message_id_invalid`.
    pub const MESSAGE_ID_INVALID: Self = Self::plain(405, "message_id_invalid");
    /// A-51: the reason given where no authorizer granted.
    pub const BY_NOT_GRANTING: &'static str = "denied_by_not_granting";
    /// F-30: the reason given where a policy refused.
    pub const BY_POLICY: &'static str = "denied_by_security_policy";

    /// F-15: `403:<reason>:channel_create_denied`, a publish to a channel that may not be created.
    pub fn channel_create_denied(reason: impl Into<ByteString>) -> Self {
        Self { code: 403, args: reason.into(), text: "channel_create_denied" }
    }

    /// F-16: `403:<reason>:publish_denied`.
    pub fn publish_denied(reason: impl Into<ByteString>) -> Self {
        Self { code: 403, args: reason.into(), text: "publish_denied" }
    }

    /// F-17: `403:<reason>:create_denied`, a subscribe to a channel that may not be created.
    pub fn create_denied(reason: impl Into<ByteString>) -> Self {
        Self { code: 403, args: reason.into(), text: "create_denied" }
    }

    /// F-18: `403:<reason>:subscribe_denied`.
    pub fn subscribe_denied(reason: impl Into<ByteString>) -> Self {
        Self { code: 403, args: reason.into(), text: "subscribe_denied" }
    }

    /// An error of the application's own: `code:args:text`.
    pub fn custom(code: u16, args: impl Into<ByteString>, text: &'static str) -> Self {
        Self { code, args: args.into(), text }
    }

    /// The three-digit code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Writes it as a JSON string.
    pub(crate) fn write<S: Sink>(&self, sink: &mut S) {
        sink.put(b"\"");
        if self.code < 100 {
            sink.put(if self.code < 10 { b"00" } else { b"0" });
        }
        text::write_number(sink, u64::from(self.code));
        sink.put(b":");
        text::write_escaped(sink, &self.args);
        sink.put(b":");
        text::write_escaped(sink, self.text);
        sink.put(b"\"");
    }
}

impl std::fmt::Display for ErrorField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:03}:{}:{}", self.code, self.args, self.text)
    }
}

/// A received `error`, cut at its first two colons (rule F-1). Any text will do: foreign servers write what they like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorParts<'a> {
    /// The number before the first colon, if there is one. For diagnostics only (rule F-3).
    pub code: Option<u16>,
    /// What is between the colons.
    pub args: &'a str,
    /// What follows the second colon; the whole text where there is no code.
    pub text: &'a str,
}

impl<'a> ErrorParts<'a> {
    /// Cuts `error`.
    pub fn parse(error: &'a str) -> Self {
        let whole = Self { code: None, args: "", text: error };
        let Some((code, rest)) = error.split_once(':') else { return whole };
        let Ok(code) = code.parse() else { return whole };
        let (args, text) = rest.split_once(':').unwrap_or(("", rest));
        Self { code: Some(code), args, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(error: &ErrorField) -> String {
        let mut text = Vec::new();
        error.write(&mut text);
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    #[test]
    fn the_strings_of_the_java_server_are_written() {
        let table = [
            (ErrorField::CHANNEL_MISSING, "400::channel_missing"),
            (ErrorField::SESSION_UNKNOWN, "402::session_unknown"),
            (
                ErrorField::channel_create_denied(ErrorField::BY_POLICY),
                "403:denied_by_security_policy:channel_create_denied",
            ),
            (ErrorField::publish_denied(""), "403::publish_denied"),
            (ErrorField::create_denied("x"), "403:x:create_denied"),
            (ErrorField::subscribe_denied(ErrorField::BY_POLICY), "403:denied_by_security_policy:subscribe_denied"),
            (ErrorField::MESSAGE_DELETED, "404::message_deleted"),
            (ErrorField::CHANNEL_INVALID, "405::channel_invalid"),
            (ErrorField::custom(7, "a,b", "odd"), "007:a,b:odd"),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text, "F-1");
            assert_eq!(Some(error.code()), ErrorParts::parse(text).code, "F-1");
            assert_eq!(json(&error), format!("\"{text}\""), "F-1");
        }
    }

    #[test]
    fn a_reason_of_the_application_is_escaped() {
        assert_eq!(json(&ErrorField::publish_denied("say \"no\"\n")), r#""403:say \"no\"\n:publish_denied""#, "F-30");
        assert_eq!(json(&ErrorField::custom(42, "", "x")), r#""042::x""#);
    }

    #[test]
    fn any_text_can_be_cut() {
        let parts = |code, args, text| ErrorParts { code, args, text };
        assert_eq!(ErrorParts::parse("402::session_unknown"), parts(Some(402), "", "session_unknown"), "F-1");
        assert_eq!(ErrorParts::parse("301:a,b:not: supported"), parts(Some(301), "a,b", "not: supported"), "F-1");
        assert_eq!(ErrorParts::parse("Authentication failed"), parts(None, "", "Authentication failed"), "F-1");
        assert_eq!(ErrorParts::parse("no: code: here"), parts(None, "", "no: code: here"));
        assert_eq!(ErrorParts::parse("404:gone"), parts(Some(404), "", "gone"));
        assert_eq!(ErrorParts::parse(""), parts(None, "", ""));
    }
}
