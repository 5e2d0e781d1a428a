//! Deadlines among many: every session has one, and most inputs move one.

use bayeux_benches::paths::meta_connect;
use bayeux_benches::{Bench, batch, client_id};
use bayeux_core::{Config, ConnectionKey};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// A million take gigabytes and seconds to set up, too much for a test whether they work.
fn sizes() -> &'static [u64] {
    if std::env::args().any(|arg| arg == "--test") { &[1_000] } else { &[1_000, 1_000_000] }
}

/// A meta connect that is answered at once, by each session in turn: cancels one deadline and sets another.
fn moved(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers/moved");
    for &sessions in sizes() {
        let mut bench = Bench::default();
        let conns: Vec<ConnectionKey> = (1..=sessions).map(|n| bench.subscriber(n, "")).collect();
        let mut next = (1..=sessions).cycle();
        group.bench_function(BenchmarkId::from_parameter(sessions), |b| {
            b.iter(|| {
                let n = next.next().unwrap_or(1);
                assert_eq!(bench.receive(conns[n as usize - 1], batch(&meta_connect(n))), 1, "the reply");
            });
        });
    }
    group.finish();
}

/// A held connect times out and the session sends the next: one deadline falls due and two are set.
fn due(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers/due");
    for &sessions in sizes() {
        let config = Config::default();
        let apart = config.websocket.timeout / u32::try_from(sessions).unwrap_or(u32::MAX);
        let mut bench = Bench::new(config);
        let open = |bench: &mut Bench, n| {
            let conn = bench.subscriber(n, "");
            bench.pass(apart);
            conn
        };
        let conns: Vec<ConnectionKey> = (1..=sessions).map(|n| open(&mut bench, n)).collect();
        let mut next = (1..=sessions).cycle();
        group.bench_function(BenchmarkId::from_parameter(sessions), |b| {
            b.iter(|| {
                let n = next.next().unwrap_or(1);
                bench.pass(apart);
                let json = format!(r#"[{{"id":"5","channel":"/meta/connect","clientId":"{}"}}]"#, client_id(n));
                bench.receive(conns[n as usize - 1], batch(&json))
            });
        });
        assert_eq!(bench.sessions() as u64, sessions, "none has expired");
    }
    group.finish();
}

criterion_group!(benches, moved, due);
criterion_main!(benches);
