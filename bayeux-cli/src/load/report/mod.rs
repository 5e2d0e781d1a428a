//! Shows what a run does and found: a line while it runs, a summary, JSON and a chart.

mod chart;
mod progress;
mod summary;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(super) use progress::Progress;
pub(super) use summary::text;

use super::options::Options;
use super::outcome::Outcome;

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub(super) struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Writes the files that were asked for.
///
/// # Errors
/// [`WriteError`]
pub(super) fn write_files(options: &Options, outcome: &Outcome) -> Result<(), WriteError> {
    if let Some(path) = &options.json {
        let mut text = serde_json::to_string_pretty(outcome).expect("text, numbers and lists have a JSON form");
        text.push('\n');
        write(path, &text)?;
    }
    if let Some(path) = &options.svg {
        write(path, &chart::svg(outcome))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), WriteError> {
    fs::write(path, text).map_err(|source| WriteError { path: path.to_owned(), source })
}
