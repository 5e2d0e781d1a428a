//! Runs every script of `tests/conversations` with 1, 2 and 4 shards.
//!
//! Rule: what clients see on the wire is protocol.md, and does not depend on how many shards a server has. Risk: a rule
//! that holds in one engine breaks where session, channel and connection live in different ones. Method: scripts with
//! expected transcripts, written from the rules; one test per file. With `BAYEUX_REWRITE=1` in the environment,
//! differing expectations are rewritten in place, to be reviewed as a diff.

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
        $(#[test] fn $name() { script::check(&folder().join(concat!(stringify!($name), ".txt")), script::run); })*

        #[test]
        fn every_script_is_listed() {
            script::check_listed(&folder(), &[$(stringify!($name)),*]);
        }
    };
}

scripts! {
    ack,
    ack_handshake_delivery,
    ack_lazy,
    ack_not_wanted,
    ack_websocket,
    activity,
    activity_server,
    advice,
    binary,
    browser,
    browser_trusted,
    callback_polling,
    channel_names,
    channels,
    channels_of_sessions,
    connect_duplicate,
    connect_duplicate_status,
    connect_hold,
    connect_in_batch,
    connect_interval,
    connect_listener,
    connect_settings,
    connects_only,
    connects_only_handshake,
    connects_only_session,
    dialect_aiocometd,
    dialect_faye,
    dialect_old_clients,
    disconnect,
    disconnect_in_connect,
    disconnect_linger,
    errors,
    expiry,
    expiry_lost,
    extensions,
    first_session,
    frames_all_in_one,
    handshake,
    handshake_delivery,
    handshake_delivery_allowed,
    handshake_denied,
    handshake_failed,
    handshake_in_batch,
    handshake_listener,
    handshake_reconnect,
    heartbeats,
    hijacking,
    holds,
    instead_of_java,
    interval,
    lazy,
    lazy_behind_flush,
    lazy_off,
    lazy_order,
    limits,
    listeners,
    max_processing,
    max_processing_moved,
    message_ids,
    own_messages,
    own_messages_off,
    pipeline,
    publish,
    publish_to_swept,
    queue_drop_newest,
    queue_drop_oldest,
    queue_keep_latest,
    queue_of_channel,
    queue_of_session,
    queue_remove,
    races,
    rebinding,
    rebinding_denied,
    remote_calls,
    removed_while_held,
    reserved,
    server_disconnect,
    server_remove,
    stop,
    subscribe,
    subscribe_denied,
    tabs,
    tabs_http2,
    tabs_none,
    tabs_refused,
    tabs_two,
    tabs_unlimited,
    takeover,
    takeover_after_loss,
    takeover_forbidden,
    takeover_leftovers,
    timestamp,
    timestamp_iso,
    timesync,
    tolerance,
    transport_options,
    unbinding,
    unknown_extensions,
    unknown_session,
    unsubscribe,
    unsubscribe_unasked,
    validation,
    validation_off,
    waiting,
    websocket,
    websocket_to_http,
    wildcards,
}
