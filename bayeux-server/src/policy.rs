//! Who may do what.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bayeux_core::{Points, Verdict};
use bayeux_proto::{ChannelName, ChannelPattern, Message};

use crate::associated::Associated;
use crate::context::Context;
use crate::server::Server;
use crate::session::Session;

/// A message that a policy decides on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Asked {
    /// Whose message it is; at a handshake, the session that it would make.
    pub session: Option<Session>,
    /// The message.
    pub message: Arc<Message>,
    /// The request that it came with.
    pub context: Option<Arc<Context>>,
    /// What to add to the reply.
    pub associated: Associated,
    pub(crate) server: Server,
}

impl Asked {
    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }
}

/// Decides who may do what (rule A-40). Each answer may lay advice over the reply and add an `ext` to it.
///
/// Every method has a default, that of CometD's default policy: yes. What that policy refuses beyond it (clients
/// creating, subscribing to and publishing on meta channels, rule A-41) the engine refuses before it asks. The server's
/// own publishes and deliveries are not asked about (rule A-42).
///
/// An answer may take its time: only the connection that sent the message waits. No answer within
/// [`Config::decision_timeout`](bayeux_core::Config), or a panic, is a no (rule Z-1).
///
/// # Example: only with a token
///
/// ```
/// use bayeux_server::{Asked, Policy, Verdict};
///
/// struct WithToken;
///
/// impl Policy for WithToken {
///     async fn can_handshake(&self, asked: Asked) -> Verdict {
///         let has_token = asked.context.is_some_and(|request| request.headers().contains_key("authorization"));
///         if has_token { Verdict::allow() } else { Verdict::deny() }
///     }
/// }
/// ```
pub trait Policy: Send + Sync + 'static {
    /// Which questions this policy wants to be asked at all: one that is not asked costs nothing. Default: all.
    fn questions(&self) -> Questions {
        Questions::ALL
    }

    /// Whether a client may have a session.
    fn can_handshake(&self, asked: Asked) -> impl Future<Output = Verdict> + Send {
        let _ = asked;
        async { Verdict::allow() }
    }

    /// Whether a channel that does not exist may be created for this message (rule A-43).
    fn can_create(&self, channel: ChannelPattern, asked: Asked) -> impl Future<Output = Verdict> + Send {
        let _ = (channel, asked);
        async { Verdict::allow() }
    }

    /// Whether a session may subscribe to a channel.
    fn can_subscribe(&self, channel: ChannelPattern, asked: Asked) -> impl Future<Output = Verdict> + Send {
        let _ = (channel, asked);
        async { Verdict::allow() }
    }

    /// Whether a session may publish on a channel.
    fn can_publish(&self, channel: ChannelName, asked: Asked) -> impl Future<Output = Verdict> + Send {
        let _ = (channel, asked);
        async { Verdict::allow() }
    }
}

/// CometD's default policy (rule A-41), which the engine applies by itself: asks nothing, costs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefaultPolicy;

impl Policy for DefaultPolicy {
    fn questions(&self) -> Questions {
        Questions::NONE
    }
}

/// Which questions a [`Policy`] is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Questions(Points);

impl Questions {
    /// None.
    pub const NONE: Self = Self(Points::NONE);
    /// [`Policy::can_handshake`]
    pub const HANDSHAKE: Self = Self(Points::HANDSHAKE);
    /// [`Policy::can_create`]
    pub const CREATE: Self = Self(Points::CREATE);
    /// [`Policy::can_subscribe`]
    pub const SUBSCRIBE: Self = Self(Points::SUBSCRIBE);
    /// [`Policy::can_publish`]
    pub const PUBLISH: Self = Self(Points::PUBLISH);
    /// All.
    pub const ALL: Self = Self::HANDSHAKE.with(Self::CREATE).with(Self::SUBSCRIBE).with(Self::PUBLISH);

    /// Both together.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0.with(other.0))
    }

    pub(crate) const fn points(self) -> Points {
        self.0
    }
}

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`Policy`] behind a pointer.
pub(crate) trait DynPolicy: Send + Sync {
    fn questions(&self) -> Questions;
    fn can_handshake(&self, asked: Asked) -> Boxed<'_, Verdict>;
    fn can_create(&self, channel: ChannelPattern, asked: Asked) -> Boxed<'_, Verdict>;
    fn can_subscribe(&self, channel: ChannelPattern, asked: Asked) -> Boxed<'_, Verdict>;
    fn can_publish(&self, channel: ChannelName, asked: Asked) -> Boxed<'_, Verdict>;
}

impl<P: Policy> DynPolicy for P {
    fn questions(&self) -> Questions {
        Policy::questions(self)
    }

    fn can_handshake(&self, asked: Asked) -> Boxed<'_, Verdict> {
        Box::pin(Policy::can_handshake(self, asked))
    }

    fn can_create(&self, channel: ChannelPattern, asked: Asked) -> Boxed<'_, Verdict> {
        Box::pin(Policy::can_create(self, channel, asked))
    }

    fn can_subscribe(&self, channel: ChannelPattern, asked: Asked) -> Boxed<'_, Verdict> {
        Box::pin(Policy::can_subscribe(self, channel, asked))
    }

    fn can_publish(&self, channel: ChannelName, asked: Asked) -> Boxed<'_, Verdict> {
        Box::pin(Policy::can_publish(self, channel, asked))
    }
}
