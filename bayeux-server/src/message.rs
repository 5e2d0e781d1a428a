//! What listeners are given, and what they answer.

use std::sync::Arc;

use bayeux_proto::{
    BinaryData, BinaryError, ChannelKind, ChannelName, ChannelPattern, ErrorField, Event, Lazy, Message, Parameters,
    RawJson,
};
use serde::de::DeserializeOwned;

use crate::associated::Associated;
use crate::context::Context;
use crate::data::IntoData;
use crate::error::{DataError, SendError};
use crate::server::Server;
use crate::session::Session;

/// A message that a listener is given before it goes on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Incoming {
    /// Who sent it; `None` for the server's own publishes.
    pub session: Option<Session>,
    /// The message's channel, also for listeners on wildcards (rule A-22).
    pub channel: ChannelName,
    /// The message. On a broadcast channel it has neither `id` nor `clientId` (rule G-10).
    pub message: Arc<Message>,
    /// The request that it came with.
    pub context: Option<Arc<Context>>,
    pub(crate) server: Server,
    pub(crate) associated: Associated,
    pub(crate) parameters: Option<Arc<Parameters>>,
}

impl Incoming {
    /// Whether its channel is a meta channel.
    pub fn is_meta(&self) -> bool {
        self.channel.kind() == ChannelKind::Meta
    }

    /// The reply to come, to add to.
    pub fn associated(&self) -> &Associated {
        &self.associated
    }

    /// Says whether the message, a publish, may wait for its recipients' next response (rules ).
    pub fn set_lazy(&self, lazy: bool) {
        self.associated.set_lazy(if lazy { Lazy::Yes } else { Lazy::No });
    }

    /// The message's `data`; `null` where it has none (rule P-3).
    pub fn raw(&self) -> RawJson {
        self.message.data.clone().unwrap_or_else(RawJson::null)
    }

    /// Reads the message's `data` into a type.
    ///
    /// # Errors
    /// [`DataError`] where it does not have the shape of `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, DataError> {
        Ok(self.raw().to()?)
    }

    /// The message's binary data; `None` where it says that it has none (section XB).
    ///
    /// # Errors
    /// [`BinaryError`] where it says so and it is not true. With [`Config::binary`](bayeux_core::Config::binary) such a
    /// message is refused before anybody sees it.
    pub fn binary(&self) -> Result<Option<BinaryData>, BinaryError> {
        self.message.binary()
    }

    /// The value of a variable of the template that this listens on (rule C-10).
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params().find_map(|(other, value)| (other == name).then_some(value))
    }

    /// The variables of the template that this listens on, with their values, in the order of the template.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().flat_map(|all| all.iter()).map(|(name, value)| (&**name, &**value))
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Delivers something to the sender, on the message's channel.
    ///
    /// # Errors
    /// [`SendError`] where `data` does not serialise.
    pub fn deliver(&self, data: impl IntoData) -> Result<(), SendError> {
        let event = Event::new(self.channel.text().clone(), data.into_data()?);
        self.send(event)
    }

    /// Answers a remote call: a delivery to the sender with the message's channel and `id`, and `successful: true`
    /// (rule R-4). Answer once.
    ///
    /// # Errors
    /// [`SendError`] where `data` does not serialise.
    pub fn answer(&self, data: impl IntoData) -> Result<(), SendError> {
        self.result(true, Event::new(self.channel.text().clone(), data.into_data()?))
    }

    /// Fails a remote call, as [`Incoming::answer`] with `successful: false` (rule R-4).
    ///
    /// # Errors
    /// [`SendError`] where `data` does not serialise.
    pub fn fail(&self, data: impl IntoData) -> Result<(), SendError> {
        self.result(false, Event::new(self.channel.text().clone(), data.into_data()?))
    }

    /// Answers a remote call with binary data (rule R-10).
    ///
    /// # Errors
    /// [`SendError::Flooded`]
    pub fn answer_binary(&self, data: &BinaryData) -> Result<(), SendError> {
        self.result(true, Event::binary(self.channel.text().clone(), data))
    }

    fn result(&self, successful: bool, mut event: Event) -> Result<(), SendError> {
        event.id = self.message.id.clone();
        event.successful = Some(successful);
        self.send(event)
    }

    fn send(&self, event: Event) -> Result<(), SendError> {
        if let Some(session) = &self.session {
            session.deliver_event(event)?;
        }
        Ok(())
    }
}

/// What becomes of a message after a listener saw it. `()` is [`Outcome::Continue`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It goes on as it is.
    Continue,
    /// It goes on with other `data`.
    Data(RawJson),
    /// It goes on as this message.
    Message(Box<Message>),
    /// It goes nowhere, and its sender is told `404::message_deleted` (rule G-11).
    Veto,
    /// It goes nowhere, and its sender is told this error.
    Fail(ErrorField),
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Continue
    }
}

/// A session subscribed to a channel, or is not subscribed to it any more.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Subscribed {
    /// Who.
    pub session: Session,
    /// To what.
    pub channel: ChannelPattern,
    /// The message that asked for it, if one did.
    pub message: Option<Arc<Message>>,
    /// The request that it came with.
    pub context: Option<Arc<Context>>,
}
