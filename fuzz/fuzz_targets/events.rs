#![no_main]
#![expect(dead_code, reason = "each binary runs one of the targets")]

#[path = "../../crates/synckit-login/tests/it/rng.rs"]
mod rng;
#[path = "../src/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::events(data));
