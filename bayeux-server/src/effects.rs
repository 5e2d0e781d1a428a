//! What a hook does to the server while it runs: kept until its verdict, so that it rides in the same response.

use std::cell::RefCell;
use std::future::Future;

use bayeux_core::{Command, ShardId};

tokio::task_local! {
    static HOOK: Hook;
}

struct Hook {
    effects: RefCell<Vec<Command>>,
}

/// Runs a hook; yields what it returned and what it did.
pub(crate) async fn collect<T>(hook: impl Future<Output = T>) -> (T, Vec<Command>) {
    let run = async {
        let returned = hook.await;
        (returned, HOOK.with(|hook| hook.effects.take()))
    };
    HOOK.scope(Hook { effects: RefCell::default() }, run).await
}

/// Keeps `command` for the verdict of the hook that runs in this task; hands it back where none does.
pub(crate) fn defer(command: Command) -> Option<Command> {
    let mut command = Some(command);
    let _ = HOOK.try_with(|hook| hook.effects.borrow_mut().extend(command.take()));
    command
}

/// Whether a hook runs in this task.
pub(crate) fn in_hook() -> bool {
    HOOK.try_with(|_| ()).is_ok()
}

/// The shard to carry out what a hook did: the session's where a command names one, else the one that asked.
pub(crate) fn shard_of(command: &Command, asked: ShardId) -> ShardId {
    match command {
        Command::Deliver { to: session, .. }
        | Command::Disconnect { session }
        | Command::Remove { session }
        | Command::Hold { session }
        | Command::Release { session }
        | Command::Subscribe { session, .. }
        | Command::Unsubscribe { session, .. }
        | Command::SetSession { session, .. }
        | Command::Publish { from: Some(session), .. } => session.shard(),
        Command::Publish { from: None, .. }
        | Command::CreateChannel { .. }
        | Command::SetChannel { .. }
        | Command::RemoveChannel { .. }
        | Command::Shutdown
        | _ => asked,
    }
}
