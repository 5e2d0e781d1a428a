//! Goes one of the [`PATHS`] again and again, for callgrind to count the instructions of `measured` and what it calls:
//! see `benches/instructions`. `paths` alone lists them, with their units.

use std::io::Write;
use std::process::ExitCode;

use bayeux_benches::paths::PATHS;

/// Maps and vectors have their size by then.
const WARM_UP: usize = 64;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(name) = args.next() else {
        let mut stdout = std::io::stdout();
        let listed = PATHS.iter().try_for_each(|path| writeln!(stdout, "{} {}", path.name, path.units));
        return if listed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    let times = args.next().and_then(|times| times.parse().ok());
    let (Some(path), Some(times)) = (PATHS.iter().find(|path| path.name == name), times) else {
        eprintln!("usage: paths [NAME TIMES]");
        return ExitCode::from(2);
    };
    let mut run = (path.prepare)();
    for _ in 0..WARM_UP {
        run();
    }
    measured(&mut *run, times);
    ExitCode::SUCCESS
}

#[inline(never)]
fn measured(run: &mut dyn FnMut(), times: usize) {
    for _ in 0..times {
        run();
    }
}
