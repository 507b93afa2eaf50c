//! Secrets: kept in memory that is wiped, and never printed.

use std::fmt;
use std::sync::Once;

use rustix::process::{set_dumpable_behavior, setrlimit, DumpableBehavior, Resource, Rlimit};
use zeroize::Zeroizing;

/// A passphrase. It is wiped when dropped; `Debug` does not print it.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes ownership of a passphrase's bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        keep_out_of_dumps();
        Self(Zeroizing::new(bytes))
    }

    /// The first line of a file or descriptor, without its line end, as with `openssl -pass file:`.
    pub fn first_line(content: &[u8]) -> Self {
        let line = content.split(|&byte| byte == b'\n').next().unwrap_or_default();
        Self::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
    }

    /// The bytes. Do not copy them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Disables core dumps of this process, and access to its memory by other processes of the same user, from now
/// on: it has private keys and passphrases.
pub(crate) fn keep_out_of_dumps() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // neither call fails on Linux, and each prevents dumps
        set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
    });
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_the_passphrase() {
        for content in ["secret", "secret\n", "secret\r\n", "secret\nmore\n"] {
            assert_eq!(Passphrase::first_line(content.as_bytes()).as_bytes(), b"secret");
        }
        assert_eq!(Passphrase::first_line(b" two words \n").as_bytes(), b" two words ");
    }

    #[test]
    fn debug_does_not_show_it() {
        assert!(!format!("{:?}", Passphrase::new(b"secret".to_vec())).contains("secret"));
    }
}
