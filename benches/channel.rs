//! Channel names: what each publish and each subscribe pays once. And the engine's search for the subscribers of a
//! channel, among many.

use std::hint::black_box;
use std::time::Duration;

use bayeux_benches::paths::publish;
use bayeux_benches::{Bench, batch, client_id};
use bayeux_proto::{ByteString, ChannelLimits, ChannelPattern};
use criterion::{Criterion, criterion_group, criterion_main};

fn channels(criterion: &mut Criterion) {
    let limits = ChannelLimits::default();
    let parse = |text: &'static str| {
        ChannelPattern::parse(&ByteString::from_static(text), &limits).expect("a channel of the benchmark")
    };
    let mut group = criterion.benchmark_group("channel");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));

    let text = ByteString::from_static("/market/stocks/nasdaq/ABCD");
    group.bench_function("parse", |bencher| {
        bencher.iter(|| ChannelPattern::parse(black_box(&text), &limits));
    });
    let channel = parse("/market/stocks/nasdaq/ABCD");
    group.bench_function("ids", |bencher| {
        bencher.iter(|| {
            let mut ids = black_box(&channel).ids();
            let mut length = 0;
            while let Some(id) = ids.next() {
                length += black_box(id).len();
            }
            length
        });
    });
    for (name, pattern) in [("deep", "/market/**"), ("shallow", "/market/stocks/nasdaq/*"), ("exact", "/market")] {
        let pattern = parse(pattern);
        group.bench_function(format!("matches_{name}"), |bencher| {
            bencher.iter(|| black_box(&pattern).matches(black_box(&channel)));
        });
    }
    group.finish();
}

/// A publish whose only subscriber has a pattern with two stars, among so many such patterns.
fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    for patterns in [1_u64, 100, 10_000] {
        let mut bench = Bench::default();
        let publisher = bench.subscriber(1, "");
        let subscriber = bench.subscriber(2, "");
        let id = client_id(2);
        for n in 0..patterns {
            let subscription = format!("/market/region/{}/stocks/{n}/**", n % 10);
            bench.send(
                subscriber,
                &format!(
                    r#"[{{"channel":"/meta/subscribe","id":"4","clientId":"{id}","subscription":"{subscription}"}}]"#
                ),
            );
        }
        let events: Vec<String> = (0..patterns.min(100))
            .map(|n| publish(1, &format!("/market/region/{}/stocks/{n}/trades/last", n % 10), 1))
            .collect();
        let mut next = events.iter().cycle();
        group.bench_function(format!("deep_{patterns}"), |bencher| {
            bencher.iter(|| {
                let event = next.next().expect("there are some");
                assert_eq!(bench.receive(publisher, batch(event)), 2, "one delivery and the reply");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, channels, matching);
criterion_main!(benches);
