//! Outgoing messages to bytes.

use bytes::{Bytes, BytesMut};

use crate::frozen::Frozen;
use crate::reply::Reply;

/// A message on its way out.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// An event, already encoded.
    Event(Frozen),
    /// A reply, encoded here.
    Reply(Box<Reply>),
}

/// Encodes one envelope, a JSON array, in one allocation of its own. A lone event is not copied.
pub fn encode(messages: &[Outgoing]) -> Bytes {
    let _ = messages;
    todo!()
}

/// Appends one envelope, a JSON array, to `out`.
pub fn encode_into(messages: &[Outgoing], out: &mut BytesMut) {
    let _ = (messages, out);
    todo!()
}

/// Cuts messages into WebSocket frames: each run of events into envelopes of `events_per_frame` (0: all of the run in
/// one), each run of replies into one (rules TW-8, O-35). A lone event is not copied.
pub fn frames(messages: &[Outgoing], events_per_frame: usize) -> impl Iterator<Item = Bytes> {
    let _ = (messages, events_per_frame);
    std::iter::empty()
}
