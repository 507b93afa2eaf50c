//! With the default policy in force, the kernel accepts further policies only from signed files.

use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_architecture;
use lab::protocol::{Action, Credentials, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

const ADDITION: &str = "dont_measure fsmagic=0x9fa0\n";

on_each_architecture! {
    fn only_signed_policies_are_taken(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root_for(kernel.architecture())?;
        for name in ["signed", "tampered"] {
            root.write(&format!("/etc/ima/{name}"), ADDITION, 0o400)?;
        }
        root.write("/etc/ima/invalid", "appraise func=NONSENSE\n", 0o400)?;
        root.sign_all(&store)?;
        root.tamper("/etc/ima/tampered")?;
        root.write("/etc/ima/unsigned", ADDITION, 0o400)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;

        guest
            .load_policy("/etc/ima/unsigned")?
            .is_denied(Errno::EACCES, "IMA-signature-required");
        guest.load_policy("/etc/ima/tampered")?.is_denied(Errno::EACCES, "invalid-signature");
        guest.load_policy("/etc/ima/invalid")?.is_denied(Errno::EINVAL, "failed");
        let written = guest.request(Action::WritePolicy { text: ADDITION.into() })?;
        written.is_denied(Errno::EACCES, "signed policy required");

        let path = "/etc/ima/unsigned".to_owned();
        guest
            .request_as(&almost_root(), Action::LoadPolicy { path })?
            .is_denied(Errno::EACCES, "IMA-signature-required");

        let policy = "/sys/kernel/security/ima/policy";
        assert!(!guest.read(policy)?.text().contains("dont_measure"));
        guest.load_policy("/etc/ima/signed")?.is_allowed();
        assert!(guest.read(policy)?.text().contains("dont_measure fsmagic=0x9fa0"));
        Ok(())
    }

    fn a_rule_for_euid_0_does_not_hold_roots_capabilities(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root_for(kernel.architecture())?;
        root.sign_all(&store)?;
        root.write("/etc/ima/unsigned", ADDITION, 0o400)?;
        let policy = "appraise func=POLICY_CHECK euid=0 appraise_type=imasig\n";
        let mut guest = Enforced::new(kernel, &store, &root, policy)?.boot()?;

        let path = "/etc/ima/unsigned".to_owned();
        guest.load_policy(&path)?.is_denied(Errno::EACCES, "IMA-signature-required");
        guest.request_as(&almost_root(), Action::LoadPolicy { path })?.is_allowed();
        Ok(())
    }
}

/// Root's capabilities with another user ID.
fn almost_root() -> Credentials {
    Credentials { capabilities: Some(!0 >> 23), ..Credentials::user(1000) }
}
