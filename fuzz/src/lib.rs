//! The properties that every input must have: no panic, and a round trip where the form is
//! canonical. libFuzzer looks for inputs that break them (`cargo fuzz run xattr`); seeded
//! tests try some in CI.

use ima_format::hash::HashAlgorithm;
use ima_format::policy::{explain, read, Fault, Kernel, Loading};
use ima_format::xattr::Attribute;

/// A property of all bytes; it panics where they break it.
pub type Property = fn(&[u8]);

/// Every property, by the name of its libFuzzer target.
pub const PROPERTIES: &[(&str, Property)] = &[("policy", policy), ("xattr", xattr)];

/// Any bytes that decode as an attribute encode to the same bytes; errors point into them.
pub fn xattr(bytes: &[u8]) {
    match Attribute::decode(bytes) {
        Err(error) => assert!(error.offset <= bytes.len(), "{error}"),
        Ok(attribute) => {
            let encoded = attribute.encode();
            match &attribute {
                // MD5 in SHA-1's place: four zeros are not part of it
                Attribute::Digest(md5) if md5.algorithm() == HashAlgorithm::Md5 => {
                    assert_eq!(encoded, bytes[..17]);
                }
                _ => assert_eq!(encoded, bytes),
            }
            assert_eq!(Attribute::decode(&encoded), Ok(attribute));
        }
    }
}

/// What was read of any policy prints as a text that is read to the same; refusals point
/// into the text; the rest can be explained.
pub fn policy(text: &[u8]) {
    let kernel = Kernel::default();
    for loading in [Loading::File, Loading::Text, Loading::ReadBack] {
        let reading = read(text, &kernel, loading);
        for refusal in &reading.refusals {
            let span = refusal.span;
            assert!(span.start <= span.end && span.end <= text.len(), "{refusal:?}");
            assert!(refusal.line >= 1, "{refusal:?}");
        }
        let again = read(&reading.policy.to_bytes(), &kernel, Loading::Text);
        let no_rules = |fault: &Fault| *fault == Fault::NoRules;
        assert!(again.refusals.iter().all(|refusal| no_rules(&refusal.fault)), "{again:?}");
        assert!(again.policy.says_the_same(&reading.policy));
    }
    explain(&read(text, &kernel, Loading::Text).policy, &kernel);
}
