//! The `bayeux` command.

fn main() {}
