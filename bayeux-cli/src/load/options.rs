//! The command line of `bayeux load`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::plan::{Mode, Pace, Shape, THREADS_MAX};
use super::target::{Transport, Trust};
use crate::options::duration;

/// Everything that a run is told.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The server.
    pub(crate) url: String,
    /// How it is spoken to.
    pub(crate) transport: Transport,
    /// Whether sessions ask for acknowledgement.
    pub(crate) ack: bool,
    /// The workload.
    pub(crate) shape: Shape,
    /// What channels begin with.
    pub(crate) channel: String,
    /// Threads of the generator.
    pub(crate) threads: u32,
    /// Addresses that connections start at.
    pub(crate) bind: Vec<IpAddr>,
    /// Batches of the measured phase; no limit where there is none.
    pub(crate) batches: Option<u64>,
    /// Length of the measured phase; no limit where there is none.
    pub(crate) duration: Option<Duration>,
    /// Length of the phase before it.
    pub(crate) warmup: Duration,
    /// How long what is owed is waited for while nothing comes.
    pub(crate) drain: Duration,
    /// How long the server's memory is left to settle, before and after there are sessions.
    pub(crate) settle: Duration,
    /// Processes of the server.
    pub(crate) pids: Vec<u32>,
    /// PEM file with the authorities to trust.
    pub(crate) ca: Option<PathBuf>,
    /// Whether any certificate will do.
    pub(crate) insecure: bool,
    /// Whether sessions may end and connections break.
    pub(crate) tolerant: bool,
    /// Where the result goes as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Where the chart of latencies goes.
    pub(crate) svg: Option<PathBuf>,
    /// Whether to say nothing while it runs.
    pub(crate) quiet: bool,
}

/// The command `load`.
pub(crate) fn command() -> Command {
    Command::new("load")
        .about("Puts load on a Bayeux server, and verifies and measures what comes of it")
        .args_override_self(true)
        .after_help(
            "Modes: benchmark is the workload of CometD's benchmark; fanout has publishers and many subscribers of one \
             channel; rooms has sessions that publish in their own room; echo has sessions that hear only themselves; \
             idle has sessions that only hold their connect.\n\nTimes take a unit: ms, s, m, h; a bare number is \
             milliseconds. The exit code is 0 if every subscriber got every message once and in order, 1 if not, 2 if \
             the options make no sense.",
        )
        .arg(Arg::new("url").value_name("URL").required(true).help("Endpoint of the server: http, https, ws or wss"))
        .args(workload())
        .args(pacing())
        .args(generator())
        .args(results())
}

fn workload() -> Vec<Arg> {
    let modes = Mode::ALL.map(Mode::name);
    vec![
        Arg::new("mode")
            .long("mode")
            .value_name("MODE")
            .value_parser(modes)
            .default_value("benchmark")
            .help("Workload, see below"),
        Arg::new("transport")
            .long("transport")
            .value_name("NAME")
            .value_parser(["websocket", "long-polling"])
            .default_value("websocket")
            .help("How the server is spoken to"),
        flag("ack", "Ask for acknowledged messages"),
        number("clients", "Sessions; with fanout, subscribers [default: 1000 benchmark and idle, else 100]"),
        number("publishers", "Publishers of fanout [default: 1]"),
        number("rooms", "Channels [default: 100 benchmark and idle, 10 rooms]"),
        number("rooms-per-client", "Subscriptions of each session [default: 10 benchmark, else 1]"),
        number("batch-size", "Messages in an envelope [default: 10 benchmark, else 1]"),
        Arg::new("message-size")
            .long("message-size")
            .value_name("BYTES")
            .value_parser(value_parser!(u32).range(0..=1 << 20))
            .default_value("50")
            .help("Length of the text in each message, to which some 200 bytes are added"),
        flag("randomize", "Draw who sends the next batch, rather than one after the other"),
        Arg::new("channel")
            .long("channel")
            .value_name("CHANNEL")
            .default_value("/load")
            .help("What channels begin with; the run's number and the room's follow"),
        Arg::new("seed").long("seed").value_name("N").value_parser(value_parser!(u64)).default_value("1").hide(true),
    ]
}

fn pacing() -> Vec<Arg> {
    vec![
        Arg::new("batches")
            .long("batches")
            .value_name("N")
            .value_parser(value_parser!(u64).range(1..))
            .help("Batches to measure [default: 1000 benchmark, else no limit]"),
        Arg::new("batch-pause")
            .long("batch-pause")
            .value_name("MICROSECONDS")
            .value_parser(value_parser!(u64))
            .conflicts_with_all(["rate", "window"])
            .help("A batch every so often; 0: a closed loop [default: 10000 benchmark, else 0]"),
        Arg::new("rate")
            .long("rate")
            .value_name("MESSAGES")
            .value_parser(value_parser!(u64).range(1..=100_000_000))
            .conflicts_with("window")
            .help("Messages to publish each second, by all publishers together, whatever happens"),
        number("window", "Closed loop: batches that each publisher has under way [default: 1]"),
        time("duration", "Length of the measured phase [default: 10s, or no limit with --batches]"),
        time("warmup", "Length of the same before it [default: 2s]"),
        time("drain", "How long to wait for what is owed while nothing comes [default: 10s]"),
        time("settle", "How long the server's memory may settle, in idle mode [default: 2s]"),
    ]
}

fn generator() -> Vec<Arg> {
    vec![
        Arg::new("threads")
            .long("threads")
            .value_name("N")
            .value_parser(value_parser!(u32).range(1..=i64::from(THREADS_MAX)))
            .default_value("1")
            .help("Threads of the generator"),
        Arg::new("bind")
            .long("bind")
            .value_name("ADDRESS,…")
            .value_delimiter(',')
            .value_parser(value_parser!(IpAddr))
            .help("Addresses of this machine to connect from in turn; each has some 28,000 ports"),
        Arg::new("ca")
            .long("ca")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Authorities to trust, PEM"),
        flag("insecure", "Take any certificate").conflicts_with("ca"),
        Arg::new("pid")
            .long("pid")
            .value_name("PID")
            .action(ArgAction::Append)
            .value_parser(value_parser!(u32))
            .help("Process of the server, to measure with those that it started; may be repeated"),
        flag("tolerate-breaks", "Do not fail because sessions end or connections break"),
    ]
}

fn results() -> Vec<Arg> {
    let file =
        |name, help| Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help);
    vec![
        file("json", "Write the result as JSON"),
        file("svg", "Write a chart of the latencies"),
        flag("quiet", "Say nothing while it runs"),
    ]
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn number(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u32).range(1..=10_000_000)).help(help)
}

fn time(name: &'static str, help: &'static str) -> Arg {
    let parser = |text: &str| duration(text).ok_or("not a time: 10s, 500ms");
    Arg::new(name).long(name).value_name("TIME").value_parser(parser).help(help)
}

impl Options {
    /// What the command line says.
    pub(crate) fn new(matches: &ArgMatches) -> Self {
        let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
        let time = |name: &str, default| matches.get_one(name).copied().unwrap_or_else(|| Duration::from_secs(default));
        let transport = match text("transport").as_str() {
            "long-polling" => Transport::LongPolling,
            _ => Transport::WebSocket,
        };
        let shape = shape(matches);
        let batches = matches.get_one("batches").copied().or_else(|| (shape.mode == Mode::Benchmark).then_some(1000));
        let duration = matches.get_one("duration").copied();
        let list = |name: &str| matches.get_many(name).into_iter().flatten().copied().collect();
        Self {
            url: text("url"),
            transport,
            ack: matches.get_flag("ack"),
            shape,
            channel: text("channel").trim_end_matches('/').to_owned(),
            threads: matches.get_one("threads").copied().unwrap_or(1),
            bind: list_of_addresses(matches),
            duration: duration.or_else(|| batches.is_none().then_some(Duration::from_secs(10))),
            batches,
            warmup: time("warmup", 2),
            drain: time("drain", 10),
            settle: time("settle", 2),
            pids: list("pid"),
            ca: matches.get_one("ca").cloned(),
            insecure: matches.get_flag("insecure"),
            tolerant: matches.get_flag("tolerate-breaks"),
            json: matches.get_one("json").cloned(),
            svg: matches.get_one("svg").cloned(),
            quiet: matches.get_flag("quiet"),
        }
    }

    /// How certificates are checked.
    pub(crate) fn trust(&self) -> Trust<'_> {
        match &self.ca {
            _ if self.insecure => Trust::Anyone,
            Some(file) => Trust::File(file),
            None => Trust::System,
        }
    }
}

fn list_of_addresses(matches: &ArgMatches) -> Vec<IpAddr> {
    matches.get_many("bind").into_iter().flatten().copied().collect()
}

fn shape(matches: &ArgMatches) -> Shape {
    let name = matches.get_one::<String>("mode").map_or("benchmark", String::as_str);
    let mode = Mode::ALL.into_iter().find(|mode| mode.name() == name).unwrap_or(Mode::Benchmark);
    let number = |name: &str, default: u32| matches.get_one(name).copied().unwrap_or(default);
    let many = matches!(mode, Mode::Benchmark | Mode::Idle);
    let benchmark = mode == Mode::Benchmark;
    let clients = number("clients", if many { 1000 } else { 100 });
    let rooms = match mode {
        Mode::Benchmark | Mode::Idle => number("rooms", 100),
        Mode::Rooms => number("rooms", 10),
        Mode::Fanout => 1,
        Mode::Echo => clients,
    };
    let rooms_per_client = match mode {
        Mode::Benchmark => number("rooms-per-client", 10),
        Mode::Rooms | Mode::Idle => number("rooms-per-client", 1),
        Mode::Fanout | Mode::Echo => 1,
    };
    let batch_size = number("batch-size", if benchmark { 10 } else { 1 });
    Shape {
        mode,
        clients,
        publishers: number("publishers", 1),
        rooms,
        rooms_per_client,
        batch_size,
        message_size: number("message-size", 50) as usize,
        randomize: matches.get_flag("randomize"),
        pace: pace(matches, batch_size, if benchmark { 10_000 } else { 0 }),
        seed: matches.get_one("seed").copied().unwrap_or(1),
    }
}

fn pace(matches: &ArgMatches, batch_size: u32, usual_pause: u64) -> Pace {
    if let Some(rate) = matches.get_one::<u64>("rate") {
        return Pace::Scheduled { period: (1_000_000_000 * u64::from(batch_size) / rate).max(1) };
    }
    let window = matches.get_one("window").copied();
    let pause = matches.get_one("batch-pause").copied().unwrap_or(usual_pause);
    match (window, pause) {
        (None, pause @ 1..) => Pace::Scheduled { period: pause.saturating_mul(1000) },
        (window, _) => Pace::Closed { window: window.unwrap_or(1) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        let arguments = ["load", "http://localhost/cometd"].iter().chain(arguments);
        Options::new(&command().try_get_matches_from(arguments).expect("they are right"))
    }

    #[test]
    fn the_defaults_are_those_of_the_benchmark() {
        let Options { shape, batches, duration, .. } = options(&[]);
        assert_eq!((shape.clients, shape.rooms, shape.rooms_per_client), (1000, 100, 10));
        assert_eq!((shape.batch_size, shape.message_size, batches, duration), (10, 50, Some(1000), None));
        assert_eq!(shape.pace, Pace::Scheduled { period: 10_000_000 });
    }

    #[test]
    fn the_pace_is_a_rate_or_a_pause_or_a_window() {
        let pace = |arguments: &[&str]| options(&[&["--mode", "fanout"], arguments].concat()).shape.pace;
        assert_eq!(pace(&[]), Pace::Closed { window: 1 });
        assert_eq!(pace(&["--window", "9"]), Pace::Closed { window: 9 });
        assert_eq!(pace(&["--batch-pause", "7"]), Pace::Scheduled { period: 7000 });
        assert_eq!(pace(&["--rate", "1000", "--batch-size", "5"]), Pace::Scheduled { period: 5_000_000 });
        assert_eq!(options(&["--window", "2"]).shape.pace, Pace::Closed { window: 2 });
        assert_eq!(options(&["--batch-pause", "0"]).shape.pace, Pace::Closed { window: 1 });
        let both = command().try_get_matches_from(["load", "http://x/", "--rate", "1", "--window", "1"]);
        assert!(both.is_err());
    }

    #[test]
    fn a_phase_ends_by_time_or_by_count() {
        let fanout = options(&["--mode", "fanout", "--clients", "7"]);
        assert_eq!((fanout.batches, fanout.duration), (None, Some(Duration::from_secs(10))));
        assert_eq!((fanout.shape.clients, fanout.shape.rooms), (7, 1));
        let counted = options(&["--mode", "echo", "--batches", "5"]);
        assert_eq!((counted.batches, counted.duration, counted.shape.rooms), (Some(5), None, 100));
        let both = options(&["--batches", "5", "--duration", "3s", "--pid", "4", "--pid", "5"]);
        assert_eq!((both.batches, both.duration, both.pids), (Some(5), Some(Duration::from_secs(3)), vec![4, 5]));
    }
}
