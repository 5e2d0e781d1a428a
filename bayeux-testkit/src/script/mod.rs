//! Scripted conversations: what each side sends, what comes back.
//!
//! A script is a text file that somebody who knows Bayeux can read:
//!
//! ```text
//! # Rule K-11: the first connect returns at once, the second is held.
//!
//! client alice over long-polling
//! alice handshakes
//!
//! alice -> [{"channel":"/meta/connect","id":"1","clientId":"<client:alice>","connectionType":"long-polling"}]
//!   alice <- [{"channel":"/meta/connect","id":"1","successful":true}]
//!
//! alice polls
//!   alice waits for c1
//! advance 30s
//!   after 30s: alice <- [{"channel":"/meta/connect","id":"c1","successful":true}]
//! ```
//!
//! Lines at the margin are steps; indented lines below a step are what must come of it, no more and no less. JSON is
//! compared by structure, `"<any>"` matches any value, and session ids appear as `<client:NAME>` (the second session of
//! the same client as `<client:NAME#2>`). Lines that begin with `#` are comments. [`replay`] does all that for any kind of
//! step; a step's text goes on in lines that begin with `|`.
//!
//! What one step causes is listed by client, in the order in which the clients were named, so that a transcript does
//! not depend on the number of shards; the server's own lines come last.
//!
//! # Steps
//!
//! | step | meaning |
//! |---|---|
//! | `shards 1 2` | runs only with these numbers of shards (default: 1, 2 and 4); first of all |
//! | `option NAME VALUE` | an option by CometD's name (section 13), `ws.` or `long-polling.` before it for one transport |
//! | `client NAME over long-polling` | a client in a browser of its own; also `callback-polling`, `http2`, `websocket` |
//! | `client NAME over long-polling in the browser of OTHER` | a second tab |
//! | `NAME handshakes`, `NAME connects` | a handshake; a handshake and a connect. Nothing is printed: they must succeed |
//! | `NAME subscribes CHANNEL…` | likewise |
//! | `NAME -> JSON` | one envelope, sent as it stands |
//! | `NAME polls`, `NAME polls as OTHER` | a plain connect, with ids `c1`, `c2`, … |
//! | `NAME hangs up`, `NAME vanishes` | the connections break: the server notices, or does not |
//! | `NAME forgets the cookie`, `NAME takes the cookie of OTHER` | |
//! | `advance 30s` | time passes; lines below begin with `after 12s: ` |
//! | `server publish CHANNEL JSON`, `… from NAME publish CHANNEL JSON` | the application publishes (`publish lazily`, too) |
//! | `server channel CHANNEL SETTING VALUE`, `server create CHANNEL`, `server drop CHANNEL` | |
//! | `server to NAME COMMAND` | `deliver CHANNEL JSON`, `answer CHANNEL ID JSON` and `fail CHANNEL ID JSON` (results of a remote call), `disconnect`, `remove`, `hold`, `release`, `subscribe CHANNEL`, `unsubscribe CHANNEL`, `set SETTING VALUE` |
//! | `server stop` | |
//! | `hook POINT [CHANNEL] ANSWER [& COMMAND]…` | the application decides: `allow`, `deny [REASON]`, `later`, `replace data JSON`; commands are about the asking session, or `publish CHANNEL JSON` |
//! | `hook none` | forgets all |
//! | `answer POINT [CHANNEL] ANSWER` | answers the oldest such question that waits |
//! | `watch channels`, `watch subscriptions`, `watch heartbeats`, `watch batches` | prints these notices too |
//! | `sessions` | prints how many are alive |

mod index;
mod print;
mod transcript;
mod words;

use std::collections::BTreeMap;

use bayeux_core::{ClientId, Command, Notice, Point, Points, Question, Time, Transport};
use bayeux_proto::meta;
use serde_json::{Value, json};

use crate::client::pattern;
use crate::wire::{BrowserKey, Ended, ExchangeKey, Http, Outcome, SocketKey};
use crate::world::{Happening, Options, World};
use words::Reaction;

pub use index::{check_index, check_listed};
pub use print::{ids_of, print};
pub use transcript::{Outcomes, check, replay, shards};
pub use words::{Wrong, duration};

/// Runs `script` with that many shards.
///
/// # Panics
/// Where an invariant breaks.
pub fn run(script: &str, shards: u16) -> Outcomes {
    let mut runner = Runner::new(shards);
    replay(script, |step| runner.step(step))
}

struct Runner {
    options: Options,
    /// Made by the first step that is no option.
    world: Option<World>,
    clients: Vec<Actor>,
    exchanges: BTreeMap<ExchangeKey, usize>,
    sockets: BTreeMap<SocketKey, usize>,
    /// Session ids and their names.
    names: Vec<(String, String)>,
}

struct Actor {
    name: String,
    link: ActorLink,
    polls: u64,
    /// What was sent in this step and has no reply yet.
    waiting: Vec<String>,
    exchanges: Vec<ExchangeKey>,
}

#[derive(Clone, Copy)]
enum ActorLink {
    Http(BrowserKey, Http),
    Socket(SocketKey),
}

/// A line of a transcript and its place in it.
struct Line {
    at: Time,
    /// The client, or one past the last for the server.
    who: usize,
    /// The exchange, over HTTP.
    exchange: usize,
    text: String,
}

impl Runner {
    fn new(shards: u16) -> Self {
        Self {
            options: Options::shards(shards),
            world: None,
            clients: Vec::new(),
            exchanges: BTreeMap::new(),
            sockets: BTreeMap::new(),
            names: Vec::new(),
        }
    }

    fn step(&mut self, line: &str) -> Result<Vec<String>, Wrong> {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if first == "shards" {
            return Ok(Vec::new());
        }
        if first == "option" {
            if self.world.is_some() {
                return Err("options come before all else".into());
            }
            let (name, value) = rest.split_once(' ').ok_or("option NAME VALUE")?;
            words::option(&mut self.options, name, value)?;
            return Ok(Vec::new());
        }
        if self.world.is_none() {
            let mut world = World::new(self.options.clone());
            world.take_happenings();
            self.world = Some(world);
        }
        let began = self.world().now();
        let mut quiet = false;
        match first {
            "client" => self.add_client(rest)?,
            "advance" => {
                let time = duration(rest)?;
                self.world().advance(time);
            }
            "server" => self.server(rest)?,
            "hook" => self.hook(rest)?,
            "answer" => self.answer(rest)?,
            "watch" => {
                let points = match rest {
                    "channels" => Points::CHANNELS,
                    "subscriptions" => Points::SUBSCRIPTIONS,
                    "heartbeats" => Points::HEARTBEATS,
                    "batches" => Points::BATCHES,
                    _ => return Err(format!("cannot watch {rest}")),
                };
                self.world().hooks().watch(points);
            }
            "sessions" => return Ok(vec![format!("{} sessions", self.world().session_count())]),
            name => {
                let who = self.find(name)?;
                quiet = self.client_step(who, rest)?;
            }
        }
        let time_passes = first == "advance";
        let lines = self.lines(began, time_passes);
        if quiet {
            return self.check_quiet(lines);
        }
        Ok(lines)
    }

    /// A shorthand prints nothing, unless it went wrong.
    fn check_quiet(&mut self, lines: Vec<String>) -> Result<Vec<String>, Wrong> {
        self.clients.iter_mut().for_each(|client| client.waiting.clear());
        let failed = lines.iter().any(|line| line.contains(r#""successful":false"#) || line.contains(" waits for "));
        Ok(if failed { lines } else { lines.into_iter().filter(|line| line.starts_with("server")).collect() })
    }

    fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("the first step made it")
    }

    fn find(&self, name: &str) -> Result<usize, Wrong> {
        self.clients.iter().position(|client| client.name == name).ok_or_else(|| format!("there is no {name}"))
    }

    fn session(&mut self, name: &str) -> Result<ClientId, Wrong> {
        let id = self.names.iter().find(|(_, known)| known == name).map(|(id, _)| id.clone());
        let id = id.ok_or_else(|| format!("{name} has no session"))?;
        self.world().session(&id).cloned().ok_or_else(|| format!("{name} has no session"))
    }

    fn add_client(&mut self, rest: &str) -> Result<(), Wrong> {
        let (name, how) = rest.split_once(" over ").ok_or("client NAME over TRANSPORT")?;
        let (transport, browser) =
            how.split_once(" in the browser of ").map_or((how, None), |(how, other)| (how, Some(other)));
        let link = if transport == "websocket" {
            ActorLink::Socket(self.world().open_socket())
        } else {
            let browser = match browser.map(|other| self.find(other)).transpose()? {
                Some(other) => match self.clients[other].link {
                    ActorLink::Http(browser, _) => browser,
                    ActorLink::Socket(_) => return Err("a WebSocket has no browser".into()),
                },
                None => self.world().browser(),
            };
            let http = match transport {
                "long-polling" => Http::default(),
                "callback-polling" => Http { transport: Transport::CallbackPolling, http2: false },
                "http2" => Http { transport: Transport::LongPolling, http2: true },
                _ => return Err(format!("{transport} is no transport")),
            };
            ActorLink::Http(browser, http)
        };
        if let ActorLink::Socket(key) = link {
            self.sockets.insert(key, self.clients.len());
        }
        let name = name.to_owned();
        self.clients.push(Actor { name, link, polls: 0, waiting: Vec::new(), exchanges: Vec::new() });
        Ok(())
    }

    /// What a client does; whether it is a shorthand that prints nothing.
    fn client_step(&mut self, who: usize, rest: &str) -> Result<bool, Wrong> {
        let name = self.clients[who].name.clone();
        let own = self.last_session_of(&name);
        match rest.split_once(' ').unwrap_or((rest, "")) {
            ("->", envelope) => {
                self.send(who, envelope);
                return Ok(false);
            }
            ("polls", as_whom) => {
                let whose = as_whom.strip_prefix("as ").unwrap_or(&own).to_owned();
                self.clients[who].polls += 1;
                let id = format!("c{}", self.clients[who].polls);
                let envelope = json!([{"channel": meta::CONNECT, "id": id, "clientId": format!("<client:{whose}>"),
                    "connectionType": self.connection_type(who)}]);
                self.send(who, &envelope.to_string());
                return Ok(false);
            }
            ("hangs", "up") => self.cut(who, true),
            ("vanishes", "") => self.cut(who, false),
            ("handshakes", "") => self.handshake(who),
            ("connects", "") => {
                self.handshake(who);
                let lines = self.lines(Time::ZERO, false);
                if let Some(line) = self.check_quiet(lines)?.first() {
                    return Err(line.clone());
                }
                let own = self.last_session_of(&name);
                let envelope = json!([{"channel": meta::CONNECT, "id": "connect", "clientId": format!("<client:{own}>"),
                    "connectionType": self.connection_type(who)}]);
                self.send(who, &envelope.to_string());
            }
            ("subscribes", channels) => {
                for channel in channels.split(' ') {
                    let envelope = json!([{"channel": meta::SUBSCRIBE, "id": "subscribe",
                        "clientId": format!("<client:{own}>"), "subscription": channel}]);
                    self.send(who, &envelope.to_string());
                }
            }
            ("forgets", "the cookie") => self.set_cookie(who, None)?,
            ("takes", other) => {
                let other = other.strip_prefix("the cookie of ").ok_or("takes the cookie of OTHER")?;
                let other = self.find(other)?;
                let ActorLink::Http(browser, _) = self.clients[other].link else {
                    return Err("a WebSocket has no cookie".into());
                };
                let cookie = self.world().cookie(browser).map(str::to_owned);
                self.set_cookie(who, cookie.as_deref())?;
            }
            _ => return Err(format!("a client cannot {rest}")),
        }
        Ok(true)
    }

    fn connection_type(&self, who: usize) -> &'static str {
        match self.clients[who].link {
            ActorLink::Http(_, http) => http.transport.as_str(),
            ActorLink::Socket(_) => "websocket",
        }
    }

    fn handshake(&mut self, who: usize) {
        let envelope = json!([{"channel": meta::HANDSHAKE, "id": "handshake", "version": "1.0",
            "supportedConnectionTypes": ["websocket", "long-polling", "callback-polling"]}]);
        self.send(who, &envelope.to_string());
    }

    fn set_cookie(&mut self, who: usize, cookie: Option<&str>) -> Result<(), Wrong> {
        let ActorLink::Http(browser, _) = self.clients[who].link else {
            return Err("a WebSocket has no cookie".into());
        };
        self.world().set_cookie(browser, cookie);
        Ok(())
    }

    fn send(&mut self, who: usize, envelope: &str) {
        let mut envelope = envelope.to_owned();
        for (id, name) in &self.names {
            envelope = envelope.replace(&format!("<client:{name}>"), id);
        }
        let link = self.clients[who].link;
        let ids = serde_json::from_str::<Value>(&envelope).map(|value| ids_of(&value)).unwrap_or_default();
        self.clients[who].waiting.extend(ids);
        match link {
            ActorLink::Http(browser, http) => {
                let key = self.world().post(browser, http, &envelope);
                self.exchanges.insert(key, who);
                self.clients[who].exchanges.push(key);
            }
            ActorLink::Socket(key) => self.world().send(key, &envelope),
        }
    }

    fn cut(&mut self, who: usize, noticed: bool) {
        let link = self.clients[who].link;
        let world = self.world.as_mut().expect("the first step made it");
        match link {
            ActorLink::Socket(key) if noticed => world.cut(key),
            ActorLink::Socket(key) => world.cut_unnoticed(key),
            ActorLink::Http(..) => {
                for &key in &self.clients[who].exchanges {
                    if world.exchange(key).is_held() {
                        if noticed { world.cut(key) } else { world.cut_unnoticed(key) }
                    }
                }
            }
        }
    }

    fn server(&mut self, rest: &str) -> Result<(), Wrong> {
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let command = match verb {
            "publish" => words::publish(rest, None)?,
            "from" => {
                let (name, rest) = rest.split_once(" publish ").ok_or("server from NAME publish CHANNEL JSON")?;
                let from = self.session(name)?;
                words::publish(rest, Some(from))?
            }
            "channel" => {
                let [name, setting, value] = rest.split(' ').collect::<Vec<_>>()[..] else {
                    return Err("server channel CHANNEL SETTING VALUE".into());
                };
                let setting = words::channel_setting(setting, value)?;
                Command::SetChannel { channel: pattern(name), setting }
            }
            "create" => Command::CreateChannel { channel: pattern(rest) },
            "drop" => Command::RemoveChannel { channel: pattern(rest) },
            "to" => {
                let (name, command) = rest.split_once(' ').ok_or("server to NAME COMMAND")?;
                let session = self.session(name)?;
                words::session_command(command, &session)?
            }
            "stop" => Command::Shutdown,
            _ => return Err(format!("the server cannot {verb}")),
        };
        self.world().command(command);
        Ok(())
    }

    fn hook(&mut self, rest: &str) -> Result<(), Wrong> {
        if rest == "none" {
            self.world().hooks().forget();
            return Ok(());
        }
        let mut parts = rest.split(" & ");
        let (points, channel, reaction) = hook_words(parts.next().unwrap_or_default())?;
        let commands: Vec<String> = parts.map(str::to_owned).collect();
        self.world().hooks().on(points, move |question, effects| {
            if channel.as_deref().is_some_and(|channel| channel != channel_of(question)) {
                return None;
            }
            for command in &commands {
                let command = match (command.strip_prefix("publish "), &question.session) {
                    (Some(rest), _) => words::publish(rest, None),
                    (None, Some(session)) => words::session_command(command, session),
                    (None, None) => continue,
                };
                effects.push(command.unwrap_or_else(|wrong| panic!("{wrong}")));
            }
            Some(reaction.answer(&question.message))
        });
        Ok(())
    }

    fn answer(&mut self, rest: &str) -> Result<(), Wrong> {
        let (points, channel, reaction) = hook_words(rest)?;
        let world = self.world.as_mut().expect("the first step made it");
        let fits = |question: &&Question| {
            question.point.flag() == points && channel.as_deref().is_none_or(|name| name == channel_of(question))
        };
        let questions = world.questions();
        let at = questions.iter().position(fits).ok_or("nobody asks that")?;
        let verdict = reaction.verdict(&questions[at].message).ok_or("later is no answer now")?;
        world.answer(at, verdict);
        Ok(())
    }

    /// The name of the last session that the client `name` made.
    fn last_session_of(&self, name: &str) -> String {
        let own = |known: &str| known == name || known.strip_prefix(name).is_some_and(|rest| rest.starts_with('#'));
        self.names
            .iter()
            .rev()
            .find(|(_, known)| own(known))
            .map_or_else(|| name.to_owned(), |(_, known)| known.clone())
    }

    /// What happened since the last call, as lines.
    fn lines(&mut self, began: Time, time_passes: bool) -> Vec<String> {
        let happenings = self.world().take_happenings();
        self.learn_names(&happenings);
        let server = self.clients.len();
        let mut lines = Vec::new();
        for (at, happening) in &happenings {
            let (who, exchange, texts) = match happening {
                Happening::Ended(key) => {
                    let Some(&who) = self.exchanges.get(key) else { continue };
                    (who, key.0, self.ended(who, *key))
                }
                Happening::Frame(key, envelope) => {
                    let who = self.sockets[key];
                    let ids = envelope.replies().filter_map(|reply| reply["id"].as_str()).collect::<Vec<_>>();
                    self.clients[who].waiting.retain(|id| !ids.contains(&id.as_str()));
                    let body = print(&Value::from(envelope.messages.clone()));
                    (who, 0, vec![format!("{} <- {body}", self.clients[who].name)])
                }
                Happening::Closed(key) => {
                    let who = self.sockets[key];
                    self.clients[who].waiting.clear();
                    let socket = self.world().socket(*key);
                    let Some(Ended::ByServer { code, reason }) = socket.ended else { continue };
                    (who, 0, vec![format!("{} is closed: {code} {reason}", self.clients[who].name)])
                }
                Happening::Received(..) | Happening::Drained(..) | Happening::Written(_) | Happening::Lost(_) => {
                    continue;
                }
                Happening::Asked(question) => (server, 0, vec![format!("server asks: {}", self.describe(question))]),
                Happening::Retired(question) => {
                    (server, 0, vec![format!("server no longer asks: {}", self.describe(question))])
                }
                Happening::Notice(notice) => (server, 0, notice_line(notice).into_iter().collect()),
            };
            lines.extend(texts.into_iter().map(|text| Line { at: *at, who, exchange, text }));
        }
        let now = self.world().now();
        for (who, client) in self.clients.iter_mut().enumerate() {
            let waiting = std::mem::take(&mut client.waiting);
            if !waiting.is_empty() {
                let text = format!("{} waits for {}", client.name, waiting.join(", "));
                lines.push(Line { at: now, who, exchange: usize::MAX, text });
            }
        }
        for line in &mut lines {
            for (id, name) in &self.names {
                line.text = line.text.replace(id, &format!("<client:{name}>"));
            }
        }
        for line in lines.iter_mut().filter(|line| line.who == server) {
            // Its client never heard of it.
            for (_, happening) in &happenings {
                if let Happening::Notice(Notice::SessionRemoved { session, .. }) = happening {
                    line.text = line.text.replace(session.as_str(), "a session without client");
                }
            }
        }
        // The server's lines come from several shards: by text. A client's: as they came, or by exchange.
        lines.sort_by(|a, b| {
            let server_text = |line: &Line| if line.who == server { line.text.clone() } else { String::new() };
            (a.at, a.who, a.exchange, server_text(a)).cmp(&(b.at, b.who, b.exchange, server_text(b)))
        });
        let print = |line: Line| {
            if time_passes { format!("after {:?}: {}", line.at.since(began), line.text) } else { line.text }
        };
        lines.into_iter().map(print).collect()
    }

    fn ended(&mut self, who: usize, key: ExchangeKey) -> Vec<String> {
        let name = self.clients[who].name.clone();
        let exchange = self.world().exchange(key);
        let ids = serde_json::from_str::<Value>(&exchange.request).map(|value| ids_of(&value)).unwrap_or_default();
        let mut lines = Vec::new();
        match &exchange.outcome {
            Outcome::Answered(envelope) => {
                lines.push(format!("{name} <- {}", print(&Value::from(envelope.messages.clone()))));
                if exchange.cookie.is_some() {
                    lines.push(format!("{name} gets a cookie"));
                }
            }
            Outcome::Status(status) => {
                let to = if ids.is_empty() { String::new() } else { format!(" to {}", ids.join(", ")) };
                lines.push(format!("{name} <- status {status}{to}"));
            }
            Outcome::Aborted | Outcome::Held => {}
        }
        self.clients[who].waiting.retain(|id| !ids.contains(id));
        lines
    }

    fn learn_names(&mut self, happenings: &[(Time, Happening)]) {
        for (_, happening) in happenings {
            let (who, messages) = match happening {
                Happening::Ended(key) => {
                    match (self.exchanges.get(key), &self.world.as_ref().map(|w| w.exchange(*key))) {
                        (Some(&who), Some(exchange)) if exchange.status() == Some(200) => {
                            (who, exchange.messages().to_vec())
                        }
                        _ => continue,
                    }
                }
                Happening::Frame(key, envelope) => (self.sockets[key], envelope.messages.clone()),
                Happening::Received(..)
                | Happening::Drained(..)
                | Happening::Written(_)
                | Happening::Lost(_)
                | Happening::Closed(_)
                | Happening::Asked(_)
                | Happening::Retired(_)
                | Happening::Notice(_) => continue,
            };
            for id in messages.iter().filter_map(|message| message["clientId"].as_str()) {
                if self.names.iter().any(|(known, _)| known == id) {
                    continue;
                }
                let client = &self.clients[who].name;
                let earlier = |known: &str| {
                    known == client || known.strip_prefix(client).is_some_and(|rest| rest.starts_with('#'))
                };
                let count = self.names.iter().filter(|(_, known)| earlier(known)).count();
                let name = if count == 0 { client.clone() } else { format!("{client}#{}", count + 1) };
                self.names.push((id.to_owned(), name));
            }
        }
    }

    fn describe(&self, question: &Question) -> String {
        let point = point_word(&question.point);
        let channel = channel_of(question);
        let id = question.message.id.as_ref().map(|id| match id {
            bayeux_proto::MessageId::Text(text) => text.to_string(),
            bayeux_proto::MessageId::Other(raw) => raw.as_str().to_owned(),
        });
        match id {
            Some(id) => format!("{point} {channel} (message {id})"),
            None => format!("{point} {channel}"),
        }
    }
}

/// `POINT [CHANNEL] ANSWER`.
fn hook_words(words: &str) -> Result<(Points, Option<String>, Reaction), Wrong> {
    let (point, rest) = words.split_once(' ').ok_or("POINT [CHANNEL] ANSWER")?;
    let (channel, answer) = match rest.split_once(' ') {
        Some((channel, answer)) if channel.starts_with('/') => (Some(channel.to_owned()), answer),
        _ => (None, rest),
    };
    Ok((words::points(point)?, channel, Reaction::parse(answer)?))
}

fn channel_of(question: &Question) -> &str {
    match &question.point {
        Point::Create(channel) | Point::Subscribe(channel) => channel.as_str(),
        Point::Subscribed(channel) | Point::Unsubscribed(channel) => channel.as_str(),
        Point::Publish(channel) | Point::Listen(channel) => channel.as_str(),
        Point::Incoming | Point::Handshake | Point::Handshaken | _ => {
            question.message.channel.as_deref().unwrap_or_default()
        }
    }
}

fn point_word(point: &Point) -> &'static str {
    match point {
        Point::Incoming => "incoming",
        Point::Handshake => "handshake",
        Point::Create(_) => "create",
        Point::Subscribe(_) => "subscribe",
        Point::Publish(_) => "publish",
        Point::Listen(_) => "listen",
        Point::Handshaken => "handshaken",
        Point::Subscribed(_) => "subscribed",
        Point::Unsubscribed(_) => "unsubscribed",
        _ => "something else",
    }
}

fn notice_line(notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::SessionRemoved { session, reason } => format!("server: {session} ended, {}", reason.as_str()),
        Notice::Subscribed { session, channel, .. } => format!("server: {session} subscribed {}", channel.as_str()),
        Notice::Unsubscribed { session, channel, .. } => format!("server: {session} unsubscribed {}", channel.as_str()),
        Notice::ChannelAdded { channel } => format!("server: channel {} added", channel.as_str()),
        Notice::ChannelRemoved { channel } => format!("server: channel {} removed", channel.as_str()),
        Notice::Suspended { session, timeout } => format!("server: {session} is held for {timeout:?}"),
        Notice::Resumed { session, timed_out } => {
            format!("server: {session} is resumed{}", if *timed_out { " by timeout" } else { "" })
        }
        Notice::Overflowed { session, channel, policy, messages } => {
            format!("server: {session} lost {messages} messages, full at {channel}: {}", policy.as_str())
        }
        // Sessions appear with their handshake reply, expired questions with their retirement.
        Notice::SessionAdded { .. } | Notice::DecisionExpired { .. } => return None,
        Notice::BatchSent { session, batch, messages } => {
            format!("server: {session} was sent batch {batch}, {messages} messages")
        }
        Notice::Confirmed { receipt, queued } => {
            format!("server: {receipt:?} {}", if *queued { "is queued" } else { "reaches nobody" })
        }
        Notice::BatchAcknowledged { session, batch } => format!("server: {session} has batch {batch}"),
        _ => format!("server: {notice:?}"),
    })
}
