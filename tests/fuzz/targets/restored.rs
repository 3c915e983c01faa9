#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lovol_fuzz::properties::restored(bytes));
