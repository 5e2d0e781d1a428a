//! Local sessions: clients inside the server's own process (section 21.6).
//!
//! # Theory of operation
//!
//! A local session is a connection like any other, of a transport that needs no sockets: its messages pass through the
//! same pipeline as everybody's, policy and listeners included. While it is handshaken, a task drives its link. What
//! arrives is sorted there: replies and results of calls wake those who wait for them, messages go on to a second task
//! that calls listeners one message after the other, so that a listener may wait, and publish, without holding up the
//! replies that it waits for.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bayeux_core::{LinkFacts, Transport};
use bayeux_proto::{Batch, ByteString, ChannelName, ChannelPattern, Message, MessageId, RawJson, meta};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use crate::channel::pattern;
use crate::context::Origin;
use crate::data::IntoData;
use crate::error::{DataError, SendError};
use crate::server::Server;
use crate::session::Session;

mod drive;
mod state;

use drive::{drive, first_reply};
use state::{Forget, Heard, LocalListener, Online, Shared};

/// A session of this process, with the interface of a client: it handshakes, subscribes, publishes and calls like any
/// other, and is asked by policies like any other. It never expires, and its queue has no limit: what it is sent, it
/// takes at once.
///
/// Cheap to clone; all clones are the same client. When the last one is dropped, its session is removed. A listener that
/// holds a clone keeps it: then [`LocalSession::disconnect`] ends it.
///
/// Made by [`Server::local_session`].
///
/// ```
/// # use bayeux_server::{Config, Server};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder(Config::default()).build()?;
/// let robot = server.local_session("robot");
/// robot.handshake().await?;
/// let (heard, mut hear) = tokio::sync::mpsc::unbounded_channel();
/// robot.subscribe("/chat/*", move |message| {
///     let _ = heard.send(message.data::<String>());
///     async {}
/// }).await?;
/// server.publish("/chat/rust", "hello").await?;
/// assert_eq!(hear.recv().await.unwrap()?, "hello");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LocalSession(Arc<Handle>);

/// What all clones share. Its end is the session's.
struct Handle {
    server: Server,
    hint: ByteString,
    /// One handshake at a time.
    handshaking: tokio::sync::Mutex<()>,
    /// One change of the subscriptions at a time.
    subscribing: tokio::sync::Mutex<()>,
    shared: Arc<Shared>,
}

/// A message that a [`LocalSession`] received.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LocalMessage {
    /// Its channel.
    pub channel: ChannelName,
    /// The message.
    pub message: Arc<Message>,
}

impl LocalMessage {
    /// The message's `data`; `null` where it has none.
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
}

/// Sees the messages of one [`LocalSession`] on its side of the wire, and may change or stop them: incoming ones in the
/// order of registration, outgoing ones in reverse order (rule CL-50).
pub trait LocalExtension: Send + Sync + 'static {
    /// A message was received. `false` drops it.
    fn incoming(&self, message: &mut Message) -> bool {
        let _ = message;
        true
    }

    /// A message is to be sent. `false` drops it; whoever sent it is told [`LocalError::Deleted`].
    fn outgoing(&self, message: &mut Message) -> bool {
        let _ = message;
        true
    }
}

/// Why something that a [`LocalSession`] wanted failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// It has no session: it did not handshake yet, or the session was disconnected or removed.
    #[error("there is no session")]
    NoSession,
    /// It has a session already.
    #[error("the session is there already")]
    Handshaken,
    /// The server refused, with this error.
    #[error("refused: {0}")]
    Refused(ByteString),
    /// The `ext` of a handshake is no object.
    #[error("ext must be an object")]
    Ext,
    /// An extension of the local session stopped the message.
    #[error("an extension deleted the message")]
    Deleted,
    /// No answer came in time: to a call (rule R-8), or to a message whose reply an extension of the server stopped.
    #[error("no answer in time")]
    Timeout,
    /// The call failed, with this result (rule R-4).
    #[error("the call failed: {}", .0.as_str())]
    Failed(RawJson),
    /// What was to be sent cannot be sent.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl From<DataError> for LocalError {
    fn from(error: DataError) -> Self {
        Self::Send(error.into())
    }
}

/// A listener of a [`LocalSession`], to be removed again. Dropping it changes nothing.
#[must_use = "or let go of it: the listener stays"]
pub struct LocalRegistration {
    session: LocalSession,
    channel: ByteString,
    id: u64,
}

impl LocalRegistration {
    /// Takes the listener out. With the last one that subscribed to a channel, the subscription ends too.
    ///
    /// # Errors
    /// [`LocalError`] where the server refuses that.
    pub async fn remove(self) -> Result<(), LocalError> {
        let _alone = self.session.0.subscribing.lock().await;
        let shared = &self.session.0.shared;
        let before = shared.is_subscribed(&self.channel);
        shared.forget_listener(&self.channel, self.id);
        let last = before && !shared.is_subscribed(&self.channel);
        if !last || !self.session.is_handshaken() {
            return Ok(());
        }
        let mut message = Message::new(meta::UNSUBSCRIBE);
        message.subscription = Some(RawJson::from_text(&self.channel));
        self.session.exchange(message).await.map(drop)
    }
}

impl Server {
    /// A client inside this process. `hint` stands in front of its session's id: up to 64 letters, digits and hyphens
    /// of it (rule A-62).
    pub fn local_session(&self, hint: &str) -> LocalSession {
        LocalSession(Arc::new(Handle {
            server: self.clone(),
            hint: hint.into(),
            handshaking: tokio::sync::Mutex::default(),
            subscribing: tokio::sync::Mutex::default(),
            shared: Arc::default(),
        }))
    }
}

/// # Its session
impl LocalSession {
    /// Handshakes, and yields the session. After the end of that session, whatever ended it, handshaking anew gives a
    /// new one; subscriptions are gone then, listeners without subscription stay.
    ///
    /// # Errors
    /// [`LocalError::Refused`] where the policy refuses; [`LocalError::Handshaken`] where there is a session.
    pub async fn handshake(&self) -> Result<Session, LocalError> {
        self.handshake_with(None).await
    }

    /// As [`LocalSession::handshake`], with `ext` of the handshake message, such as credentials.
    ///
    /// # Errors
    /// As [`LocalSession::handshake`]; [`LocalError::Ext`].
    pub async fn handshake_with(&self, ext: Option<RawJson>) -> Result<Session, LocalError> {
        let _alone = self.0.handshaking.lock().await;
        if self.is_handshaken() {
            return Err(LocalError::Handshaken);
        }
        if ext.as_ref().is_some_and(|ext| !ext.as_str().starts_with('{')) {
            return Err(LocalError::Ext);
        }
        let Handle { server, hint, shared, .. } = &*self.0;
        shared.go_offline(None);
        let mut message = Message::new(meta::HANDSHAKE);
        message.client_id = Some(hint.clone());
        message.ext = ext;
        let facts = LinkFacts { transport: Transport::Local, http2: false, browser: None };
        let mut link = server.connect(facts, Origin::default());
        let patience = server.config().decision_timeout * DECISIONS;
        let reply = tokio::time::timeout(patience, first_reply(&mut link, shared, message));
        let reply = reply.await.map_err(|_| LocalError::Timeout)??;
        let id = reply.client_id.as_deref().and_then(|id| server.session(id));
        let session = id.ok_or(LocalError::NoSession)?;
        let (send, messages) = mpsc::channel(WAITING_MAX);
        shared.lock().online = Some(Online { id: session.id().clone(), send });
        server.inner().runtime.spawn(drive(link, Arc::clone(shared), messages, session.id().clone()));
        // Its only connect: it says that the client is there, once and for all (rule A-61).
        let mut connect = Message::new(meta::CONNECT);
        connect.connection_type = Some(RawJson::from_text(Transport::Local.as_str()));
        connect.advice = Some(RawJson::from_serialize(&NoWaiting { timeout: 0 }).map_err(DataError::from)?);
        let mut offline = Offline { shared: Some(shared) };
        self.exchange(connect).await?;
        offline.shared = None;
        Ok(session)
    }

    /// The session, while it lives.
    pub fn session(&self) -> Option<Session> {
        let id = self.0.shared.lock().online.as_ref().map(|online| online.id.clone())?;
        self.0.server.session(id.as_str())
    }

    /// Whether it has a session.
    pub fn is_handshaken(&self) -> bool {
        self.session().is_some()
    }

    /// Ends the session. Does nothing where there is none.
    ///
    /// # Errors
    /// [`LocalError::Deleted`]
    pub async fn disconnect(&self) -> Result<(), LocalError> {
        let Some(id) = self.0.shared.lock().online.as_ref().map(|online| online.id.clone()) else { return Ok(()) };
        match self.exchange(Message::new(meta::DISCONNECT)).await {
            Ok(_) | Err(LocalError::NoSession | LocalError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        self.0.shared.go_offline(Some(&id));
        Ok(())
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.0.server
    }
}

/// # Messages
impl LocalSession {
    /// Publishes, and waits for the reply, and so for all who decide on the message.
    ///
    /// # Errors
    /// [`LocalError::Refused`] where the server refuses; [`LocalError::Send`] where this cannot be sent.
    pub async fn publish(&self, channel: &str, data: impl IntoData) -> Result<(), LocalError> {
        let message = self.publish_message(channel, data)?;
        self.exchange(message).await.map(drop)
    }

    /// Publishes several messages in one envelope, and waits for all replies.
    ///
    /// # Errors
    /// That of the first message which failed; the others were sent all the same.
    pub async fn batch(&self, fill: impl FnOnce(&mut LocalBatch<'_>)) -> Result<(), LocalError> {
        let mut batch = LocalBatch { session: self, messages: Vec::new(), error: None };
        fill(&mut batch);
        let LocalBatch { messages, error, .. } = batch;
        if let Some(error) = error {
            return Err(error);
        }
        let mut failed = None;
        for reply in self.exchange_all(messages).await? {
            let replied = reply.await;
            failed = failed.or_else(|| replied.and_then(successful).err());
        }
        failed.map_or(Ok(()), Err)
    }

    /// Subscribes to a channel or pattern, and calls `listener` with each message that comes through it, one after the
    /// other. Several listeners of one channel share a subscription.
    ///
    /// # Errors
    /// [`LocalError::Refused`] where the server refuses.
    pub async fn subscribe<F, R>(&self, channel: &str, listener: F) -> Result<LocalRegistration, LocalError>
    where
        F: Fn(LocalMessage) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let name = self.pattern(channel)?;
        let shared = &self.0.shared;
        let _alone = self.0.subscribing.lock().await;
        let first = !shared.is_subscribed(name.as_str());
        // It listens before the subscription is there: what comes with it is not to be missed.
        let registration = self.listen(&name, Arc::new(move |message| Box::pin(listener(message))));
        let mut unsubscribed = Unsubscribed { shared: Some(shared), channel: name.text().clone(), id: registration.id };
        if first {
            let mut message = Message::new(meta::SUBSCRIBE);
            message.subscription = Some(RawJson::from_text(name.as_str()));
            self.exchange(message).await?;
        }
        unsubscribed.shared = None;
        shared.subscribed(name.as_str(), registration.id);
        Ok(registration)
    }

    /// Calls `listener` with each message on a channel or pattern, whatever brought it here: a subscription, a delivery
    /// to this session, or the server's answer on a meta channel.
    ///
    /// # Errors
    /// [`LocalError::Send`] where `channel` is no channel.
    pub fn add_listener<F, R>(&self, channel: &str, listener: F) -> Result<LocalRegistration, LocalError>
    where
        F: Fn(LocalMessage) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let name = self.pattern(channel)?;
        Ok(self.listen(&name, Arc::new(move |message| Box::pin(listener(message)))))
    }

    /// Calls a remote procedure of this server, and waits for its result for `timeout` at most (section R).
    ///
    /// # Errors
    /// [`LocalError::Failed`] with what a failed call yields; [`LocalError::Timeout`]; [`LocalError::Refused`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        target: &str,
        data: impl IntoData,
        timeout: Duration,
    ) -> Result<T, LocalError> {
        // Rule R-1.
        let channel = format!("/service/{}", target.trim_start_matches('/'));
        let mut message = self.publish_message(&channel, data)?;
        let id = self.0.shared.next_id();
        message.id = Some(MessageId::Text(id.clone()));
        let (answer, answered) = oneshot::channel();
        // Before the message leaves (rule R-2).
        self.0.shared.lock().calls.insert(id.clone(), answer);
        let forget = Forget { shared: &self.0.shared, id };
        let result = tokio::time::timeout(timeout, async {
            self.exchange(message).await?;
            answered.await.map_err(|_| LocalError::NoSession)
        });
        let result = result.await.map_err(|_| LocalError::Timeout)??;
        drop(forget);
        let data = result.data.clone().unwrap_or_else(RawJson::null);
        if result.successful() == Some(true) {
            Ok(data.to().map_err(DataError::from)?)
        } else {
            Err(LocalError::Failed(data))
        }
    }

    /// Adds an extension, behind those that were added before.
    pub fn add_extension(&self, extension: impl LocalExtension) {
        self.0.shared.lock().extensions.push(Arc::new(extension));
    }

    fn pattern(&self, channel: &str) -> Result<ChannelPattern, SendError> {
        Ok(pattern(channel, self.0.server.config())?)
    }

    fn listen(&self, channel: &ChannelPattern, listener: LocalListener) -> LocalRegistration {
        let id = self.0.shared.ids.fetch_add(1, Ordering::Relaxed);
        let heard = Heard { id, listener, subscribed: false };
        self.0.shared.lock().listeners.entry(channel.text().clone()).or_default().push(heard);
        LocalRegistration { session: self.clone(), channel: channel.text().clone(), id }
    }

    fn publish_message(&self, channel: &str, data: impl IntoData) -> Result<Message, LocalError> {
        let channel = self.0.server.channel_name(channel)?;
        let mut message = Message::new(channel.text().clone());
        message.data = Some(data.into_data()?);
        Ok(message)
    }

    /// Sends a message and waits for its reply, which must be a success.
    async fn exchange(&self, message: Message) -> Result<Message, LocalError> {
        let replies = self.exchange_all(vec![message]).await?;
        let reply = replies.into_iter().next().ok_or(LocalError::Deleted)?;
        successful(reply.await?)
    }

    /// Sends an envelope. Yields the replies to come, in the order of the messages.
    async fn exchange_all(
        &self,
        messages: Vec<Message>,
    ) -> Result<Vec<impl Future<Output = Result<Message, LocalError>> + use<>>, LocalError> {
        let shared = &self.0.shared;
        let mut batch = Batch::default();
        let mut replies = Vec::with_capacity(messages.len());
        let (client_id, send, extensions) = {
            let state = shared.lock();
            let Some(Online { id, send }) = &state.online else { return Err(LocalError::NoSession) };
            (ByteString::from(id.as_str()), send.clone(), state.extensions.clone())
        };
        // Before anybody waits for a reply: from here on nothing does.
        let place = send.reserve_owned().await.map_err(|_| LocalError::NoSession)?;
        for mut message in messages {
            let id = match &message.id {
                Some(MessageId::Text(id)) => id.clone(),
                Some(_) | None => shared.next_id(),
            };
            message.id = Some(MessageId::Text(id.clone()));
            message.client_id = Some(client_id.clone());
            let (reply, replied) = oneshot::channel();
            if extensions.iter().rev().all(|extension| extension.outgoing(&mut message)) {
                // Whatever extensions did to it (rule CL-50).
                message.id = Some(MessageId::Text(id.clone()));
                batch.bytes += message.data.as_ref().map_or(0, |data| data.as_str().len());
                batch.messages.push(message);
                shared.lock().replies.insert(id, reply);
                replies.push((replied, LocalError::NoSession));
            } else {
                replies.push((replied, LocalError::Deleted));
            }
        }
        if !batch.messages.is_empty() {
            place.send(batch);
        }
        // A reply that an extension of the server stops never comes; anything else is decided by then.
        let patience = self.server().config().decision_timeout * DECISIONS;
        let waiting = move |(reply, error): (oneshot::Receiver<Result<Message, LocalError>>, LocalError)| async move {
            match tokio::time::timeout(patience, reply).await {
                Ok(replied) => replied.map_err(|_| error)?,
                Err(_) => Err(LocalError::Timeout),
            }
        };
        Ok(replies.into_iter().map(waiting).collect())
    }
}

/// Messages that leave together: see [`LocalSession::batch`].
#[derive(Debug)]
pub struct LocalBatch<'a> {
    session: &'a LocalSession,
    messages: Vec<Message>,
    error: Option<LocalError>,
}

impl LocalBatch<'_> {
    /// Adds a publish. What cannot be sent fails the whole batch, before anything is sent.
    pub fn publish(&mut self, channel: &str, data: impl IntoData) -> &mut Self {
        match self.session.publish_message(channel, data) {
            Ok(message) => self.messages.push(message),
            Err(error) => self.error = self.error.take().or(Some(error)),
        }
        self
    }
}

/// Takes a handshake back that did not come to its end.
struct Offline<'a> {
    shared: Option<&'a Shared>,
}

impl Drop for Offline<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared {
            shared.go_offline(None);
        }
    }
}

/// Takes a listener out whose subscription did not come to be.
struct Unsubscribed<'a> {
    shared: Option<&'a Shared>,
    channel: ByteString,
    id: u64,
}

impl Drop for Unsubscribed<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared {
            shared.forget_listener(&self.channel, self.id);
        }
    }
}

/// The advice of a connect that is not to be held.
#[derive(serde::Serialize)]
struct NoWaiting {
    timeout: u32,
}

/// More decisions than are made about one message, each of which may take its time.
const DECISIONS: u32 = 8;

/// Envelopes that may wait for the engine to take them.
const WAITING_MAX: usize = 64;

fn successful(reply: Message) -> Result<Message, LocalError> {
    if reply.successful() == Some(true) {
        return Ok(reply);
    }
    Err(LocalError::Refused(reply.error().unwrap_or_else(|| ByteString::from_static("402::session_unknown"))))
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The link ends with what feeds it, and the session with its link.
        self.shared.lock().online = None;
    }
}

impl fmt::Debug for LocalSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSession").field("hint", &self.0.hint).field("session", &self.session()).finish()
    }
}

impl fmt::Debug for LocalRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRegistration").field("channel", &self.channel).finish_non_exhaustive()
    }
}
