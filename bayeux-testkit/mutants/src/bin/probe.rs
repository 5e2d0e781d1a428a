//! Simulates from seed 0 on until something is wrong, at most as many seeds as the one argument says. Prints one line:
//! what was wrong, as the JSON of a `trial::Catch`, or `null`.
//!
//! In the workspace it simulates the engine as it is; in the copy that `bayeux-mutants` makes, one with a mistake.

use std::process::ExitCode;

use bayeux_mutants::trial::Catch;
use bayeux_testkit::swarm::{self, Plan};

/// How many plans may be tried to make a failing one smaller: enough to read it, little enough for many mutants.
const TRIES: usize = 400;

/// Many times what a run takes.
#[cfg(unix)]
const MEMORY_MAX: u64 = 2 << 30;

fn main() -> ExitCode {
    let Some(seeds) = std::env::args().nth(1).and_then(|seeds| seeds.parse().ok()) else {
        eprintln!("usage: probe SEEDS");
        return ExitCode::from(2);
    };
    bound_memory();
    // What a run panics about is told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let caught = (0..seeds).find_map(try_seed);
    match serde_json::to_writer(std::io::stdout(), &caught) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A mistake can make the engine allocate for ever: that is to be this process's end, not the machine's.
fn bound_memory() {
    #[cfg(unix)]
    if let Err(error) = rlimit::setrlimit(rlimit::Resource::AS, MEMORY_MAX, MEMORY_MAX) {
        eprintln!("memory is not bounded: {error}");
    }
}

fn try_seed(seed: u32) -> Option<Catch> {
    let plan = Plan::from_seed(seed.into());
    swarm::run(&plan).err()?;
    let smallest = swarm::shrink(&plan, TRIES);
    let (check, steps) = (smallest.failure.what, smallest.plan.steps.len());
    Some(Catch { seed, check, steps, script: smallest.plan.to_string() })
}
