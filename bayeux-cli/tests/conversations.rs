//! Runs every script of `tests/conversations` against a whole server with 1, 2 and 4 shards.
//!
//! Rule: what the transports make of HTTP requests and WebSocket frames is protocol.md, sections 15 to 19. Risk: a
//! status, a header or a close code that clients rely on changes, and nothing in the engine notices. Method: scripts
//! with expected transcripts, written from the rules; one test per file. With `BAYEUX_REWRITE=1` in the environment,
//! differing expectations are rewritten in place, to be reviewed as a diff.

mod stage;

use std::path::{Path, PathBuf};

use bayeux_testkit::script;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations")
}

/// The index is complete, and leads to what it promises.
#[test]
fn index_tells_the_truth() {
    script::check_index(&folder());
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { script::check(&folder().join(concat!(stringify!($name), ".txt")), stage::run); })*

        #[test]
        fn every_script_is_listed() {
            script::check_listed(&folder(), &[$(stringify!($name)),*]);
        }
    };
}

scripts! {
    allowed_long_polling,
    allowed_websocket,
    bad_bodies,
    callback,
    callback_bodies,
    callback_names,
    callback_off,
    callback_parameter,
    content_types,
    cookie,
    cookie_attributes,
    cookie_lookup,
    cookie_odd,
    cookie_trusted,
    cors,
    cors_any,
    cors_off,
    duplicate_status,
    endpoint,
    http2,
    large_bodies,
    long_polling,
    lost,
    negotiation,
    statuses,
    stop,
    tabs,
    websocket,
    websocket_binding,
    websocket_frames,
    websocket_lingering,
    websocket_origin,
    websocket_origin_any,
    websocket_refusals,
    websocket_size,
    websocket_subprotocol,
    websocket_subprotocol_any,
    websocket_upgrade,
}
