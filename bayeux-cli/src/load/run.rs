//! The phases of a run: sessions are made, messages published and awaited, sessions ended.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::{Poll, Waker};

use super::clock::{Moment, nanos};
use super::options::Options;
use super::outcome::{Outcome, Parts};
use super::plan::{Mode, Plan, PlanError};
use super::proc::{NoProcess, Processes, Usage};
use super::report::Progress;
use super::shared::{Count, Counts, Phase, Shared};
use super::target::{Target, TargetError};
use super::worker::{Findings, WAKER, Worker};

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The sizes make no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The server cannot be named.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A source address of the other family.
    #[error("cannot connect from {0}: the server's address is of the other family")]
    Source(IpAddr),
    /// The server's processes cannot be measured.
    #[error(transparent)]
    Process(#[from] NoProcess),
    /// The generator cannot be set up, or its poll failed.
    #[error("cannot generate load")]
    System(#[from] io::Error),
    /// Sessions could not be made.
    #[error("{failed} of {wanted} sessions could not be made: {reasons}")]
    Join {
        /// How many.
        failed: u64,
        /// Of how many.
        wanted: u32,
        /// Why.
        reasons: String,
    },
    /// A bug of the generator.
    #[error("a thread of the generator panicked")]
    Panic,
}

/// How often the run looks at its threads.
const LOOK: Duration = Duration::from_millis(5);

/// Between the announcement of a phase and its beginning, so that all threads begin together.
const LEAD: Duration = Duration::from_millis(20);

/// How long the sessions may make no progress while they are made, or end.
const JOIN_PATIENCE: Duration = Duration::from_secs(30);
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// What each session and thread needs of descriptors beside its connections.
const SPARE_DESCRIPTORS: u64 = 100;

/// Carries out a run.
///
/// # Errors
/// [`LoadError`]. That messages were lost is none: it is an outcome.
pub(crate) fn run(options: &Options) -> Result<Outcome, LoadError> {
    let target = Target::new(&options.url, options.transport, options.trust())?;
    if let Some(source) = options.bind.iter().find(|source| !target.accepts_source(**source)) {
        return Err(LoadError::Source(*source));
    }
    let run_id = RandomState::new().build_hasher().finish() as u32;
    let prefix = format!("{}/{run_id:08x}", options.channel);
    let plan = Plan::new(options.shape.clone(), &prefix, options.threads)?;
    // Where the limit is too low for the sessions, they say so as they fail.
    let _ = rlimit::increase_nofile_limit(2 * u64::from(plan.sessions()) + SPARE_DESCRIPTORS);

    let polls: Vec<_> = (0..options.threads).map(|_| Poll::new()).collect::<Result<_, _>>()?;
    let wakers = polls.iter().map(|poll| Waker::new(poll.registry(), WAKER)).collect::<Result<_, _>>()?;
    let shared = Arc::new(Shared::new(plan, target, options.ack, run_id, wakers));
    let processes = Processes::new(options.pids.clone());
    // Before there are any sessions.
    let before = usage(&processes)?;
    let mut threads = Vec::new();
    for (index, poll) in polls.into_iter().enumerate() {
        let worker = Worker::new(shared.clone(), index as u32, poll, options.bind.clone())?;
        threads.push(thread::Builder::new().name(format!("load-{index}")).spawn(move || worker.run())?);
    }
    let mut run = Run { options, shared: shared.clone(), processes, progress: Progress::new(options.quiet), threads };
    let result = run.phases(before);
    shared.begin(Phase::Stop);
    let findings = run.findings()?;
    match result? {
        Some(parts) => Ok(Outcome::new(options, &shared.plan, parts, findings)),
        None => Err(run.not_joined(findings)),
    }
}

struct Run<'a> {
    options: &'a Options,
    shared: Arc<Shared>,
    processes: Processes,
    progress: Progress,
    threads: Vec<JoinHandle<io::Result<Findings>>>,
}

impl Run<'_> {
    /// All phases but the last; nothing where sessions could not be made.
    fn phases(&mut self, before: Option<Usage>) -> Result<Option<Parts>, LoadError> {
        let join_started = self.shared.clock.now();
        if !self.join() {
            return Ok(None);
        }
        let joined = self.shared.clock.now().elapsed_since(join_started);
        let idle = self.options.shape.mode == Mode::Idle;
        if idle {
            self.watch("settling", self.options.settle);
        }
        let with_sessions = usage(&self.processes)?;
        if !idle && self.options.warmup > Duration::ZERO {
            self.publish(Some(self.options.warmup), None, false);
            self.drain();
        }
        let (counts_before, _) = self.shared.counts();
        let usage_before = usage(&self.processes)?;
        let start = if idle {
            let start = self.shared.clock.now();
            self.watch("watching", self.options.duration.unwrap_or_default());
            start
        } else {
            self.publish(self.options.duration, self.options.batches, true)
        };
        let drained = idle || self.drain();
        let (counts, last) = self.shared.counts();
        let end = if idle || last <= start { self.shared.clock.now() } else { last };
        let parts = Parts {
            joined,
            elapsed: end.elapsed_since(start),
            measured: counts.since(&counts_before),
            counts,
            drained,
            before,
            with_sessions,
            usage: usage_before.zip(usage(&self.processes)?),
        };
        self.leave();
        Ok(Some(parts))
    }

    /// Makes the sessions; whether all take part.
    fn join(&mut self) -> bool {
        let wanted = u64::from(self.shared.plan.sessions());
        self.wait(
            "joining",
            JOIN_PATIENCE,
            |counts| counts[Count::Ready] + counts[Count::Failed],
            |counts| counts[Count::Failed] > 0 || counts[Count::Ready] >= wanted,
        );
        let (counts, _) = self.shared.counts();
        counts[Count::Failed] == 0 && counts[Count::Ready] >= wanted
    }

    /// Publishes for a time or a number of batches; yields when it began.
    fn publish(&mut self, length: Option<Duration>, batches: Option<u64>, measured: bool) -> Moment {
        let start = self.shared.clock.now().plus(nanos(LEAD));
        let until = length.map_or(Moment::NEVER, |length| start.plus(nanos(length)));
        let batches = batches.unwrap_or(u64::MAX);
        let messages = batches.saturating_mul(u64::from(self.shared.plan.shape().batch_size));
        self.shared.begin(Phase::Publish { start, until, batches, measured });
        let (before, _) = self.shared.counts();
        let clock = self.shared.clock;
        let sent = |counts: &Counts| counts[Count::Published] + counts[Count::Unsent];
        // A closed loop that waits for a lost message makes no progress; a slow schedule has its time.
        let pause = self.shared.plan.due(Moment(0), 1);
        let patience =
            self.options.drain + if pause == Moment::NEVER { Duration::ZERO } else { pause.elapsed_since(Moment(0)) };
        self.wait(if measured { "measuring" } else { "warming up" }, patience, moving, |counts| {
            clock.now() >= until || sent(counts) - sent(&before) >= messages
        });
        start
    }

    /// Waits for what is owed; whether it all came.
    fn drain(&mut self) -> bool {
        self.shared.begin(Phase::Drain);
        let shared = self.shared.clone();
        self.wait("draining", self.options.drain, moving, |counts| {
            let answered = counts[Count::Replied] + counts[Count::Refused];
            // Threads that still publish would be ahead of their counts.
            shared.all_entered()
                && counts[Count::Delivered] >= counts[Count::Owed]
                && answered >= counts[Count::Published]
        })
    }

    /// Lets time pass.
    fn watch(&mut self, what: &'static str, length: Duration) {
        let until = self.shared.clock.now().plus(nanos(length));
        let clock = self.shared.clock;
        self.wait(what, length + JOIN_PATIENCE, |_| 0, |_| clock.now() >= until);
    }

    fn leave(&mut self) {
        self.shared.begin(Phase::Leave);
        let shared = self.shared.clone();
        self.wait(
            "leaving",
            LEAVE_PATIENCE,
            |counts| counts[Count::Left],
            |counts| {
                let over = counts[Count::Left] + counts[Count::Ended] + counts[Count::Broken];
                shared.all_entered() && over >= counts[Count::Ready]
            },
        );
    }

    /// Waits until `done`; gives up, and says so, when `progress` has not changed for `patience`.
    fn wait(
        &mut self,
        what: &'static str,
        patience: Duration,
        progress: impl Fn(&Counts) -> u64,
        done: impl Fn(&Counts) -> bool,
    ) -> bool {
        let mut seen = (u64::MAX, self.shared.clock.now());
        loop {
            let now = self.shared.clock.now();
            let (counts, _) = self.shared.counts();
            self.progress.show(what, now, &counts, self.shared.plan.sessions());
            if done(&counts) {
                return true;
            }
            if self.threads.iter().any(JoinHandle::is_finished) {
                return false;
            }
            let progress = progress(&counts);
            if progress != seen.0 {
                seen = (progress, now);
            }
            if now.elapsed_since(seen.1) > patience {
                return false;
            }
            thread::sleep(LOOK);
        }
    }

    fn findings(&mut self) -> Result<Vec<Findings>, LoadError> {
        self.progress.clear();
        let mut findings = Vec::new();
        for thread in self.threads.drain(..) {
            findings.push(thread.join().map_err(|_| LoadError::Panic)??);
        }
        Ok(findings)
    }

    fn not_joined(&self, findings: Vec<Findings>) -> LoadError {
        let (counts, _) = self.shared.counts();
        let mut reasons: Vec<_> = findings.into_iter().flat_map(|findings| findings.reasons.0).collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let mut reasons: Vec<_> = reasons.into_iter().map(|(reason, _)| reason).collect();
        reasons.dedup();
        let wanted = self.shared.plan.sessions();
        let failed = u64::from(wanted) - counts[Count::Ready].min(u64::from(wanted));
        let reasons = if reasons.is_empty() { "no answer".to_owned() } else { reasons.join("; ") };
        LoadError::Join { failed, wanted, reasons }
    }
}

/// What shows that messages are under way.
fn moving(counts: &Counts) -> u64 {
    [Count::Published, Count::Unsent, Count::Delivered, Count::Replied, Count::Refused]
        .iter()
        .map(|count| counts[*count])
        .sum()
}

fn usage(processes: &Processes) -> Result<Option<Usage>, NoProcess> {
    if processes.is_empty() { Ok(None) } else { processes.usage().map(Some) }
}
