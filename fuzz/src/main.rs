//! libFuzzer's program for one property: `cargo xtask fuzz NAME`.

#![no_main]

use std::sync::OnceLock;

use imactl_fuzz::{Property, PROPERTIES};

/// Names the property.
const TARGET: &str = "IMACTL_FUZZ_TARGET";

static PROPERTY: OnceLock<Property> = OnceLock::new();

libfuzzer_sys::fuzz_target!(init: {
    let target = std::env::var(TARGET).unwrap_or_default();
    let found = PROPERTIES.iter().find(|(name, _)| *name == target);
    let (_, property) = found.unwrap_or_else(|| panic!("{TARGET}={target}: no such property"));
    PROPERTY.get_or_init(|| *property);
}, |bytes: &[u8]| {
    if let Some(property) = PROPERTY.get() {
        property(bytes);
    }
});
