//! Logs: which, in what shape, to stderr.

use std::io;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::options::LogFormat;

/// Whether `text` selects logs: a level, CometD 2's number for one, or a list of `target=level`.
pub(crate) fn is_level(text: &str) -> bool {
    !text.is_empty() && targets(text).is_some()
}

/// Whether `text` is one of the numbers with which CometD 2 named its levels (rule O-41).
pub(crate) fn is_numeric(text: &str) -> bool {
    matches!(text, "0" | "1" | "2" | "3")
}

/// Starts writing logs. Does nothing if the process has set up its own before.
pub(crate) fn start(level: &str, format: LogFormat) {
    let targets = targets(level).unwrap_or_default();
    let layer = fmt::layer().with_writer(io::stderr).with_ansi(false);
    let layer = match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    // Fails only where a subscriber is there already: that of a program this one is part of.
    let _ = tracing_subscriber::registry().with(layer.with_filter(targets)).try_init();
}

fn targets(text: &str) -> Option<Targets> {
    let text = match text {
        "0" => "warn",
        "1" => "info",
        "2" => "debug",
        "3" => "trace",
        other => other,
    };
    // A bare word that is no level would be taken as a target whose every message is wanted.
    let known = |item: &str| item.contains('=') || item.parse::<tracing::level_filters::LevelFilter>().is_ok();
    if text.split(',').map(str::trim).all(known) { text.replace(' ', "").parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_lists_of_targets_are_read() {
        for good in ["warn", "DEBUG", "off", "2", "info,bayeux_http=debug", "info, bayeux_ws=trace"] {
            assert!(is_level(good), "{good}");
        }
        for bad in ["", "loud", "info,loud", "bayeux_http=loud", "7x"] {
            assert!(!is_level(bad), "{bad}");
        }
    }
}
