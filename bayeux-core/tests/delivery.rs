//! What becomes of events between a publish and a client, in an engine alone: queues that are full, hooks that change
//! them, acknowledged batches.
//!
//! Risk: an event that is in no queue and with no client either, or a response that is far larger than its share.
//! Method: single steps, where each reply and event is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bayeux_core::{
    Answer, Budget, ChannelQueue, ChannelSetting, ClientId, Command, Config, ConnectionKey, Edit, Engine, Hooks,
    IdSource, Input, LinkFacts, NoHooks, Notice, Output, Overflow, Points, Question, QueueView, SessionSetting,
    ShardId, Time, Transport, UnixTime, Verdict,
};
use bayeux_proto::{ChannelLimits, ChannelName, Event, Frozen, Limits, Outgoing, RawJson, Reply, decode, encode};

struct Counter(u128);

impl IdSource for Counter {
    fn draw(&mut self) -> u128 {
        self.0 += 1;
        self.0
    }
}

/// An engine with one session, subscribed to `/a`.
struct Steps {
    engine: Engine,
    connections: u64,
    transport: Transport,
    session: Option<ClientId>,
}

impl Steps {
    fn new(config: Config, hooks: Box<dyn Hooks + Send>, transport: Transport, ext: &str) -> Self {
        let engine =
            Engine::new(Arc::new(config), ShardId(0), Box::new(Counter(0)), hooks, Time::ZERO, UnixTime::default());
        let mut steps = Self { engine, connections: 0, transport, session: None };
        steps.open();
        let name = transport.as_str();
        steps.send(&format!(
            r#"[{{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["{name}"]{ext}}}]"#
        ));
        steps
    }

    fn open(&mut self) {
        self.connections += 1;
        let link = LinkFacts { transport: self.transport, http2: false, browser: None };
        self.engine.handle(Time::ZERO, Input::Opened { conn: ConnectionKey(self.connections), link });
    }

    fn id(&self) -> &str {
        self.session.as_ref().map_or("", ClientId::as_str)
    }

    fn receive(&mut self, text: &str) {
        let batch = decode(text.to_owned().into(), &Limits::default()).expect("an envelope of this test");
        self.engine.handle(Time::ZERO, Input::Received { conn: ConnectionKey(self.connections), batch });
    }

    fn send(&mut self, text: &str) -> String {
        self.receive(text);
        self.settle()
    }

    fn connect(&mut self, rest: &str) -> String {
        let name = self.transport.as_str();
        let id = self.id();
        let text = format!(r#"[{{"channel":"/meta/connect","clientId":"{id}","connectionType":"{name}"{rest}}}]"#);
        if self.transport == Transport::LongPolling {
            self.open();
        }
        self.send(&text)
    }

    fn subscribe(&mut self) {
        let text = format!(r#"[{{"channel":"/meta/subscribe","clientId":"{}","subscription":"/a"}}]"#, self.id());
        if self.transport == Transport::LongPolling {
            self.open();
        }
        assert!(self.send(&text).contains(r#""successful":true"#));
    }

    fn command(&mut self, command: Command) -> String {
        self.engine.handle(Time::ZERO, Input::Command(command));
        self.settle()
    }

    fn publish(&mut self, data: &str) -> String {
        let event = Event::new("/a", RawJson::from_text(data));
        self.command(Command::Publish { channel: channel(), event, from: None, chain: 0 })
    }

    /// What the engine writes, as text.
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
                Output::Notice(notice) => {
                    if let Notice::SessionAdded { session, .. } = *notice {
                        self.session = Some(session);
                    }
                }
                Output::Ask(_)
                | Output::Withdraw(_)
                | Output::Close { .. }
                | Output::Browser { .. }
                | Output::Forward { .. } => {}
            }
        }
        written
    }
}

fn channel() -> ChannelName {
    ChannelName::parse(&"/a".into(), &ChannelLimits::default()).expect("a channel name")
}

fn config() -> Config {
    let mut config = Config::default();
    config.acknowledge = true;
    config.trust_client_session = true;
    config
}

fn polls(config: Config, hooks: Box<dyn Hooks + Send>) -> Steps {
    let mut steps = Steps::new(config, hooks, Transport::LongPolling, "");
    steps.subscribe();
    steps
}

/// A WebSocket session that acknowledges, with nothing sent yet.
fn acknowledging() -> Steps {
    let mut steps = Steps::new(config(), Box::new(NoHooks), Transport::WebSocket, r#","ext":{"ack":true}"#);
    steps.connect(r#","ext":{"ack":0}"#);
    steps.subscribe();
    steps
}

/// XA-4: an application may take back that events come in connects only, but an event that is sent outside
/// of them is in no batch, and nobody would know that it was lost.
#[test]
fn acknowledged_events_are_never_just_pushed() {
    let mut steps = acknowledging();
    steps.connect(r#","ext":{"ack":1}"#);
    let session = steps.session.clone().expect("a session");
    steps.command(Command::SetSession { session, setting: SessionSetting::MetaConnectDeliverOnly(false) });
    steps.publish("lost");
    // What was written never arrives.
    steps.engine.handle(Time::ZERO, Input::Closed { conn: ConnectionKey(steps.connections) });
    steps.settle();
    steps.open();
    let again = steps.connect(r#","advice":{"timeout":0},"ext":{"ack":1}"#);
    assert!(again.contains("lost"), "{again}");
}

/// XA-4: batches are whole, but thousands of connects in one envelope do not multiply what waits into one write.
#[test]
fn one_write_has_one_large_batch() {
    let mut steps = acknowledging();
    for n in 0..800 {
        steps.publish(&n.to_string());
    }
    let connect = format!(
        r#"{{"channel":"/meta/connect","clientId":"{}","connectionType":"websocket","advice":{{"timeout":0}},"ext":{{"ack":0}}}}"#,
        steps.id()
    );
    steps.receive(&format!("[{}]", vec![connect; 5_000].join(",")));
    let mut drains = 0;
    while let Some(output) = steps.engine.poll_output() {
        let Output::Ready(conn) = output else { continue };
        let mut messages = Vec::new();
        steps.engine.drain(Time::ZERO, conn, Budget { messages: 256, bytes: 64 * 1024 }, &mut messages);
        assert!(messages.len() <= 801 + 256, "{} messages at once", messages.len());
        drains += 1;
        if drains == 20 {
            return;
        }
        steps.engine.handle(Time::ZERO, Input::Written { conn });
    }
    panic!("everything came with {drains} writes");
}

/// Empties queues, where it is asked: always, or once.
struct Emptying {
    points: Points,
    once: bool,
    done: AtomicBool,
}

impl Emptying {
    fn at(points: Points, once: bool) -> Box<Self> {
        Box::new(Self { points, once, done: AtomicBool::new(false) })
    }

    fn empty(&self, queue: &mut QueueView<'_>) {
        if !self.done.swap(self.once, Ordering::Relaxed) {
            queue.clear();
        }
    }
}

impl Hooks for Emptying {
    fn ask(&self, _: &Question, _: &mut Vec<Command>) -> Answer {
        Answer::Now(Verdict::allow())
    }

    fn outgoing(&self, _: &ClientId, _: Option<&ClientId>, _: &Frozen) -> Edit<Frozen> {
        Edit::Keep
    }

    fn reply(&self, _: Option<&ClientId>, _: &mut Reply) -> Edit<()> {
        Edit::Keep
    }

    fn points(&self) -> Points {
        self.points
    }

    fn dequeue(&self, _: &ClientId, queue: &mut QueueView<'_>) {
        self.empty(queue);
    }

    fn queued(&self, _: &ClientId, queue: &mut QueueView<'_>) {
        self.empty(queue);
    }
}

/// Keep-latest begins where a queue is full and ends where it is not, whoever made the room.
#[test]
fn emptied_queue_keeps_every_event_again() {
    let mut config = config();
    config.long_polling.max_queue = 5;
    config.long_polling.overflow = Overflow::KeepLatest;
    let mut steps = polls(config, Emptying::at(Points::DEQUEUE, true));
    for n in 0..6 {
        steps.publish(&n.to_string());
    }
    assert!(!steps.connect("").contains(r#""data""#), "the hook took them out");
    steps.publish("x");
    steps.publish("y");
    let got = steps.connect("");
    assert!(got.contains(r#""x""#) && got.contains(r#""y""#), "{got}");
}

/// The limit of a channel makes no room for an event that the limit of its session refuses.
#[test]
fn refused_event_replaces_nothing() {
    let mut config = config();
    config.long_polling.max_queue_bytes = 400;
    config.long_polling.overflow = Overflow::DropNewest;
    let mut steps = polls(config, Box::new(NoHooks));
    let queue = ChannelQueue { messages: 1, overflow: Overflow::KeepLatest };
    let pattern = channel().as_pattern().clone();
    steps.command(Command::SetChannel { channel: pattern, setting: ChannelSetting::Queue(Some(queue)) });
    steps.publish("old");
    // Room for one on the channel, and none for this one in the session.
    steps.publish(&"x".repeat(600));
    let got = steps.connect("");
    assert!(got.contains("old"), "{got}");
}

/// A held connect is not answered for an event that a hook took out again.
#[test]
fn event_that_a_hook_takes_out_wakes_nobody() {
    let mut steps = polls(config(), Emptying::at(Points::QUEUED, false));
    assert!(steps.connect("").contains(r#""successful":true"#), "the first is answered at once");
    assert_eq!(steps.connect(""), "");
    assert_eq!(steps.publish("1"), "");
}

/// L-47: what was not handed out when an exchange ends waits for the next one; what was, is lost with it (L-46).
#[test]
fn rest_of_a_response_that_is_cut_stays_in_the_queue() {
    let mut steps = polls(config(), Box::new(NoHooks));
    for data in ["1", "2", "3"] {
        steps.publish(data);
    }
    steps.open();
    let connect = format!(r#"[{{"channel":"/meta/connect","clientId":"{}"}}]"#, steps.id());
    steps.receive(&connect);
    let conn = ConnectionKey(steps.connections);
    let mut handed_out = Vec::new();
    let budget = Budget { messages: 1, ..Budget::UNLIMITED };
    steps.engine.drain(Time::ZERO, conn, budget, &mut handed_out);
    assert_eq!(encode(&handed_out), br#"[{"channel":"/a","data":"1"}]"#.as_slice());
    steps.engine.handle(Time::ZERO, Input::Closed { conn });
    assert_eq!(steps.settle(), "");
    let next = steps.connect("");
    assert!(next.starts_with(r#"[{"channel":"/a","data":"2"},{"channel":"/a","data":"3"},{"#), "{next}");
}
