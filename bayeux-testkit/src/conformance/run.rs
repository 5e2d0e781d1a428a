//! Runs cases, several at a time, each with a deadline.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinSet;

use super::agent::Unanswered;
use super::case::{Case, Transport};
use super::cx::Cx;
use super::env::Env;
use super::options::Options;
use super::outcome::{Outcome, Stop};
use super::probe::{Server, probe};
use super::report::{Report, Run, Tested, Verdict};
use super::target::Target;
use super::transcript::Log;
use super::wire::{Dialer, human};
use super::{cases, rules};

/// Why no case could run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// TLS could not be set up, or there is no source of random numbers.
    #[error("cannot set up connections")]
    Setup(#[source] io::Error),
    /// No handshake succeeded over any transport; the reasons, one per transport.
    #[error("no Bayeux server answers at {target}: {}", merged(refusals))]
    NoServer {
        /// Where it was looked for.
        target: String,
        /// What came instead of a handshake reply: transport, colon, reason.
        refusals: Vec<String>,
    },
    /// All cases are switched off, or none is for the transports that are left.
    #[error("no case is selected")]
    NothingToDo,
}

/// Refusals, those with the same reason as one.
fn merged(refusals: &[String]) -> String {
    let mut reasons: Vec<(Vec<&str>, &str)> = Vec::new();
    for (transport, reason) in refusals.iter().filter_map(|refusal| refusal.split_once(": ")) {
        match reasons.iter_mut().find(|(_, known)| *known == reason) {
            Some((transports, _)) => transports.push(transport),
            None => reasons.push((vec![transport], reason)),
        }
    }
    if let [(_, reason)] = reasons[..] {
        return reason.to_owned();
    }
    let texts = reasons.iter().map(|(transports, reason)| format!("{reason} ({})", transports.join(", ")));
    texts.collect::<Vec<_>>().join("; ")
}

/// Checks a server: finds out what it offers, runs all selected cases over all transports that they are for, and
/// reports. `progress` is told after each run how many of how many are done.
///
/// The order of the report is that of [`catalogue`](super::catalogue), whatever runs at the same time.
///
/// # Errors
/// [`CheckError`], where there is no server to check. What a server does wrong is in the report.
pub async fn run(
    target: Target,
    options: Options,
    mut progress: impl FnMut(usize, usize),
) -> Result<Report, CheckError> {
    let started = SystemTime::now();
    let clock = Instant::now();
    let env = meet(target, options).await?;
    let selected: Vec<Case> = cases::all().into_iter().filter(|case| env.options.selects(case)).collect();
    let mut report = Report::new(&env.target, started, env.server.clone());
    report.cases = selected.iter().map(|case| Tested::new(case, rules::texts(&case.rules))).collect();
    let mut waiting = VecDeque::new();
    for (number, case) in selected.into_iter().enumerate() {
        for transport in case.transports.iter().filter(|transport| env.options.wants(*transport)) {
            if let Some(reason) = obstacle(&env, &case, transport) {
                report.cases[number].runs.push(Run::skipped(transport, reason));
            } else {
                waiting.push_back((number, case.clone(), transport));
            }
        }
    }
    if report.cases.is_empty() {
        return Err(CheckError::NothingToDo);
    }
    let (total, mut done) = (waiting.len(), 0);
    let mut running = JoinSet::new();
    loop {
        while running.len() < env.options.jobs.max(1) {
            let Some((number, case, transport)) = waiting.pop_front() else { break };
            let env = Arc::clone(&env);
            running.spawn(async move { (number, guarded(env, case, transport).await) });
        }
        let Some(ended) = running.join_next().await else { break };
        if let Ok((number, run)) = ended {
            report.cases[number].runs.push(run);
        }
        done += 1;
        progress(done, total);
    }
    report.finish(clock.elapsed());
    env.unanswered.end(env.options.timeout).await;
    Ok(report)
}

/// Finds out what the server offers.
async fn meet(target: Target, options: Options) -> Result<Arc<Env>, CheckError> {
    let dialer = Dialer::new(target.clone(), &options).map_err(CheckError::Setup)?;
    let random = getrandom::u64().map_err(|error| CheckError::Setup(io::Error::other(error)))?;
    let run = format!("{random:016x}");
    let (server, unanswered) = (Server::default(), Unanswered::default());
    let env = Env { target, options, dialer, server, unanswered, run };
    let server = probe(&Arc::new(env.clone())).await;
    if server.transports.is_empty() {
        return Err(CheckError::NoServer { target: env.target.to_string(), refusals: server.refusals });
    }
    Ok(Arc::new(Env { server, ..env }))
}

/// Why a case cannot be tried, if it cannot.
fn obstacle(env: &Env, case: &Case, transport: Transport) -> Option<String> {
    if !env.server.transports.contains(&transport) {
        return Some(format!("the server does not offer {}", transport.name()));
    }
    let need = case.need.filter(|need| !env.server.has(*need))?;
    Some(format!("the server does not take part in the extension {}", need.name()))
}

/// A case that panics is our mistake, and must not be mistaken for a server that passes.
async fn guarded(env: Arc<Env>, case: Case, transport: Transport) -> Run {
    let attempt = tokio::spawn(async move { attempt(&env, &case, transport).await });
    attempt.await.unwrap_or_else(|error| {
        let reason = format!("this suite has a bug, please report it: {error}");
        Run { transport, verdict: Verdict::Failed { reason, transcript: Vec::new() }, millis: 0, expected: None }
    })
}

async fn attempt(env: &Arc<Env>, case: &Case, transport: Transport) -> Run {
    let log = Log::new();
    let clock = Instant::now();
    let cx = Cx::new(env, transport, &case.id, log.clone());
    let verdict = match tokio::time::timeout(limit(env, case), (case.body)(&cx)).await {
        Ok(outcome) => verdict(outcome, &log),
        Err(_) => {
            let reason = format!("the case did not end within {}", human(limit(env, case)));
            verdict(Err(Stop::Failed(reason)), &log)
        }
    };
    Run { transport, verdict, millis: clock.elapsed().as_millis() as u64, expected: None }
}

fn verdict(outcome: Outcome, log: &Log) -> Verdict {
    match outcome {
        Ok(()) => Verdict::Passed,
        Err(Stop::Skipped(reason)) => Verdict::Skipped { reason },
        Err(Stop::Failed(reason)) => Verdict::Failed { reason, transcript: log.lines() },
    }
}

/// A case waits for many answers, each of which has its own time, and for held connects now and then. This is for what
/// goes on for ever, not for servers that are slow.
fn limit(env: &Env, case: &Case) -> Duration {
    let steps = env.options.timeout * 30 + env.server.timeout() * 3;
    if case.slow { steps + Duration::from_secs(60) } else { steps }
}
