//! `bayeux-mutants [NAME...]`: checks that the simulation finds every deliberate bug, or those of that name.

#![allow(clippy::print_stdout, reason = "it is a command, and this is its output")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;
use std::{io, thread};

use bayeux_mutants::copy::{self, CopyError};
use bayeux_mutants::list::{self, ListError, Mutant};
use bayeux_mutants::trial::{self, Outcome};

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    match check(&names) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("the simulation cannot be run: {0}")]
    Probe(#[from] io::Error),
}

/// Whether every mutant was found in time, and none where there is none.
fn check(names: &[String]) -> Result<bool, Error> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = own.ancestors().nth(2).unwrap_or(own);
    let all = list::load(&own.join("list"))?;
    let chosen = list::choose(&all, names)?;
    let root = target_directory(workspace).join("mutants");
    let begin = Instant::now();
    let probe = copy::build(workspace, &root, &all)?;
    println!("{} mutants compiled into {} in {:.0} s", all.len(), root.display(), begin.elapsed().as_secs_f32());
    // Every seed that may find a mistake has to find none where there is none.
    let control = chosen.iter().map(|mutant| mutant.entry.seeds).max().unwrap_or(1);
    if let outcome @ (Outcome::Caught(_) | Outcome::Crashed(_) | Outcome::Hung) = trial::run(&probe, None, control)? {
        println!("the engine fails without any mutant: {}", describe(&outcome));
        return Ok(false);
    }
    println!("the engine as it is passes {control} seeds");
    let begin = Instant::now();
    let missed = try_all(&probe, &chosen)?;
    let seconds = begin.elapsed().as_secs_f32();
    if missed.is_empty() {
        println!("all {} mutants were caught, in {seconds:.0} s", chosen.len());
        return Ok(true);
    }
    println!("{} of {} mutants were missed, in {seconds:.0} s:", missed.len(), chosen.len());
    for mutant in missed {
        let list::Entry { rules, what, seen, seeds, .. } = &mutant.entry;
        println!("- {} ({}.rs, {}; {seeds} seeds): {what} Seen: {seen}.", mutant.name, mutant.module, rules.join(", "));
    }
    Ok(false)
}

/// Tries mutants on all cores, prints a table of what becomes of them, and returns those that were missed.
fn try_all<'a>(probe: &Path, mutants: &[&'a Mutant]) -> io::Result<Vec<&'a Mutant>> {
    println!("| {:<52} | {:<17} | seed | steps | noticed", "mutant", "breaks");
    println!("|{:-<54}|{:-<19}|-----:|------:|--------", "", "");
    let todo: Mutex<VecDeque<&Mutant>> = Mutex::new(mutants.iter().copied().collect());
    let next = || todo.lock().map_or(None, |mut todo| todo.pop_front());
    let work = || -> io::Result<Vec<&'a Mutant>> {
        let mut missed = Vec::new();
        while let Some(mutant) = next() {
            let outcome = trial::run(probe, Some(mutant), mutant.entry.seeds)?;
            println!("| {:<52} | {:<17} | {}", mutant.name, mutant.entry.rules.join(", "), describe(&outcome));
            if outcome == Outcome::Missed {
                missed.push(mutant);
            }
        }
        Ok(missed)
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let done: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join()).collect()
    });
    let mut missed = Vec::new();
    for outcome in done {
        missed.extend(outcome.map_err(|_| io::Error::other("a worker panicked"))??);
    }
    Ok(missed)
}

/// The last three columns of the table.
fn describe(outcome: &Outcome) -> String {
    let (seed, steps, noticed) = match outcome {
        Outcome::Caught(catch) => (catch.seed.to_string(), catch.steps.to_string(), catch.check.clone()),
        Outcome::Crashed(status) => ("-".into(), "-".into(), format!("the process ended with {status}")),
        Outcome::Hung => ("-".into(), "-".into(), "a step did not end".into()),
        Outcome::Missed => ("-".into(), "-".into(), "MISSED".into()),
    };
    format!("{seed:>4} | {steps:>5} | {noticed}")
}

/// Where cargo builds the workspace.
fn target_directory(workspace: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), |path| workspace.join(path))
}
