//! The list fits the engine as it is: so that a change of the engine and of the list come together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bayeux_mutants::{copy, list};

/// Modules that decide nothing.
const WITHOUT_MUTANTS: [&str; 4] = ["config", "event", "lib", "time"];

fn engine() -> BTreeMap<PathBuf, Vec<u8>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let directory = std::fs::read_dir(workspace.join(copy::ENGINE)).expect("the engine has sources");
    let paths = directory.map(|entry| entry.expect("a directory can be read").path()).filter(|path| path.is_file());
    let relative = |path: &Path| path.strip_prefix(&workspace).expect("it is in there").to_owned();
    paths.map(|path| (relative(&path), std::fs::read(&path).expect("a source can be read"))).collect()
}

fn mutants() -> Vec<list::Mutant> {
    list::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("list")).expect("the list can be read")
}

#[test]
fn every_mutant_changes_the_engine_as_it_is() {
    if let Err(error) = copy::mutate(&mut engine(), &mutants()) {
        panic!("{error}");
    }
}

#[test]
fn every_module_that_decides_something_has_a_mutant() {
    let mutants = mutants();
    let lists: BTreeSet<_> = mutants.iter().map(|mutant| mutant.module.clone()).collect();
    let modules =
        engine().into_keys().map(|path| path.file_stem().expect("a module has a name").to_string_lossy().into_owned());
    let expected: BTreeSet<_> = modules.filter(|module| !WITHOUT_MUTANTS.contains(&module.as_str())).collect();
    assert_eq!(lists, expected);
}

#[test]
fn every_mutant_says_what_it_breaks() {
    for mutant in mutants() {
        let entry = mutant.entry;
        let said = !entry.rules.is_empty() && entry.what.ends_with('.') && !entry.seen.is_empty();
        assert!(said && entry.seeds > 0, "{}", mutant.name);
    }
}
