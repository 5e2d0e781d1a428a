//! The driver of the testkit: engines, clock, links between shards, connections.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bayeux_core::{BrowserId, Transport};
use bayeux_core::{
    Budget, ClientId, CloseReason, Command, Config, ConnectionKey, Decision, Drained, Engine, Forward, Input,
    LinkFacts, Notice, Output, Question, ShardId, Time, UnixTime, Verdict,
};
use bayeux_proto::{Batch, Limits, Outgoing, decode, encode, frames, meta};
use bytes::Bytes;

use crate::check::{Broken, Checker};
use crate::hooks::ScriptedHooks;
use crate::random::{Random, SeededIds};
use crate::wire::{BrowserKey, Ended, Envelope, Exchange, ExchangeKey, Http, Outcome, Socket, SocketKey};

/// When what was drained has left, as far as the engine hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// In the same step.
    AtOnce,
    /// After a random time up to this one.
    Within(Duration),
    /// When the test says so: [`World::written`].
    Manual,
}

/// What a [`World`] is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides every id and every delay. Printed when an invariant breaks.
    pub seed: u64,
    /// The engines' options; `shards` in it says how many engines there are.
    pub config: Config,
    /// The longest time that a message between two shards takes. Default: zero, so that a step is complete when it
    /// returns.
    pub link_delay: Duration,
    /// When writes end. Default: [`Writes::AtOnce`].
    pub writes: Writes,
    /// Events per WebSocket frame; 0: all of a turn in one (rule O-35). Default: 1.
    pub messages_per_frame: usize,
    /// What one drain of a WebSocket may hand out. Default: no bound.
    pub budget: Budget,
    /// The status of a held connect that was replaced or whose session ended (rule O-29). Default: 500.
    pub duplicate_connect_status: u16,
    /// How many of the last steps are kept, to be printed when a test fails. Default: 60.
    pub steps_kept: usize,
}

impl Options {
    /// The defaults, with that many shards.
    pub fn shards(shards: u16) -> Self {
        let mut config = Config::default();
        config.shards = shards;
        Self {
            seed: 1,
            config,
            link_delay: Duration::ZERO,
            writes: Writes::AtOnce,
            messages_per_frame: 1,
            budget: Budget::UNLIMITED,
            duplicate_connect_status: 500,
            steps_kept: 60,
        }
    }
}

/// One end of a connection: whom a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// An HTTP exchange.
    Exchange(ExchangeKey),
    /// A WebSocket.
    Socket(SocketKey),
}

impl From<ExchangeKey> for Peer {
    fn from(key: ExchangeKey) -> Self {
        Self::Exchange(key)
    }
}

impl From<SocketKey> for Peer {
    fn from(key: SocketKey) -> Self {
        Self::Socket(key)
    }
}

/// A Bayeux server without sockets: as many engines as shards, FIFO links between them, in-memory connections, a clock
/// that stands still until a test advances it.
///
/// It does what a driver must do, nothing more: it routes envelopes to shards, moves WebSockets between shards, drains
/// what is ready, carries forwards, ticks. After every step it checks the invariants and panics, with the seed and the
/// last steps, where one is broken.
pub struct World {
    options: Options,
    hooks: ScriptedHooks,
    engines: Vec<Engine>,
    now: Time,
    random: Random,
    conns: BTreeMap<ConnectionKey, Conn>,
    conns_opened: u64,
    accepted: usize,
    exchanges: Vec<Exchange>,
    sockets: Vec<Socket>,
    cookies: Vec<Option<String>>,
    /// What happens later, by time and then by the order in which it was planned.
    agenda: BTreeMap<(Time, u64), Planned>,
    planned: u64,
    links: BTreeMap<(ShardId, ShardId), Link>,
    pending: Vec<Pending>,
    stale: Vec<Pending>,
    notices: Vec<Notice>,
    sessions: BTreeMap<String, ClientId>,
    /// Only while somebody wants to know.
    happenings: Option<Vec<(Time, Happening)>>,
    checker: Checker,
    trace: Trace,
}

/// Something that a client or the application notices.
#[derive(Debug, Clone)]
pub enum Happening {
    /// An exchange has an outcome.
    Ended(ExchangeKey),
    /// A frame came.
    Frame(SocketKey, Envelope),
    /// A WebSocket was closed by the server.
    Closed(SocketKey),
    /// A question waits for an answer.
    Asked(Question),
    /// The answer to a question is no longer wanted.
    Retired(Question),
    /// A notice.
    Notice(Notice),
}

struct Conn {
    shard: ShardId,
    peer: Peer,
    /// Drained, but not yet written.
    unwritten: Option<Unwritten>,
    /// An exchange's response, until it is complete.
    response: Vec<Outgoing>,
}

struct Unwritten {
    frames: Vec<Bytes>,
    finished: bool,
}

#[derive(Default)]
struct Link {
    items: VecDeque<Forward>,
    /// When the last item arrives: none may overtake it.
    last: Time,
}

enum Planned {
    Written(ConnectionKey),
    Forwarded { from: ShardId, to: ShardId },
}

struct Pending {
    shard: ShardId,
    decision: Box<Decision>,
}

impl World {
    /// A server where time is zero and nothing has happened.
    ///
    /// # Panics
    /// Where `options.config` is not valid.
    pub fn new(options: Options) -> Self {
        options.config.validate().expect("the test's options are valid");
        let hooks = ScriptedHooks::default();
        let config = Arc::new(options.config.clone());
        let engine = |shard| {
            let ids = SeededIds::new(options.seed.wrapping_mul(1_000_003) ^ u64::from(shard) << 48);
            let epoch = UnixTime::from_millis(1_700_000_000_000);
            Engine::new(config.clone(), ShardId(shard), Box::new(ids), Box::new(hooks.clone()), Time::ZERO, epoch)
        };
        Self {
            engines: (0..options.config.shards).map(engine).collect(),
            hooks,
            now: Time::ZERO,
            random: Random::new(options.seed),
            conns: BTreeMap::new(),
            conns_opened: 0,
            accepted: 0,
            exchanges: Vec::new(),
            sockets: Vec::new(),
            cookies: Vec::new(),
            agenda: BTreeMap::new(),
            planned: 0,
            links: BTreeMap::new(),
            pending: Vec::new(),
            stale: Vec::new(),
            notices: Vec::new(),
            sessions: BTreeMap::new(),
            happenings: None,
            checker: Checker::default(),
            trace: Trace::new(options.steps_kept),
            options,
        }
    }

    /// The rules of the application.
    pub fn hooks(&self) -> &ScriptedHooks {
        &self.hooks
    }

    /// What it is made of.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Live sessions, of all shards together.
    pub fn session_count(&self) -> usize {
        self.engines.iter().map(Engine::session_count).sum()
    }

    /// A number that is the same for two runs only if the same things happened in the same order.
    pub fn digest(&self) -> u64 {
        self.trace.digest
    }

    /// The last things that happened, one per line.
    pub fn trace(&self) -> String {
        self.trace.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Takes the notices since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The session of the id `text`, live or not; `None` where none was ever added.
    pub fn session(&self, text: &str) -> Option<&ClientId> {
        self.sessions.get(text)
    }

    /// Whether the id `text` is that of a live session.
    pub fn is_alive(&self, text: &str) -> bool {
        self.checker.is_alive(text)
    }

    /// What happened since the last call, in order. The first call begins the record.
    pub fn take_happenings(&mut self) -> Vec<(Time, Happening)> {
        self.happenings.replace(Vec::new()).unwrap_or_default()
    }

    // ---- HTTP ----

    /// A browser without cookies.
    pub fn browser(&mut self) -> BrowserKey {
        self.cookies.push(None);
        BrowserKey(self.cookies.len() - 1)
    }

    /// The browser's cookie.
    pub fn cookie(&self, browser: BrowserKey) -> Option<&str> {
        self.cookies[browser.0].as_deref()
    }

    /// Changes the browser's cookie.
    pub fn set_cookie(&mut self, browser: BrowserKey, cookie: Option<&str>) {
        self.cookies[browser.0] = cookie.map(str::to_owned);
    }

    /// Sends one envelope over HTTP and lets everything happen that it causes.
    pub fn post(&mut self, browser: BrowserKey, http: Http, body: &str) -> ExchangeKey {
        let key = ExchangeKey(self.exchanges.len());
        self.exchanges.push(Exchange {
            browser,
            conn: None,
            request: body.to_owned(),
            sent_at: self.now,
            outcome: Outcome::Held,
            cookie: None,
            ended_at: None,
        });
        match decode(Bytes::copy_from_slice(body.as_bytes()), &Limits::default()) {
            Err(error) => self.end_exchange(key, Outcome::Status(error.http_status())),
            // TH-42: what carries no message is refused by the transport.
            Ok(batch) if batch.messages.is_empty() => self.end_exchange(key, Outcome::Status(400)),
            Ok(batch) => {
                let id = self.cookies[browser.0].as_deref().and_then(BrowserId::parse);
                let shard = self.shard_for_http(&batch, id.as_ref());
                let conn = self.open(shard, key.into(), http.transport, http.http2, id);
                self.exchanges[key.0].conn = Some(conn);
                self.receive(conn, body, batch);
            }
        }
        self.settle();
        key
    }

    /// The exchange.
    pub fn exchange(&self, key: ExchangeKey) -> &Exchange {
        &self.exchanges[key.0]
    }

    // ---- WebSocket ----

    /// Opens a WebSocket, accepted by the shards in turn.
    pub fn open_socket(&mut self) -> SocketKey {
        let shard = self.accept();
        self.open_socket_at(shard)
    }

    /// Opens a WebSocket that shard `shard` accepts.
    pub fn open_socket_at(&mut self, shard: ShardId) -> SocketKey {
        let key = SocketKey(self.sockets.len());
        self.sockets.push(Socket {
            conn: ConnectionKey(self.conns_opened),
            shard,
            inbox: VecDeque::new(),
            frames: Vec::new(),
            ended: None,
            ended_at: None,
            moves: 0,
        });
        self.open(shard, key.into(), Transport::WebSocket, false, None);
        self.settle();
        key
    }

    /// Sends one envelope on a WebSocket and lets everything happen that it causes. It waits in the socket while the
    /// engine does not want it. On a closed socket it is lost.
    pub fn send(&mut self, key: SocketKey, text: &str) {
        if self.enqueue(key, text) {
            self.settle();
        }
    }

    /// Sends one envelope whether the engine wants it or not.
    pub fn send_against_will(&mut self, key: SocketKey, text: &str) {
        let socket = &self.sockets[key.0];
        if socket.is_open() {
            let batch = decode(Bytes::copy_from_slice(text.as_bytes()), &Limits::default());
            self.receive(socket.conn, text, batch.expect("the test sends an envelope"));
            self.settle();
        }
    }

    /// The WebSocket.
    pub fn socket(&self, key: SocketKey) -> &Socket {
        &self.sockets[key.0]
    }

    /// Takes the frames received since the last call.
    pub fn take_frames(&mut self, key: SocketKey) -> Vec<Envelope> {
        std::mem::take(&mut self.sockets[key.0].frames)
    }

    /// Whether the engine wants another envelope of the WebSocket.
    pub fn wants_input(&self, key: SocketKey) -> bool {
        let socket = &self.sockets[key.0];
        socket.is_open() && self.engine(socket.shard).wants_input(socket.conn)
    }

    // ---- both ----

    /// Whether something drained for the peer is still unwritten.
    pub fn is_writing(&self, peer: impl Into<Peer>) -> bool {
        self.conn_of(peer.into()).and_then(|conn| self.conns.get(&conn)).is_some_and(|conn| conn.unwritten.is_some())
    }

    /// The write in progress has ended, well. Only with [`Writes::Manual`].
    ///
    /// # Panics
    /// Where nothing is being written.
    pub fn written(&mut self, peer: impl Into<Peer>) {
        let conn = self.conn_of(peer.into()).expect("the peer has a connection");
        assert!(self.conns[&conn].unwritten.is_some(), "nothing is being written");
        self.finish_write(conn);
        self.settle();
    }

    /// The connection breaks, and the server notices at once (rule L-47). What was being written is lost.
    pub fn cut(&mut self, peer: impl Into<Peer>) {
        let peer = peer.into();
        if let Some(conn) = self.conn_of(peer) {
            self.lose(peer);
            self.close(conn);
            self.settle();
        }
    }

    /// The connection breaks without a sign: what the server writes from here on is lost, and the next write fails.
    /// The server hears of it only then.
    pub fn cut_unnoticed(&mut self, peer: impl Into<Peer>) {
        self.lose(peer.into());
    }

    // ---- application ----

    /// Gives a command to the shard that it is for.
    pub fn command(&mut self, command: Command) {
        let shard = match &command {
            Command::Deliver { to: session, .. }
            | Command::Disconnect { session }
            | Command::Remove { session }
            | Command::Hold { session }
            | Command::Release { session }
            | Command::Subscribe { session, .. }
            | Command::Unsubscribe { session, .. }
            | Command::SetSession { session, .. }
            | Command::Publish { from: Some(session), .. } => session.shard(),
            Command::Shutdown => {
                for shard in self.shards() {
                    self.handle(shard, Input::Command(Command::Shutdown));
                }
                self.settle();
                return;
            }
            // Any shard will do. Not the first, where the first client usually is: what can cross shards should.
            Command::Publish { .. }
            | Command::CreateChannel { .. }
            | Command::SetChannel { .. }
            | Command::RemoveChannel { .. }
            | _ => ShardId(self.options.config.shards - 1),
        };
        self.command_at(shard, command);
    }

    /// Gives a command to shard `shard`, which must be one that it may go to.
    pub fn command_at(&mut self, shard: ShardId, command: Command) {
        self.trace.note(self.now, format_args!("{shard:?} command {command:?}"));
        self.handle(shard, Input::Command(command));
        self.settle();
    }

    /// The questions that wait for an answer, oldest first.
    pub fn questions(&self) -> Vec<&Question> {
        self.pending.iter().map(|pending| pending.decision.question()).collect()
    }

    /// The questions whose answer is no longer wanted: withdrawn or expired.
    pub fn stale_questions(&self) -> Vec<&Question> {
        self.stale.iter().map(|pending| pending.decision.question()).collect()
    }

    /// Answers the question at `index` of [`World::questions`].
    ///
    /// # Panics
    /// Where there is none.
    pub fn answer(&mut self, index: usize, verdict: Verdict) {
        let Pending { shard, decision } = self.pending.remove(index);
        self.checker.decided(shard.0, decision.id());
        self.trace.note(self.now, format_args!("{shard:?} answer {:?} {verdict:?}", decision.id()));
        self.handle(shard, decision.answer(verdict));
        self.settle();
    }

    /// Answers the question at `index` of [`World::stale_questions`], too late.
    ///
    /// # Panics
    /// Where there is none.
    pub fn answer_late(&mut self, index: usize, verdict: Verdict) {
        let Pending { shard, decision } = self.stale.remove(index);
        self.trace.note(self.now, format_args!("{shard:?} late answer {:?} {verdict:?}", decision.id()));
        self.handle(shard, decision.answer(verdict));
        self.settle();
    }

    // ---- time ----

    /// Lets time pass, from one due moment to the next.
    pub fn advance(&mut self, duration: Duration) {
        let target = self.now + duration;
        while let Some(at) = self.next_due()
            && at <= target
        {
            self.now = self.now.max(at);
            self.settle();
        }
        self.now = target;
        self.settle();
    }

    /// Lets time pass at once: everything due meanwhile happens late, as on a busy machine.
    pub fn oversleep(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.settle();
    }

    /// When something happens next by itself.
    pub fn next_due(&self) -> Option<Time> {
        let timers = self.engines.iter().filter_map(Engine::poll_timeout);
        timers.chain(self.agenda.keys().next().map(|&(at, _)| at)).min()
    }

    /// Fails the test, with what is needed to repeat it.
    ///
    /// # Panics
    /// Always.
    pub fn fail(&self, what: impl fmt::Display) -> ! {
        panic!(
            "{what}\nat {:?}, seed {}, {} shards; the last steps were:\n{}",
            self.now.since(Time::ZERO),
            self.options.seed,
            self.options.config.shards,
            self.trace()
        )
    }

    // ---- the driver ----

    fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.options.config.shards).map(ShardId)
    }

    fn engine(&self, shard: ShardId) -> &Engine {
        &self.engines[usize::from(shard.0)]
    }

    fn handle(&mut self, shard: ShardId, input: Input) {
        self.engines[usize::from(shard.0)].handle(self.now, input);
        self.poll(shard);
    }

    fn check(&self, broken: Broken) {
        if let Err(what) = broken {
            self.fail(what);
        }
    }

    /// The next shard whose thread accepts a connection.
    fn accept(&mut self) -> ShardId {
        self.accepted += 1;
        ShardId(((self.accepted - 1) % usize::from(self.options.config.shards)) as u16)
    }

    /// Handshakes go where the browser's sessions are, everything else where the first message's session is; an id
    /// that is not ours goes anywhere (rules TH-10, TH-30).
    fn shard_for_http(&mut self, batch: &Batch, browser: Option<&BrowserId>) -> ShardId {
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

    fn open(
        &mut self,
        shard: ShardId,
        peer: Peer,
        transport: Transport,
        http2: bool,
        browser: Option<BrowserId>,
    ) -> ConnectionKey {
        let conn = ConnectionKey(self.conns_opened);
        self.conns_opened += 1;
        self.conns.insert(conn, Conn { shard, peer, unwritten: None, response: Vec::new() });
        self.checker.opened(conn, transport.is_http());
        self.trace.note(self.now, format_args!("{shard:?} opened {conn:?} {transport:?} {browser:?}"));
        self.handle(shard, Input::Opened { conn, link: LinkFacts { transport, http2, browser } });
        conn
    }

    fn receive(&mut self, conn: ConnectionKey, text: &str, batch: Batch) {
        let shard = self.conns[&conn].shard;
        self.trace.note(self.now, format_args!("{shard:?} received {conn:?} {text}"));
        self.checker.received(conn, &batch);
        self.handle(shard, Input::Received { conn, batch });
    }

    fn close(&mut self, conn: ConnectionKey) {
        let Some(gone) = self.conns.remove(&conn) else { return };
        let shard = gone.shard;
        self.trace.note(self.now, format_args!("{shard:?} closed {conn:?}"));
        let (unwritten, http) = (gone.unwritten.is_some(), matches!(gone.peer, Peer::Exchange(_)));
        self.checker.closed_by_driver(conn);
        // L-20: a failed write is reported as any other; the key is stale for whichever comes second.
        if unwritten && http {
            self.handle(shard, Input::Written { conn });
        }
        self.handle(shard, Input::Closed { conn });
        if unwritten && !http {
            self.handle(shard, Input::Written { conn });
        }
    }

    /// The client's side of a connection that broke.
    fn lose(&mut self, peer: Peer) {
        match peer {
            Peer::Exchange(key) => {
                if self.exchanges[key.0].is_held() {
                    self.end_exchange(key, Outcome::Aborted);
                }
            }
            Peer::Socket(key) => self.end_socket(key, Ended::ByClient),
        }
    }

    fn enqueue(&mut self, key: SocketKey, text: &str) -> bool {
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
    fn settle(&mut self) {
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
        let in_transit = self.links.values().any(|link| !link.items.is_empty());
        self.check(self.checker.quiet(self.session_count(), in_transit, self.hooks.edits_replies()));
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
    fn retire(&mut self, shard: ShardId, id: bayeux_core::DecisionId) {
        if let Some(at) = self.pending.iter().position(|p| p.shard == shard && p.decision.id() == id) {
            let pending = self.pending.remove(at);
            self.happen(Happening::Retired(pending.decision.question().clone()));
            self.stale.push(pending);
        }
    }

    fn drain(&mut self, shard: ShardId, conn: ConnectionKey) {
        let http = matches!(self.conns[&conn].peer, Peer::Exchange(_));
        let budget = if http { Budget::UNLIMITED } else { self.options.budget };
        let mut out = Vec::new();
        let drained = self.engines[usize::from(shard.0)].drain(self.now, conn, budget, &mut out);
        let broken = self.checker.drained(conn, &out, drained, self.hooks.edits_replies());
        let text = || String::from_utf8_lossy(&encode(&out)).into_owned();
        self.trace.note(self.now, format_args!("{shard:?} drained {conn:?} {drained:?} {}", text()));
        self.check(broken);
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
    fn finish_write(&mut self, conn: ConnectionKey) {
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
        self.handle(shard, Input::Written { conn });
        if lost && self.conns.contains_key(&conn) {
            // The write failed: so the driver notices that a socket is dead.
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

    fn end_exchange(&mut self, key: ExchangeKey, outcome: Outcome) {
        let exchange = &mut self.exchanges[key.0];
        exchange.outcome = outcome;
        exchange.ended_at = Some(self.now);
        self.happen(Happening::Ended(key));
    }

    fn happen(&mut self, happening: Happening) {
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

    fn conn_of(&self, peer: Peer) -> Option<ConnectionKey> {
        match peer {
            Peer::Exchange(key) => self.exchanges[key.0].conn,
            Peer::Socket(key) => Some(self.sockets[key.0].conn),
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.now).field("options", &self.options).finish_non_exhaustive()
    }
}

/// How often the engines may answer each other without time passing. Far above what any test needs, so that only a
/// loop reaches it.
const TURNS_MAX: usize = 10_000;

/// The last things that happened, and a digest of all.
struct Trace {
    lines: VecDeque<String>,
    lines_max: usize,
    digest: u64,
}

impl Trace {
    fn new(lines_max: usize) -> Self {
        Self { lines: VecDeque::new(), lines_max, digest: 0xcbf2_9ce4_8422_2325 }
    }

    fn note(&mut self, now: Time, what: fmt::Arguments<'_>) {
        let line = format!("{:>12.3?} {what}", now.since(Time::ZERO));
        self.digest =
            line.bytes().fold(self.digest, |digest, b| (digest ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        self.lines.push_back(line);
        if self.lines.len() > self.lines_max {
            self.lines.pop_front();
        }
    }
}
