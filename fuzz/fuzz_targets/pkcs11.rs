#![no_main]

libfuzzer_sys::fuzz_target!(|uri: &[u8]| imactl_fuzz::pkcs11(uri));
