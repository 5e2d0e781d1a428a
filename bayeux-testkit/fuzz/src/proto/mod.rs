//! Targets for `bayeux-proto`.

mod batch;
mod binary;
mod channels;
mod events;

pub use batch::decode_batch;
pub use binary::binary_data;
pub use channels::channel_names;
pub use events::frozen_events;
