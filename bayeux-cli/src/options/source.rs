//! Where values come from: the file, the environment, the command line.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;
use toml::de::{DeTable, DeValue};

use super::OptionError;
use super::names::{Names, Resolved};

/// A value as text, under an option's full name.
#[derive(Debug, Clone)]
pub(super) struct Given {
    /// For example `ws.timeout`.
    pub(super) name: String,
    /// Lists are joined by commas.
    pub(super) text: String,
    /// Who said so.
    pub(super) origin: Origin,
}

/// Where a value came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// A line of the file.
    File {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag on the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Reads the file at `path`.
pub(super) fn from_file(path: &Path, names: &Names, warnings: &mut Vec<String>) -> Result<Vec<Given>, OptionError> {
    let text = fs::read_to_string(path)
        .map_err(|error| OptionError::File { path: path.to_owned(), message: error.to_string() })?;
    let table = DeTable::parse(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        OptionError::Syntax { path: path.to_owned(), line, message: error.message().to_owned() }
    })?;
    let mut found = Vec::new();
    flatten(table.get_ref(), "", &mut found);
    let mut given: Vec<Given> = Vec::new();
    for (name, offset, text_of_value) in found {
        let origin = Origin::File { path: path.to_owned(), line: line_of(&text, offset) };
        let Some(value) = text_of_value else {
            return Err(OptionError::Shape { name, origin });
        };
        let Some(name) = resolved(names.dotted(&name), &name, &origin, warnings)? else { continue };
        if let Some(earlier) = given.iter().find(|earlier| earlier.name == name) {
            return Err(OptionError::Twice { name, origin, earlier: earlier.origin.clone() });
        }
        given.push(Given { name, text: value, origin });
    }
    // Tables come sorted by key; errors should come in the order of the lines.
    given.sort_by_key(|given| match &given.origin {
        Origin::File { line, .. } => *line,
        Origin::Default | Origin::Environment(_) | Origin::Flag(_) => 0,
    });
    Ok(given)
}

/// Reads the variables that begin with `BAYEUX_`.
pub(super) fn from_environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    names: &Names,
    warnings: &mut Vec<String>,
) -> Result<Vec<Given>, OptionError> {
    let mut variables: Vec<(OsString, OsString)> =
        variables.filter(|(name, _)| name.as_encoded_bytes().starts_with(b"BAYEUX_")).collect();
    variables.sort();
    let mut given = Vec::new();
    for (variable, value) in variables {
        let variable = variable.to_string_lossy().into_owned();
        if variable == CONFIG_VARIABLE {
            continue;
        }
        let origin = Origin::Environment(variable.clone());
        let Some(name) = resolved(names.variable(&variable), &variable, &origin, warnings)? else { continue };
        // Bytes that are no text become replacement characters, which no option but a text accepts.
        given.push(Given { name, text: value.to_string_lossy().into_owned(), origin });
    }
    Ok(given)
}

/// The variable that names the file.
pub(super) const CONFIG_VARIABLE: &str = "BAYEUX_CONFIG";

/// Takes the flags out of what clap has read.
pub(super) fn from_flags(
    matches: &ArgMatches,
    names: &Names,
    warnings: &mut Vec<String>,
) -> Result<Vec<Given>, OptionError> {
    let mut given = Vec::new();
    for id in matches.ids().map(clap::Id::as_str) {
        if matches.value_source(id) != Some(ValueSource::CommandLine) || NOT_IN_TABLE.contains(&id) {
            continue;
        }
        let origin = Origin::Flag(format!("--{id}"));
        let (flag, text) = match id.strip_prefix(NEGATED) {
            Some(flag) => (flag, "false".to_owned()),
            None => {
                let values = matches.get_many::<String>(id).into_iter().flatten();
                (id, values.map(String::as_str).collect::<Vec<_>>().join(","))
            }
        };
        if let Some(name) = resolved(names.flag(flag), id, &origin, warnings)? {
            given.push(Given { name, text, origin });
        }
    }
    Ok(given)
}

/// Begins the flags that say no to what is yes by default.
pub(super) const NEGATED: &str = "no-";

/// Flags that are about the options, not options.
pub(super) const NOT_IN_TABLE: &[&str] = &["config", "print-config"];

/// The full name that a value is for, or `None` (and a warning) where it has no meaning here.
fn resolved(
    name: Resolved,
    as_given: &str,
    origin: &Origin,
    warnings: &mut Vec<String>,
) -> Result<Option<String>, OptionError> {
    match name {
        Resolved::Known(name) => Ok(Some(name)),
        Resolved::Renamed(name) => {
            warnings.push(format!("{as_given} ({origin}) is an old name: use {name}"));
            Ok(Some(name))
        }
        Resolved::Ignored(reason) => {
            warnings.push(format!("{as_given} ({origin}) is ignored: {reason}"));
            Ok(None)
        }
        Resolved::Unknown { nearest } => {
            Err(OptionError::Unknown { name: as_given.to_owned(), origin: origin.clone(), nearest })
        }
    }
}

/// Lists all leaves of `table` as full name, offset of the key, and value as text (`None`: not one that an option
/// could have).
fn flatten(table: &DeTable<'_>, prefix: &str, found: &mut Vec<(String, usize, Option<String>)>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            flatten(inner, &format!("{name}."), found);
        } else {
            found.push((name, key.span().start, text_of(value.get_ref())));
        }
    }
}

/// A value as the text that other sources would give (rule O-2).
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(_) | DeValue::Table(_) => None,
        DeValue::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(|item| text_of(item.get_ref())).collect();
            items.map(|items| items.join(","))
        }
    }
}

/// The line, from 1, in which `offset` lies.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
