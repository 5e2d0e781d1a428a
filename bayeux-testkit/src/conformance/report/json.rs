//! The report for programs.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::case::{Profile, Transport};
use super::Report;

#[derive(Serialize)]
struct Whole<'a> {
    /// Raised when a field changes its meaning or goes.
    schema: u32,
    counts: Value,
    #[serde(flatten)]
    report: &'a Report,
}

impl Report {
    /// The report as JSON. `docs/conformance.md` describes the fields.
    pub fn json(&self) -> String {
        let profiles: Map<String, Value> =
            Profile::ALL.iter().map(|profile| (profile.name().to_owned(), json!(self.count(*profile)))).collect();
        let transports: Map<String, Value> = Transport::ALL
            .iter()
            .map(|transport| (transport.name().to_owned(), json!(self.count_over(*transport))))
            .collect();
        let counts = json!({"profiles": profiles, "transports": transports});
        let whole = Whole { schema: 1, counts, report: self };
        let mut text = serde_json::to_string_pretty(&whole).expect("maps with text keys and finite numbers");
        text.push('\n');
        text
    }
}
