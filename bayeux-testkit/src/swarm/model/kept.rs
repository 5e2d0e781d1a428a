//! The last message of a channel that keeps it, which new subscribers are sent.

use super::Model;
use super::deliveries::{Event, Origin, Owed};
use super::lines::Request;
use super::sessions::Session;
use crate::swarm::KEPT;

impl Model {
    /// An event has reached all that are subscribed: the channel keeps it, if it existed, and if it was the only one.
    pub(super) fn keep(&mut self, settled: &[u64]) {
        let on_kept = settled.iter().filter_map(|number| Some((*number, self.events.get(number)?)));
        let mut on_kept = on_kept.filter(|(_, event)| event.channel == KEPT && !event.refused);
        let Some((number, event)) = on_kept.next() else { return };
        let sure = !event.uncertain
            && !event.waited(self.rests)
            && matches!(event.origin, Origin::Session(..))
            && on_kept.next().is_none();
        // Of two that were under way at the same time, nobody knows which came last.
        self.kept = (sure && event.began > self.kept_until).then_some(number);
        self.kept_until = self.moment;
    }

    /// A new subscriber must get what the channel keeps.
    pub(super) fn owe_kept(&mut self, id: &str, request: &Request) {
        let subscribes = request.channels.as_ref().is_ok_and(|channels| channels.iter().any(|channel| channel == KEPT));
        let known = request.rest == self.rests && self.config.shards == 1 && self.removals.is_empty();
        // Not yet answered, perhaps, but carried out.
        let under_way = |event: &Event| event.channel == KEPT && event.done.is_none() && !event.refused;
        let Some(number) = self.kept.filter(|_| subscribes && known && !self.events.values().any(under_way)) else {
            return;
        };
        let dropped = self.dropped.contains(&(id.to_owned(), number));
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.ended.is_none()) else { return };
        let first = session.spans.iter().filter(|span| span.pattern == KEPT).count() == 1;
        let countable = session.overflowed.is_none() && (session.countable || !session.ack);
        if first && countable && !dropped && !session.got.contains(&number) {
            session.owed.push_back(Owed { number, done: self.moment, due: self.now });
            self.checked.obligations += 1;
        }
    }
}

/// Whether an event may be a session's because its channel kept it.
pub(super) fn may_be_kept(session: &Session, event: &Event) -> bool {
    event.channel == KEPT && session.spans.iter().any(|span| span.pattern == KEPT)
}
