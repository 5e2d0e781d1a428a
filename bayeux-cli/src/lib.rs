//! The `bayeux` command as a library: the server of `bayeux serve`, its options and its chat services.
//!
//! The binary is a thin wrapper around this; examples add services of their own.

pub mod options;

mod log;
