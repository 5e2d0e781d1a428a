//! What a driver must do, without sockets: route, drain, carry, tick.

use std::fmt;

use bayeux_core::{
    BrowserId, ClientId, CloseReason, ConnectionKey, Decision, DecisionId, Drained, Engine, Forward, Input, LinkFacts,
    Notice, Output, ShardId, Time, Transport,
};
use bayeux_proto::{Batch, Limits, Outgoing, decode, encode, frames, meta};
use bytes::Bytes;

use super::{Conn, Happening, Peer, Pending, Planned, Unwritten, World, Writes};
use crate::check::{Broken, Checker};
use crate::wire::{Ended, Envelope, ExchangeKey, Outcome, SocketKey};

impl World {
    pub(super) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.options.config.shards).map(ShardId)
    }

    pub(super) fn engine(&self, shard: ShardId) -> &Engine {
        &self.engines[usize::from(shard.0)]
    }

    pub(super) fn handle(&mut self, shard: ShardId, input: Input) {
        self.engines[usize::from(shard.0)].handle(self.now, input);
        self.poll(shard);
    }

    fn check(&self, broken: Broken) {
        if let Err(what) = broken {
            self.fail(what);
        }
    }

    /// The next shard whose thread accepts a connection.
    pub(super) fn accept(&mut self) -> ShardId {
        self.accepted += 1;
        ShardId(((self.accepted - 1) % usize::from(self.options.config.shards)) as u16)
    }

    /// Handshakes go where the browser's sessions are, everything else where the first message's session is; an id
    /// that is not ours goes anywhere (rules TH-10, TH-30).
    pub(super) fn shard_for_http(&mut self, batch: &Batch, browser: Option<&BrowserId>) -> ShardId {
        let shards = self.options.config.shards;
        let first = batch.messages.first();
        let by_session = first
            .filter(|message| message.channel.as_deref() != Some(meta::HANDSHAKE))
            .and_then(|message| self.shard_of_id(message.client_id.as_deref()));
        let by_browser = || browser.map(|id| id.shard(shards));
        let handshake = first.is_some_and(|message| message.channel.as_deref() == Some(meta::HANDSHAKE));
        let known = if handshake { by_browser() } else { by_session };
        known.unwrap_or_else(|| self.accept())
    }

    fn shard_of_id(&self, id: Option<&str>) -> Option<ShardId> {
        id.and_then(ClientId::shard_of).filter(|shard| shard.0 < self.options.config.shards)
    }

    pub(super) fn open(
        &mut self,
        shard: ShardId,
        peer: Peer,
        transport: Transport,
        http2: bool,
        browser: Option<BrowserId>,
    ) -> ConnectionKey {
        let conn = ConnectionKey(self.peers.len() as u64);
        self.peers.push(peer);
        self.conns.insert(conn, Conn { shard, peer, unwritten: None, response: Vec::new() });
        self.checker.opened(conn, transport.is_http());
        self.trace.note(self.now, format_args!("{shard:?} opened {conn:?} {transport:?} {browser:?}"));
        self.handle(shard, Input::Opened { conn, link: LinkFacts { transport, http2, browser } });
        conn
    }

    pub(super) fn receive(&mut self, conn: ConnectionKey, text: &str, batch: Batch) {
        let shard = self.conns[&conn].shard;
        self.trace.note(self.now, format_args!("{shard:?} received {conn:?} {text}"));
        self.checker.received(conn, &batch);
        if self.happenings.is_some() {
            self.happen(Happening::Received(self.conns[&conn].peer, batch.messages.clone()));
        }
        self.handle(shard, Input::Received { conn, batch });
    }

    pub(super) fn close(&mut self, conn: ConnectionKey) {
        let Some(gone) = self.conns.remove(&conn) else { return };
        let shard = gone.shard;
        self.trace.note(self.now, format_args!("{shard:?} closed {conn:?}"));
        let whole = |unwritten: &Unwritten| unwritten.finished && matches!(gone.peer, Peer::Exchange(_));
        let (unwritten, first) = (gone.unwritten.is_some(), gone.unwritten.as_ref().is_some_and(whole));
        self.checker.closed_by_driver(conn);
        // L-20: a failed write is reported as any other; the key is stale for whichever comes second.
        if first {
            self.handle(shard, Input::Written { conn });
        }
        self.handle(shard, Input::Closed { conn });
        if unwritten && !first {
            self.handle(shard, Input::Written { conn });
        }
    }

    /// The client's side of a connection that broke.
    pub(super) fn lose(&mut self, peer: Peer) {
        match peer {
            Peer::Exchange(key) => {
                if self.exchanges[key.0].is_held() {
                    self.end_exchange(key, Outcome::Aborted);
                }
            }
            Peer::Socket(key) => self.end_socket(key, Ended::ByClient),
        }
    }

    pub(super) fn enqueue(&mut self, key: SocketKey, text: &str) -> bool {
        if !self.sockets[key.0].is_open() {
            return false;
        }
        self.trace.note(self.now, format_args!("sent {key:?} {text}"));
        match decode(Bytes::copy_from_slice(text.as_bytes()), &Limits::default()) {
            Ok(batch) if batch.messages.is_empty() => {} // DI-F7
            Ok(batch) => self.sockets[key.0].inbox.push_back(batch),
            Err(error) => {
                let code = error.close_code();
                self.close(self.sockets[key.0].conn);
                self.end_socket(key, Ended::ByServer { code, reason: "not an envelope" });
            }
        }
        true
    }

    /// Everything that happens without time passing.
    pub(super) fn settle(&mut self) {
        for turn in 0.. {
            if turn == TURNS_MAX {
                self.fail("the engines do not come to rest");
            }
            let mut busy = false;
            for shard in self.shards() {
                busy |= self.poll(shard);
            }
            busy |= self.run_agenda();
            for shard in self.shards() {
                if self.engine(shard).poll_timeout().is_some_and(|at| at <= self.now) {
                    self.trace.note(self.now, format_args!("{shard:?} tick"));
                    self.engines[usize::from(shard.0)].handle(self.now, Input::Tick);
                    self.poll(shard);
                    self.check(Checker::ticked(self.now, self.engine(shard).poll_timeout()));
                    busy = true;
                }
            }
            for key in 0..self.sockets.len() {
                busy |= self.read_socket(SocketKey(key));
            }
            if !busy {
                break;
            }
        }
        self.check(self.checker.quiet(self.session_count(), self.is_in_transit(), self.hooks.edits_replies()));
        self.checker.forget_gone();
    }

    fn run_agenda(&mut self) -> bool {
        let mut busy = false;
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.now
        {
            busy = true;
            match entry.remove() {
                Planned::Written(conn) => self.finish_write(conn),
                Planned::Forwarded { from, to } => {
                    let item = self.links.get_mut(&(from, to)).and_then(|link| link.items.pop_front());
                    let item = item.expect("what was planned is on the link");
                    self.trace.note(self.now, format_args!("{from:?} -> {to:?} {item:?}"));
                    self.handle(to, Input::Forwarded { from, item });
                }
            }
        }
        busy
    }

    /// Reads one envelope of a socket if the engine wants it, moving the socket to the shard of the session first
    /// where that is another one.
    fn read_socket(&mut self, key: SocketKey) -> bool {
        let socket = &self.sockets[key.0];
        let (conn, shard) = (socket.conn, socket.shard);
        let Some(batch) = socket.inbox.front() else { return false };
        if !socket.is_open() || !self.engine(shard).wants_input(conn) {
            return false;
        }
        let first = batch.messages.first();
        let handshake = first.is_some_and(|message| message.channel.as_deref() == Some(meta::HANDSHAKE));
        let home = self.shard_of_id(first.and_then(|message| message.client_id.as_deref())).unwrap_or(shard);
        if !handshake && home != shard && !self.engine(shard).is_bound(conn) {
            // What is under way here may bind it yet, and its replies must leave first.
            if self.conns[&conn].unwritten.is_some() || self.checker.is_parked(conn) {
                return false;
            }
            self.close(conn);
            let conn = self.open(home, key.into(), Transport::WebSocket, false, None);
            let socket = &mut self.sockets[key.0];
            (socket.conn, socket.shard, socket.moves) = (conn, home, socket.moves + 1);
        }
        let socket = &mut self.sockets[key.0];
        let conn = socket.conn;
        let batch = socket.inbox.pop_front().expect("it was there above");
        self.receive(conn, "(the next envelope)", batch);
        true
    }

    fn poll(&mut self, shard: ShardId) -> bool {
        let mut busy = false;
        while let Some(output) = self.engines[usize::from(shard.0)].poll_output() {
            busy = true;
            match output {
                Output::Ready(conn) => {
                    self.check(self.checker.ready(conn));
                    self.drain(shard, conn);
                }
                Output::Ask(decision) => self.on_ask(shard, decision),
                Output::Withdraw(id) => {
                    self.trace.note(self.now, format_args!("{shard:?} withdraw {id:?}"));
                    let broken = self.checker.withdrawn(shard.0, id);
                    self.check(broken);
                    self.retire(shard, id);
                }
                Output::Close { conn, reason } => self.on_close(shard, conn, reason),
                Output::Browser { conn, id } => {
                    self.trace.note(self.now, format_args!("{shard:?} cookie {conn:?} {id}"));
                    let broken = self.checker.cookie(conn);
                    self.check(broken);
                    if let Peer::Exchange(key) = self.conns[&conn].peer {
                        self.exchanges[key.0].cookie = Some(id.as_str().to_owned());
                    }
                }
                Output::Forward { to, item } => self.on_forward(shard, to, *item),
                Output::Notice(notice) => self.on_notice(shard, *notice),
            }
        }
        busy
    }

    fn on_ask(&mut self, shard: ShardId, decision: Box<Decision>) {
        let question = decision.question();
        self.trace.note(self.now, format_args!("{shard:?} ask {:?} {:?}", decision.id(), question.point));
        let broken = self.checker.asked(shard.0, decision.id(), question.conn, decision.deadline(), self.now);
        self.check(broken);
        self.happen(Happening::Asked(decision.question().clone()));
        self.pending.push(Pending { shard, decision });
    }

    fn on_close(&mut self, shard: ShardId, conn: ConnectionKey, reason: CloseReason) {
        self.trace.note(self.now, format_args!("{shard:?} close {conn:?} {reason:?}"));
        let broken = self.checker.closed_by_engine(conn, reason);
        self.check(broken);
        let Some(gone) = self.conns.remove(&conn) else { return };
        match gone.peer {
            Peer::Exchange(key) => {
                let status = match reason {
                    CloseReason::HandshakeInBatch => 400,
                    CloseReason::Flooded => 503,
                    CloseReason::ConnectReplaced | CloseReason::SessionRemoved | CloseReason::Stopping => {
                        self.options.duplicate_connect_status
                    }
                    CloseReason::Lingered | _ => self.fail(format_args!("an exchange was closed for {reason:?}")),
                };
                self.end_exchange(key, Outcome::Status(status));
            }
            Peer::Socket(key) => {
                for frame in gone.unwritten.into_iter().flat_map(|unwritten| unwritten.frames) {
                    self.deliver_frame(key, &frame);
                }
                let (code, reason) = match reason {
                    CloseReason::HandshakeInBatch => (1008, "handshake in a batch"),
                    CloseReason::Flooded => (1008, "flooded"),
                    CloseReason::SessionRemoved => (1000, "Destroy"),
                    CloseReason::Lingered => (1000, "lingered"),
                    CloseReason::Stopping => (1001, "stopping"),
                    CloseReason::ConnectReplaced | _ => {
                        self.fail(format_args!("a WebSocket was closed for {reason:?}"))
                    }
                };
                self.end_socket(key, Ended::ByServer { code, reason });
            }
        }
    }

    fn on_forward(&mut self, from: ShardId, to: ShardId, item: Forward) {
        if to == from || to.0 >= self.options.config.shards {
            self.fail(format_args!("{from:?} forwards to {to:?}"));
        }
        self.forwarded_publishes += u64::from(matches!(item, Forward::Publish { .. }));
        let delay = self.random.duration_up_to(self.options.link_delay);
        let link = self.links.entry((from, to)).or_default();
        link.last = link.last.max(self.now + delay);
        link.items.push_back(item);
        let at = link.last;
        self.plan(at, Planned::Forwarded { from, to });
    }

    fn on_notice(&mut self, shard: ShardId, notice: Notice) {
        self.trace.note(self.now, format_args!("{shard:?} notice {notice:?}"));
        let broken = self.checker.notice(shard.0, &notice);
        self.check(broken);
        if let Notice::SessionAdded { session, .. } = &notice {
            self.sessions.insert(session.as_str().to_owned(), session.clone());
        }
        self.happen(Happening::Notice(notice.clone()));
        self.notices.push(notice);
    }

    /// A decision whose answer is no longer wanted.
    fn retire(&mut self, shard: ShardId, id: DecisionId) {
        if let Some(at) = self.pending.iter().position(|p| p.shard == shard && p.decision.id() == id) {
            let pending = self.pending.remove(at);
            self.happen(Happening::Retired(pending.decision.question().clone()));
            self.stale.push(pending);
        }
    }

    fn drain(&mut self, shard: ShardId, conn: ConnectionKey) {
        let http = matches!(self.conns[&conn].peer, Peer::Exchange(_));
        let budget = if http { self.options.response_budget } else { self.options.budget };
        let mut out = Vec::new();
        let drained = self.engines[usize::from(shard.0)].drain(self.now, conn, budget, &mut out);
        let broken = self.checker.drained(conn, &out, drained, self.hooks.edits_replies());
        self.trace.note(self.now, format_args!("{shard:?} drained {conn:?} {drained:?} {}", Written(&out)));
        self.check(broken);
        if self.happenings.is_some() {
            self.happen(Happening::Drained(self.conns[&conn].peer, out.clone()));
        }
        if out.is_empty() && drained != Drained::Finished {
            return;
        }
        let per_frame = self.options.messages_per_frame;
        let entry = self.conns.get_mut(&conn).expect("it was ready");
        let frames = if http {
            entry.response.append(&mut out);
            if drained == Drained::Finished { vec![encode(&entry.response)] } else { Vec::new() }
        } else {
            frames(&out, per_frame).collect()
        };
        entry.unwritten = Some(Unwritten { frames, finished: drained == Drained::Finished });
        match self.options.writes {
            _ if self.stalled.contains(&entry.peer) => {}
            _ if http && drained == Drained::More && !self.options.part_delay.is_zero() => {
                let delay = self.random.duration_up_to(self.options.part_delay);
                self.plan(self.now + delay, Planned::Written(conn));
            }
            Writes::AtOnce => self.plan(self.now, Planned::Written(conn)),
            Writes::Within(longest) => {
                let delay = self.random.duration_up_to(longest);
                self.plan(self.now + delay, Planned::Written(conn));
            }
            Writes::Manual => {}
        }
    }

    fn plan(&mut self, at: Time, what: Planned) {
        self.agenda.insert((at, self.planned), what);
        self.planned += 1;
    }

    /// What was drained has left, or, where the client is gone, failed to.
    pub(super) fn finish_write(&mut self, conn: ConnectionKey) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        let (shard, peer) = (entry.shard, entry.peer);
        let Some(unwritten) = entry.unwritten.take() else { return };
        for frame in &unwritten.frames {
            match peer {
                Peer::Exchange(key) => self.deliver_body(key, frame),
                Peer::Socket(key) => self.deliver_frame(key, frame),
            }
        }
        self.trace.note(self.now, format_args!("{shard:?} written {conn:?}"));
        let lost = match peer {
            Peer::Exchange(_) => false,
            Peer::Socket(key) => !self.sockets[key.0].is_open(),
        };
        if unwritten.finished {
            self.conns.remove(&conn);
        }
        self.checker.written(conn);
        self.happen(Happening::Written(peer));
        self.handle(shard, Input::Written { conn });
        if lost && self.conns.contains_key(&conn) {
            // The write failed: so the driver notices that a socket is dead.
            self.happen(Happening::Lost(peer));
            self.close(conn);
        }
    }

    fn deliver_body(&mut self, key: ExchangeKey, body: &Bytes) {
        if self.exchanges[key.0].is_held() {
            let envelope = self.envelope(body);
            if let Some(cookie) = self.exchanges[key.0].cookie.clone() {
                let browser = self.exchanges[key.0].browser;
                self.cookies[browser.0] = Some(cookie);
            }
            self.end_exchange(key, Outcome::Answered(envelope));
        }
    }

    fn deliver_frame(&mut self, key: SocketKey, frame: &Bytes) {
        if self.sockets[key.0].is_open() {
            let envelope = self.envelope(frame);
            self.happen(Happening::Frame(key, envelope.clone()));
            self.sockets[key.0].frames.push(envelope);
        }
    }

    /// Reads what the server wrote with another parser than ours.
    fn envelope(&self, bytes: &Bytes) -> Envelope {
        let text = String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| self.fail("what was written is not UTF-8"));
        let messages: Vec<serde_json::Value> = serde_json::from_str(&text)
            .unwrap_or_else(|error| self.fail(format_args!("{text} is not an array of messages: {error}")));
        for message in &messages {
            // M-14, E-68: only a handshake reply names a session.
            let handshake = message.get("channel").and_then(|channel| channel.as_str()) == Some(meta::HANDSHAKE);
            if message.get("clientId").is_some() && !handshake {
                self.fail(format_args!("a clientId leaks in {text}"));
            }
        }
        Envelope { at: self.now, text, messages }
    }

    pub(super) fn end_exchange(&mut self, key: ExchangeKey, outcome: Outcome) {
        let exchange = &mut self.exchanges[key.0];
        exchange.outcome = outcome;
        exchange.ended_at = Some(self.now);
        self.happen(Happening::Ended(key));
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        let now = self.now;
        if let Some(happenings) = &mut self.happenings {
            happenings.push((now, happening));
        }
    }

    fn end_socket(&mut self, key: SocketKey, ended: Ended) {
        let socket = &mut self.sockets[key.0];
        if socket.ended.is_none() {
            socket.ended = Some(ended);
            socket.ended_at = Some(self.now);
            socket.inbox.clear();
            if ended != Ended::ByClient {
                self.happen(Happening::Closed(key));
            }
        }
    }

    pub(super) fn conn_of(&self, peer: Peer) -> Option<ConnectionKey> {
        match peer {
            Peer::Exchange(key) => self.exchanges[key.0].conn,
            Peer::Socket(key) => Some(self.sockets[key.0].conn),
        }
    }
}

/// Messages as they are written, for the trace: encoded only where it is kept.
struct Written<'a>(&'a [Outgoing]);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&encode(self.0)))
    }
}

/// How often the engines may answer each other without time passing. Far above what any test needs, so that only a
/// loop reaches it.
const TURNS_MAX: usize = 10_000;
