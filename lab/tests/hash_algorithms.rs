//! Signatures with every hash algorithm: which kernels verify them with RSA, and which with ECDSA.

use lab::image::Tree;
use lab::kernel::Series;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_kernel;
use lab::protocol::{Action, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

/// Which kernels verify a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verified {
    /// All of them.
    Always,
    /// All of them; imactl refuses to make it because it protects nothing, so evmctl makes it.
    Weak,
    /// Since 6.7, which added SHA-3.
    Since6_7,
    /// None; imactl refuses to make it, so evmctl makes it.
    Never,
}

use Verified::{Always, Never, Since6_7, Weak};

/// A hash algorithm, and the expected results with RSA and with ECDSA.
const EXPECTED: [(&str, Verified, Verified); 11] = [
    ("md5", Weak, Never),
    ("sha1", Always, Always),
    ("rmd160", Always, Never),
    ("sha224", Always, Always),
    ("sha256", Always, Always),
    ("sha384", Always, Always),
    ("sha512", Always, Always),
    ("sha3-256", Since6_7, Since6_7),
    ("sha3-384", Since6_7, Since6_7),
    ("sha3-512", Since6_7, Since6_7),
    // no one can sign sm3 with RSA: PKCS#1 has no identifier for it
    ("sm3", Never, Never),
];

impl Verified {
    /// The cause of the denial, if it is denied.
    fn denial(self, series: Series) -> Option<&'static str> {
        match self {
            Always | Weak => None,
            Since6_7 if series != Series::Linux6_1 => None,
            Since6_7 | Never => Some("invalid-signature"),
        }
    }
}

on_each_kernel! {
    fn every_hash_algorithm_is_verified_or_denied_as_expected(kernel) {
        let stores = [
            ("rsa", KeyStore::create(Algorithm::Rsa2048)?),
            ("ecdsa", KeyStore::create(Algorithm::P256)?),
        ];
        let root = Tree::small_root()?;
        root.sign_all(&stores[0].1)?;
        let mut programs = Vec::new();
        for (hash, rsa, ecdsa) in EXPECTED {
            for ((key, store), verified) in stores.iter().zip([rsa, ecdsa]) {
                if (*key, hash) == ("rsa", "sm3") {
                    continue;
                }
                let program = format!("/opt/{key}-{hash}");
                root.copy("/usr/bin/true", &program)?;
                match verified {
                    Always | Since6_7 => store.sign_over(hash, &root.path(&program))?,
                    Never | Weak => store.sign_with_evmctl(hash, &root.path(&program))?,
                }
                programs.push((program, verified));
            }
        }
        let mut enforced = Enforced::new(kernel, &stores[0].1, &root, DEFAULT_POLICY)?;
        enforced.machine = enforced.machine.trusting(&stores[1].1.system_certificate()?);
        let mut guest = enforced.boot()?;
        for (_, store) in &stores {
            let certificate = store.ima_certificate()?.into();
            guest.request(Action::AddKey { keyring: ".ima".into(), certificate })?.is_allowed();
        }
        for (program, verified) in programs {
            let execution = guest.execute(&[&program])?;
            match verified.denial(kernel.series()) {
                None => _ = execution.is_allowed(),
                Some(cause) => _ = execution.is_denied(Errno::EACCES, cause),
            }
        }
        Ok(())
    }
}
