//! The list of mutants: a TOML file per module of the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The word in a mutant's new text that is true while that mutant is on.
pub const SWITCH: &str = "MUTANT";

/// A deliberate bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    /// What it is called: unique.
    pub name: String,
    /// The engine's module that it is in.
    pub module: String,
    /// What it is.
    pub entry: Entry,
}

/// What a list says of a mutant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The rules that it breaks.
    pub rules: Vec<String>,
    /// What the engine does wrong.
    pub what: String,
    /// What a client or the application sees of it.
    pub seen: String,
    /// How many seeds may pass until it is caught.
    pub seeds: u32,
    /// The text that it changes: once in its module.
    pub was: String,
    /// What the text becomes, with the word [`SWITCH`] as a condition.
    pub becomes: String,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A file is not a list.
    #[error("{path}: {error}")]
    Syntax {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        error: toml::de::Error,
    },
    /// Two mutants have one name.
    #[error("{0}: two mutants are called so")]
    Twice(String),
    /// A mutant changes nothing.
    #[error("{0}: its new text does not say {SWITCH}")]
    NoSwitch(String),
    /// Somebody asks for a mutant that is not there.
    #[error("{0}: no mutant is called so")]
    Unknown(String),
}

/// Reads all lists of a directory, in the order of their names.
///
/// # Errors
/// Where one cannot be read, or is not a list.
pub fn load(directory: &Path) -> Result<Vec<Mutant>, ListError> {
    let unreadable = |path: &Path, error| ListError::Read { path: path.to_owned(), error };
    let entries = std::fs::read_dir(directory).map_err(|error| unreadable(directory, error))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|error| unreadable(directory, error))?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let mut mutants = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
        let module = path.file_stem().unwrap_or_default().to_string_lossy();
        mutants.extend(parse(&module, &text).map_err(|error| ListError::Syntax { path: path.clone(), error })?);
    }
    check(&mutants)?;
    Ok(mutants)
}

fn parse(module: &str, text: &str) -> Result<Vec<Mutant>, toml::de::Error> {
    let entries: BTreeMap<String, Entry> = toml::from_str(text)?;
    Ok(entries.into_iter().map(|(name, entry)| Mutant { name, module: module.to_owned(), entry }).collect())
}

fn check(mutants: &[Mutant]) -> Result<(), ListError> {
    let mut names = BTreeSet::new();
    for Mutant { name, entry, .. } in mutants {
        if !names.insert(name) {
            return Err(ListError::Twice(name.clone()));
        }
        if !entry.becomes.contains(SWITCH) {
            return Err(ListError::NoSwitch(name.clone()));
        }
    }
    Ok(())
}

/// Those of that name; all, where no name is given.
///
/// # Errors
/// Where no mutant has one of the names.
pub fn choose<'a>(mutants: &'a [Mutant], names: &[String]) -> Result<Vec<&'a Mutant>, ListError> {
    if names.is_empty() {
        return Ok(mutants.iter().collect());
    }
    let find = |name: &String| mutants.iter().find(|mutant| mutant.name == *name);
    names.iter().map(|name| find(name).ok_or_else(|| ListError::Unknown(name.clone()))).collect()
}
