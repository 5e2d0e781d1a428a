//! Bayeux messages, channel names, advice, error strings and the JSON codec.
//!
//! This crate knows the wire and nothing else: no clocks, no sessions, no sockets, no `async`. Bytes become a
//! [`Batch`] of [`Message`]s with [`decode`]; [`Outgoing`] messages become bytes with [`encode`]. User payloads
//! (`data`, `ext`, unknown fields) are never interpreted: they stay [`RawJson`], slices of the bytes they came in, so
//! that numbers, key order and escapes arrive exactly as they were sent.
//!
//! # Example: answering a request
//!
//! ```
//! use bayeux_proto::{ChannelLimits, ChannelName, Event, Limits, Outgoing, Reply, decode, encode};
//!
//! let body = r#"[{"id":"5","channel":"/chat/a/","clientId":"4f1k","data":{"price":1.10}}]"#;
//! let mut out = Vec::new();
//! for message in decode(body.into(), &Limits::default())?.messages {
//!     let mut reply = Reply::to(&message);
//!     if let Some(text) = message.channel.clone() {
//!         let channel = ChannelName::parse(&text, &ChannelLimits::default())?;
//!         // Encoded once; every subscriber gets a clone of the pointer.
//!         out.push(Outgoing::Event(Event::from_publish(channel.text().clone(), message).freeze()));
//!     }
//!     reply.succeed();
//!     out.push(Outgoing::Reply(Box::new(reply)));
//! }
//! assert_eq!(
//!     encode(&out),
//!     r#"[{"channel":"/chat/a","data":{"price":1.10}},{"id":"5","channel":"/chat/a/","successful":true}]"#,
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees and limits
//!
//! - No bytes from a peer make this crate panic, recurse, or spend more than linear time. [`Limits`] bounds what one
//!   envelope may cost: a message takes about 300 bytes beside its text, a field that has no typed place 64.
//! - [`decode`] accepts exactly the texts of RFC 8259. An escaped lone surrogate is passed on in raw values; in text that
//!   is read (`channel`, ids, keys) it becomes U+FFFD.
//! - Decoded messages share the input's buffer and keep it alive. [`Event::freeze`] and [`Reply::to`] copy what they
//!   need; whoever else keeps parts of a message calls `detach`.
//! - What is written here is escaped so that it can stand in a script (U+2028 and U+2029 are), but raw values are
//!   written as they came in; [`escape_line_separators`] is for transports that send scripts.
//!
//! Rule numbers such as `M-9` or `Z-3` in the documentation are those of the behaviour reference that this project
//! keeps for the Bayeux protocol as CometD speaks it.

mod advice;
mod binary;
mod channel;
mod decode;
mod encode;
mod error_field;
mod extension;
mod frozen;
mod json;
mod map;
mod message;
mod reply;
mod request;
mod scan;
mod template;
mod text;

pub use advice::{Advice, AdviceError, ConnectAdvice, Reconnect};
pub use binary::{BinaryData, BinaryError};
pub use channel::{ChannelError, ChannelKind, ChannelLimits, ChannelName, ChannelPattern, Ids, Wildcard};
pub use decode::decode;
pub use encode::{Frames, Outgoing, WHOLE_BATCH, encode, encode_into, escape_line_separators, frames};
pub use error_field::{ErrorField, ErrorParts};
pub use extension::{AckReply, AckRequest, ExtRequest, TimesyncReply, TimesyncRequest};
pub use frozen::{Event, Frozen, Lazy};
pub use json::{DecodeError, Limits, RawJson, RawJsonError};
pub use map::Scalar;
pub use message::{Batch, Field, Message, MessageId, Subscription};
pub use reply::{Handshake, Reply};
pub use request::encode_requests;
pub use template::{ChannelTemplate, Parameters, TemplateError};

pub use bytestring::ByteString;

/// The five meta channels (rule M-18).
pub mod meta {
    /// `/meta/handshake`
    pub const HANDSHAKE: &str = "/meta/handshake";
    /// `/meta/connect`
    pub const CONNECT: &str = "/meta/connect";
    /// `/meta/subscribe`
    pub const SUBSCRIBE: &str = "/meta/subscribe";
    /// `/meta/unsubscribe`
    pub const UNSUBSCRIBE: &str = "/meta/unsubscribe";
    /// `/meta/disconnect`
    pub const DISCONNECT: &str = "/meta/disconnect";
}
