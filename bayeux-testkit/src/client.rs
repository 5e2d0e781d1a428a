//! A client for tests: fills in ids, remembers what it sent, sees what it received. It has no behaviour of its own.

use bayeux_core::ClientId;
use bayeux_proto::{ByteString, ChannelLimits, ChannelName, ChannelPattern, Event, RawJson, meta};
use serde_json::{Value, json};

use crate::wire::{BrowserKey, ExchangeKey, Http, SocketKey};
use crate::world::World;

/// One client of a [`World`]: a session, or several one after the other, over one transport.
#[derive(Debug)]
pub struct Client {
    via: Via,
    id: String,
    sent: u64,
    handshakes: usize,
    exchanges: Vec<ExchangeKey>,
}

/// How a client's messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Over HTTP, with the cookies of a browser.
    Http(BrowserKey, Http),
    /// Over one WebSocket.
    Socket(SocketKey),
}

/// An envelope that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The exchange, over HTTP.
    pub exchange: Option<ExchangeKey>,
    /// The messages' ids.
    pub ids: Vec<String>,
}

impl Client {
    /// A client over long-polling in a browser of its own, without session.
    pub fn long_polling(world: &mut World) -> Self {
        let browser = world.browser();
        Self::over(Via::Http(browser, Http::default()))
    }

    /// A client over a new WebSocket, without session.
    pub fn websocket(world: &mut World) -> Self {
        Self::over(Via::Socket(world.open_socket()))
    }

    /// A client over something that is there, without session.
    pub fn over(via: Via) -> Self {
        Self { via, id: String::new(), sent: 0, handshakes: 0, exchanges: Vec::new() }
    }

    /// The same session over something else.
    pub fn moved(&self, via: Via) -> Self {
        Self { via, id: self.id.clone(), sent: self.sent + 1_000, handshakes: self.handshakes, exchanges: Vec::new() }
    }

    /// The client with a session that it got otherwise.
    #[must_use]
    pub fn with_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }

    /// Goes on with a session that it got otherwise.
    pub fn set_id(&mut self, id: &str) {
        id.clone_into(&mut self.id);
    }

    /// How many handshakes it sent.
    pub fn handshakes(&self) -> usize {
        self.handshakes
    }

    /// With a handshake and a first connect behind it.
    #[must_use]
    pub fn connected(mut self, world: &mut World) -> Self {
        let reply = self.handshake(world);
        assert_eq!(reply["successful"], true, "{reply}");
        let reply = self.ask(world, json!({"channel": meta::CONNECT}));
        assert_eq!(reply["successful"], true, "{reply}");
        self
    }

    /// The same with acknowledgements (rule XA-1): the server has to have them on.
    #[must_use]
    pub fn acknowledging(mut self, world: &mut World) -> Self {
        let reply = self.ask(world, json!({"channel": meta::HANDSHAKE, "ext": {"ack": true}}));
        assert_eq!(reply["ext"]["ack"], true, "{reply}");
        self.set_id(reply["clientId"].as_str().unwrap_or_default());
        let reply = self.ask(world, json!({"channel": meta::CONNECT, "ext": {"ack": 0}}));
        assert_eq!(reply["successful"], true, "{reply}");
        self
    }

    /// How its messages travel.
    pub fn via(&self) -> Via {
        self.via
    }

    /// Its browser.
    ///
    /// # Panics
    /// Over WebSocket.
    pub fn browser(&self) -> BrowserKey {
        match self.via {
            Via::Http(browser, _) => browser,
            Via::Socket(_) => panic!("a WebSocket has no browser"),
        }
    }

    /// Its WebSocket.
    ///
    /// # Panics
    /// Over HTTP.
    pub fn socket(&self) -> SocketKey {
        match self.via {
            Via::Socket(socket) => socket,
            Via::Http(..) => panic!("a long-polling client has no WebSocket"),
        }
    }

    /// The `clientId` of its last successful handshake; empty before.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its session, live or not.
    ///
    /// # Panics
    /// Before its first handshake.
    pub fn session(&self, world: &World) -> ClientId {
        world.session(&self.id).cloned().expect("the client has a session")
    }

    /// Handshakes; the reply. The client goes on with the new session.
    pub fn handshake(&mut self, world: &mut World) -> Value {
        let types = json!(["websocket", "long-polling", "callback-polling"]);
        let reply =
            self.ask(world, json!({"channel": meta::HANDSHAKE, "version": "1.0", "supportedConnectionTypes": types}));
        if let Some(id) = reply["clientId"].as_str() {
            id.clone_into(&mut self.id);
        }
        reply
    }

    /// Sends a plain connect.
    pub fn connect(&mut self, world: &mut World) -> Request {
        self.send(world, json!({"channel": meta::CONNECT}))
    }

    /// Subscribes; the reply.
    pub fn subscribe(&mut self, world: &mut World, channel: &str) -> Value {
        self.ask(world, json!({"channel": meta::SUBSCRIBE, "subscription": channel}))
    }

    /// Unsubscribes; the reply.
    pub fn unsubscribe(&mut self, world: &mut World, channel: &str) -> Value {
        self.ask(world, json!({"channel": meta::UNSUBSCRIBE, "subscription": channel}))
    }

    /// Publishes; the reply.
    pub fn publish(&mut self, world: &mut World, channel: &str, data: Value) -> Value {
        self.ask(world, json!({"channel": channel, "data": data}))
    }

    /// Disconnects; the reply.
    pub fn disconnect(&mut self, world: &mut World) -> Value {
        self.ask(world, json!({"channel": meta::DISCONNECT}))
    }

    /// Sends one message and returns its reply.
    ///
    /// # Panics
    /// Where there is none yet.
    pub fn ask(&mut self, world: &mut World, message: Value) -> Value {
        let request = self.send(world, message);
        let Some(reply) = self.reply(world, &request) else {
            world.fail(format_args!("no reply to {request:?}"));
        };
        reply
    }

    /// Sends one message, or an array of them, with `id`, `clientId` and `connectionType` filled in where absent.
    pub fn send(&mut self, world: &mut World, messages: Value) -> Request {
        let (body, ids) = self.fill(messages);
        let exchange = match self.via {
            Via::Http(browser, http) => {
                let key = world.post(browser, http, &body);
                self.exchanges.push(key);
                Some(key)
            }
            Via::Socket(socket) => {
                world.send(socket, &body);
                None
            }
        };
        Request { exchange, ids }
    }

    /// The envelope that [`Client::send`] would send, and the ids of its messages.
    pub fn fill(&mut self, messages: Value) -> (String, Vec<String>) {
        let Value::Array(mut messages) = (if messages.is_array() { messages } else { json!([messages]) }) else {
            unreachable!("it was made an array");
        };
        let mut ids = Vec::new();
        for message in messages.iter_mut().filter_map(Value::as_object_mut) {
            self.sent += 1;
            let id = message.entry("id").or_insert_with(|| json!(self.sent.to_string()));
            ids.push(id.as_str().map_or_else(|| id.to_string(), str::to_owned));
            let channel = message.get("channel").and_then(Value::as_str).unwrap_or_default().to_owned();
            if channel == meta::HANDSHAKE {
                self.handshakes += 1;
            } else {
                message.entry("clientId").or_insert_with(|| json!(self.id));
            }
            if channel == meta::CONNECT {
                message.entry("connectionType").or_insert_with(|| {
                    json!(match self.via {
                        Via::Http(_, http) => http.transport.as_str(),
                        Via::Socket(_) => "websocket",
                    })
                });
            }
        }
        (Value::Array(messages).to_string(), ids)
    }

    /// The reply to the first message of a request, if it came.
    pub fn reply(&self, world: &World, request: &Request) -> Option<Value> {
        self.replies(world, request).into_iter().next()
    }

    /// The replies to the messages of a request that came so far.
    pub fn replies(&self, world: &World, request: &Request) -> Vec<Value> {
        let received = match (self.via, request.exchange) {
            (_, Some(exchange)) if world.exchange(exchange).status() == Some(200) => {
                world.exchange(exchange).messages().to_vec()
            }
            (Via::Socket(socket), None) => world.socket(socket).messages(),
            (Via::Http(..), _) | (Via::Socket(_), Some(_)) => Vec::new(),
        };
        let answers = |message: &Value| {
            message.get("successful").is_some()
                && message["id"].as_str().is_some_and(|id| request.ids.iter().any(|own| own == id))
        };
        received.into_iter().filter(answers).collect()
    }

    /// The events received so far, in order of arrival, those of WebSocket frames that were taken excepted.
    pub fn events(&self, world: &World) -> Vec<Value> {
        match self.via {
            Via::Socket(socket) => world
                .socket(socket)
                .frames
                .iter()
                .flat_map(|frame| frame.events().cloned().collect::<Vec<_>>())
                .collect(),
            Via::Http(..) => {
                let mut answered: Vec<_> = self
                    .exchanges
                    .iter()
                    .map(|&key| world.exchange(key))
                    .filter(|exchange| exchange.status() == Some(200))
                    .collect();
                answered.sort_by_key(|exchange| exchange.ended_at);
                let messages = answered.into_iter().flat_map(|exchange| exchange.messages());
                messages.filter(|message| message.get("successful").is_none()).cloned().collect()
            }
        }
    }

    /// The `data` of all events received so far.
    pub fn data(&self, world: &World) -> Vec<Value> {
        self.events(world).into_iter().map(|event| event["data"].clone()).collect()
    }

    /// Its exchanges, oldest first.
    pub fn exchanges(&self) -> &[ExchangeKey] {
        &self.exchanges
    }
}

/// An exact channel.
///
/// # Panics
/// Where `text` is none.
pub fn channel(text: &str) -> ChannelName {
    ChannelName::parse(&ByteString::from(text), &ChannelLimits::default()).expect("the test names a channel")
}

/// A channel, wildcards allowed.
///
/// # Panics
/// Where `text` is none.
pub fn pattern(text: &str) -> ChannelPattern {
    ChannelPattern::parse(&ByteString::from(text), &ChannelLimits::default()).expect("the test names a channel")
}

/// An event with a payload.
///
/// # Panics
/// Never: what a [`Value`] prints is JSON.
pub fn event(channel: &str, data: &Value) -> Event {
    Event::new(channel, RawJson::new(data.to_string()).expect("a value prints as JSON"))
}
