//! Channels across shards, and what shards tell each other.
//!
//! # Theory of operation
//!
//! A channel's home, the shard that its name hashes to, decides alone whether it exists. Others ask (`CreateChannel`),
//! tell when their first subscriber comes and their last one goes (`Interest`), and hear about creation, settings and
//! removal (`ChannelExists`, `ChannelRemoved`). Who creates a channel is answered before all have heard of it, and may
//! tell others on whatever way; so where it matters that a channel does not exist, its home is asked (`FindChannel`).
//!
//! Links are first in, first out, so two races remain, and both heal: a removal that crosses a first subscriber on its
//! way is ignored by a shard that has subscribers, and its `Interest` makes the home create the channel again.

use bayeux_proto::{ByteString, ChannelKind, ChannelPattern};

use crate::channel::{Channel, ChannelKey, is_persistent_kind};
use crate::engine::{Due, Engine};
use crate::event::{Cause, ChannelSetting, ChannelSettings, Forward, Notice, Output, Points, Ruling, Verdict};
use crate::id::ShardId;
use crate::meta::{Created, Subscribed};
use crate::session::SessionKey;

impl Engine {
    // Existence.

    /// Makes sure that a channel exists, or says who must.
    pub(crate) fn create_channel(&mut self, pattern: &ChannelPattern) -> Created {
        if self.channels.exists(pattern.as_str()) {
            return Created::Yes;
        }
        if self.channels.len() >= self.config.max_channels {
            return Created::Full;
        }
        if self.home_of(pattern) != self.shard {
            return Created::AtHome;
        }
        self.add_channel(pattern);
        Created::Yes
    }

    /// Asks a channel's home to create it.
    pub(crate) fn request_channel(&mut self, pattern: ChannelPattern) {
        let to = self.home_of(&pattern);
        let channel = pattern.detach();
        self.forward(to, Forward::CreateChannel { channel });
    }

    /// Asks a channel's home whether it exists.
    pub(crate) fn look_for_channel(&mut self, pattern: ChannelPattern) {
        let to = self.home_of(&pattern);
        let channel = pattern.detach();
        self.forward(to, Forward::FindChannel { channel });
    }

    /// Whether a channel that is unknown here may exist, and news of it be under way.
    pub(crate) fn may_be_new(&self, pattern: &ChannelPattern) -> bool {
        pattern.kind() != ChannelKind::Meta && self.home_of(pattern) != self.shard
    }

    /// Whether it has to be found out if a channel that is unknown here exists, before somebody is asked who may create
    /// it.
    pub(crate) fn must_find_first(&self, pattern: &ChannelPattern) -> bool {
        self.hooks.points().contains(Points::CREATE) && self.may_be_new(pattern)
    }

    fn home_of(&self, pattern: &ChannelPattern) -> ShardId {
        ShardId::home_of(pattern.as_str(), self.config.shards)
    }

    /// At home: adds a channel and tells everybody.
    fn add_channel(&mut self, pattern: &ChannelPattern) -> ChannelKey {
        let mut settings = self.default_settings(pattern.kind());
        if self.hooks.points().contains(Points::CHANNEL_CREATED) {
            self.hooks.channel_created(pattern, &mut settings);
        }
        let key = self.channels.insert(pattern, settings);
        self.announce(key);
        self.notice_at(Points::CHANNELS, || Notice::ChannelAdded { channel: pattern.detach() });
        self.review(key);
        key
    }

    pub(crate) fn default_settings(&self, kind: ChannelKind) -> ChannelSettings {
        // Service channels stay (rule A-3), but names are free to invent: with many channels they must be in use to
        // stay, like others.
        let roomy = self.channels.len() < SERVICE_CHANNELS_MAX.min(self.config.max_channels / 2);
        ChannelSettings {
            persistent: is_persistent_kind(kind) && (roomy || kind == ChannelKind::Meta),
            lazy: false,
            lazy_timeout: std::time::Duration::ZERO,
            broadcast_to_publisher: self.config.broadcast_to_publisher,
            retained: false,
            attended: false,
            queue: None,
        }
    }

    fn announce(&mut self, key: ChannelKey) {
        let Some(Channel { pattern, settings, .. }) = self.channels.get(key) else { return };
        let (channel, settings) = (pattern.clone(), *settings);
        self.forward_to_others(|| Forward::ChannelExists { channel: channel.clone(), settings });
    }

    /// At home: starts or stops the way to removal of a channel that may have become idle or busy (rule A-5).
    fn review(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        if ShardId::home_of(channel.pattern.as_str(), self.config.shards) != self.shard {
            return;
        }
        match (channel.is_idle(), channel.idle_timer) {
            (true, None) => {
                let at = third_sweep(self.now, self.config.sweep_period);
                channel.idle_timer = Some(self.timers.set(at, Due::Channel(key)));
            }
            (false, Some(timer)) => {
                channel.idle_timer = None;
                self.timers.cancel(timer);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// At home: somebody asked for a channel that may be idle, so that it is counted idle anew (rule A-5).
    fn touch(&mut self, key: ChannelKey) {
        if let Some(timer) = self.channels.get_mut(key).and_then(|channel| channel.idle_timer.take()) {
            self.timers.cancel(timer);
        }
        self.review(key);
    }

    /// At home: a channel was idle for three sweeps.
    pub(crate) fn channel_due(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        channel.idle_timer = None;
        if channel.is_idle() {
            self.remove_channel_at_home(key, false);
        }
    }

    fn remove_channel_at_home(&mut self, key: ChannelKey, by_application: bool) {
        let Some(channel) = self.forget_channel(key) else { return };
        self.forward_to_others(|| Forward::ChannelRemoved { channel: channel.clone(), by_application });
        self.notice_at(Points::CHANNELS, || Notice::ChannelRemoved { channel });
    }

    /// Removes a channel here; its subscribers are cleared without notice (rule A-7).
    fn forget_channel(&mut self, key: ChannelKey) -> Option<ChannelPattern> {
        let channel = self.channels.remove(key)?;
        if let Some(timer) = channel.idle_timer {
            self.timers.cancel(timer);
        }
        for subscriber in channel.subscribers.into_values() {
            if let Some(session) = self.sessions.get_mut(subscriber)
                && let Ok(at) = session.subscription(key)
            {
                session.subscriptions.remove(at);
            }
        }
        Some(channel.pattern)
    }

    // Subscriptions.

    /// Subscribes a session to an existing channel.
    pub(crate) fn subscribe(&mut self, key: SessionKey, pattern: &ChannelPattern, cause: Cause) -> Subscribed {
        let Some(channel) = self.channels.find(pattern.as_str()) else { return Subscribed::NoChannel };
        let Some(session) = self.sessions.get_mut(key) else { return Subscribed::Already };
        if pattern.kind() != ChannelKind::Broadcast {
            // A success without a record (rule S-5).
            return Subscribed::Already;
        }
        let Err(at) = session.subscription(channel) else { return Subscribed::Already };
        if session.subscriptions.len() >= self.config.max_subscriptions {
            return Subscribed::TooMany;
        }
        let Some((place, first)) = self.channels.subscribe(channel, key) else { return Subscribed::NoChannel };
        session.subscriptions.insert(at, (channel, place));
        if first {
            self.interest_changed(channel, true);
        }
        let notice = |session| Notice::Subscribed { session, channel: pattern.detach(), cause };
        self.notice_of(Points::SUBSCRIPTIONS, key, notice);
        if let Some(event) = self.channels.get(channel).and_then(|channel| channel.retained.clone()) {
            self.deliver_frozen(key, None, &event);
        }
        Subscribed::New
    }

    /// Subscribes a session for the application, which asks nobody (rule A-9). A channel whose home is elsewhere is
    /// used at once: the first subscriber's `Interest` makes its home create it.
    pub(crate) fn subscribe_by_command(&mut self, key: SessionKey, pattern: &ChannelPattern) {
        if pattern.kind() != ChannelKind::Broadcast {
            return;
        }
        let full = |session: &crate::session::Session| session.subscriptions.len() >= self.config.max_subscriptions;
        if self.sessions.get(key).is_none_or(full) {
            return;
        }
        match self.create_channel(pattern) {
            Created::Yes => {}
            Created::AtHome => {
                let settings = self.default_settings(pattern.kind());
                self.channels.insert(pattern, settings);
            }
            Created::Full => return,
        }
        self.subscribe(key, pattern, Cause::Application);
    }

    /// Unsubscribes a session; returns whether it was subscribed.
    pub(crate) fn unsubscribe(&mut self, key: SessionKey, pattern: &ChannelPattern, cause: Cause) -> bool {
        let Some(channel) = self.channels.find(pattern.as_str()) else { return false };
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let Ok(at) = session.subscription(channel) else { return false };
        let (_, place) = session.subscriptions.remove(at);
        self.drop_subscriber(channel, place);
        let notice = |session| Notice::Unsubscribed { session, channel: pattern.detach(), cause };
        self.notice_of(Points::SUBSCRIPTIONS, key, notice);
        true
    }

    /// Takes a subscriber off a channel.
    pub(crate) fn drop_subscriber(&mut self, key: ChannelKey, place: u64) {
        if self.channels.unsubscribe(key, place) {
            self.interest_changed(key, false);
        }
    }

    /// This shard's first subscriber came, or its last one went.
    fn interest_changed(&mut self, key: ChannelKey, wanted: bool) {
        let Some(channel) = self.channels.get(key) else { return };
        let to = self.home_of(&channel.pattern);
        if to == self.shard {
            self.review(key);
        } else {
            let channel = channel.pattern.clone();
            self.forward(to, Forward::Interest { channel, wanted });
        }
    }

    // The application's wishes.

    /// Changes a setting of a channel, wherever its home is.
    pub(crate) fn set_channel(&mut self, pattern: ChannelPattern, setting: ChannelSetting) {
        let to = self.home_of(&pattern);
        if to != self.shard {
            self.forward(to, Forward::SetChannel { channel: pattern, setting });
            return;
        }
        let key = self.channels.find(pattern.as_str()).unwrap_or_else(|| self.add_channel(&pattern));
        self.channels.change(key, |channel| channel.apply(setting));
        self.announce(key);
        self.touch(key);
    }

    /// Removes a channel, wherever its home is (rule A-7).
    pub(crate) fn remove_channel(&mut self, pattern: ChannelPattern) {
        let to = self.home_of(&pattern);
        if to != self.shard {
            self.forward(to, Forward::RemoveChannel { channel: pattern });
        } else if let Some(key) = self.channels.find(pattern.as_str()) {
            self.remove_channel_at_home(key, true);
        }
    }

    /// Creates a channel for the application, wherever its home is.
    pub(crate) fn ensure_channel(&mut self, pattern: ChannelPattern) {
        if self.home_of(&pattern) != self.shard {
            self.request_channel(pattern);
        } else if let Some(key) = self.channels.find(pattern.as_str()) {
            self.touch(key);
        } else {
            // Too many: the limit is the application's own.
            let _ = self.create_channel(&pattern);
        }
    }

    // Between shards.

    /// Takes what another shard forwarded.
    pub(crate) fn forwarded(&mut self, from: ShardId, item: Forward) {
        match item {
            Forward::Publish { channel, event, sender, receipt } => {
                let queued = self.publish_forwarded(&channel, &event, sender);
                if let Some(receipt) = receipt {
                    self.forward(from, Forward::Published { receipt, queued });
                }
            }
            Forward::Published { receipt, queued } => self.published_elsewhere(receipt, queued),
            Forward::FindChannel { channel } => self.find_for(from, channel),
            Forward::ChannelMissing { channel } => self.resume_waiting(&channel, None),
            Forward::CreateChannel { channel } => self.create_for(from, &channel),
            Forward::ChannelExists { channel, settings } => self.channel_exists(&channel, settings),
            Forward::ChannelRefused { channel } => {
                let reason = Some(ByteString::from_static("too_many_channels"));
                let refused = Verdict { ruling: Ruling::Deny { reason }, ..Verdict::allow() };
                self.resume_waiting(&channel, Some(&refused));
            }
            Forward::ChannelRemoved { channel, by_application } => {
                let Some(key) = self.channels.find(channel.as_str()) else { return };
                let in_use = self.channels.get(key).is_some_and(|channel| !channel.subscribers.is_empty());
                if by_application || !in_use {
                    self.forget_channel(key);
                }
                if by_application && in_use {
                    // Said already that it is wanted; should that arrive after the removal, this takes it back.
                    self.forward(from, Forward::Interest { channel, wanted: false });
                }
            }
            Forward::Interest { channel, wanted } => self.interest_of(from, &channel, wanted),
            Forward::SetChannel { channel, setting } => self.set_channel(channel, setting),
            Forward::RemoveChannel { channel } => self.remove_channel(channel),
        }
    }

    fn find_for(&mut self, from: ShardId, pattern: ChannelPattern) {
        let item = match self.channels.find(pattern.as_str()).and_then(|key| self.channels.get(key)) {
            Some(channel) => Forward::ChannelExists { channel: channel.pattern.clone(), settings: channel.settings },
            None => Forward::ChannelMissing { channel: pattern },
        };
        self.forward(from, item);
    }

    fn create_for(&mut self, from: ShardId, pattern: &ChannelPattern) {
        let found = self.channels.find(pattern.as_str());
        if let Some((key, channel)) = found.and_then(|key| Some((key, self.channels.get(key)?))) {
            let item = Forward::ChannelExists { channel: channel.pattern.clone(), settings: channel.settings };
            self.forward(from, item);
            self.touch(key);
        } else if self.channels.len() >= self.config.max_channels {
            self.forward(from, Forward::ChannelRefused { channel: pattern.clone() });
        } else {
            self.add_channel(pattern);
        }
    }

    fn channel_exists(&mut self, pattern: &ChannelPattern, settings: ChannelSettings) {
        let key = self.channels.find(pattern.as_str()).unwrap_or_else(|| self.channels.insert(pattern, settings));
        self.channels.change(key, |channel| {
            channel.settings = settings;
            channel.forget_unretained();
        });
        self.resume_waiting(pattern, None);
    }

    fn resume_waiting(&mut self, pattern: &ChannelPattern, verdict: Option<&Verdict>) {
        for lane in self.channels.take_waiting(pattern.as_str()) {
            self.resume_lane(lane, verdict.cloned());
        }
    }

    fn interest_of(&mut self, from: ShardId, pattern: &ChannelPattern, wanted: bool) {
        let key = match self.channels.find(pattern.as_str()) {
            Some(key) => key,
            None if wanted => self.add_channel(pattern),
            None => return,
        };
        if let Some(channel) = self.channels.get_mut(key) {
            if wanted {
                channel.wanted_by.insert(from);
            } else {
                channel.wanted_by.remove(&from);
            }
        }
        self.review(key);
    }

    pub(crate) fn forward(&mut self, to: ShardId, item: Forward) {
        self.outputs.push_back(Output::Forward { to, item: Box::new(item) });
    }

    pub(crate) fn forward_to_others(&mut self, item: impl Fn() -> Forward) {
        for to in self.others() {
            self.forward(to, item());
        }
    }

    /// All other shards.
    pub(crate) fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.shard;
        (0..self.config.shards).map(ShardId).filter(move |shard| *shard != own)
    }
}

/// Channels up to which unused service channels stay: more than any application names, little to lose to a flood.
const SERVICE_CHANNELS_MAX: usize = 10_000;

/// The third multiple of `period` after `now`: where CometD's sweeper would find a channel unused for the third time.
fn third_sweep(now: crate::Time, period: std::time::Duration) -> crate::Time {
    let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
    let passed = now.as_nanos() / period;
    crate::Time::from_nanos(passed.saturating_add(3).saturating_mul(period))
}
