//! Envelopes of 1 and 10 publishes of 100 bytes to 1, 100 and 10,000 WebSocket sessions through the whole engine:
//! decode, pipeline, freeze, fan-out, drain and the write credit of every connection.
//!
//! The time is per envelope; throughput is per delivery. `floor` is what no server can do without: a pointer pushed to
//! and popped from one queue per subscriber, in the same order.

use std::collections::VecDeque;
use std::hint::black_box;

use bayeux_benches::paths::{meta_connect, publish};
use bayeux_benches::{Bench, batch};
use bayeux_proto::{Event, Frozen, RawJson};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn payload() -> String {
    format!(r#"{{"text":"{}"}}"#, "x".repeat(89))
}

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    for sessions in [1_u64, 100, 10_000] {
        let mut bench = Bench::default();
        let publisher = bench.subscriber(1, "");
        for n in 2..=sessions + 1 {
            bench.subscriber(n, "/chat/room");
        }
        for messages in [1, 10] {
            let size = format!("{sessions}x{messages}");
            let deliveries = sessions * messages;
            group.throughput(Throughput::Elements(deliveries));
            let envelope = publish(1, "/chat/room", messages as usize);
            group.bench_function(BenchmarkId::new("engine", &size), |b| {
                b.iter(|| {
                    let drained = bench.receive(publisher, batch(&envelope));
                    assert_eq!(drained as u64, deliveries + messages, "every subscriber and the publisher's replies");
                });
            });
            group.bench_function(BenchmarkId::new("floor", &size), |b| {
                let mut queues: Vec<VecDeque<Frozen>> = vec![VecDeque::new(); sessions as usize];
                let data = RawJson::new(payload()).expect("the payload is JSON");
                b.iter(|| floor(&mut queues, &data, messages));
            });
        }
    }
    group.finish();
}

fn floor(queues: &mut [VecDeque<Frozen>], data: &RawJson, messages: u64) {
    for _ in 0..messages {
        let event = Event::new("/chat/room", data.clone()).freeze();
        for queue in &mut *queues {
            queue.push_back(event.clone());
        }
    }
    for queue in queues {
        while let Some(event) = queue.pop_front() {
            black_box(event);
        }
    }
}

/// What an idle session costs per turn of its connect.
fn connect(c: &mut Criterion) {
    let mut bench = Bench::default();
    let conn = bench.subscriber(1, "");
    assert_eq!(bench.sessions(), 1);
    let json = meta_connect(1);
    c.bench_function("connect/engine", |b| b.iter(|| bench.receive(conn, batch(&json))));
}

criterion_group!(benches, fan_out, connect);
criterion_main!(benches);
