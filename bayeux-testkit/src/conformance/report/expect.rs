//! Deviations that are known.

use serde::Deserialize;

use super::super::case::{Case, Transport};
use super::{Report, Verdict};

/// What a server is known to do otherwise.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Expectations {
    /// Each deviation.
    #[serde(default, rename = "deviation")]
    pub deviations: Vec<Deviation>,
}

/// One deviation: a case that fails, and why.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Deviation {
    /// The case's id.
    pub case: String,
    /// Over which transports it fails. Default: empty, all that it is tried over.
    #[serde(default)]
    pub transports: Vec<String>,
    /// It fails now and then only: that it passes says nothing. Default: no.
    #[serde(default)]
    pub sometimes: bool,
    /// Why the server does so.
    pub reason: String,
}

impl Deviation {
    fn covers(&self, transport: Transport) -> bool {
        self.transports.is_empty() || self.transports.iter().any(|name| name == transport.name())
    }
}

impl Report {
    /// Marks failures that are known. What no longer fails, and what no case of the catalogue is about, becomes
    /// [`outdated`](Self::outdated); cases that were not selected are left alone.
    pub fn expect(&mut self, expectations: &Expectations) {
        let catalogue: Vec<Case> = crate::conformance::catalogue();
        for deviation in &expectations.deviations {
            if !catalogue.iter().any(|case| case.id == deviation.case) {
                self.outdated.push(format!("{} is no case", deviation.case));
            }
            if let Some(name) = deviation.transports.iter().find(|name| Transport::from_name(name).is_none()) {
                self.outdated.push(format!("{name}, given for {}, is no transport", deviation.case));
            }
            let mut passed = Vec::new();
            let Some(case) = self.cases.iter_mut().find(|case| case.id == deviation.case) else { continue };
            for run in case.runs.iter_mut().filter(|run| deviation.covers(run.transport)) {
                match run.verdict {
                    Verdict::Failed { .. } => run.expected = Some(deviation.reason.clone()),
                    Verdict::Passed if !deviation.sometimes => passed.push(run.transport.name()),
                    Verdict::Passed | Verdict::Skipped { .. } => {}
                }
            }
            if !passed.is_empty() {
                self.outdated.push(format!("{} passes over {}", deviation.case, passed.join(", ")));
            }
        }
    }
}
