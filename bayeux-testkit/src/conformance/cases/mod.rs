//! The cases, a file for each subject.

mod ack;
mod callback;
mod channels;
mod connect;
mod cookies;
mod disconnect;
mod envelope;
mod extensions;
mod handshake;
mod hostile_http;
mod hostile_messages;
mod hostile_websocket;
mod http;
mod http2;
mod publish;
mod subscribe;
mod websocket;

use super::case::Case;

/// All, in the order of reports.
pub(super) fn all() -> Vec<Case> {
    [
        ("envelopes", envelope::cases()),
        ("handshake", handshake::cases()),
        ("connect", connect::cases()),
        ("disconnect", disconnect::cases()),
        ("subscribe", subscribe::cases()),
        ("publish", publish::cases()),
        ("channels", channels::cases()),
        ("browsers and connections", cookies::cases()),
        ("long-polling", http::cases()),
        ("callback-polling", callback::cases()),
        ("websocket", websocket::cases()),
        ("http2", http2::cases()),
        ("acknowledgement", ack::cases()),
        ("other extensions", extensions::cases()),
        ("hostile messages", hostile_messages::cases()),
        ("hostile HTTP", hostile_http::cases()),
        ("hostile frames", hostile_websocket::cases()),
    ]
    .into_iter()
    .flat_map(|(family, cases)| cases.into_iter().map(move |case| case.of(family)))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::rules;
    use super::all;

    #[test]
    fn every_case_can_be_told_apart_and_explained() {
        let mut ids = HashSet::new();
        for case in all() {
            assert!(ids.insert(case.id.clone()), "{} exists twice", case.id);
            assert!(case.id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{}", case.id);
            assert!(!case.title.is_empty() && !case.title.ends_with('.'), "{}: {:?}", case.id, case.title);
            assert!(!case.rules.is_empty(), "{} cites no rule", case.id);
            for rule in &case.rules {
                assert!(rules::text(rule).is_some(), "{} cites {rule}, which has no text", case.id);
            }
        }
    }
}
