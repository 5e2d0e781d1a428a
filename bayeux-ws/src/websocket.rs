//! The WebSocket transport.

use bayeux_server::{RequestBody, Server, ServiceFuture, Transport, TransportService};
use http::Request;
use http::request::Parts;

use crate::options::{WsOptions, WsOptionsError};

/// The `websocket` transport: any number of envelopes both ways on one connection (section TW).
#[derive(Debug)]
pub struct WebSocket {
    options: WsOptions,
}

impl WebSocket {
    /// The transport with these options.
    ///
    /// # Errors
    /// [`WsOptionsError`] where the options cannot be used.
    pub fn new(options: WsOptions) -> Result<Self, WsOptionsError> {
        options.validate()?;
        Ok(Self { options })
    }
}

impl TransportService for WebSocket {
    fn transport(&self) -> Transport {
        Transport::WebSocket
    }

    fn accepts(&self, request: &Parts) -> bool {
        let _ = request;
        false
    }

    fn serve(&self, server: &Server, request: Request<RequestBody>) -> ServiceFuture {
        let _ = (server, request, &self.options);
        todo!()
    }
}
