//! From what a source calls an option to the option's full name, or to the nearest one.

use super::table::{RETIRED, TABLE, kebab, variable};

/// Every name that an option may be given under.
#[derive(Debug)]
pub(super) struct Names {
    /// Full names, `ws.timeout`; the usual ones first.
    full: Vec<String>,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// An option, by its full name.
    Known(String),
    /// An option that has this full name by now.
    Renamed(String),
    /// Something that has no meaning here, and why.
    Ignored(&'static str),
    /// Nothing.
    Unknown {
        /// What may have been meant, in the spelling of the source.
        nearest: String,
    },
}

/// The prefixes that retired names may have.
const PREFIXES: &[&str] = &["", "ws.", "long-polling.", "long-polling.json.", "long-polling.jsonp."];

impl Names {
    /// The names of the table.
    pub(super) fn new() -> Self {
        let usual = TABLE.iter().map(|spec| format!("{}{}", spec.place.usual_prefix(), spec.name));
        let others = TABLE.iter().flat_map(|spec| {
            let prefixes = spec.place.prefixes().iter().filter(|prefix| **prefix != spec.place.usual_prefix());
            prefixes.map(|prefix| format!("{prefix}{}", spec.name))
        });
        Self { full: usual.chain(others).collect() }
    }

    /// A key of the file, tables joined by full stops.
    pub(super) fn dotted(&self, name: &str) -> Resolved {
        self.resolve(name, str::to_owned)
    }

    /// An environment variable.
    pub(super) fn variable(&self, name: &str) -> Resolved {
        self.resolve(name, variable)
    }

    /// A flag, without dashes.
    pub(super) fn flag(&self, name: &str) -> Resolved {
        self.resolve(name, kebab)
    }

    /// The retired names that can be flags.
    pub(super) fn retired_flags() -> impl Iterator<Item = String> {
        let names = RETIRED.iter().filter(|retired| !retired.name.ends_with('.'));
        names.flat_map(|retired| PREFIXES.iter().map(|prefix| kebab(&format!("{prefix}{}", retired.name))))
    }

    fn resolve(&self, given: &str, spelled: fn(&str) -> String) -> Resolved {
        if let Some(name) = self.full.iter().find(|name| spelled(name) == given) {
            return Resolved::Known(name.clone());
        }
        for retired in RETIRED {
            for prefix in PREFIXES {
                let name = spelled(&format!("{prefix}{}", retired.name));
                if given == name || (retired.name.ends_with('.') && given.starts_with(&name)) {
                    return match retired.successor {
                        Some(successor) => Resolved::Renamed(format!("{prefix}{successor}")),
                        None => Resolved::Ignored(retired.reason),
                    };
                }
            }
        }
        let distance = |name: &String| strsim::osa_distance(&name.to_lowercase(), &given.to_lowercase());
        let nearest = self.full.iter().map(|name| spelled(name)).min_by_key(distance).unwrap_or_default();
        Resolved::Unknown { nearest }
    }
}
