//! `bayeux load` against a server that is right, and across a network that makes it look wrong: whatever is lost,
//! doubled or out of order must be noticed, or the figures of every other run are worth nothing.

#[path = "load/proxy.rs"]
mod proxy;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bayeux_cli::{options, serve};
use bayeux_proto::ChannelName;
use bayeux_server::{Asked, Policy, Questions, Server, ServerBuilder, Verdict};
use proxy::Harm;
use serde_json::Value;
use tokio::sync::oneshot;

/// A server in this process, on a thread of its own.
struct Served {
    address: SocketAddr,
    server: Server,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start() -> Self {
        Self::customised(&[], |server| server)
    }

    fn customised(
        flags: &[&'static str],
        customise: impl FnOnce(ServerBuilder) -> ServerBuilder + Send + 'static,
    ) -> Self {
        let flags = ["serve", "--listen=127.0.0.1:0", "--shards=2"].iter().chain(flags);
        let matches = options::command().try_get_matches_from(flags).expect("these flags exist");
        let settings = options::load(&matches, std::iter::empty()).expect("these options are valid").settings;
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let running = serve::start(settings, customise).await.expect("a server");
                tell.send((running.addresses()[0], running.server().clone())).expect("the test waits");
                let _ = stopped.await;
                running.stop().await;
            });
        });
        let (address, server) = told.recv_timeout(Duration::from_secs(20)).expect("it starts");
        Self { address, server, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a run said.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    /// Its JSON, where it wrote any.
    json: Value,
}

impl Ran {
    fn number(&self, pointer: &str) -> f64 {
        let value = self.json.pointer(pointer).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("{pointer} in {}\n{}{}", self.json, self.stdout, self.stderr))
    }

    fn assert_succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    fn assert_failed_for(&self, failure: &str) -> &Self {
        assert_eq!(self.code, Some(1), "{}{}", self.stdout, self.stderr);
        let failures = self.json["failures"].as_array().expect("failures");
        assert!(failures.iter().any(|found| found == failure), "{failure:?} in {failures:?}");
        assert!(self.stdout.contains(&format!("FAILED      {failure}")), "{}", self.stdout);
        self
    }
}

fn load(url: &str, arguments: &str) -> Ran {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("load-{}-{run}.json", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_bayeux"))
        .args(["load", url, "--warmup", "100ms", "--drain", "10s"])
        .args(arguments.split_whitespace())
        .arg("--json")
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let json = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let _ = std::fs::remove_file(&file);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr), json }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/cometd")
}

#[test]
fn every_mode_delivers_everything_over_both_transports() {
    let served = Served::start();
    for transport in ["websocket", "long-polling", "websocket --ack", "long-polling --ack"] {
        for (mode, sessions) in [
            ("benchmark --clients 30 --rooms 8 --rooms-per-client 3 --batches 20 --batch-pause 2000", 30.0),
            ("fanout --clients 20 --publishers 2 --batches 30 --window 3 --batch-size 2", 22.0),
            ("rooms --clients 20 --rooms 4 --batches 60 --threads 2", 20.0),
            ("echo --clients 10 --batches 100 --threads 3", 10.0),
            ("idle --clients 10 --duration 200ms --settle 100ms", 10.0),
        ] {
            let ran = load(&url(served.address), &format!("--transport {transport} --mode {mode}"));
            ran.assert_succeeded();
            assert_eq!(ran.number("/sessions/joined"), sessions, "{transport} {mode}");
            assert_eq!(ran.number("/verified/delivered"), ran.number("/verified/owed"), "{transport} {mode}");
            assert_eq!(ran.number("/verified/replied"), ran.number("/verified/published"), "{transport} {mode}");
            if !mode.starts_with("idle") {
                assert!(ran.number("/measured/delivered") > 0.0, "{transport} {mode}");
                assert_eq!(ran.number("/latency_us/delivery/count"), ran.number("/measured/delivered"));
            }
        }
    }
}

#[test]
fn counted_batches_are_all_that_is_published() {
    let served = Served::start();
    for pace in ["--rate 2000", "--batch-pause 500", "--window 2"] {
        let ran = load(&url(served.address), &format!("--mode rooms --clients 8 --batches 50 --batch-size 3 {pace}"));
        assert_eq!(ran.assert_succeeded().number("/measured/published"), 150.0, "{pace}");
    }
}

#[test]
fn threads_without_a_publisher_serve_their_subscribers() {
    let served = Served::start();
    for pace in ["--rate 100 --duration 500ms", "--rate 100 --batches 20", "--window 2 --batches 20"] {
        let ran = load(&url(served.address), &format!("--mode fanout --clients 6 --threads 3 {pace}"));
        assert!(ran.assert_succeeded().number("/measured/delivered") >= 120.0, "{pace}");
    }
}

#[test]
fn a_lost_delivery_is_noticed() {
    let served = Served::start();
    let proxy = proxy::websocket(served.address, Harm::Drop(70));
    let ran = load(&url(proxy), "--mode fanout --clients 5 --rate 200 --batches 40 --drain 1s");
    ran.assert_failed_for("1 deliveries lost");
    let ran = load(&url(proxy::websocket(served.address, Harm::Drop(70))), "--mode echo --clients 2 --drain 1s");
    ran.assert_failed_for("1 deliveries lost");
}

#[test]
fn a_doubled_delivery_is_noticed() {
    let served = Served::start();
    let proxy = proxy::websocket(served.address, Harm::Double(70));
    load(&url(proxy), "--mode fanout --clients 5 --rate 200 --batches 40").assert_failed_for("1 deliveries doubled");
}

#[test]
fn deliveries_out_of_order_are_noticed() {
    let served = Served::start();
    let proxy = proxy::websocket(served.address, Harm::Swap(70));
    let ran = load(&url(proxy), "--mode fanout --clients 5 --rate 200 --batches 40");
    ran.assert_failed_for("1 deliveries out of order");
    assert_eq!(ran.number("/verified/lost"), 0.0);
}

#[test]
fn a_broken_connection_fails_the_run_unless_it_may() {
    let served = Served::start();
    let options = "--mode fanout --clients 5 --rate 200 --batches 40 --drain 1s";
    let ran = load(&url(proxy::websocket(served.address, Harm::Cut(70))), options);
    ran.assert_failed_for("1 sessions with a broken connection");
    assert!(ran.number("/verified/lost_of_ended_sessions") > 0.0);
    assert_eq!(ran.json["reasons"]["connection closed by the server"], 1);
    let tolerant = format!("{options} --tolerate-breaks");
    load(&url(proxy::websocket(served.address, Harm::Cut(70))), &tolerant).assert_succeeded();
}

#[test]
fn a_session_that_the_server_ends_fails_the_run_unless_it_may() {
    let publishes = Arc::new(AtomicU32::new(0));
    let seen = publishes.clone();
    let served = Served::customised(&[], |server| server.policy(Publishes { seen, allowed: u32::MAX }));
    for (transport, tolerate, code) in
        [("websocket", "", 1), ("long-polling", "", 1), ("websocket", "--tolerate-breaks", 0)]
    {
        let options =
            format!("--mode echo --clients 5 --rate 50 --duration 2s --drain 1s --transport {transport} {tolerate}");
        let ran = std::thread::scope(|scope| {
            let ran = scope.spawn(|| load(&url(served.address), &options));
            // In the middle of it: half a second's worth has been published.
            let before = publishes.load(Ordering::Relaxed);
            while publishes.load(Ordering::Relaxed) < before + 25 {
                assert!(!ran.is_finished(), "{}", ran.join().expect("a run").stderr);
                std::thread::sleep(Duration::from_millis(5));
            }
            served.server.sessions()[0].disconnect();
            ran.join().expect("a run")
        });
        assert_eq!(ran.code, Some(code), "{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.number("/sessions/ended"), 1.0, "{}", ran.stdout);
        assert_eq!(ran.number("/verified/lost"), 0.0, "{}", ran.stdout);
        assert!(ran.number("/verified/unsent") > 0.0, "{}", ran.stdout);
    }
}

/// The advised interval between connects is kept: what is published meanwhile waits.
#[test]
fn polling_at_an_interval_delivers_everything_later() {
    let served = Served::customised(&["--interval=50ms"], |server| server);
    let ran = load(&url(served.address), "--mode fanout --clients 3 --transport long-polling --rate 100 --batches 50");
    ran.assert_succeeded();
    assert!(ran.number("/latency_us/delivery/max") >= 30_000.0, "{}", ran.stdout);
    assert!(ran.number("/measured/deliveries_per_body") > 1.5, "{}", ran.stdout);
}

#[test]
fn chunks_and_connections_that_end_with_the_response_are_no_fault() {
    let served = Served::start();
    let address = proxy::one_response_per_connection(served.address);
    let ran = load(&url(address), "--mode rooms --clients 6 --rooms 2 --batches 40 --transport long-polling");
    ran.assert_succeeded();
    assert!(ran.number("/sessions/reopened_connections") >= 40.0, "{}", ran.stdout);
}

/// A server that does not answer for a while delays what is sent meanwhile, too. A generator that waits with it and
/// then measures from when it went on sending would see one slow message, not thirty.
#[test]
fn a_pause_of_the_server_is_in_the_latencies_of_all_that_was_due() {
    let served = Served::start();
    let pause = Duration::from_millis(600);
    // The warm-up has some ten of the deliveries.
    let proxy = proxy::websocket(served.address, Harm::Stall(50, pause));
    let ran = load(&url(proxy), "--mode echo --clients 1 --rate 100 --batches 100");
    ran.assert_succeeded();
    assert!(ran.number("/latency_us/delivery/max") >= 580_000.0, "{}", ran.stdout);
    // Of a hundred messages sixty fell into the pause; the ones in its first half waited for more than half of it.
    assert!(ran.number("/latency_us/delivery/p90") >= 300_000.0, "{}", ran.stdout);
}

/// Counts publishes, and allows so many.
struct Publishes {
    seen: Arc<AtomicU32>,
    allowed: u32,
}

impl Policy for Publishes {
    fn questions(&self) -> Questions {
        Questions::PUBLISH
    }

    async fn can_publish(&self, _: ChannelName, _: Asked) -> Verdict {
        if self.seen.fetch_add(1, Ordering::Relaxed) < self.allowed { Verdict::allow() } else { Verdict::deny() }
    }
}

#[test]
fn a_refused_publish_is_owed_to_nobody() {
    let served = Served::customised(&[], |server| server.policy(Publishes { seen: Arc::default(), allowed: 3 }));
    let ran = load(&url(served.address), "--mode fanout --clients 4 --batches 10 --warmup 0 --window 2");
    ran.assert_failed_for("7 publishes refused");
    assert_eq!((ran.number("/verified/owed"), ran.number("/verified/lost")), (12.0, 0.0));
    let reasons = ran.json["reasons"].as_object().expect("reasons");
    assert!(reasons.keys().any(|reason| reason.starts_with("403:")), "{reasons:?}");
}

/// Nobody gets what is published to a service, although the server is pleased with it.
#[test]
fn deliveries_that_never_come_are_lost() {
    let served = Served::start();
    let options =
        "--mode rooms --clients 4 --rooms 2 --channel /service --rate 100 --batches 10 --warmup 0 --drain 500ms";
    let ran = load(&url(served.address), options);
    ran.assert_failed_for("20 deliveries lost");
    assert_eq!(ran.number("/verified/replied"), 10.0);
}

#[test]
fn the_servers_cost_is_measured() {
    let served = Served::start();
    let options = format!("--mode fanout --clients 20 --batches 200 --pid {}", std::process::id());
    let ran = load(&url(served.address), &options);
    ran.assert_succeeded();
    let cpu = ran.number("/server/cpu_user_seconds") + ran.number("/server/cpu_system_seconds");
    let share = cpu * 1e6 / ran.number("/measured/delivered");
    assert!((ran.number("/server/cpu_us_per_delivery") - share).abs() < 1e-6, "{}", ran.stdout);
    assert!(ran.number("/server/resident_kib_with_sessions") > 1000.0);
    let gone = load(&url(served.address), "--pid 4000000000");
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("4000000000"), "{}", gone.stderr);
}

#[test]
fn tls_is_spoken_with_certificates_that_are_trusted() {
    let served = Served::start();
    let address = proxy::tls(served.address);
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/ca.pem");
    let options = "--mode rooms --clients 6 --rooms 2 --batches 30";
    for (scheme, transport) in [("wss", "websocket"), ("https", "long-polling")] {
        let url = format!("{scheme}://127.0.0.1:{}/cometd", address.port());
        for trust in [format!("--ca {authority}"), "--insecure".to_owned()] {
            load(&url, &format!("{options} --transport {transport} {trust}")).assert_succeeded();
        }
    }
    // This is not the authority.
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/cert.pem");
    let ran = load(&format!("https://localhost:{}/cometd", address.port()), &format!("{options} --ca {other}"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("certificate"), "{}", ran.stderr);
}

#[test]
fn connections_start_at_the_addresses_that_are_given() {
    let served = Served::start();
    let options = "--mode echo --clients 6 --batches 20 --bind 127.0.0.1,127.0.0.2";
    // Only Linux has the whole of 127/8 without further ado.
    #[cfg(target_os = "linux")]
    load(&url(served.address), options).assert_succeeded();
    let other_family = load(&url(served.address), &options.replace("127.0.0.2", "::1"));
    assert_eq!(other_family.code, Some(2), "{}", other_family.stderr);
}

#[test]
fn what_cannot_work_is_said_in_one_line() {
    let served = Served::start();
    for (url, options, code, line) in [
        ("cometd", "", 2, "is not a URL"),
        ("http://127.0.0.1:1/cometd", "--clients 1", 1, "connection refused"),
        (&url(served.address).replace("cometd", "other"), "--clients 1", 1, "HTTP 404"),
        (&url(served.address), "--rooms 2 --rooms-per-client 3", 2, "3 rooms per client"),
        (&url(served.address), "--channel /** --clients 1", 1, "403:"),
    ] {
        let ran = load(url, options);
        assert_eq!(ran.code, Some(code), "{url} {options}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(line), "{url} {options}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
}

#[test]
fn an_unknown_option_is_not_explained_with_those_of_the_server() {
    let ran = load("http://localhost/", "--clientz 3");
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--clientz") && !ran.stderr.contains("--listen"), "{}", ran.stderr);
}

/// The guide explains each figure of the JSON.
#[test]
fn every_member_of_the_json_is_documented() {
    fn names(value: &Value, found: &mut Vec<String>) {
        let Some(members) = value.as_object() else { return };
        for (name, value) in members {
            found.push(name.clone());
            if name != "reasons" {
                names(value, found);
            }
        }
    }
    let served = Served::start();
    let svg = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("load-{}.svg", std::process::id()));
    let options = format!(
        "--mode rooms --clients 4 --rooms 2 --rate 100 --batches 10 --pid {} --svg {}",
        std::process::id(),
        svg.display()
    );
    let ran = load(&url(served.address), &options);
    let mut found = Vec::new();
    names(&ran.assert_succeeded().json, &mut found);
    assert!(found.len() > 60, "{found:?}");
    let guide = include_str!("../../docs/load.md");
    for name in found {
        assert!(guide.contains(&format!("`{name}`")), "{name}");
    }
    let chart = std::fs::read_to_string(&svg).expect("a chart");
    std::fs::remove_file(&svg).expect("it is there");
    assert!(chart.starts_with("<svg xmlns=") && chart.ends_with("</svg>\n"), "{chart}");
    assert_eq!(chart.matches("<polyline").count(), 2, "deliveries and replies");
    assert!(!chart.contains("NaN") && !chart.contains("inf"), "{chart}");
}
