//! `bayeux load`: puts load on any Bayeux server, verifies what comes of it, and measures it.
//!
//! Read in this order: [`plan`] is the workload, [`run`] the phases of a run, [`worker`] a thread of the generator,
//! [`crew`] its sessions. Below them are [`link`], a connection with HTTP or WebSocket on it, and [`scan`], which reads
//! messages. [`ledger`] knows who has to get what. [`outcome`] is the result, and [`report`] shows it.
//!
//! It is a client of its own, and uses nothing of the server: what both got wrong would pass.

mod clock;
mod crew;
mod envelope;
pub mod fuzzing;
mod ledger;
mod link;
mod options;
mod outcome;
mod plan;
mod proc;
mod report;
mod run;
mod scan;
mod session;
mod shared;
mod socket;
mod stamp;
mod target;
mod wire;
mod worker;

use std::process::ExitCode;

use clap::ArgMatches;

use options::Options;
pub(crate) use options::command;
use run::LoadError;

/// Does what the command line says.
pub(crate) fn main(matches: &ArgMatches) -> ExitCode {
    let options = Options::new(matches);
    let outcome = match run::run(&options) {
        Ok(outcome) => outcome,
        Err(error @ (LoadError::Plan(_) | LoadError::Target(_) | LoadError::Source(_))) => {
            return crate::usage_error(&error);
        }
        Err(error) => {
            crate::complain(&error);
            return ExitCode::FAILURE;
        }
    };
    crate::print(&report::text(&outcome));
    match report::write_files(&options, &outcome) {
        Ok(()) if outcome.failures.is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            crate::complain(&error);
            ExitCode::FAILURE
        }
    }
}
