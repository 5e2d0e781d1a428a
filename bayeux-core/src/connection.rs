//! One connection: an HTTP exchange, or a WebSocket; and the table of all of them.

use std::collections::VecDeque;

use bayeux_proto::{Outgoing, Reply};

use crate::config::Transport;
use crate::event::LinkFacts;
use crate::id::{ConnectionKey, OwnKeyMap};
use crate::lane::LaneId;
use crate::session::SessionKey;
use crate::slab::{Key, Slab};
use crate::timer::TimerKey;

pub(crate) type ConnKey = Key<Conn>;

/// A link that carries messages.
pub(crate) struct Conn {
    pub(crate) key: ConnectionKey,
    pub(crate) facts: LinkFacts,
    /// WebSocket: the session it is bound to (rule TW-10). HTTP: the one found for its request (rule TH-10).
    pub(crate) session: Option<SessionKey>,
    /// The lane in progress or parked on it.
    pub(crate) lane: Option<LaneId>,
    /// Replies not yet in `out`, in request order.
    pub(crate) replies: VecDeque<Pending>,
    /// What is to be written next, order decided. Events in it go back to their session if it is never written.
    pub(crate) out: VecDeque<Out>,
    /// Drained and not yet written: there is no credit.
    pub(crate) in_flight: bool,
    /// An `Output::Ready` names it already.
    pub(crate) linked: bool,
    /// Sessions whose expiry starts when what is in flight was written (rule L-20).
    pub(crate) expiring: Vec<Expiry>,
    pub(crate) exchange: Exchange,
    /// Its own deadline: a WebSocket that lingers, or a held connect whose session was removed under it.
    pub(crate) timer: Option<TimerKey>,
    /// The reply of such a connect (rule D-11).
    pub(crate) orphan: Option<Box<Reply>>,
}

/// What only HTTP exchanges have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// All replies are there: the response can go.
    pub(crate) complete: bool,
    /// The response takes the session's queue (rule Q-12).
    pub(crate) takes_queue: bool,
    /// The hold that the request opened on its session (rule Q-12).
    pub(crate) hold: Option<SessionKey>,
    /// The queue was taken and the response is fixed (rule Q-14).
    pub(crate) fixed: bool,
}

/// A reply that waits for its turn.
pub(crate) struct Pending {
    pub(crate) reply: Box<Reply>,
    pub(crate) kind: ReplyKind,
    /// WebSocket: it leaves after the session's events with lower numbers.
    pub(crate) position: u64,
    /// The session it is about.
    pub(crate) session: Option<SessionKey>,
    pub(crate) expiry: Option<Expiry>,
}

impl Pending {
    /// Whether it answers a connect of that session.
    pub(crate) fn is_connect_of(&self, session: SessionKey) -> bool {
        self.kind == ReplyKind::Connect && self.session == Some(session)
    }

    /// Whether it is a connect reply that a client takes notice of, so that it brings along what there is to acknowledge
    /// (rules XA-4, XA-6).
    pub(crate) fn closes_batch(&self) -> bool {
        self.kind == ReplyKind::Connect && self.reply.successful
    }
}

/// What a reply's way out depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    /// Goes first, with the queue behind it where rule H-20 says so.
    Handshake,
    /// Takes advice on its way out (rule V-12).
    Connect,
    Other,
}

/// An expiry that starts when a reply was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) session: SessionKey,
    /// The hold that the reply ended, if it was held (rule K-22).
    pub(crate) cycle: Option<u64>,
}

/// A message on its way out, and what writing it sets off.
pub(crate) struct Out {
    pub(crate) message: Outgoing,
    pub(crate) expiry: Option<Expiry>,
}

impl Conn {
    pub(crate) fn new(key: ConnectionKey, facts: LinkFacts) -> Self {
        Self {
            key,
            facts,
            session: None,
            lane: None,
            replies: VecDeque::new(),
            out: VecDeque::new(),
            in_flight: false,
            linked: false,
            expiring: Vec::new(),
            exchange: Exchange::default(),
            timer: None,
            orphan: None,
        }
    }

    pub(crate) fn is_http(&self) -> bool {
        self.facts.transport.is_http()
    }

    pub(crate) fn is_local(&self) -> bool {
        self.facts.transport == Transport::Local
    }

    /// The expiries that begin when all that it has to write, or is writing, was written (rule L-20).
    pub(crate) fn expiries(&self) -> impl Iterator<Item = Expiry> {
        let unsent = self.out.iter().map(|out| out.expiry).chain(self.replies.iter().map(|reply| reply.expiry));
        self.expiring.iter().copied().chain(unsent.flatten())
    }
}

/// All connections of a shard.
pub(crate) struct Conns {
    slab: Slab<Conn>,
    by_key: OwnKeyMap<ConnectionKey, ConnKey>,
}

impl Conns {
    pub(crate) fn new() -> Self {
        Self { slab: Slab::new(), by_key: OwnKeyMap::default() }
    }

    pub(crate) fn insert(&mut self, conn: Conn) -> ConnKey {
        let name = conn.key;
        let key = self.slab.insert(conn);
        let earlier = self.by_key.insert(name, key);
        assert!(earlier.is_none(), "the driver opens a connection key once");
        key
    }

    pub(crate) fn find(&self, name: ConnectionKey) -> Option<ConnKey> {
        self.by_key.get(&name).copied()
    }

    pub(crate) fn get(&self, key: ConnKey) -> Option<&Conn> {
        self.slab.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: ConnKey) -> Option<&mut Conn> {
        self.slab.get_mut(key)
    }

    pub(crate) fn remove(&mut self, key: ConnKey) -> Option<Conn> {
        let conn = self.slab.remove(key)?;
        self.by_key.remove(&conn.key);
        Some(conn)
    }
}
