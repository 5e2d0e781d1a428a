//! A network between the hosts of clients and a [`World`], on virtual time: slow, lossy, partitioned, or well again.
//!
//! A [`World`] takes what it is given at once. [`Net`] stands before it and lets everything take its time. A *host* is a
//! machine with a browser: its connections share a cookie jar and a way to the server. What one connection carries keeps
//! its order; connections overtake each other. The verbs are those of networks that break: [`Net::hold`] and
//! [`Net::release`], [`Net::partition`] and [`Net::repair`], [`Net::set_weather`] for latency and loss.
//!
//! A connection that loses something carries nothing any more in that direction, as TCP does. Either end may notice, or
//! not: a server that was not told finds out when it writes, or when the network heals.
//!
//! Every delay and every loss is drawn from the seed and the connection's place in its host, so that what one client
//! does changes nothing for the others.
//!
//! # Example: a response that is lost
//!
//! ```
//! use std::time::Duration;
//! use bayeux_testkit::net::{Arrival, Direction, Net};
//! use bayeux_testkit::{Http, Options, World};
//!
//! let mut net = Net::new(World::new(Options::shards(1)), 7);
//! let host = net.host();
//! net.partition_oneway(host, Direction::ToClient);
//! let lost = net.post(host, Http::default(), r#"[{"channel":"/meta/handshake"}]"#);
//! net.advance(Duration::from_secs(1));
//! assert_eq!(net.world().session_count(), 1, "the request arrived");
//! net.heal();
//! let arrivals = net.advance(Duration::from_secs(1));
//! assert!(matches!(arrivals[..], [Arrival::Failed(call)] if call == lost), "{arrivals:?}");
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use bayeux_core::Time;

use crate::random::Random;
use crate::wire::{BrowserKey, Ended, Envelope, ExchangeKey, Http, Outcome, SocketKey};
use crate::world::{Happening, Peer, World};

/// A machine with a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostKey(usize);

/// One request over HTTP, and its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallKey(usize);

/// One WebSocket, as its client has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WireKey(usize);

/// One of a host's two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the host to the server.
    ToServer,
    /// From the server to the host.
    ToClient,
}

/// What a host's connections suffer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// The shortest time that an envelope takes.
    pub latency_min: Duration,
    /// The longest time that an envelope takes.
    pub latency_max: Duration,
    /// Envelopes of 100 that are lost, with their connection.
    pub loss_percent: u64,
}

impl Weather {
    /// No delay, no loss.
    pub const FAIR: Self = Self { latency_min: Duration::ZERO, latency_max: Duration::ZERO, loss_percent: 0 };
}

/// What a client notices.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// A response came: with a body, or with a status alone.
    Response(CallKey, Outcome),
    /// No response will come: the connection broke.
    Failed(CallKey),
    /// A frame came.
    Frame(WireKey, Envelope),
    /// The WebSocket is closed, by the server or the network.
    Closed(WireKey),
}

/// How much harm was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Harm {
    /// Requests, and frames to the server, that were lost.
    pub lost_to_server: u64,
    /// Responses, and frames to the client, that were lost.
    pub lost_to_client: u64,
    /// Connections that one end gave up while the other had not.
    pub hung_up: u64,
    /// Partitions and holds of hosts.
    pub partitions: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    Held,
    Cut,
}

struct Host {
    browser: BrowserKey,
    cookie: Option<String>,
    weather: Weather,
    to_server: Way,
    to_client: Way,
    /// What waits for a release, in order.
    waiting: Vec<(Direction, Transit)>,
    connections: u64,
}

/// A connection between a host and the server.
struct Link {
    host: HostKey,
    /// Which of the host's.
    ordinal: u64,
    /// Envelopes sent on it, in both directions.
    sent: u64,
    last_to_server: Time,
    last_to_client: Time,
    /// Nothing gets through any more.
    dead_to_server: bool,
    dead_to_client: bool,
    /// The client gave it up, or was told that it is over.
    client_gone: bool,
    /// The server was told that it is over, or ended it.
    server_gone: bool,
    end: End,
}

/// What a connection is at the server.
enum End {
    Exchange { http: Http, key: Option<ExchangeKey> },
    Socket(SocketKey),
}

/// What is on its way, on the connection of that number.
#[derive(Debug, Clone)]
enum Transit {
    Request(usize, String),
    Response(usize, Outcome),
    Frame(usize, Envelope),
    /// The client's end of a connection is closed.
    Fin(usize),
    /// The server's end is.
    Closed(usize),
}

impl Transit {
    fn link(&self) -> usize {
        match self {
            Self::Request(at, _) | Self::Response(at, _) | Self::Frame(at, _) | Self::Fin(at) | Self::Closed(at) => *at,
        }
    }
}

/// A network before a [`World`].
pub struct Net {
    world: World,
    seed: u64,
    hosts: Vec<Host>,
    links: Vec<Link>,
    by_exchange: BTreeMap<ExchangeKey, usize>,
    by_socket: BTreeMap<SocketKey, usize>,
    agenda: BTreeMap<(Time, u64), (Direction, Transit)>,
    planned: u64,
    arrivals: Vec<Arrival>,
    observed: Vec<(Time, Happening)>,
    harm: Harm,
}

impl Net {
    /// A network without hosts before `world`; `seed` decides delays and losses.
    pub fn new(mut world: World, seed: u64) -> Self {
        world.take_happenings();
        Self {
            world,
            seed,
            hosts: Vec::new(),
            links: Vec::new(),
            by_exchange: BTreeMap::new(),
            by_socket: BTreeMap::new(),
            agenda: BTreeMap::new(),
            planned: 0,
            arrivals: Vec::new(),
            observed: Vec::new(),
            harm: Harm::default(),
        }
    }

    /// The server.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Does something to the server, whose answers then travel.
    pub fn act<R>(&mut self, act: impl FnOnce(&mut World) -> R) -> R {
        let result = act(&mut self.world);
        self.collect();
        result
    }

    /// Takes what happened at the server since the last call, in order.
    pub fn take_observed(&mut self) -> Vec<(Time, Happening)> {
        std::mem::take(&mut self.observed)
    }

    /// How much harm was done so far.
    pub fn harm(&self) -> Harm {
        self.harm
    }

    // Hosts.

    /// A host without cookies, in fair weather.
    pub fn host(&mut self) -> HostKey {
        let browser = self.world.browser();
        self.hosts.push(Host {
            browser,
            cookie: None,
            weather: Weather::FAIR,
            to_server: Way::Open,
            to_client: Way::Open,
            waiting: Vec::new(),
            connections: 0,
        });
        HostKey(self.hosts.len() - 1)
    }

    /// Changes what a host's connections suffer from.
    pub fn set_weather(&mut self, host: HostKey, weather: Weather) {
        self.hosts[host.0].weather = weather;
    }

    /// Keeps whatever a host sends or is sent, until [`Net::release`].
    pub fn hold(&mut self, host: HostKey) {
        let host = &mut self.hosts[host.0];
        (host.to_server, host.to_client) = (Way::Held, Way::Held);
        self.harm.partitions += 1;
    }

    /// Lets everything that was held arrive now.
    pub fn release(&mut self, host: HostKey) {
        let now = self.world.now();
        let host = &mut self.hosts[host.0];
        for way in [&mut host.to_server, &mut host.to_client] {
            if *way == Way::Held {
                *way = Way::Open;
            }
        }
        for (direction, transit) in std::mem::take(&mut host.waiting) {
            self.plan(now, direction, transit);
        }
    }

    /// Nothing gets through between the host and the server: connections that try lose what they carry.
    pub fn partition(&mut self, host: HostKey) {
        self.partition_oneway(host, Direction::ToServer);
        self.partition_oneway(host, Direction::ToClient);
    }

    /// Nothing gets through in one direction.
    pub fn partition_oneway(&mut self, host: HostKey, direction: Direction) {
        let host = &mut self.hosts[host.0];
        match direction {
            Direction::ToServer => host.to_server = Way::Cut,
            Direction::ToClient => host.to_client = Way::Cut,
        }
        self.harm.partitions += 1;
    }

    /// Opens both ways of a host. Connections that lost something meanwhile stay dead.
    pub fn repair(&mut self, host: HostKey) {
        let host_now = &mut self.hosts[host.0];
        for way in [&mut host_now.to_server, &mut host_now.to_client] {
            if *way == Way::Cut {
                *way = Way::Open;
            }
        }
    }

    /// Everything is well again, for all hosts: fair weather, open ways, clients that read, responses that come at once;
    /// both ends hear of dead connections.
    pub fn heal(&mut self) {
        self.world.hasten_responses();
        for at in 0..self.hosts.len() {
            let host = HostKey(at);
            self.set_weather(host, Weather::FAIR);
            self.repair(host);
            self.release(host);
        }
        for at in 0..self.links.len() {
            if let End::Socket(socket) = self.links[at].end {
                self.world.unstall(socket);
            }
            let link = &self.links[at];
            if link.dead_to_server || link.dead_to_client || link.client_gone != link.server_gone {
                self.end_at_server(at);
                self.end_at_client(at);
            }
        }
        self.collect();
    }

    // Connections.

    /// Sends one envelope over HTTP.
    pub fn post(&mut self, host: HostKey, http: Http, body: &str) -> CallKey {
        let at = self.connect(host, End::Exchange { http, key: None });
        self.send_up(at, Transit::Request(at, body.to_owned()));
        CallKey(at)
    }

    /// Opens a WebSocket. It is there at once; what is sent on it is not.
    pub fn open(&mut self, host: HostKey) -> WireKey {
        let socket = self.world.open_socket();
        let at = self.connect(host, End::Socket(socket));
        self.by_socket.insert(socket, at);
        self.collect();
        WireKey(at)
    }

    /// Sends one envelope over a WebSocket. Where it is closed, nothing happens.
    pub fn send(&mut self, wire: WireKey, body: &str) {
        if !self.links[wire.0].client_gone {
            self.send_up(wire.0, Transit::Request(wire.0, body.to_owned()));
        }
    }

    /// Whether the client has a WebSocket open.
    pub fn is_open(&self, wire: WireKey) -> bool {
        !self.links[wire.0].client_gone
    }

    /// The client gives a request up; the server hears of it if the way there is open.
    pub fn abort(&mut self, call: CallKey) {
        self.hang_up(call.0);
    }

    /// A connection breaks while the server writes a response on it, and both sides notice; of several, that one.
    pub fn break_off(&mut self, which: usize) {
        let writing = |link: &Link| match link.end {
            End::Exchange { key: Some(key), .. } => !link.server_gone && self.world.is_writing(key),
            End::Exchange { key: None, .. } | End::Socket(_) => false,
        };
        let begun: Vec<usize> = (0..self.links.len()).filter(|at| writing(&self.links[*at])).collect();
        if let Some(&at) = begun.get(which % begun.len().max(1)) {
            self.harm.hung_up += 1;
            self.end_at_server(at);
            self.end_at_client(at);
            self.collect();
        }
    }

    /// The client closes a WebSocket; the server hears of it if the way there is open.
    pub fn close(&mut self, wire: WireKey) {
        self.hang_up(wire.0);
    }

    /// The client takes nothing from a WebSocket any more, so that the server cannot write.
    pub fn stop_reading(&mut self, wire: WireKey) {
        if let End::Socket(socket) = self.links[wire.0].end {
            self.world.stall(socket);
        }
    }

    /// The client reads again.
    pub fn read_again(&mut self, wire: WireKey) {
        if let End::Socket(socket) = self.links[wire.0].end {
            self.world.unstall(socket);
            self.collect();
        }
    }

    /// A host disappears with all that it has open, and tells nobody.
    pub fn vanish(&mut self, host: HostKey) {
        for link in self.links.iter_mut().filter(|link| link.host == host && !link.client_gone) {
            (link.client_gone, link.dead_to_server, link.dead_to_client) = (true, true, true);
            self.harm.hung_up += 1;
        }
    }

    // Time.

    /// When something happens next by itself.
    pub fn next_due(&self) -> Option<Time> {
        let own = self.agenda.keys().next().map(|&(at, _)| at);
        own.into_iter().chain(self.world.next_due()).min()
    }

    /// Lets what is due next happen, and nothing else; what clients notice of it.
    pub fn turn(&mut self) -> Vec<Arrival> {
        let now = self.world.now();
        let own = self.agenda.keys().next().map(|&(at, _)| at);
        let servers = self.world.next_due();
        if let Some(at) = servers
            && own.is_none_or(|own| at <= own)
        {
            self.world.advance(at.since(now));
        } else if let Some(entry) = self.agenda.first_entry() {
            let at = entry.key().0;
            let (direction, transit) = entry.remove();
            self.world.advance(at.since(now));
            self.arrive(direction, transit);
        }
        self.collect();
        self.take_arrivals()
    }

    /// Takes what clients noticed since the last call.
    pub fn take_arrivals(&mut self) -> Vec<Arrival> {
        std::mem::take(&mut self.arrivals)
    }

    /// Lets time pass; what clients notice meanwhile.
    pub fn advance(&mut self, duration: Duration) -> Vec<Arrival> {
        let target = self.world.now() + duration;
        let mut arrivals = std::mem::take(&mut self.arrivals);
        while self.next_due().is_some_and(|at| at <= target) {
            arrivals.extend(self.turn());
        }
        self.world.advance(target.since(self.world.now()));
        self.collect();
        arrivals.append(&mut self.arrivals);
        arrivals
    }

    // On the way.

    fn connect(&mut self, host: HostKey, end: End) -> usize {
        let of = &mut self.hosts[host.0];
        of.connections += 1;
        self.links.push(Link {
            host,
            ordinal: of.connections,
            sent: 0,
            last_to_server: Time::ZERO,
            last_to_client: Time::ZERO,
            dead_to_server: false,
            dead_to_client: false,
            client_gone: false,
            server_gone: false,
            end,
        });
        self.links.len() - 1
    }

    fn plan(&mut self, at: Time, direction: Direction, transit: Transit) {
        self.agenda.insert((at, self.planned), (direction, transit));
        self.planned += 1;
    }

    /// What chance has to say about the next envelope of a connection.
    fn draw(&mut self, at: usize) -> Random {
        let link = &mut self.links[at];
        link.sent += 1;
        let place = (link.host.0 as u64) << 40 ^ link.ordinal << 20 ^ link.sent;
        Random::new(self.seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn send_up(&mut self, at: usize, transit: Transit) {
        let now = self.world.now();
        let mut random = self.draw(at);
        let weather = self.hosts[self.links[at].host.0].weather;
        let link = &mut self.links[at];
        let arrival = (now + delay(&mut random, weather)).max(link.last_to_server);
        link.last_to_server = arrival;
        if random.percent(weather.loss_percent) && matches!(transit, Transit::Request(..)) {
            self.lose(at, Direction::ToServer, &mut random);
            return;
        }
        self.plan(arrival, Direction::ToServer, transit);
    }

    fn send_down(&mut self, at: usize, transit: Transit) {
        let now = self.world.now();
        let mut random = self.draw(at);
        let weather = self.hosts[self.links[at].host.0].weather;
        let link = &mut self.links[at];
        let arrival = (now + delay(&mut random, weather)).max(link.last_to_client);
        link.last_to_client = arrival;
        if random.percent(weather.loss_percent) {
            self.lose(at, Direction::ToClient, &mut random);
            return;
        }
        self.plan(arrival, Direction::ToClient, transit);
    }

    /// Something was lost: the connection is dead in that direction, and perhaps somebody notices.
    fn lose(&mut self, at: usize, direction: Direction, random: &mut Random) {
        match direction {
            Direction::ToServer => {
                self.links[at].dead_to_server = true;
                self.harm.lost_to_server += 1;
            }
            Direction::ToClient => {
                self.links[at].dead_to_client = true;
                self.harm.lost_to_client += 1;
            }
        }
        let later = self.world.now() + random.duration_up_to(NOTICED_WITHIN);
        if random.percent(50) {
            self.plan(later, Direction::ToClient, Transit::Closed(at));
        }
        if random.percent(50) {
            self.plan(later, Direction::ToServer, Transit::Fin(at));
        }
    }

    fn arrive(&mut self, direction: Direction, transit: Transit) {
        let at = transit.link();
        let host = &mut self.hosts[self.links[at].host.0];
        let (way, dead) = match direction {
            Direction::ToServer => (host.to_server, self.links[at].dead_to_server),
            Direction::ToClient => (host.to_client, self.links[at].dead_to_client),
        };
        let news = matches!(transit, Transit::Fin(_) | Transit::Closed(_));
        match way {
            Way::Held => host.waiting.push((direction, transit)),
            Way::Cut if news => match direction {
                Direction::ToServer => self.links[at].dead_to_server = true,
                Direction::ToClient => self.links[at].dead_to_client = true,
            },
            Way::Cut => {
                let mut random = self.draw(at);
                self.lose(at, direction, &mut random);
            }
            // That it is dead may be heard of, nothing else.
            Way::Open if dead && !news => {}
            Way::Open => self.deliver(at, transit),
        }
    }

    fn deliver(&mut self, at: usize, transit: Transit) {
        match transit {
            Transit::Request(_, body) => self.reach_server(at, &body),
            Transit::Fin(_) => self.end_at_server(at),
            Transit::Closed(_) => self.end_at_client(at),
            Transit::Response(_, outcome) => {
                if !self.links[at].client_gone {
                    self.links[at].client_gone = true;
                    self.take_cookie(at);
                    self.arrivals.push(Arrival::Response(CallKey(at), outcome));
                }
            }
            Transit::Frame(_, envelope) => {
                if self.links[at].client_gone {
                    // Nobody listens there: the server is told so.
                    self.send_up(at, Transit::Fin(at));
                } else {
                    self.arrivals.push(Arrival::Frame(WireKey(at), envelope));
                }
            }
        }
    }

    fn reach_server(&mut self, at: usize, body: &str) {
        if self.links[at].server_gone {
            return;
        }
        match self.links[at].end {
            End::Exchange { http, .. } => {
                let host = &self.hosts[self.links[at].host.0];
                let (browser, cookie) = (host.browser, host.cookie.clone());
                self.world.set_cookie(browser, cookie.as_deref());
                let key = self.world.post(browser, http, body);
                self.by_exchange.insert(key, at);
                self.links[at].end = End::Exchange { http, key: Some(key) };
            }
            End::Socket(socket) => self.world.send(socket, body),
        }
    }

    /// The browser has the cookie only when the response has come.
    fn take_cookie(&mut self, at: usize) {
        if let End::Exchange { key: Some(key), .. } = self.links[at].end
            && let Some(cookie) = self.world.exchange(key).cookie.clone()
        {
            self.hosts[self.links[at].host.0].cookie = Some(cookie);
        }
    }

    /// What happened at the server sets out for the clients.
    fn collect(&mut self) {
        for (time, happening) in self.world.take_happenings() {
            match &happening {
                Happening::Ended(key) => self.answer(*key),
                Happening::Frame(socket, envelope) => {
                    if let Some(&at) = self.by_socket.get(socket) {
                        self.send_down(at, Transit::Frame(at, envelope.clone()));
                    }
                    self.world.take_frames(*socket);
                }
                Happening::Closed(socket) => {
                    if let Some(&at) = self.by_socket.get(socket) {
                        self.links[at].server_gone = true;
                        self.send_down(at, Transit::Closed(at));
                    }
                }
                Happening::Received(..)
                | Happening::Drained(..)
                | Happening::Written(_)
                | Happening::Lost(_)
                | Happening::Asked(_)
                | Happening::Retired(_)
                | Happening::Notice(_) => {}
            }
            self.observed.push((time, happening));
        }
    }

    fn answer(&mut self, key: ExchangeKey) {
        let Some(&at) = self.by_exchange.get(&key) else { return };
        let outcome = self.world.exchange(key).outcome.clone();
        if outcome != Outcome::Aborted && !self.links[at].server_gone {
            self.links[at].server_gone = true;
            self.send_down(at, Transit::Response(at, outcome));
        }
    }

    fn hang_up(&mut self, at: usize) {
        let link = &mut self.links[at];
        if !link.client_gone {
            link.client_gone = true;
            self.harm.hung_up += 1;
            self.send_up(at, Transit::Fin(at));
        }
    }

    fn end_at_server(&mut self, at: usize) {
        if std::mem::replace(&mut self.links[at].server_gone, true) {
            return;
        }
        self.links[at].dead_to_server = true;
        match self.links[at].end {
            End::Exchange { key: Some(key), .. } => self.world.cut(key),
            End::Exchange { key: None, .. } => {}
            End::Socket(socket) => self.world.cut(socket),
        }
    }

    fn end_at_client(&mut self, at: usize) {
        let link = &mut self.links[at];
        if std::mem::replace(&mut link.client_gone, true) {
            return;
        }
        self.arrivals.push(match link.end {
            End::Exchange { .. } => Arrival::Failed(CallKey(at)),
            End::Socket(_) => Arrival::Closed(WireKey(at)),
        });
    }

    /// How a WebSocket ended at the server, if it did.
    pub fn ended(&self, wire: WireKey) -> Option<Ended> {
        match self.links[wire.0].end {
            End::Socket(socket) => self.world.socket(socket).ended,
            End::Exchange { .. } => None,
        }
    }

    /// The server's end of a WebSocket.
    pub fn peer(&self, wire: WireKey) -> Peer {
        match self.links[wire.0].end {
            End::Socket(socket) => socket.into(),
            End::Exchange { .. } => unreachable!("a wire is a WebSocket"),
        }
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("world", &self.world).field("hosts", &self.hosts.len()).finish_non_exhaustive()
    }
}

fn delay(random: &mut Random, weather: Weather) -> Duration {
    weather.latency_min + random.duration_up_to(weather.latency_max.saturating_sub(weather.latency_min))
}

/// How long it takes at most until an end that notices a broken connection does.
const NOTICED_WITHIN: Duration = Duration::from_secs(4);
