//! The long-polling transport.

use bayeux_server::{RequestBody, Server, ServiceFuture, Transport, TransportService};
use http::Request;
use http::request::Parts;

use crate::options::{HttpOptions, HttpOptionsError};

/// The `long-polling` transport: a `POST` with messages, answered with messages (section TH).
#[derive(Debug)]
pub struct LongPolling {
    options: HttpOptions,
}

impl LongPolling {
    /// The transport with these options.
    ///
    /// # Errors
    /// [`HttpOptionsError`] where the options cannot be used.
    pub fn new(options: HttpOptions) -> Result<Self, HttpOptionsError> {
        options.validate()?;
        Ok(Self { options })
    }
}

impl TransportService for LongPolling {
    fn transport(&self) -> Transport {
        Transport::LongPolling
    }

    fn accepts(&self, request: &Parts) -> bool {
        request.method.as_str().eq_ignore_ascii_case("POST")
    }

    fn serve(&self, server: &Server, request: Request<RequestBody>) -> ServiceFuture {
        let _ = (server, request, &self.options);
        todo!()
    }
}
