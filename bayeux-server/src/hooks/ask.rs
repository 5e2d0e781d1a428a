//! The running of hooks that may wait: one question of an engine, one task, one verdict.

use std::sync::Arc;

use bayeux_core::{Point, Question, Ruling, Verdict};
use bayeux_proto::{ByteString, ChannelName, ChannelPattern, Message};

use crate::associated::Associated;
use crate::authorizer::{self, Operation};
use crate::context::Context;
use crate::extension::{Directions, DynExtension};
use crate::hooks::{Bound, Entry, Listener, Table, caught};
use crate::message::{Incoming, Outcome, Subscribed};
use crate::policy::Asked;
use crate::server::Server;
use crate::session::{Facts, Session};

/// A question on its way to the hooks.
pub(crate) struct Asking {
    pub(crate) server: Server,
    pub(crate) question: Question,
    /// Whose message it is: at a handshake, the session that it would make.
    pub(crate) session: Option<Arc<Facts>>,
    pub(crate) context: Option<Arc<Context>>,
    pub(crate) associated: Associated,
}

impl Asking {
    /// Asks the hooks. A panic in one is a no.
    pub(crate) async fn answer(self) -> Verdict {
        let point = self.question.point.clone();
        let associated = self.associated.clone();
        match caught(self.ask()).await {
            Some(verdict) => associated.add_to(verdict),
            None => {
                tracing::error!(?point, "a hook panicked; its message is denied");
                Verdict::deny()
            }
        }
    }

    async fn ask(self) -> Verdict {
        let table = self.server.registry().table();
        match self.question.point.clone() {
            Point::Incoming => self.extend(&table).await,
            Point::Handshake => match &table.policy {
                Some(policy) => policy.can_handshake(self.asked()).await,
                None => Verdict::allow(),
            },
            Point::Create(channel) => {
                let allowed = match &table.policy {
                    Some(policy) => policy.can_create(channel.clone(), self.asked()).await,
                    None => Verdict::allow(),
                };
                self.authorize(&table, allowed, Operation::Create, &channel).await
            }
            Point::Subscribe(channel) => {
                let allowed = match &table.policy {
                    Some(policy) => policy.can_subscribe(channel.clone(), self.asked()).await,
                    None => Verdict::allow(),
                };
                self.authorize(&table, allowed, Operation::Subscribe, &channel).await
            }
            Point::Publish(channel) => {
                let allowed = match &table.policy {
                    Some(policy) => policy.can_publish(channel.clone(), self.asked()).await,
                    None => Verdict::allow(),
                };
                self.authorize(&table, allowed, Operation::Publish, channel.as_pattern()).await
            }
            Point::Listen(channel) => {
                let listeners = table.listeners(&channel);
                self.listen(listeners, channel).await
            }
            Point::Handshaken => {
                if let Some(session) = self.session() {
                    for listener in &table.session_added {
                        (listener.hook)((session.clone(), self.context.clone())).await;
                    }
                    for listener in &session.hooks().added {
                        (listener.hook)((session.clone(), self.context.clone())).await;
                    }
                }
                Verdict::allow()
            }
            Point::Subscribed(channel) => {
                let own = table.channels.get(channel.as_str()).map(|hooks| &*hooks.subscribed).unwrap_or_default();
                let sessions = self.session().map(|session| session.hooks());
                let sessions = sessions.as_ref().map(|hooks| &*hooks.subscribed).unwrap_or_default();
                self.tell([own, &table.subscribed, sessions], channel).await;
                Verdict::allow()
            }
            Point::Unsubscribed(channel) => {
                let own = table.channels.get(channel.as_str()).map(|hooks| &*hooks.unsubscribed).unwrap_or_default();
                let sessions = self.session().map(|session| session.hooks());
                let sessions = sessions.as_ref().map(|hooks| &*hooks.unsubscribed).unwrap_or_default();
                self.tell([own, &table.unsubscribed, sessions], channel).await;
                Verdict::allow()
            }
            _ => Verdict::allow(),
        }
    }

    /// Extensions: the server's, then the session's (rule G-3).
    async fn extend(self, table: &Table) -> Verdict {
        // A wildcard meta channel is no channel of a message, and is refused behind the extensions anyhow.
        let channel = self.question.message.channel.as_ref();
        let Some(channel) = channel.and_then(|text| self.server.normalised(text)) else { return Verdict::allow() };
        let session = self.session().map(|session| session.hooks());
        let own = session.iter().flat_map(|hooks| &hooks.extensions);
        let extensions: Vec<Arc<dyn DynExtension>> = table
            .extensions
            .iter()
            .chain(own)
            .filter(|extension| extension.hook.directions().includes(Directions::Incoming))
            .map(|extension| Arc::clone(&extension.hook))
            .collect();
        let mut passing = Passing::new(&self, channel);
        for extension in extensions {
            let incoming = passing.incoming();
            if let Some(stopped) = passing.take(extension.incoming(incoming).await) {
                return stopped;
            }
        }
        passing.verdict()
    }

    /// Channel listeners (rule G-11).
    async fn listen(self, listeners: Vec<Bound>, channel: ChannelName) -> Verdict {
        let mut passing = Passing::new(&self, channel);
        for (listener, parameters) in listeners {
            let incoming = Incoming { parameters, ..passing.incoming() };
            if let Some(stopped) = passing.take(listener(incoming).await) {
                return stopped;
            }
        }
        passing.verdict()
    }

    /// Authorizers, where the policy said yes (rule A-50).
    async fn authorize(
        &self,
        table: &Table,
        allowed: Verdict,
        operation: Operation,
        channel: &ChannelPattern,
    ) -> Verdict {
        if allowed.ruling != Ruling::Allow {
            return allowed;
        }
        let authorizers = table.authorizers(channel, operation == Operation::Create);
        let Verdict { ruling, .. } = authorizer::decide(authorizers, operation, channel, self.asked()).await;
        Verdict { ruling, ..allowed }
    }

    /// Channel-level listeners first, then the server's (rule A-24), then the session's own.
    async fn tell(&self, listeners: [&[Entry<Listener<Subscribed, ()>>]; 3], channel: ChannelPattern) {
        let Some(session) = self.session() else { return };
        let message = Some(Arc::clone(&self.question.message));
        let subscribed = Subscribed { session, channel, message, context: self.context.clone() };
        for listener in listeners.into_iter().flatten() {
            (listener.hook)(subscribed.clone()).await;
        }
    }

    fn session(&self) -> Option<Session> {
        let facts = self.session.clone()?;
        Some(Session::new(facts, self.server.clone()))
    }

    fn asked(&self) -> Asked {
        Asked {
            session: self.session(),
            message: Arc::clone(&self.question.message),
            context: self.context.clone(),
            associated: self.associated.clone(),
            server: self.server.clone(),
        }
    }
}

/// A message on its way from one hook to the next, each of which may change it.
struct Passing {
    template: Incoming,
    message: Arc<Message>,
    changed: bool,
}

impl Passing {
    fn new(asking: &Asking, channel: ChannelName) -> Self {
        let message = Arc::clone(&asking.question.message);
        let template = Incoming {
            session: asking.session(),
            channel,
            message: Arc::clone(&message),
            context: asking.context.clone(),
            server: asking.server.clone(),
            associated: asking.associated.clone(),
            parameters: None,
        };
        Self { template, message, changed: false }
    }

    /// What the next hook is given.
    fn incoming(&self) -> Incoming {
        Incoming { message: Arc::clone(&self.message), ..self.template.clone() }
    }

    /// Takes what a hook made of it; a verdict where that was the end.
    fn take(&mut self, outcome: Outcome) -> Option<Verdict> {
        match outcome {
            Outcome::Continue => {}
            Outcome::Data(data) => {
                Arc::make_mut(&mut self.message).data = Some(data);
                self.changed = true;
            }
            Outcome::Message(other) => {
                self.message = Arc::new(*other);
                self.changed = true;
            }
            Outcome::Veto => return Some(Verdict::deny()),
            Outcome::Fail(error) => return Some(Verdict { ruling: Ruling::Fail(error), ..Verdict::allow() }),
        }
        None
    }

    fn verdict(self) -> Verdict {
        if !self.changed {
            return Verdict::allow();
        }
        let Self { template, message, .. } = self;
        drop(template);
        Verdict { ruling: Ruling::Replace(Box::new(Arc::unwrap_or_clone(message))), ..Verdict::allow() }
    }
}

impl Server {
    /// The channel that a message names, in its normal form (rule C-3).
    fn normalised(&self, text: &ByteString) -> Option<ChannelName> {
        ChannelName::parse(text, &self.config().channels).ok()
    }
}
