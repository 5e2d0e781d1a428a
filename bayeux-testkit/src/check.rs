//! What must hold after every step, whatever the test: the invariants.
//!
//! The checker sees everything that passes between the driver and the engines and keeps the little state that it needs
//! to object. It knows no rules of delivery; those are for the tests.

use std::collections::{BTreeMap, BTreeSet};

use bayeux_core::{ClientId, CloseReason, ConnectionKey, DecisionId, Drained, Notice, Time};
use bayeux_proto::{Batch, ByteString, MessageId, Outgoing, Reply, meta};

/// What was found broken, as a sentence.
pub(crate) type Broken = Result<(), String>;

/// The state behind the invariants.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    links: BTreeMap<ConnectionKey, Link>,
    decisions: BTreeSet<(u16, DecisionId)>,
    /// Connections with a parked lane, and how many decisions park it.
    parked: BTreeMap<ConnectionKey, usize>,
    parked_by: BTreeMap<(u16, DecisionId), ConnectionKey>,
    /// Withdrawn: some of them because they expired.
    retired: BTreeSet<(u16, DecisionId)>,
    alive: BTreeSet<ClientId>,
    ended: BTreeSet<ClientId>,
}

#[derive(Debug)]
struct Link {
    http: bool,
    stage: Stage,
    /// Whether the engine may announce it: nothing drained is still unwritten.
    credit: bool,
    /// Requests without reply.
    owed: Vec<Owed>,
    has_cookie: bool,
    /// Sessions that lived when requests named them here, or that began here: events may be theirs.
    sessions: BTreeSet<ByteString>,
    /// The session whose disconnect was confirmed here, with nothing received since.
    disconnected: Option<ByteString>,
    /// What was drained of an exchange's response.
    response: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// An exchange whose whole response was drained.
    Finished,
    /// Closed by either side, or written to the end.
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Owed {
    channel: Option<ByteString>,
    id: Option<MessageId>,
    client: Option<ByteString>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Event,
    HandshakeReply,
    Reply,
}

impl Owed {
    fn is_connect(&self) -> bool {
        self.channel.as_deref() == Some(meta::CONNECT)
    }

    fn matches(&self, reply: &Reply) -> bool {
        self.channel == reply.channel && self.id == reply.id
    }
}

impl Checker {
    pub(crate) fn opened(&mut self, conn: ConnectionKey, http: bool) {
        let link = Link {
            http,
            stage: Stage::Open,
            credit: true,
            owed: Vec::new(),
            has_cookie: false,
            sessions: BTreeSet::new(),
            disconnected: None,
            response: Vec::new(),
        };
        assert!(self.links.insert(conn, link).is_none(), "the driver uses a connection key once");
    }

    pub(crate) fn received(&mut self, conn: ConnectionKey, batch: &Batch) {
        let link = self.links.get_mut(&conn).expect("the driver opened what it received from");
        link.disconnected = None;
        let named = batch.messages.iter().filter_map(|message| message.client_id.as_ref());
        link.sessions.extend(named.filter(|id| self.alive.contains(id.as_ref() as &str)).cloned());
        link.owed.extend(batch.messages.iter().map(|message| Owed {
            channel: message.channel.clone(),
            id: message.id.clone(),
            client: message.client_id.clone(),
        }));
    }

    pub(crate) fn ready(&self, conn: ConnectionKey) -> Broken {
        let link = self.open(conn, "Ready")?;
        if link.credit { Ok(()) } else { Err(format!("{conn:?}: Ready without write credit")) }
    }

    pub(crate) fn drained(
        &mut self,
        conn: ConnectionKey,
        messages: &[Outgoing],
        drained: Drained,
        edits: bool,
    ) -> Broken {
        let Some(link) = self.links.get_mut(&conn) else { return Err(format!("{conn:?}: drained, never opened")) };
        for message in messages {
            match message {
                Outgoing::Event(_) if link.is_disconnected() => {
                    return Err(format!("{conn:?}: an event after the disconnect reply"));
                }
                Outgoing::Event(_) => link.response.push(Part::Event),
                Outgoing::Reply(reply) => link.reply(conn, reply, edits)?,
            }
        }
        match (link.http, drained) {
            (true, Drained::Finished) => {
                link.stage = Stage::Finished;
                link.check_response(conn, edits)?;
            }
            (true, Drained::Idle) => return Err(format!("{conn:?}: an exchange was Ready, then Idle")),
            (false, Drained::Finished) => return Err(format!("{conn:?}: a WebSocket cannot be Finished")),
            (_, Drained::More) if messages.is_empty() => {
                return Err(format!("{conn:?}: More, but not even one message was handed out"));
            }
            (_, Drained::More) | (false, Drained::Idle) => {}
        }
        if !link.http {
            link.response.clear();
        }
        link.credit = messages.is_empty() && drained != Drained::Finished;
        Ok(())
    }

    pub(crate) fn written(&mut self, conn: ConnectionKey) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.credit = true;
            if link.stage == Stage::Finished {
                link.stage = Stage::Gone;
            }
        }
    }

    pub(crate) fn closed_by_driver(&mut self, conn: ConnectionKey) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.stage = Stage::Gone;
        }
    }

    pub(crate) fn closed_by_engine(&mut self, conn: ConnectionKey, reason: CloseReason) -> Broken {
        let link = self.open(conn, "Close")?;
        let foreign = if link.http { CloseReason::Lingered } else { CloseReason::ConnectReplaced };
        if reason == foreign {
            return Err(format!("{conn:?}: closed for {reason:?}, which its transport does not know"));
        }
        self.closed_by_driver(conn);
        Ok(())
    }

    pub(crate) fn cookie(&mut self, conn: ConnectionKey) -> Broken {
        self.open(conn, "Browser")?;
        let link = self.links.get_mut(&conn).expect("it is open");
        if !link.http || link.has_cookie || !link.response.is_empty() {
            return Err(format!("{conn:?}: a cookie on a WebSocket, a second one, or one after the response"));
        }
        link.has_cookie = true;
        Ok(())
    }

    pub(crate) fn asked(
        &mut self,
        shard: u16,
        id: DecisionId,
        conn: Option<ConnectionKey>,
        deadline: Time,
        now: Time,
    ) -> Broken {
        if deadline <= now {
            return Err(format!("{id:?}: asked with a deadline that has passed"));
        }
        if !self.decisions.insert((shard, id)) {
            return Err(format!("{id:?}: asked twice"));
        }
        if let Some(conn) = conn {
            *self.parked.entry(conn).or_default() += 1;
            self.parked_by.insert((shard, id), conn);
        }
        Ok(())
    }

    /// A decision was withdrawn.
    pub(crate) fn withdrawn(&mut self, shard: u16, id: DecisionId) -> Broken {
        if !self.decided(shard, id) {
            return Err(format!("{id:?} was withdrawn, but it was not open"));
        }
        self.retired.insert((shard, id));
        Ok(())
    }

    /// A decision was answered; whether it was open.
    pub(crate) fn decided(&mut self, shard: u16, id: DecisionId) -> bool {
        if let Some(conn) = self.parked_by.remove(&(shard, id))
            && let Some(count) = self.parked.get_mut(&conn)
        {
            *count -= 1;
        }
        self.decisions.remove(&(shard, id))
    }

    pub(crate) fn notice(&mut self, shard: u16, notice: &Notice) -> Broken {
        if let Notice::SessionAdded { session, .. } = notice {
            if self.ended.contains(session) || !self.alive.insert(session.clone()) {
                return Err(format!("{session} was added twice"));
            }
            if session.shard().0 != shard {
                return Err(format!("{session} was added in shard {shard}, which its id does not name"));
            }
        }
        if let Notice::SessionRemoved { session, .. } = notice
            && (!self.alive.remove(session) || !self.ended.insert(session.clone()))
        {
            return Err(format!("{session} was removed, but it was not there"));
        }
        if let Notice::DecisionExpired { id } = notice
            && (self.decided(shard, *id) || !self.retired.remove(&(shard, *id)))
        {
            return Err(format!("{id:?} expired, but it was not withdrawn first"));
        }
        Ok(())
    }

    /// After a `Tick` at `now`.
    pub(crate) fn ticked(now: Time, timeout: Option<Time>) -> Broken {
        match timeout {
            Some(at) if at <= now => Err(format!("poll_timeout still says {at:?} after a Tick at {now:?}")),
            _ => Ok(()),
        }
    }

    /// When every output was carried out. `in_transit`: something is still on its way between shards.
    pub(crate) fn quiet(&self, sessions: usize, in_transit: bool, edits: bool) -> Broken {
        if sessions != self.alive.len() {
            return Err(format!("{sessions} sessions counted, {} added and not removed", self.alive.len()));
        }
        let mut held: BTreeMap<&str, ConnectionKey> = BTreeMap::new();
        for (&conn, link) in &self.links {
            let parked = self.parked.get(&conn).is_some_and(|&count| count > 0);
            if link.stage != Stage::Open || parked || in_transit || !link.credit {
                continue;
            }
            if let Some(owed) = link.owed.iter().find(|owed| !owed.is_connect())
                && !edits
            {
                return Err(format!("{conn:?}: no reply to {owed:?}, and nothing that it could wait for"));
            }
            let client = link.owed.first().and_then(|owed| owed.client.as_deref());
            if let (true, Some(client)) = (link.http, client)
                && let Some(other) = held.insert(client, conn)
            {
                return Err(format!("two connects of {client} are held: {other:?} and {conn:?}"));
            }
        }
        Ok(())
    }

    /// Whether a session was added and not removed.
    pub(crate) fn is_alive(&self, id: &str) -> bool {
        self.alive.contains(id)
    }

    /// Whether the lane of `conn` waits for a decision.
    pub(crate) fn is_parked(&self, conn: ConnectionKey) -> bool {
        self.parked.get(&conn).is_some_and(|&count| count > 0)
    }

    /// Drops what is known of connections that are gone, so that long runs stay fast.
    pub(crate) fn forget_gone(&mut self) {
        self.links.retain(|_, link| link.stage != Stage::Gone);
    }

    fn open(&self, conn: ConnectionKey, output: &str) -> Result<&Link, String> {
        let Some(link) = self.links.get(&conn) else {
            return Err(format!("{output} names {conn:?}, which is gone or was never opened"));
        };
        match link.stage {
            Stage::Open => Ok(link),
            Stage::Finished => Err(format!("{output} names {conn:?} after its response was Finished")),
            Stage::Gone => Err(format!("{output} names {conn:?}, which is gone")),
        }
    }
}

impl Link {
    /// Whether an event can only be of a session that was disconnected here.
    fn is_disconnected(&self) -> bool {
        let Some(disconnected) = &self.disconnected else { return false };
        self.sessions.iter().all(|session| session == disconnected)
    }

    /// Every reply answers a request that was not answered before; all but connects in the order of the requests
    /// (rules M-2, M-15, Q-20).
    fn reply(&mut self, conn: ConnectionKey, reply: &Reply, edits: bool) -> Broken {
        let handshake = reply.channel.as_deref() == Some(meta::HANDSHAKE);
        let connect = reply.channel.as_deref() == Some(meta::CONNECT);
        self.response.push(if handshake && reply.successful { Part::HandshakeReply } else { Part::Reply });
        if reply.channel.as_deref() == Some(meta::DISCONNECT) && reply.successful {
            self.disconnected = self.owed.iter().find(|owed| owed.matches(reply)).and_then(|owed| owed.client.clone());
        } else if let Some(handshake) = &reply.handshake {
            self.sessions.insert(handshake.client_id.clone());
            self.disconnected = None;
        }
        if reply.successful && reply.error.is_some() {
            return Err(format!("{conn:?}: successful, with an error: {reply:?}"));
        }
        if edits {
            return Ok(());
        }
        // A connect over HTTP is never held beside others, so there the order is total (rule K-16).
        let mut candidates = self.owed.iter().enumerate().filter(|(_, owed)| self.http || owed.is_connect() == connect);
        // Of two connects over WebSocket the older one may never be answered (rule K-21).
        let found = if connect && !self.http {
            candidates.find(|(_, owed)| owed.matches(reply)).map(|(at, _)| at)
        } else {
            candidates.next().filter(|(_, owed)| owed.matches(reply)).map(|(at, _)| at)
        };
        match found {
            Some(at) => {
                self.owed.remove(at);
                Ok(())
            }
            None => Err(format!("{conn:?}: {reply:?} answers nothing, or not what comes next of {:?}", self.owed)),
        }
    }

    /// Rule Q-20: the handshake reply, then events, then replies.
    fn check_response(&self, conn: ConnectionKey, edits: bool) -> Broken {
        let mut rest = self.response.as_slice();
        if let [Part::HandshakeReply, tail @ ..] = rest {
            rest = tail;
        }
        let events = rest.iter().take_while(|part| **part == Part::Event).count();
        if rest.iter().skip(events).any(|part| *part == Part::Event) {
            return Err(format!("{conn:?}: an event behind a reply: {:?}", self.response));
        }
        if !edits && !self.owed.is_empty() {
            return Err(format!("{conn:?}: the response is complete without replies to {:?}", self.owed));
        }
        Ok(())
    }
}
