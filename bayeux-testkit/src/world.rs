//! The world of a test: engines, clock, connections, application. What a driver does for it is in `driver`.

mod driver;
mod trace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bayeux_core::{
    BrowserId, Budget, ClientId, Command, Config, ConnectionKey, Decision, Engine, Forward, Input, Interests, Notice,
    Question, ShardId, Time, Transport, UnixTime, Verdict,
};
use bayeux_proto::{ChannelPattern, Limits, Message, Outgoing, decode};
use bytes::Bytes;

use crate::check::Checker;
use crate::hooks::ScriptedHooks;
use crate::random::{Random, SeededIds};
use crate::wire::{BrowserKey, Envelope, Exchange, ExchangeKey, Http, Outcome, Socket, SocketKey};
use trace::Trace;

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
    /// Whether the engines share their [`Interests`]. Default: they do.
    pub interests: bool,
    /// When writes end. Default: [`Writes::AtOnce`].
    pub writes: Writes,
    /// Events per WebSocket frame; 0: all of a turn in one (rule O-35). Default: 1.
    pub messages_per_frame: usize,
    /// What one drain of a WebSocket may hand out. Default: no bound.
    pub budget: Budget,
    /// What one drain of an HTTP exchange may hand out. Default: no bound.
    pub response_budget: Budget,
    /// The longest time between two parts of an HTTP response. Default: zero.
    pub part_delay: Duration,
    /// The status of a held connect that was replaced or whose session ended (rule O-29). Default: 500.
    pub duplicate_connect_status: u16,
    /// How many of the last steps are kept, to be printed when a test fails. 0: nothing is written down, which is faster,
    /// and [`World::digest`] tells nothing. Default: 60.
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
            interests: true,
            writes: Writes::AtOnce,
            messages_per_frame: 1,
            budget: Budget::UNLIMITED,
            response_budget: Budget::UNLIMITED,
            part_delay: Duration::ZERO,
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
    /// The peer of every connection there ever was, by its key.
    peers: Vec<Peer>,
    accepted: usize,
    exchanges: Vec<Exchange>,
    sockets: Vec<Socket>,
    cookies: Vec<Option<String>>,
    /// What happens later, by time and then by the order in which it was planned.
    agenda: BTreeMap<(Time, u64), Planned>,
    planned: u64,
    links: BTreeMap<(ShardId, ShardId), Link>,
    forwarded_publishes: u64,
    pending: Vec<Pending>,
    stale: Vec<Pending>,
    /// Peers that take nothing at present.
    stalled: BTreeSet<Peer>,
    notices: Vec<Notice>,
    sessions: BTreeMap<String, ClientId>,
    /// Only while somebody wants to know.
    happenings: Option<Vec<(Time, Happening)>>,
    checker: Checker,
    trace: Trace,
}

/// Something that a client, the driver or the application notices.
#[derive(Debug, Clone)]
pub enum Happening {
    /// The engine was given an envelope.
    Received(Peer, Vec<Message>),
    /// The engine handed out messages to be written: what they say is decided now, whenever they leave.
    Drained(Peer, Vec<Outgoing>),
    /// What was drained has left.
    Written(Peer),
    /// The connection broke, and the engine was told.
    Lost(Peer),
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
        let interests = (options.interests && config.shards > 1).then(|| Arc::new(Interests::new(config.shards)));
        let engine = |shard| {
            let ids = SeededIds::new(options.seed.wrapping_mul(1_000_003) ^ u64::from(shard) << 48);
            let epoch = UnixTime::from_millis(1_700_000_000_000);
            let (ids, hooks) = (Box::new(ids), Box::new(hooks.clone()));
            let mut engine = Engine::new(config.clone(), ShardId(shard), ids, hooks, Time::ZERO, epoch);
            if let Some(interests) = &interests {
                engine.share_interests(Arc::clone(interests));
            }
            engine
        };
        Self {
            engines: (0..options.config.shards).map(engine).collect(),
            hooks,
            now: Time::ZERO,
            random: Random::new(options.seed),
            conns: BTreeMap::new(),
            peers: Vec::new(),
            accepted: 0,
            exchanges: Vec::new(),
            sockets: Vec::new(),
            cookies: Vec::new(),
            agenda: BTreeMap::new(),
            planned: 0,
            links: BTreeMap::new(),
            forwarded_publishes: 0,
            pending: Vec::new(),
            stale: Vec::new(),
            stalled: BTreeSet::new(),
            notices: Vec::new(),
            sessions: BTreeMap::new(),
            happenings: None,
            checker: Checker::default(),
            trace: Trace::new(options.steps_kept),
            options,
        }
    }

    /// How many publishes shards have forwarded to others, each counted for each of them.
    pub fn forwarded_publishes(&self) -> u64 {
        self.forwarded_publishes
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

    /// Channels that the shards know, each shard's counted.
    pub fn channel_count(&self) -> usize {
        self.engines.iter().map(Engine::channel_count).sum()
    }

    /// Channels that some shard knows, each once, by name.
    pub fn channels(&self) -> Vec<ChannelPattern> {
        let mut channels: Vec<ChannelPattern> = self.engines.iter().flat_map(Engine::channels).cloned().collect();
        channels.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        channels.dedup_by(|a, b| a.as_str() == b.as_str());
        channels
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
            http,
            cookie_sent: self.cookies[browser.0].clone(),
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
            conn: ConnectionKey(self.peers.len() as u64),
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

    /// From now on the parts of responses take no more time than other writes (see [`Options::part_delay`]).
    pub fn hasten_responses(&mut self) {
        self.options.part_delay = Duration::ZERO;
    }

    /// Whether the engine waits before it goes on with what the peer sent: for a hook, or, as far as can be known, for
    /// another shard.
    pub fn is_blocked(&self, peer: impl Into<Peer>) -> bool {
        self.is_in_transit() || self.conn_of(peer.into()).is_some_and(|conn| self.checker.is_parked(conn))
    }

    /// Whether something is on its way between shards.
    pub fn is_in_transit(&self) -> bool {
        self.links.values().any(|link| !link.items.is_empty())
    }

    /// The peer at the other end of a connection, open or not.
    pub fn peer_of(&self, conn: ConnectionKey) -> Option<Peer> {
        usize::try_from(conn.0).ok().and_then(|at| self.peers.get(at)).copied()
    }

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
            if self.conns.contains_key(&conn) {
                self.happen(Happening::Lost(peer));
            }
            self.close(conn);
            self.settle();
        }
    }

    /// The peer takes nothing from now on: what is drained for it is not written.
    pub fn stall(&mut self, peer: impl Into<Peer>) {
        self.stalled.insert(peer.into());
    }

    /// The peer takes what is drained for it again, what waits first.
    pub fn unstall(&mut self, peer: impl Into<Peer>) {
        let peer = peer.into();
        if self.stalled.remove(&peer)
            && let Some(conn) = self.conn_of(peer)
            && self.conns.get(&conn).is_some_and(|conn| conn.unwritten.is_some())
        {
            self.finish_write(conn);
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
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.now).field("options", &self.options).finish_non_exhaustive()
    }
}
