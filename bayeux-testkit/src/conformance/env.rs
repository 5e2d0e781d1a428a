//! What all cases of a run share.

use std::time::Duration;

use serde_json::Value;

use super::agent::Unanswered;
use super::options::Options;
use super::probe::Server;
use super::target::Target;
use super::wire::Dialer;

/// The server, how to reach it, and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Env {
    pub(super) target: Target,
    pub(super) options: Options,
    pub(super) dialer: Dialer,
    /// What it offers; nothing yet while that is being found out.
    pub(super) server: Server,
    /// Connects under way.
    pub(super) unanswered: Unanswered,
    /// Differs from run to run, so that runs do not hear each other.
    pub(super) run: String,
}

impl Env {
    /// How long an answer may take that must come at once: as long as any, but less than a connect is held, or it could
    /// be the end of a hold.
    pub(super) fn at_once(&self) -> Duration {
        let hold = self.server.timeout();
        if hold.is_zero() { self.options.timeout } else { self.options.timeout.min(hold * 9 / 10) }
    }

    /// A handshake's `ext`: what the user wants to be in each, and `more`.
    pub(super) fn ext(&self, more: Option<Value>) -> Option<Value> {
        let mut ext = self.options.handshake_ext.clone().unwrap_or_default();
        for (key, value) in more.as_ref().and_then(Value::as_object).into_iter().flatten() {
            ext.insert(key.clone(), value.clone());
        }
        (!ext.is_empty()).then_some(Value::Object(ext))
    }
}
