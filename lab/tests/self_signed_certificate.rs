//! `.ima` accepts only certificates signed by a trusted key, both from the initramfs and from root.

use lab::image::Tree;
use lab::keys::{Algorithm, Issuer, KeyStore};
use lab::on_each_architecture;
use lab::protocol::{Action, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

on_each_architecture! {
    fn self_signed_certificate_does_not_enter_ima(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let certificate = store.self_signed_ima_certificate()?;
        let root = Tree::small_root_for(kernel.architecture())?;
        root.sign_all(&store)?;
        let initramfs = Tree::small_initramfs_for(kernel.architecture(), &store, DEFAULT_POLICY)?;
        initramfs.write("/etc/keys/x509_ima.der", &certificate, 0o644)?;
        let image = initramfs.initramfs()?;
        let enforced = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?;
        let mut guest = enforced.machine.initramfs(&image).boot()?;

        // ENOKEY: no key in the trusted keyrings signed it
        assert!(guest.boot_says("integrity: Problem loading X.509 certificate -126"));
        let add = |certificate: Vec<u8>| Action::AddKey {
            keyring: ".ima".into(),
            certificate: certificate.into(),
        };
        guest.request(add(certificate))?.is_denied_silently(Errno::ENOKEY);

        // so files signed by its key cannot be executed, first of all the root's init
        guest.mount("/dev/vda", "ext4", "/sysroot")?.is_allowed();
        guest.load_policy("/etc/ima/ima_policy.default")?.is_allowed();
        match guest.switch_root("/sysroot", "/sbin/init")? {
            None => panic!("the init runs, though no key in .ima has signed it"),
            Some(refusal) => {
                refusal.is_denied(Errno::EACCES, "invalid-signature");
                refusal.says("Request for unknown key");
            }
        }
        // the same key with a certificate signed by the system trusted key
        guest.request(add(store.ima_certificate()?))?.is_allowed();
        Ok(())
    }

    fn the_module_key_s_certificate_does_not_enter_ima(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root_for(kernel.architecture())?;
        root.sign_all(&store)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;
        let add = |certificate: Vec<u8>| Action::AddKey {
            keyring: ".ima".into(),
            certificate: certificate.into(),
        };
        // built in, but its issuer is not
        let module = store.module_certificate()?;
        guest.request(add(module))?.is_denied_silently(Errno::ENOKEY);
        // the CA can still certify the module key for .ima
        let certified = store.module_certificate_of_the_system_key()?;
        guest.request(add(certified))?.is_allowed();
        // a built-in key can sign certificates even if it is not a CA: keep the module key as safe as one
        let other = store.another_signer("of the module key", Issuer::Module)?;
        guest.request(add(other.certificate()?))?.is_allowed();
        Ok(())
    }
}
