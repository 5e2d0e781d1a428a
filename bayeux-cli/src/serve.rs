//! `bayeux serve`: a server from its options, from the first listener to the last drained connection.

use std::io;
use std::net::SocketAddr;

use bayeux_http::filter::{NoMarkup, NoScripts};
use bayeux_http::{CallbackPolling, LongPolling};
use bayeux_server::{BuildError, Endpoint, Listener, Server, ServerBuilder};
use bayeux_ws::WebSocket;
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::chat::Chat;
use crate::options::{Filter, FilterPreset, OptionError, Settings};
use crate::pages::Pages;
use crate::site::Site;

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The server could not be built.
    #[error("cannot start the server")]
    Build(#[from] BuildError),
    /// Options that [`options::load`](crate::options::load) would have refused.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// The runtime's threads, or the handling of signals, could not be set up.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
}

/// A server that runs.
#[derive(Debug)]
#[must_use = "the server runs on unattended"]
pub struct Running {
    addresses: Vec<SocketAddr>,
    server: Server,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    chat: Option<JoinHandle<()>>,
}

/// Runs a server until the process is told to stop; says on stdout where it listens.
///
/// SIGTERM and SIGINT drain it. The second one ends the process at once.
///
/// # Errors
/// [`ServeError`]
pub fn run(settings: Settings, customise: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Result<(), ServeError> {
    raise_descriptor_limit();
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(usize::from(settings.config.shards))
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    runtime.block_on(async {
        // Before the ready line: whoever reads it may send a signal at once.
        let mut signals = Signals::listen().map_err(ServeError::Runtime)?;
        let path = settings.paths.first().cloned().unwrap_or_default();
        let running = start(settings, customise).await?;
        let lines: String =
            running.addresses().iter().map(|address| format!("listening on http://{address}{path}\n")).collect();
        crate::print(&lines);
        let signal = signals.next().await;
        tracing::info!(signal, sessions = running.server().session_count(), "stopping");
        tokio::spawn(async move {
            let signal = signals.next().await;
            tracing::warn!(signal, "stopping at once");
            std::process::exit(1);
        });
        running.stop().await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Starts a server on the runtime that this is called in.
///
/// # Errors
/// [`ServeError`]
pub async fn start(
    settings: Settings,
    customise: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> Result<Running, ServeError> {
    let mut listeners = Vec::new();
    for address in &settings.listen {
        let bound = Listener::bind(address).await;
        let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (local, listener) = bound.map_err(|source| ServeError::Listen { address: address.clone(), source })?;
        listeners.push((local, listener.options(settings.listener.clone())));
    }
    let chat = settings.demo.then(Chat::default);
    let mut builder = Server::builder(settings.config.clone()).limits(settings.limits);
    for Filter { channel, preset } in &settings.filters {
        builder = match preset {
            FilterPreset::NoMarkup => builder.filter(channel.as_str(), NoMarkup),
            FilterPreset::NoScripts => builder.filter(channel.as_str(), NoScripts),
        };
    }
    if let Some(chat) = &chat {
        builder = chat.services(builder);
    }
    let server = customise(builder).build()?;
    let site = site(&settings, &server)?;
    let chat = chat.map(|chat| tokio::spawn(chat.run(server.clone())));
    let (stop, stopped) = watch::channel(false);
    let (addresses, listeners) = listeners
        .into_iter()
        .map(|(address, listener)| {
            let mut stopped = stopped.clone();
            let stopped = async move {
                // An error is a `Running` that was dropped: its listeners go on.
                if stopped.wait_for(|stop| *stop).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            // The site only chooses between them and its pages.
            let listener = listener.endpoints(site.endpoints().iter().cloned());
            (address, tokio::spawn(listener.serve(server.clone(), site.clone(), stopped)))
        })
        .unzip();
    Ok(Running { addresses, server, stop, listeners, chat })
}

/// An endpoint for each path, and the pages around them.
fn site(settings: &Settings, server: &Server) -> Result<Site, ServeError> {
    let mut endpoints = Vec::new();
    for path in settings.paths.iter().chain(&settings.ws_paths) {
        let long_polling = LongPolling::new(settings.http.clone()).map_err(OptionError::Http)?;
        let callback_polling = CallbackPolling::new(settings.http.clone()).map_err(OptionError::Http)?;
        let websocket = WebSocket::new(settings.ws.clone()).map_err(OptionError::Ws)?;
        let endpoint = Endpoint::new(server.clone()).at(path);
        // Each serves where the options allow it.
        endpoints.push(endpoint.with(websocket).with(long_polling).with(callback_polling));
    }
    let endpoint = settings.paths.first().map_or("/cometd", String::as_str);
    Ok(Site::new(endpoints, settings.demo.then(|| Pages::new(endpoint))))
}

impl Running {
    /// The addresses it listens on, in the order of [`Settings::listen`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Drains it: accepts nothing more, answers held connects, flushes queues, and waits for all that up to
    /// `drainTimeout`.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for listener in self.listeners {
            if let Err(error) = listener.await {
                tracing::error!(%error, "a listener ended early");
            }
        }
        if let Some(chat) = self.chat {
            chat.abort();
        }
    }
}

/// Each connection is a descriptor, and the usual limit is 1,024; the hard limit is what the administrator meant.
fn raise_descriptor_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

/// What tells the process to stop.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    #[cfg(not(unix))]
    #[allow(clippy::unnecessary_wraps, reason = "the same signature everywhere")]
    fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for one; yields its name.
    #[cfg(unix)]
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}
