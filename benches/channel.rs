//! Channel names: what each publish and each subscribe pays once.

use std::hint::black_box;
use std::time::Duration;

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

criterion_group!(benches, channels);
criterion_main!(benches);
