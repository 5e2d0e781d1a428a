//! Clients as CometD's are: they handshake, connect again and again, obey advice, back off, come back and subscribe
//! again, and acknowledge. What rude ones do besides is in `rude`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use bayeux_core::{Time, Transport};
use serde_json::Value;

use crate::net::{Arrival, CallKey, HostKey, Net, WireKey};
use crate::swarm::{CHANNELS, PATTERNS};
use crate::wire::{Http, Outcome};

/// What a client acts upon: the network, and its alarms.
pub(super) struct Ground {
    pub(super) net: Net,
    alarms: BTreeMap<(Time, u64), (usize, Alarm)>,
    set: u64,
    /// The number of the next event.
    pub(super) events: u64,
    /// Bytes of each event beside its number.
    pub(super) padding: usize,
}

/// Why a client wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alarm {
    /// It is time to connect or handshake again.
    Again { life: u64 },
    /// An answer is overdue.
    GiveUp { life: u64, ask: u64 },
}

/// One client.
pub(super) struct Client {
    pub(super) index: usize,
    pub(super) host: HostKey,
    pub(super) transport: Transport,
    http2: bool,
    wants_ack: bool,
    pub(super) phase: Phase,
    /// The session it has, or had.
    pub(super) id: Option<String>,
    pub(super) wire: Option<WireKey>,
    /// Requests over HTTP that wait for their response: whether each is a connect, and its ask.
    calls: BTreeMap<CallKey, Option<u64>>,
    /// The handshake or connect that waits for its reply: its number, and the id of its message.
    asked: Option<(u64, String)>,
    asks: u64,
    /// Counts up whenever what was planned is void.
    life: u64,
    messages: u64,
    failures: u32,
    advice: Advised,
    /// What it asks of its connects.
    wish: Option<(u64, u64)>,
    /// Whether the next connect is to return at once.
    hurried: bool,
    /// Whether its first connects are to.
    pub(super) hurries: bool,
    /// The last batch that it has (rule XA-6), where acknowledgement is on.
    pub(super) ack: Option<i64>,
    subscribed: BTreeSet<u32>,
    /// Two sessions share its WebSocket, so that it cannot tell whose events are whose.
    muddled: bool,
}

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It does nothing by itself.
    Silent,
    /// It has no session, and is at it.
    Handshaking,
    /// It has a session, or thinks so.
    Connected,
}

/// What the server advised.
#[derive(Debug, Clone, Copy)]
struct Advised {
    timeout: u64,
    interval: u64,
}

/// What a client learned that others want to know.
pub(super) enum Learned {
    /// An event with a number came in its session.
    Event(u64),
    /// It has a session whose events it cannot tell from others.
    Muddle,
}

impl Ground {
    pub(super) fn new(net: Net, padding: usize) -> Self {
        Self { net, alarms: BTreeMap::new(), set: 0, events: 0, padding }
    }

    /// When the next alarm is.
    pub(super) fn next_alarm(&self) -> Option<Time> {
        self.alarms.keys().next().map(|&(at, _)| at)
    }

    /// Takes an alarm that is due.
    pub(super) fn take_alarm(&mut self, now: Time) -> Option<(usize, Alarm)> {
        let entry = self.alarms.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    fn alarm(&mut self, client: usize, after: Duration, alarm: Alarm) {
        self.set += 1;
        self.alarms.insert((self.net.world().now() + after, self.set), (client, alarm));
    }

    /// The data of a new event, which has a number of its own.
    pub(super) fn data(&mut self) -> String {
        self.events += 1;
        event_data(self.events - 1, self.padding)
    }
}

/// The data of the event with that number.
pub(super) fn event_data(number: u64, padding: usize) -> String {
    if padding == 0 { format!("[{number}]") } else { format!("[{number},\"{}\"]", "x".repeat(padding)) }
}

impl Client {
    pub(super) fn new(index: usize, host: HostKey, transport: Transport, http2: bool, wants_ack: bool) -> Self {
        Self {
            index,
            host,
            transport,
            http2,
            wants_ack,
            phase: Phase::Silent,
            id: None,
            wire: None,
            calls: BTreeMap::new(),
            asked: None,
            asks: 0,
            life: 0,
            messages: 0,
            failures: 0,
            advice: Advised { timeout: 30_000, interval: 0 },
            wish: None,
            hurried: true,
            hurries: true,
            ack: None,
            subscribed: BTreeSet::new(),
            muddled: false,
        }
    }

    // What it is told to do.

    /// Gets a session, unless it is at it or has one.
    pub(super) fn begin(&mut self, ground: &mut Ground) {
        if self.phase == Phase::Silent {
            self.handshake(ground);
        }
    }

    pub(super) fn subscribe(&mut self, ground: &mut Ground, patterns: &[u32]) {
        if self.phase != Phase::Connected {
            return;
        }
        self.subscribed.extend(patterns);
        let message = self.subscription("/meta/subscribe", patterns);
        self.send(ground, &[message]);
    }

    pub(super) fn unsubscribe(&mut self, ground: &mut Ground, pattern: u32) {
        if self.phase != Phase::Connected {
            return;
        }
        self.subscribed.remove(&pattern);
        let message = self.subscription("/meta/unsubscribe", &[pattern]);
        self.send(ground, &[message]);
    }

    pub(super) fn publish(&mut self, ground: &mut Ground, channel: &str, count: u32, together: bool) {
        if self.phase != Phase::Connected {
            return;
        }
        let messages: Vec<_> = (0..count).map(|_| self.publication(ground, channel)).collect();
        if together {
            self.send(ground, &messages);
        } else {
            messages.into_iter().for_each(|message| self.send(ground, &[message]));
        }
    }

    pub(super) fn disconnect(&mut self, ground: &mut Ground) {
        if self.phase != Phase::Connected {
            return;
        }
        let message = self.message("/meta/disconnect", "");
        self.send(ground, &[message]);
        self.phase = Phase::Silent;
        self.life += 1;
        self.asked = None;
    }

    /// Goes on over another transport: closes what it has, and connects there.
    pub(super) fn switch(&mut self, ground: &mut Ground, choice: u32) {
        let others: Vec<_> = [Transport::WebSocket, Transport::LongPolling, Transport::CallbackPolling]
            .into_iter()
            .filter(|transport| *transport != self.transport)
            .collect();
        let transport = others[choice as usize % 2];
        if choice & 2 == 0 {
            self.hang_up(ground);
        } else {
            self.leave(ground, choice / 4);
        }
        self.transport = transport;
        self.go_on(ground);
    }

    /// Loses its connections, or gives them up, and comes back with its session.
    pub(super) fn reload(&mut self, ground: &mut Ground) {
        if self.messages.is_multiple_of(2) {
            let channel = self.index as u32;
            self.leave(ground, channel);
        } else {
            self.hang_up(ground);
        }
        self.go_on(ground);
    }

    /// Leaves its old connections open, as some do until the new one works. What it has sent just before may be processed
    /// when it is gone already.
    fn leave(&mut self, ground: &mut Ground, channel: u32) {
        self.publish(ground, CHANNELS[channel as usize % CHANNELS.len()], 2, false);
        self.wire = None;
        self.calls.clear();
    }

    fn go_on(&mut self, ground: &mut Ground) {
        self.life += 1;
        self.asked = None;
        self.hurried = self.hurries_back();
        match self.phase {
            Phase::Silent => {}
            Phase::Handshaking => self.handshake(ground),
            Phase::Connected => self.connect(ground),
        }
    }

    /// Whether its next connect is to return at once, since it comes back: as CometD's do, and half of ours.
    fn hurries_back(&self) -> bool {
        self.hurries && self.index.is_multiple_of(2)
    }

    /// Asks something of its next connects.
    pub(super) fn wish(&mut self, choice: u32) {
        self.wish = match choice % 5 {
            0 => None,
            1 => Some((0, 250)),
            2 => Some((1_500, 200)),
            3 => Some((60_000, 1_000)),
            _ => Some((500, 0)),
        };
    }

    /// Says nothing any more, and listens to nothing that would make it.
    pub(super) fn fall_silent(&mut self) {
        self.phase = Phase::Silent;
        self.life += 1;
        self.asked = None;
    }

    /// Breaks everything off.
    pub(super) fn hang_up(&mut self, ground: &mut Ground) {
        self.muddled = false;
        for call in std::mem::take(&mut self.calls).into_keys() {
            ground.net.abort(call);
        }
        if let Some(wire) = self.wire.take() {
            ground.net.close(wire);
        }
    }

    /// Handshakes again although it has a session, whose events still come.
    pub(super) fn handshake_again(&mut self, ground: &mut Ground) {
        self.handshake(ground);
    }

    // Messages.

    /// A message to a channel, with its id and session.
    pub(super) fn message(&mut self, channel: &str, more: &str) -> String {
        let id = self.id.clone().unwrap_or_default();
        self.message_as(&id, channel, more)
    }

    /// The same in the name of another session.
    pub(super) fn message_as(&mut self, session: &str, channel: &str, more: &str) -> String {
        self.messages += 1;
        let id = format!("c{}n{}", self.index, self.messages);
        format!(r#"{{"channel":"{channel}","id":"{id}","clientId":"{session}"{more}}}"#)
    }

    pub(super) fn publication(&mut self, ground: &mut Ground, channel: &str) -> String {
        let data = ground.data();
        self.message(channel, &format!(r#","data":{data}"#))
    }

    pub(super) fn subscription(&mut self, channel: &str, patterns: &[u32]) -> String {
        let name = |at: &u32| format!("{:?}", PATTERNS[*at as usize % PATTERNS.len()]);
        let names: Vec<_> = patterns.iter().map(name).collect();
        let list = if let [one] = &names[..] { one.clone() } else { format!("[{}]", names.join(",")) };
        self.message(channel, &format!(r#","subscription":{list}"#))
    }

    /// The connect that it would send.
    pub(super) fn connect_message(&mut self, timeout: Option<u64>) -> String {
        let mut more = format!(r#","connectionType":"{}""#, self.transport.as_str());
        let advice = match (timeout, self.wish) {
            (Some(timeout), _) => Some(format!(r#"{{"timeout":{timeout}}}"#)),
            (None, Some((timeout, interval))) => Some(format!(r#"{{"timeout":{timeout},"interval":{interval}}}"#)),
            (None, None) => None,
        };
        if let Some(advice) = advice {
            let _ = write!(more, r#","advice":{advice}"#);
        }
        if let Some(ack) = self.ack {
            let _ = write!(more, r#","ext":{{"ack":{ack}}}"#);
        }
        self.message("/meta/connect", &more)
    }

    /// Sends an envelope over its transport.
    pub(super) fn send(&mut self, ground: &mut Ground, messages: &[String]) {
        self.send_for(ground, messages, None);
    }

    fn send_for(&mut self, ground: &mut Ground, messages: &[String], ask: Option<u64>) {
        let body = format!("[{}]", messages.join(","));
        if self.transport == Transport::WebSocket {
            let wire = self.open_wire(ground);
            ground.net.send(wire, &body);
        } else {
            let http = Http { transport: self.transport, http2: self.http2 };
            let call = ground.net.post(self.host, http, &body);
            self.calls.insert(call, ask);
        }
    }

    fn open_wire(&mut self, ground: &mut Ground) -> WireKey {
        match self.wire.filter(|wire| ground.net.is_open(*wire)) {
            Some(wire) => wire,
            None => {
                self.muddled = false;
                *self.wire.insert(ground.net.open(self.host))
            }
        }
    }

    // The way of a session.

    pub(super) fn handshake(&mut self, ground: &mut Ground) {
        // Responses to what it asked before are no concern of the new session; on a WebSocket they cannot be told apart.
        self.calls.clear();
        self.muddled |= self.id.is_some() && self.wire.is_some();
        self.phase = Phase::Handshaking;
        self.life += 1;
        self.messages += 1;
        let id = format!("c{}n{}", self.index, self.messages);
        let ext = if self.wants_ack { r#","ext":{"ack":true}"# } else { "" };
        let message = format!(
            r#"{{"channel":"/meta/handshake","id":"{id}","version":"1.0","supportedConnectionTypes":["websocket","long-polling"]{ext}}}"#
        );
        self.ask(ground, message, id, NETWORK_DELAY);
    }

    pub(super) fn connect(&mut self, ground: &mut Ground) {
        let timeout = std::mem::take(&mut self.hurried).then_some(0);
        let message = self.connect_message(timeout);
        let id = format!("c{}n{}", self.index, self.messages);
        let held = Duration::from_millis(self.wish.map_or(self.advice.timeout, |wish| wish.0.max(self.advice.timeout)));
        self.ask(ground, message, id, NETWORK_DELAY + held);
    }

    fn ask(&mut self, ground: &mut Ground, message: String, id: String, patience: Duration) {
        self.asks += 1;
        self.asked = Some((self.asks, id));
        let give_up = Alarm::GiveUp { life: self.life, ask: self.asks };
        ground.alarm(self.index, patience, give_up);
        self.send_for(ground, &[message], Some(self.asks));
    }

    /// Something failed: again, after a while that grows.
    fn fail(&mut self, ground: &mut Ground) {
        self.asked = None;
        self.hurried = self.hurries_back();
        self.failures += 1;
        let wait = Duration::from_millis(self.advice.interval) + BACK_OFF * self.failures.min(5);
        ground.alarm(self.index, wait, Alarm::Again { life: self.life });
    }

    pub(super) fn wake(&mut self, ground: &mut Ground, alarm: Alarm) {
        match alarm {
            Alarm::Again { life } if life == self.life => match self.phase {
                Phase::Silent => {}
                Phase::Handshaking => self.handshake(ground),
                Phase::Connected if self.asked.is_none() => self.connect(ground),
                Phase::Connected => {}
            },
            Alarm::GiveUp { life, ask } if life == self.life && self.asked.as_ref().is_some_and(|own| own.0 == ask) => {
                self.give_up(ground, ask);
                self.fail(ground);
            }
            Alarm::Again { .. } | Alarm::GiveUp { .. } => {}
        }
    }

    fn give_up(&mut self, ground: &mut Ground, ask: u64) {
        if let Some((&call, _)) = self.calls.iter().find(|(_, own)| **own == Some(ask)) {
            self.calls.remove(&call);
            ground.net.abort(call);
        } else if let Some(wire) = self.wire.take() {
            ground.net.close(wire);
        }
    }

    // What it hears.

    /// Whether that arrival is for it.
    pub(super) fn owns(&self, arrival: &Arrival) -> bool {
        match arrival {
            Arrival::Response(call, _) | Arrival::Failed(call) => self.calls.contains_key(call),
            Arrival::Frame(wire, _) | Arrival::Closed(wire) => self.wire == Some(*wire),
        }
    }

    pub(super) fn hear(&mut self, ground: &mut Ground, arrival: Arrival) -> Vec<Learned> {
        match arrival {
            Arrival::Response(call, outcome) => {
                let ask = self.calls.remove(&call).flatten();
                match outcome {
                    Outcome::Answered(envelope) => self.take(ground, &envelope.messages),
                    Outcome::Status(_) | Outcome::Held | Outcome::Aborted => {
                        self.lost(ground, ask);
                        Vec::new()
                    }
                }
            }
            Arrival::Failed(call) => {
                let ask = self.calls.remove(&call).flatten();
                self.lost(ground, ask);
                Vec::new()
            }
            Arrival::Frame(_, envelope) => self.take(ground, &envelope.messages),
            Arrival::Closed(_) => {
                self.wire = None;
                if self.phase != Phase::Silent {
                    self.life += 1;
                    self.fail(ground);
                }
                Vec::new()
            }
        }
    }

    fn lost(&mut self, ground: &mut Ground, ask: Option<u64>) {
        if ask.is_some() && self.asked.as_ref().map(|own| own.0) == ask && self.phase != Phase::Silent {
            self.fail(ground);
        }
    }

    fn take(&mut self, ground: &mut Ground, messages: &[Value]) -> Vec<Learned> {
        let mut learned = Vec::new();
        for message in messages {
            let channel = message["channel"].as_str().unwrap_or_default();
            let successful = message.get("successful").and_then(Value::as_bool);
            let awaited = self.asked.as_ref().is_some_and(|own| message["id"] == *own.1);
            match (channel, successful) {
                ("/meta/handshake", Some(successful)) if awaited => {
                    self.on_handshake(ground, message, successful);
                    learned.extend(self.muddled.then_some(Learned::Muddle));
                }
                // What follows is of a session that it knows nothing of.
                ("/meta/handshake", Some(_)) => break,
                ("/meta/connect", Some(successful)) => {
                    if successful && let Some(batch) = message["ext"]["ack"].as_i64() {
                        self.ack = self.ack.map(|_| batch);
                    }
                    if awaited {
                        self.on_connect(ground, message, successful);
                    }
                }
                ("/meta/disconnect", Some(true)) if message.get("id").is_none() => {
                    // The server wants it to go.
                    self.fall_silent();
                }
                (_, Some(_)) => {}
                (_, None) => {
                    let number = message["data"][0].as_u64().filter(|_| !self.muddled);
                    learned.extend(number.map(Learned::Event));
                }
            }
        }
        learned
    }

    fn on_handshake(&mut self, ground: &mut Ground, reply: &Value, successful: bool) {
        self.asked = None;
        if !successful {
            self.obey(ground, reply);
            return;
        }
        self.failures = 0;
        self.phase = Phase::Connected;
        self.id = reply["clientId"].as_str().map(str::to_owned);
        let ack = &reply["ext"]["ack"];
        self.ack = if *ack == true { Some(0) } else { ack["batch"].as_i64() };
        self.learn_advice(reply);
        self.hurried = self.hurries;
        if !self.subscribed.is_empty() {
            let patterns: Vec<_> = self.subscribed.iter().copied().collect();
            let message = self.subscription("/meta/subscribe", &patterns);
            self.send(ground, &[message]);
        }
        self.connect(ground);
    }

    fn on_connect(&mut self, ground: &mut Ground, reply: &Value, successful: bool) {
        self.asked = None;
        self.learn_advice(reply);
        if successful && reply["advice"]["reconnect"] != "none" {
            self.failures = 0;
            let wait = Duration::from_millis(self.advice.interval);
            ground.alarm(self.index, wait, Alarm::Again { life: self.life });
        } else {
            self.obey(ground, reply);
        }
    }

    fn learn_advice(&mut self, reply: &Value) {
        if let Some(timeout) = reply["advice"]["timeout"].as_u64() {
            self.advice.timeout = timeout;
        }
        if let Some(interval) = reply["advice"]["interval"].as_u64() {
            self.advice.interval = interval;
        }
    }

    /// What a failure's advice says (rule V-5).
    fn obey(&mut self, ground: &mut Ground, reply: &Value) {
        match reply["advice"]["reconnect"].as_str() {
            Some("none") => self.fall_silent(),
            Some("retry") => self.fail(ground),
            Some(_) | None => {
                if self.phase == Phase::Connected {
                    self.handshake(ground);
                } else {
                    self.fail(ground);
                }
            }
        }
    }
}

/// What clients allow the network beyond what the server may take (CometD's `maxNetworkDelay`).
const NETWORK_DELAY: Duration = Duration::from_secs(5);

/// How much longer they wait after each failure (CometD's `backoffIncrement`).
const BACK_OFF: Duration = Duration::from_millis(500);
