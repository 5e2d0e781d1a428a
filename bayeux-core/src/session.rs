//! One session: its state, its queue and its settings; and the table of all of them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bayeux_proto::{Advice, ByteString, Frozen, Lazy, Message, MessageId, Reconnect, Reply, meta};

use crate::channel::ChannelKey;
use crate::config::{Overflow, Transport, TransportOptions};
use crate::connection::ConnKey;
use crate::event::RemovalReason;
use crate::ext::Unacknowledged;
use crate::id::{BrowserId, ClientId};
use crate::lane::LaneId;
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
    pub(crate) browser: Option<BrowserId>,
    pub(crate) settings: Settings,
    /// Events not yet delivered, oldest first.
    pub(crate) queue: Queue,
    /// Events not yet acknowledged, `queue` included, where the client asked for it (rule XA-1).
    pub(crate) unacknowledged: Option<Box<Unacknowledged>>,
    /// Open holds: with any, nothing is flushed (rule Q-40).
    pub(crate) hold_depth: u32,
    /// The WebSocket that events are pushed to (rule TW-13).
    pub(crate) target: Option<ConnKey>,
    /// Whether the queue is to leave at the first chance. Set by a flush that could not empty it at once, cleared when
    /// it is empty.
    pub(crate) flush: bool,
    /// The held meta connect; `Some` from its suspension until it is resumed, replaced or dropped.
    pub(crate) held: Option<Box<Held>>,
    /// The lanes in which a connect of it waits for a listener.
    pub(crate) parked_connects: Vec<LaneId>,
    /// When the lazy timer fires (rule Q-33).
    pub(crate) lazy_at: Option<Time>,
    /// When it expires; `None` while a connect is processed or held (rules L-20 to L-22).
    pub(crate) expire_at: Option<Time>,
    /// When its last message came (rule L-21).
    pub(crate) last_message: Time,
    /// The one deadline it has in the timer table: the earliest of all the above.
    pub(crate) timer: Option<TimerKey>,
    /// Its subscriptions, sorted by channel, each with its place among the channel's subscribers.
    pub(crate) subscriptions: Vec<(ChannelKey, u64)>,
    /// The last publish that reached it, so that no publish does twice (rule Q-4).
    pub(crate) stamp: u64,
    /// The newest hold; an older one that ends does not schedule expiry (rule K-22).
    pub(crate) cycle: u64,
}

/// What may differ from the transport's options (rules O-40, K-9).
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) broadcast_to_publisher: bool,
    pub(crate) meta_connect_deliver_only: bool,
    /// Boxed, because most sessions have none.
    times: Option<Box<Times>>,
}

/// A session's own times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) timeout: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) max_interval: Option<Duration>,
    pub(crate) max_lazy_timeout: Option<Duration>,
    /// The client's own wish in its last connect.
    pub(crate) transient_timeout: Option<Duration>,
    /// The client's own wish in its last connect.
    pub(crate) transient_interval: Option<Duration>,
}

impl Settings {
    pub(crate) fn new(broadcast_to_publisher: bool) -> Self {
        Self { broadcast_to_publisher, meta_connect_deliver_only: false, times: None }
    }

    pub(crate) fn times(&self) -> Times {
        self.times.as_deref().copied().unwrap_or_default()
    }

    pub(crate) fn change_times(&mut self, change: impl FnOnce(&mut Times)) {
        let mut times = self.times();
        change(&mut times);
        if times == Times::default() {
            self.times = None;
        } else {
            self.times = Some(Box::new(times));
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
    pub(crate) fn pack(reply: Box<Reply>) -> Self {
        let mut plain = Self::plain(reply.id.clone());
        if *reply == plain { Self::Plain(plain.id.take()) } else { Self::Whole(reply) }
    }

    pub(crate) fn unpack(self) -> Box<Reply> {
        match self {
            Self::Plain(id) => Box::new(Self::plain(id)),
            Self::Whole(reply) => reply,
        }
    }

    fn plain(id: Option<MessageId>) -> Reply {
        let mut request = Message::default();
        request.channel = Some(ByteString::from_static(meta::CONNECT));
        request.id = id;
        let mut reply = Reply::to(&request);
        reply.succeed();
        reply
    }
}

impl Session {
    pub(crate) fn new(id: ClientId, transport: Transport, browser: Option<BrowserId>, settings: Settings) -> Self {
        Self {
            id,
            connected: false,
            transport,
            advised: None,
            browser,
            settings,
            queue: Queue::default(),
            unacknowledged: None,
            hold_depth: 0,
            target: None,
            flush: false,
            held: None,
            parked_connects: Vec::new(),
            lazy_at: None,
            expire_at: None,
            last_message: Time::ZERO,
            timer: None,
            subscriptions: Vec::new(),
            stamp: 0,
            cycle: 0,
        }
    }

    /// How long a connect is held: the client's wish, capped by the server's timeout (rules K-9, Z-5).
    pub(crate) fn effective_timeout(&self, options: &TransportOptions) -> Duration {
        let server = self.settings.times().timeout.unwrap_or(options.timeout);
        self.settings.times().transient_timeout.map_or(server, |client| client.min(server))
    }

    /// The wait between connects, the client's wish included (rule K-9).
    pub(crate) fn effective_interval(&self, options: &TransportOptions) -> Duration {
        let server = self.settings.times().interval.unwrap_or(options.interval);
        self.settings.times().transient_interval.unwrap_or(server)
    }

    /// How long it lives without a connect, beyond the interval (rule L-20).
    pub(crate) fn effective_max_interval(&self, options: &TransportOptions) -> Duration {
        self.settings.times().max_interval.filter(|wanted| !wanted.is_zero()).unwrap_or(options.max_interval)
    }

    /// Whether only connect replies carry its messages (rule Q-13).
    pub(crate) fn delivers_in_connects_only(&self, options: &TransportOptions) -> bool {
        self.settings.meta_connect_deliver_only || options.meta_connect_deliver_only
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
            timeout_ms: Some(millis(self.settings.times().timeout.unwrap_or(options.timeout))),
            max_interval_ms: options.handshake_reconnect.then(|| millis(self.effective_max_interval(options))),
            multiple_clients: false,
        }
    }

    /// Queues an event within the limits of `options`.
    pub(crate) fn offer(&mut self, event: Frozen, options: &TransportOptions) -> Offered {
        let Some(kept) = &mut self.unacknowledged else { return self.queue.offer(event, options) };
        let mut dropped = 0;
        while !kept.has_room(&event, options) {
            match options.overflow {
                Overflow::RemoveSession => return Offered::Overflow,
                Overflow::DropNewest => return Offered::Refused,
                Overflow::DropOldest => {
                    // What was never handed out is the newest of what is kept.
                    let unsent = self.queue.len() == kept.len();
                    if kept.pop().is_none() {
                        return Offered::Refused;
                    }
                    if unsent {
                        self.queue.pop_front();
                    }
                    dropped += 1;
                }
            }
        }
        self.push_back(event);
        if dropped > 0 { Offered::Replaced(dropped) } else { Offered::Queued }
    }

    /// Queues an event whatever the limits say.
    pub(crate) fn push_back(&mut self, event: Frozen) {
        if let Some(kept) = &mut self.unacknowledged {
            kept.push(event.clone());
        }
        self.queue.push_back(event);
    }

    /// Whether something waits that is to leave at the first chance: an event that may not wait, or a lazy one whose
    /// time is over (rules K-12, Q-34).
    pub(crate) fn has_due(&self) -> bool {
        self.queue.has_urgent() || self.flush
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

/// Events that wait for one session, bounded by count and bytes.
///
/// Every event has a number; `head` is that of the front. Replies over WebSocket remember a number instead of being
/// queued among the events, so that each leaves right after the events that were there before it (rule Q-20).
#[derive(Default)]
pub(crate) struct Queue {
    events: VecDeque<Frozen>,
    head: u64,
    bytes: usize,
    /// How many of them are not lazy.
    urgent: usize,
}

/// What became of an event offered to a [`Queue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is in.
    Queued,
    /// It is in, this many older ones are out.
    Replaced(usize),
    /// It is not in.
    Refused,
    /// It is not in, and the session must go.
    Overflow,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether an event is there that may not wait (rule K-12).
    pub(crate) fn has_urgent(&self) -> bool {
        self.urgent > 0
    }

    /// The number of the front event.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// The number that the next event will have.
    pub(crate) fn tail(&self) -> u64 {
        self.head + self.events.len() as u64
    }

    /// Appends an event within the limits of `options`.
    pub(crate) fn offer(&mut self, event: Frozen, options: &TransportOptions) -> Offered {
        let fits = |queue: &Self| {
            queue.events.len() < options.max_queue
                && queue.bytes.saturating_add(event.size()) <= options.max_queue_bytes
        };
        if fits(self) {
            self.push_back(event);
            return Offered::Queued;
        }
        match options.overflow {
            Overflow::RemoveSession => Offered::Overflow,
            Overflow::DropNewest => Offered::Refused,
            Overflow::DropOldest => {
                if event.size() > options.max_queue_bytes {
                    return Offered::Refused;
                }
                let mut dropped = 0;
                while !fits(self) && self.pop_front().is_some() {
                    dropped += 1;
                }
                self.push_back(event);
                Offered::Replaced(dropped)
            }
        }
    }

    /// Appends an event whatever the limits say: the server's last word to a session.
    pub(crate) fn push_back(&mut self, event: Frozen) {
        self.bytes += event.size();
        self.urgent += usize::from(event.lazy() == Lazy::No);
        self.events.push_back(event);
    }

    /// Returns what was taken and not written.
    pub(crate) fn push_front(&mut self, event: Frozen) {
        self.bytes += event.size();
        self.urgent += usize::from(event.lazy() == Lazy::No);
        self.head = self.head.wrapping_sub(1);
        self.events.push_front(event);
    }

    pub(crate) fn pop_front(&mut self) -> Option<Frozen> {
        let event = self.events.pop_front()?;
        self.head = self.head.wrapping_add(1);
        self.bytes -= event.size();
        self.urgent -= usize::from(event.lazy() == Lazy::No);
        if self.events.is_empty() && self.events.capacity() > IDLE_CAPACITY {
            // A session that once had a burst should not hold its memory while idle.
            self.events.shrink_to(IDLE_CAPACITY);
        }
        Some(event)
    }

    /// Size of the front event.
    pub(crate) fn front_size(&self) -> Option<usize> {
        self.events.front().map(Frozen::size)
    }
}

/// Slots that an empty queue may keep: 8 bytes each.
const IDLE_CAPACITY: usize = 16;

/// Numbers begin high enough that what is put back never wraps below zero.
const FIRST_NUMBER: u64 = 1 << 32;

/// All sessions of a shard.
pub(crate) struct Sessions {
    slab: Slab<Session>,
    by_id: HashMap<ClientId, SessionKey>,
    /// Per slot: which generation left last, and why. Work that was under way when its session went asks here.
    epitaphs: Vec<(u32, RemovalReason)>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { slab: Slab::new(), by_id: HashMap::new(), epitaphs: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn insert(&mut self, mut session: Session) -> SessionKey {
        session.queue.head = FIRST_NUMBER;
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

    fn event(lazy: Lazy) -> Frozen {
        let mut event = Event::new("/a", RawJson::null());
        event.lazy = lazy;
        event.freeze()
    }

    #[test]
    fn queue_counts_urgent_events_and_bytes() {
        let options = TransportOptions::default();
        let mut queue = Queue::default();
        queue.offer(event(Lazy::Yes), &options);
        assert!(!queue.has_urgent(), "K-12");
        queue.offer(event(Lazy::No), &options);
        assert!(queue.has_urgent());
        queue.pop_front();
        queue.pop_front();
        assert!(!queue.has_urgent() && queue.is_empty() && queue.bytes == 0);
    }

    /// Z-11: each policy does what its name says.
    #[test]
    fn full_queue_acts_by_its_policy() {
        let fill = |overflow| {
            let options = TransportOptions { max_queue: 2, overflow, ..TransportOptions::default() };
            let mut queue = Queue::default();
            queue.offer(event(Lazy::No), &options);
            queue.offer(event(Lazy::No), &options);
            let offered = queue.offer(event(Lazy::Yes), &options);
            (offered, queue.len(), queue.urgent)
        };
        assert_eq!(fill(Overflow::RemoveSession), (Offered::Overflow, 2, 2));
        assert_eq!(fill(Overflow::DropNewest), (Offered::Refused, 2, 2));
        assert_eq!(fill(Overflow::DropOldest), (Offered::Replaced(1), 2, 1));
    }

    #[test]
    fn event_put_back_is_the_next_again() {
        let mut queue = Queue { head: FIRST_NUMBER, ..Queue::default() };
        let options = TransportOptions::default();
        let (first, second) = (event(Lazy::No), event(Lazy::No));
        queue.offer(first.clone(), &options);
        queue.offer(second, &options);
        let tail = queue.tail();
        let taken = queue.pop_front().unwrap();
        queue.push_front(taken);
        assert_eq!((queue.tail(), queue.head()), (tail, FIRST_NUMBER));
        assert!(queue.pop_front().unwrap().is_same(&first));
    }
}
