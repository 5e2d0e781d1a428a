//! Tells the simulator which commit it was built from.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=../.git/HEAD");
    let describe = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let commit = describe.ok().filter(|output| output.status.success());
    let commit = commit.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!("cargo::rustc-env=BAYEUX_COMMIT={commit}");
}
