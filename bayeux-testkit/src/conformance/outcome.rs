//! How a case ends.

use crate::conformance::wire::Lost;

/// Why a case ended before its last line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// The server did not do what the rule says.
    Failed(String),
    /// The case cannot be tried with this server.
    Skipped(String),
}

/// What a case, or a step of one, comes to.
pub(super) type Outcome<T = ()> = Result<T, Stop>;

impl Stop {
    pub(super) fn failed(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Failed(reason) | Self::Skipped(reason) => reason,
        }
    }
}

impl From<Lost> for Stop {
    fn from(lost: Lost) -> Self {
        Self::Failed(lost.to_string())
    }
}

/// Ends a case with a failure where a condition does not hold.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::conformance::outcome::Stop::failed(format!($($message)+)));
        }
    };
}

pub(super) use ensure;

/// A value short enough for a sentence.
pub(super) fn brief(value: &impl std::fmt::Display) -> String {
    let text = value.to_string();
    if text.chars().count() <= 400 {
        return text;
    }
    let start: String = text.chars().take(400).collect();
    format!("{start} … ({} bytes)", text.len())
}
