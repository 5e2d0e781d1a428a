//! What goes into the engines of a server: clients on both transports, the application, the network, time.

use std::time::Duration;

use bayeux_core::{
    Answer, Budget, ChannelQueue, ChannelSetting, ClientId, Command, Overflow, Points, SessionSetting, Transport,
    Verdict,
};
use bayeux_testkit::{
    BrowserKey, ExchangeKey, Happening, Http, Options, Outcome, SocketKey, World, Writes, event, pattern,
};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::choices::Choices;
use crate::envelope::{CHANNELS, damage, envelope, with_ids};

/// Choices of options, hooks and up to 120 steps of a [`World`], then calm.
///
/// The world's invariants hold after every step; nobody's deliveries reach another; when all is calm every request has
/// its answer, every session expires, every channel goes and nothing is due.
pub fn engine_inputs(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut run = Run::new(&mut choices);
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            break;
        }
        run.step(&mut choices);
    }
    run.calm_down();
}

/// Enough for sessions to live, move and end; a slower input teaches less than several short ones.
const STEPS_MAX: usize = 120;

struct Run {
    world: World,
    browsers: [BrowserKey; 3],
    sockets: Vec<SocketKey>,
    exchanges: Vec<ExchangeKey>,
    /// Of every session that a client heard of.
    ids: Vec<String>,
}

impl Run {
    fn new(choices: &mut Choices<'_>) -> Self {
        let mut world = World::new(options(choices));
        hook(&world, choices);
        world.take_happenings();
        let browsers = [world.browser(), world.browser(), world.browser()];
        Self { world, browsers, sockets: Vec::new(), exchanges: Vec::new(), ids: Vec::new() }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0..=4 => self.post(choices),
            5..=9 => self.send(choices),
            10 => self.lose(choices),
            11 | 12 => self.command(choices),
            13 => self.answer(choices),
            14 => self.world.advance(Duration::from_millis(u64::from(choices.byte()) * 10)),
            _ => match choices.below(3) {
                0 => self.world.oversleep(Duration::from_millis(u64::from(choices.byte()) * 20)),
                1 => self.sockets.push(self.world.open_socket()),
                _ => self.world.advance(Duration::from_secs(choices.below(16) as u64)),
            },
        }
        self.look();
    }

    fn post(&mut self, choices: &mut Choices<'_>) {
        let how = choices.byte();
        let browser = self.browsers[usize::from(how) % 3];
        let transport = if how & 0x30 == 0x30 { Transport::CallbackPolling } else { Transport::LongPolling };
        let http = Http { transport, http2: how >= 0xc0 };
        let body = self.envelope(choices);
        self.exchanges.push(self.world.post(browser, http, &body));
    }

    fn send(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(4);
        if at >= self.sockets.len() || !self.world.socket(self.sockets[at]).is_open() {
            let socket = self.world.open_socket();
            if at < self.sockets.len() {
                self.sockets[at] = socket;
            } else {
                self.sockets.push(socket);
            }
        }
        let socket = self.sockets[at.min(self.sockets.len() - 1)];
        let text = self.envelope(choices);
        self.world.send(socket, &text);
    }

    fn envelope(&self, choices: &mut Choices<'_>) -> String {
        let mut bytes = with_ids(&envelope(choices), &self.ids).into_bytes();
        if choices.rarely(16) {
            damage(choices, &mut bytes);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // The world reads what comes back with serde_json, which has no place for lone surrogates and huge numbers.
        let is_readable = |text: &str| {
            serde_json::from_str::<IgnoredAny>(text).is_err() || serde_json::from_str::<Value>(text).is_ok()
        };
        if is_readable(&text) { text } else { String::from("[{}]") }
    }

    fn lose(&mut self, choices: &mut Choices<'_>) {
        let how = choices.byte();
        let noticed = how & 1 == 0;
        if how & 2 == 0 {
            if let Some(&socket) = self.sockets.get(usize::from(how >> 2) % 4) {
                if noticed { self.world.cut(socket) } else { self.world.cut_unnoticed(socket) }
            }
        } else if let Some(&exchange) = self.exchanges.iter().rev().find(|&&key| self.world.exchange(key).is_held()) {
            if noticed { self.world.cut(exchange) } else { self.world.cut_unnoticed(exchange) }
        }
    }

    fn answer(&mut self, choices: &mut Choices<'_>) {
        let how = choices.byte();
        let verdict = if how & 1 == 0 { Verdict::allow() } else { Verdict::deny() };
        let at = usize::from(how >> 2);
        let (open, stale) = (self.world.questions().len(), self.world.stale_questions().len());
        if how & 2 == 0 && open > 0 {
            self.world.answer(at % open, verdict);
        } else if stale > 0 {
            self.world.answer_late(at % stale, verdict);
        }
    }

    fn command(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(4);
        let id = self.ids.iter().rev().nth(at);
        let session = id.and_then(|id| self.world.session(id)).cloned();
        let command = match session {
            Some(session) if choices.below(3) > 0 => session_command(session, choices),
            _ => channel_command(choices),
        };
        self.world.command(command);
    }

    /// Sees what came, as clients do: new sessions, and deliveries.
    fn look(&mut self) {
        for (_, happening) in self.world.take_happenings() {
            let messages = match happening {
                Happening::Frame(_, frame) => frame.messages,
                Happening::Ended(key) => match &self.world.exchange(key).outcome {
                    Outcome::Answered(envelope) => envelope.messages.clone(),
                    Outcome::Held | Outcome::Status(_) | Outcome::Aborted => continue,
                },
                Happening::Received(..)
                | Happening::Drained(..)
                | Happening::Written(_)
                | Happening::Lost(_)
                | Happening::Closed(_)
                | Happening::Asked(_)
                | Happening::Retired(_)
                | Happening::Notice(_) => continue,
            };
            self.ids.extend(messages.iter().filter_map(|message| message["clientId"].as_str()).map(str::to_owned));
        }
    }

    /// What is open is answered, what is silent expires, what is unused goes.
    fn calm_down(&mut self) {
        self.world.hooks().forget();
        while !self.world.questions().is_empty() {
            self.world.answer(0, Verdict::allow());
        }
        // Longer than a hold, the longest interval that a client may ask for and maxInterval together; and a session may
        // have been told to wait that long by a setting.
        self.world.advance(Duration::from_secs(400));
        for &key in &self.exchanges {
            let exchange = self.world.exchange(key);
            if exchange.is_held() {
                self.world.fail(format_args!("no answer to {}", exchange.request));
            }
        }
        if self.world.session_count() > 0 {
            self.world.fail(format_args!("{} sessions are left", self.world.session_count()));
        }
        // Service channels stay unless they are told to go, those too whose names damage has made up.
        for channel in self.world.channels() {
            for setting in [ChannelSetting::Persistent(false), ChannelSetting::Retained(false)] {
                self.world.command(Command::SetChannel { channel: channel.clone(), setting });
            }
        }
        self.world.advance(Duration::from_secs(60));
        let left = self.world.channels();
        if !left.is_empty() {
            self.world.fail(format_args!("channels are left: {left:?}"));
        }
        if let Some(due) = self.world.next_due() {
            self.world.fail(format_args!("something is still due: {due:?}"));
        }
    }
}

fn options(choices: &mut Choices<'_>) -> Options {
    let mut options = Options::shards([1, 1, 2, 4][choices.below(4)]);
    let bits = choices.pair();
    let bit = |at: u32| bits >> at & 1 == 1;
    options.steps_kept = 40;
    options.link_delay = if bit(0) { Duration::from_millis(30) } else { Duration::ZERO };
    options.writes = if bit(1) { Writes::Within(Duration::from_millis(40)) } else { Writes::AtOnce };
    options.messages_per_frame = usize::from(!bit(2));
    if bit(3) {
        options.budget = Budget { messages: 2, bytes: 300 };
    }
    let config = &mut options.config;
    config.allowed_transports = vec![Transport::WebSocket, Transport::LongPolling, Transport::CallbackPolling];
    config.acknowledge = !bit(4);
    config.timesync = bit(5);
    config.binary = bit(6);
    config.trust_client_session = bit(7);
    config.require_handshake_per_connection = bit(8);
    config.max_sessions_per_browser = if bit(9) { -1 } else { 1 };
    config.broadcast_to_publisher = !bit(10);
    config.decision_timeout = Duration::from_secs(3);
    if bit(11) {
        // Limits that are met by accident.
        config.max_subscriptions = 3;
        config.max_sessions = 3;
        config.max_channels = 6;
        config.max_waiting_envelopes = 2;
        config.max_parked_lanes = 2;
    }
    let overflow =
        [Overflow::RemoveSession, Overflow::DropNewest, Overflow::DropOldest, Overflow::KeepLatest][choices.below(4)];
    config.each_transport(|transport| {
        transport.timeout = Duration::from_secs(10);
        transport.max_interval = Duration::from_secs(8);
        transport.max_lazy_timeout = Duration::from_secs(1);
        transport.overflow = overflow;
        transport.meta_connect_deliver_only |= bit(12);
        transport.allow_message_delivery_during_handshake = bit(13);
        transport.max_processing = bit(14).then_some(Duration::from_secs(15));
        if bit(15) {
            transport.max_queue = 3;
            transport.max_queue_bytes = 200;
        }
    });
    options
}

/// Hooks at the points that a mask names: each answers later, no, or yes with a delivery.
fn hook(world: &World, choices: &mut Choices<'_>) {
    if !choices.rarely(160) {
        return;
    }
    let points = [
        Points::INCOMING,
        Points::HANDSHAKE,
        Points::CREATE,
        Points::SUBSCRIBE,
        Points::PUBLISH,
        Points::LISTEN,
        Points::HANDSHAKEN,
        Points::SUBSCRIBED,
        Points::UNSUBSCRIBED,
    ];
    let mask = choices.pair();
    let how = choices.byte();
    for (at, point) in points.into_iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1) {
        let mut turn = at;
        world.hooks().on(point, move |question, effects| {
            turn += 1;
            if (turn + usize::from(how)).is_multiple_of(5)
                && let Some(to) = question.session.clone()
            {
                effects.push(deliver(to));
            }
            Some(match turn % usize::from(2 + how % 6) {
                0 => Answer::Later,
                1 if how >= 128 => Answer::Now(Verdict::deny()),
                _ => Answer::Now(Verdict::allow()),
            })
        });
    }
}

fn deliver(to: ClientId) -> Command {
    let event = event("/private", &json!({"to": to.as_str()}));
    Command::Deliver { to, event, from: None }
}

fn session_command(session: ClientId, choices: &mut Choices<'_>) -> Command {
    let time = Some(Duration::from_millis(u64::from(choices.byte()) * 40));
    let name = pattern(CHANNELS[choices.below(EXACT)]);
    let setting = |setting| Command::SetSession { session: session.clone(), setting };
    match choices.below(14) {
        0 => deliver(session),
        1 => Command::Disconnect { session },
        2 => Command::Remove { session },
        3 => Command::Hold { session },
        4 => Command::Release { session },
        5 => Command::Subscribe { session, channel: name },
        6 => Command::Unsubscribe { session, channel: name },
        7 => setting(SessionSetting::Timeout(time)),
        8 => setting(SessionSetting::Interval(time)),
        9 => setting(SessionSetting::MaxInterval(time)),
        10 => setting(SessionSetting::MaxLazyTimeout(time)),
        11 => setting(SessionSetting::MaxQueue(Some(choices.below(4)))),
        12 => setting(SessionSetting::MetaConnectDeliverOnly(choices.below(2) == 0)),
        _ => setting(SessionSetting::Overflow(Some(Overflow::KeepLatest))),
    }
}

fn channel_command(choices: &mut Choices<'_>) -> Command {
    let name = CHANNELS[choices.below(EXACT)];
    let channel = pattern(name);
    let set = |setting| Command::SetChannel { channel: pattern(name), setting };
    match choices.below(10) {
        0..=2 => {
            let name = bayeux_testkit::channel(["/a", "/a/b", "/a/b/c"][choices.below(3)]);
            let data = json!({"by": "application"});
            Command::Publish { event: event(name.as_str(), &data), channel: name, from: None, chain: 0 }
        }
        3 => Command::CreateChannel { channel },
        4 => Command::RemoveChannel { channel },
        5 => set(ChannelSetting::Lazy(choices.below(2) == 0)),
        6 => set(ChannelSetting::LazyTimeout(Duration::from_millis(u64::from(choices.byte()) * 10))),
        7 => set(ChannelSetting::Retained(choices.below(2) == 0)),
        8 => set(ChannelSetting::Persistent(choices.below(2) == 0)),
        _ => {
            let messages = 1 + choices.below(3);
            set(ChannelSetting::Queue(Some(ChannelQueue { messages, overflow: Overflow::KeepLatest })))
        }
    }
}

/// How many of [`CHANNELS`], from the first, are channels.
const EXACT: usize = 13;
