//! What hooks said, and what must come of it (rules G-6, G-7, L-33, Q-7).

use bayeux_core::{Point, Question, RemovalReason};
use bayeux_proto::{Reply, meta};

use super::deliveries::Origin;
use super::facts;
use super::lines::Request;
use super::{Model, Verdict};
use crate::world::World;

impl Model {
    /// A hook has answered a question.
    pub(in crate::swarm) fn decided(&mut self, question: &Question, allowed: bool) {
        let Some(key) = facts::key_of(question) else { return };
        let authorises = matches!(question.point, Point::Create(_) | Point::Subscribe(_) | Point::Publish(_));
        if authorises && self.has_ended(question) {
            self.too_late.insert(key.clone());
        }
        if !allowed {
            self.denied.insert(key, question.point.clone());
        } else if let Some(session) = question.session.as_ref().and_then(|id| self.sessions.get_mut(id.as_str())) {
            // The message goes on, and counts from now on (rule L-24).
            session.last_message_maybe = session.last_message_maybe.max(self.now);
        }
    }

    /// A hook kept an event from a session.
    pub(in crate::swarm) fn dropped(&mut self, id: &str, number: u64) {
        let key = (id.to_owned(), number);
        if !self.passed.contains(&key) {
            self.dropped.insert(key);
        }
    }

    /// A hook let a session have an event: what it says when that is offered again changes nothing.
    pub(in crate::swarm) fn passed(&mut self, id: &str, number: u64) {
        let key = (id.to_owned(), number);
        self.dropped.remove(&key);
        self.passed.insert(key);
    }

    /// From now on no hook keeps events back: who subscribes gets what the channel keeps, whatever was said of it before.
    pub(in crate::swarm) fn drops_end(&mut self) {
        self.drops_are_over = true;
    }

    /// A hook delivers an event to a session.
    pub(in crate::swarm) fn delivered_by_hook(&mut self, id: String, number: u64) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.served_by_hooks = true;
        }
        self.publish(number, "/private", Origin::To(id), None);
    }

    /// A hook removes a session, of which nobody may have been told yet.
    pub(in crate::swarm) fn removed_by_hook(&mut self, id: String) {
        if self.sessions.contains_key(&id) {
            self.dismiss(&id, RemovalReason::Removed);
        } else {
            self.stillborn.insert(id);
        }
    }

    fn has_ended(&self, question: &Question) -> bool {
        let session = question.session.as_ref().and_then(|id| self.sessions.get(id.as_str()));
        session.is_some_and(|session| session.ended.is_some())
    }

    /// What a hook allowed when its session had ended is refused all the same (rule L-33).
    pub(super) fn check_too_late(&self, request: &Request, reply: &Reply) -> Verdict {
        let named = |key: &Option<String>| key.as_ref().is_some_and(|key| self.too_late.contains(key));
        if reply.successful && (named(&request.key) || named(&request.id)) {
            return Err(format!("L-33: {} succeeded after its session had ended", request.label()));
        }
        Ok(())
    }

    /// A connect does not wait for a listener when its session has ended (rule L-33).
    pub(super) fn check_abandoned(&self, world: &World) -> Verdict {
        let abandoned = |question: &&Question| {
            matches!(&question.point, Point::Listen(channel) if channel.as_str() == meta::CONNECT)
                && self.has_ended(question)
        };
        match world.questions().iter().find(|question| abandoned(question)) {
            Some(question) => {
                let id = question.message.id.as_ref();
                Err(format!("L-33: connect {id:?} waits for a listener, and its session has ended"))
            }
            None => Ok(()),
        }
    }
}
