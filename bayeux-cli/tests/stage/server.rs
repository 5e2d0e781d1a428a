//! A server in memory: the command's own options, both transports, hyper, and pipes in the place of sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bayeux_cli::options::{self, Settings};
use bayeux_http::{Asked, CallbackPolling, LongPolling, Policy, Verdict};
use bayeux_server::{Endpoint, Server, Session};
use bayeux_testkit::script::Wrong;
use bayeux_ws::WebSocket;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::DuplexStream;

use super::names::Names;

/// How clients speak to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// More than any script sends before the other side reads.
const PIPE: usize = 8 * 1024 * 1024;

/// A server, and the endpoint that `bayeux serve` would mount at `/cometd`.
pub(crate) struct Running {
    pub(crate) server: Server,
    endpoint: Endpoint,
    gate: Gate,
}

/// A policy that can be told what to say: whether handshakes are refused.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Policy for Gate {
    async fn can_handshake(&self, _: Asked) -> Verdict {
        if self.0.load(Ordering::Relaxed) { Verdict::deny() } else { Verdict::allow() }
    }
}

impl Running {
    /// A server with these options, by their names, on a runtime that this is called in.
    pub(crate) fn start(options: &[(String, String)], shards: u16) -> Result<Self, Wrong> {
        let mut flags = vec!["serve".to_owned(), format!("--shards={shards}"), "--no-timestamp-extension".to_owned()];
        flags.extend(options.iter().map(|(name, value)| format!("--{}={value}", kebab(name))));
        let settings = settings(flags)?;
        let gate = Gate::default();
        let server = Server::builder(settings.config).limits(settings.limits).policy(gate.clone());
        let server = server.build().map_err(|error| error.to_string())?;
        let endpoint = Endpoint::new(server.clone())
            .at("/cometd")
            .with(WebSocket::new(settings.ws).map_err(|error| error.to_string())?)
            .with(LongPolling::new(settings.http.clone()).map_err(|error| error.to_string())?)
            .with(CallbackPolling::new(settings.http).map_err(|error| error.to_string())?);
        Ok(Self { server, endpoint, gate })
    }

    /// Does what the application is to do: what a script says after `server`.
    pub(crate) async fn perform(&self, step: &str, names: &Names) -> Result<(), Wrong> {
        match step.split_once(' ').unwrap_or((step, "")) {
            ("publish", words) => {
                let (channel, data) = channel_and_data(words)?;
                self.server.publish(channel, &data).await.map_err(|error| error.to_string())?;
            }
            ("to", words) => {
                let (name, command) = words.split_once(' ').ok_or("to NAME COMMAND")?;
                let session = names.last_session(name).and_then(|id| self.server.session(id));
                command_session(&session.ok_or_else(|| format!("{name} has no session"))?, command)?;
            }
            ("denies", "handshakes") => self.gate.0.store(true, Ordering::Relaxed),
            ("allows", "handshakes") => self.gate.0.store(false, Ordering::Relaxed),
            ("stop", "") => {
                // As SIGTERM would.
                let server = self.server.clone();
                tokio::spawn(async move { server.shutdown(Duration::from_secs(5)).await });
            }
            _ => return Err(format!("the server cannot {step}")),
        }
        Ok(())
    }

    /// The client's end of a new connection.
    pub(crate) fn accept(&self, version: Version) -> DuplexStream {
        let (near, far) = tokio::io::duplex(PIPE);
        let (stream, endpoint) = (TokioIo::new(far), self.endpoint.clone());
        // An error is a client that hung up.
        tokio::spawn(async move {
            match version {
                Version::Http1 => {
                    let _ = http1::Builder::new().serve_connection(stream, endpoint).with_upgrades().await;
                }
                Version::Http2 => {
                    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, endpoint).await;
                }
            }
        });
        near
    }
}

fn command_session(session: &Session, command: &str) -> Result<(), Wrong> {
    match command.split_once(' ').unwrap_or((command, "")) {
        ("deliver", words) => {
            let (channel, data) = channel_and_data(words)?;
            session.deliver(channel, &data).map_err(|error| error.to_string())
        }
        ("disconnect", "") => {
            session.disconnect();
            Ok(())
        }
        _ => Err(format!("a session cannot {command}")),
    }
}

/// `CHANNEL JSON`.
fn channel_and_data(words: &str) -> Result<(&str, Value), Wrong> {
    let (channel, data) = words.split_once(' ').ok_or("CHANNEL JSON")?;
    Ok((channel, serde_json::from_str(data).map_err(|error| format!("{data}: {error}"))?))
}

fn settings(flags: Vec<String>) -> Result<Settings, Wrong> {
    let matches = options::command().try_get_matches_from(flags).map_err(|error| error.to_string())?;
    let loaded = options::load(&matches, std::iter::empty()).map_err(|error| error.to_string())?;
    Ok(loaded.settings)
}

/// An option's name as a flag: `ws.idleTimeout` is `ws-idle-timeout`.
fn kebab(name: &str) -> String {
    let mut flag = String::new();
    for letter in name.chars() {
        match letter {
            '.' => flag.push('-'),
            upper if upper.is_ascii_uppercase() => {
                flag.push('-');
                flag.push(upper.to_ascii_lowercase());
            }
            other => flag.push(other),
        }
    }
    flag
}
