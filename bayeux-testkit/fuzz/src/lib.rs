//! Fuzz targets of the Bayeux crates: plain functions of bytes that panic where something is wrong.
//!
//! libFuzzer runs them by way of `libfuzzer/`, which is outside of the workspace; `cargo test -p bayeux-fuzz` calls them
//! with the corpora that it has found. The README beside this crate says how to fuzz, what each target checks and what
//! it has found.

mod answers;
mod choices;
mod engine;
mod envelope;
mod options;
mod plan;
mod proto;
mod wire;

pub use answers::server_answers;
pub use choices::Choices;
pub use engine::engine_inputs;
pub use options::options;
pub use plan::swarm_plans;
pub use proto::{binary_data, channel_names, decode_batch, frozen_events};
pub use wire::{http_requests, http2_frames, listener, while_connected, ws_frames};

/// A target: its name, which its corpus has too, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, by name.
pub const TARGETS: &[Target] = &[
    ("binary_data", binary_data),
    ("channel_names", channel_names),
    ("decode_batch", decode_batch),
    ("engine_inputs", engine_inputs),
    ("frozen_events", frozen_events),
    ("http2_frames", http2_frames),
    ("http_requests", http_requests),
    ("listener", listener),
    ("options", options),
    ("server_answers", server_answers),
    ("swarm_plans", swarm_plans),
    ("ws_frames", ws_frames),
];
