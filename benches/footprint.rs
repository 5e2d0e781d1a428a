//! Engine bytes per idle session: 10,000 sessions with a held connect, over WebSocket and over long-polling, with and
//! without a subscription of their own. And what is left of a million sessions that came and went. Heap bytes as asked
//! of the allocator, so the same on every machine.
//!
//! Run it with `cargo bench -p bayeux-benches --bench footprint`.
#![allow(clippy::print_stdout, reason = "a report for the terminal")]

use std::time::Duration;

use bayeux_benches::{Bench, client_id};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const SESSIONS: u64 = 10_000;

/// Heap bytes that stay allocated per session that `add` makes.
fn per_session(mut add: impl FnMut(&mut Bench, u64)) -> f64 {
    let mut bench = Bench::default();
    let before = allocated();
    for n in 1..=SESSIONS {
        add(&mut bench, n);
    }
    assert_eq!(bench.sessions() as u64, SESSIONS);
    (allocated() - before) as f64 / SESSIONS as f64
}

/// Sessions come by thousands, subscribe, hold a connect, and leave in every way there is: by a disconnect, by a closed
/// connection or by silence. Returns the heap bytes when the first tenth of them has gone, and the others, too: tables
/// have their size by then.
fn turnover(sessions: u64) -> (usize, usize) {
    const AT_ONCE: u64 = 1_000;
    let mut bench = Bench::default();
    let mut early = 0;
    for wave in 0..sessions / AT_ONCE {
        for n in wave * AT_ONCE + 1..=(wave + 1) * AT_ONCE {
            come_and_go(&mut bench, n);
        }
        // Those who left without a word expire, and channels that nobody uses are removed.
        bench.pass(Duration::from_secs(120));
        assert_eq!(bench.sessions(), 0, "all have gone");
        if (wave + 1) * AT_ONCE == sessions / 10 {
            early = allocated();
        }
    }
    (early, allocated())
}

fn come_and_go(bench: &mut Bench, n: u64) {
    let id = client_id(n);
    let disconnect = format!(r#"[{{"channel":"/meta/disconnect","id":"9","clientId":"{id}"}}]"#);
    // Some share a channel, others have one of their own.
    let channel = if n.is_multiple_of(2) { "/chat/room".to_owned() } else { format!("/chat/{n}/**") };
    match n % 4 {
        0 => bench.poller(n),
        1 => {
            bench.poller(n);
            bench.poll(n, &disconnect);
        }
        2 => {
            let conn = bench.subscriber(n, &channel);
            bench.send(conn, &disconnect);
            bench.close(conn);
        }
        _ => {
            let conn = bench.subscriber(n, &channel);
            bench.close(conn);
        }
    }
}

fn allocated() -> usize {
    dhat::HeapStats::get().curr_bytes
}

fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let websocket = per_session(|bench, n| {
        bench.subscriber(n, "");
    });
    let subscribed = per_session(|bench, n| {
        bench.subscriber(n, "/chat/room");
    });
    let polling = per_session(Bench::poller);
    println!("engine bytes per idle session, connect held, {SESSIONS} sessions");
    println!("websocket                    {websocket:7.0}");
    println!("websocket, one subscription  {subscribed:7.0}");
    println!("long-polling                 {polling:7.0}");
    let sessions = if std::env::args().any(|arg| arg == "--test") { 10_000 } else { 1_000_000 };
    let (early, last) = turnover(sessions);
    println!("heap bytes when {} sessions have gone {early}, when {sessions} have {last}", sessions / 10);
    assert!(early > 0 && last <= early + early / 10, "nothing is left of sessions that have gone");
}
