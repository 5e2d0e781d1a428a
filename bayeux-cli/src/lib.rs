//! The `bayeux` command as a library: the server of `bayeux serve`, its options and its chat services, the load
//! generator of `bayeux load` and the conformance suite of `bayeux check`.
//!
//! The binary is a call of [`main`]. A program that wants the same server with services of its own calls [`main_with`];
//! one that wants it inside itself, tests for example, calls [`serve::start`].

pub mod options;
pub mod serve;

mod chat;
mod check;
mod load;
mod log;
mod pages;
mod site;

use std::ffi::OsString;
use std::process::ExitCode;

use bayeux_server::ServerBuilder;
use clap::{ArgMatches, Command};
use options::OptionError;

#[doc(hidden)]
pub use load::fuzzing;

/// The `bayeux` command, with this process's arguments and environment.
pub fn main() -> ExitCode {
    let command = Command::new("bayeux")
        .about("A Bayeux (CometD protocol) server, a load generator and a conformance suite")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(options::command())
        .subcommand(check::command())
        .subcommand(load::command());
    // The nearest known option is one of `serve`.
    let serves = std::env::args_os().nth(1).is_some_and(|name| name == "serve");
    let explain = |error: &clap::Error| if serves { options::explain(error) } else { None };
    let matches = match parse(command, std::env::args_os(), explain) {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    match matches.subcommand() {
        Some(("serve", matches)) => run(matches, |server| server),
        Some(("check", matches)) => check::main(matches),
        Some(("load", matches)) => load::main(matches),
        _ => unreachable!("clap insists on a subcommand that it knows"),
    }
}

/// As `bayeux serve`, with this process's arguments and environment, and what `customise` adds to the server.
pub fn main_with(customise: impl FnOnce(ServerBuilder) -> ServerBuilder) -> ExitCode {
    match parse(options::command(), std::env::args_os(), options::explain) {
        Ok(matches) => run(&matches, customise),
        Err(code) => code,
    }
}

/// Reads the command line; what clap has to say instead, help or an error, is said.
fn parse(
    command: Command,
    arguments: impl Iterator<Item = OsString>,
    explain: impl Fn(&clap::Error) -> Option<OptionError>,
) -> Result<ArgMatches, ExitCode> {
    command.try_get_matches_from(arguments).map_err(|error| {
        if let Some(error) = explain(&error) {
            return usage_error(&error);
        }
        // Nobody is left to be told where this fails.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
    })
}

fn run(matches: &ArgMatches, customise: impl FnOnce(ServerBuilder) -> ServerBuilder) -> ExitCode {
    let loaded = match options::load(matches, std::env::vars_os()) {
        Ok(loaded) => loaded,
        Err(error) => return usage_error(&error),
    };
    if matches.get_flag("print-config") {
        print(&loaded.print());
        return ExitCode::SUCCESS;
    }
    log::start(&loaded.settings.log_level, loaded.settings.log_format);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match serve::run(loaded.settings, customise) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// The exit code for a command line, an environment or a file that cannot be used, as with most commands.
const USAGE: u8 = 2;

pub(crate) fn usage_error(error: &dyn std::error::Error) -> ExitCode {
    complain(error);
    ExitCode::from(USAGE)
}

#[allow(clippy::print_stderr, reason = "a command says on stderr what is wrong, whatever the log level")]
pub(crate) fn complain(error: &dyn std::error::Error) {
    let mut message = format!("bayeux: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    eprintln!("{message}");
}

/// Writes to stdout what was asked for; a reader that has gone away is no error.
pub(crate) fn print(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
