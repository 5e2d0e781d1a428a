#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| bayeux_fuzz::swarm_plans(data));
