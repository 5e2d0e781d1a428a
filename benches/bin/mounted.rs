//! A server as an application has it: mounted in an axum router, beside a route of the application's own, which
//! `axum::serve` serves, or our [`Listener`] does. Cost and memory are compared with those of `bayeux serve`.
//!
//! ```text
//! cargo run --release -p bayeux-benches --bin mounted -- 127.0.0.1:8082
//! bayeux load http://127.0.0.1:8082/cometd --mode fanout --pid $(pidof mounted)
//! ```
//!
//! Behind the address, `lazy=CHANNEL` makes a channel and all below it lazy, and `lazy-timeout=MILLISECONDS` says for
//! how long its messages may wait. With `served-by=listener` it is not `axum::serve` that serves the router.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt;
use bayeux_http::{BuildError, Config, Endpoint, HttpOptions, Listener, LongPolling, Server};
use bayeux_ws::{WebSocket, WsOptions};
use tokio::net::{TcpListener, TcpSocket};

/// Load generators connect thousands at once.
const BACKLOG: u32 = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    // Where the limit is too low for the connections, accepting them fails.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(options))
}

async fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let server = server(&options)?;
    let endpoint = Endpoint::new(server.clone())
        .with(WebSocket::new(WsOptions::default())?)
        .with(LongPolling::new(HttpOptions::default())?);
    let app = Router::new().route("/", get(async || "hello")).nest_service("/cometd", endpoint);
    let listener = listen(options.address)?;
    writeln!(std::io::stdout(), "listening on http://{}/cometd", listener.local_addr()?)?;
    if options.own_listener {
        Listener::new(listener).serve(server, app, std::future::pending()).await;
        return Ok(());
    }
    // A small answer does not wait for the acknowledgement of the one before.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, app).await?;
    Ok(())
}

fn server(options: &Options) -> Result<Server, BuildError> {
    let mut config = Config::default();
    if let Some(timeout) = options.lazy_timeout {
        config.each_transport(|transport| transport.max_lazy_timeout = timeout);
    }
    let builder = Server::builder(config);
    match options.lazy.clone() {
        None => builder.build(),
        Some(lazy) => builder
            .on_channel_created(move |channel| {
                if channel
                    .name()
                    .strip_prefix(lazy.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                {
                    channel.set_lazy(true);
                }
            })
            .build(),
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What the command line says.
struct Options {
    address: SocketAddr,
    lazy: Option<String>,
    lazy_timeout: Option<Duration>,
    own_listener: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let address = args.next().unwrap_or_else(|| "127.0.0.1:0".to_owned()).parse()?;
        let mut options = Self { address, lazy: None, lazy_timeout: None, own_listener: false };
        for arg in args {
            match arg.split_once('=') {
                Some(("lazy", channel)) => options.lazy = Some(channel.to_owned()),
                Some(("lazy-timeout", millis)) => options.lazy_timeout = Some(Duration::from_millis(millis.parse()?)),
                Some(("served-by", "listener")) => options.own_listener = true,
                _ => return Err(format!("no such option: {arg}").into()),
            }
        }
        Ok(options)
    }
}
