//! A Bayeux client that does what a case tells it, and nothing on its own account.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::agent::Agent;
use super::case::Transport;
use super::env::Env;
use super::outcome::{Outcome, Stop, brief, ensure};
use super::reply::{Answer, Outstanding, Reply, answers, envelope, is_reply};
use super::transcript::Log;
use super::wire::{Frame, Http1, Lost, Opcode, Protocol, Request, Response, WebSocket, human, within};

/// A party with at most one session.
pub(super) struct Client {
    pub(super) env: Arc<Env>,
    log: Log,
    pub(super) transport: Transport,
    link: Link,
    /// The session's id, as the last successful handshake gave it.
    pub(super) id: String,
    /// Deliveries that no step has asked for yet, in the order in which they came.
    pub(super) inbox: Vec<Value>,
    /// Replies that came while another was waited for.
    replies: Vec<Value>,
    count: u32,
    /// The connect that [`receive`](Self::receive) has sent over WebSocket, if it is not answered yet.
    polling: Option<Value>,
}

enum Link {
    Http(Agent),
    WebSocket(Box<WebSocket>),
}

/// A connect that the server may hold. Dropped, it is left to end as the server likes; what comes is lost.
pub(super) struct Held {
    pub(super) request: Value,
    response: Option<Task>,
}

/// A request under way.
type Task = JoinHandle<Result<Response, Lost>>;

impl Held {
    /// The HTTP response that ends it, whatever its status.
    pub(super) async fn response(self) -> Outcome<Result<Response, Lost>> {
        match self.response {
            Some(task) => task.await.map_err(|error| Stop::failed(error.to_string())),
            None => Err(Stop::Skipped("only over HTTP".to_owned())),
        }
    }

    /// Cuts the request's connection, or resets its stream.
    pub(super) fn cut(self) {
        if let Some(task) = self.response {
            task.abort();
        }
    }
}

/// What became of an envelope that may not be one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reaction {
    /// Replies to it, as if it were one.
    Answered(Vec<Value>),
    /// It was refused as a whole, over HTTP.
    Status(u16),
    /// It was refused as a whole, over WebSocket; without a code where the connection was just cut.
    Closed(Option<u16>),
    /// No answer, but the connection goes on.
    Silence,
}

/// How long a connect must go unanswered, at least, to be counted as held.
pub(super) const HELD: Duration = Duration::from_millis(300);

/// A pause between connects that bring nothing: not every server holds them.
const BREATH: Duration = Duration::from_millis(20);

/// A session that no server has ever given.
pub(super) const NOBODY: &str = "nobody0123456789abcdefghij";

impl Client {
    /// A client with connections, but without a session.
    pub(super) async fn open(env: &Arc<Env>, transport: Transport, log: &Log) -> Outcome<Self> {
        let link = if transport == Transport::WebSocket {
            Link::WebSocket(Box::new(upgrade(env, log, "", &[]).await?))
        } else {
            Link::Http(Agent::new(env, transport, log))
        };
        Ok(Self::with(env, transport, log, link))
    }

    fn with(env: &Arc<Env>, transport: Transport, log: &Log, link: Link) -> Self {
        Self {
            env: Arc::clone(env),
            log: log.clone(),
            transport,
            link,
            id: String::new(),
            inbox: Vec::new(),
            replies: Vec::new(),
            count: 0,
            polling: None,
        }
    }

    /// Another tab of the same browser: the same cookies, another session to come.
    pub(super) fn tab(&self) -> Outcome<Self> {
        let tab = self.agent()?.tab();
        Ok(Self::with(&self.env, self.transport, &self.log, Link::Http(tab)))
    }

    /// Another client on the same connections, with a session to come.
    pub(super) fn sharing(&self) -> Outcome<Self> {
        let agent = self.agent()?.clone();
        Ok(Self::with(&self.env, self.transport, &self.log, Link::Http(agent)))
    }

    /// The side of HTTP.
    pub(super) fn agent(&self) -> Outcome<&Agent> {
        match &self.link {
            Link::Http(agent) => Ok(agent),
            Link::WebSocket(_) => Err(Stop::Skipped("only over HTTP".to_owned())),
        }
    }

    /// The side of WebSocket.
    pub(super) fn socket(&mut self) -> Outcome<&mut WebSocket> {
        match &mut self.link {
            Link::Http(_) => Err(Stop::Skipped("only over WebSocket".to_owned())),
            Link::WebSocket(socket) => Ok(socket),
        }
    }

    /// Leaves the connections that it has, and makes new ones; session and cookies stay (rule L-2).
    pub(super) async fn reconnect(&mut self) -> Outcome {
        match &mut self.link {
            Link::Http(agent) => agent.hang_up().await,
            Link::WebSocket(socket) => **socket = upgrade(&self.env, &self.log, "", &[]).await?,
        }
        self.polling = None;
        Ok(())
    }

    fn patience(&self) -> Duration {
        self.env.options.timeout
    }

    // Making messages.

    /// A message with an id and the session's `clientId`.
    pub(super) fn message(&mut self, channel: &str, fields: Value) -> Value {
        let mut message = Map::new();
        message.insert("channel".to_owned(), channel.into());
        message.insert("id".to_owned(), self.fresh_id().into());
        if channel != "/meta/handshake" {
            message.insert("clientId".to_owned(), self.id.clone().into());
        }
        if let Value::Object(fields) = fields {
            message.extend(fields);
        }
        Value::Object(message)
    }

    pub(super) fn fresh_id(&mut self) -> String {
        self.count += 1;
        self.count.to_string()
    }

    pub(super) fn handshake_message(&mut self, fields: Value) -> Value {
        let types = [self.transport.connection_type()];
        let mut message = self.message("/meta/handshake", json!({"version": "1.0", "supportedConnectionTypes": types}));
        if let Some(ext) = self.env.ext(fields.get("ext").cloned()) {
            message["ext"] = ext;
        }
        for (name, value) in fields.as_object().into_iter().flatten().filter(|(name, _)| *name != "ext") {
            message[name] = value.clone();
        }
        message
    }

    pub(super) fn connect_message(&mut self, fields: Value) -> Value {
        let kind = self.transport.connection_type();
        let mut message = self.message("/meta/connect", json!({"connectionType": kind}));
        for (name, value) in fields.as_object().into_iter().flatten() {
            message[name] = value.clone();
        }
        message
    }

    // Requests.

    /// A handshake with more fields than usual; `ext` is merged with the user's. Where it succeeds, the session is
    /// this client's.
    pub(super) async fn handshake_with(&mut self, fields: Value) -> Outcome<Reply> {
        let message = self.handshake_message(fields);
        let reply = self.send(message).await?;
        if reply.message["successful"] == true {
            self.id = reply.text("clientId")?.to_owned();
        }
        Ok(reply)
    }

    pub(super) async fn handshake(&mut self) -> Outcome<Reply> {
        self.handshake_with(json!({})).await
    }

    /// A connect that is not to be held.
    pub(super) async fn connect(&mut self) -> Outcome<Reply> {
        self.connect_with(json!({"advice": {"timeout": 0}})).await
    }

    /// A connect with more fields than usual; waits for its reply, but not longer than for any.
    pub(super) async fn connect_with(&mut self, fields: Value) -> Outcome<Reply> {
        let message = self.connect_message(fields);
        self.send(message).await
    }

    pub(super) async fn subscribe(&mut self, subscription: impl Into<Value>) -> Outcome<Reply> {
        self.request("/meta/subscribe", json!({"subscription": subscription.into()})).await
    }

    pub(super) async fn unsubscribe(&mut self, subscription: impl Into<Value>) -> Outcome<Reply> {
        self.request("/meta/unsubscribe", json!({"subscription": subscription.into()})).await
    }

    pub(super) async fn publish(&mut self, channel: &str, data: impl Into<Value>) -> Outcome<Reply> {
        self.request(channel, json!({"data": data.into()})).await
    }

    pub(super) async fn disconnect(&mut self) -> Outcome<Reply> {
        self.request("/meta/disconnect", json!({})).await
    }

    /// Sends one message that must not succeed: its reply says so, or it is refused together with its envelope.
    pub(super) async fn fails(&mut self, channel: &str, fields: Value) -> Outcome {
        let message = self.message(channel, fields);
        self.fails_as_it_is(&message).await
    }

    /// As [`fails`](Self::fails), without an id or a `clientId` but the message's own.
    pub(super) async fn fails_as_it_is(&mut self, message: &Value) -> Outcome {
        match self.provoke(json!([message]).to_string().as_bytes()).await? {
            Reaction::Answered(replies) => {
                let refused = replies.iter().any(|reply| reply["successful"] == false);
                ensure!(refused, "expected a reply with successful:false, got {}", brief(&Value::Array(replies)));
                Ok(())
            }
            other @ (Reaction::Status(_) | Reaction::Closed(_) | Reaction::Silence) => other.refused(),
        }
    }

    /// Sends one message with an id and the session's `clientId`; waits for its reply.
    pub(super) async fn request(&mut self, channel: &str, fields: Value) -> Outcome<Reply> {
        let message = self.message(channel, fields);
        self.send(message).await
    }

    /// Sends one message as it is; waits for its reply.
    pub(super) async fn send(&mut self, message: Value) -> Outcome<Reply> {
        self.exchange(&json!([message])).await?.reply_to(&message)
    }

    /// Sends an envelope as it is; waits until each of its messages has its reply.
    pub(super) async fn exchange(&mut self, envelope: &Value) -> Outcome<Answer> {
        self.exchange_text(envelope.to_string().as_bytes(), envelope).await
    }

    /// Sends an envelope in a spelling of the case's own.
    pub(super) async fn exchange_text(&mut self, text: &[u8], envelope: &Value) -> Outcome<Answer> {
        let patience = self.patience();
        let answer = match &mut self.link {
            Link::Http(agent) => {
                let request = agent.request(text);
                let response = agent.send(request, patience).await?;
                let mut answer = Answer::default();
                answer.add(agent.envelope(&response)?)?;
                answer
            }
            Link::WebSocket(socket) => {
                within(patience, socket.text(text)).await?;
                return self.answer_frames(envelope).await;
            }
        };
        self.keep(&answer.messages, &mut Outstanding::new(envelope));
        Ok(answer)
    }

    /// Sends a request of the case's own making over HTTP; keeps the deliveries of an answer to `envelope`.
    pub(super) async fn exchange_request(&mut self, request: Request, envelope: &Value) -> Outcome<Answer> {
        let patience = self.patience();
        let agent = self.agent()?.clone();
        let response = agent.send(request, patience).await?;
        let mut answer = Answer::default();
        answer.add(agent.envelope(&response)?)?;
        self.keep(&answer.messages, &mut Outstanding::new(envelope));
        Ok(answer)
    }

    /// Sends a request of the case's own making over HTTP; yields the response, whatever its status.
    pub(super) async fn respond(&mut self, request: Request) -> Outcome<Response> {
        let patience = self.patience();
        match &mut self.link {
            Link::Http(agent) => Ok(agent.send(request, patience).await?),
            Link::WebSocket(_) => Err(Stop::Skipped("only over HTTP".to_owned())),
        }
    }

    /// Reads frames until all messages of an envelope have their replies.
    async fn answer_frames(&mut self, requests: &Value) -> Outcome<Answer> {
        let mut outstanding = Outstanding::new(requests);
        let mut answer = Answer::default();
        let deadline = Instant::now() + self.patience();
        while let Some(waiting) = outstanding.any() {
            let what = format!("the reply to {}", brief(waiting));
            let text = self.frame(deadline, &what).await?;
            self.keep(&envelope(&text)?, &mut outstanding);
            answer.add(text)?;
        }
        Ok(answer)
    }

    /// The next text frame; `what` is waited for.
    async fn frame(&mut self, deadline: Instant, what: &str) -> Outcome<String> {
        let patience = self.patience();
        let socket = self.socket()?;
        loop {
            let frame = tokio::time::timeout_at(deadline, socket.next()).await;
            match frame
                .map_err(|_| Stop::failed(format!("no answer within {}: waited for {what}", human(patience))))??
            {
                Frame::Text(text) => return Ok(text),
                Frame::Ping(_) | Frame::Pong(_) => {}
                Frame::Binary(_) => return Err(Stop::failed(format!("a binary frame, instead of {what}"))),
                Frame::Close(code, reason) => {
                    let code = code.map_or_else(|| "without a code".to_owned(), |code| format!("with {code}"));
                    return Err(Stop::failed(format!("the WebSocket was closed {code} {reason:?}, instead of {what}")));
                }
                Frame::Cut => return Err(Stop::failed(format!("the connection was cut, instead of {what}"))),
            }
        }
    }

    /// Files what came besides the replies that are waited for.
    fn keep(&mut self, messages: &[Value], outstanding: &mut Outstanding) {
        for message in messages {
            if !is_reply(message) {
                self.inbox.push(message.clone());
            } else if !outstanding.take(message) {
                if self.polling.as_ref().is_some_and(|connect| answers(connect, message)) {
                    self.polling = None;
                } else {
                    self.replies.push(message.clone());
                }
            }
        }
    }

    // Connects that wait.

    /// Sends a connect that the server should hold, and sees to it that it does.
    pub(super) async fn hold(&mut self) -> Outcome<Held> {
        let mut held = self.start_connect(json!({})).await?;
        self.stays_held(&mut held).await?;
        Ok(held)
    }

    /// A connect is not answered for a while.
    pub(super) async fn stays_held(&mut self, held: &mut Held) -> Outcome {
        let pending = self.is_pending(held, HELD).await?;
        ensure!(pending, "expected the connect to be held, it was answered at once: {}", brief(&held.request));
        Ok(())
    }

    /// Sends a connect without waiting for its reply.
    pub(super) async fn start_connect(&mut self, fields: Value) -> Outcome<Held> {
        let request = self.connect_message(fields);
        self.start(request).await
    }

    /// Sends one message as it is, without waiting for its reply.
    pub(super) async fn start(&mut self, request: Value) -> Outcome<Held> {
        let text = json!([request]).to_string();
        let patience = self.patience() + self.env.server.timeout();
        let response = match &mut self.link {
            Link::Http(agent) => {
                let agent = agent.clone();
                let http = agent.request(text.as_bytes());
                Some(tokio::spawn(async move { agent.send_or_cut(http, patience).await }))
            }
            Link::WebSocket(socket) => {
                socket.text(text.as_bytes()).await?;
                None
            }
        };
        Ok(Held { request, response })
    }

    /// Whether a connect still has no reply after a while; if the server is slow, after so long that it has answered what
    /// was sent later.
    pub(super) async fn is_pending(&mut self, held: &mut Held, a_while: Duration) -> Outcome<bool> {
        if !self.has_no_reply(held, a_while).await? {
            return Ok(false);
        }
        self.catch_up().await?;
        self.has_no_reply(held, BREATH).await
    }

    /// Waits until the server has answered something that it must answer at once, sent now.
    pub(super) async fn catch_up(&mut self) -> Outcome {
        // Twice: a server may read the first together with what was sent earlier, and answer it before.
        for _ in 0..2 {
            self.catch_up_once().await?;
        }
        Ok(())
    }

    async fn catch_up_once(&mut self) -> Outcome {
        let patience = self.patience();
        if let Link::Http(agent) = &self.link {
            let disconnect = json!([{"channel": "/meta/disconnect", "id": "0", "clientId": NOBODY}]).to_string();
            let request = agent.request(disconnect.as_bytes());
            // What comes of it is for other cases.
            let _ = agent.send(request, patience).await;
            return Ok(());
        }
        let deadline = Instant::now() + patience;
        within(patience, self.socket()?.frame(Opcode::Ping, true, b"caught up?")).await?;
        loop {
            match tokio::time::timeout_at(deadline, self.socket()?.next()).await {
                Err(_) | Ok(Ok(Frame::Pong(_))) => return Ok(()),
                Ok(frame) => self.take_in(frame?)?,
            }
        }
    }

    /// Whether no reply to a connect comes for a while.
    async fn has_no_reply(&mut self, held: &mut Held, a_while: Duration) -> Outcome<bool> {
        if let Some(task) = &mut held.response {
            // A task that is finished can be asked only once.
            tokio::time::sleep(a_while).await;
            return Ok(!task.is_finished());
        }
        let deadline = Instant::now() + a_while;
        loop {
            if self.is_answered_already(held) {
                return Ok(false);
            }
            match tokio::time::timeout_at(deadline, self.socket()?.next()).await {
                Err(_) => return Ok(true),
                Ok(frame) => self.take_in(frame?)?,
            }
        }
    }

    fn is_answered_already(&self, held: &Held) -> bool {
        self.replies.iter().any(|reply| answers(&held.request, reply))
    }

    /// Files what a frame brings that nobody waits for.
    fn take_in(&mut self, frame: Frame) -> Outcome {
        match frame {
            Frame::Text(text) => self.keep(&envelope(&text)?, &mut Outstanding::default()),
            Frame::Close(..) | Frame::Cut => return Err(Stop::failed("the WebSocket was closed")),
            Frame::Binary(_) | Frame::Ping(_) | Frame::Pong(_) => {}
        }
        Ok(())
    }

    /// Whether a connect is answered sooner than by its timeout: within as long as any answer may take.
    pub(super) async fn is_answered(&mut self, held: &mut Held) -> Outcome<bool> {
        const STEP: Duration = Duration::from_millis(50);
        let deadline = Instant::now() + self.env.at_once();
        while self.has_no_reply(held, STEP).await? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A message is pushed over WebSocket while a connect stays held.
    pub(super) async fn is_pushed_beside(&mut self, held: &mut Held, channel: &str) -> Outcome {
        const STEP: Duration = Duration::from_millis(50);
        let deadline = Instant::now() + self.patience();
        while !self.inbox.iter().any(|message| message["channel"] == channel) {
            ensure!(Instant::now() < deadline, "expected the message to be pushed");
            let pending = self.has_no_reply(held, STEP).await?;
            ensure!(pending, "expected the message to be pushed, the held connect was answered");
        }
        let pending = self.is_pending(held, HELD).await?;
        ensure!(pending, "expected the connect to stay held, it was answered");
        Ok(())
    }

    /// Waits for a connect's reply, as long as the server may hold it.
    pub(super) async fn finish(&mut self, held: Held) -> Outcome<Reply> {
        self.finish_all(held).await?.1
    }

    /// Waits for a connect's answer: all of it, and the reply in it.
    pub(super) async fn finish_all(&mut self, mut held: Held) -> Outcome<(Answer, Outcome<Reply>)> {
        let mut outstanding = Outstanding::new(&held.request);
        let mut answer = Answer::default();
        if let Some(task) = &mut held.response {
            let response = task.await.map_err(|error| Stop::failed(error.to_string()))??;
            answer.add(self.agent()?.envelope(&response)?)?;
            self.keep(&answer.messages, &mut outstanding);
        } else {
            let deadline = Instant::now() + self.patience() + self.env.server.timeout();
            let known = self.replies.iter().position(|reply| answers(&held.request, reply));
            if let Some(at) = known {
                answer.messages.push(self.replies.remove(at));
            }
            while answer.position(|message| answers(&held.request, message)).is_none() {
                let text = self.frame(deadline, &format!("the reply to {}", brief(&held.request))).await?;
                self.keep(&envelope(&text)?, &mut outstanding);
                answer.add(text)?;
            }
        }
        let reply = answer.reply_to(&held.request);
        Ok((answer, reply))
    }

    // Deliveries.

    /// The next delivery on a channel: what has come already, or what comes, by connects where it takes them.
    pub(super) async fn receive(&mut self, channel: &str) -> Outcome<Value> {
        self.receive_where(channel, |of| of == channel).await
    }

    /// The next delivery on any channel that begins so.
    pub(super) async fn receive_below(&mut self, prefix: &str) -> Outcome<Value> {
        self.receive_where(&format!("{prefix}…"), |of| of.starts_with(prefix)).await
    }

    async fn receive_where(&mut self, what: &str, is: impl Fn(&str) -> bool) -> Outcome<Value> {
        let patience = self.patience();
        let deadline = Instant::now() + patience;
        let missing = || Stop::failed(format!("expected a message on {what}, nothing came within {}", human(patience)));
        loop {
            if let Some(at) = self.inbox.iter().position(|message| message["channel"].as_str().is_some_and(&is)) {
                return Ok(self.inbox.remove(at));
            }
            if Instant::now() >= deadline {
                return Err(missing());
            }
            if self.polling.is_none() && self.transport == Transport::WebSocket {
                let connect = self.start_connect(json!({})).await?.request;
                self.polling = Some(connect);
            }
            let step = tokio::time::timeout_at(deadline, self.poll(deadline)).await;
            step.map_err(|_| missing())??;
        }
    }

    /// Takes in what one response or frame brings.
    async fn poll(&mut self, deadline: Instant) -> Outcome {
        if self.transport == Transport::WebSocket {
            let text = self.frame(deadline + Duration::from_secs(1), "a message").await?;
            self.keep(&envelope(&text)?, &mut Outstanding::default());
            return Ok(());
        }
        let before = self.inbox.len();
        self.connect_with(json!({})).await?.successful()?;
        if self.inbox.len() == before {
            tokio::time::sleep(BREATH).await;
        }
        Ok(())
    }

    /// A delivery on a channel has come, and its data is `data`.
    pub(super) async fn receives(&mut self, channel: &str, data: impl Into<Value>) -> Outcome<Value> {
        let (message, data) = (self.receive(channel).await?, data.into());
        ensure!(message["data"] == data, "expected data {} on {channel}, got {}", brief(&data), brief(&message));
        Ok(message)
    }

    /// Nothing more has come on a channel, although `publisher` has published something later, which did.
    pub(super) async fn hears_no_more(&mut self, publisher: &mut Self, channel: &str) -> Outcome {
        let count = self.fresh_id();
        let fence = format!("{}/{}/fence/{count}", self.env.options.channel_prefix, self.env.run);
        let fence = format!("{fence}-{}", self.id.get(..8).unwrap_or_default());
        self.subscribe(fence.as_str()).await?.successful()?;
        publisher.publish(&fence, "fence").await?.successful()?;
        self.receive(&fence).await?;
        let stray = self.inbox.iter().find(|message| message["channel"] == channel);
        match stray {
            None => Ok(()),
            Some(message) => Err(Stop::failed(format!("expected nothing more on {channel}, got {}", brief(message)))),
        }
    }

    // What is no envelope.

    /// Sends bytes as if they were an envelope; tells what becomes of them.
    pub(super) async fn provoke(&mut self, bytes: &[u8]) -> Outcome<Reaction> {
        let patience = self.patience();
        match &mut self.link {
            Link::Http(agent) => {
                let request = agent.request(bytes);
                let response = match agent.send(request, patience).await {
                    Ok(response) => response,
                    // A body that is refused unread may be lost together with the answer.
                    Err(Lost::Closed | Lost::Broken(_)) => return Ok(Reaction::Closed(None)),
                    Err(lost) => return Err(lost.into()),
                };
                if response.status != 200 {
                    return Ok(Reaction::Status(response.status));
                }
                Ok(Reaction::Answered(envelope(&agent.envelope(&response)?)?))
            }
            Link::WebSocket(socket) => {
                // A server that has read enough may close before it has read all.
                let _ = within(patience, socket.text(bytes)).await;
                let _ = socket.frame(Opcode::Ping, true, b"still there?").await;
                self.reaction().await
            }
        }
    }

    /// What comes over WebSocket to something odd and a ping behind it.
    pub(super) async fn reaction(&mut self) -> Outcome<Reaction> {
        let patience = self.patience();
        let socket = self.socket()?;
        let mut answered = None;
        loop {
            match within(patience, socket.next()).await? {
                Frame::Text(text) => answered = Some(envelope(&text)?),
                Frame::Close(code, _) => return Ok(Reaction::Closed(code)),
                Frame::Cut => return Ok(Reaction::Closed(None)),
                // Servers answer pings as soon as they read them, which may be before they have dealt with the text.
                Frame::Pong(_) if answered.is_none() => {
                    let more = tokio::time::timeout(patience, socket.next()).await;
                    return match more {
                        Err(_) => Ok(Reaction::Silence),
                        Ok(Ok(Frame::Text(text))) => Ok(Reaction::Answered(envelope(&text)?)),
                        Ok(Ok(Frame::Close(code, _))) => Ok(Reaction::Closed(code)),
                        Ok(Ok(Frame::Cut)) => Ok(Reaction::Closed(None)),
                        Ok(Ok(Frame::Binary(_) | Frame::Ping(_) | Frame::Pong(_))) => Ok(Reaction::Silence),
                        Ok(Err(lost)) => Err(lost.into()),
                    };
                }
                Frame::Pong(_) => return Ok(answered.map_or(Reaction::Silence, Reaction::Answered)),
                Frame::Binary(_) | Frame::Ping(_) => {}
            }
        }
    }
}

impl Reaction {
    /// Not processed as Bayeux: a status other than 200, or the end of the WebSocket.
    pub(super) fn refused(&self) -> Outcome {
        let refused = matches!(self, Self::Status(_) | Self::Closed(_));
        ensure!(refused, "expected the envelope to be refused as a whole, got {self:?}");
        Ok(())
    }

    /// As [`refused`](Self::refused), with one of these statuses over HTTP, or of these close codes over WebSocket.
    pub(super) fn refused_with(&self, statuses: &[u16], codes: &[u16]) -> Outcome {
        let refused = match self {
            Self::Status(status) => statuses.contains(status),
            Self::Closed(Some(code)) => codes.contains(code),
            Self::Closed(None) | Self::Answered(_) | Self::Silence => false,
        };
        ensure!(refused, "expected HTTP status {statuses:?} or WebSocket close {codes:?}, got {self:?}");
        Ok(())
    }

    /// Processed: an answer with status 200, or text over WebSocket.
    pub(super) fn answered(self) -> Outcome<Vec<Value>> {
        match self {
            Self::Answered(messages) => Ok(messages),
            Self::Status(_) | Self::Closed(_) | Self::Silence => {
                Err(Stop::failed(format!("expected an answer, got {self:?}")))
            }
        }
    }
}

/// The key that RFC 6455 uses in section 1.3, and what a server must make of it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The request for an upgrade, below the endpoint's path, with more headers.
pub(super) fn upgrade_request(env: &Env, suffix: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = Request::new("GET", env.target.path(suffix))
        .header("Host", env.target.authority())
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Key", KEY)
        .header("Sec-WebSocket-Version", "13");
    request.headers.extend(env.options.headers.iter().cloned());
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    request
}

/// Opens a WebSocket below the endpoint's path.
pub(super) async fn upgrade(env: &Env, log: &Log, suffix: &str, headers: &[(&str, &str)]) -> Outcome<WebSocket> {
    Ok(upgrade_with(env, log, suffix, headers).await?.0)
}

/// Opens a WebSocket; tells also what the server answered.
pub(super) async fn upgrade_with(
    env: &Env,
    log: &Log,
    suffix: &str,
    headers: &[(&str, &str)],
) -> Result<(WebSocket, Response), Lost> {
    let mut connection = Http1::new(env.dialer.dial(Protocol::Http1).await?, log.clone());
    let request = upgrade_request(env, suffix, headers).encode();
    let response = within(env.options.timeout, async {
        connection.write(&request).await?;
        connection.response().await
    })
    .await?;
    if response.status != 101 {
        return Err(Lost::NotUpgraded { status: response.status });
    }
    if response.header("sec-websocket-accept") != Some(ACCEPT) {
        let what = "Sec-WebSocket-Accept does not fit the key".to_owned();
        return Err(Lost::Malformed { protocol: "WebSocket", what });
    }
    Ok((WebSocket::new(connection, log.clone()), response))
}
