//! Heads of requests: what they say beside their bodies.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Version};

use crate::context::is_over_tls;

/// The head of a request, whoever read it: what a transport needs to know of it. A [`Post`](crate::Post) has one that
/// was not taken apart further than that.
pub trait RequestHead {
    /// The values of that header, in order.
    fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]>;

    /// The value of that header; of several, the first.
    fn value<'a>(&'a self, name: &'a HeaderName) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// The version of HTTP that it was made in.
    fn version(&self) -> Version;

    /// Whether it was made over TLS, as far as can be told.
    fn is_over_tls(&self) -> bool;

    /// All of it, with what the listener says of the connection.
    fn into_parts(self) -> Parts;
}

impl RequestHead for Parts {
    fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.headers.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }

    fn version(&self) -> Version {
        self.version
    }

    fn is_over_tls(&self) -> bool {
        is_over_tls(self)
    }

    fn into_parts(self) -> Parts {
        self
    }
}
