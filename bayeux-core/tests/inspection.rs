//! What a driver may ask of an engine: whose a connection is, what a session and a channel are set to, who is
//! subscribed, what time it is.
//!
//! Risk: a driver routes an envelope, keeps a request or stops reading by an answer that is wrong. Method: an engine
//! alone, asked before and after what changes the answer.

use std::sync::Arc;
use std::time::Duration;

use bayeux_core::{
    Answer, BrowserId, Budget, ClientId, Command, Config, ConnectionKey, Decision, Edit, Engine, Hooks, IdSource,
    Input, LinkFacts, NoHooks, Notice, Output, Points, Question, RemovalReason, SessionSetting, ShardId, Time,
    Transport, UnixTime, Verdict,
};
use bayeux_proto::{ChannelLimits, ChannelPattern, Frozen, Limits, Outgoing, Reply, decode, encode};

struct Counter(u128);

impl IdSource for Counter {
    fn draw(&mut self) -> u128 {
        self.0 += 1;
        self.0
    }
}

/// An engine, and what it wants done.
struct Alone {
    engine: Engine,
    connections: u64,
    sessions: Vec<ClientId>,
    removed: Vec<RemovalReason>,
    browsers: Vec<BrowserId>,
    decisions: Vec<Decision>,
}

impl Alone {
    fn new(config: Config, hooks: Box<dyn Hooks + Send>) -> Self {
        let engine =
            Engine::new(Arc::new(config), ShardId(0), Box::new(Counter(0)), hooks, Time::ZERO, UnixTime::default());
        Self {
            engine,
            connections: 0,
            sessions: Vec::new(),
            removed: Vec::new(),
            browsers: Vec::new(),
            decisions: Vec::new(),
        }
    }

    fn open(&mut self, transport: Transport, browser: Option<BrowserId>) -> ConnectionKey {
        self.connections += 1;
        let conn = ConnectionKey(self.connections);
        let link = LinkFacts { transport, http2: false, browser };
        self.engine.handle(Time::ZERO, Input::Opened { conn, link });
        conn
    }

    /// Sends an envelope; `<id>` stands for the last session's. Returns what is written.
    fn send(&mut self, conn: ConnectionKey, envelope: &str) -> String {
        let id = self.sessions.last().map_or("", ClientId::as_str);
        let batch = decode(envelope.replace("<id>", id).into(), &Limits::default()).expect("an envelope");
        self.engine.handle(Time::ZERO, Input::Received { conn, batch });
        self.settle()
    }

    fn handshake(&mut self, conn: ConnectionKey) -> String {
        self.send(conn, r#"[{"channel":"/meta/handshake","id":"1","version":"1.0"}]"#)
    }

    fn settle(&mut self) -> String {
        let mut written = String::new();
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Ready(conn) => {
                    let mut messages: Vec<Outgoing> = Vec::new();
                    self.engine.drain(Time::ZERO, conn, Budget::UNLIMITED, &mut messages);
                    if !messages.is_empty() {
                        written.push_str(&String::from_utf8_lossy(&encode(&messages)));
                        self.engine.handle(Time::ZERO, Input::Written { conn });
                    }
                }
                Output::Notice(notice) => self.note(*notice),
                Output::Browser { id, .. } => self.browsers.push(id),
                Output::Ask(decision) => self.decisions.push(*decision),
                Output::Withdraw(_) | Output::Close { .. } | Output::Forward { .. } => {}
            }
        }
        written
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "others are not asked about")]
    fn note(&mut self, notice: Notice) {
        match notice {
            Notice::SessionAdded { session, .. } => self.sessions.push(session),
            Notice::SessionRemoved { reason, .. } => self.removed.push(reason),
            _ => {}
        }
    }

    fn session(&self) -> &ClientId {
        self.sessions.last().expect("there was a handshake")
    }
}

fn pattern(name: &str) -> ChannelPattern {
    ChannelPattern::parse(&name.into(), &ChannelLimits::default()).expect("a pattern")
}

/// TW-10: a WebSocket is bound from the handshake to the end of its session; K-31: it is held while a connect is.
#[test]
fn websocket_says_whose_it_is_and_what_it_waits_for() {
    let mut alone = Alone::new(Config::default(), Box::new(NoHooks));
    let conn = alone.open(Transport::WebSocket, None);
    assert!(!alone.engine.is_bound(conn));
    assert!(alone.engine.wants_input(conn));
    assert!(!alone.engine.wants_input(ConnectionKey(99)), "there is no such connection");
    alone.handshake(conn);
    let session = alone.session().clone();
    assert!(alone.engine.is_bound(conn));
    assert_eq!(alone.engine.session_of(conn), Some(&session));
    assert!(alone.engine.is_session(&session));

    let connect = r#"[{"channel":"/meta/connect","id":"2","clientId":"<id>"}]"#;
    alone.send(conn, connect);
    assert!(!alone.engine.is_held(conn), "the first connect returns at once");
    assert_eq!(alone.send(conn, connect), "");
    assert!(alone.engine.is_held(conn));
    assert!(!alone.engine.is_held(ConnectionKey(99)));

    alone.engine.handle(Time::ZERO, Input::Command(Command::Remove { session: session.clone() }));
    alone.settle();
    assert!(!alone.engine.is_session(&session));
    assert_eq!(alone.engine.session_of(conn), None);
    assert!(!alone.engine.is_bound(conn));
}

/// TH-11: a session belongs to the browser that made it, and to no other.
#[test]
fn session_belongs_to_the_browser_that_made_it() {
    let mut alone = Alone::new(Config::default(), Box::new(NoHooks));
    let conn = alone.open(Transport::LongPolling, None);
    alone.handshake(conn);
    let browser = alone.browsers.pop().expect("the handshake sets the cookie");
    let id = alone.session().as_str().to_owned();
    assert!(alone.engine.is_browser_of(&browser, &id));
    assert!(!alone.engine.is_browser_of(&browser, "nobody"));
    let other = BrowserId::generate(ShardId(0), 1, &mut Counter(1_000));
    assert!(!alone.engine.is_browser_of(&other, &id));

    let again = alone.open(Transport::LongPolling, Some(browser.clone()));
    alone.handshake(again);
    assert_eq!(alone.browsers, [], "who has a cookie is given none");
    assert!(alone.engine.is_browser_of(&browser, alone.session().as_str()));
}

/// A-8, S-8: channels and subscriptions are there from the subscribe on, and what is unknown is nothing.
#[test]
fn channels_and_subscriptions_are_told_from_both_sides() {
    let mut alone = Alone::new(Config::default(), Box::new(NoHooks));
    let conn = alone.open(Transport::WebSocket, None);
    alone.handshake(conn);
    let session = alone.session().clone();
    assert_eq!(alone.engine.subscriptions(&session).count(), 0);
    assert_eq!(alone.engine.subscribers("/a").count(), 0);
    assert!(alone.engine.channel_settings("/a").is_none());
    let before = alone.engine.channel_count();

    alone.send(conn, r#"[{"channel":"/meta/subscribe","id":"2","clientId":"<id>","subscription":["/a","/b/*"]}]"#);
    let mut subscribed: Vec<&str> = alone.engine.subscriptions(&session).map(ChannelPattern::as_str).collect();
    subscribed.sort_unstable();
    assert_eq!(subscribed, ["/a", "/b/*"]);
    assert_eq!(alone.engine.subscribers("/b/*").collect::<Vec<_>>(), [&session]);
    let mut known: Vec<&str> = alone.engine.channels().map(ChannelPattern::as_str).collect();
    known.sort_unstable();
    assert_eq!(known, ["/a", "/b/*"]);
    assert_eq!(alone.engine.channel_count(), before + 2);

    // A-3: meta channels are there from the start, and stay.
    assert!(!alone.engine.channel_settings("/a").expect("it is known").persistent);
    assert!(alone.engine.channel_settings("/meta/connect").expect("it is known").persistent);
    alone.engine.handle(Time::ZERO, Input::Command(Command::RemoveChannel { channel: pattern("/a") }));
    alone.settle();
    assert_eq!(alone.engine.subscriptions(&session).map(ChannelPattern::as_str).collect::<Vec<_>>(), ["/b/*"]);
}

/// V-10, O-40: what holds for a session is its own setting where it has one, its transport's where it has none.
#[test]
fn session_settings_are_what_holds() {
    let mut config = Config::default();
    config.websocket.timeout = Duration::from_secs(7);
    let mut alone = Alone::new(config, Box::new(NoHooks));
    let conn = alone.open(Transport::WebSocket, None);
    alone.handshake(conn);
    let session = alone.session().clone();
    let before = alone.engine.session_settings(&session).expect("it lives");
    assert_eq!(before.timeout, Duration::from_secs(7));
    assert!(!before.meta_connect_deliver_only);
    for setting in [SessionSetting::Timeout(Some(Duration::from_secs(3))), SessionSetting::MetaConnectDeliverOnly(true)]
    {
        let command = Command::SetSession { session: session.clone(), setting };
        alone.engine.handle(Time::ZERO, Input::Command(command));
    }
    let after = alone.engine.session_settings(&session).expect("it lives");
    assert_eq!(after.timeout, Duration::from_secs(3));
    assert!(after.meta_connect_deliver_only);
    assert_eq!(after.max_interval, before.max_interval);
    let nobody = ClientId::generate(ShardId(0), &mut Counter(1_000));
    assert!(alone.engine.session_settings(&nobody).is_none());
}

/// H-12: replies name the transports that are there, as far as they are allowed.
#[test]
fn handshake_names_the_transports_that_are_there() {
    let mut alone = Alone::new(Config::default(), Box::new(NoHooks));
    let conn = alone.open(Transport::WebSocket, None);
    alone.engine.set_transports(&[Transport::LongPolling, Transport::CallbackPolling]);
    assert!(alone.handshake(conn).contains(r#""supportedConnectionTypes":["long-polling"]"#));
    alone.engine.set_transports(&[Transport::CallbackPolling]);
    assert!(alone.handshake(conn).contains(r#""supportedConnectionTypes":["websocket","long-polling"]"#));
}

/// XT-2: the lag is what the client last said, of those sessions that said something.
#[test]
fn lag_is_what_the_client_says() {
    let mut config = Config::default();
    config.timesync = true;
    let mut alone = Alone::new(config, Box::new(NoHooks));
    let conn = alone.open(Transport::WebSocket, None);
    alone.handshake(conn);
    let session = alone.session().clone();
    assert_eq!(alone.engine.lag(&session), None);
    for (said, lag) in [("12", Some(12)), ("-1", None), ("40", Some(40)), ("1e99", None)] {
        let ext = format!(r#"{{"timesync":{{"tc":0,"l":{said},"o":0}}}}"#);
        alone.send(
            conn,
            &format!(
                r#"[{{"channel":"/meta/connect","id":"2","clientId":"<id>","advice":{{"timeout":0}},"ext":{ext}}}]"#
            ),
        );
        assert_eq!(alone.engine.lag(&session), lag.map(Duration::from_millis), "{said}");
    }
}

/// Wall time goes on from what was said of it last.
#[test]
fn wall_time_is_what_the_driver_says_it_is() {
    let mut alone = Alone::new(Config::default(), Box::new(NoHooks));
    let second = Time::ZERO + Duration::from_secs(1);
    alone.engine.handle(second, Input::Tick);
    assert_eq!(alone.engine.wall_time(), UnixTime::from_millis(1_000));
    alone.engine.set_wall_time(second, UnixTime::from_millis(5_000_000));
    alone.engine.handle(second + Duration::from_millis(1_500), Input::Tick);
    assert_eq!(alone.engine.wall_time(), UnixTime::from_millis(5_001_500));
    // Time does not go back, whoever says so.
    alone.engine.set_wall_time(second, UnixTime::from_millis(0));
    alone.engine.handle(second, Input::Tick);
    assert_eq!(alone.engine.wall_time(), UnixTime::from_millis(0));
}

/// Everybody waits.
struct Slow;

impl Hooks for Slow {
    fn points(&self) -> Points {
        Points::PUBLISH
    }

    fn ask(&self, _: &Question, _: &mut Vec<Command>) -> Answer {
        Answer::Later
    }

    fn outgoing(&self, _: &ClientId, _: Option<&ClientId>, _: &Frozen) -> Edit<Frozen> {
        Edit::Keep
    }

    fn reply(&self, _: Option<&ClientId>, _: &mut Reply) -> Edit<()> {
        Edit::Keep
    }
}

/// A connection is being processed while one of its messages waits; what waits behind it is bounded.
#[test]
fn connection_is_processing_while_a_decision_is_open() {
    let mut config = Config::default();
    config.max_waiting_envelopes = 2;
    let mut alone = Alone::new(config, Box::new(Slow));
    let conn = alone.open(Transport::WebSocket, None);
    alone.handshake(conn);
    assert!(!alone.engine.is_processing(conn));
    let publish = r#"[{"channel":"/a","id":"2","clientId":"<id>","data":1}]"#;
    for _ in 0..3 {
        assert!(alone.engine.wants_input(conn));
        alone.send(conn, publish);
        assert!(alone.engine.is_processing(conn));
    }
    assert!(!alone.engine.wants_input(conn), "two envelopes wait");
    for _ in 0..3 {
        let decision = alone.decisions.pop().expect("one at a time");
        alone.engine.handle(Time::ZERO, decision.answer(Verdict::deny_because("closed")));
        assert!(alone.settle().contains(r#""error":"403:closed:publish_denied""#));
    }
    assert!(alone.engine.wants_input(conn));
    assert!(!alone.engine.is_processing(conn));
}

/// A-61, A-62: a local session says what its id begins with, and ends with its connection.
#[test]
fn local_session_has_a_hint_in_its_id_and_lives_as_long_as_its_connection() {
    let mut alone = Alone::new(Config::default(), Box::new(NoHooks));
    let conn = alone.open(Transport::Local, None);
    alone.send(conn, r#"[{"channel":"/meta/handshake","id":"1","version":"1.0","clientId":"chat bot/1"}]"#);
    let session = alone.session().clone();
    assert!(session.as_str().starts_with("chatbot1_"), "{session}");
    alone.send(conn, r#"[{"channel":"/meta/subscribe","id":"2","clientId":"<id>","subscription":"/a"}]"#);
    assert_eq!(alone.engine.subscribers("/a").count(), 1);
    alone.engine.handle(Time::ZERO, Input::Closed { conn });
    alone.settle();
    assert!(!alone.engine.is_session(&session));
    assert_eq!(alone.removed, [RemovalReason::Removed]);
    assert_eq!(alone.engine.subscribers("/a").count(), 0);

    // Others may say what they like (H-2).
    let conn = alone.open(Transport::WebSocket, None);
    alone.send(conn, r#"[{"channel":"/meta/handshake","id":"1","version":"1.0","clientId":"chat"}]"#);
    assert!(!alone.session().as_str().contains('_'));
}

/// L-34: what a listener is told of an end, in two ways.
#[test]
fn ends_by_time_are_timeouts() {
    let (by_time, others) = (
        [RemovalReason::Expired, RemovalReason::ProcessingTooLong],
        [RemovalReason::ClientDisconnect, RemovalReason::Removed, RemovalReason::Inactive, RemovalReason::Shutdown],
    );
    assert!(by_time.iter().all(|reason| reason.is_timeout()));
    assert!(!others.iter().any(|reason| reason.is_timeout()));
    assert_eq!(RemovalReason::Shutdown.as_str(), "shutdown");
}

#[test]
fn debug_shows_how_much_there_is() {
    let mut alone = Alone::new(Config::default(), Box::new(NoHooks));
    let conn = alone.open(Transport::WebSocket, None);
    alone.handshake(conn);
    let text = format!("{:?}", alone.engine);
    assert!(text.starts_with("Engine { shard: ShardId(0)") && text.contains("sessions: 1"), "{text}");
}
