//! The report for people at a terminal.

use std::fmt::Write;

use super::super::case::{Profile, Transport};
use super::{Count, Report, Summary, Tested, Verdict, wire};

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
    /// The report as text: a line for each case, with its id where there is more to say; then every failure with its
    /// rules and what went over the wire (over the first transport that shows it); then counts, and what they mean. With
    /// `colour`, in colours of ECMA-48 terminals.
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
            explain(&mut text, &paint, case);
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
        text.push('\n');
        for outdated in &self.outdated {
            let _ = writeln!(text, "{} {outdated}", paint.with("1;31", "not as expected:"));
        }
        let (code, verdict) = self.verdict();
        let _ = writeln!(text, "{} {}", paint.with(code, &verdict), took(self.millis));
    }

    /// What the counts mean, in a sentence, and a colour for it.
    fn verdict(&self) -> (&'static str, String) {
        let counts = Profile::ALL.map(|profile| self.count(profile));
        let must = self.count(Profile::Bayeux).failed;
        let other = counts.iter().map(|count| count.failed).sum::<usize>() - must;
        let are_known = counts.iter().any(|count| count.expected > 0);
        match (must, other) {
            (0, 0) if !self.outdated.is_empty() => ("1;31", "Known deviations are none any more.".to_owned()),
            (0, 0) if are_known => ("32", "No promise is broken that was not known to be.".to_owned()),
            (0, 0) => ("32", "No promise is broken.".to_owned()),
            (0, 1) => ("33", "What every server must do is kept; 1 other promise is broken.".to_owned()),
            (0, _) => ("33", format!("What every server must do is kept; {other} other promises are broken.")),
            (1, _) => ("1;31", format!("1 promise that every server must keep is broken, and {other} of the others.")),
            _ => {
                ("1;31", format!("{must} promises that every server must keep are broken, and {other} of the others."))
            }
        }
    }
}

fn took(millis: u64) -> String {
    format!("({:.1} s)", millis as f64 / 1000.0)
}

fn line(text: &mut String, paint: &Paint, case: &Tested) {
    let rules: Vec<&str> = case.rules.iter().map(|rule| rule.id.as_str()).collect();
    let summary = case.summary();
    let mark = paint.mark(summary);
    // Escape sequences take no room on the screen.
    let width = if paint.colour { 6 + mark.len() - plain(summary) } else { 6 };
    let _ = writeln!(text, "  {mark:<width$}  {}  {}", case.title, paint.with("2", &rules.join(" ")));
    if summary != Summary::Passed {
        let _ = writeln!(text, "          {}", paint.with("2", &why(case, summary)));
    }
}

/// The case's id, over which transports it came to this if not over all, and why if that is known.
fn why(case: &Tested, summary: Summary) -> String {
    let so = || case.runs.iter().filter(|run| run.summary() == summary);
    let mut text = case.id.clone();
    let tried = case.runs.iter().filter(|run| run.summary() != Summary::Skipped).count();
    if summary != Summary::Skipped && so().count() < tried {
        let names: Vec<&str> = so().map(|run| run.transport.name()).collect();
        text.push_str(&format!(" over {}", names.join(", ")));
    }
    let reason = match summary {
        Summary::Expected => so().find_map(|run| run.expected.as_deref()),
        Summary::Skipped => Some(skipped(case)),
        Summary::Passed | Summary::Failed => None,
    };
    if let Some(reason) = reason {
        text.push_str(&format!(": {reason}"));
    }
    text
}

/// Why a case could not be tried: what it lacks itself tells more than a transport that is missing.
fn skipped(case: &Tested) -> &str {
    let reasons = case.runs.iter().filter_map(|run| match &run.verdict {
        Verdict::Skipped { reason } => Some(reason.as_str()),
        Verdict::Passed | Verdict::Failed { .. } => None,
    });
    let reason = reasons.max_by_key(|reason| !reason.starts_with("the server does not offer"));
    reason.unwrap_or("over none of the transports that it is for")
}

fn plain(summary: Summary) -> usize {
    Paint { colour: false }.mark(summary).len()
}

fn explain(text: &mut String, paint: &Paint, case: &Tested) {
    let failed = case.runs.iter().filter(|run| run.summary() == Summary::Failed);
    for (number, run) in failed.enumerate() {
        let Verdict::Failed { reason, transcript } = &run.verdict else { continue };
        let title = format!("{} over {}", case.id, run.transport.name());
        let _ = writeln!(text, "\n{} {}", paint.with("1;31", "FAILED"), paint.with("1", &title));
        let _ = writeln!(text, "  {reason}");
        if number > 0 {
            continue;
        }
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
}
