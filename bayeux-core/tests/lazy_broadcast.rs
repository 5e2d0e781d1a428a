//! A lazy broadcast to very many idle clients, in an engine alone.
//!
//! Rule: lazy messages wake nobody, arrive with the next ordinary message or within the lazy timeout (Q-32 to Q-34).
//! Risk: ten thousand held connects that are answered in one moment, now or when their timers fire together, and an
//! ordinary message behind all of that. Method: 10,000 held polls and a clock that moves in steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bayeux_core::{
    Budget, ChannelSetting, Command, Config, ConnectionKey, Engine, IdSource, Input, LinkFacts, NoHooks, Output,
    ShardId, Time, Transport, UnixTime,
};
use bayeux_proto::{ByteString, ChannelLimits, ChannelName, Event, Limits, Outgoing, RawJson, decode};

const SESSIONS: usize = 10_000;
const WINDOW: Duration = Duration::from_secs(5);

struct Counter(u128);

impl IdSource for Counter {
    fn draw(&mut self) -> u128 {
        self.0 += 1;
        self.0
    }
}

/// An engine, and what became of its exchanges.
struct Polls {
    engine: Engine,
    now: Time,
    opened: u64,
    /// The channels of the messages in each response.
    responses: BTreeMap<ConnectionKey, Vec<String>>,
}

impl Polls {
    fn new() -> Self {
        let mut config = Config::default();
        config.trust_client_session = true;
        let engine = Engine::new(
            Arc::new(config),
            ShardId(0),
            Box::new(Counter(0)),
            Box::new(NoHooks),
            Time::ZERO,
            UnixTime::default(),
        );
        Self { engine, now: Time::ZERO, opened: 0, responses: BTreeMap::new() }
    }

    /// One exchange. Yields the id that a handshake gave.
    fn exchange(&mut self, message: String) -> (ConnectionKey, Option<String>) {
        self.opened += 1;
        let conn = ConnectionKey(self.opened);
        let link = LinkFacts { transport: Transport::LongPolling, http2: false, browser: None };
        self.engine.handle(self.now, Input::Opened { conn, link });
        let batch = decode(message.into(), &Limits::default()).expect("an envelope of this test");
        self.engine.handle(self.now, Input::Received { conn, batch });
        (conn, self.settle())
    }

    fn handle(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        self.settle();
    }

    fn settle(&mut self) -> Option<String> {
        let mut id = None;
        while let Some(output) = self.engine.poll_output() {
            let Output::Ready(conn) = output else { continue };
            let mut messages = Vec::new();
            self.engine.drain(self.now, conn, Budget::UNLIMITED, &mut messages);
            let channels = messages.iter().map(|message| match message {
                Outgoing::Event(event) => event.channel().to_string(),
                Outgoing::Reply(reply) => {
                    id = reply.handshake.as_ref().map(|handshake| handshake.client_id.to_string());
                    reply.channel.as_ref().map(ByteString::to_string).unwrap_or_default()
                }
            });
            self.responses.insert(conn, channels.collect());
            self.engine.handle(self.now, Input::Written { conn });
        }
        id
    }
}

#[test]
fn lazy_broadcast_wakes_nobody_and_is_spread_over_its_window() {
    let status = ChannelName::parse(&"/status".into(), &ChannelLimits::default()).expect("a channel");
    let mut polls = Polls::new();
    let setting = ChannelSetting::LazyTimeout(WINDOW);
    polls.handle(Input::Command(Command::SetChannel { channel: status.as_pattern().clone(), setting }));
    let mut ids = Vec::new();
    let mut held = Vec::new();
    for _ in 0..SESSIONS {
        let id = polls.exchange(r#"[{"channel":"/meta/handshake","version":"1.0"}]"#.into()).1.expect("an id");
        let message = |channel: &str, rest: &str| format!(r#"[{{"channel":"{channel}","clientId":"{id}"{rest}}}]"#);
        polls.exchange(message("/meta/connect", ""));
        polls.exchange(message("/meta/subscribe", r#","subscription":"/status""#));
        held.push(polls.exchange(message("/meta/connect", "")).0);
        ids.push(id);
    }
    polls.responses.clear();

    let event = Event::new("/status", RawJson::from_text("all is well"));
    polls.handle(Input::Command(Command::Publish { channel: status, event, from: None, chain: 0 }));
    assert!(polls.responses.is_empty(), "nobody is woken");

    // An ordinary message is not held up, and takes along what waits.
    let to = polls.engine.session_of(held[77]).expect("its connect is held").clone();
    assert_eq!(to.as_str(), ids[77]);
    polls.handle(Input::Command(Command::Deliver { to, event: Event::new("/note", RawJson::null()), from: None }));
    assert_eq!(polls.responses.remove(&held[77]).expect("an answer"), ["/status", "/note", "/meta/connect"]);
    assert!(polls.responses.is_empty());

    let mut busiest = 0;
    for _ in 0..50 {
        polls.now = polls.now + WINDOW / 50;
        let before = polls.responses.len();
        polls.handle(Input::Tick);
        busiest = busiest.max(polls.responses.len() - before);
    }
    assert_eq!(polls.responses.len(), SESSIONS - 1, "never later than the timeout");
    assert!(polls.responses.values().all(|channels| channels == &["/status", "/meta/connect"]));
    // Twice the even share of the second half of the window.
    assert!(busiest <= 2 * SESSIONS / 25, "{busiest} at once");
}
