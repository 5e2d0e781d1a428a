//! Registering hooks for all sessions and channels.

use std::future::Future;
use std::sync::Arc;

use bayeux_core::RemovalReason;
use bayeux_proto::{ByteString, ChannelTemplate};

use crate::authorizer::Authorizer;
use crate::context::Context;
use crate::error::{BuildError, SendError};
use crate::extension::{DynExtension, Extension};
use crate::hooks::{Added, Listener, Observer, OnTemplate, Registration, Removed};
use crate::message::{Incoming, Outcome, Subscribed};
use crate::server::Server;
use crate::session::{QueueOverflow, Session};

/// # Hooks
///
/// They count from the next message on. Listeners run one after the other, in the order of their registration; message
/// listeners first by channel, from the widest wildcard to the channel itself (rule A-21). Each of these is a method of
/// [`ServerBuilder`](crate::ServerBuilder), too.
impl Server {
    /// Calls `listener` with each message on the channels that `pattern` matches, before it goes on: service messages,
    /// publishes, meta messages. It may change or stop the message, and answer it.
    ///
    /// With variables in it, as in `/news/{category}`, it listens on all channels of that shape, behind the listeners on
    /// wildcards; [`Incoming::param`] has their values (rule C-10).
    ///
    /// Unlike a listener of [`Channel::on_message`](crate::Channel::on_message) it needs no channel, keeps none, and
    /// stays when one is removed.
    ///
    /// # Errors
    /// [`BuildError::Channel`] where `pattern` is no channel, [`BuildError::Template`] where it has variables and is no
    /// template.
    pub fn on_message<F, R>(&self, pattern: &str, listener: F) -> Result<Registration, BuildError>
    where
        F: Fn(Incoming) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Outcome>> + Send + 'static,
    {
        let listener = message_listener(listener);
        self.listen(pattern, listener)
    }

    /// As [`Server::on_message`].
    pub(crate) fn listen(
        &self,
        pattern: &str,
        listener: Listener<Incoming, Outcome>,
    ) -> Result<Registration, BuildError> {
        let channel = self.listening_on(pattern)?;
        let refused = |source| BuildError::Template { pattern: pattern.to_owned(), source };
        if let Some(template) = ChannelTemplate::parse(pattern, &self.config().channels).map_err(refused)? {
            let on = OnTemplate { template: Arc::new(template), listener };
            let id = self.registry().add(on, |table, entry| {
                table.templates.entry(entry.hook.template.segment_count()).or_default().push(entry);
            });
            return Ok(Registration::of_server(self, id));
        }
        let id = self.registry().add(listener, |table, entry| table.channel(&channel).messages.push(entry));
        Ok(Registration::of_server(self, id))
    }

    /// Has `authorizer` decide who may do what on a channel or, with a wildcard, on all channels that it matches (rule
    /// Creates the channel if it is absent: authorizers belong to channels.
    ///
    /// # Errors
    /// As [`Server::create_channel_if_absent`].
    pub fn add_authorizer(&self, channel: &str, authorizer: impl Authorizer) -> Result<Registration, SendError> {
        Ok(self.create_channel_if_absent(channel)?.add_authorizer(authorizer))
    }

    /// Adds an extension for all messages, behind those that were added before (rule A-30).
    pub fn add_extension(&self, extension: impl Extension) -> Registration {
        let extension = Arc::new(extension) as Arc<dyn DynExtension>;
        let id = self.registry().add(extension, |table, entry| table.extensions.push(entry));
        Registration::of_server(self, id)
    }

    /// Calls `listener` with each session after its handshake succeeded and before the reply is sent: what it delivers
    /// reaches the client behind that reply.
    pub fn on_session_added<F, R>(&self, listener: F) -> Registration
    where
        F: Fn(Session, Option<Arc<Context>>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener: Listener<Added, ()> = Arc::new(move |(session, context)| Box::pin(listener(session, context)));
        let id = self.registry().add(listener, |table, entry| table.session_added.push(entry));
        Registration::of_server(self, id)
    }

    /// Calls `listener` with each session that was removed, whatever the reason. The session can still be found by its
    /// id until all listeners are done.
    pub fn on_session_removed<F, R>(&self, listener: F) -> Registration
    where
        F: Fn(Session, RemovalReason) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener: Listener<Removed, ()> = Arc::new(move |(session, reason)| Box::pin(listener(session, reason)));
        let id = self.registry().add(listener, |table, entry| table.session_removed.push(entry));
        Registration::of_server(self, id)
    }

    /// Calls `listener` with each queue that was full, and what was done about it. Called inside the server's engine: it
    /// neither waits nor computes for long.
    pub fn on_queue_overflow(&self, listener: impl Fn(&QueueOverflow) + Send + Sync + 'static) -> Registration {
        let listener: Observer<QueueOverflow> = Arc::new(listener);
        let id = self.registry().add(listener, |table, entry| table.overflow.push(entry));
        Registration::of_server(self, id)
    }

    /// Calls `listener` with each subscription, before its reply is sent: what it delivers rides in that response.
    pub fn on_subscribed<F, R>(&self, listener: F) -> Registration
    where
        F: Fn(Subscribed) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener: Listener<Subscribed, ()> = Arc::new(move |subscribed| Box::pin(listener(subscribed)));
        let id = self.registry().add(listener, |table, entry| table.subscribed.push(entry));
        Registration::of_server(self, id)
    }

    /// Calls `listener` with each subscription that ended: by the client's wish, and then before its reply is sent, by
    /// the application's, or because the session was removed.
    pub fn on_unsubscribed<F, R>(&self, listener: F) -> Registration
    where
        F: Fn(Subscribed) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener: Listener<Subscribed, ()> = Arc::new(move |subscribed| Box::pin(listener(subscribed)));
        let id = self.registry().add(listener, |table, entry| table.unsubscribed.push(entry));
        Registration::of_server(self, id)
    }

    /// The normal form of a channel or pattern to listen on.
    fn listening_on(&self, pattern: &str) -> Result<ByteString, BuildError> {
        match crate::channel::pattern(pattern, self.config()) {
            Ok(channel) => Ok(channel.text().clone()),
            Err(source) => Err(BuildError::Channel { pattern: pattern.to_owned(), source }),
        }
    }
}

/// A message listener behind a pointer.
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
