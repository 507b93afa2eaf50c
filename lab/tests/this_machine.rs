//! The output of `imactl` about the machine that it runs on, compared with the kernel's behaviour.

use anyhow::Result;
use lab::image::Tree;
use lab::kernel::Kernel;
use lab::keys::{Algorithm, Issuer, KeyStore};
use lab::machine::{Guest, Tpm};
use lab::on_each_kernel;
use lab::protocol::{Credentials, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

/// A root with imactl, a certificate in /etc/keys that the kernel has not loaded, and files that are
/// denied for each of the usual reasons.
fn machine(kernel: &Kernel, tpm: Tpm) -> Result<Guest> {
    let store = KeyStore::create(Algorithm::Rsa2048)?;
    let vendor = store.another_signer("vendor", Issuer::System)?;
    let unknown = KeyStore::create(Algorithm::Rsa2048)?;
    let root = Tree::small_root()?;
    root.install_imactl()?;
    root.write("/opt/script", "#!/bin/sh\nexit 0\n", 0o755)?;
    for name in ["changed", "digest", "vendor", "unknown-key"] {
        root.copy("/usr/bin/true", &format!("/opt/{name}"))?;
    }
    root.sign_all(&store)?;
    root.write("/etc/keys/x509_ima_store.der", store.ima_certificate()?, 0o644)?;
    root.write("/etc/keys/x509_ima_vendor.der", vendor.certificate()?, 0o644)?;
    root.copy("/usr/bin/true", "/opt/unsigned")?;
    root.tamper("/opt/changed")?;
    vendor.sign(&[root.path("/opt/vendor")])?;
    root.sign(&unknown, &["/opt/unknown-key"])?;
    let mut imactl = lab::programs::imactl()?;
    lab::host::run(imactl.args(["sign", "--hash-only"]).arg(root.path("/opt/digest")))?;
    let mut enforced = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?;
    enforced.machine = enforced.machine.tpm(tpm);
    enforced.boot()
}

on_each_kernel! {
    fn why_says_what_the_kernel_does(kernel) {
        let mut guest = machine(kernel, Tpm::Absent)?;
        for (path, cause, why) in [
            ("/usr/bin/true", None, ""),
            ("/opt/script", None, ""),
            ("/opt/unsigned", Some("IMA-signature-required"), "it has no signature"),
            ("/opt/digest", Some("IMA-signature-required"), "it has a digest"),
            ("/opt/changed", Some("invalid-signature"), "it was changed after it was signed"),
            ("/opt/vendor", Some("invalid-signature"), "which is not in .ima"),
            ("/opt/unknown-key", Some("invalid-signature"), "; .ima has"),
        ] {
            let done = guest.execute(&[path])?;
            let told = guest.execute(&["/usr/bin/imactl", "why", "--ask", path])?;
            match cause {
                None => {
                    done.is_allowed();
                    told.is_allowed();
                    assert!(told.text().contains("the kernel mapped it executable"), "{told}");
                }
                Some(cause) => {
                    let record = done.is_denied(Errno::EACCES, cause).text.clone();
                    told.exits(1);
                    let text = told.text();
                    assert!(text.contains(&format!("execute  denied    {cause}, by: ")), "{text}");
                    assert!(text.contains(why), "{text}");
                    assert!(text.contains("the kernel denied mapping it executable"), "{text}");
                    let line = format!("type=1800 audit(1.2:3): {record}");
                    let told = guest.execute(&["/usr/bin/imactl", "why", "--audit", &line])?;
                    told.exits(1);
                    assert!(told.text().contains(&format!("{path}: {cause}")), "{told}");
                }
            }
        }
        // the fix that `why` prints works
        guest.execute(&["/usr/bin/imactl", "keys", "load", "/etc/keys/x509_ima_vendor.der"])?
            .is_allowed();
        guest.execute(&["/opt/vendor"])?.is_allowed();
        guest.execute(&["/usr/bin/imactl", "why", "/opt/vendor"])?.is_allowed();
        Ok(())
    }

    fn why_knows_file_systems_without_attributes(kernel) {
        let mut guest = machine(kernel, Tpm::Absent)?;
        guest.mount("ramfs", "ramfs", "/mnt")?.is_allowed();
        guest.copy("/usr/bin/true", "/mnt/true")?.is_allowed();
        guest.execute(&["/mnt/true"])?.is_denied_silently(Errno::EACCES);
        let told = guest.execute(&["/usr/bin/imactl", "why", "/mnt/true"])?;
        told.exits(1);
        assert!(told.text().contains("ramfs does not support security.ima"), "{told}");
        Ok(())
    }

    fn status_sees_keys_policy_measurements_and_tpm(kernel) {
        let mut guest = machine(kernel, Tpm::Version2)?;
        let status = guest.execute(&["/usr/bin/imactl", "status", "--json"])?;
        status.is_allowed();
        let status: serde_json::Value = serde_json::from_slice(status.content())?;
        guest.execute(&["/usr/bin/imactl", "status", "--require", "enforced"])?.exits(0);
        assert_eq!(status["ima"], "present", "{status}");
        assert_eq!(status["appraise"], "enforce");
        assert_eq!(status["policy"]["actions"]["appraise"], 7, "{status}");
        assert_eq!(status["tpms"][0]["name"], "tpm0", "{status}");
        assert_eq!(status["tpms"][0]["version"], 2);
        let banks = status["tpms"][0]["banks"].as_array().unwrap();
        assert!(banks.contains(&"sha256".into()), "{status}");
        let ima = status["keyrings"].as_array().unwrap().iter().find(|it| it["name"] == ".ima");
        // the store's key, and the module key that the kernel was built with
        assert!(!ima.unwrap()["keys"].as_array().unwrap().is_empty(), "{status}");
        assert!(status["measurements"].as_u64().unwrap() >= 1, "{status}");
        assert_eq!(status["unseen"].as_array().unwrap().len(), 0, "{status}");
        // PCR 10 was extended, at least by the boot aggregate
        let register = guest.read("/sys/class/tpm/tpm0/pcr-sha256/10")?.text();
        assert!(register.trim().contains(|digit| digit != '0'), "{register}");

        // only root can read the rest, and the output says so
        let user = Credentials::user(65534);
        let status = guest.execute_as(&user, &["/usr/bin/imactl", "status", "--json"])?;
        let status: serde_json::Value = serde_json::from_slice(status.is_allowed().content())?;
        let keyrings = status["keyrings"].as_array().unwrap();
        assert!(keyrings.iter().all(|it| it["state"] == "hidden"), "{status}");
        assert_eq!((&status["ima"], &status["evm_state"]), (&"present".into(), &"unknown".into()));
        assert!(status["policy"].is_null(), "{status}");

        let people = guest.execute(&["/usr/bin/imactl", "status"])?.text();
        assert!(people.contains("TPM            tpm0, version 2.x"), "{people}");
        Ok(())
    }
}
