//! The report for continuous integration, as JUnit's XML.

use std::fmt::Write;

use super::{Count, Report, Run, Summary, Tested, Verdict, wire};

impl Report {
    /// The report as JUnit XML: a suite for each family, a test for each case and transport. Failures that were
    /// expected count as skipped; an expectation that is outdated is a test that fails.
    pub fn junit(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let all = Count::of(self.cases.iter().flat_map(|case| &case.runs).map(Run::summary));
        let name = escape(&format!("bayeux check {}", self.target));
        let _ = writeln!(xml, "<testsuites name=\"{name}\" {}>", numbers(all, self.outdated.len(), self.millis));
        for family in self.families() {
            let runs = || family.iter().flat_map(|case| &case.runs);
            let (count, millis) = (Count::of(runs().map(Run::summary)), runs().map(|run| run.millis).sum());
            let name = escape(&family[0].family);
            let _ = writeln!(xml, "  <testsuite name=\"{name}\" {}>", numbers(count, 0, millis));
            for case in family {
                for run in &case.runs {
                    test(&mut xml, case, run);
                }
            }
            xml.push_str("  </testsuite>\n");
        }
        if !self.outdated.is_empty() {
            let numbers = numbers(Count::default(), self.outdated.len(), 0);
            let _ = writeln!(xml, "  <testsuite name=\"expectations\" {numbers}>");
            for outdated in &self.outdated {
                let name = escape(outdated);
                let _ = writeln!(xml, "    <testcase classname=\"expectations\" name=\"{name}\" time=\"0\">");
                let _ = writeln!(xml, "      <failure message=\"not as expected: {name}\"/>\n    </testcase>");
            }
            xml.push_str("  </testsuite>\n");
        }
        xml.push_str("</testsuites>\n");
        xml
    }
}

/// The attributes that say how many tests there are, and how many of them failed or were skipped.
fn numbers(count: Count, outdated: usize, millis: u64) -> String {
    let Count { passed, failed, expected, skipped } = count;
    format!(
        "tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{}\"",
        passed + failed + expected + skipped + outdated,
        failed + outdated,
        skipped + expected,
        seconds(millis)
    )
}

fn test(xml: &mut String, case: &Tested, run: &Run) {
    let (class, name) = (format!("{}.{}", case.profile.name(), case.family), run.transport.name());
    let _ = write!(
        xml,
        "    <testcase classname=\"{}\" name=\"{} ({name})\" time=\"{}\"",
        escape(&class),
        escape(&case.id),
        seconds(run.millis)
    );
    match (&run.verdict, run.summary()) {
        (Verdict::Failed { reason, transcript }, Summary::Failed) => {
            let _ = writeln!(xml, ">\n      <failure message=\"{}\">", escape(reason));
            for rule in &case.rules {
                let _ = writeln!(xml, "{}: {}", escape(&rule.id), escape(&rule.text));
            }
            for line in transcript {
                let _ = writeln!(xml, "{}", escape(&wire(line)));
            }
            xml.push_str("      </failure>\n    </testcase>\n");
        }
        (Verdict::Passed, _) => xml.push_str("/>\n"),
        (Verdict::Skipped { reason } | Verdict::Failed { reason, .. }, _) => {
            let reason = run.expected.as_ref().unwrap_or(reason);
            let _ = writeln!(xml, "><skipped message=\"{}\"/></testcase>", escape(reason));
        }
    }
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

/// XML 1.0 knows no other control characters than these, escaped or not.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
