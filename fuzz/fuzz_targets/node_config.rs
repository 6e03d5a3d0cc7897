//! Feeds `einmal_fuzz_corpus::node_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = einmal_fuzz_corpus::node_config(bytes);
});
