//! What a user may choose.

use std::time::Duration;

use serde_json::{Map, Value};

use super::case::{Case, Profile, Transport};

/// Which cases run, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long to wait for an answer that must come at once. Default: 10 s.
    pub timeout: Duration,
    /// Channels of the suite are below this one, each run's below a random segment of its own. Default:
    /// `/conformance`.
    pub channel_prefix: String,
    /// Added to each request, for a server that wants to see a token. Default: none.
    pub headers: Vec<(String, String)>,
    /// Members for the `ext` of each handshake, for the same reason. Default: none.
    pub handshake_ext: Option<Map<String, Value>>,
    /// Whose promises to check. Default: [`Profile::Bayeux`] and [`Profile::Cometd`].
    pub profiles: Vec<Profile>,
    /// Only cases that match one of these ([`Case::matches`]). Default: empty, all.
    pub only: Vec<String>,
    /// No cases that match one of these. Default: none.
    pub skip: Vec<String>,
    /// Over which transports. Default: empty, all that the server offers.
    pub transports: Vec<Transport>,
    /// Also send what may bring a server down. Default: no.
    pub hostile: bool,
    /// Also wait for as long as the server advises. Default: no.
    pub slow: bool,
    /// Certificates in PEM of the authorities to trust, instead of the system's. Default: none.
    pub authorities: Option<Vec<u8>>,
    /// Accept any TLS certificate. Default: no.
    pub insecure: bool,
    /// Cases that run at the same time. Default: 8.
    pub jobs: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            channel_prefix: "/conformance".to_owned(),
            headers: Vec::new(),
            handshake_ext: None,
            profiles: vec![Profile::Bayeux, Profile::Cometd],
            only: Vec::new(),
            skip: Vec::new(),
            transports: Vec::new(),
            hostile: false,
            slow: false,
            authorities: None,
            insecure: false,
            jobs: 8,
        }
    }
}

impl Options {
    /// Whether the user wants this case at all.
    pub fn selects(&self, case: &Case) -> bool {
        let named = |patterns: &[String]| patterns.iter().any(|pattern| case.matches(pattern));
        self.profiles.contains(&case.profile)
            && (self.hostile || !case.hostile)
            && (self.slow || !case.slow)
            && (self.only.is_empty() || named(&self.only))
            && !named(&self.skip)
    }

    pub(super) fn wants(&self, transport: Transport) -> bool {
        self.transports.is_empty() || self.transports.contains(&transport)
    }
}
