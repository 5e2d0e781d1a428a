//! Channels: existence, settings, subscribers, and who decides about them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bayeux_proto::{ByteString, ChannelKind, ChannelName, ChannelPattern, Frozen, Lazy, meta};

use crate::event::{ChannelQueue, ChannelSetting, ChannelSettings};
use crate::id::ShardId;
use crate::interest::Interest;
use crate::lane::LaneId;
use crate::session::SessionKey;
use crate::slab::{Key, Slab};
use crate::timer::TimerKey;

pub(crate) type ChannelKey = Key<Channel>;

/// A channel, exact or wild, as this shard knows it.
pub(crate) struct Channel {
    pub(crate) pattern: ChannelPattern,
    pub(crate) settings: ChannelSettings,
    /// This shard's subscribers by the order in which they subscribed.
    pub(crate) subscribers: BTreeMap<u64, SessionKey>,
    /// At its home only: other shards that have subscribers.
    pub(crate) wanted_by: BTreeSet<ShardId>,
    /// The last message, where it is to be kept.
    pub(crate) retained: Option<Frozen>,
    /// Whether other shards know that this one wants what is published here.
    interested: bool,
    /// At its home only: when it is removed for being unused (rule A-5).
    pub(crate) idle_timer: Option<TimerKey>,
}

impl Channel {
    /// Whether nobody needs it: at its home, for the whole server.
    pub(crate) fn is_idle(&self) -> bool {
        let ChannelSettings { persistent, retained, attended, .. } = self.settings;
        !(persistent || retained || attended) && self.subscribers.is_empty() && self.wanted_by.is_empty()
    }

    /// Whether this shard wants what is published here.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.subscribers.is_empty() || self.settings.retained
    }

    pub(crate) fn apply(&mut self, setting: ChannelSetting) {
        match setting {
            ChannelSetting::Persistent(on) => self.settings.persistent = on,
            ChannelSetting::Lazy(on) => {
                self.settings.lazy = on;
                if !on {
                    self.settings.lazy_timeout = Duration::ZERO;
                }
            }
            ChannelSetting::LazyTimeout(timeout) => {
                self.settings.lazy_timeout = timeout;
                self.settings.lazy = !timeout.is_zero();
            }
            ChannelSetting::BroadcastToPublisher(on) => self.settings.broadcast_to_publisher = on,
            ChannelSetting::Retained(on) => self.settings.retained = on,
            ChannelSetting::Attended(on) => self.settings.attended = on,
            ChannelSetting::Queue(queue) => self.settings.queue = queue,
        }
        self.forget_unretained();
    }

    /// Forgets the last message where it is not to be kept any more.
    pub(crate) fn forget_unretained(&mut self) {
        if !self.settings.retained {
            self.retained = None;
        }
    }
}

/// The characters that some channels have behind their first slash: tells most others apart at a glance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Initials(u128);

impl Initials {
    pub(crate) fn of(channels: &[String]) -> Self {
        Self(channels.iter().fold(0, |all, channel| all | Self::bit(channel)))
    }

    /// Whether `channel` may be one of them, or below one. False is certain.
    pub(crate) fn may_be(self, channel: &str) -> bool {
        self.0 & Self::bit(channel) != 0
    }

    /// Characters that are not ASCII share a bit with one that is.
    fn bit(channel: &str) -> u128 {
        channel.as_bytes().get(1).map_or(u128::MAX, |initial| 1 << (initial & 0x7f))
    }
}

/// All channels that this shard knows.
pub(crate) struct Channels {
    slab: Slab<Channel>,
    by_name: HashMap<ByteString, ChannelKey>,
    /// Lanes that wait for a channel's home to create it.
    waiting: HashMap<ByteString, Vec<LaneId>>,
    /// How many of them are patterns: where none is, a publish is looked up by its own name alone.
    wild: usize,
    /// The number of the next subscription.
    subscription: u64,
    /// Whether any channel was ever given a limit of its own: where not, none is asked for it.
    has_queues: bool,
    /// What other shards know of this one's subscribers.
    interest: Option<Interest>,
}

impl Channels {
    pub(crate) fn new() -> Self {
        Self {
            slab: Slab::new(),
            by_name: HashMap::new(),
            waiting: HashMap::new(),
            wild: 0,
            subscription: 0,
            has_queues: false,
            interest: None,
        }
    }

    /// Has other shards know what this one wants of channels that are added from now on.
    pub(crate) fn share(&mut self, interest: Interest) {
        self.interest = Some(interest);
    }

    /// Adds the other shards that may want what is published on `name`, where that is known.
    pub(crate) fn wanted_elsewhere(&self, name: &ChannelName, shards: &mut Vec<ShardId>) -> bool {
        let Some(interest) = &self.interest else { return false };
        interest.of_others(name, shards);
        true
    }

    /// Has other shards know whether this one wants what is published on a channel, where that has changed.
    fn tell(&mut self, key: ChannelKey) {
        let Some(interest) = &mut self.interest else { return };
        let Some(channel) = self.slab.get_mut(key) else { return };
        match (channel.interested, channel.is_wanted()) {
            (false, true) => interest.add(&channel.pattern),
            (true, false) => interest.remove(&channel.pattern),
            (false, false) | (true, true) => return,
        }
        channel.interested = !channel.interested;
    }

    /// Changes what a channel is set to.
    pub(crate) fn change(&mut self, key: ChannelKey, change: impl FnOnce(&mut Channel)) {
        let Some(channel) = self.slab.get_mut(key) else { return };
        change(channel);
        self.has_queues |= channel.settings.queue.is_some();
        self.tell(key);
    }

    /// How many messages of a channel a session's queue may hold.
    pub(crate) fn queue_of(&self, channel: &str) -> Option<ChannelQueue> {
        if !self.has_queues {
            return None;
        }
        self.get(self.find(channel)?)?.settings.queue
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn find(&self, name: &str) -> Option<ChannelKey> {
        self.by_name.get(name).copied()
    }

    /// Whether there is such a channel. The meta channels always are (rule A-3).
    pub(crate) fn exists(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || is_meta_channel(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.slab.iter()
    }

    pub(crate) fn get(&self, key: ChannelKey) -> Option<&Channel> {
        self.slab.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: ChannelKey) -> Option<&mut Channel> {
        self.slab.get_mut(key)
    }

    /// Adds a channel that is not there yet.
    pub(crate) fn insert(&mut self, pattern: &ChannelPattern, settings: ChannelSettings) -> ChannelKey {
        self.has_queues |= settings.queue.is_some();
        // The name outlives the request that brought it.
        let pattern = pattern.detach();
        let name = pattern.text().clone();
        self.wild += usize::from(pattern.wildcard().is_some());
        let key = self.slab.insert(Channel {
            pattern,
            settings,
            subscribers: BTreeMap::new(),
            wanted_by: BTreeSet::new(),
            retained: None,
            interested: false,
            idle_timer: None,
        });
        self.by_name.insert(name, key);
        self.tell(key);
        key
    }

    pub(crate) fn remove(&mut self, key: ChannelKey) -> Option<Channel> {
        let channel = self.slab.remove(key)?;
        self.by_name.remove(channel.pattern.text());
        self.wild -= usize::from(channel.pattern.wildcard().is_some());
        if let Some(interest) = self.interest.as_mut().filter(|_| channel.interested) {
            interest.remove(&channel.pattern);
        }
        Some(channel)
    }

    /// Adds a subscriber; returns its place and whether it is the first of this shard.
    pub(crate) fn subscribe(&mut self, key: ChannelKey, session: SessionKey) -> Option<(u64, bool)> {
        let channel = self.slab.get_mut(key)?;
        self.subscription += 1;
        let first = channel.subscribers.is_empty();
        channel.subscribers.insert(self.subscription, session);
        if first {
            self.tell(key);
        }
        Some((self.subscription, first))
    }

    /// Takes a subscriber off; returns whether it was the last of this shard.
    pub(crate) fn unsubscribe(&mut self, key: ChannelKey, place: u64) -> bool {
        let Some(channel) = self.slab.get_mut(key) else { return false };
        let last = channel.subscribers.remove(&place).is_some() && channel.subscribers.is_empty();
        if last {
            self.tell(key);
        }
        last
    }

    /// Collects the channels that a publish on `name` reaches, from the widest wildcard to `name` itself (rule Q-1),
    /// and says how its messages may wait (rule Q-30).
    pub(crate) fn matching(&self, name: &ChannelName, matched: &mut Vec<ChannelKey>) -> Lazy {
        let mut lazy = Lazy::No;
        let mut found = |id: &str| {
            let Some(&key) = self.by_name.get(id) else { return };
            matched.push(key);
            let Some(channel) = self.slab.get(key) else { return };
            if channel.settings.lazy {
                lazy = sooner(lazy, channel.settings.lazy_timeout);
            }
        };
        if self.wild == 0 {
            found(name.as_str());
        } else {
            let mut ids = name.as_pattern().ids();
            while let Some(id) = ids.next() {
                found(id);
            }
        }
        lazy
    }

    /// Notes that `lane` waits for `name`; returns whether nobody did before.
    pub(crate) fn wait(&mut self, name: &ByteString, lane: LaneId) -> bool {
        if let Some(lanes) = self.waiting.get_mut(&**name) {
            lanes.push(lane);
            return false;
        }
        // The key outlives the request that brought it.
        self.waiting.insert(ByteString::from(String::from(&**name)), vec![lane]);
        true
    }

    /// The lanes that waited for `name`, in the order in which they began to.
    pub(crate) fn take_waiting(&mut self, name: &str) -> Vec<LaneId> {
        self.waiting.remove(name).unwrap_or_default()
    }
}

/// Whether it is one of the five meta channels (rule M-18).
pub(crate) fn is_meta_channel(name: &str) -> bool {
    [meta::HANDSHAKE, meta::CONNECT, meta::SUBSCRIBE, meta::UNSUBSCRIBE, meta::DISCONNECT].contains(&name)
}

/// Whether channels of that kind are kept without users by default (rule A-3).
pub(crate) fn is_persistent_kind(kind: ChannelKind) -> bool {
    match kind {
        ChannelKind::Meta | ChannelKind::Service => true,
        ChannelKind::Broadcast => false,
    }
}

/// Of two lazy channels that both match, the shorter timeout counts (rule Q-33).
fn sooner(lazy: Lazy, timeout: Duration) -> Lazy {
    match lazy {
        Lazy::No | Lazy::Yes if timeout.is_zero() => Lazy::Yes,
        Lazy::No | Lazy::Yes => Lazy::Within(timeout),
        Lazy::Within(other) if timeout.is_zero() => Lazy::Within(other),
        Lazy::Within(other) => Lazy::Within(other.min(timeout)),
    }
}
