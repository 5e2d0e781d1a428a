//! Building a server.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bayeux_core::{Config, RemovalReason};
use bayeux_proto::{ChannelPattern, Limits};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::authorizer::Authorizer;
use crate::channel::{Channel, NewChannel};
use crate::context::Context;
use crate::error::BuildError;
use crate::extension::Extension;
use crate::filter::DataFilter;
use crate::hooks::Table;
use crate::message::{Incoming, Outcome, Subscribed};
use crate::policy::Policy;
use crate::server::Server;
use crate::service::{Call, CallError, Service};
use crate::session::{QueueOverflow, Session};

/// Options and hooks of a [`Server`] to be. What is registered here is there before the first message.
#[must_use = "a builder does nothing until it builds"]
pub struct ServerBuilder {
    config: Config,
    limits: Limits,
    table: Table,
    /// What is registered with the server once it is there, in order.
    registered: Vec<SetUp>,
}

/// Something to do with a server once it is there.
type SetUp = Box<dyn FnOnce(&Server) -> Result<(), BuildError> + Send>;

impl ServerBuilder {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, limits: Limits::default(), table: Table::default(), registered: Vec::new() }
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

    /// As [`Server::add_extension`].
    pub fn extension(self, extension: impl Extension) -> Self {
        self.with(|server| {
            server.add_extension(extension);
            Ok(())
        })
    }

    /// As [`Server::add_authorizer`].
    pub fn authorizer(self, channel: impl Into<String>, authorizer: impl Authorizer) -> Self {
        let channel = channel.into();
        self.with(move |server| match server.add_authorizer(&channel, authorizer) {
            Ok(_) => Ok(()),
            Err(source) => Err(BuildError::Create { channel, source }),
        })
    }

    /// As [`Server::on_message`].
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
    pub fn on_message<F, R>(self, pattern: impl Into<String>, listener: F) -> Self
    where
        F: Fn(Incoming) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Outcome>> + Send + 'static,
    {
        let pattern = pattern.into();
        self.with(move |server| server.on_message(&pattern, listener).map(drop))
    }

    /// As [`Server::remote_call`].
    pub fn remote_call<T, O, F, R>(self, target: impl Into<String>, handler: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        F: Fn(Call<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, CallError>> + Send + 'static,
    {
        let target = target.into();
        self.with(move |server| server.remote_call(&target, handler).map(drop))
    }

    /// As [`Server::service`].
    pub fn service<T, O, F, R>(self, channel: impl Into<String>, handler: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        F: Fn(Call<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, CallError>> + Send + 'static,
    {
        let channel = channel.into();
        self.with(move |server| server.service(&channel, handler).map(drop))
    }

    /// As [`Server::bind`].
    pub fn bind<S: Send + Sync + 'static>(self, service: Service<S>) -> Self {
        self.with(|server| server.bind(service))
    }

    /// As [`Server::add_filter`].
    pub fn filter(self, pattern: impl Into<String>, filter: impl DataFilter) -> Self {
        let pattern = pattern.into();
        self.with(move |server| server.add_filter(&pattern, filter).map(drop))
    }

    /// As [`Server::on_session_added`].
    pub fn on_session_added<F, R>(self, listener: F) -> Self
    where
        F: Fn(Session, Option<Arc<Context>>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.with(|server| {
            server.on_session_added(listener);
            Ok(())
        })
    }

    /// As [`Server::on_session_removed`].
    pub fn on_session_removed<F, R>(self, listener: F) -> Self
    where
        F: Fn(Session, RemovalReason) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.with(|server| {
            server.on_session_removed(listener);
            Ok(())
        })
    }

    /// As [`Server::on_subscribed`].
    pub fn on_subscribed<F, R>(self, listener: F) -> Self
    where
        F: Fn(Subscribed) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.with(|server| {
            server.on_subscribed(listener);
            Ok(())
        })
    }

    /// As [`Server::on_unsubscribed`].
    pub fn on_unsubscribed<F, R>(self, listener: F) -> Self
    where
        F: Fn(Subscribed) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.with(|server| {
            server.on_unsubscribed(listener);
            Ok(())
        })
    }

    /// As [`Server::on_channel_created`].
    pub fn on_channel_created(self, initialiser: impl Fn(&mut NewChannel<'_>) + Send + Sync + 'static) -> Self {
        self.with(|server| {
            server.on_channel_created(initialiser);
            Ok(())
        })
    }

    /// As [`Server::on_queue_overflow`].
    pub fn on_queue_overflow(self, listener: impl Fn(&QueueOverflow) + Send + Sync + 'static) -> Self {
        self.with(|server| {
            server.on_queue_overflow(listener);
            Ok(())
        })
    }

    /// As [`Server::on_channel_added`].
    pub fn on_channel_added(self, listener: impl Fn(&Channel) + Send + Sync + 'static) -> Self {
        self.with(|server| {
            server.on_channel_added(listener);
            Ok(())
        })
    }

    /// As [`Server::on_channel_removed`].
    pub fn on_channel_removed(self, listener: impl Fn(&ChannelPattern) + Send + Sync + 'static) -> Self {
        self.with(|server| {
            server.on_channel_removed(listener);
            Ok(())
        })
    }

    /// Creates a channel, configured by `initialise`: see [`Server::create_channel_with`].
    pub fn channel(
        self,
        name: impl Into<String>,
        initialise: impl FnOnce(&mut NewChannel<'_>) + Send + 'static,
    ) -> Self {
        let name = name.into();
        self.with(move |server| match server.create_channel_with(&name, initialise) {
            Ok(_) => Ok(()),
            Err(source) => Err(BuildError::Create { channel: name, source }),
        })
    }

    /// Does `set_up` with the server once it is built, before anybody can reach it.
    pub fn with(mut self, set_up: impl FnOnce(&Server) -> Result<(), BuildError> + Send + 'static) -> Self {
        self.registered.push(Box::new(set_up));
        self
    }

    /// Builds and starts the server: one task for each shard, on the tokio runtime that this is called in. It runs
    /// until the last [`Server`], [`Session`] and [`Link`](crate::Link) of it is dropped.
    ///
    /// # Errors
    /// [`BuildError`]
    pub fn build(self) -> Result<Server, BuildError> {
        self.config.validate()?;
        let server = Server::start(self.config, self.limits, self.table)?;
        for register in self.registered {
            register(&server)?;
        }
        Ok(server)
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
