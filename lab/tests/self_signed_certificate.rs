//! `.ima` takes no certificate that a trusted key has not signed, neither from the
//! initramfs nor from root.

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

        // ENOKEY: nobody in the trusted keyrings has signed it
        assert!(guest.boot_says("integrity: Problem loading X.509 certificate -126"));
        let add = |certificate: Vec<u8>| Action::AddKey {
            keyring: ".ima".into(),
            certificate: certificate.into(),
        };
        guest.request(add(certificate))?.is_refused_silently(Errno::ENOKEY);

        // so nothing that its key has signed runs, the init of the root first of all
        guest.mount("/dev/vda", "ext4", "/sysroot")?.is_allowed();
        guest.load_policy("/etc/ima/ima_policy.default")?.is_allowed();
        match guest.switch_root("/sysroot", "/sbin/init")? {
            None => panic!("the init runs, though no key in .ima has signed it"),
            Some(refusal) => {
                refusal.is_refused(Errno::EACCES, "invalid-signature");
                refusal.says("Request for unknown key");
            }
        }
        // the same key with a certificate that the system trusted key has signed
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
        // built into the kernel, but issued by nobody that is
        let module = store.module_certificate()?;
        guest.request(add(module))?.is_refused_silently(Errno::ENOKEY);
        // the CA can still have .ima take the module key
        let certified = store.module_certificate_of_the_system_key()?;
        guest.request(add(certified))?.is_allowed();
        // and a built-in key vouches for others, be it no CA: the module key has to be kept as one
        let other = store.another_signer("of the module key", Issuer::Module)?;
        guest.request(add(other.certificate()?))?.is_allowed();
        Ok(())
    }
}
