//! The index of a folder of scripts, and whether it tells the truth.

use std::path::{Path, PathBuf};

/// The families of rules, in the order in which they build upon each other, and the highest number of each. Rules of
/// dialects have a letter before the number.
const FAMILIES: &[(&str, u16)] = &[
    ("M", 19),
    ("F", 34),
    ("V", 24),
    ("C", 29),
    ("G", 16),
    ("H", 22),
    ("K", 32),
    ("D", 13),
    ("S", 15),
    ("P", 12),
    ("R", 11),
    ("L", 47),
    ("O", 42),
    ("Q", 42),
    ("T", 9),
    ("TH", 53),
    ("TJ", 10),
    ("TW", 29),
    ("T2", 4),
    ("X", 3),
    ("XA", 16),
    ("XS", 2),
    ("XT", 6),
    ("XV", 3),
    ("XB", 6),
    ("XR", 4),
    ("XP", 7),
    ("A", 71),
    ("CL", 57),
    ("CJ", 18),
    ("CB", 7),
    ("OO", 41),
    ("SE", 12),
    ("OB", 11),
    ("DI", 27),
    ("E", 239),
    ("Z", 20),
    ("N", 22),
];

/// What looks like the name of a rule and is none.
const NO_FAMILIES: &[&str] = &["UTF", "ISO", "RFC"];

/// Checks the index, `README.md`, of a folder of scripts:
///
/// - It links each script once, in a section whose heading, `## H, K: title`, names families of which the script's first
///   comment cites a rule.
/// - Each family of rules has a script that begins with it in a section of that family, or a row in a table that says why it has none: `| CL, CJ | reason |`.
/// - Each script begins with a comment that cites a rule, and cites only rules of known families.
///
/// # Panics
/// With all that is wrong; where the folder cannot be read.
pub fn check_index(folder: &Path) {
    let read =
        |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            scripts.push((name, read(&path)));
        }
    }
    let wrong = complaints(&read(&folder.join("README.md")), &scripts);
    assert!(wrong.is_empty(), "{}:\n{}", folder.display(), wrong.join("\n"));
}

/// Checks that each script of a folder is one of those `names`, which tests run. A script that nobody runs is worse than
/// none.
///
/// # Panics
/// With the scripts that are not; where the folder cannot be read.
pub fn check_listed(folder: &Path, names: &[&str]) {
    let listing = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let listing = listing.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = listing.into_iter().map(|entry| entry.path());
    let known = |path: &PathBuf| path.file_stem().is_some_and(|stem| names.iter().any(|name| stem == *name));
    let unlisted: Vec<_> = files.filter(|path| !path.ends_with("README.md") && !known(path)).collect();
    assert!(unlisted.is_empty(), "not listed: {unlisted:?}");
}

fn complaints(index: &str, scripts: &[(String, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let index = Index::read(index, &mut wrong);
    for (name, script) in scripts {
        check_script(name, script, &mut wrong);
        let begins_with = opening(script);
        let sections: Vec<_> =
            index.links.iter().filter(|(link, _)| link == name).map(|(_, families)| families).collect();
        match sections[..] {
            [families] => {
                let shows = |family: &String| rules(&begins_with).any(|rule| rule.family == *family);
                if !families.iter().any(shows) {
                    wrong.push(format!("{name} is listed under {families:?}, and begins with no rule of these"));
                }
            }
            _ => wrong.push(format!("{name} is linked {} times", sections.len())),
        }
    }
    for (link, _) in &index.links {
        if !scripts.iter().any(|(name, _)| name == link) {
            wrong.push(format!("{link} is linked, and not there"));
        }
    }
    for (family, _) in FAMILIES {
        let has_script = scripts.iter().any(|(name, script)| {
            let lists =
                |(link, families): &(String, Vec<String>)| link == name && families.iter().any(|own| own == family);
            index.links.iter().any(lists) && rules(&opening(script)).any(|rule| rule.family == *family)
        });
        if has_script == index.excused.iter().any(|excused| excused == family) {
            wrong.push(format!("family {family} needs either scripts or a reason for having none"));
        }
    }
    wrong
}

/// What an index says.
#[derive(Default)]
struct Index {
    /// Each link to a script, and the families of its section.
    links: Vec<(String, Vec<String>)>,
    /// The families that have a reason for having no scripts.
    excused: Vec<String>,
}

impl Index {
    fn read(text: &str, wrong: &mut Vec<String>) -> Self {
        let mut index = Self::default();
        let mut section = Vec::new();
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                section = families(heading.split(':').next().unwrap_or_default());
            } else if let Some((names, reason)) = line.strip_prefix("| ").and_then(|row| row.split_once(" | ")) {
                let excused = families(names);
                if !excused.is_empty() && reason.trim_matches(['|', ' ']).is_empty() {
                    wrong.push(format!("no reason: {line}"));
                }
                index.excused.extend(excused);
            }
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.ends_with(".txt") {
                    index.links.push((link.to_owned(), section.clone()));
                }
            }
        }
        index
    }
}

/// The known families that a list names.
fn families(list: &str) -> Vec<String> {
    let words = list.split([',', ' ']).filter(|word| FAMILIES.iter().any(|(family, _)| family == word));
    words.map(str::to_owned).collect()
}

fn check_script(name: &str, script: &str, wrong: &mut Vec<String>) {
    if rules(&opening(script)).next().is_none() {
        wrong.push(format!("{name} does not begin with the rules that it shows"));
    }
    let comments: Vec<&str> = script.lines().filter(|line| line.starts_with('#')).collect();
    for rule in rules(&comments.join("\n")) {
        let known = FAMILIES.iter().find(|(family, _)| *family == rule.family);
        if !known.is_some_and(|(_, highest)| (1..=*highest).contains(&rule.number)) {
            wrong.push(format!("{name} cites a rule that is not known: {}-{}", rule.family, rule.number));
        }
    }
}

/// The comment that a script begins with.
fn opening(script: &str) -> String {
    script.lines().take_while(|line| line.starts_with('#')).collect::<Vec<_>>().join("\n")
}

#[derive(Debug, PartialEq, Eq)]
struct Rule<'a> {
    family: &'a str,
    number: u16,
}

/// The rules that a text cites, such as `K-11`, `T2-1` and `DI-F2`.
fn rules(text: &str) -> impl Iterator<Item = Rule<'_>> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.filter_map(|word| {
        let (family, number) = word.split_once('-')?;
        let is_family = family.starts_with(|c: char| c.is_ascii_uppercase())
            && family.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        let number = if family == "DI" { number.strip_prefix(['F', 'A', 'S', 'C'])? } else { number };
        (is_family && !NO_FAMILIES.contains(&family)).then_some(Rule { family, number: number.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "# A handshake (H-10), in UTF-8.\n\nclient alice over websocket\n# K-11\n";

    fn index(links: &str) -> String {
        let others: Vec<&str> = FAMILIES.iter().map(|(family, _)| *family).filter(|family| *family != "H").collect();
        format!(
            "# Title\n\n## H: handshakes\n\n{links}\n\n| family | why |\n|---|---|\n| {} | later |\n",
            others.join(", ")
        )
    }

    fn check(links: &str, script: &str) -> Vec<String> {
        complaints(&index(links), &[("a.txt".to_owned(), script.to_owned())])
    }

    #[test]
    fn index_that_tells_the_truth_has_no_complaints() {
        assert_eq!(check("- [a](a.txt): it", SCRIPT), [""; 0]);
    }

    #[test]
    fn scripts_and_links_belong_together() {
        assert_eq!(check("- [a](a.txt), [again](a.txt)", SCRIPT), ["a.txt is linked 2 times"]);
        assert_eq!(check("- [a](a.txt), [b](b.txt)", SCRIPT), ["b.txt is linked, and not there"]);
        let none = check("", SCRIPT);
        assert_eq!(none, ["a.txt is linked 0 times", "family H needs either scripts or a reason for having none"]);
    }

    #[test]
    fn every_family_has_scripts_or_a_reason() {
        let scripts = [("a.txt".to_owned(), SCRIPT.to_owned())];
        let text = index("- [a](a.txt)").replace(" XR,", "").replace("later", " ");
        let wrong = complaints(&text, &scripts);
        assert!(wrong[0].starts_with("no reason: "), "{wrong:?}");
        assert_eq!(wrong[1..], ["family XR needs either scripts or a reason for having none"]);
    }

    #[test]
    fn script_cites_rules_that_there_are() {
        let wrong = check("- [a](a.txt)", "# Nothing.\n# QQ-1, H-23, DI-F7, T2-1\n");
        assert_eq!(wrong, ["a.txt cites a rule that is not known: QQ-1", "a.txt cites a rule that is not known: H-23"]);
        let wrong = check("- [a](a.txt)", "# K-11\n");
        assert_eq!(wrong[0], r#"a.txt is listed under ["H"], and begins with no rule of these"#);
        assert_eq!(wrong[1..], ["family H needs either scripts or a reason for having none"]);
        let wrong = check("- [a](a.txt)", "client alice over websocket\n# H-1\n");
        assert_eq!(wrong[0], "a.txt does not begin with the rules that it shows");
    }
}
