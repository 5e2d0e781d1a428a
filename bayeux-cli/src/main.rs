//! The `bayeux` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    bayeux_cli::main()
}
