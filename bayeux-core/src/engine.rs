//! The engine's public face.

use bayeux_proto::Outgoing;

use crate::config::Config;
use crate::event::{Budget, Drained, Hooks, Input, Output};
use crate::id::{ConnectionKey, IdSource, ShardId};
use crate::time::{Time, UnixTime};

/// One shard of a Bayeux server: sessions, subscriptions, delivery. See the crate documentation.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// An engine without sessions.
    pub fn new(
        config: std::sync::Arc<Config>,
        shard: ShardId,
        ids: Box<dyn IdSource + Send>,
        hooks: Box<dyn Hooks + Send>,
        start: Time,
        epoch: UnixTime,
    ) -> Self {
        let _ = (config, shard, ids, hooks, start, epoch);
        todo!()
    }

    /// Takes an input. Cannot fail: a peer's mistake becomes a reply or a close, a stale key is ignored.
    pub fn handle(&mut self, now: Time, input: Input) {
        let _ = (now, input);
        todo!()
    }

    /// The next thing to do, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }

    /// Appends what a ready connection is to write now, within `budget`. For an HTTP exchange the first call fixes the
    /// whole response.
    pub fn drain(&mut self, now: Time, conn: ConnectionKey, budget: Budget, out: &mut Vec<Outgoing>) -> Drained {
        let _ = (now, conn, budget, out);
        todo!()
    }

    /// When the next [`Input::Tick`] is due. Read again after every `handle` and `drain`.
    pub fn poll_timeout(&self) -> Option<Time> {
        todo!()
    }

    /// Whether the connection may send another envelope: where false, stop reading from it until after the next
    /// output.
    pub fn wants_input(&self, conn: ConnectionKey) -> bool {
        let _ = conn;
        todo!()
    }

    /// Whether the WebSocket `conn` carries a live session, so that its envelopes stay in this shard whatever they
    /// name (rules TW-10, E-66).
    pub fn is_bound(&self, conn: ConnectionKey) -> bool {
        let _ = conn;
        todo!()
    }

    /// Live sessions.
    pub fn session_count(&self) -> usize {
        todo!()
    }
}
