#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| imactl_fuzz::policy(text));
