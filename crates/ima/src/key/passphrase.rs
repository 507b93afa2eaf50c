//! Secrets: held in memory that is wiped, never shown.

use std::fmt;
use std::sync::Once;

use rustix::process::{set_dumpable_behavior, setrlimit, DumpableBehavior, Resource, Rlimit};
use zeroize::Zeroizing;

/// A passphrase. Wiped when dropped; `Debug` does not show it.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes over a passphrase's bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        keep_out_of_dumps();
        Self(Zeroizing::new(bytes))
    }

    /// The first line of what a file or descriptor holds, without its line end: what
    /// `openssl -pass file:` takes.
    pub fn first_line(content: &[u8]) -> Self {
        let line = content.split(|&byte| byte == b'\n').next().unwrap_or_default();
        Self::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
    }

    /// The bytes. Do not copy them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Has the kernel write no core dump of this process from now on, and let no other process of the
/// same user read its memory: private keys and passphrases are in it.
pub(crate) fn keep_out_of_dumps() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // neither fails on Linux; a dump is prevented by each of them
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
