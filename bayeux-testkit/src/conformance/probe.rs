//! What a server offers.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::case::{Need, Transport};
use super::client::Client;
use super::env::Env;
use super::outcome::Outcome;
use super::transcript::Log;

/// What a server has shown of itself in its first handshakes.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Server {
    /// Those over which a handshake succeeded.
    pub transports: Vec<Transport>,
    /// `supportedConnectionTypes` of a handshake reply.
    pub supported_connection_types: Vec<String>,
    /// Which of `ack`, `timesync`, `timestamp` and `binary` it takes part in.
    pub extensions: Vec<String>,
    /// `advice.timeout` in milliseconds, if it gives one.
    pub timeout: Option<u64>,
    /// `advice.maxInterval` in milliseconds, if it gives one.
    pub max_interval: Option<u64>,
    /// Why the transports that are missing are missing.
    pub refusals: Vec<String>,
}

/// How long a server may hold a connect that has not told: Bayeux clients assume no more.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Server {
    /// How long a connect may be held.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout.map_or(TIMEOUT, Duration::from_millis)
    }

    pub(super) fn has(&self, need: Need) -> bool {
        self.extensions.iter().any(|extension| extension == need.name())
    }
}

/// Tries a handshake over each transport, with all extensions on offer.
pub(super) async fn probe(env: &Arc<Env>) -> Server {
    let mut server = Server::default();
    for transport in Transport::ALL {
        // Over HTTP/2 the browser, not the server's list, chooses; the others a server says if it has them.
        match greet(env, transport).await {
            Ok(reply) => {
                server.transports.push(transport);
                learn(&mut server, &reply);
            }
            Err(stop) => server.refusals.push(format!("{}: {}", transport.name(), stop.reason())),
        }
    }
    if let Some(transport) = server.transports.first()
        && decodes_binary(env, *transport).await == Ok(true)
    {
        server.extensions.push(Need::Binary.name().to_owned());
    }
    server
}

async fn greet(env: &Arc<Env>, transport: Transport) -> Outcome<Value> {
    let mut client = Client::open(env, transport, &Log::new()).await?;
    let ext = json!({"ack": true, "timesync": {"tc": 0, "l": 0, "o": 0}});
    let reply = client.handshake_with(json!({"ext": ext})).await?;
    reply.successful()?;
    let message = reply.message.clone();
    client.disconnect().await?;
    Ok(message)
}

fn learn(server: &mut Server, reply: &Value) {
    let number = |field: &str| reply["advice"][field].as_u64();
    server.timeout = server.timeout.or_else(|| number("timeout"));
    server.max_interval = server.max_interval.or_else(|| number("maxInterval"));
    let types = reply["supportedConnectionTypes"].as_array().into_iter().flatten();
    for name in types.filter_map(Value::as_str) {
        if !server.supported_connection_types.iter().any(|known| known == name) {
            server.supported_connection_types.push(name.to_owned());
        }
    }
    let ack = reply["ext"]["ack"] == true || reply["ext"]["ack"].is_object();
    for (need, offered) in [
        (Need::Ack, ack),
        (Need::Timesync, reply["ext"]["timesync"].is_object()),
        (Need::Timestamp, reply.get("timestamp").is_some()),
    ] {
        if offered && !server.has(need) {
            server.extensions.push(need.name().to_owned());
        }
    }
}

/// A server that reads binary messages tells by refusing one that is none (rule XB-6).
async fn decodes_binary(env: &Arc<Env>, transport: Transport) -> Outcome<bool> {
    let mut client = Client::open(env, transport, &Log::new()).await?;
    client.handshake().await?.successful()?;
    let channel = format!("{}/{}/probe", env.options.channel_prefix, env.run);
    let fields = json!({"data": {"data": "\u{e9}", "last": true}, "ext": {"binary": {}}});
    let reply = client.request(&channel, fields).await?;
    client.disconnect().await?;
    Ok(reply.message["successful"] == false)
}
