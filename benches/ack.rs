//! A message to a session with acknowledgements: delivered with the reply to its held connect, acknowledged with the
//! next one. Beside it the same without acknowledgements, over long-polling, which has as many messages.

use bayeux_benches::paths::{Acknowledging, PATHS};
use criterion::{Criterion, criterion_group, criterion_main};

fn ack(c: &mut Criterion) {
    let mut scene = Acknowledging::default();
    c.bench_function("ack/turn", |b| b.iter(|| scene.turn()));
    let path = PATHS.iter().find(|path| path.name == "held_poll").expect("it is one of them");
    let mut turn = (path.prepare)();
    c.bench_function("ack/without", |b| b.iter(&mut turn));
}

criterion_group!(benches, ack);
criterion_main!(benches);
