//! Advice: what the server tells clients about reconnecting, and what clients ask of a connect (section V).

use crate::json::RawJson;
use crate::scan::{Kind, Value};
use crate::text::{self, Object, Sink};

/// What the client is to do next (rule V-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    /// Send the next meta connect after `interval`.
    Retry,
    /// The session is gone: handshake again.
    Handshake,
    /// Stop.
    None,
}

impl Reconnect {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Handshake => "handshake",
            Self::None => "none",
        }
    }

    fn from_word(value: Value<'_>) -> Option<Self> {
        if value.kind() != Kind::String {
            return None;
        }
        let word = text::plain(value);
        [Self::Retry, Self::Handshake, Self::None].into_iter().find(|reconnect| reconnect.as_str() == word)
    }
}

/// Server to client advice (rule V-1). Absent fields are not written; with all of them absent no advice is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Advice {
    /// `reconnect`
    pub reconnect: Option<Reconnect>,
    /// `interval` in milliseconds: the wait before the next connect.
    pub interval_ms: Option<u64>,
    /// `timeout` in milliseconds: how long the server will hold connects.
    pub timeout_ms: Option<u64>,
    /// `maxInterval` in milliseconds: how long the session survives without a connect.
    pub max_interval_ms: Option<u64>,
    /// `multiple-clients`, written only where true (rules TH-31, TH-32).
    pub multiple_clients: bool,
}

impl Advice {
    /// These fields, with those that `other` has laid over them (rule V-24).
    #[must_use]
    pub fn overlaid_with(self, other: Self) -> Self {
        Self {
            reconnect: other.reconnect.or(self.reconnect),
            interval_ms: other.interval_ms.or(self.interval_ms),
            timeout_ms: other.timeout_ms.or(self.timeout_ms),
            max_interval_ms: other.max_interval_ms.or(self.max_interval_ms),
            multiple_clients: other.multiple_clients || self.multiple_clients,
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the `advice` that a server sent; `None` where it is not an object. Fields of wrong types, negative numbers
    /// and unknown words count as absent: a client has to live with what servers send.
    pub fn parse(raw: &RawJson) -> Option<Self> {
        let value = raw.value();
        if value.kind() != Kind::Object {
            return None;
        }
        let mut advice = Self::default();
        for (key, value) in value.entries() {
            let number = || whole_number(value).ok().flatten();
            match &*text::plain(key) {
                "reconnect" => advice.reconnect = Reconnect::from_word(value),
                "interval" => advice.interval_ms = number(),
                "timeout" => advice.timeout_ms = number(),
                "maxInterval" => advice.max_interval_ms = number(),
                "multiple-clients" => advice.multiple_clients = value.raw == "true",
                _ => {}
            }
        }
        Some(advice)
    }

    /// Writes the object.
    pub(crate) fn write<S: Sink>(&self, sink: &mut S) {
        let mut object = Object::new(sink);
        if let Some(reconnect) = self.reconnect {
            object.string("\"reconnect\"", reconnect.as_str());
        }
        let numbers = [
            ("\"interval\"", self.interval_ms),
            ("\"timeout\"", self.timeout_ms),
            ("\"maxInterval\"", self.max_interval_ms),
        ];
        for (key, number) in numbers {
            if let Some(number) = number {
                object.number(key, number);
            }
        }
        if self.multiple_clients {
            object.bool("\"multiple-clients\"", true);
        }
        object.end();
    }
}

/// What the `advice` of a received meta connect asks for (rules V-2, K-9). Milliseconds; fractions are cut off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectAdvice {
    /// `timeout`; a negative number means unset.
    pub timeout_ms: Option<u64>,
    /// `interval`; a negative number means unset.
    pub interval_ms: Option<u64>,
}

impl ConnectAdvice {
    /// Reads the `advice` of a meta connect. `null` in a field counts as absent, of a repeated one the last counts, and
    /// numbers that are too large become the largest.
    ///
    /// # Errors
    /// [`AdviceError`] where it is not an object, or its `timeout` or `interval` is not a number (rule M-6).
    pub fn parse(raw: &RawJson) -> Result<Self, AdviceError> {
        let value = raw.value();
        if value.kind() != Kind::Object {
            return Err(AdviceError);
        }
        let (mut timeout, mut interval) = (Ok(None), Ok(None));
        for (key, value) in value.entries() {
            match &*text::plain(key) {
                "timeout" => timeout = whole_number(value),
                "interval" => interval = whole_number(value),
                _ => {}
            }
        }
        Ok(Self { timeout_ms: timeout?, interval_ms: interval? })
    }
}

/// The `advice` of a meta connect has a type it cannot have (rule M-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("advice is not an object with numbers for timeout and interval")]
pub struct AdviceError;

/// A number without its fraction; `None` for `null` and where it is negative.
pub(crate) fn whole_number(value: Value<'_>) -> Result<Option<u64>, AdviceError> {
    match value.kind() {
        Kind::Number => {
            if let Ok(number) = value.raw.parse() {
                return Ok(Some(number));
            }
            // Rust reads every JSON number, as an infinity if need be, and the conversion saturates.
            let number = value.raw.parse::<f64>().map_err(|_| AdviceError)?.trunc();
            Ok((number >= 0.0).then_some(number as u64))
        }
        Kind::Null => Ok(None),
        Kind::Bool | Kind::String | Kind::Array | Kind::Object => Err(AdviceError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(text: &'static str) -> Result<(Option<u64>, Option<u64>), AdviceError> {
        let raw = RawJson::new(text).expect("JSON of this test");
        ConnectAdvice::parse(&raw).map(|advice| (advice.timeout_ms, advice.interval_ms))
    }

    #[test]
    fn whole_and_floating_numbers_are_read() {
        assert_eq!(connect(r#"{"timeout":0,"interval":1500}"#), Ok((Some(0), Some(1500))), "V-2, M-3");
        assert_eq!(connect(r#"{"timeout":1.5e3,"interval":0.999}"#), Ok((Some(1500), Some(0))), "M-3");
        assert_eq!(connect(r#"{"time\u006fut":7,"other":"x"}"#), Ok((Some(7), None)), "V-2");
        assert_eq!(connect("{}"), Ok((None, None)), "V-2");
    }

    #[test]
    fn numbers_out_of_range_do_no_harm() {
        assert_eq!(connect(r#"{"timeout":-1,"interval":-1e400}"#), Ok((None, None)), "K-9: negative is unset");
        assert_eq!(connect(r#"{"timeout":-0,"interval":-0.5}"#), Ok((Some(0), Some(0))), "fractions are cut off");
        assert_eq!(connect(r#"{"timeout":1e400,"interval":1e-400}"#), Ok((Some(u64::MAX), Some(0))));
        assert_eq!(connect(r#"{"timeout":18446744073709551615}"#), Ok((Some(u64::MAX), None)));
        assert_eq!(connect(r#"{"timeout":18446744073709551616}"#), Ok((Some(u64::MAX), None)));
        assert_eq!(connect(r#"{"timeout":-9223372036854775809}"#), Ok((None, None)));
    }

    #[test]
    fn null_is_absent_and_the_last_of_repeated_fields_counts() {
        assert_eq!(connect(r#"{"timeout":null}"#), Ok((None, None)), "M-19");
        assert_eq!(connect(r#"{"timeout":"x","timeout":1}"#), Ok((Some(1), None)), "M-9");
        assert_eq!(connect(r#"{"timeout":1,"timeout":"x"}"#), Err(AdviceError), "M-9");
    }

    #[test]
    fn wrong_types_are_refused() {
        for text in ["[]", "1", "\"x\"", "true", r#"{"timeout":"1"}"#, r#"{"interval":{}}"#, r#"{"interval":true}"#] {
            assert_eq!(connect(text), Err(AdviceError), "M-6: {text}");
        }
    }

    #[test]
    fn server_advice_is_written_and_read_back() {
        let advice = Advice {
            reconnect: Some(Reconnect::Retry),
            interval_ms: Some(0),
            timeout_ms: Some(30_000),
            max_interval_ms: Some(u64::MAX),
            multiple_clients: true,
        };
        let mut text = Vec::new();
        advice.write(&mut text);
        let text = String::from_utf8(text).expect("JSON is UTF-8");
        assert_eq!(
            text,
            r#"{"reconnect":"retry","interval":0,"timeout":30000,"maxInterval":18446744073709551615,"multiple-clients":true}"#,
            "V-1"
        );
        assert_eq!(Advice::parse(&RawJson::new(text).expect("JSON")), Some(advice));
    }

    #[test]
    fn a_client_lives_with_what_servers_send() {
        let parse = |text: &'static str| Advice::parse(&RawJson::new(text).expect("JSON of this test"));
        assert_eq!(parse(r#"{"reconnect":"later","interval":-1,"timeout":"x","hosts":[]}"#), Some(Advice::default()));
        let none = Advice { reconnect: Some(Reconnect::None), ..Advice::default() };
        assert_eq!(parse(r#"{"reconnect":"n\u006fne"}"#), Some(none));
        assert_eq!(parse("[]"), None);
    }
}
