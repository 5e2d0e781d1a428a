//! The `bayeux` command.

use std::process::ExitCode;

/// A server that was full once is to be small again when its sessions have gone: the allocators of some systems keep all
/// that lies below the last thing that lives.
#[cfg(all(unix, feature = "jemalloc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    bayeux_cli::main()
}
