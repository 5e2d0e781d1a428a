//! Extensions: interceptors of every message, in and out, for the server or for one session (section 21.4).

use std::borrow::Cow;
use std::fmt;
use std::future::Future;

use bayeux_proto::{Advice, ByteString, Event, Frozen, Message, RawJson, Reply};

use crate::message::{Incoming, Outcome};
use crate::policy::Boxed;
use crate::session::Session;

/// Sees every message on its way in and out, and may change or stop it (rules A-30 to A-35).
///
/// Registered with the server it sees all sessions' messages, with a [`Session`] those of that session alone. Incoming
/// runs in the order of registration, the server's before the session's; outgoing in reverse order, again the server's
/// before the session's. One that panics on a message on its way in, or does not answer, denies it, as every hook that
/// may wait; on its way out the message goes on, as far as it was changed (rule A-35).
///
/// Implement [`rcv`](Extension::rcv), [`rcv_meta`](Extension::rcv_meta), [`send`](Extension::send) and
/// [`send_meta`](Extension::send_meta), by kind of channel, or [`incoming`](Extension::incoming) and
/// [`outgoing`](Extension::outgoing), which by default call them.
///
/// # Example: who speaks for whom
///
/// ```
/// use bayeux_server::{Extension, OutgoingMessage};
/// use bayeux_server::proto::RawJson;
///
/// struct Origin;
///
/// impl Extension for Origin {
///     fn send(&self, message: &mut OutgoingMessage<'_>) -> bool {
///         message.set_ext("node", RawJson::from_text("eu-1"));
///         true
///     }
/// }
/// ```
pub trait Extension: Send + Sync + 'static {
    /// Which way it intercepts: the other way then costs nothing. Default: both.
    fn directions(&self) -> Directions {
        Directions::Both
    }

    /// A message came in, with or without a session (rule G-3). May wait; only its own connection does.
    fn incoming(&self, message: Incoming) -> impl Future<Output = Outcome> + Send {
        async move { if message.is_meta() { self.rcv_meta(message).await } else { self.rcv(message).await } }
    }

    /// A message is on its way out: a broadcast, once, before it is encoded for its subscribers; a delivery to one
    /// session; or a reply. Returns whether it goes on. A broadcast that does not is answered `404::message_deleted`, a
    /// reply that does not is not sent (rule A-32).
    ///
    /// Runs inside the server's engine, between two messages of everybody else: neither wait nor compute for long. What
    /// it delivers or publishes follows right after.
    fn outgoing(&self, message: &mut OutgoingMessage<'_>) -> bool {
        if message.is_meta() { self.send_meta(message) } else { self.send(message) }
    }

    /// A message that is no meta message came in.
    fn rcv(&self, message: Incoming) -> impl Future<Output = Outcome> + Send {
        let _ = message;
        async { Outcome::Continue }
    }

    /// A meta message came in.
    fn rcv_meta(&self, message: Incoming) -> impl Future<Output = Outcome> + Send {
        let _ = message;
        async { Outcome::Continue }
    }

    /// A message that is no meta message is on its way out.
    fn send(&self, message: &mut OutgoingMessage<'_>) -> bool {
        let _ = message;
        true
    }

    /// A meta message is on its way out.
    fn send_meta(&self, message: &mut OutgoingMessage<'_>) -> bool {
        let _ = message;
        true
    }
}

/// Which way an [`Extension`] intercepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directions {
    /// What comes in.
    Incoming,
    /// What goes out.
    Outgoing,
    /// Both.
    Both,
}

impl Directions {
    pub(crate) fn includes(self, direction: Self) -> bool {
        self == Self::Both || self == direction
    }
}

/// [`Extension`] behind a pointer.
pub(crate) trait DynExtension: Send + Sync {
    fn directions(&self) -> Directions;
    fn incoming(&self, message: Incoming) -> Boxed<'_, Outcome>;
    fn outgoing(&self, message: &mut OutgoingMessage<'_>) -> bool;
}

impl<E: Extension> DynExtension for E {
    fn directions(&self) -> Directions {
        Extension::directions(self)
    }

    fn incoming(&self, message: Incoming) -> Boxed<'_, Outcome> {
        Box::pin(Extension::incoming(self, message))
    }

    fn outgoing(&self, message: &mut OutgoingMessage<'_>) -> bool {
        Extension::outgoing(self, message)
    }
}

/// A message on its way out, open to change.
pub struct OutgoingMessage<'a> {
    from: Option<Session>,
    to: Option<Session>,
    body: Body<'a>,
}

enum Body<'a> {
    Event(&'a mut Event),
    /// An event that was encoded for all recipients. Decoded only where somebody looks into it.
    Frozen {
        event: &'a Frozen,
        thawed: Option<Box<Event>>,
        changed: bool,
    },
    Reply(&'a mut Reply),
}

impl<'a> OutgoingMessage<'a> {
    pub(crate) fn event(from: Option<Session>, to: Option<Session>, event: &'a mut Event) -> Self {
        Self { from, to, body: Body::Event(event) }
    }

    pub(crate) fn frozen(from: Option<Session>, to: Session, event: &'a Frozen) -> Self {
        Self { from, to: Some(to), body: Body::Frozen { event, thawed: None, changed: false } }
    }

    pub(crate) fn reply(to: Option<Session>, reply: &'a mut Reply) -> Self {
        Self { from: to.clone(), to, body: Body::Reply(reply) }
    }

    /// What to send instead of the encoded event, where somebody changed it.
    pub(crate) fn changed(self) -> Option<Frozen> {
        match self.body {
            Body::Frozen { thawed: Some(event), changed: true, .. } => Some(event.freeze()),
            Body::Frozen { .. } | Body::Event(_) | Body::Reply(_) => None,
        }
    }

    /// Who sent it: `None` for what the server itself sends.
    pub fn from(&self) -> Option<&Session> {
        self.from.as_ref()
    }

    /// Whom it goes to: `None` for a broadcast that is not encoded yet, and for replies to unknown sessions.
    pub fn to(&self) -> Option<&Session> {
        self.to.as_ref()
    }

    /// Its channel. Replies have the channel of their request as it was sent, or none.
    pub fn channel(&self) -> &str {
        match &self.body {
            Body::Event(event) => &event.channel,
            Body::Frozen { event, .. } => event.channel(),
            Body::Reply(reply) => reply.channel.as_deref().unwrap_or_default(),
        }
    }

    /// Whether its channel is a meta channel.
    pub fn is_meta(&self) -> bool {
        self.channel().starts_with("/meta/")
    }

    /// The reply, if it is one.
    pub fn as_reply(&mut self) -> Option<&mut Reply> {
        match &mut self.body {
            Body::Reply(reply) => Some(reply),
            Body::Event(_) | Body::Frozen { .. } => None,
        }
    }

    /// The event, if it is one: a broadcast or a delivery.
    pub fn as_event(&self) -> Option<Cow<'_, Event>> {
        match &self.body {
            Body::Event(event) => Some(Cow::Borrowed(event)),
            Body::Frozen { thawed: Some(event), .. } => Some(Cow::Borrowed(event)),
            Body::Frozen { event, thawed: None, .. } => Some(Cow::Owned(event.thaw())),
            Body::Reply(_) => None,
        }
    }

    /// The event, if it is one, to be changed. For an event that was encoded for all its recipients already this means
    /// an encoding of its own, so ask only where it is to be changed. Its channel and laziness stay.
    pub fn as_event_mut(&mut self) -> Option<&mut Event> {
        match &mut self.body {
            Body::Event(event) => Some(event),
            Body::Frozen { event, thawed, changed } => {
                *changed = true;
                Some(thawed.get_or_insert_with(|| Box::new(event.thaw())))
            }
            Body::Reply(_) => None,
        }
    }

    /// Its `data`. Replies have none.
    pub fn data(&self) -> Option<RawJson> {
        self.as_event()?.data.clone()
    }

    /// Changes its `data`. Replies have none, and get none.
    pub fn set_data(&mut self, data: RawJson) {
        if let Some(event) = self.as_event_mut() {
            event.data = Some(data);
        }
    }

    /// Its `ext`.
    pub fn ext(&self) -> Option<RawJson> {
        match &self.body {
            Body::Reply(reply) => reply.ext.clone(),
            Body::Event(_) | Body::Frozen { .. } => self.as_event()?.ext.clone(),
        }
    }

    /// Sets one member of its `ext`.
    pub fn set_ext(&mut self, name: &str, value: RawJson) {
        let member = RawJson::from_member(name, &value);
        let ext = match &mut self.body {
            Body::Reply(reply) => &mut reply.ext,
            Body::Event(_) | Body::Frozen { .. } => match self.as_event_mut() {
                Some(event) => &mut event.ext,
                None => return,
            },
        };
        *ext = Some(match ext.take() {
            Some(earlier) => earlier.overlaid_with(&member),
            None => member,
        });
    }

    /// Sets a field that has no meaning of its own. Names of fields that have one are ignored: see the typed ways.
    pub fn set_field(&mut self, name: &str, value: RawJson) {
        if Message::is_known_field(name) {
            return;
        }
        let key = ByteString::from(RawJson::from_text(name).as_str());
        let fields = match &mut self.body {
            Body::Reply(reply) => &mut reply.fields,
            Body::Event(_) | Body::Frozen { .. } => match self.as_event_mut() {
                Some(event) => &mut event.fields,
                None => return,
            },
        };
        fields.retain(|(other, _)| *other != key);
        fields.push((key, value));
    }

    /// Lays advice over that of a reply, field by field (rule V-24).
    pub fn advise(&mut self, advice: Advice) {
        if let Body::Reply(reply) = &mut self.body {
            reply.advice = reply.advice.overlaid_with(advice);
        }
    }
}

impl fmt::Debug for OutgoingMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingMessage")
            .field("channel", &self.channel())
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}
