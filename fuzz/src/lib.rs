//! The properties that every input must have: no panic, and a round trip where the form is
//! canonical. libFuzzer looks for inputs that break them (`cargo fuzz run xattr`); seeded
//! tests try some in CI.

use ima_format::hash::HashAlgorithm;
use ima_format::xattr::Attribute;

/// A property of all bytes; it panics where they break it.
pub type Property = fn(&[u8]);

/// Every property, by the name of its libFuzzer target.
pub const PROPERTIES: &[(&str, Property)] = &[("xattr", xattr)];

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
