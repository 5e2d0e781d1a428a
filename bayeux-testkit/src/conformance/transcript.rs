//! What went over the wire in one case.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Which way a [`Line`] went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Direction {
    /// From the suite to the server.
    Sent,
    /// From the server to the suite.
    Received,
    /// Neither: a connection was opened, or closed.
    Note,
}

/// A piece of traffic, cut where it is long; bytes that are not printable are escaped.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Line {
    /// Milliseconds since the case began.
    pub at: u64,
    /// The connection, numbered in the order of their opening: `http-1`, `ws-2`, `h2-3`.
    pub link: String,
    /// Which way.
    pub direction: Direction,
    /// What.
    pub text: String,
}

/// A log that all connections of a case write to.
#[derive(Debug, Clone)]
pub(super) struct Log {
    start: Instant,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<Line>,
    dropped: usize,
    links: usize,
}

/// What a reader of a report can take in; the end of a conversation tells more than its beginning.
const LINES_MAX: usize = 120;
const TEXT_MAX: usize = 1500;

impl Log {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), inner: Arc::default() }
    }

    /// A name for a new connection.
    pub(super) fn link(&self, kind: &str) -> String {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.links += 1;
        format!("{kind}-{}", inner.links)
    }

    pub(super) fn sent(&self, link: &str, bytes: &[u8]) {
        self.add(link, Direction::Sent, printable(bytes));
    }

    pub(super) fn received(&self, link: &str, bytes: &[u8]) {
        self.add(link, Direction::Received, printable(bytes));
    }

    pub(super) fn note(&self, link: &str, text: impl Into<String>) {
        self.add(link, Direction::Note, text.into());
    }

    fn add(&self, link: &str, direction: Direction, text: String) {
        let at = Duration::as_millis(&self.start.elapsed()) as u64;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.lines.len() == LINES_MAX {
            inner.lines.pop_front();
            inner.dropped += 1;
        }
        inner.lines.push_back(Line { at, link: link.to_owned(), direction, text });
    }

    /// The lines so far; where the first are missing, a note says how many.
    pub(super) fn lines(&self) -> Vec<Line> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = (inner.dropped > 0).then(|| Line {
            at: 0,
            link: String::new(),
            direction: Direction::Note,
            text: format!("{} earlier lines are left out", inner.dropped),
        });
        missing.into_iter().chain(inner.lines.iter().cloned()).collect()
    }
}

/// UTF-8 as it is, with control characters escaped; other bytes in hexadecimal.
fn printable(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(TEXT_MAX)];
    let mut text = String::new();
    for chunk in shown.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => text.push('\n'),
                '\r' => {}
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        // A character that the cut has split is not the peer's mistake.
        if shown.len() == bytes.len() || chunk.invalid().len() > 3 {
            for byte in chunk.invalid() {
                text.push_str(&format!("\\x{byte:02x}"));
            }
        }
    }
    if shown.len() < bytes.len() {
        text.push_str(&format!(" … ({} bytes)", bytes.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_made_printable_and_cut() {
        assert_eq!(printable("é\r\n\u{1}".as_bytes()), "é\n\\u{1}");
        assert_eq!(printable(b"\xff!"), "\\xff!");
        assert!(printable(&[b'x'; 5000]).ends_with("x … (5000 bytes)"));
    }

    #[test]
    fn the_last_lines_are_kept() {
        let log = Log::new();
        for number in 0..LINES_MAX + 5 {
            log.note("http-1", number.to_string());
        }
        let lines = log.lines();
        assert_eq!(lines[0].text, "5 earlier lines are left out");
        assert_eq!(lines.last().map(|line| line.text.as_str()), Some("124"));
    }
}
