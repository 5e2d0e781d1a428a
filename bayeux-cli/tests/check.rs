//! The conformance suite of `bayeux check`, judged: our own server keeps every promise of it, and a server that breaks a
//! rule on purpose fails exactly the cases of that rule.

mod broken;
mod tls;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bayeux_cli::options;
use bayeux_cli::serve::{self, Running};
use bayeux_testkit::conformance::{CheckError, Options, Profile, Report, Target, Transport, Verdict, catalogue, run};
use broken::breakages::{BREAKAGES, Breakage};
use broken::{HONEST, Proxy};
use tokio::task::JoinSet;

/// So that no session ends because a busy machine keeps its client waiting.
const PATIENT: &[&str] = &["--max-interval=5m"];

async fn start(flags: &[&str]) -> (Running, SocketAddr) {
    let flags = [&["serve", "--listen=127.0.0.1:0", "--shards=2", "--callback-polling"], flags].concat();
    let matches = options::command().try_get_matches_from(flags).expect("these flags exist");
    let settings = options::load(&matches, std::iter::empty()).expect("these options are valid").settings;
    let running = serve::start(settings, |server| server).await.expect("a server");
    let address = running.addresses()[0];
    (running, address)
}

fn everything() -> Options {
    let mut options = Options::default();
    options.profiles = Profile::ALL.to_vec();
    // A machine that is busy with other tests may take its time.
    options.timeout = Duration::from_secs(30);
    options.jobs = 16;
    options
}

async fn check(address: SocketAddr, options: Options) -> Report {
    let target = Target::parse(&format!("http://{address}/cometd")).expect("a URL");
    run(target, options, |_, _| {}).await.expect("a server answers")
}

/// The ids of cases that failed.
fn failed(report: &Report) -> BTreeSet<String> {
    let is_failed = |case: &&bayeux_testkit::conformance::Tested| {
        case.runs.iter().any(|run| matches!(run.verdict, Verdict::Failed { .. }))
    };
    report.cases.iter().filter(is_failed).map(|case| case.id.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn our_server_keeps_every_promise() {
    let (running, address) = start(PATIENT).await;
    let mut options = everything();
    options.hostile = true;
    let report = check(address, options).await;
    assert!(report.is_acceptable(true), "{}", report.terminal(false));
    assert_eq!(report.server.transports, Transport::ALL);
    assert_eq!(report.server.extensions, ["ack", "timesync", "timestamp", "binary"]);
    let quick = catalogue().iter().filter(|case| !case.slow).count();
    assert_eq!(report.cases.len(), quick);
    for case in &report.cases {
        assert!(!case.runs.is_empty(), "{} ran over no transport", case.id);
        for run in &case.runs {
            // Permitted by the case, but not what we promise to others.
            assert!(
                matches!(run.verdict, Verdict::Passed),
                "{} over {}: {:?}",
                case.id,
                run.transport.name(),
                run.verdict
            );
        }
    }
    running.stop().await;
}

/// With times that are short, so that what waits for them does not take long.
#[tokio::test(flavor = "multi_thread")]
async fn our_server_keeps_promises_of_time() {
    let (running, address) = start(&["--timeout=2s", "--max-interval=2s", "--handshake-reconnect"]).await;
    let mut options = everything();
    options.slow = true;
    options.jobs = 100;
    options.only = catalogue().into_iter().filter(|case| case.slow).map(|case| case.id).collect();
    let report = check(address, options).await;
    assert!(report.is_acceptable(true), "{}", report.terminal(false));
    assert_eq!(report.server.max_interval, Some(2_000));
    assert!(report.cases.iter().flat_map(|case| &case.runs).all(|run| matches!(run.verdict, Verdict::Passed)));
    running.stop().await;
}

/// T2-4: over TLS, which agrees on HTTP/1.1 or HTTP/2, for whoever trusts the certificate.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_checked_over_tls() {
    let (running, server) = start(PATIENT).await;
    let proxy = tls::Proxy::start(server).await;
    let check = async |scheme: &str, insecure: bool, authorities: Option<&[u8]>| {
        let target = Target::parse(&format!("{scheme}://localhost:{}/cometd", proxy.address.port())).expect("a URL");
        let mut options = everything();
        options.only = ["subscribe-*", "publish-*", "connect-*"].map(str::to_owned).to_vec();
        options.insecure = insecure;
        options.authorities = authorities.map(<[u8]>::to_vec);
        run(target, options, |_, _| {}).await
    };
    for (scheme, insecure, authorities) in [("https", false, Some(tls::AUTHORITY)), ("wss", true, None)] {
        let report = check(scheme, insecure, authorities).await.expect("a server answers");
        assert!(report.is_acceptable(true), "{}", report.terminal(false));
        assert_eq!(report.server.transports, Transport::ALL);
    }
    // The system's authorities do not know it, and it is none itself.
    for authorities in [None, Some(tls::CERTIFICATE)] {
        let refused = check("https", false, authorities).await;
        let Err(CheckError::NoServer { refusals, .. }) = refused else { panic!("trusted") };
        assert!(refusals.iter().all(|refusal| refusal.contains("certificate")), "{refusals:?}");
    }
    assert!(matches!(check("https", false, Some(b"no PEM")).await, Err(CheckError::Setup(_))));
    drop(proxy);
    running.stop().await;
}

#[test]
fn there_are_cases_of_all_profiles_for_all_transports() {
    let cases = catalogue();
    assert!(cases.len() >= 400, "{} cases", cases.len());
    for profile in Profile::ALL {
        for transport in Transport::ALL {
            let has = |case: &&bayeux_testkit::conformance::Case| {
                case.profile == profile && case.transports.contains(transport)
            };
            assert!(cases.iter().filter(has).count() >= 10, "{} over {}", profile.name(), transport.name());
        }
    }
}

/// All that fails is named, and all that is named fails.
#[tokio::test(flavor = "multi_thread")]
async fn broken_rules_are_noticed_by_their_cases_and_no_others() {
    let mut waiting = BREAKAGES.iter();
    let (mut running_checks, mut wrong) = (JoinSet::new(), String::new());
    loop {
        // They wait most of the time, for what does not come.
        while running_checks.len() < 4 {
            let Some(breakage) = waiting.next() else { break };
            running_checks.spawn(async move { (breakage, judge(breakage).await) });
        }
        let Some(ended) = running_checks.join_next().await else { break };
        let (breakage, found) = ended.expect("no panic");
        let named = breakage.noticed_by.iter().map(|id| (*id).to_owned()).collect();
        if found != named {
            wrong.push_str(&format!("{}\n  {found:#?}\n", breakage.rule));
        }
    }
    assert!(wrong.is_empty(), "noticed otherwise than it should be:\n{wrong}");
}

/// The cases that notice.
async fn judge(breakage: &Breakage) -> BTreeSet<String> {
    let (running, server) = start(PATIENT).await;
    let proxy = Proxy::start(server, breakage.lies).await;
    let mut options = everything();
    options.transports = vec![breakage.over];
    options.timeout = Duration::from_secs(8);
    options.jobs = 24;
    // They have much to read and little to notice; the proxy does not pass on that a poll was cut.
    let skipped = ["batch-of-*", "data-may-be-large*", "subscribe-to-a-thousand", "cut-poll-takes-no-message"];
    options.skip = skipped.map(str::to_owned).to_vec();
    let found = failed(&check(proxy.address, options).await);
    drop(proxy);
    running.stop().await;
    found
}

/// A server that is slow is judged as any other: what it answers late was not held, and what it holds was.
#[tokio::test(flavor = "multi_thread")]
async fn slow_servers_keep_and_break_the_same_promises() {
    const FAMILIES: [&str; 3] = ["connect", "disconnect", "browsers and connections"];
    // More than a connect must go unanswered to be taken for held, if nothing else is known.
    let delay = Duration::from_millis(600);
    let no_holds = BREAKAGES.iter().find(|breakage| breakage.rule.starts_with("K-11")).expect("it is there");
    // That a server is slow and that it holds as long cannot be told apart.
    let skip = ["cut-poll-takes-no-message", "connect-reply-ends-with-the-clients-timeout"];
    let of_families = |id: &&&str| catalogue().iter().any(|case| case.id == **id && FAMILIES.contains(&case.family));
    let noticed = no_holds.noticed_by.iter().filter(of_families).filter(|id| !skip.contains(id));
    let noticed: BTreeSet<String> = noticed.map(|id| (*id).to_owned()).collect();
    for (lies, transports, expected) in [
        (HONEST, vec![Transport::LongPolling, Transport::WebSocket], BTreeSet::new()),
        (no_holds.lies, vec![no_holds.over], noticed),
    ] {
        let (running, server) = start(PATIENT).await;
        let proxy = Proxy::start(server, broken::Lies { delay, ..lies }).await;
        let mut options = everything();
        options.only = FAMILIES.map(str::to_owned).to_vec();
        options.skip = skip.map(str::to_owned).to_vec();
        options.transports = transports;
        options.jobs = 100;
        let report = check(proxy.address, options).await;
        assert_eq!(failed(&report), expected, "{}", report.terminal(false));
        drop(proxy);
        running.stop().await;
    }
}

/// What is noticed must come from the lies, and not from the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn an_honest_proxy_breaks_nothing() {
    let (running, server) = start(PATIENT).await;
    let proxy = Proxy::start(server, HONEST).await;
    let mut options = everything();
    // It does not pass on that a poll was cut.
    options.skip = vec!["cut-poll-takes-no-message".to_owned()];
    let report = check(proxy.address, options).await;
    assert_eq!(failed(&report), BTreeSet::new(), "{}", report.terminal(false));
    running.stop().await;
}
