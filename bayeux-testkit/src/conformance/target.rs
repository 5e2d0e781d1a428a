//! Where the server is.

use std::fmt;

use http::Uri;

/// The URL of a Bayeux endpoint, such as `http://localhost:8080/cometd`.
///
/// `ws` and `wss` count as `http` and `https`: the suite derives the one from the other (rule TW-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) query: Option<String>,
}

/// Why a text is no URL of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Not a URL at all.
    #[error("{0:?} is not a URL")]
    NotAUrl(String),
    /// Another scheme than http, https, ws or wss, or none.
    #[error("{0:?} is not a URL of http, https, ws or wss")]
    Scheme(String),
    /// No host.
    #[error("{0:?} names no host")]
    Host(String),
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`TargetError`]
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let uri: Uri = url.parse().map_err(|_| TargetError::NotAUrl(url.to_owned()))?;
        let secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(TargetError::Scheme(url.to_owned())),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| TargetError::Host(url.to_owned()))?;
        Ok(Self {
            secure,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }

    /// What the `Host` header says: the port is left out where it is the scheme's own.
    pub(super) fn authority(&self) -> String {
        if self.port == if self.secure { 443 } else { 80 } {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The host as a resolver takes it: an IPv6 address has no brackets there.
    pub(super) fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The request target, with `suffix` below the endpoint's path (rule T-5).
    pub(super) fn path(&self, suffix: &str) -> String {
        let path = if suffix.is_empty() { &self.path } else { self.path.trim_end_matches('/') };
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{path}{suffix}{query}")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn websocket_urls_are_http_urls() {
        let target = Target::parse("wss://example.org/cometd?a=b").expect("a URL");
        assert_eq!(target.to_string(), "https://example.org/cometd?a=b");
        assert_eq!((target.port, target.authority().as_str()), (443, "example.org"));
        assert_eq!(target.path("/connect"), "/cometd/connect?a=b");
        let target = Target::parse("http://[::1]:8080").expect("a URL");
        assert_eq!((target.name(), target.path("")), ("::1", "/".to_owned()));
    }

    #[test]
    fn other_texts_are_refused() {
        assert!(matches!(Target::parse("ftp://example.org/"), Err(TargetError::Scheme(_))));
        assert!(matches!(Target::parse("localhost:8080"), Err(TargetError::NotAUrl(_) | TargetError::Scheme(_))));
        assert!(matches!(Target::parse(" "), Err(TargetError::NotAUrl(_))));
    }
}
