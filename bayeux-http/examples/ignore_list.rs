//! Per-recipient filtering: nobody hears of those whom they ignore, whatever channel it comes through.
//!
//! ```text
//! cargo run -p bayeux-http --example ignore_list
//! ```
//!
//! A client says who it is in its handshake (`ext.name`) and whom it wants to ignore with the remote call `ignore`.

use std::collections::HashSet;
use std::error::Error;
use std::sync::{Arc, PoisonError, RwLock};

use bayeux_http::{Asked, Call, CallError, Config, Policy, Questions, Server, Verdict};
use serde::Deserialize;

mod common;

type Ignored = Arc<RwLock<HashSet<String>>>;

#[derive(Deserialize)]
struct Ext {
    name: String,
}

/// Notes each session's name, and has its messages looked through.
struct Names;

impl Policy for Names {
    fn questions(&self) -> Questions {
        Questions::HANDSHAKE
    }

    async fn can_handshake(&self, asked: Asked) -> Verdict {
        let name = asked.message.ext.as_ref().and_then(|ext| ext.to::<Ext>().ok()).map(|ext| ext.name);
        let (Some(name), Some(session)) = (name, asked.session) else { return Verdict::deny() };
        let ignored = Ignored::default();
        session.set_attribute("name", name);
        session.set_attribute("ignored", Arc::clone(&ignored));
        // Called for each message before it is queued for this session, so it only looks something up.
        session.on_message(move |message| {
            let sender = message.from().and_then(|from| from.attribute::<String>("name"));
            let ignored = ignored.read().unwrap_or_else(PoisonError::into_inner);
            sender.is_none_or(|sender| !ignored.contains(sender.as_str()))
        });
        Verdict::allow()
    }
}

async fn ignore(call: Call<String>) -> Result<(), CallError> {
    if let Some(ignored) = call.session().attribute::<Ignored>("ignored") {
        ignored.write().unwrap_or_else(PoisonError::into_inner).insert(call.data.clone());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder(Config::default()).policy(Names).remote_call("ignore", ignore).build()?;
    common::serve(server).await
}
