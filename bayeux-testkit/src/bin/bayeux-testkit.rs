//! `bayeux-testkit simulate`: runs from seeds, checked against the model, made small where they fail.

#![allow(clippy::print_stdout, reason = "it is a command, and this is its output")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bayeux_testkit::swarm::{Failure, Plan, Stats, run, run_traced, shrink};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Options::parse(&arguments) {
        Ok(options) => {
            // What a run panics about is told with its seed.
            panic::set_hook(Box::new(|_| {}));
            options.carry_out()
        }
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

const USAGE: &str = "\
usage: bayeux-testkit simulate [--seeds N] [--from S] [--minutes M]   many runs, each from its seed, until one fails
       bayeux-testkit simulate --keep-going [--seeds N] ...           all of them; what fails is counted by what is broken
       bayeux-testkit simulate --seed S                               one run, and all that happens in it
       bayeux-testkit simulate --script FILE                          the same from a plan in text";

/// What to do.
enum Options {
    Many { from: u64, seeds: u64, time: Option<Duration>, keep_going: bool },
    One(Box<Plan>),
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let [command, rest @ ..] = arguments else { return Err("there is no command".to_owned()) };
        if command != "simulate" {
            return Err(format!("there is no command {command:?}"));
        }
        let (mut from, mut seeds, mut time) = (0, None, None);
        let keep_going = rest.iter().any(|argument| argument == "--keep-going");
        let rest: Vec<_> = rest.iter().filter(|argument| *argument != "--keep-going").collect();
        for pair in rest.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} needs a value", pair[0])) };
            let number = || value.parse::<u64>().map_err(|_| format!("{name}: {value:?} is no number"));
            match name.as_str() {
                "--from" => from = number()?,
                "--seeds" => seeds = Some(number()?),
                "--minutes" => time = Some(Duration::from_secs(60 * number()?)),
                "--seed" => return Ok(Self::One(Box::new(Plan::from_seed(number()?)))),
                "--script" => {
                    let text = std::fs::read_to_string(value).map_err(|error| format!("{value}: {error}"))?;
                    return text
                        .parse()
                        .map(|plan| Self::One(Box::new(plan)))
                        .map_err(|error| format!("{value}: {error}"));
                }
                _ => return Err(format!("there is no option {name}")),
            }
        }
        // With a time and no number, the time alone is the limit.
        let seeds = seeds.unwrap_or_else(|| if time.is_some() { u64::MAX - from } else { 1_000 });
        Ok(Self::Many { from, seeds, time, keep_going })
    }

    fn carry_out(self) -> ExitCode {
        match self {
            Self::Many { from, seeds, time, keep_going } => many(from, seeds, time, keep_going),
            Self::One(plan) => one(&plan),
        }
    }
}

fn many(from: u64, seeds: u64, time: Option<Duration>, keep_going: bool) -> ExitCode {
    let begin = Instant::now();
    let mut all = Stats::default();
    let mut count = 0;
    let mut broken: BTreeMap<String, (Vec<u64>, Failure)> = BTreeMap::new();
    for seed in from..from.saturating_add(seeds) {
        if time.is_some_and(|time| begin.elapsed() >= time) {
            break;
        }
        let plan = Plan::from_seed(seed);
        match run(&plan) {
            Ok(stats) => all = all.plus(stats),
            Err(failure) if keep_going => {
                broken.entry(failure.rule().to_owned()).or_insert((Vec::new(), failure)).0.push(seed);
            }
            Err(failure) => {
                print!("{}", report(&plan, &failure));
                return ExitCode::FAILURE;
            }
        }
        count += 1;
    }
    println!("seeds           {count}, from {from}, in {:.1} s", begin.elapsed().as_secs_f64());
    println!("{all}");
    for (seeds, failure) in broken.values() {
        println!("{} times, first with seed {}: {failure}", seeds.len(), seeds[0]);
        if seeds.len() > 1 {
            println!("and with          {:?}", &seeds[1..]);
        }
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(plan: &Plan) -> ExitCode {
    print!("{plan}");
    match run_traced(plan, usize::MAX) {
        Ok((stats, trace)) => {
            println!("\n{}\n{stats}\ndigest          {:016x}", trace.text, trace.digest);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("\n{}\nFAILED: {failure}", failure.trace);
            ExitCode::FAILURE
        }
    }
}

/// All that is needed to understand a failure and to repeat it.
fn report(plan: &Plan, failure: &Failure) -> String {
    let mut text = String::new();
    let seed = plan.seed;
    let _ = writeln!(text, "FAILED: {failure}\nseed {seed}, commit {}", env!("BAYEUX_COMMIT"));
    let _ = writeln!(text, "to repeat: cargo run -p bayeux-testkit --release -- simulate --seed {seed}");
    let shrunk = shrink(plan, SHRINK_TRIES);
    let _ = writeln!(
        text,
        "\nthe smallest plan that fails likewise, of {} steps after {} tries, for `simulate --script FILE`:\n\n{}",
        shrunk.plan.steps.len(),
        shrunk.tries,
        shrunk.plan
    );
    let trace = run_traced(&shrunk.plan, TRACE_LINES).err().map(|failure| failure.trace).unwrap_or_default();
    let _ = writeln!(text, "its end:\n\n{trace}\n{}", shrunk.failure);
    text
}

/// Plans tried to make a failing one small: a few seconds' worth.
const SHRINK_TRIES: usize = 3_000;

/// How much of the smallest run is told.
const TRACE_LINES: usize = 40;
