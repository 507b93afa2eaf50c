//! kexec: another kernel would have no policy, so only signed kernels can be loaded.

use anyhow::Result;
use lab::image::Tree;
use lab::kernel::Kernel;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Guest, Observation};
use lab::on_each_kernel;
use lab::protocol::{Action, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

/// A root with signed, tampered and unsigned kernels and initramfs in `/boot`.
fn root(kernel: &Kernel, store: &KeyStore) -> Result<Tree> {
    let root = Tree::small_root()?;
    let add = |name: &str| {
        root.take(&kernel.image(), &format!("/boot/vmlinuz-{name}"))?;
        root.write(&format!("/boot/initrd-{name}"), "an initramfs", 0o644)
    };
    add("signed")?;
    add("tampered")?;
    root.sign_all(store)?;
    root.tamper("/boot/vmlinuz-tampered")?;
    root.tamper("/boot/initrd-tampered")?;
    add("unsigned")?;
    Ok(root)
}

fn load(guest: &mut Guest, kernel: &str, initramfs: Option<&str>) -> Result<Observation> {
    let path = format!("/boot/vmlinuz-{kernel}");
    let initramfs = initramfs.map(|name| format!("/boot/initrd-{name}"));
    guest.request(Action::LoadKernel { path, initramfs })
}

fn is_loaded(guest: &mut Guest) -> Result<bool> {
    Ok(guest.read("/sys/kernel/kexec_loaded")?.text().trim() == "1")
}

on_each_kernel! {
    fn another_kernel_needs_signatures(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = root(kernel, &store)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;

        for (name, cause) in
            [("unsigned", "IMA-signature-required"), ("tampered", "invalid-signature")]
        {
            load(&mut guest, name, Some("signed"))?.is_denied(Errno::EACCES, cause);
            load(&mut guest, name, None)?.is_denied(Errno::EACCES, cause);
            load(&mut guest, "signed", Some(name))?.is_denied(Errno::EACCES, cause);
        }
        assert!(!is_loaded(&mut guest)?);
        // this call has no file that could be signed
        guest
            .request(Action::ForgetKernel)?
            .is_denied_silently(Errno::EACCES)
            .says("impossible to appraise a kernel image without a file descriptor");

        load(&mut guest, "signed", Some("signed"))?.is_allowed();
        assert!(is_loaded(&mut guest)?);
        load(&mut guest, "signed", None)?.is_allowed();
        Ok(())
    }

    fn without_a_rule_for_kexec_any_kernel_is_taken(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = root(kernel, &store)?;
        let policy = "appraise func=BPRM_CHECK euid=0 appraise_type=imasig\n";
        let mut guest = Enforced::new(kernel, &store, &root, policy)?.boot()?;

        load(&mut guest, "unsigned", Some("unsigned"))?.is_allowed();
        assert!(is_loaded(&mut guest)?);
        guest.request(Action::ForgetKernel)?.is_allowed();
        assert!(!is_loaded(&mut guest)?);
        Ok(())
    }
}
