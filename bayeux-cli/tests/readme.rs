//! What the project's own pages point at exists: files move, tests are renamed, and text does not follow.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn read(page: impl AsRef<Path>) -> String {
    let path = root().join(page);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn links_to_files_lead_somewhere() {
    for page in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = read(page);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            assert!(root().join(target).exists(), "{page} points at {target}");
        }
    }
}

/// Every row of the table of features names tests that are there: `file`: names, separated by commas; further files
/// behind semicolons.
#[test]
fn tests_that_features_name_exist() {
    let page = read("docs/features.md");
    let rows = page.lines().filter(|line| line.starts_with('|')).filter_map(|line| line.split(" | ").nth(1));
    let mut checked = 0;
    for row in rows.filter(|row| row.contains('/')) {
        for entry in row.trim_end_matches('|').split(';') {
            let (file, names) = entry.split_once(':').map_or((entry, ""), |(file, names)| (file, names));
            let file = file.trim().trim_matches('`');
            let text = read(file);
            let quoted = names.contains('`');
            let names = names.trim();
            // The names of interop tests are sentences, and may have commas.
            let mut rest = names;
            while !rest.is_empty() {
                let end = (1..=rest.len())
                    .rev()
                    .filter(|end| rest.is_char_boundary(*end))
                    .find(|end| is_test(&text, rest[..*end].trim_matches([',', ' ', '`']), quoted));
                let end = end.unwrap_or_else(|| panic!("{file} has no test {rest:?}"));
                rest = rest[end..].trim_start_matches([',', ' ', '`']);
                checked += 1;
            }
        }
    }
    assert!(checked > 60, "only {checked} names were found in the page");
}

fn is_test(text: &str, name: &str, function: bool) -> bool {
    !name.is_empty() && text.contains(&if function { format!("fn {name}(") } else { format!("it('{name}'") })
}

/// Every name that the guide for users of CometD gives for ours is one.
#[test]
fn names_in_the_guide_exist() {
    let mut sources = String::new();
    for krate in ["bayeux-proto", "bayeux-core", "bayeux-server", "bayeux-http", "bayeux-ws"] {
        collect(&root().join(krate).join("src"), &mut sources);
    }
    let guide = read("docs/coming-from-cometd.md");
    let rows = guide.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Java"));
    let mut checked = 0;
    for ours in rows.filter_map(|row| row.rsplit(" | ").next()) {
        for name in ours.split('`').skip(1).step_by(2) {
            let Some((_, last)) = name.rsplit_once("::") else { continue };
            let last = last.split(['<', '(', '.']).next().unwrap_or_default();
            let exists = ["fn ", "pub ", "const ", "struct ", "enum ", "trait ", "    "].iter().any(|before| {
                [":", "(", "<", ",", " ", ";"].iter().any(|after| sources.contains(&format!("{before}{last}{after}")))
            });
            assert!(exists, "the guide speaks of {name}");
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} names were found in the guide");
}

fn collect(folder: &Path, sources: &mut String) {
    let entries = fs::read_dir(folder).expect("a folder of the workspace");
    let paths: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    for path in paths {
        if path.is_dir() {
            collect(&path, sources);
        } else {
            sources.push_str(&fs::read_to_string(&path).expect("a source file"));
        }
    }
}
