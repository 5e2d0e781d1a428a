//! What the engine takes of a processor as sessions and channels grow in number, as JSON on stdout; the times are the
//! thread's own processor time, in nanoseconds. `benches/measure growth` draws them.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bayeux_benches::paths::{meta_connect, publish};
use bayeux_benches::{Bench, batch, client_id};
use bayeux_core::{Config, ConnectionKey, Forward, Interests, ShardId};
use bayeux_proto::{ByteString, ChannelLimits, ChannelName, Event, RawJson};
use rustix::time::{ClockId, clock_gettime};

const SESSIONS: [u64; 4] = [100, 1_000, 10_000, 50_000];
const CHANNELS: [u64; 3] = [1, 100, 100_000];
const SHARDS: [u16; 4] = [1, 2, 8, 32];
/// Measured operations, of each kind and size; the quickest of so many rounds counts.
const OPERATIONS: u64 = 200_000;
const ROUNDS: u32 = 5;

fn main() -> std::io::Result<()> {
    let mut rows = Vec::new();
    for sessions in SESSIONS {
        rows.push(row("delivery", sessions, deliveries(sessions)));
        rows.push(row("meta_connect", sessions, meta_connects(sessions)));
        rows.push(row("timer", sessions, timers(sessions)));
    }
    for channels in CHANNELS {
        rows.push(row("publish", channels, publishes(channels, "")));
        rows.push(row("publish_deep", channels, publishes(channels, "/**")));
    }
    for shards in SHARDS {
        rows.push(row("publish_shards", shards.into(), publishes_of_shard(shards, true)));
        if shards > 1 {
            rows.push(row("publish_everywhere", shards.into(), publishes_of_shard(shards, false)));
            rows.push(row("unwanted", shards.into(), unwanted(shards)));
        }
    }
    writeln!(std::io::stdout(), "[{}]", rows.join(","))
}

fn row(what: &str, size: u64, nanos: f64) -> String {
    format!(r#"{{"what":"{what}","size":{size},"ns":{nanos:.1}}}"#)
}

/// Nanoseconds for each of the `units` that `work` does.
fn cost(units: u64, mut work: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    work();
    for _ in 0..ROUNDS {
        let before = processor_time();
        work();
        best = best.min(processor_time().saturating_sub(before));
    }
    best.as_nanos() as f64 / units as f64
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is ever negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// One publisher, all others subscribed to one channel.
fn deliveries(sessions: u64) -> f64 {
    let mut bench = Bench::default();
    let publisher = bench.subscriber(1, "");
    for n in 2..=sessions + 1 {
        bench.subscriber(n, "/chat/room");
    }
    let event = publish(1, "/chat/room", 1);
    let times = OPERATIONS.div_ceil(sessions);
    cost(times * sessions, || {
        for _ in 0..times {
            assert_eq!(bench.receive(publisher, batch(&event)) as u64, sessions + 1);
        }
    })
}

/// Each session in turn sends a meta connect that is answered at once.
fn meta_connects(sessions: u64) -> f64 {
    let mut bench = Bench::default();
    let conns: Vec<(ConnectionKey, String)> =
        (1..=sessions).map(|n| (bench.subscriber(n, ""), meta_connect(n))).collect();
    cost(OPERATIONS, || {
        for (conn, json) in conns.iter().cycle().take(OPERATIONS as usize) {
            assert_eq!(bench.receive(*conn, batch(json)), 1);
        }
    })
}

/// Held connects time out, one after the other, and each session sends the next.
fn timers(sessions: u64) -> f64 {
    let config = Config::default();
    let apart = config.websocket.timeout / u32::try_from(sessions).unwrap_or(u32::MAX);
    let mut bench = Bench::new(config);
    let conns: Vec<(ConnectionKey, String)> = (1..=sessions)
        .map(|n| {
            let conn = bench.subscriber(n, "");
            bench.pass(apart);
            (conn, format!(r#"[{{"id":"5","channel":"/meta/connect","clientId":"{}"}}]"#, client_id(n)))
        })
        .collect();
    // The time of all of them together: each is due once in it.
    let times = OPERATIONS.div_ceil(sessions);
    cost(times * sessions, || {
        let mut answered = 0;
        for (conn, json) in conns.iter().cycle().take((times * sessions) as usize) {
            answered += bench.pass(apart);
            bench.receive(*conn, batch(json));
        }
        assert!(answered as u64 >= times * sessions - 1, "each held connect was answered: {answered}");
    })
}

/// A publish to one of so many channels with one subscriber each. With `below`, a subscription of five segments and
/// two stars for each of them.
fn publishes(channels: u64, below: &str) -> f64 {
    // Subscribers share sessions, as there may be 10,000 subscriptions in each.
    const PER_SESSION: u64 = 1_000;
    let name = |n: u64| format!("/market/region/{}/stocks/{n}", n % 10);
    let mut bench = Bench::default();
    let publisher = bench.subscriber(1, "");
    let mut subscriber = (0, publisher);
    for n in 0..channels {
        if n % PER_SESSION == 0 {
            let session = 2 + n / PER_SESSION;
            subscriber = (session, bench.subscriber(session, ""));
        }
        let (session, conn) = subscriber;
        let subscription = format!("{}{below}", name(n));
        bench.send(
            conn,
            &format!(
                r#"[{{"channel":"/meta/subscribe","id":"4","clientId":"{}","subscription":"{subscription}"}}]"#,
                client_id(session)
            ),
        );
    }
    let tail = if below.is_empty() { "" } else { "/trades" };
    let events: Vec<String> = (0..channels).map(|n| publish(1, &format!("{}{tail}", name(n)), 1)).collect();
    cost(OPERATIONS, || {
        for json in events.iter().cycle().take(OPERATIONS as usize) {
            assert_eq!(bench.receive(publisher, batch(json)), 2, "one subscriber and the reply");
        }
    })
}

/// An engine that is one of so many, with a channel whose home it is.
fn one_of(shards: u16) -> (Bench, String) {
    let mut config = Config::default();
    config.shards = shards;
    let here = |name: &String| ShardId::home_of(name, shards) == ShardId(0);
    let channel = (0..).map(|n| format!("/chat/room{n}")).find(here).unwrap_or_default();
    (Bench::new(config), channel)
}

/// A publish to a room of ten sessions, all of them in this shard: what being one of many adds to it, where it is known
/// that the others do not want it, and where each of them gets it.
fn publishes_of_shard(shards: u16, known: bool) -> f64 {
    const ROOM: u64 = 10;
    let (mut bench, channel) = one_of(shards);
    if known {
        bench.share_interests(&Arc::new(Interests::new(shards)));
    }
    let publisher = bench.subscriber(1, "");
    for n in 2..=ROOM + 1 {
        bench.subscriber(n, &channel);
    }
    let event = publish(1, &channel, 1);
    cost(OPERATIONS, || {
        for _ in 0..OPERATIONS {
            assert_eq!(bench.receive(publisher, batch(&event)) as u64, ROOM + 1);
        }
    })
}

/// A publish of another shard that nobody here has subscribed to.
fn unwanted(shards: u16) -> f64 {
    let (mut bench, channel) = one_of(shards);
    bench.subscriber(1, "/somewhere/else");
    let name = ChannelName::parse(&ByteString::from(channel.as_str()), &ChannelLimits::default());
    let data = RawJson::new(r#"{"text":"nobody"}"#);
    let (Ok(name), Ok(data)) = (name, data) else { return f64::NAN };
    let item = Forward::Publish {
        event: Event::new(channel.as_str(), data).freeze(),
        channel: name,
        sender: None,
        receipt: None,
    };
    cost(OPERATIONS, || {
        for _ in 0..OPERATIONS {
            assert_eq!(bench.forwarded(item.clone()), 0, "nobody wants it");
        }
    })
}
