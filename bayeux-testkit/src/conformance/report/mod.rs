//! What came of a run, and the forms in which it is told.

mod expect;
mod html;
mod json;
mod junit;
mod terminal;

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::case::{Case, Profile, Transport};
use super::probe::Server;
use super::target::Target;
use super::transcript::{Direction, Line};

pub use expect::{Deviation, Expectations};

/// The result of a run of the suite.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The endpoint.
    pub target: String,
    /// Seconds since 1970.
    pub started: u64,
    /// How long the run took, in milliseconds.
    pub millis: u64,
    /// What the server offers.
    pub server: Server,
    /// The cases that were selected, in the order of the catalogue.
    pub cases: Vec<Tested>,
    /// Known deviations that the server no longer shows, or that no case is about, as sentences.
    pub outdated: Vec<String>,
}

/// A case and what came of it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Tested {
    /// The case's id.
    pub id: String,
    /// The promise.
    pub title: String,
    /// What it is about.
    pub family: String,
    /// Whose promise.
    pub profile: Profile,
    /// The rules.
    pub rules: Vec<Rule>,
    /// Over each transport that it is for, in the order of [`Transport::ALL`].
    pub runs: Vec<Run>,
}

/// A rule and what it says.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// Its text.
    pub text: String,
}

/// A case over one transport.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Run {
    /// The transport.
    pub transport: Transport,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// For a failure that was expected: why the server does so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// What came of a case.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Verdict {
    /// The promise is kept.
    Passed,
    /// It is not.
    Failed {
        /// What was expected, and what came.
        reason: String,
        /// What went over the wire.
        transcript: Vec<Line>,
    },
    /// It could not be tried.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// Cases or runs, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Count {
    /// Promises kept.
    pub passed: usize,
    /// Promises broken.
    pub failed: usize,
    /// Promises broken, as was expected.
    pub expected: usize,
    /// Not tried.
    pub skipped: usize,
}

/// What came of several runs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Summary {
    Passed,
    Failed,
    Expected,
    Skipped,
}

impl Report {
    pub(super) fn new(target: &Target, started: SystemTime, server: Server) -> Self {
        let started = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (cases, outdated) = (Vec::new(), Vec::new());
        Self { target: target.to_string(), started, millis: 0, server, cases, outdated }
    }

    pub(super) fn finish(&mut self, took: Duration) {
        self.millis = took.as_millis() as u64;
        for case in &mut self.cases {
            case.runs.sort_by_key(|run| run.transport);
        }
    }

    /// Whether a server with this report is conforming: no *must* is broken, no expectation outdated; where `strict`,
    /// no promise at all is broken. Failures that were expected do not count.
    pub fn is_acceptable(&self, strict: bool) -> bool {
        let bad = |case: &Tested| case.summary() == Summary::Failed && (strict || case.profile == Profile::Bayeux);
        self.outdated.is_empty() && !self.cases.iter().any(bad)
    }

    /// Cases of a profile, counted.
    pub fn count(&self, profile: Profile) -> Count {
        Count::of(self.cases.iter().filter(|case| case.profile == profile).map(Tested::summary))
    }

    /// Runs over a transport, counted.
    pub fn count_over(&self, transport: Transport) -> Count {
        let runs = self.cases.iter().flat_map(|case| &case.runs);
        Count::of(runs.filter(|run| run.transport == transport).map(Run::summary))
    }

    /// The cases by family, in the order of the catalogue.
    pub(super) fn families(&self) -> impl Iterator<Item = &[Tested]> {
        self.cases.chunk_by(|one, other| one.family == other.family)
    }
}

impl Tested {
    pub(super) fn new(case: &Case, rules: Vec<Rule>) -> Self {
        let (title, family) = (case.title.to_owned(), case.family.to_owned());
        Self { id: case.id.clone(), title, family, profile: case.profile, rules, runs: Vec::new() }
    }

    /// The worst of its runs.
    pub(super) fn summary(&self) -> Summary {
        let any = |summary| self.runs.iter().any(|run| run.summary() == summary);
        [Summary::Failed, Summary::Expected, Summary::Passed].into_iter().find(|s| any(*s)).unwrap_or(Summary::Skipped)
    }
}

impl Run {
    pub(super) fn skipped(transport: Transport, reason: String) -> Self {
        Self { transport, verdict: Verdict::Skipped { reason }, millis: 0, expected: None }
    }

    pub(super) fn summary(&self) -> Summary {
        match &self.verdict {
            Verdict::Passed => Summary::Passed,
            Verdict::Failed { .. } if self.expected.is_some() => Summary::Expected,
            Verdict::Failed { .. } => Summary::Failed,
            Verdict::Skipped { .. } => Summary::Skipped,
        }
    }
}

impl Count {
    fn of(summaries: impl Iterator<Item = Summary>) -> Self {
        let mut count = Self::default();
        for summary in summaries {
            match summary {
                Summary::Passed => count.passed += 1,
                Summary::Failed => count.failed += 1,
                Summary::Expected => count.expected += 1,
                Summary::Skipped => count.skipped += 1,
            }
        }
        count
    }
}

/// A line of a transcript: when, where, which way, what.
fn wire(line: &Line) -> String {
    let arrow = match line.direction {
        Direction::Sent => "->",
        Direction::Received => "<-",
        Direction::Note => "--",
    };
    format!("{:>6} ms {} {arrow} {}", line.at, line.link, line.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::catalogue;

    const LINES: &[&str] = &["http-1 -> what was sent"];

    fn failed(reason: &str) -> Verdict {
        let line = |text: &&str| Line {
            at: 7,
            link: "http-1".to_owned(),
            direction: Direction::Note,
            text: (*text).to_owned(),
        };
        Verdict::Failed { reason: reason.to_owned(), transcript: LINES.iter().map(line).collect() }
    }

    /// What came of these cases over long-polling and over WebSocket.
    fn report(verdicts: &[(&str, Verdict, Verdict)]) -> Report {
        let target = Target::parse("http://localhost:8080/cometd").expect("a URL");
        let mut report = Report::new(&target, SystemTime::UNIX_EPOCH, Server::default());
        for (id, polling, websocket) in verdicts {
            let case = catalogue().into_iter().find(|case| case.id == *id).expect("a case");
            let mut tested = Tested::new(&case, Vec::new());
            for (transport, verdict) in [(Transport::LongPolling, polling), (Transport::WebSocket, websocket)] {
                tested.runs.push(Run { transport, verdict: verdict.clone(), millis: 1_500, expected: None });
            }
            report.cases.push(tested);
        }
        report.finish(Duration::from_millis(2_500));
        report
    }

    fn deviation(case: &str, sometimes: bool) -> Deviation {
        let (case, reason) = (case.to_owned(), "it is its way".to_owned());
        Deviation { case, transports: Vec::new(), sometimes, reason }
    }

    fn last(text: &str) -> &str {
        text.lines().last().unwrap_or_default()
    }

    #[test]
    fn the_last_line_says_what_the_counts_mean() {
        let must = ("connect-succeeds", failed("no"), Verdict::Passed);
        let should = ("connect-is-held", Verdict::Passed, failed("no"));
        let other = ("connect-succeeds", Verdict::Passed, Verdict::Passed);
        for (verdicts, expected) in [
            (vec![other.clone()], "No promise is broken. (2.5 s)"),
            (vec![other, should.clone()], "What every server must do is kept; 1 other promise is broken. (2.5 s)"),
            (vec![must.clone()], "1 promise that every server must keep is broken, and 0 of the others. (2.5 s)"),
            (vec![must, should], "1 promise that every server must keep is broken, and 1 of the others. (2.5 s)"),
        ] {
            assert_eq!(last(&report(&verdicts).terminal(false)), expected);
        }
    }

    #[test]
    fn a_failure_is_explained_once_for_all_its_transports() {
        let text = report(&[("connect-is-held", failed("not this time"), failed("nor this"))]).terminal(false);
        assert!(text.contains("          connect-is-held\n"), "{text}");
        assert!(text.contains("not this time") && text.contains("nor this"), "{text}");
        assert_eq!(text.matches(LINES[0]).count(), 1, "{text}");
        let text = report(&[("connect-is-held", Verdict::Passed, failed("no"))]).terminal(false);
        assert!(text.contains("          connect-is-held over websocket\n"), "{text}");
    }

    #[test]
    fn known_deviations_are_told_with_their_reasons() {
        let mut report = report(&[("connect-is-held", failed("no"), Verdict::Passed)]);
        report.expect(&Expectations { deviations: vec![deviation("connect-is-held", true)] });
        assert!(report.is_acceptable(true));
        let text = report.terminal(false);
        assert_eq!(last(&text), "No promise is broken that was not known to be. (2.5 s)");
        assert!(text.contains("          connect-is-held over long-polling: it is its way\n"), "{text}");
        assert!(report.junit().contains("<skipped message=\"it is its way\"/>"), "{}", report.junit());
        let page = report.html();
        assert!(page.contains(">as expected<") && page.contains("Known: it is its way"), "{page}");
    }

    #[test]
    fn deviations_that_are_gone_count() {
        let mut report = report(&[("connect-is-held", Verdict::Passed, Verdict::Passed)]);
        report.expect(&Expectations {
            deviations: vec![deviation("connect-is-held", false), deviation("nothing", false)],
        });
        assert!(!report.is_acceptable(false));
        assert_eq!(report.outdated, ["connect-is-held passes over long-polling, websocket", "nothing is no case"]);
        assert_eq!(last(&report.terminal(false)), "Known deviations are none any more. (2.5 s)");
        let xml = report.junit();
        let whole = "tests=\"4\" failures=\"2\" errors=\"0\" skipped=\"0\" time=\"2.5\"";
        let family = "<testsuite name=\"connect\" tests=\"2\" failures=\"0\" errors=\"0\" skipped=\"0\" time=\"3\"";
        let gone = "<failure message=\"not as expected: connect-is-held passes over long-polling, websocket\"/>";
        assert!(xml.contains(whole) && xml.contains(family) && xml.contains(gone), "{xml}");
    }
}
