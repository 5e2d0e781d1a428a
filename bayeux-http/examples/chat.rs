//! A chat room over long-polling, with a list of who is there.
//!
//! Run it:
//!
//! ```text
//! cargo run -p bayeux-http --example chat
//! ```
//!
//! Any Bayeux client can chat now: it handshakes with `http://127.0.0.1:8080/cometd`, subscribes to `/chat/room` and
//! `/members/room`, publishes its name, a JSON string, on `/service/join` and what it says on `/chat/room`. By hand:
//!
//! ```text
//! curl -H 'Content-Type: application/json' http://127.0.0.1:8080/cometd \
//!     -d '[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]}]'
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use bayeux_http::core::ClientId;
use bayeux_http::{
    Config, Endpoint, HttpOptions, Incoming, Listener, LongPolling, Outcome, SendError, Server, Session,
};

/// Who is there, by session.
#[derive(Clone, Default)]
struct Members(Arc<Mutex<BTreeMap<ClientId, String>>>);

impl Members {
    /// Changes the list and tells the room.
    async fn change(
        &self,
        server: &Server,
        change: impl FnOnce(&mut BTreeMap<ClientId, String>),
    ) -> Result<(), SendError> {
        let names: Vec<String> = {
            let mut members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut members);
            members.values().cloned().collect()
        };
        server.publish("/members/room", &names).await
    }

    async fn join(self, message: Incoming) -> Outcome {
        let (Some(session), Ok(name)) = (&message.session, message.data::<String>()) else { return Outcome::Veto };
        let id = session.id().clone();
        match self.change(message.server(), |members| drop(members.insert(id, name))).await {
            Ok(()) => Outcome::Continue,
            Err(_) => Outcome::Veto,
        }
    }

    async fn leave(self, session: Session) {
        let left = self.change(session.server(), |members| drop(members.remove(session.id()))).await;
        if let Err(error) = left {
            tracing::warn!(%error, "the room was not told");
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();
    let members = Members::default();
    let leaving = members.clone();
    let server = Server::builder(Config::default())
        .on_message("/service/join", move |message| members.clone().join(message))
        .on_session_removed(move |session, _reason| leaving.clone().leave(session))
        .build()?;
    let endpoint = Endpoint::new(server.clone()).with(LongPolling::new(HttpOptions::default())?).at("/cometd");
    let listener = Listener::bind("127.0.0.1:8080").await?;
    tracing::info!("listening on http://{}/cometd", listener.local_addr()?);
    listener.serve(server, endpoint, std::future::pending()).await;
    Ok(())
}
