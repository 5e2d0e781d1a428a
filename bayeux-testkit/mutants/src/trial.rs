//! One mutant on trial: the simulation runs with it until it notices, or has had its seeds.

use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::list::Mutant;
use crate::patch::VARIABLE;

/// What the probe says of a seed that failed: one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catch {
    /// Which seed.
    pub seed: u32,
    /// What the simulation noticed, in a line.
    pub check: String,
    /// How many steps are left of its script where it is as short as possible.
    pub steps: usize,
    /// The script.
    pub script: String,
}

/// What became of a mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The simulation noticed.
    Caught(Catch),
    /// The probe died: a stack that overflowed, memory that ran out.
    Crashed(ExitStatus),
    /// The probe had to be stopped: a seed did not end.
    Hung,
    /// Nothing was noticed.
    Missed,
}

/// How long one probe may take, beside what it may for each seed. Generous, for busy machines: only a mutant that keeps
/// the engine busy for ever gets there.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a probe may take for each seed: some ten times what it does.
const PATIENCE_PER_SEED: Duration = Duration::from_millis(100);

/// How often a running probe is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// Runs up to `seeds` seeds with a mutant switched on, or with none.
///
/// # Errors
/// Where the probe cannot be run.
pub fn run(probe: &Path, mutant: Option<&Mutant>, seeds: u32) -> io::Result<Outcome> {
    let mut command = Command::new(probe);
    command.arg(seeds.to_string()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    match mutant {
        Some(mutant) => command.env(VARIABLE, &mutant.name),
        None => command.env_remove(VARIABLE),
    };
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    // Read while it runs: the line may be longer than a pipe is deep.
    let reader = std::thread::spawn(move || io::read_to_string(output));
    let Some(status) = wait(&mut child, PATIENCE + PATIENCE_PER_SEED * seeds)? else { return Ok(Outcome::Hung) };
    let said = reader.join().map_err(|_| io::ErrorKind::Other)??;
    if !status.success() {
        return Ok(Outcome::Crashed(status));
    }
    Ok(match serde_json::from_str(&said)? {
        Some(catch) => Outcome::Caught(catch),
        None => Outcome::Missed,
    })
}

/// Waits for a probe to end; stops it where it takes too long, and returns nothing then.
fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begin.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(GLANCE);
    }
}
