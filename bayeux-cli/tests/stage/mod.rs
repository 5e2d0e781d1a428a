//! Scripted conversations with a whole server: requests, responses and frames as text.
//!
//! The scripts look like those of the engine (`bayeux_testkit::script`): steps at the margin, below them, indented,
//! what must come of them, no more and no less. Here it is all that the engine does not see: methods, headers,
//! statuses, bodies, frames.
//!
//! ```text
//! # TH-47: what is no transport's request.
//!
//! client alice over HTTP/1.1
//! alice -> PUT /cometd
//! | Content-Type: application/json
//! | [{"channel":"/meta/handshake","id":"1","version":"1.0"}]
//!   alice <- 400 Bad Request
//!     Content-Type: text/plain;charset=UTF-8
//!     Unknown Bayeux Transport
//! ```
//!
//! Header names are case-insensitive, and written as people do; headers of a response are listed by name, all of them
//! but `Date` and `Content-Length`. JSON is compared by structure, `"<any>"` matches any value. Session ids appear as
//! `<client:NAME>`, browser ids as `<cookie:NAME>`.
//!
//! The server is what `bayeux serve` makes of its options, transports, engine and hyper included, only that the pipes
//! to it are in memory and its clock is the script's: time passes by `advance`, and by nothing else.
//!
//! # Steps
//!
//! | step | meaning |
//! |---|---|
//! | `shards 1 2` | runs only with these numbers of shards (default: 1, 2 and 4); first of all |
//! | `option NAME VALUE` | an option of `bayeux serve` by CometD's name; timestamps are off unless one says otherwise |
//! | `client NAME over HTTP/1.1` | a client in a browser of its own, which keeps its cookie; also `HTTP/2` |
//! | `client NAME over HTTP/1.1 in the browser of OTHER` | a second tab |
//! | `hide HEADER…` | does not show these headers from now on |
//! | `NAME -> METHOD PATH` | a request; lines that begin with a vertical bar continue it, `Header: value` first, then its body. The cookie is added, unless the script writes one; what a URL cannot have is percent-encoded |
//! | `NAME opens a WebSocket` | the usual upgrade, with what continues it as further headers |
//! | `NAME -> [JSON]` | a text message on the WebSocket |
//! | `NAME -> text …`, `ping …`, `pong …`, `close CODE REASON`, `frame XX …` | other frames; `XX` is the first byte. `unmasked` before it leaves the mask out |
//! | `NAME handshakes`, `NAME connects`, `NAME subscribes CHANNEL…` | as for the engine: prints nothing, must succeed |
//! | `NAME polls` | a plain connect, with ids `c1`, `c2`, … |
//! | `NAME gives up`, `NAME hangs up` | cancels its requests; closes its connections |
//! | `NAME forgets the cookie`, `NAME takes the cookie of OTHER` | |
//! | `advance 30s` | time passes; lines below begin with `after 12s: ` |
//! | `server publish CHANNEL JSON`, `server to NAME deliver CHANNEL JSON`, `server to NAME disconnect`, `server stop` | the application |
//! | `server denies handshakes`, `server allows handshakes` | its policy |
//! | `sessions` | prints how many are alive |
//!
//! In a body and in a payload, `<byte:ff>` is that byte and `<64 of x>` as many.

mod client;
mod frame;
mod names;
mod request;
mod server;

use std::time::Duration;

use bayeux_testkit::script::{self, Outcomes, Wrong};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::yield_now;
use tokio::time::Instant;

use client::{Client, Happening, What};
use frame::CLOSE;
use names::Names;
use server::{Running, Version};

/// Runs `script` with that many shards.
pub(crate) fn run(script: &str, shards: u16) -> Outcomes {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread");
    let mut stage = Stage::new(shards);
    script::replay(script, |step| stage.step(&runtime, step))
}

struct Stage {
    shards: u16,
    options: Vec<(String, String)>,
    /// Started by the first step that is no option.
    server: Option<Running>,
    clients: Vec<Client>,
    /// The browsers' cookies, as they are sent.
    jars: Vec<Option<String>>,
    names: Names,
    hidden: Vec<String>,
    exchanges: u64,
    happenings: UnboundedReceiver<Happening>,
    reporter: UnboundedSender<Happening>,
}

/// A line of a transcript and its place in it.
struct Line {
    at: Instant,
    who: usize,
    exchange: u64,
    text: String,
}

/// A turn of the server, with all that clients and hyper do about it, takes far fewer.
const TURNS: usize = 60;

/// Lets everybody do what there is to do. Time stands still: the runtime is never idle.
async fn settle() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

/// The grain of `advance`.
const TICK: Duration = Duration::from_millis(100);

async fn advance(duration: Duration) {
    let mut left = duration;
    while !left.is_zero() {
        let tick = left.min(TICK);
        tokio::time::advance(tick).await;
        settle().await;
        left -= tick;
    }
}

impl Stage {
    fn new(shards: u16) -> Self {
        let (reporter, happenings) = unbounded_channel();
        Self {
            shards,
            options: Vec::new(),
            server: None,
            clients: Vec::new(),
            jars: Vec::new(),
            names: Names::default(),
            hidden: vec!["date".to_owned(), "content-length".to_owned()],
            exchanges: 0,
            happenings,
            reporter,
        }
    }

    fn step(&mut self, runtime: &Runtime, step: &str) -> Result<Vec<String>, Wrong> {
        let (first, rest) = step.split_once([' ', '\n']).unwrap_or((step, ""));
        match first {
            "shards" => return Ok(Vec::new()),
            "option" if self.server.is_some() => return Err("options come before all else".to_owned()),
            "option" => {
                let (name, value) = rest.split_once(' ').ok_or("option NAME VALUE")?;
                self.options.push((name.to_owned(), value.to_owned()));
                return Ok(Vec::new());
            }
            _ => {}
        }
        runtime.block_on(async {
            if self.server.is_none() {
                self.server = Some(Running::start(&self.options, self.shards)?);
            }
            let began = Instant::now();
            let quiet = match first {
                "client" => self.add_client(rest).map(|()| false)?,
                "hide" => {
                    self.hidden.extend(rest.split(' ').map(str::to_ascii_lowercase));
                    false
                }
                "advance" => {
                    advance(script::duration(rest)?).await;
                    false
                }
                "server" => self.server().perform(rest, &self.names).await.map(|()| false)?,
                "sessions" => return Ok(vec![format!("{} sessions", self.server().server.session_count())]),
                name => {
                    let who = self.find(name)?;
                    self.client_step(who, rest).await?
                }
            };
            settle().await;
            let lines = self.lines((first == "advance").then_some(began));
            if !quiet || lines.iter().any(|line| line.contains(r#""successful":false"#) || line.contains(" waits")) {
                return Ok(lines);
            }
            Ok(Vec::new())
        })
    }

    fn server(&self) -> &Running {
        self.server.as_ref().expect("the first step started it")
    }

    fn find(&self, name: &str) -> Result<usize, Wrong> {
        self.clients.iter().position(|client| client.name == name).ok_or_else(|| format!("there is no {name}"))
    }

    fn add_client(&mut self, rest: &str) -> Result<(), Wrong> {
        let (name, how) = rest.split_once(" over ").ok_or("client NAME over VERSION")?;
        let (version, browser) =
            how.split_once(" in the browser of ").map_or((how, None), |(how, other)| (how, Some(other)));
        let version = match version {
            "HTTP/1.1" => Version::Http1,
            "HTTP/2" => Version::Http2,
            _ => return Err(format!("{version} is no version of HTTP")),
        };
        let browser = match browser {
            Some(other) => self.clients[self.find(other)?].browser,
            None => {
                self.jars.push(None);
                self.jars.len() - 1
            }
        };
        let reporter = (self.clients.len(), self.reporter.clone());
        self.clients.push(Client::new(name, version, browser, reporter));
        Ok(())
    }

    /// What a client does; whether it is a shorthand that prints nothing.
    async fn client_step(&mut self, who: usize, rest: &str) -> Result<bool, Wrong> {
        let (verb, object) = rest.split_once(' ').unwrap_or((rest, ""));
        match (verb, object) {
            ("->", text) if request::is_request(text) => {
                let (head, body) = request::parse(&self.names.resolve(text))?;
                self.request(who, head, body).await?;
                return Ok(false);
            }
            ("->", text) => {
                self.frame(who, &self.names.resolve(text))?;
                return Ok(false);
            }
            ("opens", object) => {
                let headers = object.strip_prefix("a WebSocket").ok_or("opens a WebSocket")?;
                let (head, body) = request::parse(&format!("{}{headers}", request::UPGRADE))?;
                self.request(who, head, body).await?;
                return Ok(false);
            }
            ("polls", "") => {
                self.clients[who].polls += 1;
                let id = format!("c{}", self.clients[who].polls);
                let connect = self.connect(who, &id);
                self.message(who, &connect).await?;
                return Ok(false);
            }
            ("handshakes", "") => self.handshake(who).await?,
            ("connects", "") => {
                self.handshake(who).await?;
                settle().await;
                let lines = self.lines(None);
                if let Some(line) = lines.iter().find(|line| line.contains(r#""successful":false"#)) {
                    return Err(line.clone());
                }
                let connect = self.connect(who, "connect");
                self.message(who, &connect).await?;
            }
            ("subscribes", channels) => {
                for channel in channels.split(' ') {
                    let subscribe = json!({"channel": "/meta/subscribe", "id": "subscribe",
                        "clientId": self.session_of(who), "subscription": channel});
                    self.message(who, &subscribe).await?;
                }
            }
            ("gives", "up") => self.clients[who].give_up(),
            ("hangs", "up") => self.clients[who].hang_up(),
            ("forgets", "the cookie") => {
                let browser = self.clients[who].browser;
                self.jars[browser] = None;
            }
            ("takes", other) => {
                let other = self.find(other.strip_prefix("the cookie of ").ok_or("takes the cookie of OTHER")?)?;
                let browser = self.clients[who].browser;
                self.jars[browser] = self.jars[self.clients[other].browser].clone();
            }
            _ => return Err(format!("a client cannot {rest}")),
        }
        Ok(true)
    }

    /// The `clientId` of a client's last session, or one that no session has.
    fn session_of(&self, who: usize) -> &str {
        self.names.last_session(&self.clients[who].name).unwrap_or("nobody")
    }

    fn connect(&self, who: usize, id: &str) -> Value {
        let transport = if self.clients[who].has_websocket() { "websocket" } else { "long-polling" };
        json!({"channel": "/meta/connect", "id": id, "clientId": self.session_of(who), "connectionType": transport})
    }

    async fn handshake(&mut self, who: usize) -> Result<(), Wrong> {
        let types = json!(["websocket", "long-polling", "callback-polling"]);
        let handshake = json!({"channel": "/meta/handshake", "id": "handshake", "version": "1.0",
            "supportedConnectionTypes": types});
        self.message(who, &handshake).await
    }

    /// Sends an envelope of one message on the WebSocket, if there is one, or as CometD's clients do over HTTP.
    async fn message(&mut self, who: usize, message: &Value) -> Result<(), Wrong> {
        let envelope = self.names.resolve(&json!([message]).to_string());
        if self.clients[who].has_websocket() {
            return self.frame(who, &envelope);
        }
        let (head, body) = request::parse(&format!("{}\n{envelope}", request::POST))?;
        self.request(who, head, body).await
    }

    /// Sends a frame, of which the script says what is in it.
    fn frame(&mut self, who: usize, text: &str) -> Result<(), Wrong> {
        let client = &mut self.clients[who];
        client.write(request::parse_frame(text)?).map_err(|error| error.to_string())?;
        let ids = serde_json::from_str(text).map(|envelope| script::ids_of(&envelope));
        client.unanswered.extend(ids.unwrap_or_default());
        Ok(())
    }

    async fn request(&mut self, who: usize, head: request::Head, body: Vec<u8>) -> Result<(), Wrong> {
        let client = &mut self.clients[who];
        let name = request::name(&body);
        let request = head.finish(client.version, self.jars[client.browser].as_deref(), body)?;
        self.exchanges += 1;
        client.waiting.push((self.exchanges, name));
        let server = self.server.as_ref().ok_or("there is no server")?;
        client.send(server, self.exchanges, request).await.map_err(|error| error.to_string())
    }

    /// What happened since the last call, as lines; with the time since `began`, if time passed.
    fn lines(&mut self, began: Option<Instant>) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(happening) = self.happenings.try_recv() {
            let Happening { at, who, exchange, what } = happening;
            self.clients[who].waiting.retain(|(waiting, _)| *waiting != exchange);
            let texts = match what {
                What::Response(status, headers, body) => self.response(who, status, &headers, &body),
                What::NoResponse => vec![format!("{} gets no response", self.clients[who].name)],
                What::Frame(frame) => {
                    if frame.first == CLOSE {
                        self.clients[who].unanswered.clear();
                    }
                    self.learn_sessions(who, &frame.payload);
                    let ids = serde_json::from_slice(&frame.payload).map(|envelope| script::ids_of(&envelope));
                    let ids = ids.unwrap_or_default();
                    self.clients[who].unanswered.retain(|id| !ids.contains(id));
                    vec![format!("{} <- {frame}", self.clients[who].name)]
                }
                What::End => {
                    self.clients[who].unanswered.clear();
                    vec![format!("the WebSocket of {} ends", self.clients[who].name)]
                }
            };
            lines.extend(texts.into_iter().map(|text| Line { at, who, exchange, text }));
        }
        let now = Instant::now();
        for (who, client) in self.clients.iter_mut().enumerate() {
            let requests = std::mem::take(&mut client.waiting).into_iter().map(|(_, name)| name);
            let messages = std::mem::take(&mut client.unanswered).into_iter().map(|id| format!(" for {id}"));
            for name in requests.chain(messages) {
                lines.push(Line { at: now, who, exchange: u64::MAX, text: format!("{} waits{name}", client.name) });
            }
        }
        // By client, in the order of its requests: what does not depend on the number of shards.
        lines.sort_by_key(|line| (line.at, line.who, line.exchange));
        let print = |line: Line| {
            let text = self.names.anonymous(&line.text);
            match began {
                // What belongs to a response is indented below it.
                Some(began) if !text.starts_with(' ') => format!("after {:?}: {text}", line.at - began),
                _ => text,
            }
        };
        lines.into_iter().map(print).collect()
    }

    /// A response as lines: status, headers, body.
    fn response(&mut self, who: usize, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Vec<String> {
        self.learn_cookie(who, headers);
        self.learn_sessions(who, body);
        let mut lines = vec![format!("{} <- {status}", self.clients[who].name)];
        let shown = headers.iter().filter(|(name, _)| !self.hidden.iter().any(|hidden| hidden == name.as_str()));
        let mut shown: Vec<_> = shown
            .map(|(name, value)| format!("  {}: {}", request::title(name), String::from_utf8_lossy(value.as_bytes())))
            .collect();
        shown.sort();
        lines.extend(shown);
        match serde_json::from_slice::<Value>(body) {
            Ok(json) => lines.push(format!("  {}", script::print(&json))),
            Err(_) if body.is_empty() => {}
            Err(_) => lines.push(format!("  {}", String::from_utf8_lossy(body))),
        }
        lines
    }

    fn learn_cookie(&mut self, who: usize, headers: &HeaderMap) {
        let cookie = headers.get("set-cookie").and_then(|cookie| cookie.to_str().ok()?.split(';').next());
        let Some((cookie, (_, id))) = cookie.and_then(|cookie| Some((cookie, cookie.split_once('=')?))) else { return };
        let client = &self.clients[who];
        self.names.learn(id, &format!("cookie:{}", client.name));
        self.jars[client.browser] = Some(cookie.to_owned());
    }

    /// Learns the sessions that the replies in a body or a frame, perhaps a callback's argument, speak of.
    fn learn_sessions(&mut self, who: usize, body: &[u8]) {
        let Some(start) = body.iter().position(|byte| *byte == b'[') else { return };
        let array = &body[start..];
        let Ok(messages) = serde_json::from_slice::<Vec<Value>>(array.strip_suffix(b")").unwrap_or(array)) else {
            return;
        };
        for id in messages.iter().filter_map(|message| message["clientId"].as_str()) {
            self.names.learn(id, &format!("client:{}", self.clients[who].name));
        }
    }
}
