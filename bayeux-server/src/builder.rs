//! Building a server.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bayeux_core::{Config, RemovalReason};
use bayeux_proto::{ChannelPattern, Limits};
use bytestring::ByteString;

use crate::context::Context;
use crate::error::BuildError;
use crate::hooks::{Listener, Table};
use crate::message::{Incoming, Outcome, Subscribed};
use crate::policy::Policy;
use crate::server::Server;
use crate::session::Session;

/// Options and hooks of a [`Server`] to be.
///
/// Listeners run one after the other, in the order of their registration; message listeners first by channel, from the
/// widest wildcard to the channel itself (rule A-21).
#[must_use = "a builder does nothing until it builds"]
pub struct ServerBuilder {
    config: Config,
    limits: Limits,
    table: Table,
    messages: Vec<(String, Listener<Incoming, Outcome>)>,
}

impl ServerBuilder {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, limits: Limits::default(), table: Table::default(), messages: Vec::new() }
    }

    /// Limits of one envelope. The size is that of the transport's `maxMessageSize`, whatever `limits` says.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Asks `policy` who may do what. The last policy given counts. Default: [`DefaultPolicy`](crate::DefaultPolicy).
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.table.policy = Some(Arc::new(policy));
        self
    }

    /// Calls `listener` with each message on the channels that `pattern` matches, before it goes on: service messages,
    /// publishes, meta messages. It may change or stop the message, and answer it.
    ///
    /// # Example: an echo
    ///
    /// ```no_run
    /// # async fn build() -> Result<(), bayeux_server::BuildError> {
    /// use bayeux_server::{Config, Incoming, Server};
    ///
    /// let server = Server::builder(Config::default())
    ///     .on_message("/service/echo", |message: Incoming| async move {
    ///         // Fails only where data does not serialise; this was data already.
    ///         let _ = message.answer(message.raw());
    ///     })
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn on_message<F, R>(mut self, pattern: impl Into<String>, listener: F) -> Self
    where
        F: Fn(Incoming) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Outcome>> + Send + 'static,
    {
        self.messages.push((pattern.into(), message_listener(listener)));
        self
    }

    /// Calls `listener` with each session after its handshake succeeded and before the reply is sent: what it delivers
    /// reaches the client behind that reply.
    pub fn on_session_added<F, R>(mut self, listener: F) -> Self
    where
        F: Fn(Session, Option<Arc<Context>>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.table.session_added.push(Arc::new(move |(session, context)| Box::pin(listener(session, context))));
        self
    }

    /// Calls `listener` with each session that was removed, whatever the reason. The session can still be found by its
    /// id until all listeners are done.
    pub fn on_session_removed<F, R>(mut self, listener: F) -> Self
    where
        F: Fn(Session, RemovalReason) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.table.session_removed.push(Arc::new(move |(session, reason)| Box::pin(listener(session, reason))));
        self
    }

    /// Calls `listener` with each subscription, before its reply is sent: what it delivers rides in that response.
    pub fn on_subscribed<F, R>(mut self, listener: F) -> Self
    where
        F: Fn(Subscribed) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.table.subscribed.push(Arc::new(move |subscribed| Box::pin(listener(subscribed))));
        self
    }

    /// Calls `listener` with each subscription that ended, by the client's wish or because its session was removed.
    pub fn on_unsubscribed<F, R>(mut self, listener: F) -> Self
    where
        F: Fn(Subscribed) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.table.unsubscribed.push(Arc::new(move |subscribed| Box::pin(listener(subscribed))));
        self
    }

    /// Builds and starts the server: one task for each shard, on the tokio runtime that this is called in. It runs
    /// until the last [`Server`], [`Session`] and [`Link`](crate::Link) of it is dropped.
    ///
    /// # Errors
    /// [`BuildError`]
    pub fn build(mut self) -> Result<Server, BuildError> {
        self.config.validate()?;
        for (text, listener) in self.messages {
            self.table.messages.entry(pattern(&text, &self.config)?).or_default().push(listener);
        }
        Server::start(self.config, self.limits, self.table)
    }
}

/// The normalised text of a channel or pattern to listen on.
pub(crate) fn pattern(text: &str, config: &Config) -> Result<ByteString, BuildError> {
    match ChannelPattern::parse(&ByteString::from(text), &config.channels) {
        Ok(channel) => Ok(channel.text().clone()),
        Err(source) => Err(BuildError::Channel { pattern: text.to_owned(), source }),
    }
}

pub(crate) fn message_listener<F, R>(listener: F) -> Listener<Incoming, Outcome>
where
    F: Fn(Incoming) -> R + Send + Sync + 'static,
    R: Future<Output: Into<Outcome>> + Send + 'static,
{
    Arc::new(move |message| {
        let running = listener(message);
        Box::pin(async move { running.await.into() })
    })
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
