//! Random clients on random transports against 1, 2 and 4 shards, from a seed.
//!
//! Rule: whatever clients, network and hooks do, the invariants hold; a message is delivered at most once, per publisher
//! and channel in order (Q-4, Q-21); and once everything is calm, nothing is left: every held connect is answered,
//! every silent session expires (L-20). Risk: combinations that nobody thought of. Method: valid and invalid operations,
//! lost, broken and slow connections, hooks that answer late or never; phase one checks safety after every step, phase
//! two heals, lets time pass and demands quiet. A failure prints its seed; to repeat it:
//!
//! ```text
//! BAYEUX_SEED=17 cargo test -p bayeux-testkit --test smoke
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use bayeux_core::{
    Answer, Budget, ChannelSetting, ClientId, Command, Edit, Overflow, Points, SessionSetting, Transport, Verdict,
};
use bayeux_testkit::{
    Client, Happening, Http, Options, Outcome, Random, Request, SocketKey, Via, World, Writes, channel, event, pattern,
};
use serde_json::{Value, json};

/// Steps of a run: enough for sessions to live, move and end, few enough for many seeds.
const STEPS: usize = 300;

/// Seeds that every run of the tests repeats. Fresh ones are for runs of their own.
const SEEDS: std::ops::Range<u64> = 0..40;

#[test]
fn random_clients_leave_nothing_behind() {
    if let Some(seed) = std::env::var("BAYEUX_SEED").ok().and_then(|seed| seed.parse().ok()) {
        run(seed);
        return;
    }
    let count = std::env::var("BAYEUX_SEEDS").ok().and_then(|count| count.parse().ok());
    for seed in count.map_or(SEEDS, |count: u64| 0..count) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("to repeat: BAYEUX_SEED={seed} cargo test -p bayeux-testkit --test smoke");
            resume_unwind(panic);
        }
    }
}

fn run(seed: u64) {
    let mut simulation = Simulation::new(seed);
    for _ in 0..STEPS {
        simulation.step();
        simulation.check_deliveries();
    }
    simulation.calm_down();
}

struct Simulation {
    world: World,
    random: Random,
    clients: Vec<Simulated>,
    /// The WebSocket that each message was published on, by the number in it; `None` over HTTP.
    published: Vec<Option<SocketKey>>,
    /// The session whose events each WebSocket receives.
    sessions: BTreeMap<SocketKey, String>,
    /// Sessions and the numbers that they received.
    received: BTreeSet<(String, usize)>,
    /// The last number on a receiving WebSocket, by publishing WebSocket and channel.
    last: BTreeMap<(SocketKey, SocketKey, String), usize>,
}

struct Simulated {
    client: Client,
    /// All lives of one client: where it received events.
    lives: Vec<Client>,
    /// A handshake without answer.
    pending: Option<Request>,
}

/// A delivery that nobody else may see.
fn deliver(to: ClientId) -> Command {
    let event = event("/private", &json!({"to": to.as_str()}));
    Command::Deliver { to, event, from: None }
}

const CHANNELS: [&str; 6] = ["/a", "/b", "/a/b", "/a/c", "/d/e/f", "/service/s"];
const PATTERNS: [&str; 8] = ["/a", "/b", "/**", "/a/*", "/a/**", "/d/e/f", "/d/**", "/service/s"];

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut options = Options::shards(*random.choose(&[1, 2, 4]));
        options.seed = seed;
        options.link_delay = *random.choose(&[Duration::ZERO, Duration::from_millis(30)]);
        options.writes = *random.choose(&[Writes::AtOnce, Writes::Within(Duration::from_millis(40))]);
        options.messages_per_frame = random.below(3);
        if std::env::var_os("BAYEUX_SEED").is_some() {
            options.steps_kept = usize::MAX; // Whoever repeats a seed wants to read all of it.
        }
        if random.percent(30) {
            options.budget = Budget { messages: 1 + random.below(3), bytes: 1 + random.below(500) };
        }
        let config = &mut options.config;
        config.max_sessions_per_browser = *random.choose(&[-1, 1, 2]);
        config.trust_client_session = random.percent(30);
        config.require_handshake_per_connection = random.percent(20);
        config.decision_timeout = Duration::from_secs(3);
        let small_queues = random.percent(30);
        let overflow = *random.choose(&[Overflow::RemoveSession, Overflow::DropNewest, Overflow::DropOldest]);
        let deliver_only = random.percent(20);
        let during_handshake = random.percent(30);
        let max_processing = random.percent(20).then_some(Duration::from_secs(15));
        config.each_transport(|transport| {
            transport.timeout = Duration::from_secs(10);
            transport.max_interval = Duration::from_secs(8);
            transport.max_lazy_timeout = Duration::from_secs(1);
            transport.meta_connect_deliver_only = deliver_only;
            transport.allow_message_delivery_during_handshake = during_handshake;
            transport.max_processing = max_processing;
            transport.overflow = overflow;
            if small_queues {
                transport.max_queue = 4;
            }
        });
        let mut world = World::new(options);
        Self::hook(&world, &mut random);
        let count = 3 + random.below(6);
        let clients: Vec<_> = (0..count)
            .map(|_| Simulated { client: Self::link(&mut world, &mut random, None), lives: Vec::new(), pending: None })
            .collect();
        world.take_happenings();
        let mut simulation = Self {
            world,
            random,
            clients,
            published: Vec::new(),
            sessions: BTreeMap::new(),
            received: BTreeSet::new(),
            last: BTreeMap::new(),
        };
        for at in 0..count {
            simulation.handshake(at);
            simulation.world.advance(Duration::from_millis(100));
            simulation.learn(at);
            let names: Vec<_> = (0..2).map(|_| *simulation.random.choose(&PATTERNS)).collect();
            simulation.send(at, json!({"channel": "/meta/subscribe", "subscription": names}));
        }
        simulation
    }

    /// Hooks that answer now, later, or no.
    fn hook(world: &World, random: &mut Random) {
        if random.percent(50) {
            return;
        }
        if random.percent(20) {
            let mut own = Random::new(random.next_u64());
            world.hooks().on_outgoing(move |_, _, event| match own.below(10) {
                0 => Edit::Drop,
                1 => Edit::Replace(event.clone()),
                _ => Edit::Keep,
            });
        }
        let points =
            [Points::INCOMING, Points::HANDSHAKE, Points::CREATE, Points::SUBSCRIBE, Points::PUBLISH, Points::LISTEN];
        let points = points.into_iter().chain([Points::HANDSHAKEN, Points::SUBSCRIBED, Points::UNSUBSCRIBED]);
        let mut own = random.clone();
        for point in points.filter(|_| random.percent(40)) {
            let mut own = Random::new(own.next_u64());
            world.hooks().on(point, move |question, effects| {
                if own.percent(20)
                    && let Some(to) = question.session.clone()
                {
                    effects.push(deliver(to));
                }
                Some(match own.below(10) {
                    0 => Answer::Now(Verdict::deny()),
                    1 | 2 => Answer::Later,
                    _ => Answer::Now(Verdict::allow()),
                })
            });
        }
    }

    /// Some link: a new browser, another's browser, or a WebSocket.
    fn link(world: &mut World, random: &mut Random, other: Option<Via>) -> Client {
        let http = Http { transport: Transport::LongPolling, http2: random.percent(20) };
        match (random.below(5), other) {
            (0 | 1, _) => Client::websocket(world),
            (2, Some(Via::Http(browser, _))) => Client::over(Via::Http(browser, http)),
            _ => {
                let browser = world.browser();
                Client::over(Via::Http(browser, http))
            }
        }
    }

    fn step(&mut self) {
        let at = self.random.below(self.clients.len());
        self.learn(at);
        let alive = self.world.is_alive(self.clients[at].client.id());
        if !alive && self.clients[at].pending.is_none() && self.random.percent(80) {
            self.handshake(at);
            return;
        }
        match self.random.below(100) {
            0..2 => self.handshake(at),
            2..26 => {
                let advice = match self.random.below(4) {
                    0 => json!({"timeout": 0}),
                    1 => json!({"timeout": self.random.below(4_000), "interval": self.random.below(2_000)}),
                    _ => Value::Null,
                };
                self.send(at, json!({"channel": "/meta/connect", "advice": advice}));
            }
            26..40 => {
                let name = *self.random.choose(&PATTERNS);
                self.send(at, json!({"channel": "/meta/subscribe", "subscription": name}));
            }
            40..44 => {
                let name = *self.random.choose(&PATTERNS);
                self.send(at, json!({"channel": "/meta/unsubscribe", "subscription": name}));
            }
            44..62 => {
                let message = self.publication(at);
                self.send(at, message);
            }
            62..66 => {
                let mut batch: Vec<_> = (0..1 + self.random.below(4)).map(|_| self.publication(at)).collect();
                if self.random.percent(40) {
                    let others = [
                        json!({"channel": "/meta/connect"}),
                        json!({"channel": "/meta/subscribe", "subscription": *self.random.choose(&PATTERNS)}),
                        json!({"channel": "/meta/disconnect"}),
                    ];
                    let other = self.random.choose(&others).clone();
                    batch.insert(self.random.below(batch.len() + 1), other);
                }
                self.send(at, Value::Array(batch));
            }
            66..68 => self.send(at, json!({"channel": "/meta/disconnect"})),
            68..72 => self.nonsense(at),
            72..75 => self.take_over(at),
            75..79 => self.break_something(at),
            79..85 => self.application(at),
            85..88 => self.answer(),
            88..90 => self.world.oversleep(Duration::from_millis(self.random.below(1_500) as u64)),
            _ => self.world.advance(Duration::from_millis(self.random.below(800) as u64)),
        }
    }

    fn send(&mut self, at: usize, message: Value) {
        if self.clients[at].pending.is_some() {
            return; // It does not know its session yet.
        }
        self.clients[at].client.send(&mut self.world, message);
    }

    fn publication(&mut self, at: usize) -> Value {
        let name = *self.random.choose(&CHANNELS);
        let via = self.clients[at].client.via();
        self.published.push(if let Via::Socket(socket) = via { Some(socket) } else { None });
        json!({"channel": name, "data": {"n": self.published.len() - 1}})
    }

    fn handshake(&mut self, at: usize) {
        if self.clients[at].pending.is_some() {
            return;
        }
        let request = self.clients[at].client.send(&mut self.world, json!({"channel": "/meta/handshake"}));
        self.clients[at].pending = Some(request);
    }

    /// Takes the session of an answered handshake.
    fn learn(&mut self, at: usize) {
        let Simulated { client, pending, .. } = &mut self.clients[at];
        let Some(reply) = pending.as_ref().and_then(|request| client.reply(&self.world, request)) else { return };
        *pending = None;
        if let Some(id) = reply["clientId"].as_str() {
            client.set_id(id);
        }
    }

    fn nonsense(&mut self, at: usize) {
        let messages = [
            json!({"channel": "/a//b", "data": 1}),
            json!({"channel": 5, "data": 1}),
            json!({"channel": "/a/*", "data": 1}),
            json!({"channel": "/a", "id": "<>", "data": 1}),
            json!({"channel": "/meta/other"}),
            json!({"channel": "/meta/subscribe", "subscription": {"a": 1}}),
            json!({"channel": "/meta/connect", "advice": 7}),
            json!({"channel": "/a", "clientId": "nobody", "data": 1}),
            json!([{"channel": "/meta/handshake"}, {"channel": "/a", "data": 1}]),
            json!([]),
            json!({"channel": "/a", "clientId": self.clients[0].client.id(), "data": "stolen"}),
        ];
        // An id is no secret to a WebSocket, which would take the session over (rule TW-11).
        let harmless = messages.len() - usize::from(matches!(self.clients[at].client.via(), Via::Socket(_)));
        let message = messages[self.random.below(harmless)].clone();
        self.send(at, message);
    }

    /// The session of `at` goes on over another link.
    fn take_over(&mut self, at: usize) {
        let other = self.clients[self.random.below(self.clients.len())].client.via();
        let link = Self::link(&mut self.world, &mut self.random, Some(other));
        let Simulated { client, lives, pending } = &mut self.clients[at];
        let moved = client.moved(link.via());
        if let Via::Socket(socket) = moved.via() {
            self.sessions.insert(socket, moved.id().to_owned());
        }
        lives.push(std::mem::replace(client, moved));
        *pending = None;
    }

    fn break_something(&mut self, at: usize) {
        let noticed = self.random.percent(60);
        match self.clients[at].client.via() {
            Via::Socket(socket) => {
                if noticed {
                    self.world.cut(socket)
                } else {
                    self.world.cut_unnoticed(socket)
                }
                self.take_over(at);
            }
            Via::Http(..) => {
                let held = self.clients[at].client.exchanges().iter().rev().copied();
                if let Some(key) = held.into_iter().find(|&key| self.world.exchange(key).is_held()) {
                    if noticed { self.world.cut(key) } else { self.world.cut_unnoticed(key) }
                }
            }
        }
    }

    fn application(&mut self, at: usize) {
        let session = self.world.session(self.clients[at].client.id()).cloned();
        let name = *self.random.choose(&["/a", "/b", "/a/b", "/d/**"]);
        let command = match (self.random.below(14), session) {
            (0, Some(to)) => deliver(to),
            (1, Some(session)) => Command::Disconnect { session },
            (2, Some(session)) => Command::Remove { session },
            (3, Some(session)) => {
                self.world.command(Command::Hold { session: session.clone() });
                let to = session.clone();
                self.world.command(deliver(to));
                Command::Release { session }
            }
            (4, Some(session)) => {
                let setting = SessionSetting::Timeout(Some(Duration::from_secs(1 + self.random.below(4) as u64)));
                Command::SetSession { session, setting }
            }
            (5, _) => Command::RemoveChannel { channel: pattern(name) },
            (6, _) => {
                let lazy = self.random.percent(50);
                Command::SetChannel { channel: pattern(name), setting: ChannelSetting::Lazy(lazy) }
            }
            (12, Some(session)) => {
                let time = Some(Duration::from_millis(self.random.below(3_000) as u64));
                let settings = [
                    SessionSetting::Interval(time),
                    SessionSetting::MaxInterval(time),
                    SessionSetting::MaxLazyTimeout(time),
                    SessionSetting::BroadcastToPublisher(self.random.percent(50)),
                    SessionSetting::MetaConnectDeliverOnly(self.random.percent(50)),
                    SessionSetting::Timeout(None),
                ];
                Command::SetSession { session, setting: *self.random.choose(&settings) }
            }
            (13, _) => Command::CreateChannel { channel: pattern(name) },
            (7, Some(session)) => Command::Subscribe { session, channel: pattern("/a/**") },
            (8, Some(session)) => Command::Unsubscribe { session, channel: pattern("/a/**") },
            _ => {
                self.published.push(None);
                let data = json!({"n": self.published.len() - 1});
                Command::Publish { channel: channel("/a/b"), event: event("/a/b", &data), from: None, chain: 0 }
            }
        };
        self.world.command(command);
    }

    /// Some question is answered: in time, or too late.
    fn answer(&mut self) {
        let verdict = if self.random.percent(80) { Verdict::allow() } else { Verdict::deny() };
        let (open, stale) = (self.world.questions().len(), self.world.stale_questions().len());
        if open > 0 && self.random.percent(80) {
            self.world.answer(self.random.below(open), verdict);
        } else if stale > 0 {
            self.world.answer_late(self.random.below(stale), verdict);
        }
    }

    /// What came since the last call: no session gets a message twice, and of what one WebSocket published on one channel
    /// another receives the parts in order. Responses of different exchanges may overtake each other (rule Q-22).
    fn check_deliveries(&mut self) {
        for (_, happening) in self.world.take_happenings() {
            if let Happening::Frame(socket, frame) = &happening {
                for message in &frame.messages {
                    if let Some(id) = message["clientId"].as_str() {
                        self.sessions.insert(*socket, id.to_owned());
                    }
                    let session = self.sessions.get(socket).cloned().unwrap_or_default();
                    self.check_event(&session, Some(*socket), message);
                }
            }
            if let Happening::Ended(exchange) = &happening
                && let Outcome::Answered(body) = &self.world.exchange(*exchange).outcome
            {
                let (body, request) = (body.clone(), self.world.exchange(*exchange).request.clone());
                let request: Value = serde_json::from_str(&request).expect("it was sent as JSON");
                let named = request[0]["clientId"].as_str().or_else(|| body.messages[0]["clientId"].as_str());
                let session = named.unwrap_or_default().to_owned();
                for message in &body.messages {
                    self.check_event(&session, None, message);
                }
            }
        }
    }

    fn check_event(&mut self, session: &str, socket: Option<SocketKey>, event: &Value) {
        if event["data"]["to"].as_str().is_some_and(|to| to != session) {
            self.world.fail(format_args!("session {session} received {event}"));
        }
        let Some(n) = event["data"]["n"].as_u64().map(|n| n as usize) else { return };
        if !self.received.insert((session.to_owned(), n)) {
            self.world.fail(format_args!("session {session} received {event} twice"));
        }
        if let (Some(socket), Some(publisher)) = (socket, self.published[n]) {
            let channel = event["channel"].as_str().unwrap_or_default().to_owned();
            let last = self.last.insert((socket, publisher, channel), n);
            if last.is_some_and(|last| last > n) {
                self.world.fail(format_args!("session {session} received {event} after {last:?}"));
            }
        }
    }

    /// Whatever happened before, new sessions reach each other through the same channels, each message once.
    fn talk_again(&mut self) {
        let mut clients: Vec<_> = (0..4).map(|at| self.newcomer(at % 2 == 0)).collect();
        for name in ["/a/b", "/d/e/f", "/new"] {
            for publisher in 0..clients.len() {
                self.published.push(None);
                let n = self.published.len() - 1;
                clients[publisher].send(&mut self.world, json!({"channel": name, "data": {"n": n}}));
                // Longer than lazy messages wait, so that a queue of four is enough.
                self.world.advance(Duration::from_secs(2));
                for (at, client) in clients.iter_mut().enumerate() {
                    client.send(&mut self.world, json!({"channel": "/meta/connect", "advice": {"timeout": 0}}));
                    self.world.advance(Duration::from_millis(200));
                    let got = client.data(&self.world).iter().filter(|data| data["n"] == n).count();
                    if got != 1 {
                        self.world.fail(format_args!("newcomer {at} received {n} on {name} {got} times"));
                    }
                }
            }
        }
        self.check_deliveries();
        for mut client in clients {
            client.send(&mut self.world, json!({"channel": "/meta/disconnect"}));
        }
    }

    fn newcomer(&mut self, websocket: bool) -> Client {
        let world = &mut self.world;
        let mut client = if websocket { Client::websocket(world) } else { Client::long_polling(world) };
        let request = client.send(world, json!({"channel": "/meta/handshake"}));
        world.advance(Duration::from_millis(200));
        let Some(reply) = client.reply(world, &request) else { world.fail("no reply to a handshake") };
        client.set_id(reply["clientId"].as_str().unwrap_or_default());
        let names = ["/a/b", "/d/**", "/new", "/**"];
        let request = client.send(world, json!({"channel": "/meta/subscribe", "subscription": names}));
        world.advance(Duration::from_millis(500));
        if client.reply(world, &request).is_none_or(|reply| reply["successful"] == false) {
            world.fail(format_args!("newcomer cannot subscribe: {:?}", client.reply(world, &request)));
        }
        client
    }

    /// Phase two: no more requests; what is open is answered, what is silent expires.
    fn calm_down(&mut self) {
        self.world.hooks().forget();
        while !self.world.questions().is_empty() {
            self.world.answer(0, Verdict::allow());
        }
        self.world.advance(Duration::from_secs(5));
        self.check_deliveries();
        self.talk_again();
        // The longest a session may live: a hold, the interval a client asked for, maxInterval, maxProcessing.
        self.world.advance(Duration::from_secs(60));
        for simulated in &self.clients {
            for life in simulated.lives.iter().chain([&simulated.client]) {
                for &key in life.exchanges() {
                    let exchange = self.world.exchange(key);
                    if exchange.outcome == Outcome::Held {
                        self.world.fail(format_args!("no answer to {}", exchange.request));
                    }
                }
            }
        }
        if self.world.session_count() > 0 {
            self.world.fail(format_args!("{} sessions are left", self.world.session_count()));
        }
        // All that is left to happen is the sweeping of channels, and that ends too.
        self.world.command(Command::RemoveChannel { channel: pattern("/service/s") });
        self.world.advance(Duration::from_secs(60));
        if self.world.channel_count() > 0 {
            self.world.fail(format_args!("{} channels are left", self.world.channel_count()));
        }
        if let Some(due) = self.world.next_due() {
            self.world.fail(format_args!("something is still due: {due:?}"));
        }
    }
}
