//! One publish of 100 bytes to 1, 100 and 10,000 WebSocket sessions through the whole engine: decode, pipeline,
//! freeze, fan-out, drain and the write credit of every connection.
//!
//! The time is per publish; throughput is per delivery. `floor` is what no server can do without: a pointer pushed to
//! and popped from one queue per subscriber, in the same order.

use std::collections::VecDeque;
use std::hint::black_box;

use bayeux_benches::{Bench, batch, client_id};
use bayeux_core::Transport;
use bayeux_proto::{Event, Frozen, RawJson};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn payload() -> String {
    format!(r#"{{"text":"{}"}}"#, "x".repeat(89))
}

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    for sessions in [1_u64, 100, 10_000] {
        group.throughput(Throughput::Elements(sessions));
        let mut bench = Bench::default();
        let publisher = bench.subscriber(1, "");
        for n in 2..=sessions + 1 {
            bench.subscriber(n, "/chat/room");
        }
        let publish =
            format!(r#"[{{"channel":"/chat/room","id":"9","clientId":"{}","data":{}}}]"#, client_id(1), payload());
        group.bench_function(BenchmarkId::new("engine", sessions), |b| {
            b.iter(|| {
                let drained = bench.receive(publisher, batch(&publish));
                assert_eq!(drained as u64, sessions + 1, "every subscriber and the publisher's reply");
            });
        });
        group.bench_function(BenchmarkId::new("floor", sessions), |b| {
            let mut queues: Vec<VecDeque<Frozen>> = vec![VecDeque::new(); sessions as usize];
            let data = RawJson::new(payload()).expect("the payload is JSON");
            b.iter(|| {
                let event = Event::new("/chat/room", data.clone()).freeze();
                for queue in &mut queues {
                    queue.push_back(event.clone());
                }
                for queue in &mut queues {
                    black_box(queue.pop_front());
                }
            });
        });
    }
    group.finish();
}

/// What an idle long-polling session costs per turn of its connect.
fn connect(c: &mut Criterion) {
    let mut bench = Bench::default();
    let conn = bench.subscriber(1, "");
    assert_eq!(bench.sessions(), 1);
    let json = format!(
        r#"[{{"channel":"/meta/connect","id":"5","clientId":"{}","connectionType":"websocket","advice":{{"timeout":0}}}}]"#,
        client_id(1)
    );
    c.bench_function("connect/engine", |b| b.iter(|| bench.receive(conn, batch(&json))));
    black_box(Transport::WebSocket);
}

criterion_group!(benches, fan_out, connect);
criterion_main!(benches);
