//! What happened, for whoever has to find out why.

use std::collections::VecDeque;
use std::fmt;

use bayeux_core::Time;

/// The last things that happened, and a digest of all.
pub(super) struct Trace {
    pub(super) lines: VecDeque<String>,
    lines_max: usize,
    pub(super) digest: u64,
}

impl Trace {
    pub(super) fn new(lines_max: usize) -> Self {
        Self { lines: VecDeque::new(), lines_max, digest: 0xcbf2_9ce4_8422_2325 }
    }

    pub(super) fn note(&mut self, now: Time, what: fmt::Arguments<'_>) {
        if self.lines_max == 0 {
            return;
        }
        let line = format!("{:>12.3?} {what}", now.since(Time::ZERO));
        self.digest =
            line.bytes().fold(self.digest, |digest, b| (digest ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        self.lines.push_back(line);
        if self.lines.len() > self.lines_max {
            self.lines.pop_front();
        }
    }
}
