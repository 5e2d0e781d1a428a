//! Mutants in a source text: all of them at once, each behind its switch.

use crate::list::{Mutant, SWITCH};

/// Why a text cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// What a mutant changes is not there any more.
    #[error("{0}: the text that it changes is not in its module: it needs the text as it is now")]
    Missing(String),
    /// What a mutant changes is there more than once.
    #[error("{mutant}: the text that it changes is in its module {count} times: it needs more of what is around it")]
    Ambiguous {
        /// Which one.
        mutant: String,
        /// How often.
        count: usize,
    },
    /// Two mutants change the same text.
    #[error("{0} and {1} change the same text: they need less of what is around it")]
    Overlap(String, String),
}

/// A place in a text, and what stands there in its place.
struct Patch<'a> {
    mutant: &'a Mutant,
    begin: usize,
    end: usize,
    text: String,
}

/// Changes the text of a module for all of its mutants. Their switches ask `crate::mutant::is_on` by number.
///
/// # Errors
/// Where the text that a mutant changes is not there exactly once, or is another mutant's, too.
pub fn apply(source: &str, mutants: &[(usize, &Mutant)]) -> Result<String, PatchError> {
    let mut patches =
        mutants.iter().map(|(number, mutant)| find(source, *number, mutant)).collect::<Result<Vec<_>, _>>()?;
    patches.sort_by_key(|patch| patch.begin);
    let mut changed = String::with_capacity(source.len() * 2);
    let mut last: Option<&Patch<'_>> = None;
    for patch in &patches {
        let from = last.map_or(0, |last| last.end);
        if let Some(last) = last.filter(|last| last.end > patch.begin) {
            return Err(PatchError::Overlap(last.mutant.name.clone(), patch.mutant.name.clone()));
        }
        changed.push_str(&source[from..patch.begin]);
        changed.push_str(&patch.text);
        last = Some(patch);
    }
    changed.push_str(&source[last.map_or(0, |last| last.end)..]);
    Ok(changed)
}

fn find<'a>(source: &str, number: usize, mutant: &'a Mutant) -> Result<Patch<'a>, PatchError> {
    let was = mutant.entry.was.as_str();
    let mut places = source.match_indices(was);
    let Some((begin, _)) = places.next() else { return Err(PatchError::Missing(mutant.name.clone())) };
    let others = places.count();
    if others > 0 {
        return Err(PatchError::Ambiguous { mutant: mutant.name.clone(), count: others + 1 });
    }
    let text = mutant.entry.becomes.replace(SWITCH, &format!("crate::mutant::is_on({number})"));
    Ok(Patch { mutant, begin, end: begin + was.len(), text })
}

/// The module behind the switches: the mutant that the variable [`VARIABLE`] names is on.
pub fn switches(mutants: &[Mutant]) -> String {
    let names: String = mutants.iter().map(|mutant| format!("    {:?},\n", mutant.name)).collect();
    format!(
        r#"//! Made by bayeux-mutants.

static CHOSEN: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {{
    let Ok(name) = std::env::var("{VARIABLE}") else {{ return usize::MAX }};
    NAMES.iter().position(|mutant| *mutant == name).unwrap_or_else(|| panic!("no mutant is called {{name}}"))
}});

pub(crate) fn is_on(number: usize) -> bool {{
    *CHOSEN == number
}}

const NAMES: &[&str] = &[
{names}];
"#
    )
}

/// The variable of the environment that says which mutant is on.
pub const VARIABLE: &str = "BAYEUX_MUTANT";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::Entry;

    fn mutant(was: &str, becomes: &str) -> Mutant {
        let (rules, what, seen) = (Vec::new(), String::new(), String::new());
        let entry = Entry { rules, what, seen, seeds: 1, was: was.into(), becomes: becomes.into() };
        Mutant { name: was.into(), module: String::new(), entry }
    }

    #[test]
    fn every_mutant_is_put_in_its_place() {
        let (late, early) = (mutant("c d", "c MUTANT"), mutant("a", "(MUTANT)"));
        let changed = apply("a b c d e", &[(4, &late), (7, &early)]);
        assert_eq!(changed.as_deref(), Ok("(crate::mutant::is_on(7)) b c crate::mutant::is_on(4) e"));
    }

    #[test]
    fn text_that_is_not_there_once_is_an_error() {
        let gone = apply("a b", &[(0, &mutant("c", "MUTANT"))]);
        assert_eq!(gone, Err(PatchError::Missing("c".into())));
        let twice = apply("a a", &[(0, &mutant("a", "MUTANT"))]);
        assert_eq!(twice, Err(PatchError::Ambiguous { mutant: "a".into(), count: 2 }));
        let shared = apply("a b c", &[(0, &mutant("b c", "MUTANT")), (1, &mutant("a b", "MUTANT"))]);
        assert_eq!(shared, Err(PatchError::Overlap("a b".into(), "b c".into())));
    }
}
