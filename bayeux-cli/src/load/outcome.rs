//! What a run found, in the form in which it is written as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::crew::{Latencies, Reasons, histogram};
use super::options::Options;
use super::plan::{Mode, Pace, Plan};
use super::proc::Usage;
use super::shared::{Count, Counts};
use super::worker::Findings;

/// What the coordinator knows of a run.
#[derive(Debug)]
pub(crate) struct Parts {
    /// How long it took to make the sessions.
    pub(crate) joined: Duration,
    /// Length of the measured phase, up to the last delivery or reply.
    pub(crate) elapsed: Duration,
    /// Counts of the measured phase.
    pub(crate) measured: Counts,
    /// Counts of the whole run.
    pub(crate) counts: Counts,
    /// Whether all that was owed came in time.
    pub(crate) drained: bool,
    /// The server before there were sessions.
    pub(crate) before: Option<Usage>,
    /// The server with sessions, before anything was published.
    pub(crate) with_sessions: Option<Usage>,
    /// The server before and after the measured phase.
    pub(crate) usage: Option<(Usage, Usage)>,
}

/// A run's result. `docs/load.md` explains each figure.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    schema: u32,
    /// What was run.
    pub(crate) run: RunInfo,
    /// Its sessions.
    pub(crate) sessions: Sessions,
    /// What was checked, of the whole run.
    pub(crate) verified: Verified,
    /// What was measured after the warm-up.
    pub(crate) measured: Measured,
    /// Times in microseconds.
    pub(crate) latency_us: LatencySummary,
    /// The server's processes.
    pub(crate) server: Option<ServerUse>,
    /// The generator itself.
    pub(crate) generator: GeneratorUse,
    /// Why sessions ended and publishes were refused.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// Why the figures may not be the server's.
    pub(crate) warnings: Vec<String>,
    /// Why the run failed.
    pub(crate) failures: Vec<String>,
    #[serde(skip)]
    pub(crate) latencies: Latencies,
}

/// See [`Outcome::run`].
#[derive(Debug, Serialize)]
pub(crate) struct RunInfo {
    pub(crate) generator: String,
    pub(crate) url: String,
    pub(crate) mode: &'static str,
    pub(crate) transport: &'static str,
    pub(crate) ack: bool,
    pub(crate) clients: u32,
    pub(crate) publishers: u32,
    pub(crate) rooms: u32,
    pub(crate) rooms_per_client: u32,
    pub(crate) batch_size: u32,
    pub(crate) message_size: usize,
    pub(crate) randomize: bool,
    /// Batches of each publisher under way, in a closed loop.
    pub(crate) window: Option<u32>,
    /// Messages that were to be published each second, with a schedule.
    pub(crate) rate: Option<f64>,
    pub(crate) threads: u32,
}

/// See [`Outcome::sessions`].
#[derive(Debug, Serialize)]
pub(crate) struct Sessions {
    pub(crate) joined: u64,
    pub(crate) join_seconds: f64,
    pub(crate) ended: u64,
    pub(crate) broken: u64,
    pub(crate) reopened_connections: u64,
}

/// See [`Outcome::verified`].
#[derive(Debug, Serialize)]
pub(crate) struct Verified {
    pub(crate) published: u64,
    pub(crate) replied: u64,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    pub(crate) unsent: u64,
    pub(crate) owed: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) lost_of_ended_sessions: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    pub(crate) overtaken: u64,
    pub(crate) stray: u64,
    pub(crate) foreign: u64,
}

/// See [`Outcome::measured`].
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) published_per_second: f64,
    pub(crate) delivered_per_second: f64,
    pub(crate) deliveries_per_body: Option<f64>,
    pub(crate) received_mib_per_second: f64,
    pub(crate) sent_mib_per_second: f64,
}

/// See [`Outcome::latency_us`].
#[derive(Debug, Serialize)]
pub(crate) struct LatencySummary {
    pub(crate) delivery: Option<Percentiles>,
    pub(crate) reply: Option<Percentiles>,
    pub(crate) lateness: Option<Percentiles>,
}

/// A distribution in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// See [`Outcome::server`].
#[derive(Debug, Serialize)]
pub(crate) struct ServerUse {
    pub(crate) cpu_user_seconds: f64,
    pub(crate) cpu_system_seconds: f64,
    pub(crate) cores: f64,
    pub(crate) cpu_us_per_delivery: Option<f64>,
    pub(crate) cpu_us_per_publish: Option<f64>,
    pub(crate) resident_kib_before: u64,
    pub(crate) resident_kib_with_sessions: u64,
    pub(crate) resident_kib_after: u64,
    pub(crate) proportional_kib_before: Option<u64>,
    pub(crate) proportional_kib_with_sessions: Option<u64>,
    /// By the proportional figure where there is one.
    pub(crate) kib_per_session: f64,
}

/// See [`Outcome::generator`].
#[derive(Debug, Serialize)]
pub(crate) struct GeneratorUse {
    /// Of one core, of each thread.
    pub(crate) cpu_per_thread: Vec<f64>,
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// Turns of the threads' loops, in microseconds.
    pub(crate) turn_us: Option<Percentiles>,
}

/// A thread that is busier than this may be what limits the figures.
const BUSY: f64 = 0.9;
/// What is sent so much late, or noticed so late, distorts the latencies.
const LATE_US: f64 = 1000.0;
/// Half of the messages should not be that late.
const TURN_US: f64 = 10_000.0;

impl Outcome {
    /// Puts together what is known.
    pub(crate) fn new(options: &Options, plan: &Plan, parts: Parts, findings: Vec<Findings>) -> Self {
        let mut latencies = Latencies::default();
        let mut turns = histogram();
        let mut reasons = Reasons::default();
        let (mut lost, mut lost_of_ended, mut unanswered, mut cpu) = (0, 0, 0, Vec::new());
        for finding in findings {
            add(&mut latencies.delivery, &finding.latencies.delivery);
            add(&mut latencies.reply, &finding.latencies.reply);
            add(&mut latencies.lateness, &finding.latencies.lateness);
            add(&mut turns, &finding.effort.turns);
            lost += finding.lost;
            lost_of_ended += finding.lost_of_ended;
            unanswered += finding.unanswered;
            cpu.extend(finding.effort.cpu);
            reasons.merge(finding.reasons);
        }
        let Parts { counts, measured, elapsed, .. } = &parts;
        let scheduled = matches!(plan.shape().pace, Pace::Scheduled { .. });
        let mut outcome = Self {
            schema: 1,
            run: RunInfo::new(options, plan),
            sessions: Sessions {
                joined: counts[Count::Ready],
                join_seconds: parts.joined.as_secs_f64(),
                ended: counts[Count::Ended],
                broken: counts[Count::Broken],
                reopened_connections: counts[Count::Reopened],
            },
            verified: Verified {
                published: counts[Count::Published],
                replied: counts[Count::Replied],
                refused: counts[Count::Refused],
                unanswered,
                unsent: counts[Count::Unsent],
                owed: counts[Count::Owed],
                delivered: counts[Count::Delivered],
                lost,
                lost_of_ended_sessions: lost_of_ended,
                doubled: counts[Count::Doubled],
                reordered: counts[Count::Reordered],
                overtaken: counts[Count::Overtaken],
                stray: counts[Count::Stray],
                foreign: counts[Count::Foreign],
            },
            measured: Measured::new(measured, *elapsed),
            latency_us: LatencySummary {
                delivery: Percentiles::of(&latencies.delivery),
                reply: Percentiles::of(&latencies.reply),
                lateness: Percentiles::of(&latencies.lateness).filter(|_| scheduled),
            },
            server: ServerUse::new(&parts),
            generator: GeneratorUse {
                cpu_us_per_delivery: per(cpu.iter().sum(), measured[Count::Delivered]),
                cpu_per_thread: cpu.iter().map(|cpu| ratio(cpu.as_secs_f64(), elapsed.as_secs_f64())).collect(),
                turn_us: Percentiles::of(&turns),
            },
            reasons: reasons.0,
            warnings: Vec::new(),
            failures: Vec::new(),
            latencies,
        };
        outcome.warnings = outcome.warn(parts.drained);
        outcome.failures = outcome.fail(options);
        outcome
    }

    fn warn(&self, drained: bool) -> Vec<String> {
        let mut warnings = Vec::new();
        let busiest = self.generator.cpu_per_thread.iter().copied().fold(0.0, f64::max);
        if busiest > BUSY {
            let percent = busiest * 100.0;
            warnings.push(format!(
                "the generator was the bottleneck: a thread used {percent:.0} % of a core; give it more --threads"
            ));
        }
        if let Some(late) = self.latency_us.lateness.as_ref().filter(|late| late.p99 > LATE_US) {
            warnings.push(format!(
                "the schedule was not kept: one message in a hundred was sent {:.1} ms late or more",
                late.p99 / 1000.0
            ));
        }
        if let Some(turns) = self.generator.turn_us.as_ref().filter(|turns| turns.p99 > TURN_US) {
            warnings.push(format!(
                "the generator noticed some messages late: one turn in a hundred took {:.1} ms or more",
                turns.p99 / 1000.0
            ));
        }
        if !drained {
            warnings.push("not everything that was owed came in time; see --drain".to_owned());
        }
        warnings
    }

    fn fail(&self, options: &Options) -> Vec<String> {
        let Verified { refused, unanswered, unsent, lost, lost_of_ended_sessions, .. } = self.verified;
        let Verified { doubled, reordered, stray, .. } = self.verified;
        let Sessions { ended, broken, .. } = self.sessions;
        let mut failures: Vec<(u64, &str)> = vec![
            (lost, "deliveries lost"),
            (doubled, "deliveries doubled"),
            (reordered, "deliveries out of order"),
            (stray, "deliveries that nobody asked for"),
            (refused, "publishes refused"),
            (unanswered, "publishes without a reply"),
        ];
        if !options.tolerant {
            failures.extend([
                (ended, "sessions ended by the server"),
                (broken, "sessions with a broken connection"),
                (unsent, "messages not sent, since their session was gone"),
                (lost_of_ended_sessions, "deliveries lost with their session"),
            ]);
        }
        failures.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

impl RunInfo {
    fn new(options: &Options, plan: &Plan) -> Self {
        let shape = plan.shape();
        let (window, rate) = match shape.pace {
            _ if shape.mode == Mode::Idle => (None, None),
            Pace::Closed { window } => (Some(window), None),
            Pace::Scheduled { period } => (None, Some(1e9 * f64::from(shape.batch_size) / period as f64)),
        };
        Self {
            generator: concat!("bayeux ", env!("CARGO_PKG_VERSION")).to_owned(),
            url: options.url.clone(),
            mode: shape.mode.name(),
            transport: options.transport.name(),
            ack: options.ack,
            clients: shape.clients,
            publishers: plan.publishers(),
            rooms: shape.rooms,
            rooms_per_client: shape.rooms_per_client,
            batch_size: shape.batch_size,
            message_size: shape.message_size,
            randomize: shape.randomize,
            window,
            rate,
            threads: options.threads,
        }
    }
}

impl Measured {
    fn new(counts: &Counts, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        let rate = |count: Count| ratio(counts[count] as f64, seconds);
        let bodies = counts[Count::Bodies];
        Self {
            seconds,
            published: counts[Count::Published],
            delivered: counts[Count::Delivered],
            published_per_second: rate(Count::Published),
            delivered_per_second: rate(Count::Delivered),
            deliveries_per_body: (bodies > 0).then(|| ratio(counts[Count::Delivered] as f64, bodies as f64)),
            received_mib_per_second: rate(Count::BytesIn) / f64::from(1 << 20),
            sent_mib_per_second: rate(Count::BytesOut) / f64::from(1 << 20),
        }
    }
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            min: micros(histogram.min()),
            mean: histogram.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(histogram.max()),
        })
    }
}

impl ServerUse {
    fn new(parts: &Parts) -> Option<Self> {
        let (start, end) = parts.usage?;
        let (before, with_sessions) = parts.before.zip(parts.with_sessions)?;
        let user = end.user.saturating_sub(start.user);
        let system = end.system.saturating_sub(start.system);
        let memory = |usage: &Usage| usage.proportional.unwrap_or(usage.resident) as f64;
        let added = memory(&with_sessions) - memory(&before);
        Some(Self {
            cpu_user_seconds: user.as_secs_f64(),
            cpu_system_seconds: system.as_secs_f64(),
            cores: ratio((user + system).as_secs_f64(), parts.elapsed.as_secs_f64()),
            cpu_us_per_delivery: per(user + system, parts.measured[Count::Delivered]),
            cpu_us_per_publish: per(user + system, parts.measured[Count::Published]),
            resident_kib_before: before.resident / 1024,
            resident_kib_with_sessions: with_sessions.resident / 1024,
            resident_kib_after: end.resident / 1024,
            proportional_kib_before: before.proportional.map(|bytes| bytes / 1024),
            proportional_kib_with_sessions: with_sessions.proportional.map(|bytes| bytes / 1024),
            kib_per_session: ratio(added / 1024.0, parts.counts[Count::Ready] as f64),
        })
    }
}

/// Microseconds of each.
fn per(time: Duration, count: u64) -> Option<f64> {
    (count > 0).then(|| time.as_secs_f64() * 1e6 / count as f64)
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn add(sum: &mut Histogram<u64>, part: &Histogram<u64>) {
    sum.add(part).expect("all histograms have the same bounds");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::options::command;
    use crate::load::worker::Effort;

    /// A second's run of one thread that was busy for `busy` of it, with turns and lateness of so many microseconds.
    fn outcome(busy: f64, turn_us: u64, late_us: u64, drained: bool, counted: &[(Count, u64)]) -> Outcome {
        let arguments = ["load", "http://localhost/", "--mode", "fanout", "--rate", "100"];
        let options = Options::new(&command().try_get_matches_from(arguments).expect("they are right"));
        let plan = Plan::new(options.shape.clone(), "/load", 1).expect("a plan");
        let mut counts = Counts::default();
        for (count, number) in counted {
            counts[*count] = *number;
        }
        let parts = Parts {
            joined: Duration::ZERO,
            elapsed: Duration::from_secs(1),
            measured: counts,
            counts,
            drained,
            before: Some(Usage::default()),
            with_sessions: Some(Usage { resident: 8 << 20, proportional: Some(4 << 20), ..Usage::default() }),
            usage: Some((Usage::default(), Usage { user: Duration::from_millis(500), ..Usage::default() })),
        };
        let mut findings = Findings {
            latencies: Latencies::default(),
            reasons: Reasons::default(),
            lost: 0,
            lost_of_ended: 0,
            unanswered: 0,
            effort: Effort { cpu: Some(Duration::from_secs_f64(busy)), turns: histogram() },
        };
        findings.effort.turns.record(turn_us * 1000).expect("within the bounds");
        findings.latencies.lateness.record(late_us * 1000).expect("within the bounds");
        Outcome::new(&options, &plan, parts, vec![findings])
    }

    #[test]
    fn what_makes_the_figures_doubtful_is_a_warning() {
        assert_eq!(outcome(0.8, 100, 100, true, &[]).warnings, [""; 0]);
        for (outcome, warning) in [
            (outcome(0.95, 100, 100, true, &[]), "the generator was the bottleneck: a thread used 95 %"),
            (outcome(0.1, 20_000, 100, true, &[]), "the generator noticed some messages late"),
            (outcome(0.1, 100, 2000, true, &[]), "the schedule was not kept"),
            (outcome(0.1, 100, 100, false, &[]), "not everything that was owed came in time"),
        ] {
            assert!(outcome.warnings.len() == 1 && outcome.warnings[0].starts_with(warning), "{:?}", outcome.warnings);
        }
    }

    #[test]
    fn figures_are_divided_by_what_they_are_of() {
        let counted = [(Count::Ready, 100), (Count::Published, 50), (Count::Delivered, 5000), (Count::Bodies, 2500)];
        let outcome = outcome(0.1, 1, 1, true, &counted);
        assert_eq!(outcome.measured.delivered_per_second, 5000.0);
        assert_eq!(outcome.measured.deliveries_per_body, Some(2.0));
        let server = outcome.server.expect("it was measured");
        assert_eq!((server.cpu_us_per_delivery, server.cpu_us_per_publish), (Some(100.0), Some(10_000.0)));
        assert_eq!(server.kib_per_session, 40.96, "by the proportional figure");
        assert_eq!(outcome.generator.cpu_us_per_delivery, Some(20.0));
    }

    #[test]
    fn every_fault_is_a_failure() {
        for count in [Count::Doubled, Count::Reordered, Count::Stray, Count::Refused, Count::Ended, Count::Broken] {
            assert_eq!(outcome(0.1, 1, 1, true, &[(count, 1)]).failures.len(), 1, "{count:?}");
        }
        for count in [Count::Overtaken, Count::Foreign, Count::Reopened] {
            assert_eq!(outcome(0.1, 1, 1, true, &[(count, 1)]).failures, [""; 0], "{count:?}");
        }
    }
}
