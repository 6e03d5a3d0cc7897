//! Feeds `einmal_fuzz_corpus::oob_url`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = einmal_fuzz_corpus::oob_url(bytes);
});
