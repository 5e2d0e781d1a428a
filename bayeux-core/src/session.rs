//! One session: its state, its queue and its settings; and the table of all of them.

use std::time::Duration;

use bayeux_proto::{Advice, ByteString, Frozen, MessageId, Reconnect, Reply, meta};

use crate::browser::BrowserKey;
use crate::channel::ChannelKey;
use crate::config::{Overflow, Transport, TransportOptions};
use crate::connection::ConnKey;
use crate::event::RemovalReason;
use crate::ext::Unacknowledged;
use crate::id::{ClientId, OwnKeyMap};
use crate::lane::LaneId;
use crate::queue::{Offered, Queue, QueueLimits};
use crate::slab::{Key, Slab};
use crate::time::Time;
use crate::timer::TimerKey;

pub(crate) type SessionKey = Key<Session>;

/// A party known by a `clientId`. Terminated sessions are not in the table (rule L-1).
pub(crate) struct Session {
    pub(crate) id: ClientId,
    /// Whether a connect was processed already (rule K-11); otherwise it is only handshaken.
    pub(crate) connected: bool,
    /// The transport of its last message (rule L-44).
    pub(crate) transport: Transport,
    /// The transport that regular advice was last given for; `None`: it is due (rule V-11).
    pub(crate) advised: Option<Transport>,
    /// The browser whose HTTP handshake made it (rule TH-11).
    pub(crate) browser: Option<BrowserKey>,
    pub(crate) settings: Settings,
    /// Events not yet delivered, oldest first.
    pub(crate) queue: Queue,
    /// Events that were sent and not acknowledged yet, where the client asked for it (rule XA-1).
    pub(crate) unacknowledged: Option<Box<Unacknowledged>>,
    /// Open holds: with any, nothing is flushed (rule Q-40).
    pub(crate) hold_depth: u32,
    /// The WebSocket that events are pushed to (rule TW-13).
    pub(crate) target: Option<ConnKey>,
    /// Whether the queue is to leave at the first chance. Set by a flush that could not empty it at once, cleared when
    /// it is empty, or holds nothing but lazy events that came later.
    pub(crate) flush: bool,
    /// Where the queue ended when that was last set: what comes behind waits for its own time.
    pub(crate) flush_end: u64,
    /// The held meta connect; `Some` from its suspension until it is resumed, replaced or dropped.
    pub(crate) held: Option<Box<Held>>,
    /// The connection of the connect that was resumed last. Its reply may still wait to be drained.
    pub(crate) resumed: Option<ConnKey>,
    /// The lanes in which a connect of it waits for a listener.
    pub(crate) parked_connects: Vec<LaneId>,
    /// The number of lanes that keep it from expiring, since a connect waits in them for the message before it.
    pub(crate) keepers: u32,
    /// When the lazy timer fires (rule Q-33).
    pub(crate) lazy_at: Option<Time>,
    /// When it expires; `None` while a connect is processed or held (rules L-20 to L-22).
    pub(crate) expire_at: Option<Time>,
    /// When its last message came (rule L-21).
    pub(crate) last_message: Time,
    /// When it was last used, for those who look for idle ones (rule XV-1).
    pub(crate) last_active: Time,
    /// The one deadline it has in the timer table: the earliest of all the above.
    pub(crate) timer: Option<TimerKey>,
    /// Its subscriptions, sorted by channel, each with its place among the channel's subscribers.
    pub(crate) subscriptions: Vec<(ChannelKey, u64)>,
    /// The last publish that reached it, so that no publish does twice (rule Q-4).
    pub(crate) stamp: u64,
    /// The newest hold; an older one that ends does not schedule expiry (rule K-22).
    pub(crate) cycle: u64,
    /// When the newest message came that said where its client is: on a WebSocket any, over HTTP a connect. What came
    /// before, and is processed later, is left over from where its client was (rules L-41, L-43).
    pub(crate) moved: u64,
}

/// What may differ from the transport's options (rules O-40, K-9).
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) broadcast_to_publisher: bool,
    pub(crate) meta_connect_deliver_only: bool,
    /// Boxed, because most sessions have none.
    own: Option<Box<Own>>,
}

/// A session's own settings, and what its client told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) timeout: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) max_interval: Option<Duration>,
    pub(crate) max_lazy_timeout: Option<Duration>,
    /// The client's own wish in its last connect.
    pub(crate) transient_timeout: Option<Duration>,
    /// The client's own wish in its last connect.
    pub(crate) transient_interval: Option<Duration>,
    pub(crate) max_queue: Option<usize>,
    pub(crate) max_queue_bytes: Option<usize>,
    pub(crate) overflow: Option<Overflow>,
    /// How long it may be idle (rule XV-3).
    pub(crate) max_inactivity: Option<Duration>,
    /// The client's estimate of the lag, in milliseconds (rule XT-2).
    pub(crate) lag: Option<u32>,
}

impl Settings {
    pub(crate) fn new(broadcast_to_publisher: bool) -> Self {
        Self { broadcast_to_publisher, meta_connect_deliver_only: false, own: None }
    }

    pub(crate) fn own(&self) -> Own {
        self.own.as_deref().copied().unwrap_or_default()
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Own)) {
        let mut own = self.own();
        change(&mut own);
        if own == Own::default() {
            self.own = None;
        } else if let Some(old) = &mut self.own {
            **old = own;
        } else {
            self.own = Some(Box::new(own));
        }
    }
}

/// A held meta connect.
pub(crate) struct Held {
    pub(crate) conn: ConnKey,
    pub(crate) reply: HeldReply,
    pub(crate) deadline: Time,
    pub(crate) cycle: u64,
    /// Whether it counts against its browser's limit (rule TH-30).
    pub(crate) counted: bool,
}

/// The reply of a held connect. There is one per idle session, so the usual one is kept small.
pub(crate) enum HeldReply {
    /// A success with this id and nothing else.
    Plain(Option<MessageId>),
    /// Anything else.
    Whole(Box<Reply>),
}

impl HeldReply {
    pub(crate) fn pack(mut reply: Reply) -> Self {
        let id = reply.id.take();
        if reply == Self::plain(None) {
            return Self::Plain(id);
        }
        reply.id = id;
        Self::Whole(Box::new(reply))
    }

    pub(crate) fn unpack(self) -> Box<Reply> {
        match self {
            Self::Plain(id) => Box::new(Self::plain(id)),
            Self::Whole(reply) => reply,
        }
    }

    fn plain(id: Option<MessageId>) -> Reply {
        let mut reply = Reply::new(Some(ByteString::from_static(meta::CONNECT)), id);
        reply.succeed();
        reply
    }
}

impl Session {
    pub(crate) fn new(id: ClientId, transport: Transport, browser: Option<BrowserKey>, settings: Settings) -> Self {
        Self {
            id,
            connected: false,
            transport,
            advised: None,
            browser,
            settings,
            queue: Queue::new(),
            unacknowledged: None,
            hold_depth: 0,
            target: None,
            flush: false,
            flush_end: 0,
            held: None,
            resumed: None,
            parked_connects: Vec::new(),
            keepers: 0,
            lazy_at: None,
            expire_at: None,
            last_message: Time::ZERO,
            last_active: Time::ZERO,
            timer: None,
            subscriptions: Vec::new(),
            stamp: 0,
            cycle: 0,
            moved: 0,
        }
    }

    /// How long a connect is held: the client's wish, capped by the server's timeout (rules K-9, Z-5).
    pub(crate) fn effective_timeout(&self, options: &TransportOptions) -> Duration {
        let server = self.settings.own().timeout.unwrap_or(options.timeout);
        self.settings.own().transient_timeout.map_or(server, |client| client.min(server))
    }

    /// The wait between connects, the client's wish included (rule K-9).
    pub(crate) fn effective_interval(&self, options: &TransportOptions) -> Duration {
        let server = self.settings.own().interval.unwrap_or(options.interval);
        self.settings.own().transient_interval.unwrap_or(server)
    }

    /// How long it lives without a connect, beyond the interval (rule L-20).
    pub(crate) fn effective_max_interval(&self, options: &TransportOptions) -> Duration {
        self.settings.own().max_interval.filter(|wanted| !wanted.is_zero()).unwrap_or(options.max_interval)
    }

    /// Whether only connect replies carry its messages (rule Q-13).
    pub(crate) fn delivers_in_connects_only(&self, options: &TransportOptions) -> bool {
        // A local session takes everything at once (rule A-61); acknowledgements ride on connects alone (rule XA-2).
        self.transport != Transport::Local
            && (self.unacknowledged.is_some()
                || self.settings.meta_connect_deliver_only
                || options.meta_connect_deliver_only)
    }

    /// Takes the regular advice: empty where the client has it already (rules V-10, V-11).
    pub(crate) fn take_advice(&mut self, transport: Transport, options: &TransportOptions) -> Advice {
        if self.advised == Some(transport) {
            return Advice::default();
        }
        self.advised = Some(transport);
        Advice {
            reconnect: Some(Reconnect::Retry),
            interval_ms: Some(millis(self.effective_interval(options))),
            timeout_ms: Some(millis(self.settings.own().timeout.unwrap_or(options.timeout))),
            max_interval_ms: options.handshake_reconnect.then(|| millis(self.effective_max_interval(options))),
            multiple_clients: false,
        }
    }

    /// The limits of its queue.
    pub(crate) fn queue_limits(&self, options: &TransportOptions) -> QueueLimits {
        let own = self.settings.own.as_deref();
        QueueLimits {
            messages: own.and_then(|own| own.max_queue).unwrap_or(options.max_queue),
            bytes: own.and_then(|own| own.max_queue_bytes).unwrap_or(options.max_queue_bytes),
            overflow: own.and_then(|own| own.overflow).unwrap_or(options.overflow),
        }
    }

    /// Whether an event fits by the transport's own options, and the session has nothing special about it. A short way to
    /// what is true of most.
    pub(crate) fn has_plenty(&self, event: &Frozen, options: &TransportOptions) -> bool {
        self.settings.own.is_none()
            && self.unacknowledged.is_none()
            && !self.queue.is_conflating()
            && self.queue.len() < options.max_queue
            && self.queue.bytes().saturating_add(event.size()) <= options.max_queue_bytes
    }

    /// Whether an event can be queued without further ado.
    pub(crate) fn can_queue(&self, event: &Frozen, limits: QueueLimits) -> bool {
        self.has_room(event, limits) && !(self.queue.is_conflating() && limits.overflow == Overflow::KeepLatest)
    }

    /// Whether another event fits. What waits to be acknowledged counts in the limits of the queue.
    pub(crate) fn has_room(&self, event: &Frozen, limits: QueueLimits) -> bool {
        self.has_room_without(None, event, limits)
    }

    /// Whether an event fits in the place of one that is `replaced` bytes long, if one is.
    pub(crate) fn has_room_without(&self, replaced: Option<usize>, event: &Frozen, limits: QueueLimits) -> bool {
        let (messages, bytes) = self.unacknowledged.as_ref().map_or((0, 0), |sent| (sent.len(), sent.bytes()));
        let messages = (messages + self.queue.len()).saturating_sub(usize::from(replaced.is_some()));
        let bytes = bytes.saturating_add(self.queue.bytes()).saturating_sub(replaced.unwrap_or_default());
        messages < limits.messages && bytes.saturating_add(event.size()) <= limits.bytes
    }

    /// Does what the limits say about an event that does not fit.
    pub(crate) fn make_room(&mut self, event: Frozen, limits: QueueLimits) -> Offered {
        let mut dropped = 0;
        match limits.overflow {
            Overflow::RemoveSession => return Offered::Overflow,
            Overflow::DropNewest => return Offered::Refused,
            // It would not fit into an empty queue.
            Overflow::DropOldest | Overflow::KeepLatest if limits.messages == 0 || event.size() > limits.bytes => {
                return Offered::Refused;
            }
            Overflow::DropOldest => {}
            Overflow::KeepLatest => dropped += self.queue.conflate(event.channel()),
        }
        while !self.has_room(&event, limits) && self.drop_oldest() {
            dropped += 1;
        }
        self.queue.push_back(event);
        Offered::Replaced(dropped)
    }

    /// Drops the oldest event that it keeps: one that was sent already, if any was.
    fn drop_oldest(&mut self) -> bool {
        let sent = self.unacknowledged.as_mut().and_then(|sent| sent.pop());
        sent.or_else(|| self.queue.pop_front()).is_some()
    }

    /// Whether something waits that is to leave at the first chance: an event that may not wait, or a lazy one whose
    /// time is over (rules K-12, Q-34).
    pub(crate) fn has_due(&self) -> bool {
        self.queue.has_urgent() || self.flush
    }

    /// Lets what is queued now leave at the first chance, lazy or not.
    pub(crate) fn set_flush(&mut self) {
        self.flush = true;
        self.flush_end = self.queue.tail();
    }

    /// The earliest thing that will happen to it by itself.
    pub(crate) fn next_deadline(&self, options: &TransportOptions) -> Option<Time> {
        let processing = match (self.expire_at, options.max_processing) {
            (None, Some(limit)) => Some(self.last_message + limit),
            (Some(_), _) | (None, None) => None,
        };
        [self.held.as_ref().map(|held| held.deadline), self.lazy_at, self.expire_at, processing]
            .into_iter()
            .flatten()
            .min()
    }

    /// The place of `channel` in `subscriptions`, or where it would be.
    pub(crate) fn subscription(&self, channel: ChannelKey) -> Result<usize, usize> {
        self.subscriptions.binary_search_by_key(&channel, |(key, _)| *key)
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// All sessions of a shard.
pub(crate) struct Sessions {
    slab: Slab<Session>,
    by_id: OwnKeyMap<ClientId, SessionKey>,
    /// Per slot: which generation left last, and why. Work that was under way when its session went asks here.
    epitaphs: Vec<(u32, RemovalReason)>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { slab: Slab::new(), by_id: OwnKeyMap::default(), epitaphs: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn insert(&mut self, session: Session) -> SessionKey {
        let id = session.id.clone();
        let key = self.slab.insert(session);
        self.by_id.insert(id, key);
        key
    }

    pub(crate) fn get(&self, key: SessionKey) -> Option<&Session> {
        self.slab.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.slab.get_mut(key)
    }

    pub(crate) fn find(&self, id: &str) -> Option<SessionKey> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn remove(&mut self, key: SessionKey, reason: RemovalReason) -> Option<Session> {
        let session = self.slab.remove(key)?;
        self.by_id.remove(&session.id);
        if self.epitaphs.len() <= key.index() {
            self.epitaphs.resize(key.index() + 1, (0, RemovalReason::Expired));
        }
        self.epitaphs[key.index()] = (key.generation(), reason);
        Some(session)
    }

    /// Why the session of a stale key left, where its slot still knows.
    pub(crate) fn epitaph(&self, key: SessionKey) -> Option<RemovalReason> {
        let (generation, reason) = self.epitaphs.get(key.index())?;
        (*generation == key.generation() && self.slab.get(key).is_none()).then_some(*reason)
    }

    pub(crate) fn keys(&self) -> Vec<SessionKey> {
        self.slab.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bayeux_proto::{Event, RawJson};

    struct Zero;

    impl crate::IdSource for Zero {
        fn draw(&mut self) -> u128 {
            0
        }
    }

    fn event(channel: &'static str) -> Frozen {
        Event::new(channel, RawJson::null()).freeze()
    }

    /// A session whose queue has that on it, after one more event on `/a`.
    fn after_one_more(queued: &[&'static str], limits: QueueLimits) -> (Offered, String) {
        let id = ClientId::generate(crate::ShardId(0), &mut Zero);
        let mut session = Session::new(id, Transport::WebSocket, None, Settings::new(true));
        for channel in queued {
            session.queue.push_back(event(channel));
        }
        assert!(!session.has_room(&event("/a"), limits));
        let offered = session.make_room(event("/a"), limits);
        let left = session.queue.iter().map(|event| event.channel().trim_start_matches('/')).collect();
        (offered, left)
    }

    /// Z-11: each policy does what its name says.
    #[test]
    fn full_queue_acts_by_its_policy() {
        let limits = |overflow| QueueLimits { messages: 3, bytes: usize::MAX, overflow };
        let full = |overflow| after_one_more(&["/b", "/a", "/c"], limits(overflow));
        assert_eq!(full(Overflow::RemoveSession), (Offered::Overflow, "bac".into()));
        assert_eq!(full(Overflow::DropNewest), (Offered::Refused, "bac".into()));
        assert_eq!(full(Overflow::DropOldest), (Offered::Replaced(1), "aca".into()));
        assert_eq!(full(Overflow::KeepLatest), (Offered::Replaced(1), "bca".into()));
        let superseded = after_one_more(&["/b", "/c", "/c"], limits(Overflow::KeepLatest));
        assert_eq!(superseded, (Offered::Replaced(1), "bca".into()));
        // With nothing of that channel, the oldest.
        let none = after_one_more(&["/b", "/c", "/d"], limits(Overflow::KeepLatest));
        assert_eq!(none, (Offered::Replaced(1), "cda".into()));
        // An event that fits into no queue drops nothing of it.
        let small = QueueLimits { messages: 9, bytes: 5, overflow: Overflow::DropOldest };
        assert_eq!(after_one_more(&["/b"], small), (Offered::Refused, "b".into()));
    }
}
