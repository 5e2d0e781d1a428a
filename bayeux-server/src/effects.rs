//! What a hook does to the server while it runs: kept until its verdict, so that it rides in the same response; and
//! what a hook does that runs inside an engine: kept until the engine is free.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;

use bayeux_core::{Command, ShardId};

use tokio::sync::watch;

use crate::error::SendError;

tokio::task_local! {
    static HOOK: Hook;
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static LATER: RefCell<Later> = const { RefCell::new(Later { commands: VecDeque::new(), draining: false, done: 0 }) };
}

struct Hook {
    effects: RefCell<Vec<Command>>,
    /// Dropped when the effects were carried out.
    applied: RefCell<Option<watch::Sender<()>>>,
    /// How many publishes by listeners led to what this one runs for.
    chain: u16,
}

/// Commands of hooks that ran inside an engine.
struct Later {
    commands: VecDeque<(ShardId, Command)>,
    draining: bool,
    /// Carried out since the outermost turn ended.
    done: usize,
}

/// What one hook that waits may do. A hook that needs more does it in a task of its own.
const EFFECTS_MAX: usize = 10_000;

/// What hooks inside engines may do in one turn, and what that may lead to: more than any fan-out has receivers that
/// answer it, and little enough to be over soon.
const LATER_MAX: usize = 100_000;

/// How many listeners in a row may each publish because of the one before.
const CHAIN_MAX: u16 = 64;

/// Runs a hook that may wait; yields what it returned and what it did. `chain`: see [`Command::Publish`].
pub(crate) async fn collect<T>(chain: u16, hook: impl Future<Output = T>) -> (T, Effects) {
    let run = async {
        let returned = hook.await;
        let effects = HOOK.with(|hook| Effects { commands: hook.effects.take(), _applied: hook.applied.take() });
        (returned, effects)
    };
    HOOK.scope(Hook { effects: RefCell::default(), applied: RefCell::default(), chain }, run).await
}

/// What a hook did. Dropped when that was carried out.
pub(crate) struct Effects {
    pub(crate) commands: Vec<Command>,
    _applied: Option<watch::Sender<()>>,
}

/// Waits until what the hook that runs in this task has done and will do is carried out.
pub(crate) fn applied() -> impl Future<Output = ()> + Send {
    let receiver = HOOK.try_with(|hook| {
        let mut applied = hook.applied.borrow_mut();
        applied.get_or_insert_with(|| watch::Sender::new(())).subscribe()
    });
    async move {
        if let Ok(mut receiver) = receiver {
            while receiver.changed().await.is_ok() {}
        }
    }
}

/// Keeps a command for the end of the hook that runs in this task or thread; hands it back where none does.
///
/// # Errors
/// [`SendError::Flooded`] where the hook has done too much already, [`SendError::Circle`] where it publishes because
/// of a publish of itself. The command is dropped then.
pub(crate) fn defer(shard: ShardId, mut command: Command) -> Result<Option<Command>, SendError> {
    if is_inside() {
        return LATER.with_borrow_mut(|later| {
            if later.commands.len() >= LATER_MAX {
                return Err(SendError::Flooded);
            }
            later.commands.push_back((shard, command));
            Ok(None)
        });
    }
    let in_hook = HOOK.try_with(|hook| {
        if let Command::Publish { chain, .. } = &mut command {
            *chain = hook.chain + 1;
            if *chain > CHAIN_MAX {
                return Err(SendError::Circle);
            }
        }
        let effects = hook.effects.borrow().len();
        if effects < EFFECTS_MAX { Ok(()) } else { Err(SendError::Flooded) }
    });
    match in_hook {
        Err(_) => Ok(Some(command)),
        Ok(refused @ Err(_)) => refused.map(|()| None),
        Ok(Ok(())) => {
            let _ = HOOK.try_with(|hook| hook.effects.borrow_mut().push(command));
            Ok(None)
        }
    }
}

/// Whether a hook that may wait runs in this task.
pub(crate) fn in_hook() -> bool {
    HOOK.try_with(|_| ()).is_ok()
}

/// Runs a hook inside an engine, whose shard is locked: what it does waits for [`drain`].
pub(crate) fn inside<T>(hook: impl FnOnce() -> T) -> T {
    struct Leave(bool);
    impl Drop for Leave {
        fn drop(&mut self) {
            INSIDE.set(self.0);
        }
    }
    let _leave = Leave(INSIDE.replace(true));
    hook()
}

/// Whether an engine runs a hook in this thread, so that its shard must not be asked anything.
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}

/// Carries out what hooks did inside an engine, now that its shard is free. What that leads to follows in the same
/// loop, up to a bound.
pub(crate) fn drain(mut carry_out: impl FnMut(ShardId, Command)) {
    let begun = LATER.with_borrow_mut(|later| {
        let begin = !later.draining && !later.commands.is_empty();
        later.draining |= begin;
        begin
    });
    if !begun {
        return;
    }
    let _end = End;
    while let Some((shard, command)) = LATER.with_borrow_mut(next) {
        carry_out(shard, command);
    }
}

/// The end of a drain, however it comes.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        LATER.with_borrow_mut(|later| {
            later.draining = false;
            later.done = 0;
        });
    }
}

fn next(later: &mut Later) -> Option<(ShardId, Command)> {
    if later.done >= LATER_MAX && !later.commands.is_empty() {
        tracing::error!(commands = later.commands.len(), "extensions cause each other's messages: dropped");
        later.commands.clear();
    }
    later.done += 1;
    later.commands.pop_front()
}

/// The shard to carry out what a hook did: the session's where a command names one, else the one that asked.
pub(crate) fn shard_of(command: &Command, asked: ShardId) -> ShardId {
    match command {
        Command::Confirm { command, .. } => shard_of(command, asked),
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
