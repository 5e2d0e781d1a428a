//! Steps and what came of them, compared with what a script expects.

use std::fmt::Write as _;
use std::path::Path;

use super::{Wrong, print};

/// What running a script gave.
#[derive(Debug)]
pub struct Outcomes {
    /// The differences, or nothing.
    pub differences: Vec<String>,
    /// The script with what really came, formatted as it was where that says the same.
    pub rewritten: String,
}

/// One step of a script, with the lines that are expected of it.
struct Step<'a> {
    line_number: usize,
    /// Without the marks of lines that continue it.
    text: String,
    expected: Vec<&'a str>,
}

/// Runs `script`: calls `perform` with each step, and compares what it says came of it with what the script expects.
///
/// A step is a line at the margin; lines that begin with `|` continue it, and reach `perform` without that mark. What is
/// expected of it is the indented lines below. An error of `perform` is a line of its own.
pub fn replay(script: &str, mut perform: impl FnMut(&str) -> Result<Vec<String>, Wrong>) -> Outcomes {
    let mut outcomes = Outcomes { differences: Vec::new(), rewritten: String::new() };
    let lines: Vec<&str> = script.lines().collect();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if line.trim().is_empty() || line.starts_with('#') {
            let _ = writeln!(outcomes.rewritten, "{line}");
            at += 1;
            continue;
        }
        let first = at;
        let step = step_at(&lines, &mut at);
        for line in &lines[first..at - step.expected.len()] {
            let _ = writeln!(outcomes.rewritten, "{line}");
        }
        let actual = perform(&step.text).unwrap_or_else(|wrong| vec![format!("error: {wrong}")]);
        outcomes.compare(&step, &actual);
    }
    outcomes
}

/// The step that begins at line `at`; leaves `at` behind what is expected of it.
fn step_at<'a>(lines: &[&'a str], at: &mut usize) -> Step<'a> {
    let line_number = *at + 1;
    let mut text = lines[*at].to_owned();
    *at += 1;
    while let Some(more) = lines.get(*at).and_then(|line| line.strip_prefix('|')) {
        text.push('\n');
        text.push_str(more.strip_prefix(' ').unwrap_or(more));
        *at += 1;
    }
    let first = *at;
    while lines.get(*at).is_some_and(|line| line.starts_with(' ') && !line.trim().is_empty()) {
        *at += 1;
    }
    Step { line_number, text, expected: lines[first..*at].to_vec() }
}

impl Outcomes {
    fn compare(&mut self, step: &Step<'_>, actual: &[String]) {
        let same = step.expected.len() == actual.len()
            && step.expected.iter().zip(actual).all(|(e, a)| print::same_line(e.trim(), a.trim()));
        if same {
            for line in &step.expected {
                let _ = writeln!(self.rewritten, "{line}");
            }
            return;
        }
        for line in actual {
            let _ = writeln!(self.rewritten, "  {line}");
        }
        let list =
            |lines: &mut dyn Iterator<Item = &str>| lines.map(|line| format!("    {line}\n")).collect::<String>();
        self.differences.push(format!(
            "line {}: {}\n  expected\n{}  came\n{}",
            step.line_number,
            step.text,
            list(&mut step.expected.iter().map(|line| line.strip_prefix("  ").unwrap_or(line))),
            list(&mut actual.iter().map(String::as_str))
        ));
    }
}

/// The numbers of shards that `script` is to run with.
pub fn shards(script: &str) -> Vec<u16> {
    let named = script.lines().find_map(|line| line.strip_prefix("shards "));
    named.map_or_else(|| vec![1, 2, 4], |list| list.split(' ').filter_map(|word| word.parse().ok()).collect())
}

/// Runs the script in the file `path` with each of its numbers of shards, for a test.
///
/// With `BAYEUX_REWRITE=1` in the environment, expectations that differ are rewritten in place.
///
/// # Panics
/// With the differences, if there are any; where the file cannot be read or written.
pub fn check(path: &Path, run: impl Fn(&str, u16) -> Outcomes) {
    let mut script = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut failures = String::new();
    for shards in shards(&script) {
        let outcomes = run(&script, shards);
        if outcomes.differences.is_empty() {
            continue;
        }
        if std::env::var_os("BAYEUX_REWRITE").is_some() {
            // Only the first number of shards writes: the others must then agree with it.
            std::fs::write(path, &outcomes.rewritten).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            script = outcomes.rewritten;
            continue;
        }
        let _ = writeln!(failures, "{} with {shards} shards:\n{}", path.display(), outcomes.differences.join("\n"));
    }
    assert!(failures.is_empty(), "{failures}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says each step twice, and fails at `bad`.
    fn echo(step: &str) -> Result<Vec<String>, Wrong> {
        match step {
            "bad" => Err("no such thing".to_owned()),
            _ => Ok(vec![step.replace('\n', "+"), format!("  {step}").replace('\n', "+")]),
        }
    }

    #[test]
    fn script_that_says_what_comes_stays_as_it_is() {
        let script = "# Why.\n\none\n  one\n      one\ntwo\n| more\n|\n  two+more+\n    two+more+\nbad\n  error: no such thing\n";
        let outcomes = replay(script, echo);
        assert_eq!(outcomes.differences, [""; 0]);
        assert_eq!(outcomes.rewritten, script);
    }

    #[test]
    fn what_came_takes_the_place_of_what_was_expected() {
        let outcomes = replay("one\n  other\nbad\n", echo);
        assert_eq!(outcomes.differences.len(), 2);
        assert_eq!(outcomes.rewritten, "one\n  one\n    one\nbad\n  error: no such thing\n");
        assert!(outcomes.differences[0].starts_with("line 1: one\n  expected\n    other\n  came\n    one\n"));
        assert!(replay(&outcomes.rewritten, echo).differences.is_empty());
    }

    #[test]
    fn script_may_name_its_numbers_of_shards() {
        assert_eq!(shards("# x\nshards 1\n"), [1]);
        assert_eq!(shards("client alice over websocket\n"), [1, 2, 4]);
    }
}
