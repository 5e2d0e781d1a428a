//! Encoding what a connection is to be sent: events that were frozen once, and replies.
//!
//! `floor` copies as many bytes.

use std::hint::black_box;

use bayeux_benches::Bench;
use bayeux_benches::paths::{meta_connect, publish};
use bayeux_proto::{Event, Outgoing, RawJson, encode_into};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn events(count: usize) -> Vec<Outgoing> {
    let data = RawJson::new(format!(r#"{{"text":"{}"}}"#, "x".repeat(89))).expect("the payload is JSON");
    let event = Event::new("/chat/room", data).freeze();
    vec![Outgoing::Event(event); count]
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    for count in [1, 10, 100] {
        let messages = events(count);
        let mut out = Vec::new();
        encode_into(&messages, &mut out);
        let bytes = out.clone();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("events", count), |b| {
            b.iter(|| {
                out.clear();
                encode_into(black_box(&messages), &mut out);
                assert_eq!(out.len(), bytes.len());
            });
        });
        group.bench_function(BenchmarkId::new("floor", count), |b| {
            b.iter(|| {
                out.clear();
                out.extend_from_slice(black_box(&bytes));
                assert_eq!(out.len(), bytes.len());
            });
        });
    }
    group.finish();
}

/// The replies to a publish and to a meta connect.
fn replies(c: &mut Criterion) {
    let mut bench = Bench::default();
    let conn = bench.subscriber(1, "");
    let mut group = c.benchmark_group("encode/reply");
    for (name, json) in [("publish", publish(1, "/chat/room", 1)), ("meta_connect", meta_connect(1))] {
        let messages = bench.answer(conn, &json);
        assert!(matches!(messages[..], [Outgoing::Reply(_)]), "one reply and nothing else");
        let mut out = Vec::new();
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                out.clear();
                encode_into(black_box(&messages), &mut out);
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode, replies);
criterion_main!(benches);
