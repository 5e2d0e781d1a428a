//! Decoding envelopes, with two floors in the same run: serde_json into its own tree, and serde_json into a type that
//! borrows strings and keeps payloads raw, which is less than what we do (it drops unknown fields and owns nothing).

use std::hint::black_box;
use std::time::Duration;

use bayeux_proto::{Limits, decode};
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The fields of a message as serde_json would have them. `Option<&str>` refuses strings with escapes: no allocation.
#[derive(Deserialize)]
#[expect(dead_code, reason = "the fields are there to be filled")]
struct Typed<'a> {
    channel: Option<&'a str>,
    id: Option<&'a str>,
    #[serde(rename = "clientId")]
    client_id: Option<&'a str>,
    #[serde(borrow)]
    subscription: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    ext: Option<&'a RawValue>,
    #[serde(borrow)]
    advice: Option<&'a RawValue>,
    #[serde(rename = "connectionType")]
    connection_type: Option<&'a str>,
}

fn envelopes() -> [(&'static str, String); 3] {
    let connect = String::from(
        r#"[{"id":"42","channel":"/meta/connect","connectionType":"long-polling","clientId":"4f1kq1z0x9a8b7c6d5e4f3g2h1","advice":{"timeout":0}}]"#,
    );
    let publish = |number: usize| {
        format!(
            r#"{{"id":"{number}","channel":"/chat/room/{number}","clientId":"4f1kq1z0x9a8b7c6d5e4f3g2h1","data":{{"user":"somebody","text":"Hello, everyone in here!","seq":{number}}}}}"#
        )
    };
    let publishes = format!("[{}]", (100..110).map(publish).collect::<Vec<_>>().join(","));
    let row = |number: usize| {
        format!(
            r#"{{"symbol":"ABC{number}","bid":{number}.25,"ask":{number}.75,"tags":["a","bb",{{"live":true,"since":null}}],"note":"a line of text of usual length"}}"#
        )
    };
    let rows = (100..175).map(row).collect::<Vec<_>>().join(",");
    let nested =
        format!(r#"[{{"id":"7","channel":"/stock/all","clientId":"4f1kq1z0x9a8b7c6d5e4f3g2h1","data":[{rows}]}}]"#);
    [("connect", connect), ("publishes", publishes), ("nested", nested)]
}

fn decode_envelopes(criterion: &mut Criterion) {
    let limits = Limits::default();
    for (name, text) in envelopes() {
        let mut group = criterion.benchmark_group("decode");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
        // As from a read buffer that many requests share, and as from one of its own.
        let shared = Bytes::from(text.clone());
        let _second = shared.clone();
        group.bench_function(BenchmarkId::new("bayeux", name), |bencher| {
            bencher.iter(|| decode(black_box(shared.clone()), &limits).expect("valid"));
        });
        group.bench_function(BenchmarkId::new("bayeux_owned", name), |bencher| {
            bencher.iter_batched(
                || Bytes::from(text.clone()),
                |bytes| decode(black_box(bytes), &limits).expect("valid"),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("serde_typed", name), |bencher| {
            bencher.iter(|| serde_json::from_slice::<Vec<Typed<'_>>>(black_box(text.as_bytes())).expect("valid"));
        });
        group.bench_function(BenchmarkId::new("serde_value", name), |bencher| {
            bencher.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(text.as_bytes())).expect("valid"));
        });
        group.finish();
    }
}

criterion_group!(benches, decode_envelopes);
criterion_main!(benches);
