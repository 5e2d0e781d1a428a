//! Engine bytes per idle session: 10,000 sessions with a held connect, over WebSocket and over long-polling, with and
//! without a subscription of their own. Heap bytes as asked of the allocator, so the same on every machine.
//!
//! Run it with `cargo bench -p bayeux-benches --bench footprint`.
#![allow(clippy::print_stdout, reason = "a report for the terminal")]

use bayeux_benches::Bench;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const SESSIONS: u64 = 10_000;

/// Heap bytes that stay allocated per session that `add` makes.
fn per_session(mut add: impl FnMut(&mut Bench, u64)) -> f64 {
    let mut bench = Bench::default();
    let before = dhat::HeapStats::get().curr_bytes;
    for n in 1..=SESSIONS {
        add(&mut bench, n);
    }
    assert_eq!(bench.sessions() as u64, SESSIONS);
    (dhat::HeapStats::get().curr_bytes - before) as f64 / SESSIONS as f64
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
}
