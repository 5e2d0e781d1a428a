//! The browser cookie: read leniently, written strictly (rules TH-20, TH-25).

use crate::options::HttpOptions;
use bayeux_server::core::BrowserId;

/// The browser ids that a request brings, as far as they are acceptable (rule Z-12). Whatever else is in its cookies, it
/// does not make the request fail. Browsers bring several where one was once set for another path or domain.
///
/// `cookies` are the values of the request's `Cookie` headers.
pub(crate) fn browser_ids<'a>(cookies: impl Iterator<Item = &'a [u8]>, name: &str) -> impl Iterator<Item = BrowserId> {
    let pairs = cookies.flat_map(|header| header.split(|&b| b == b';'));
    pairs.filter_map(move |pair| value(pair.trim_ascii(), name)).filter_map(BrowserId::parse).take(BROWSERS_MAX)
}

/// Browser ids of one request that are looked at.
const BROWSERS_MAX: usize = 8;

/// The value of `pair` if it has that name.
fn value<'a>(pair: &'a [u8], name: &str) -> Option<&'a str> {
    let value = pair.strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
    let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    std::str::from_utf8(value).ok()
}

/// The `Set-Cookie` header, attributes in the order of rule TH-20.
pub(crate) fn set_cookie(options: &HttpOptions, id: &BrowserId, secure: bool) -> String {
    let mut cookie = format!("{}={}", options.browser_cookie_name, id.as_str());
    let mut attribute = |text: &str| {
        cookie.push_str("; ");
        cookie.push_str(text);
    };
    if let Some(domain) = &options.browser_cookie_domain {
        attribute(&format!("Domain={domain}"));
    }
    if let Some(path) = &options.browser_cookie_path {
        attribute(&format!("Path={path}"));
    }
    if let Some(age) = options.browser_cookie_max_age {
        attribute(&format!("Max-Age={}", age.as_secs()));
    }
    if options.browser_cookie_http_only {
        attribute("HttpOnly");
    }
    if options.browser_cookie_secure && secure {
        attribute("Secure");
    }
    if let Some(same_site) = options.browser_cookie_same_site {
        attribute(&format!("SameSite={}", same_site.as_str()));
    }
    if options.browser_cookie_partitioned {
        attribute("Partitioned");
    }
    cookie
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::options::SameSite;

    fn browser(cookies: &[&[u8]]) -> Option<String> {
        let mut ids = browser_ids(cookies.iter().copied(), "BAYEUX_BROWSER");
        ids.next().map(|id| id.as_str().to_owned())
    }

    /// TH-25: a `Cookie` header is read leniently.
    #[test]
    fn cookie_is_found_among_whatever() {
        let id = Some("abc123".to_owned());
        assert_eq!(browser(&[b"BAYEUX_BROWSER=abc123"]), id);
        assert_eq!(browser(&[b"a=b; ; =; c; BAYEUX_BROWSER = abc123 ;x=\xff"]), id);
        assert_eq!(browser(&[b"a=b", b"BAYEUX_BROWSER=\"abc123\""]), id);
        assert_eq!(browser(&[b"BAYEUX_BROWSER=; BAYEUX_BROWSER=!!; BAYEUX_BROWSER=abc123"]), id);
        for none in [&b""[..], b"BAYEUX_BROWSER", b"XBAYEUX_BROWSER=a", b"BAYEUX_BROWSER=a b", b"bayeux_browser=a"] {
            assert_eq!(browser(&[none]), None, "{}", String::from_utf8_lossy(none));
        }
        assert_eq!(browser(&[b"BAYEUX_BROWSER=\xff\xfe"]), None);
        let both = [&b"BAYEUX_BROWSER=a; BAYEUX_BROWSER=b"[..]];
        assert_eq!(browser_ids(both.into_iter(), "BAYEUX_BROWSER").count(), 2);
    }

    /// TH-20: the attributes, in that order.
    #[test]
    fn cookie_has_its_attributes_in_order() {
        let id = BrowserId::parse("abc123").unwrap();
        let mut options = HttpOptions::default();
        assert_eq!(set_cookie(&options, &id, true), "BAYEUX_BROWSER=abc123; Path=/; HttpOnly");
        options.browser_cookie_name = "B".to_owned();
        options.browser_cookie_domain = Some("example.com".to_owned());
        options.browser_cookie_max_age = Some(Duration::from_secs(60));
        options.browser_cookie_secure = true;
        options.browser_cookie_same_site = Some(SameSite::None);
        options.browser_cookie_partitioned = true;
        let all = "B=abc123; Domain=example.com; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=None; Partitioned";
        assert_eq!(set_cookie(&options, &id, true), all);
        // O-22: `Secure` only when the request itself was secure.
        assert!(!set_cookie(&options, &id, false).contains("Secure"));
    }
}
