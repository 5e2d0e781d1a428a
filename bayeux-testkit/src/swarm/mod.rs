//! Many clients, well-behaved and rude, on bad networks, against a server in one thread: a run from a seed, checked
//! against a model after every step.
//!
//! A [`Plan`] says what the server is like (shards, limits, hooks), what the clients are like, and what happens, step by
//! step; [`Plan::from_seed`] draws all of it, options included, so that runs differ in kind and not only in detail.
//! [`run`] carries it out in two phases. In the first, the network loses, holds and breaks, clients do what they should
//! and what they should not, hooks answer now, later, or never; whatever happens, nothing may be wrong. In the second,
//! everything is healed and every question answered, and all that is owed must come: events to their subscribers,
//! replies to requests, an end to silent sessions and unused channels.
//!
//! # Example: a run, and what it checked
//!
//! ```
//! use bayeux_testkit::swarm::{Plan, run};
//!
//! let stats = run(&Plan::from_seed(1)).expect("the engine is right");
//! assert!(stats.checked.replies > 0);
//! ```
//!
//! # Example: what to do with a failure
//!
//! ```
//! use bayeux_testkit::swarm::{Plan, run, shrink};
//!
//! for seed in 0..3 {
//!     let plan = Plan::from_seed(seed);
//!     if let Err(failure) = run(&plan) {
//!         let smallest = shrink(&plan, 1_000);
//!         panic!("{failure}\nthe smallest plan that fails:\n{}", smallest.plan);
//!     }
//! }
//! ```

mod client;
mod hooks;
mod model;
mod plan;
mod rude;
mod runner;
mod setup;
mod shrink;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::net::Harm;
use crate::world::World;

pub use model::Checked;
pub use plan::{Argument, Plan, PlanError, Step, Verb};
pub use setup::{Knob, Setup};
pub use shrink::{Shrunk, shrink};

/// What a run did, and what was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Steps of plans.
    pub steps: u64,
    /// How much time passed, on the virtual clock.
    pub virtual_time: Duration,
    /// What the network did.
    pub harm: Harm,
    /// Requests that were not as they should be.
    pub rude: u64,
    /// Questions that hooks answered later, too late, or not.
    pub delayed_answers: u64,
    /// What was held against the model.
    pub checked: Checked,
}

impl Stats {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let (a, b) = (self.checked, other.checked);
        Self {
            steps: self.steps + other.steps,
            virtual_time: self.virtual_time + other.virtual_time,
            harm: Harm {
                lost_to_server: self.harm.lost_to_server + other.harm.lost_to_server,
                lost_to_client: self.harm.lost_to_client + other.harm.lost_to_client,
                hung_up: self.harm.hung_up + other.harm.hung_up,
                partitions: self.harm.partitions + other.harm.partitions,
            },
            rude: self.rude + other.rude,
            delayed_answers: self.delayed_answers + other.delayed_answers,
            checked: Checked {
                deliveries: a.deliveries + b.deliveries,
                obligations: a.obligations + b.obligations,
                replies: a.replies + b.replies,
                holds: a.holds + b.holds,
                sessions: a.sessions + b.sessions,
                expired: a.expired + b.expired,
            },
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { harm, checked, .. } = self;
        writeln!(f, "virtual time    {:.1} h", self.virtual_time.as_secs_f64() / 3_600.0)?;
        writeln!(f, "steps           {}", self.steps)?;
        writeln!(
            f,
            "faults          {} lost to the server, {} lost to clients, {} hung up, {} partitions, {} rude requests, {} late answers",
            harm.lost_to_server, harm.lost_to_client, harm.hung_up, harm.partitions, self.rude, self.delayed_answers
        )?;
        write!(
            f,
            "checked         {} deliveries, {} of them owed; {} replies, {} held connects, {} sessions, {} of them expired",
            checked.deliveries, checked.obligations, checked.replies, checked.holds, checked.sessions, checked.expired
        )
    }
}

/// A run that found something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What, as a sentence; it begins with the rule where one is known.
    pub what: String,
    /// The number of the step behind which it was found; as many as there are: at the end.
    pub step: usize,
    /// What was going on, where the run kept it.
    pub trace: String,
}

impl Failure {
    /// What is broken, in a word or a few: two failures for which it is the same are of one kind.
    pub fn rule(&self) -> &str {
        let text = self.what.strip_prefix("panic: ").unwrap_or(&self.what);
        text.split(':').next().filter(|rule| rule.len() < 20).unwrap_or_else(|| text.split(' ').next().unwrap_or(text))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (behind step {})", self.what, self.step)
    }
}

impl std::error::Error for Failure {}

/// Carries a plan out. Nothing is written down; [`run_traced`] does that.
///
/// # Errors
/// What was wrong first. A panic is one thing that can be.
pub fn run(plan: &Plan) -> Result<Stats, Failure> {
    run_with(plan, |_| {})
}

/// Carries a plan out with rules of one's own beside those of the plan: `prepare` is given the world before anything
/// happens. Where a rule makes a server of it that is wrong, the run should find out.
///
/// # Errors
/// As [`run`] does.
pub fn run_with(plan: &Plan, prepare: impl Fn(&World)) -> Result<Stats, Failure> {
    run_keeping(plan, 0, prepare).map(|(stats, _)| stats)
}

/// Carries a plan out and keeps the last `lines` of what happens; the statistics, all that was kept, and the digest of
/// everything that happened.
///
/// # Errors
/// As [`run`] does, with the trace in the failure.
pub fn run_traced(plan: &Plan, lines: usize) -> Result<(Stats, Trace), Failure> {
    run_keeping(plan, lines, |_| {})
}

/// What happened in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Its last lines.
    pub text: String,
    /// A number that two runs share only if the same things happened in them in the same order.
    pub digest: u64,
}

fn run_keeping(plan: &Plan, lines: usize, prepare: impl Fn(&World)) -> Result<(Stats, Trace), Failure> {
    let mut runner = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| runner.insert(runner::Runner::new(plan, lines, &prepare)).run()));
    let (step, trace, digest) = runner.as_ref().map_or((0, String::new(), 0), runner::Runner::position);
    let fail = |what| Failure { what, step, trace: trace.clone() };
    match outcome {
        Ok(Ok(stats)) => Ok((stats, Trace { text: trace, digest })),
        Ok(Err(what)) => Err(fail(what)),
        Err(panic) => Err(fail(describe(&*panic))),
    }
}

/// The first line of what a panic said: what follows is the trace.
fn describe(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let line = text.and_then(|text| text.lines().next()).unwrap_or("something");
    format!("panic: {line}")
}

/// The channels that are published on.
const CHANNELS: [&str; 9] = ["/a", NARROW, KEPT, "/a/b", "/a/c", "/d/e/f", LAZY, LAZY_SOON, "/service/s"];

/// The channels that are subscribed to.
const PATTERNS: [&str; 13] =
    ["/a", NARROW, "/**", "/a/*", "/a/**", "/a/b", "/d/e/f", "/d/**", LAZY, LAZY_SOON, "/service/s", LAZY_SLOW, KEPT];

/// A lazy channel: its messages wait for as long as the session's do.
const LAZY: &str = "/lazy";

/// A lazy channel whose messages wait for a time of its own.
const LAZY_SOON: &str = "/lazy/soon";

/// A pattern with a longer time of its own, which matches that channel, too: the shorter one counts (rule Q-33).
const LAZY_SLOW: &str = "/lazy/*";

/// A channel that keeps its last message for new subscribers.
const KEPT: &str = "/kept";

/// The channel of which a queue may hold no more than [`Knob::ChannelQueue`] says.
const NARROW: &str = "/b";
