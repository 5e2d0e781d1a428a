//! The server under test, and the two ways to reach it.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bayeux_http::{
    AllowedOrigins, CallbackPolling, Config, Endpoint, HttpOptions, Incoming, Listener, ListenerOptions, LongPolling,
    Server, Subscribed, Transport,
};
use bayeux_ws::{WebSocket, WsOptions};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How clients reach a server.
pub(super) struct Network {
    pub(super) server: Server,
    way: Way,
}

enum Way {
    /// Pipes, served by hyper-util as other frameworks do, while time is virtual.
    Memory { endpoint: Endpoint, connections: JoinSet<()> },
    /// A listener.
    Loopback { address: SocketAddr, stop: oneshot::Sender<()>, serving: tokio::task::JoinHandle<()> },
}

/// The client's end of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl Stream for DuplexStream {}
impl Stream for TcpStream {}

/// What a pipe holds: small, so that writers have to wait.
const PIPE: usize = 2 * 1024;

/// The longest anything may take when all is over: virtual time, so only a hang takes it.
const PATIENCE: Duration = Duration::from_secs(600);

/// What messages may have in bytes: little, so that fuzzing exceeds it.
const MESSAGE_SIZE_MAX: usize = 4 * 1024;

/// Runs `session` in virtual time.
pub(super) fn in_memory<F: Future<Output = Network>>(session: impl FnOnce(Network) -> F) {
    in_memory_with(MESSAGE_SIZE_MAX, session);
}

/// Runs `session` in virtual time, with messages of up to that many bytes.
pub(super) fn in_memory_with<F: Future<Output = Network>>(message_size_max: usize, session: impl FnOnce(Network) -> F) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let (server, endpoint) = start(message_size_max);
        let way = Way::Memory { endpoint, connections: JoinSet::new() };
        session(Network { server, way }).await.end().await;
    });
}

/// Runs `session` over real sockets, in real time.
pub(super) fn on_loopback<F: Future<Output = Network>>(session: impl FnOnce(Network) -> F) {
    // Sockets are looked at between any two tasks, so that what was written is read soon.
    let runtime = Builder::new_current_thread().enable_all().event_interval(1).build().expect("a runtime");
    runtime.block_on(async {
        let (server, endpoint) = start(MESSAGE_SIZE_MAX);
        let listener = Listener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut options = ListenerOptions::default();
        options.buffer_size_max = BUFFER_SIZE_MAX;
        let (stop, stopped) = oneshot::channel();
        let serving = listener.options(options).serve(server.clone(), endpoint, async {
            let _ = stopped.await;
        });
        let way = Way::Loopback { address, stop, serving: tokio::spawn(serving) };
        session(Network { server, way }).await.end().await;
    });
}

const BUFFER_SIZE_MAX: usize = 16 * 1024;

impl Network {
    /// A new connection.
    pub(super) async fn connect(&mut self) -> Box<dyn Stream> {
        match &mut self.way {
            Way::Memory { endpoint, connections } => {
                let (client, server) = tokio::io::duplex(PIPE);
                let endpoint = endpoint.clone();
                connections.spawn(async move {
                    let mut builder = auto::Builder::new(TokioExecutor::new());
                    let mut http1 = builder.http1();
                    http1.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60));
                    http1.max_buf_size(BUFFER_SIZE_MAX);
                    builder.http2().timer(TokioTimer::new());
                    // What is no HTTP is an error, and that is all right.
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(server), endpoint).await;
                });
                Box::new(client)
            }
            Way::Loopback { address, .. } => {
                let stream = TcpStream::connect(*address).await.expect("the listener accepts");
                // Otherwise thousands of connections a second leave no port.
                stream.set_zero_linger().expect("an option of every socket");
                stream.set_nodelay(true).expect("an option of every socket");
                Box::new(stream)
            }
        }
    }

    /// Whether time passes by itself.
    pub(super) fn is_virtual(&self) -> bool {
        matches!(self.way, Way::Memory { .. })
    }

    /// Lets everybody do what there is to do.
    pub(super) async fn settle(&self) {
        if self.is_virtual() {
            // Time stands still until nobody has anything to do.
            tokio::time::sleep(Duration::from_millis(1)).await;
        } else {
            for _ in 0..24 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// How long to wait for what must come.
    pub(super) fn patience(&self) -> Duration {
        if self.is_virtual() { PATIENCE } else { Duration::from_secs(20) }
    }

    /// When all clients are gone: nothing of them stays, and the server can be stopped.
    async fn end(self) {
        let Self { server, way } = self;
        match way {
            Way::Memory { mut connections, .. } => {
                // The longest that a session may live without its client.
                tokio::time::sleep(Duration::from_secs(40)).await;
                assert_eq!(server.session_count(), 0, "sessions stay behind");
                let ended = async {
                    while let Some(ended) = connections.join_next().await {
                        ended.expect("no connection panics");
                    }
                };
                timeout(PATIENCE, ended).await.expect("every connection ends");
                timeout(PATIENCE, server.shutdown(Duration::from_secs(5))).await.expect("the server stops");
            }
            Way::Loopback { stop, serving, .. } => {
                let _ = stop.send(());
                let stopped = timeout(Duration::from_secs(20), serving).await;
                stopped.expect("the listener stops").expect("no listener panics");
            }
        }
    }
}

/// A server with everything on it: transports, extensions, services, listeners.
fn start(message_size_max: usize) -> (Server, Endpoint) {
    let mut config = Config::default();
    config.shards = 2;
    config.allowed_transports = vec![Transport::WebSocket, Transport::LongPolling, Transport::CallbackPolling];
    config.acknowledge = true;
    config.timesync = true;
    config.binary = true;
    config.max_client_interval = Duration::from_secs(10);
    config.each_transport(|options| {
        options.timeout = Duration::from_secs(10);
        options.max_interval = Duration::from_secs(5);
        options.max_message_size = message_size_max;
    });
    let server = Server::builder(config)
        .on_message("/service/echo", |call: Incoming| async move {
            let _ = call.answer(call.raw());
        })
        .on_subscribed(|subscribed: Subscribed| async move {
            let _ = subscribed.session.deliver("/welcome", "a listener's word");
        })
        .build()
        .expect("the options are valid");
    let mut http = HttpOptions::default();
    http.allowed_origins = AllowedOrigins::Any;
    // So that no 5xx is ever right.
    http.duplicate_meta_connect_http_response_code = 409;
    let mut ws = WsOptions::default();
    ws.idle_timeout = Duration::from_secs(60);
    let endpoint = Endpoint::new(server.clone())
        .at("/cometd")
        .with(WebSocket::new(ws).expect("the options are valid"))
        .with(LongPolling::new(http.clone()).expect("the options are valid"))
        .with(CallbackPolling::new(http).expect("the options are valid"));
    (server, endpoint)
}
