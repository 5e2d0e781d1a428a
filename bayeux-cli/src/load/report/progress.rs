//! The line that tells what the run does, for those who watch a terminal.

use std::io::{IsTerminal, Write, stderr};

use crate::load::clock::Moment;
use crate::load::shared::{Count, Counts};

/// See the module.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: Option<(Moment, Counts)>,
    enabled: bool,
}

/// How often the line changes, in nanoseconds.
const INTERVAL: u64 = 500_000_000;

impl Progress {
    /// Says nothing where nobody watches, or wants to.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { shown: None, enabled: !quiet && stderr().is_terminal() }
    }

    /// Shows the state of the run, if that is not shown already.
    pub(crate) fn show(&mut self, what: &str, now: Moment, counts: &Counts, sessions: u32) {
        let (then, before) = self.shown.unwrap_or_default();
        if !self.enabled || self.shown.is_some() && now.since(then) < INTERVAL {
            return;
        }
        let change = counts.since(&before);
        let rate = |count| change[count] as f64 * 1e9 / now.since(then).max(1) as f64;
        let (ready, total) = (counts[Count::Ready], counts[Count::Delivered]);
        let line = format!(
            "{what}: {ready}/{sessions} sessions, {:.0} published/s, {:.0} delivered/s, {total} delivered",
            rate(Count::Published),
            rate(Count::Delivered),
        );
        write(&format!("\r\x1b[K{line}"));
        self.shown = Some((now, *counts));
    }

    /// Removes the line.
    pub(crate) fn clear(&mut self) {
        if self.enabled && self.shown.take().is_some() {
            write("\r\x1b[K");
        }
    }
}

fn write(text: &str) {
    let mut stderr = stderr().lock();
    // A terminal that has gone away is no error.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
