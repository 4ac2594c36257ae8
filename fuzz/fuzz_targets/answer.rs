#![no_main]

#[path = "../src/answers.rs"]
mod answers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| answers::answer(data));
