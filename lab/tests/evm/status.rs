//! The state of EVM as `imactl status` shows it.

use anyhow::{Context, Result};
use lab::boot::Boot;
use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_kernel;
use openssl::x509::X509;
use serde_json::Value;

use super::{with_hmac_key, CERTIFICATE};

/// What EVM is enabled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nothing,
    Certificate,
    HmacKey,
}

/// The mode, the bits in securityfs, and the words for them. The kernel does not show that they are locked
/// (`evm_read_key`).
const MODES: [(Mode, u32, &str); 3] = [
    (Mode::Nothing, 0, "not set up"),
    (Mode::Certificate, 2, "signatures"),
    (Mode::HmacKey, 3, "HMAC, signatures"),
];

/// The last four bytes of the Subject Key Identifier.
fn key_id(certificate: &[u8]) -> Result<String> {
    let certificate = X509::from_der(certificate)?;
    let identifier = certificate.subject_key_id().context("no Subject Key Identifier")?;
    let last = identifier.as_slice().rchunks(4).next().unwrap_or_default();
    Ok(last.iter().map(|byte| format!("{byte:02x}")).collect())
}

on_each_kernel! {
    fn status_shows_the_mode_and_the_key_of_evm(kernel) {
        let store = KeyStore::create(Algorithm::P256)?;
        let certificate = store.evm_certificate()?;
        for (mode, bits, words) in MODES {
            let root = Tree::small_root()?;
            root.install_imactl()?;
            store.sign_with(&["--evm"], root.directory())?;
            let mut boot = Boot::new(kernel, &store)?.append("rw");
            boot.root = root;
            if mode != Mode::Nothing {
                boot.initramfs.write(CERTIFICATE, &certificate, 0o644)?;
            }
            if mode == Mode::HmacKey {
                with_hmac_key(&boot, "")?;
            }
            let mut guest = boot.up()?;
            let status = guest.execute(&["/usr/bin/imactl", "status", "--json"])?;
            let status: Value = serde_json::from_slice(status.is_allowed().content())?;
            let seen = (status["evm_state"].as_str(), status["evm"].as_u64());
            assert_eq!(seen, (Some("present"), Some(u64::from(bits))), "{mode:?}: {status}");
            let keyrings = status["keyrings"].as_array().context("keyrings")?;
            let evm = keyrings.iter().find(|it| it["name"] == ".evm").context(".evm")?;
            let keys = evm["keys"].as_array().context("keys")?;
            let ids: Vec<_> = keys.iter().filter_map(|key| key["key_id"].as_str()).collect();
            match mode {
                Mode::Nothing => assert!(ids.is_empty(), "{status}"),
                Mode::Certificate | Mode::HmacKey => assert_eq!(ids, [key_id(&certificate)?]),
            }
            let text = guest.execute(&["/usr/bin/imactl", "status"])?.text();
            assert!(text.contains(&format!("EVM            {words}\n")), "{text}");
            let covers = "EVM covers     security.SMACK64, security.ima, security.capability\n";
            assert!(text.contains(covers), "{text}");
        }
        Ok(())
    }
}
