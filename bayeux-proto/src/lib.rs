//! Bayeux messages, channel names, advice, error strings and the JSON codec.
//!
//! This crate knows the wire and nothing else: no clocks, no sessions, no sockets, no `async`. Bytes become a
//! [`Batch`] of [`Message`]s with [`decode`]; [`Outgoing`] messages become bytes with [`encode`]. User payloads
//! (`data`, `ext`, unknown fields) are never interpreted: they stay [`RawJson`], slices of the bytes they came in, so
//! that numbers, key order and escapes arrive exactly as they were sent.
//!
//! Rule numbers such as `M-9` or `Z-3` in the documentation are those of the behaviour reference that this project
//! keeps for the Bayeux protocol as CometD speaks it.

mod advice;
mod channel;
mod decode;
mod encode;
mod error_field;
mod frozen;
mod json;
mod message;
mod reply;
mod request;
mod scan;
mod text;

pub use advice::{Advice, AdviceError, ConnectAdvice, Reconnect};
pub use channel::{ChannelError, ChannelKind, ChannelLimits, ChannelName, ChannelPattern, Ids, Wildcard};
pub use decode::decode;
pub use encode::{Frames, Outgoing, encode, encode_into, frames};
pub use error_field::{ErrorField, ErrorParts};
pub use frozen::{Event, Frozen, Lazy};
pub use json::{DecodeError, Limits, RawJson, RawJsonError};
pub use message::{Batch, Field, Message, MessageId, Subscription};
pub use reply::{Handshake, Reply};
pub use request::encode_requests;

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
