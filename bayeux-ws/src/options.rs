//! Options of the WebSocket transport (section 13.4). Field names are those of CometD's options, without `ws.`.

use std::time::Duration;

use http::HeaderValue;

/// Options of [`WebSocket`](crate::WebSocket). What the engine decides by, such as `requireHandshakePerConnection`, is
/// in [`Config`](bayeux_server::Config).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WsOptions {
    /// The subprotocol that clients must offer. `None`: any, and the first one offered is selected. Default: `None`
    /// (rules O-34, TW-3, Z-19).
    pub protocol: Option<String>,
    /// Messages in a frame; 0: all that are there. Replies of one envelope are one frame in any case. Default: 1
    /// (rules O-35, TW-8).
    pub messages_per_frame: usize,
    /// Bytes of the read buffer that each connection has all the time, and of the write buffer's aim. Default: 1 KiB:
    /// most messages are smaller, and a larger one makes the buffer grow while it is read (rule O-36).
    pub buffer_size: usize,
    /// How long a connection may be silent before it is closed; also how long one write may take. Must exceed `timeout`,
    /// since nothing flows while a connect is held. Default: 5 min (rules O-37, TW-6).
    pub idle_timeout: Duration,
    /// Which origins may connect. Default: all (rules TW-4, Z-14).
    pub allowed_origins: AllowedOrigins,
}

impl Default for WsOptions {
    fn default() -> Self {
        Self {
            protocol: None,
            messages_per_frame: 1,
            buffer_size: 1024,
            idle_timeout: Duration::from_secs(300),
            allowed_origins: AllowedOrigins::default(),
        }
    }
}

/// Which origins may open a WebSocket (rule Z-14). A client that names no origin is no browser, and may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Any.
    #[default]
    Any,
    /// These, as `scheme://host[:port]`.
    Only(Vec<String>),
}

impl AllowedOrigins {
    /// From a list as users write it: empty is any, and so is `*` anywhere in it.
    pub fn from_list(origins: impl IntoIterator<Item = String>) -> Self {
        let origins: Vec<String> = origins.into_iter().collect();
        if origins.is_empty() || origins.iter().any(|origin| origin == "*") { Self::Any } else { Self::Only(origins) }
    }

    /// Whether `origin` may.
    pub fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Only(origins) => origins.iter().any(|o| o.as_bytes().eq_ignore_ascii_case(origin.as_bytes())),
        }
    }
}

/// Why [`WsOptions`] cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WsOptionsError {
    /// The subprotocol is not a name that a header can carry.
    #[error("ws.protocol is not a name")]
    Protocol,
    /// An option is 0 where nothing would work.
    #[error("{name} must not be 0")]
    Zero {
        /// The option's name.
        name: &'static str,
    },
}

impl WsOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// [`WsOptionsError`] for the first that is wrong.
    pub fn validate(&self) -> Result<(), WsOptionsError> {
        if let Some(protocol) = &self.protocol {
            let name = !protocol.is_empty() && protocol.bytes().all(|b| b.is_ascii_graphic() && b != b',');
            if !name {
                return Err(WsOptionsError::Protocol);
            }
        }
        for (name, zero) in [("ws.bufferSize", self.buffer_size == 0), ("ws.idleTimeout", self.idle_timeout.is_zero())]
        {
            if zero {
                return Err(WsOptionsError::Zero { name });
            }
        }
        Ok(())
    }
}
