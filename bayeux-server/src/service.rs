//! Services: typed handlers of service messages and remote calls (section 11, rule A-65).

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bayeux_proto::{ByteString, Event, MessageId, RawJson};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::context::Context;
use crate::data::IntoData;
use crate::effects;
use crate::error::{BuildError, DataError};
use crate::hooks::{Registration, caught};
use crate::message::{Incoming, Outcome};
use crate::server::Server;
use crate::session::Session;

mod calls;

pub(crate) use calls::Calls;

/// A service message or remote call, with its data read.
#[derive(Debug, Clone)]
pub struct Call<T> {
    /// The data of the message.
    pub data: T,
    session: Session,
    message: Incoming,
}

impl<T> Call<T> {
    /// Who calls.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The server.
    pub fn server(&self) -> &Server {
        self.message.server()
    }

    /// The channel of the message, that of the call's target.
    pub fn channel(&self) -> &str {
        self.message.channel.as_str()
    }

    /// The value of a variable of the template that the service listens on.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.message.param(name)
    }

    /// The request that the message came with.
    pub fn context(&self) -> Option<&Context> {
        self.message.context.as_deref()
    }

    /// The message itself.
    pub fn message(&self) -> &Incoming {
        &self.message
    }
}

/// The failure of a call: what its caller gets as data, with `successful: false` (rule R-4).
///
/// Every error converts into one, so that `?` works: its data is then `{"class": …, "message": …}`, with the error's type
/// and text. Do not let texts out that are not the caller's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError(RawJson);

impl CallError {
    /// A failure with the data that CometD gives exceptions: a class, which clients can tell apart, and a text.
    pub fn new(class: &str, message: &str) -> Self {
        // Serialising two texts does not fail.
        Self(RawJson::from_serialize(&json!({"class": class, "message": message})).unwrap_or_else(|_| RawJson::null()))
    }

    /// A failure with data of one's own.
    ///
    /// # Errors
    /// [`DataError`] where the data does not serialise.
    pub fn with_data(data: impl IntoData) -> Result<Self, DataError> {
        Ok(Self(data.into_data()?))
    }

    /// What the caller gets.
    pub fn data(&self) -> &RawJson {
        &self.0
    }
}

impl<E: std::error::Error> From<E> for CallError {
    fn from(error: E) -> Self {
        let path = std::any::type_name::<E>();
        let path = path.split('<').next().unwrap_or(path);
        let class = path.rsplit("::").next().unwrap_or(path);
        Self::new(class, &error.to_string())
    }
}

/// # Services
impl Server {
    /// Answers remote calls of `target` (rules R-1 to R-4): what `handler` returns goes to the caller, and to it alone.
    /// `target` is what clients call, as in `cometd.remoteCall("rooms/join", …)`; it may have variables as in
    /// `rooms/{room}/join`.
    ///
    /// The call has an answer of its own, beside the reply to its message. A handler that is ready at once answers in the
    /// same response; one that is not runs on by itself, while the caller's next messages are processed, until it
    /// answers, until [`Config::decision_timeout`](crate::Config) (its caller then gets the class `Timeout`), or until
    /// the caller's session is removed, when it is dropped. Data that is no `T`, and a panic, are failures, too. A
    /// session has 64 calls running at most; beyond it calls fail with the class `Busy`.
    ///
    /// # Errors
    /// As [`Server::on_message`].
    ///
    /// # Example
    ///
    /// ```
    /// # async fn build() -> Result<(), bayeux_server::BuildError> {
    /// use bayeux_server::{Call, CallError, Config, Server};
    ///
    /// let server = Server::builder(Config::default()).build()?;
    /// server.remote_call("divide", |call: Call<(f64, f64)>| async move {
    ///     let (dividend, divisor) = call.data;
    ///     if divisor == 0.0 { Err(CallError::new("Division", "by zero")) } else { Ok(dividend / divisor) }
    /// })?;
    /// # Ok(()) }
    /// ```
    pub fn remote_call<T, O, F, R>(&self, target: &str, handler: F) -> Result<Registration, BuildError>
    where
        T: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        F: Fn(Call<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, CallError>> + Send + 'static,
    {
        self.serve(&channel_of(target), handler, Answers::Call, None)
    }

    /// Handles service messages on `channel` (rules P-11, A-65). What `handler` returns is delivered to the sender on the
    /// same channel, unless it is `null` in JSON, as `()` and `None` are. It runs as a remote call does; a failure is
    /// logged, and nobody is told.
    ///
    /// # Errors
    /// As [`Server::on_message`].
    pub fn service<T, O, F, R>(&self, channel: &str, handler: F) -> Result<Registration, BuildError>
    where
        T: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        F: Fn(Call<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, CallError>> + Send + 'static,
    {
        self.serve(channel, handler, Answers::Message, None)
    }

    /// Binds all methods of a service.
    ///
    /// # Errors
    /// As [`Server::on_message`], for the first that cannot be bound.
    pub fn bind<S: Send + Sync + 'static>(&self, service: Service<S>) -> Result<(), BuildError> {
        service.methods.into_iter().try_for_each(|bind| bind(self, service.timeout))
    }

    fn serve<T, O, F, R>(
        &self,
        channel: &str,
        handler: F,
        answers: Answers,
        timeout: Option<Duration>,
    ) -> Result<Registration, BuildError>
    where
        T: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        F: Fn(Call<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, CallError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.on_message(channel, move |message: Incoming| {
            let handler = Arc::clone(&handler);
            async move {
                // The server's own publishes call nobody (rule R-11).
                let Some(session) = message.session.clone() else { return Outcome::Continue };
                let caller = Caller::new(session.clone(), &message, answers);
                let data = match message.data::<T>() {
                    Ok(data) => data,
                    Err(error) => {
                        caller.answer(Err(CallError::new("InvalidData", &error.to_string())));
                        return Outcome::Continue;
                    }
                };
                let call = Call { data, session, message };
                let timeout = timeout.unwrap_or_else(|| caller.session.server().config().decision_timeout);
                run(caller, timeout, async move { handler(call).await.and_then(|value| Ok((&value).into_data()?)) })
                    .await;
                Outcome::Continue
            }
        })
    }
}

/// What a handler's result becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// The result of a remote call.
    Call,
    /// A message, unless it is `null`.
    Message,
}

/// What a handler comes to.
type Answer = Result<RawJson, CallError>;

/// Whom the answer goes to.
struct Caller {
    session: Session,
    channel: ByteString,
    id: Option<MessageId>,
    answers: Answers,
}

impl Caller {
    fn new(session: Session, message: &Incoming, answers: Answers) -> Self {
        let channel = ByteString::from(message.channel.as_str());
        Self { session, channel, id: message.message.id.as_ref().map(MessageId::detach), answers }
    }

    fn answer(&self, result: Answer) {
        let sent = match (self.answers, result) {
            (Answers::Call, result) => {
                let successful = result.is_ok();
                let mut event = Event::new(self.channel.clone(), result.unwrap_or_else(|failure| failure.0));
                event.id = self.id.clone();
                event.successful = Some(successful);
                self.session.deliver_event(event)
            }
            (Answers::Message, Ok(data)) if data.is_null() => Ok(()),
            (Answers::Message, Ok(data)) => self.session.deliver_event(Event::new(self.channel.clone(), data)),
            (Answers::Message, Err(failure)) => {
                tracing::warn!(channel = %self.channel, failure = failure.0.as_str(), "a service failed");
                Ok(())
            }
        };
        if let Err(error) = sent {
            tracing::error!(channel = %self.channel, %error, "an answer is lost");
        }
    }
}

/// Runs a handler: as far as it gets at once, in the hook; the rest by itself.
async fn run(caller: Caller, timeout: Duration, handler: impl Future<Output = Answer> + Send + 'static) {
    let handler = async move {
        caught(handler).await.unwrap_or_else(|| {
            tracing::error!("a service panicked");
            Err(CallError::new("Panic", "the service failed"))
        })
    };
    let mut handler: Pin<Box<dyn Future<Output = Answer> + Send>> = Box::pin(handler);
    let begun = poll_fn(|cx| Poll::Ready(handler.as_mut().poll(cx))).await;
    if let Poll::Ready(result) = begun {
        caller.answer(result);
        return;
    }
    let server = caller.session.server().clone();
    let Some(slot) = server.calls().begin(caller.session.id()) else {
        caller.answer(Err(CallError::new("Busy", "too many calls are running")));
        return;
    };
    // What it did so far comes first.
    let applied = effects::applied();
    let ended = slot.ended();
    server.inner().runtime.spawn(async move {
        applied.await;
        let timed_out = || Err(CallError::new("Timeout", "the service did not answer in time"));
        let answered = async { tokio::time::timeout(timeout, handler).await.unwrap_or_else(|_| timed_out()) };
        tokio::select! {
            result = answered => caller.answer(result),
            () = ended => {}
        }
        drop(slot);
    });
}

/// The channel of a call's target (rule R-1).
fn channel_of(target: &str) -> String {
    if target.starts_with("/service/") {
        target.to_owned()
    } else if target.starts_with('/') {
        format!("/service{target}")
    } else {
        format!("/service/{target}")
    }
}

/// The methods of one struct, to be bound to channels: what CometD does with annotations.
///
/// ```
/// use std::sync::Arc;
/// use bayeux_server::{Call, CallError, Service};
///
/// #[derive(Default)]
/// struct Rooms;
///
/// impl Rooms {
///     async fn join(self: Arc<Self>, call: Call<String>) -> Result<String, CallError> {
///         Ok(format!("{} is in {}", call.data, call.param("room").unwrap_or_default()))
///     }
///
///     async fn leave(self: Arc<Self>, call: Call<()>) -> Result<(), CallError> {
///         let _ = call;
///         Ok(())
///     }
/// }
///
/// let service = Service::new(Rooms::default()).call("rooms/{room}/join", Rooms::join).listen("/service/leave", Rooms::leave);
/// # let _ = service;
/// ```
#[must_use = "a service does nothing until it is bound to a server"]
pub struct Service<S> {
    instance: Arc<S>,
    timeout: Option<Duration>,
    methods: Vec<Bind>,
}

type Bind = Box<dyn FnOnce(&Server, Option<Duration>) -> Result<(), BuildError> + Send>;

impl<S: Send + Sync + 'static> Service<S> {
    /// A service without methods.
    pub fn new(instance: impl Into<Arc<S>>) -> Self {
        Self { instance: instance.into(), timeout: None, methods: Vec::new() }
    }

    /// How long its calls may take. Default: [`Config::decision_timeout`](crate::Config).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Answers remote calls of `target`: see [`Server::remote_call`].
    pub fn call<T, O, F, R>(self, target: &str, method: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        F: Fn(Arc<S>, Call<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, CallError>> + Send + 'static,
    {
        self.with(channel_of(target), method, Answers::Call)
    }

    /// Handles messages on `channel`: see [`Server::service`].
    pub fn listen<T, O, F, R>(self, channel: &str, method: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        F: Fn(Arc<S>, Call<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, CallError>> + Send + 'static,
    {
        self.with(channel.to_owned(), method, Answers::Message)
    }

    fn with<T, O, F, R>(mut self, channel: String, method: F, answers: Answers) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        F: Fn(Arc<S>, Call<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, CallError>> + Send + 'static,
    {
        let instance = Arc::clone(&self.instance);
        self.methods.push(Box::new(move |server, timeout| {
            let handler = move |call| method(Arc::clone(&instance), call);
            server.serve(&channel, handler, answers, timeout).map(drop)
        }));
        self
    }
}

impl<S> fmt::Debug for Service<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("methods", &self.methods.len()).finish_non_exhaustive()
    }
}
