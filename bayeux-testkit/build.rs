//! Tells the simulator which commit it was built from.

#![allow(clippy::print_stdout, reason = "that is how a build script speaks")]

use std::process::Command;

fn main() {
    // Without a repository, as in a package, there is nothing to look at.
    let head = std::path::Path::new("../.git/HEAD");
    println!("cargo::rerun-if-changed={}", if head.exists() { "../.git/HEAD" } else { "build.rs" });
    let describe = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let commit = describe.ok().filter(|output| output.status.success());
    let commit =
        commit.map_or_else(|| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!("cargo::rustc-env=BAYEUX_COMMIT={commit}");
}
