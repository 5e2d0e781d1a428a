//! What can go wrong between an application and the server.

use bayeux_core::ConfigError;
use bayeux_proto::{ChannelError, TemplateError};

/// Why a server could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The options do not agree with each other.
    #[error("invalid configuration")]
    Config(#[from] ConfigError),
    /// A listener was registered for something that is no channel.
    #[error("cannot listen on {pattern:?}")]
    Channel {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        source: ChannelError,
    },
    /// A listener was registered for something that has variables and is no template.
    #[error("cannot listen on {pattern:?}")]
    Template {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        source: TemplateError,
    },
    /// A channel could not be created.
    #[error("cannot create {channel:?}")]
    Create {
        /// Which.
        channel: String,
        /// Why.
        source: SendError,
    },
    /// There is no tokio runtime to run on: build the server inside one.
    #[error("a server is built inside a tokio runtime")]
    NoRuntime,
    /// The operating system gave no random bytes, so session ids could be guessed.
    #[error("no random bytes from the operating system")]
    NoRandomness,
}

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The channel's name is none, or a wildcard.
    #[error("not a channel to send on")]
    Channel(#[from] ChannelError),
    /// A meta channel, which is the protocol's own.
    #[error("cannot send on a meta channel")]
    Meta,
    /// The data could not be serialised.
    #[error("data cannot be written as JSON")]
    Data(#[from] DataError),
    /// The links between shards are full. Only from `try_` methods; the others wait.
    #[error("the server is too busy")]
    Busy,
    /// One hook has sent 10,000 messages already. What needs more is a task of its own.
    #[error("one hook sends too much")]
    Flooded,
    /// Not inside a hook that may not wait, such as an outgoing extension: the engine is busy with it.
    #[error("not inside a hook that may not wait")]
    Inside,
    /// Not inside a hook: what hooks send is carried out after their answer, so none can wait for what becomes of it.
    #[error("not inside a hook, which is answered first")]
    InHook,
    /// There are as many channels as there may be, or the name is that of a meta channel which does not exist.
    #[error("no such channel, and none can be created")]
    TooManyChannels,
    /// Listeners publish because of publishes of each other, 64 in a row.
    #[error("listeners publish in a circle")]
    Circle,
}

/// A value whose `Serialize` fails, or that has map keys which are not strings.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DataError(#[from] serde_json::Error);
