#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| saltgate::fuzz::key_snapshot(bytes));
