//! What a case is given.

use std::sync::Arc;

use serde_json::{Value, json};

use super::case::Transport;
use super::client::Client;
use super::env::Env;
use super::outcome::{Outcome, Stop};
use super::transcript::Log;
use super::wire::{Http1, Protocol};

/// One try of one case over one transport.
pub(super) struct Cx {
    pub(super) env: Arc<Env>,
    pub(super) transport: Transport,
    pub(super) log: Log,
    prefix: String,
}

impl Cx {
    /// `name` is unlike that of any other case of the run.
    pub(super) fn new(env: &Arc<Env>, transport: Transport, name: &str, log: Log) -> Self {
        let prefix = format!("{}/{}/{name}-{}", env.options.channel_prefix, env.run, transport.name());
        Self { env: Arc::clone(env), transport, log, prefix }
    }

    /// A channel that nobody else uses; `name` has no leading slash.
    pub(super) fn channel(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// A client without a session.
    pub(super) async fn client(&self) -> Outcome<Client> {
        self.client_over(self.transport).await
    }

    /// A client without a session over another transport.
    pub(super) async fn client_over(&self, transport: Transport) -> Outcome<Client> {
        if !self.env.server.transports.contains(&transport) {
            return Err(Stop::Skipped(format!("the server does not offer {}", transport.name())));
        }
        Client::open(&self.env, transport, &self.log).await
    }

    /// A client after its handshake.
    pub(super) async fn handshaken(&self) -> Outcome<Client> {
        self.handshaken_with(json!({})).await
    }

    /// A client after a handshake with more fields than usual.
    pub(super) async fn handshaken_with(&self, fields: Value) -> Outcome<Client> {
        let mut client = self.client().await?;
        client.handshake_with(fields).await?.successful()?;
        Ok(client)
    }

    /// A client after its handshake and its first connect.
    pub(super) async fn session(&self) -> Outcome<Client> {
        self.session_over(self.transport).await
    }

    /// A connected client over another transport.
    pub(super) async fn session_over(&self, transport: Transport) -> Outcome<Client> {
        let mut client = self.client_over(transport).await?;
        client.handshake().await?.successful()?;
        client.connect().await?.successful()?;
        Ok(client)
    }

    /// A connected client with a subscription.
    pub(super) async fn subscriber(&self, subscription: impl Into<Value>) -> Outcome<Client> {
        let mut client = self.session().await?;
        client.subscribe(subscription).await?.successful()?;
        Ok(client)
    }

    /// A bare HTTP/1.1 connection.
    pub(super) async fn http1(&self) -> Outcome<Http1> {
        Ok(Http1::new(self.env.dialer.dial(Protocol::Http1).await?, self.log.clone()))
    }

    /// After whatever came before, somebody new can handshake, subscribe, publish and receive.
    pub(super) async fn still_serves(&self) -> Outcome {
        let serves = async {
            let mut client = self.session().await?;
            let channel = self.channel("still");
            client.subscribe(channel.as_str()).await?.successful()?;
            client.publish(&channel, "serving").await?.successful()?;
            client.receives(&channel, "serving").await
        };
        match serves.await {
            Ok(_) => Ok(()),
            Err(Stop::Failed(why)) => Err(Stop::Failed(format!("afterwards a new session is not served: {why}"))),
            Err(skipped @ Stop::Skipped(_)) => Err(skipped),
        }
    }
}
