//! The sans-IO Bayeux engine.

pub mod config;

mod browser;
mod channel;
mod connection;
mod decision;
mod delivery;
mod engine;
mod event;
mod id;
mod lane;
mod life;
mod meta;
mod publish;
mod relay;
mod session;
mod slab;
mod time;
mod timer;

pub use config::{Config, ConfigError, Overflow, Transport, TransportOptions};
pub use decision::{Decided, Decision, DecisionId};
pub use engine::Engine;
pub use event::{
    Answer, Budget, ChannelSetting, ChannelSettings, CloseReason, Command, Drained, Edit, Forward, Hooks, Input,
    LinkFacts, NoHooks, Notice, Output, Point, Points, Question, RemovalReason, Ruling, SessionSetting, Verdict,
};
pub use id::{BrowserId, ClientId, ConnectionKey, IdSource, ShardId};
pub use time::{Time, UnixTime};
#[cfg(test)]
mod sizes {
    #[test]
    fn sizes() {
        use std::mem::size_of as s;
        eprintln!(
            "session {} conn {} held {} reply {} pending {} out {} lane {} output {} settings {} queue {} msg {}",
            s::<crate::session::Session>(),
            s::<crate::connection::Conn>(),
            s::<crate::session::Held>(),
            s::<bayeux_proto::Reply>(),
            s::<crate::connection::Pending>(),
            s::<crate::connection::Out>(),
            s::<crate::lane::Lane>(),
            s::<crate::Output>(),
            s::<crate::session::Settings>(),
            s::<crate::session::Queue>(),
            s::<bayeux_proto::Message>()
        );
        eprintln!(
            "linkfacts {} bytestring {} errorfield {} msgid {} adv {}",
            s::<crate::LinkFacts>(),
            s::<bayeux_proto::ByteString>(),
            s::<bayeux_proto::ErrorField>(),
            s::<Option<bayeux_proto::MessageId>>(),
            s::<bayeux_proto::Advice>()
        );
    }
}
