//! Feeds `einmal_fuzz_corpus::bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = einmal_fuzz_corpus::bodies(bytes);
});
