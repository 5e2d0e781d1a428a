//! What a case is: which promise it checks, whose promise that is, and over which transports.

use std::fmt;
use std::ops::BitOr;
use std::pin::Pin;

use serde::Serialize;

use super::cx::Cx;
use super::outcome::Outcome;

/// Whose promise a case checks, and so how bad its failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub enum Profile {
    /// What the Bayeux 1.0 specification demands of every server: *must*.
    #[serde(rename = "bayeux-1.0")]
    Bayeux,
    /// What CometD's servers do and its clients rely on: *should*.
    #[serde(rename = "cometd")]
    Cometd,
    /// What this project's server promises beyond that, where it deviates from CometD on purpose.
    #[serde(rename = "ours")]
    Ours,
}

impl Profile {
    /// All, the most binding first.
    pub const ALL: [Self; 3] = [Self::Bayeux, Self::Cometd, Self::Ours];

    /// `bayeux-1.0`, `cometd` or `ours`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bayeux => "bayeux-1.0",
            Self::Cometd => "cometd",
            Self::Ours => "ours",
        }
    }

    /// The profile of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }
}

/// A way of carrying messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub enum Transport {
    /// POST over HTTP/1.1.
    #[serde(rename = "long-polling")]
    LongPolling,
    /// POST over HTTP/2.
    #[serde(rename = "http2")]
    Http2,
    /// GET with a callback, also known as JSONP, over HTTP/1.1.
    #[serde(rename = "callback-polling")]
    CallbackPolling,
    /// WebSocket.
    #[serde(rename = "websocket")]
    WebSocket,
}

impl Transport {
    /// All, in the order of reports.
    pub const ALL: [Self; 4] = [Self::LongPolling, Self::Http2, Self::CallbackPolling, Self::WebSocket];

    /// `long-polling`, `http2`, `callback-polling` or `websocket`.
    pub fn name(self) -> &'static str {
        match self {
            Self::LongPolling => "long-polling",
            Self::Http2 => "http2",
            Self::CallbackPolling => "callback-polling",
            Self::WebSocket => "websocket",
        }
    }

    /// The transport of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|transport| transport.name() == name)
    }

    /// The name that `connectionType` and `supportedConnectionTypes` use (rule T-1).
    pub(super) fn connection_type(self) -> &'static str {
        match self {
            Self::LongPolling | Self::Http2 => "long-polling",
            Self::CallbackPolling => "callback-polling",
            Self::WebSocket => "websocket",
        }
    }
}

/// A set of transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transports(u8);

impl Transports {
    const fn of(transport: Transport) -> Self {
        Self(1 << transport as u8)
    }

    /// Whether it is in the set.
    pub fn contains(self, transport: Transport) -> bool {
        self.0 & Self::of(transport).0 != 0
    }

    /// Those of the set, in the order of reports.
    pub fn iter(self) -> impl Iterator<Item = Transport> {
        Transport::ALL.into_iter().filter(move |transport| self.contains(*transport))
    }
}

impl BitOr for Transports {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// HTTP/1.1 long-polling.
pub(super) const LONG_POLLING: Transports = Transports::of(Transport::LongPolling);
/// Long-polling over HTTP/2.
pub(super) const HTTP2: Transports = Transports::of(Transport::Http2);
/// JSONP.
pub(super) const CALLBACK: Transports = Transports::of(Transport::CallbackPolling);
/// WebSocket.
pub(super) const WEBSOCKET: Transports = Transports::of(Transport::WebSocket);
/// Both kinds of long-polling.
pub(super) const POLLING: Transports = Transports(LONG_POLLING.0 | HTTP2.0);
/// Whatever is a request and a response.
pub(super) const HTTP: Transports = Transports(POLLING.0 | CALLBACK.0);
/// All that take messages of any size.
pub(super) const BIG: Transports = Transports(POLLING.0 | WEBSOCKET.0);
/// All.
pub(super) const ANY: Transports = Transports(HTTP.0 | WEBSOCKET.0);

/// What a server must have negotiated for a case to be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Ack,
    Timesync,
    Timestamp,
    Binary,
}

impl Need {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Timesync => "timesync",
            Self::Timestamp => "timestamp",
            Self::Binary => "binary",
        }
    }
}

pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;
type Body = for<'a> fn(&'a Cx) -> Running<'a>;

/// One promise, and how it is checked.
#[derive(Clone)]
#[non_exhaustive]
pub struct Case {
    /// Stable, in kebab case: reports and `--expect` files name it.
    pub id: String,
    /// The promise, as a sentence.
    pub title: &'static str,
    /// What it is about: one of a dozen headings.
    pub family: &'static str,
    /// Ids of the rules that it checks, the main one first; [`rule`](super::rule) has their texts.
    pub rules: Vec<&'static str>,
    /// Whose promise.
    pub profile: Profile,
    /// Over which transports it is tried, each for itself.
    pub transports: Transports,
    /// It sends what no decent client sends.
    pub hostile: bool,
    /// It waits for as long as the server advises.
    pub slow: bool,
    pub(super) need: Option<Need>,
    pub(super) body: Body,
}

impl Case {
    /// A case named after the function that checks it.
    pub(super) fn new(function: &str, body: Body) -> Self {
        Self {
            id: function.replace('_', "-"),
            title: "",
            family: "",
            rules: Vec::new(),
            profile: Profile::Bayeux,
            transports: ANY,
            hostile: false,
            slow: false,
            need: None,
            body,
        }
    }

    /// What every Bayeux server must do.
    pub(super) fn must(self, rules: &'static str, transports: Transports, title: &'static str) -> Self {
        self.promise(Profile::Bayeux, rules, transports, title)
    }

    /// What CometD does.
    pub(super) fn should(self, rules: &'static str, transports: Transports, title: &'static str) -> Self {
        self.promise(Profile::Cometd, rules, transports, title)
    }

    /// What our server does.
    pub(super) fn ours(self, rules: &'static str, transports: Transports, title: &'static str) -> Self {
        self.promise(Profile::Ours, rules, transports, title)
    }

    fn promise(self, profile: Profile, rules: &'static str, transports: Transports, title: &'static str) -> Self {
        Self { profile, rules: rules.split(' ').collect(), transports, title, ..self }
    }

    pub(super) fn needs(self, need: Need) -> Self {
        Self { need: Some(need), ..self }
    }

    pub(super) fn slow(self) -> Self {
        Self { slow: true, ..self }
    }

    pub(super) fn hostile(self) -> Self {
        Self { hostile: true, ..self }
    }

    pub(super) fn of(self, family: &'static str) -> Self {
        Self { family, ..self }
    }

    /// Whether a pattern means this case: its id, its family, one of its rules, or a text with `*` for anything that
    /// matches one of them.
    pub fn matches(&self, pattern: &str) -> bool {
        [self.id.as_str(), self.family].into_iter().chain(self.rules.iter().copied()).any(|name| glob(pattern, name))
    }
}

/// Makes a [`Case`] of an `async fn(&Cx) -> Outcome`.
macro_rules! case {
    ($function:ident) => {
        $crate::conformance::case::Case::new(stringify!($function), |cx| Box::pin($function(cx)))
    };
}

pub(super) use case;

/// Whether `text` is `pattern`, in which `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| glob(rest, &text[at..]))
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("id", &self.id).field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_in_patterns_stand_for_anything() {
        for (pattern, text, expected) in [
            ("connect", "connect", true),
            ("connect", "connect-x", false),
            ("connect*", "connect-x", true),
            ("*-x", "connect-x", true),
            ("c*t*x", "connect-x", true),
            ("c*y", "connect-x", false),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
