#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| bayeux_fuzz::options(data));
