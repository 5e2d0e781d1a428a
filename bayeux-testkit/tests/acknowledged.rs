//! Acknowledged messages under a hostile network: nothing lost, doubled or reordered.
//!
//! Rule: sections XA and 14, that a client which asks for acknowledgements sees every event once and in order while its
//! session lives, whatever happens to single requests and responses. Risk: each loss is somewhere between two numbers
//! that two sides keep, and shows only in rare orders. Method: a model of a client (one number, one list) against the
//! engine, with every request and response dropped, doubled, delayed or cut off at random, and the transport switched in
//! between. After every response the list must be 0, 1, 2 and so on; in the end, with the network healed, it must be
//! complete. The same model is run against servers that are wrong on purpose, and must say so.
//!
//! A client takes whole responses (rule XA-6): an HTTP body, or a frame. The network breaks between any two of them;
//! some runs have more to send than fits into one frame.
//!
//! ```text
//! BAYEUX_SEED=17 cargo test -p bayeux-testkit --test acknowledged
//! BAYEUX_SEEDS=5000 cargo test --release -p bayeux-testkit --test acknowledged
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bayeux_core::{Budget, Command, Edit, SessionSetting};
use bayeux_proto::{AckReply, Lazy};
use bayeux_testkit::{
    BrowserKey, ExchangeKey, Http, Options, Outcome, Random, SocketKey, World, Writes, channel, event,
};
use serde_json::{Value, json};

const SEEDS: u64 = 150;
const STEPS: usize = 250;

#[test]
fn nothing_is_lost_doubled_or_reordered() {
    if let Some(seed) = std::env::var("BAYEUX_SEED").ok().and_then(|seed| seed.parse().ok()) {
        run(seed, Sabotage::None);
        return;
    }
    let count = std::env::var("BAYEUX_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(SEEDS);
    let mut resent = 0;
    for seed in 0..count {
        match catch_unwind(|| run(seed, Sabotage::None)) {
            Ok(stats) => resent += stats.resent,
            Err(panic) => {
                eprintln!("to repeat: BAYEUX_SEED={seed} cargo test -p bayeux-testkit --test acknowledged");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(resent > 0, "no response was ever lost: the model proves nothing");
}

/// Servers that are wrong in one way each: within a few seeds the model must notice.
#[test]
fn model_notices_servers_that_are_wrong() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let missed: Vec<Sabotage> = Sabotage::ALL
        .into_iter()
        .filter(|sabotage| (0..20).all(|seed| catch_unwind(AssertUnwindSafe(|| run(seed, *sabotage))).is_ok()))
        .collect();
    std::panic::set_hook(hook);
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

/// What a server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    None,
    /// Batches are closed under a number that is too high, so that the client acknowledges what it never got.
    NumberTooHigh,
    /// Under one that is too low, so that it is sent again what it has.
    NumberTooLow,
    /// Connect replies have no number.
    NoNumber,
    /// The two events that were queued last change places, at times.
    Reorders,
    /// One event in many is not queued.
    DropsOne,
}

impl Sabotage {
    const ALL: [Self; 5] = [Self::NumberTooHigh, Self::NumberTooLow, Self::NoNumber, Self::Reorders, Self::DropsOne];

    fn prepare(self, world: &World) {
        let mut count = 0;
        match self {
            Self::None => {}
            Self::NumberTooHigh | Self::NumberTooLow | Self::NoNumber => world.hooks().on_reply(move |_, reply| {
                if let Some(AckReply::Batch(batch)) = reply.ack {
                    let wrong = if self == Self::NumberTooHigh { batch + 1 } else { batch - 1 };
                    reply.ack = (self != Self::NoNumber).then_some(AckReply::Batch(wrong));
                }
                Edit::Keep
            }),
            Self::Reorders => world.hooks().on_queued(move |_, queue| {
                count += 1;
                if count % 7 == 0 && queue.len() >= 2 {
                    let last = queue.len() - 1;
                    let newest: Vec<_> = queue.iter().skip(last - 1).cloned().collect();
                    newest.into_iter().rev().zip(last - 1..).all(|(event, index)| queue.replace(index, event));
                }
            }),
            Self::DropsOne => world.hooks().on_outgoing(move |_, _, _| {
                count += 1;
                if count % 17 == 0 { Edit::Drop } else { Edit::Keep }
            }),
        }
    }
}

#[derive(Debug, Default)]
struct Stats {
    /// Events that came again after their response was lost.
    resent: usize,
}

/// A client that acknowledges, and the network that is against it.
struct Model {
    world: World,
    random: Random,
    browser: BrowserKey,
    http: Http,
    id: String,
    /// The last batch that it has (rule XA-6).
    ack: u64,
    /// The numbers of the events it was given, in order.
    got: Vec<u64>,
    published: u64,
    way: Way,
    /// Requests that the client gave up and the network still holds.
    stray: Vec<String>,
    /// Bytes of each event beside its number: with many, not all that waits fits into one frame.
    padding: usize,
    /// Events in responses that were lost.
    lost: usize,
}

/// How the client connects at present.
enum Way {
    Polls(Option<ExchangeKey>),
    Socket {
        key: SocketKey,
        /// A connect waits for its reply.
        waits: bool,
    },
}

fn run(seed: u64, sabotage: Sabotage) -> Stats {
    let mut model = Model::new(seed, sabotage);
    for _ in 0..STEPS {
        model.step();
    }
    model.heal();
    Stats { resent: model.lost }
}

impl Model {
    fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Random::new(seed ^ 0xac);
        let mut options = Options::shards(*random.choose(&[1, 1, 2, 4]));
        options.seed = seed;
        options.writes = *random.choose(&[Writes::AtOnce, Writes::AtOnce, Writes::Within(Duration::from_millis(50))]);
        if random.percent(30) {
            options.budget = Budget { messages: 1 + random.below(3), bytes: 1 + random.below(300) };
        }
        if std::env::var_os("BAYEUX_SEED").is_some() {
            options.steps_kept = usize::MAX;
        }
        let config = &mut options.config;
        config.acknowledge = true;
        config.max_sessions_per_browser = *random.choose(&[-1, 1]);
        let handshake_delivery = random.percent(20);
        config.each_transport(|options| {
            options.max_interval = Duration::from_secs(3_600);
            options.allow_message_delivery_during_handshake = handshake_delivery;
        });
        let padding = *random.choose(&[0, 0, 0, 9_000, 40_000]);
        let mut world = World::new(options);
        let browser = world.browser();
        let mut model = Self {
            world,
            random,
            browser,
            http: Http::default(),
            id: String::new(),
            ack: 0,
            got: Vec::new(),
            published: 0,
            way: Way::Polls(None),
            stray: Vec::new(),
            padding,
            lost: 0,
        };
        model.begin(sabotage);
        model
    }

    fn begin(&mut self, sabotage: Sabotage) {
        let hello = json!({"channel": "/meta/handshake", "version": "1.0", "ext": {"ack": true}});
        let key = self.world.post(self.browser, self.http, &hello.to_string());
        self.world.advance(Duration::from_millis(100));
        let reply = self.world.exchange(key).messages()[0].clone();
        self.id = reply["clientId"].as_str().expect("an id").to_owned();
        let enabled = &reply["ext"]["ack"];
        if *enabled != true {
            // O-10: the first batch may have come already.
            self.ack = enabled["batch"].as_u64().expect("XA-1");
        }
        let subscribe = json!({"channel": "/meta/subscribe", "subscription": "/seq", "clientId": self.id});
        self.world.post(self.browser, self.http, &subscribe.to_string());
        self.world.advance(Duration::from_millis(100));
        if self.random.percent(20) {
            // An application may ask for it; acknowledged events come in connects all the same (rule XA-2).
            let session = self.world.session(&self.id).expect("it was added").clone();
            let setting = SessionSetting::MetaConnectDeliverOnly(false);
            self.world.command(Command::SetSession { session, setting });
        }
        sabotage.prepare(&self.world);
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..25 => self.publish(),
            25..55 => self.connect(),
            55..75 => self.take(),
            75..80 => self.give_up(),
            80..85 => self.let_a_stray_arrive(),
            85..90 => self.switch(),
            90..93 => self.publish_as_client(),
            _ => {
                let time = self.random.duration_up_to(Duration::from_secs(8));
                self.world.advance(time);
            }
        }
        assert!(self.world.is_alive(&self.id), "the session must not end here");
    }

    fn publish(&mut self) {
        for _ in 0..=self.random.below(3) {
            let mut event = event("/seq", &json!([self.published, "x".repeat(self.padding)]));
            if self.random.percent(15) {
                event.lazy = Lazy::Yes;
            }
            self.world.command(Command::Publish { channel: channel("/seq"), event, from: None, chain: 0 });
            self.published += 1;
        }
    }

    fn connect_message(&self, timeout: Option<u64>) -> String {
        let kind = if matches!(self.way, Way::Polls(_)) { "long-polling" } else { "websocket" };
        let mut connect = json!({
            "id": "c", "channel": "/meta/connect", "clientId": self.id, "connectionType": kind, "ext": {"ack": self.ack},
        });
        if let Some(timeout) = timeout {
            connect["advice"] = json!({"timeout": timeout});
        }
        connect.to_string()
    }

    /// Sends a connect, if none is under way, and perhaps the network has its own idea of it.
    fn connect(&mut self) {
        // XA-8: a timeout that the client asks for wins.
        let timeout = if self.random.percent(10) { Some(self.random.next_u64() % 3_000) } else { None };
        let text = self.connect_message(timeout);
        let fate = self.random.below(100);
        match &mut self.way {
            Way::Polls(None) => match fate {
                0..65 => {
                    let key = self.world.post(self.browser, self.http, &text);
                    self.way = Way::Polls(Some(key));
                }
                // Doubled: the client hears one of the two responses.
                65..78 => {
                    let first = self.world.post(self.browser, self.http, &text);
                    if self.random.percent(50) {
                        let time = self.random.duration_up_to(Duration::from_secs(2));
                        self.world.advance(time);
                    }
                    let second = self.world.post(self.browser, self.http, &text);
                    let heard = if self.random.percent(50) { first } else { second };
                    self.way = Way::Polls(Some(heard));
                }
                // Lost; or so the client thinks.
                78..90 => {}
                _ => self.stray.push(text),
            },
            Way::Socket { key, waits: waits @ false } => {
                *waits = true;
                let key = *key;
                self.world.send(key, &text);
            }
            Way::Polls(Some(_)) | Way::Socket { waits: true, .. } => {}
        }
    }

    /// Takes what has come, unless it is lost on its way.
    fn take(&mut self) {
        let lost = self.random.percent(30);
        match &self.way {
            Way::Polls(Some(key)) => {
                let messages = match &self.world.exchange(*key).outcome {
                    Outcome::Held => return,
                    Outcome::Answered(envelope) => envelope.messages.clone(),
                    Outcome::Status(_) | Outcome::Aborted => Vec::new(),
                };
                self.way = Way::Polls(None);
                if lost {
                    self.lost += messages.iter().filter(|message| message["channel"] == "/seq").count();
                } else {
                    self.hear(&messages);
                }
            }
            Way::Socket { key, .. } => {
                let key = *key;
                let mut frames = self.world.take_frames(key);
                let open = self.world.socket(key).is_open();
                let breaks = lost || !open;
                // It breaks behind some frame; until then, what has come is there.
                let heard = if breaks { self.random.below(frames.len() + 1) } else { frames.len() };
                let rest = frames.split_off(heard);
                if breaks {
                    self.lost += rest.iter().map(|frame| frame.events().count()).sum::<usize>();
                    self.world.cut(key);
                }
                for frame in frames {
                    self.hear(&frame.messages);
                }
                if breaks {
                    self.open_way();
                }
            }
            Way::Polls(None) => {}
        }
    }

    /// What a client does with a response (rule XA-6).
    fn hear(&mut self, messages: &[Value]) {
        for message in messages {
            match message["channel"].as_str() {
                Some("/seq") => {
                    let number = message["data"][0].as_u64().expect("a number");
                    if number != self.got.len() as u64 {
                        let expected = self.got.len();
                        self.world.fail(format!("{number} came, {expected} was to come"));
                    }
                    self.got.push(number);
                }
                Some("/meta/connect") => {
                    if let Way::Socket { waits, .. } = &mut self.way {
                        *waits = false;
                    }
                    if message["successful"] == true
                        && let Some(batch) = message["ext"]["ack"].as_u64()
                    {
                        self.ack = batch;
                    }
                }
                _ => {}
            }
        }
    }

    /// The client waits no longer.
    fn give_up(&mut self) {
        match self.way {
            Way::Polls(Some(key)) => {
                if self.random.percent(50) {
                    self.world.cut(key);
                } else {
                    // Half open: the server does not hear of it.
                    self.world.cut_unnoticed(key);
                }
                self.way = Way::Polls(None);
            }
            Way::Socket { key, .. } => {
                self.world.cut(key);
                self.open_way();
            }
            Way::Polls(None) => {}
        }
    }

    fn let_a_stray_arrive(&mut self) {
        if !self.stray.is_empty() {
            let at = self.random.below(self.stray.len());
            let text = self.stray.swap_remove(at);
            // Nobody hears the response.
            self.world.post(self.browser, self.http, &text);
        }
    }

    /// To the other transport, whatever is under way on this one.
    fn switch(&mut self) {
        match self.way {
            Way::Polls(outstanding) => {
                if let Some(key) = outstanding
                    && self.random.percent(50)
                {
                    self.world.cut(key);
                }
                self.way = Way::Socket { key: self.world.open_socket(), waits: false };
            }
            Way::Socket { key, .. } => {
                if self.random.percent(50) {
                    self.world.cut(key);
                }
                self.way = Way::Polls(None);
            }
        }
    }

    fn open_way(&mut self) {
        self.way = if self.random.percent(70) {
            Way::Socket { key: self.world.open_socket(), waits: false }
        } else {
            Way::Polls(None)
        };
    }

    /// XA-2: what is no connect brings no events along.
    fn publish_as_client(&mut self) {
        let publish = json!({"id": "p", "channel": "/other", "clientId": self.id, "data": 1}).to_string();
        if let Way::Polls(_) = self.way {
            let key = self.world.post(self.browser, self.http, &publish);
            if let Outcome::Answered(envelope) = &self.world.exchange(key).outcome
                && envelope.events().next().is_some()
            {
                self.world.fail("events came with the reply to a publish");
            }
        } else if let Way::Socket { key, .. } = self.way {
            self.world.send(key, &publish);
        }
    }

    /// The network does no more harm: everything must arrive.
    fn heal(&mut self) {
        self.stray.clear();
        if let Way::Socket { key, waits: true } = self.way {
            // Its connect may have been replaced by a stray one, and is never answered then.
            self.world.cut(key);
        }
        self.way = Way::Polls(None);
        for _ in 0..50 {
            let text = self.connect_message(None);
            let key = self.world.post(self.browser, self.http, &text);
            for _ in 0..100 {
                if !self.world.exchange(key).is_held() {
                    break;
                }
                self.world.advance(Duration::from_secs(1));
            }
            if let Outcome::Answered(envelope) = &self.world.exchange(key).outcome {
                let messages = envelope.messages.clone();
                self.hear(&messages);
            }
            if self.got.len() as u64 == self.published {
                break;
            }
        }
        if self.got.len() as u64 != self.published {
            let (got, published) = (self.got.len(), self.published);
            self.world.fail(format!("{got} of {published} events arrived"));
        }
    }
}
