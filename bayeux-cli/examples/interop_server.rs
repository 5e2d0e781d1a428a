//! The server of `bayeux serve` with application services, for the interoperability suite.
//!
//! Takes the options of `serve` and prints the same ready line:
//!
//! ```text
//! cargo run --release -p bayeux-cli --example interop_server -- --listen 127.0.0.1:0 --timeout 2s
//! listening on http://127.0.0.1:43615/cometd
//! ```

use std::process::ExitCode;
use std::time::Duration;

use bayeux_server::{Incoming, Outcome, SendError, ServerBuilder};
use serde::Serialize;
use serde_json::value::RawValue;

fn main() -> ExitCode {
    bayeux_cli::main_with(services)
}

#[derive(Serialize)]
struct Reason {
    reason: &'static str,
}

#[derive(Serialize)]
struct Echo {
    echo: Box<RawValue>,
}

fn services(server: ServerBuilder) -> ServerBuilder {
    server
        // A remote call that succeeds with what it was given.
        .on_message("/service/echo", |call: Incoming| async move { sent(call.answer(call.raw())) })
        // One that fails.
        .on_message("/service/fail", |call: Incoming| async move { sent(call.fail(&Reason { reason: "no" })) })
        // One that takes its time; meanwhile only its own connection waits.
        .on_message("/service/slow", |call: Incoming| async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            sent(call.answer(call.raw()))
        })
        // A message to the sender that is no result: it has no id.
        .on_message("/service/deliver", |message: Incoming| async move {
            let Ok(echo) = message.data() else { return Outcome::Veto };
            sent(message.deliver(&Echo { echo }))
        })
        // The server ends the session.
        .on_message("/service/kick", |message: Incoming| async move {
            if let Some(session) = &message.session {
                session.disconnect();
            }
        })
        // Nobody may publish here: the sender is told `404::message_deleted`.
        .on_message("/vetoed", |_: Incoming| async { Outcome::Veto })
}

/// A reply that could not be sent is a mistake of this program: the sender is told that the message went nowhere.
fn sent(result: Result<(), SendError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Continue,
        Err(error) => {
            tracing::error!(%error, "cannot answer");
            Outcome::Veto
        }
    }
}
