//! Revocation of signed files: an old program by its digest, all files of a key by the key.

use std::fs;

use anyhow::{Context, Result};
use ima_format::blacklist::Entry;
use lab::boot::Boot;
use lab::kernel::Series;
use lab::keys::{Algorithm, Issuer, KeyStore};
use lab::machine::Ending;
use lab::on_each_kernel;
use lab::protocol::{Action, Errno};
use lab::scenario::run;

/// A signed entry that denies a file.
fn entry(store: &KeyStore, boot: &Boot, path: &str) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    store.revoke(&["--file".as_ref(), boot.root.path(path).as_ref()], directory.path())?;
    let file = fs::read_dir(directory.path())?.next().context("no entry")??;
    Ok(fs::read(file.path())?)
}

on_each_kernel! {
    fn revoked_digests_and_keys_are_denied(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let other = store.another_signer("revoked", Issuer::System)?;
        let boot = Boot::new(kernel, &store)?;
        for (number, name) in ["today", "last-year", "later"].into_iter().enumerate() {
            let path = format!("/opt/{name}");
            boot.root.copy("/usr/bin/true", &path)?;
            (0..number).try_for_each(|_| boot.root.tamper(&path))?;
        }
        boot.root.install_imactl()?;
        boot.root.sign_all(&store)?;
        boot.root.copy("/usr/bin/true", "/opt/other")?;
        other.sign(&[boot.root.path("/opt/other")])?;
        boot.initramfs.write("/etc/keys/x509_ima_other.der", other.certificate()?, 0o644)?;
        let (old, certificate) = (boot.root.path("/opt/last-year"), other.pem());
        store.revoke(
            &["--file".as_ref(), old.as_ref(), "--cert".as_ref(), certificate.as_ref()],
            &boot.initramfs.path("/etc/keys"),
        )?;
        // the real root can only add revocations: invalid ones stop nothing
        boot.root.write("/etc/keys/blacklist_wrong.entry", b"bin:00\nno signature", 0o644)?;
        let later = entry(&store, &boot, "/opt/later")?;
        let mut guest = boot.up()?;

        assert!(guest.boot_says(".entry loaded into .blacklist"));
        assert!(guest.boot_says(".der loaded into .ima_blacklist"));
        assert!(guest.boot_says("blacklist_wrong.entry rejected by .blacklist"));
        guest.execute(&["/opt/today"])?.is_allowed();
        let (text, signature) = Entry::split_signed(&later).context("an entry")?;
        let mut deny = |entry: &[u8], signature: &[u8]| {
            let entry = String::from_utf8_lossy(entry).into_owned();
            guest.request(Action::Revoke { entry, signature: signature.to_vec().into() })
        };
        deny(b"bin:0000", signature)?.fails(Errno::EKEYREJECTED);
        deny(text, signature)?.is_allowed();
        for name in ["last-year", "later"] {
            let execution = guest.execute(&[&format!("/opt/{name}")])?;
            match kernel.series() {
                // before Linux 6.6 only digests of appended signatures are checked
                Series::Linux6_1 => execution.is_allowed(),
                _ => execution.is_denied_silently(Errno::EACCES),
            };
        }
        guest.execute(&["/opt/other"])?.is_denied(Errno::EACCES, "invalid-signature");
        for (path, why) in [
            ("/opt/later", "in the kernel's .blacklist"),
            ("/opt/other", "which is in .ima_blacklist"),
        ] {
            let told = guest.execute(&["/usr/bin/imactl", "why", path])?;
            let allowed = path == "/opt/later" && kernel.series() == Series::Linux6_1;
            assert_eq!(told.text().contains(why), !allowed, "{told}");
        }
        Ok(())
    }
}

#[test]
fn a_rejected_revocation_of_the_initramfs_stops_the_boot() {
    run(Series::Linux7, |kernel| {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.initramfs.write("/etc/keys/blacklist_wrong.entry", b"bin:00\nno signature", 0o644)?;
        let record = boot.ends()?;
        assert_eq!(record.ending, Ending::Off);
        assert!(record.console.contains("rejected a revocation of the initramfs"));
        Ok(())
    });
}
