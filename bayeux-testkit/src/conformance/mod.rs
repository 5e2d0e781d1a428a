//! A conformance suite for Bayeux servers, over real sockets: the command `bayeux check`.
//!
//! [`run`] finds out what a server offers, tries every selected case over every transport that the case is for, and
//! yields a [`Report`]. A case checks one promise of the protocol; [`catalogue`] lists them. The server needs no
//! services for it: the suite uses broadcast channels below a random prefix of its own.
//!
//! ```no_run
//! use bayeux_testkit::conformance::{Options, Profile, Target, run};
//!
//! # async fn check() -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = Options::default();
//! options.profiles = vec![Profile::Bayeux];
//! let report = run(Target::parse("http://localhost:8080/cometd")?, options, |_, _| {}).await?;
//! assert!(report.is_acceptable(false), "{}", report.terminal(false));
//! # Ok(())
//! # }
//! ```
//!
//! # How a case is written
//!
//! It is an `async fn(&Cx) -> Outcome` in a file of `cases`, and a line in that file's table, which says whose promise
//! it is, the rules, the transports and the promise in a sentence. The function's name is the case's id:
//!
//! ```text
//! case!(subscribe_reply_echoes_the_subscription).must("M-15 S-4", ANY, "A subscribe reply names the subscription"),
//!
//! async fn subscribe_reply_echoes_the_subscription(cx: &Cx) -> Outcome {
//!     let mut alice = cx.session().await?;
//!     let channel = cx.channel("a");
//!     alice.subscribe(channel.as_str()).await?.successful()?.has("subscription", channel)?;
//!     Ok(())
//! }
//! ```
//!
//! A failure is said with what was sent and what came; the runner adds the rules and what went over the wire.
//!
//! # Layers
//!
//! `wire` has bytes: HTTP/1.1, HTTP/2 and WebSocket, right and wrong ones. `agent` is a browser's part, connections and
//! cookies; `client` a Bayeux client's, sessions and messages, the same over all transports. `cx` gives a case clients
//! and channels, `reply` what it asks of an answer. `probe` and `run` are the runner, `report` its results.

mod agent;
mod case;
mod cases;
mod client;
mod cx;
mod env;
#[doc(hidden)]
pub mod fuzzing;
mod options;
mod outcome;
mod probe;
mod reply;
mod report;
mod rules;
mod run;
mod target;
mod transcript;
mod wire;

pub use case::{Case, Profile, Transport, Transports};
pub use options::Options;
pub use probe::Server;
pub use report::{Count, Deviation, Expectations, Report, Rule, Run, Tested, Verdict};
pub use run::{CheckError, run};
pub use target::{Target, TargetError};
pub use transcript::{Direction, Line};

/// All cases, in the order of reports.
pub fn catalogue() -> Vec<Case> {
    cases::all()
}

/// What a rule says, if a case cites it.
pub fn rule(id: &str) -> Option<&'static str> {
    rules::text(id)
}
