//! Publishes: match, freeze once, fan out (sections 10 and 14.1).

use bayeux_proto::{ChannelKind, ChannelName, ErrorField, Event, Frozen, Lazy};

use crate::channel::{Channel, ChannelKey};
use crate::delivery::{Enqueuing, Share, Wake};
use crate::engine::Engine;
use crate::event::{Forward, Notice, Points, Receipt, Ruling};
use crate::ext::TIMESTAMP;
use crate::id::{ClientId, ShardId};
use crate::lane::{Flow, Lane, Step, Work};
use crate::meta::denial;
use crate::session::SessionKey;

impl Engine {
    /// The publisher may publish: success is set now, then listeners run (rules G-7, G-10).
    pub(crate) fn after_publish(&self, lane: &Lane, work: &mut Work, channel: ChannelName, ruling: Ruling) -> Flow {
        if let Some(error) = denial(ruling, ErrorField::publish_denied) {
            work.reply.fail(error);
            return Flow::Reply;
        }
        if self.is_gone(lane) {
            // Its session went while a hook was thinking (rules P-7, L-33).
            work.reply.fail(ErrorField::publish_denied(ErrorField::BY_POLICY));
            return Flow::Reply;
        }
        work.reply.succeed();
        if channel.kind() == ChannelKind::Broadcast {
            // Listeners never see them, subscribers even less (rules M-13, M-14).
            work.change(|message| {
                message.client_id = None;
                message.id = None;
            });
        }
        Flow::Go(Step::Listen(channel))
    }

    /// Listeners have let a broadcast through; false where an extension stopped it (rule G-12).
    pub(crate) fn publish_work(&mut self, lane: &Lane, work: &mut Work, channel: ChannelName) -> bool {
        let message = std::mem::take(&mut work.message);
        let mut event = Event::from_publish(channel.text().clone(), message);
        event.lazy = work.lazy;
        self.publish(channel, event, lane.session, work.receipt.take())
    }

    /// From the extensions on: encodes the event once, hands it to the other shards that want it and to every local
    /// subscriber. Returns whether the extensions let it through.
    pub(crate) fn publish(
        &mut self,
        channel: ChannelName,
        mut event: Event,
        from: Option<SessionKey>,
        receipt: Option<Receipt>,
    ) -> bool {
        if channel.kind() != ChannelKind::Broadcast {
            // Never fanned out, not even to `/**` (rules C-28, Q-5).
            self.confirm(receipt, false);
            return true;
        }
        self.date(&mut event);
        if self.hooks.points().contains(Points::SEND) {
            let sender = from.and_then(|key| self.sessions.get(key)).map(|session| &session.id);
            if !self.hooks.send(sender, None, &mut event) {
                self.confirm(receipt, false);
                return false;
            }
            event.channel = channel.text().clone();
        }
        let mut matched = std::mem::take(&mut self.matched);
        matched.clear();
        let lazy = self.channels.matching(&channel, &mut matched);
        if event.lazy == Lazy::No {
            event.lazy = lazy;
        }
        let mut elsewhere = std::mem::take(&mut self.elsewhere);
        elsewhere.clear();
        self.find_elsewhere(&channel, &matched, &mut elsewhere);
        let wanted = matched.iter().any(|key| self.channels.get(*key).is_some_and(Channel::is_wanted));
        if wanted || !elsewhere.is_empty() {
            let event = event.freeze();
            self.retain(&matched, &event);
            let sender = from.and_then(|key| self.sessions.get(key)).map(|session| session.id.clone());
            if !elsewhere.is_empty() {
                let channel = channel.detach();
                for &to in &elsewhere {
                    let (channel, event, sender) = (channel.clone(), event.clone(), sender.clone());
                    self.forward(to, Forward::Publish { channel, event, sender, receipt });
                }
            }
            let queued = self.fan_out(&matched, &event, from, sender.as_ref());
            match receipt.filter(|_| !queued && !elsewhere.is_empty()) {
                // They may have somebody.
                Some(receipt) => drop(self.receipts.insert(receipt, elsewhere.len())),
                None => self.confirm(receipt, queued),
            }
        } else {
            self.confirm(receipt, false);
        }
        self.elsewhere = elsewhere;
        self.matched = matched;
        true
    }

    /// Finds the other shards that a publish goes to.
    fn find_elsewhere(&self, name: &ChannelName, matched: &[ChannelKey], shards: &mut Vec<ShardId>) {
        // A shard that has yet to hear that the channel keeps its last message hears it before this one.
        if self.keeper(name.as_str(), matched).is_some() || !self.channels.wanted_elsewhere(name, shards) {
            shards.extend(self.others());
        }
    }

    /// Of the channels that match, the published one itself, where it keeps its last message.
    fn keeper(&self, name: &str, matched: &[ChannelKey]) -> Option<ChannelKey> {
        matched.iter().copied().find(|key| {
            let channel = self.channels.get(*key);
            channel.is_some_and(|channel| channel.settings.retained && channel.pattern.as_str() == name)
        })
    }

    /// Keeps the event where its own channel, one of those that match, keeps the last one.
    fn retain(&mut self, matched: &[ChannelKey], event: &Frozen) {
        if let Some(channel) = self.keeper(event.channel(), matched).and_then(|key| self.channels.get_mut(key)) {
            channel.retained = Some(event.clone());
        }
    }

    /// A publish of another shard: the subscribers here.
    pub(crate) fn publish_forwarded(
        &mut self,
        channel: &ChannelName,
        event: &Frozen,
        sender: Option<ClientId>,
    ) -> bool {
        let mut matched = std::mem::take(&mut self.matched);
        matched.clear();
        self.channels.matching(channel, &mut matched);
        self.retain(&matched, event);
        let queued = self.fan_out(&matched, event, None, sender.as_ref());
        self.matched = matched;
        queued
    }

    /// Says whether a publish or delivery was queued for anybody, to whoever wants to know (rule A-12).
    pub(crate) fn confirm(&mut self, receipt: Option<Receipt>, queued: bool) {
        if let Some(receipt) = receipt {
            self.notice(Notice::Confirmed { receipt, queued });
        }
    }

    /// Another shard says whether a publish was queued for anybody there. The first yes decides, or the last no.
    pub(crate) fn published_elsewhere(&mut self, receipt: Receipt, queued: bool) {
        let Some(waiting) = self.receipts.get_mut(&receipt) else { return };
        *waiting -= 1;
        if queued || *waiting == 0 {
            self.receipts.remove(&receipt);
            self.confirm(Some(receipt), queued);
        }
    }

    /// Queues an event for each subscriber of the matched channels, once (rules ), then wakes those that
    /// can take it. Returns whether it was queued for anybody.
    fn fan_out(
        &mut self,
        matched: &[ChannelKey],
        event: &Frozen,
        from: Option<SessionKey>,
        sender: Option<&ClientId>,
    ) -> bool {
        let mut queued = false;
        self.stamp += 1;
        let mut woken = std::mem::take(&mut self.woken);
        let limit = self.channels.queue_of(event.channel());
        let enqueuing = Enqueuing::new(&*self.hooks, &self.config, limit, sender);
        for key in matched {
            let Some(channel) = self.channels.get(*key) else { continue };
            for &subscriber in channel.subscribers.values() {
                let Some(session) = self.sessions.get_mut(subscriber) else { continue };
                if session.stamp == self.stamp {
                    continue;
                }
                if from == Some(subscriber)
                    && !(channel.settings.broadcast_to_publisher && session.settings.broadcast_to_publisher)
                {
                    continue;
                }
                session.stamp = self.stamp;
                if self.delivery_is_activity {
                    session.last_active = self.now;
                }
                let wake = enqueuing.enqueue(session, event);
                if !matches!(wake, Wake::None | Wake::Dropped) {
                    woken.push((subscriber, wake));
                } else if matches!(wake, Wake::None) {
                    queued = true;
                }
            }
        }
        queued = queued || woken.iter().any(|(_, wake)| wake.is_queued());
        let count = woken.len();
        for (at, (session, wake)) in woken.drain(..).enumerate() {
            let share = if count < CROWD { Share::WHOLE } else { Share { part: at + 1, of: count } };
            self.wake(session, wake, share);
        }
        self.woken = woken;
        queued
    }

    /// Delivers to one session, subscribed or not (rule A-11). Returns whether it was queued.
    pub(crate) fn deliver(&mut self, to: &ClientId, from: Option<&ClientId>, mut event: Event) -> bool {
        let Some(key) = self.sessions.find(to.as_str()) else { return false };
        self.date(&mut event);
        if self.hooks.points().contains(Points::SEND) && !self.hooks.send(from, Some(to), &mut event) {
            return false;
        }
        self.deliver_frozen(key, from, &event.freeze())
    }

    /// Delivers an encoded event to one session. Returns whether it was queued.
    pub(crate) fn deliver_frozen(&mut self, key: SessionKey, from: Option<&ClientId>, event: &Frozen) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        if self.delivery_is_activity {
            session.last_active = self.now;
        }
        let limit = self.channels.queue_of(event.channel());
        let enqueuing = Enqueuing::new(&*self.hooks, &self.config, limit, from);
        let wake = enqueuing.enqueue(session, event);
        let queued = wake.is_queued();
        self.wake(key, wake, Share::WHOLE);
        queued
    }

    /// Gives an event its timestamp, in the place of one that a client gave it (rule XS-2).
    pub(crate) fn date(&mut self, event: &mut Event) {
        if let Some(format) = self.config.timestamp {
            event.fields.retain(|(key, _)| *key != TIMESTAMP);
            event.fields.push(self.timestamps.field(self.wall_time(), format));
        }
    }
}

/// From so many sessions on, their lazy timers are spread: they would all be woken in one moment.
const CROWD: usize = 100;
