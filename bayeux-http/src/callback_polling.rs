//! The callback-polling transport, also known as JSONP (section TJ).

use std::sync::Arc;

use bayeux_server::{Parking, PostHead, RequestBody, Server, ServiceFuture, Transport, TransportService};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request};

use crate::content::ContentError;
use crate::exchange::{self, Begun, Form, Prepared, Refusal, Way};
use crate::form;
use crate::long_polling::Gathered;
use crate::options::{HttpOptions, HttpOptionsError};

/// The `callback-polling` transport: messages in the query of a `GET`, answered with a script that calls a function with
/// messages. For browsers that can load scripts of other sites and nothing else of them.
///
/// It is used only where [`Config::allowed_transports`](crate::Config) names it, which it does not by default: every
/// site can load a script, with the cookies of the user who visits it. What protects a session is that its `clientId`
/// is needed as well, and that handshakes give new ones; a policy that goes by cookies alone is not protected.
///
/// The script is `callback([…])` and nothing else (rules TJ-4, Z-13). Only names of letters, digits and `._-$` are
/// called, and the response can be taken for nothing but a script.
#[derive(Debug)]
pub struct CallbackPolling {
    options: Arc<HttpOptions>,
}

impl CallbackPolling {
    /// The transport with these options.
    ///
    /// # Errors
    /// [`HttpOptionsError`] where the options cannot be used.
    pub fn new(options: HttpOptions) -> Result<Self, HttpOptionsError> {
        options.validate()?;
        Ok(Self { options: Arc::new(options) })
    }
}

impl TransportService for CallbackPolling {
    fn transport(&self) -> Transport {
        Transport::CallbackPolling
    }

    /// Rules T-3, TJ-3: a `GET` that names a callback.
    fn accepts(&self, request: &Parts) -> bool {
        let query = request.uri.query().unwrap_or_default();
        request.method == Method::GET
            && form::values(query.as_bytes(), &self.options.callback_parameter).next().is_some()
    }

    fn accepts_post(&self, _: &PostHead<'_>) -> bool {
        false
    }

    fn serve(&self, server: &Server, request: Request<RequestBody>) -> ServiceFuture {
        let options = Arc::clone(&self.options);
        let parking = request.extensions().get::<Parking>().cloned();
        // Its body, if it has one, says nothing.
        let (parts, _) = request.into_parts();
        let beginning = Box::pin(begin(server.clone(), options, parts));
        Box::pin(exchange::respond(beginning, parking, false, None))
    }
}

async fn begin(server: Server, options: Arc<HttpOptions>, parts: Parts) -> Result<Begun, Refusal> {
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let callback = callback(query, &options)?;
    let limits = server.limits(Transport::CallbackPolling);
    let mut gathered = Gathered::new(&limits);
    for message in form::values(query, "message") {
        // Rule TJ-1: a URL is UTF-8, and an escape that is none is not JSON either.
        if std::str::from_utf8(&message).is_err() {
            return Err(Refusal::Content(ContentError::Malformed));
        }
        gathered.add(message)?;
    }
    let batch = gathered.batch()?;
    let way = Way { form: Form::Script(callback), cors: None, responder: None };
    let prepared = Prepared::new(&server, Transport::CallbackPolling, parts, batch, way, options);
    Ok(prepared.begin_when_possible(&server).await)
}

/// The one name of a function that a query gives (rule TJ-3).
fn callback(query: &[u8], options: &HttpOptions) -> Result<Bytes, Refusal> {
    let mut names = form::values(query, &options.callback_parameter);
    let (Some(name), None) = (names.next(), names.next()) else { return Err(Refusal::Callback) };
    let length = 1..=options.callback_parameter_max_length;
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-$".contains(byte);
    if length.contains(&name.len()) && name.iter().all(named) { Ok(name) } else { Err(Refusal::Callback) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TJ-3
    #[test]
    fn only_names_are_called() {
        let options = HttpOptions::default();
        let accepted = |query: &str| callback(query.as_bytes(), &options).ok();
        for name in ["cb", "_cometd_jsonp_12", "__jsonp3__", "a.b-c", "$x", &"a".repeat(64)] {
            assert_eq!(accepted(&format!("jsonp={name}")).as_deref(), Some(name.as_bytes()));
        }
        for query in
            ["", "jsonp", "jsonp=", "jsonp=a&jsonp=b", "jsonp=a(", "jsonp=%3Cb%3E", "jsonp=%C3%A9", "callback=a"]
        {
            assert_eq!(accepted(query), None, "{query}");
        }
        assert_eq!(accepted(&format!("jsonp={}", "a".repeat(65))), None);
    }
}
