//! Options of the HTTP transports (section 13.3). Field names are those of CometD's options.

use std::time::Duration;

use http::HeaderValue;

/// Options of [`LongPolling`](crate::LongPolling) and [`CallbackPolling`](crate::CallbackPolling). What the engine
/// decides by, such as `maxSessionsPerBrowser`, is in [`Config`](bayeux_server::Config).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpOptions {
    /// The name of the browser cookie. Default: `BAYEUX_BROWSER` (rule O-19).
    pub browser_cookie_name: String,
    /// Its `Domain`; `None`: not sent. Default: `None` (rule O-20).
    pub browser_cookie_domain: Option<String>,
    /// Its `Path`; `None`: not sent. Default: `/` (rule O-20).
    pub browser_cookie_path: Option<String>,
    /// Its `Max-Age`, in whole seconds; `None`: not sent. Default: `None` (rule O-21).
    pub browser_cookie_max_age: Option<Duration>,
    /// Whether it has `Secure`, which is sent only where the request itself was secure. Default: false (rule O-22).
    pub browser_cookie_secure: bool,
    /// Whether it has `HttpOnly`. Default: true (rule O-23).
    pub browser_cookie_http_only: bool,
    /// Its `SameSite`; `None`: not sent. Default: `None` (rule O-24).
    pub browser_cookie_same_site: Option<SameSite>,
    /// Whether it has `Partitioned`. Default: false (rule O-24).
    pub browser_cookie_partitioned: bool,
    /// The status that answers a held connect which was replaced, or whose session was removed: 400 or more. Default:
    /// 500 (rules O-29, K-20).
    pub duplicate_meta_connect_http_response_code: u16,
    /// The query parameter that names the function to call. Default: `jsonp` (rules O-32, TJ-3).
    pub callback_parameter: String,
    /// The longest name of such a function. Default: 64 (rule O-32).
    pub callback_parameter_max_length: usize,
    /// Which other origins may use the server. Default: none (rule TH-36).
    pub allowed_origins: AllowedOrigins,
    /// How long a request's body may take to arrive. Default: 30 s (ours): a megabyte at modem speed takes longer, but
    /// what clients send is a few hundred bytes.
    pub body_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            browser_cookie_name: "BAYEUX_BROWSER".to_owned(),
            browser_cookie_domain: None,
            browser_cookie_path: Some("/".to_owned()),
            browser_cookie_max_age: None,
            browser_cookie_secure: false,
            browser_cookie_http_only: true,
            browser_cookie_same_site: None,
            browser_cookie_partitioned: false,
            duplicate_meta_connect_http_response_code: 500,
            callback_parameter: "jsonp".to_owned(),
            callback_parameter_max_length: 64,
            allowed_origins: AllowedOrigins::default(),
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// The `SameSite` attribute of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// `Strict`
    Strict,
    /// `Lax`
    Lax,
    /// `None`: for cross-site use, together with `Secure` (rule TH-37).
    None,
}

impl SameSite {
    /// The word in the cookie.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// Which origins of other sites may use the server, cookies included (rule TH-36).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// None: responses have no CORS headers.
    #[default]
    None,
    /// Any. The response names the origin that asked, since `*` excludes cookies.
    Any,
    /// These, as `scheme://host[:port]`.
    Only(Vec<String>),
}

impl AllowedOrigins {
    /// From a list as users write it: empty is none, `*` anywhere in it is any.
    pub fn from_list(origins: impl IntoIterator<Item = String>) -> Self {
        let origins: Vec<String> = origins.into_iter().collect();
        match origins.as_slice() {
            [] => Self::None,
            some if some.iter().any(|origin| origin == "*") => Self::Any,
            _ => Self::Only(origins),
        }
    }

    /// Whether `origin` may.
    pub fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::None => false,
            Self::Any => true,
            Self::Only(origins) => origins.iter().any(|o| o.as_bytes().eq_ignore_ascii_case(origin.as_bytes())),
        }
    }
}

/// Why [`HttpOptions`] cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpOptionsError {
    /// The status is below 400, or no status (rule O-29).
    #[error("duplicateMetaConnectHttpResponseCode must be a status from 400 to 999, not {0}")]
    ResponseCode(u16),
    /// `callbackParameter` is empty, or no name of a function could be short enough (rule TJ-3).
    #[error("{option} must not be empty or 0")]
    Callback {
        /// The option.
        option: &'static str,
    },
    /// The cookie's name, domain or path has characters that a cookie cannot have, or the name is empty.
    #[error("{option} cannot be in a cookie")]
    Cookie {
        /// The option.
        option: &'static str,
    },
}

impl HttpOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// [`HttpOptionsError`] for the first that is wrong.
    pub fn validate(&self) -> Result<(), HttpOptionsError> {
        let code = self.duplicate_meta_connect_http_response_code;
        if !(400..1000).contains(&code) {
            return Err(HttpOptionsError::ResponseCode(code));
        }
        for (option, nothing) in [
            ("callbackParameter", self.callback_parameter.is_empty()),
            ("callbackParameterMaxLength", self.callback_parameter_max_length == 0),
        ] {
            if nothing {
                return Err(HttpOptionsError::Callback { option });
            }
        }
        let name = &self.browser_cookie_name;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&b)) {
            return Err(HttpOptionsError::Cookie { option: "browserCookieName" });
        }
        let attribute = |text: &Option<String>| {
            text.as_ref().is_none_or(|text| text.bytes().all(|b| (b' '..0x7f).contains(&b) && b != b';'))
        };
        if !attribute(&self.browser_cookie_domain) {
            return Err(HttpOptionsError::Cookie { option: "browserCookieDomain" });
        }
        if !attribute(&self.browser_cookie_path) {
            return Err(HttpOptionsError::Cookie { option: "browserCookiePath" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O-29: below 400 is a configuration error.
    #[test]
    fn response_code_below_400_is_refused() {
        for code in [0, 200, 399, 1000] {
            let options = HttpOptions { duplicate_meta_connect_http_response_code: code, ..HttpOptions::default() };
            assert_eq!(options.validate(), Err(HttpOptionsError::ResponseCode(code)));
        }
        let options = HttpOptions { duplicate_meta_connect_http_response_code: 408, ..HttpOptions::default() };
        assert_eq!(options.validate(), Ok(()));
    }

    #[test]
    fn cookie_that_would_break_its_header_is_refused() {
        for name in ["", "a b", "a;b", "a=b", "é", "a\r\nb"] {
            let options = HttpOptions { browser_cookie_name: name.to_owned(), ..HttpOptions::default() };
            assert_eq!(options.validate(), Err(HttpOptionsError::Cookie { option: "browserCookieName" }), "{name:?}");
        }
        let options = HttpOptions { browser_cookie_path: Some("/; Secure".to_owned()), ..HttpOptions::default() };
        assert_eq!(options.validate(), Err(HttpOptionsError::Cookie { option: "browserCookiePath" }));
    }

    #[test]
    fn star_among_origins_is_any() {
        assert_eq!(AllowedOrigins::from_list([]), AllowedOrigins::None);
        assert_eq!(AllowedOrigins::from_list(["https://a".to_owned(), "*".to_owned()]), AllowedOrigins::Any);
        let only = AllowedOrigins::from_list(["https://a.example".to_owned()]);
        assert!(only.allows(&HeaderValue::from_static("https://A.example")));
        assert!(!only.allows(&HeaderValue::from_static("https://a.example.evil")));
    }
}
