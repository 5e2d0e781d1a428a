//! The report for people at a terminal.

use std::fmt::Write;

use super::super::case::{Profile, Transport};
use super::{Count, Report, Run, Summary, Tested, Verdict, wire};

/// Escape sequences, or nothing.
struct Paint {
    colour: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn mark(&self, summary: Summary) -> String {
        match summary {
            Summary::Passed => self.with("32", "ok"),
            Summary::Failed => self.with("1;31", "FAILED"),
            Summary::Expected => self.with("33", "known"),
            Summary::Skipped => self.with("2", "skip"),
        }
    }
}

impl Report {
    /// The report as text: a line for each case, then every failure with its rules and what went over the wire, then
    /// counts. With `colour`, in colours of ECMA-48 terminals.
    pub fn terminal(&self, colour: bool) -> String {
        let paint = Paint { colour };
        let mut text = String::new();
        self.introduce(&mut text);
        for family in self.families() {
            let _ = writeln!(text, "\n{}", paint.with("1", &family[0].family));
            for case in family {
                line(&mut text, &paint, case);
            }
        }
        for case in &self.cases {
            for run in case.runs.iter().filter(|run| run.summary() == Summary::Failed) {
                explain(&mut text, &paint, case, run);
            }
        }
        self.conclude(&mut text, &paint);
        text
    }

    fn introduce(&self, text: &mut String) {
        let server = &self.server;
        let names = |transports: &[Transport]| transports.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ");
        let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        let _ = writeln!(text, "{}", self.target);
        let _ = writeln!(text, "  transports  {}", names(&server.transports));
        let _ = writeln!(text, "  extensions  {}", or_none(server.extensions.join(", ")));
        if let Some(timeout) = server.timeout {
            let _ = writeln!(text, "  timeout     {timeout} ms");
        }
    }

    fn conclude(&self, text: &mut String, paint: &Paint) {
        let _ = writeln!(text, "\n{:<18}{:>8}{:>8}{:>8}{:>8}", "", "passed", "failed", "known", "skipped");
        let mut row = |name: &str, count: Count| {
            if count != Count::default() {
                let Count { passed, failed, expected, skipped } = count;
                let _ = writeln!(text, "{name:<18}{passed:>8}{failed:>8}{expected:>8}{skipped:>8}");
            }
        };
        for profile in Profile::ALL {
            row(profile.name(), self.count(profile));
        }
        for transport in Transport::ALL {
            row(&format!("  {}", transport.name()), self.count_over(transport));
        }
        for outdated in &self.outdated {
            let _ = writeln!(text, "{} {outdated}", paint.with("1;31", "not as expected:"));
        }
    }
}

fn line(text: &mut String, paint: &Paint, case: &Tested) {
    let rules: Vec<&str> = case.rules.iter().map(|rule| rule.id.as_str()).collect();
    let mark = paint.mark(case.summary());
    // Escape sequences take no room on the screen.
    let width = if paint.colour { 6 + mark.len() - plain(case.summary()) } else { 6 };
    let _ = writeln!(text, "  {mark:<width$}  {}  {}", case.title, paint.with("2", &rules.join(" ")));
    if case.summary() == Summary::Skipped {
        let reason = case.runs.iter().find_map(|run| match &run.verdict {
            Verdict::Skipped { reason } => Some(reason.as_str()),
            Verdict::Passed | Verdict::Failed { .. } => None,
        });
        let reason = reason.unwrap_or("over none of the transports that it is for");
        let _ = writeln!(text, "          {}", paint.with("2", reason));
    }
}

fn plain(summary: Summary) -> usize {
    Paint { colour: false }.mark(summary).len()
}

fn explain(text: &mut String, paint: &Paint, case: &Tested, run: &Run) {
    let Verdict::Failed { reason, transcript } = &run.verdict else { return };
    let title = format!("{} over {}", case.id, run.transport.name());
    let _ = writeln!(text, "\n{} {}", paint.with("1;31", "FAILED"), paint.with("1", &title));
    let _ = writeln!(text, "  {reason}");
    for rule in &case.rules {
        let _ = writeln!(text, "  {}: {}", rule.id, rule.text);
    }
    for line in transcript {
        for (number, part) in wire(line).lines().enumerate() {
            let indent = if number == 0 { "    " } else { "      " };
            let _ = writeln!(text, "{}", paint.with("2", &format!("{indent}{part}")));
        }
    }
}
