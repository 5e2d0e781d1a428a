//! Advice: what the server tells clients about reconnecting, and what clients ask of a connect (section V).

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
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
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

/// The `advice` of a meta connect has a type it cannot have (rule M-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("advice is not an object with numbers for timeout and interval")]
pub struct AdviceError;
