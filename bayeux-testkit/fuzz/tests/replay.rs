//! Every input that fuzzing has kept, through its target, without a fuzzer.
//!
//! `corpus/TARGET/` is what a fuzzer needs to reach all that it has reached so far; `regressions/TARGET/` are inputs that
//! once broke something, each named after what it broke.

use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

use bayeux_fuzz::TARGETS;

thread_local! {
    /// Panics on this thread, those included that a runtime has caught in one of its tasks.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn replay(name: &str) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            report(panic);
        }));
    });
    let (_, target) = TARGETS.iter().find(|target| target.0 == name).expect("a target of that name");
    let inputs = inputs(name);
    assert!(!inputs.is_empty(), "{name} has no corpus");
    for path in inputs {
        let input = fs::read(&path).expect("the file was listed");
        let passed = catch_unwind(AssertUnwindSafe(|| target(&input)));
        assert!(passed.is_ok() && PANICS.get() == 0, "{name} fails with {}", path.display());
    }
}

fn inputs(name: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.join("corpus").join(name), root.join("regressions").join(name)];
    let mut inputs: Vec<PathBuf> = folders.iter().flat_map(|folder| files(folder)).collect();
    inputs.sort();
    inputs
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("a folder that can be read").path()).collect()
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed_and_fuzzed() {
            let replayed = [$(stringify!($name)),*];
            let known: Vec<&str> = TARGETS.iter().map(|target| target.0).collect();
            assert_eq!(replayed[..], known[..]);
            let mut fuzzed = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/targets"));
            fuzzed.sort();
            let fuzzed: Vec<_> = fuzzed.iter().filter_map(|path| path.file_stem()?.to_str()).collect();
            assert_eq!(fuzzed, known);
            for folder in ["corpus", "regressions"] {
                for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
                    let name = path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
                    assert!(known.contains(&name), "{folder}/{name} belongs to no target");
                }
            }
        }
    };
}

targets! {
    binary_data
    channel_names
    decode_batch
    engine_inputs
    frozen_events
    http2_frames
    http_requests
    listener
    options
    server_answers
    swarm_plans
    ws_frames
}
