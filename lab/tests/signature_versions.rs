//! Signatures of version 2 and 3, by RSA, ECDSA and ML-DSA: which kernel verifies which.

use lab::image::Tree;
use lab::kernel::Series;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_kernel;
use lab::protocol::{Action, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

/// A store of another key for files under a CA of its own, and its name.
fn stores() -> anyhow::Result<Vec<(&'static str, KeyStore)>> {
    Ok(vec![
        ("p-256", KeyStore::create(Algorithm::P256)?),
        ("ml-dsa-44", KeyStore::create_with(Algorithm::P256, &["--ima-algorithm", "ml-dsa-44"])?),
        (
            "ml-dsa-65",
            KeyStore::create_with(Algorithm::Rsa2048, &["--ima-algorithm", "ml-dsa-65"])?,
        ),
    ])
}

on_each_kernel! {
    fn each_kernel_verifies_its_versions(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let stores = stores()?;
        let root = Tree::small_root()?;
        root.sign_all(&store)?;
        let sign = |store: &KeyStore, version: &str, path: &str| {
            root.copy("/usr/bin/true", path)?;
            store.sign_with(&["--signature-version", version], &root.path(path))
        };
        sign(&store, "2", "/opt/rsa-2")?;
        sign(&store, "3", "/opt/rsa-3")?;
        sign(&store, "3", "/opt/rsa-3-changed")?;
        for (name, store) in &stores {
            sign(store, "3", &format!("/opt/{name}"))?;
            sign(store, "3", &format!("/opt/{name}-changed"))?;
            root.tamper(&format!("/opt/{name}-changed"))?;
        }
        root.tamper("/opt/rsa-3-changed")?;
        let mut enforced = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?;
        for (_, store) in &stores {
            enforced.machine = enforced.machine.trusting(&store.system_certificate()?);
        }
        let mut guest = enforced.boot()?;
        let has = kernel.series() == Series::Linux7;

        guest.execute(&["/opt/rsa-2"])?.is_allowed();
        let execution = guest.execute(&["/opt/rsa-3"])?;
        if has {
            execution.is_allowed();
        } else {
            execution.is_refused(Errno::EACCES, "invalid-signature-version");
        }
        let cause = if has { "invalid-signature" } else { "invalid-signature-version" };
        guest.execute(&["/opt/rsa-3-changed"])?.is_refused(Errno::EACCES, cause);
        for (name, store) in &stores {
            let certificate = store.ima_certificate()?.into();
            let added = guest.request(Action::AddKey { keyring: ".ima".into(), certificate })?;
            if has || !name.starts_with("ml-dsa") {
                added.is_allowed();
            } else {
                added.is_refused_silently(Errno::ENOPKG);
            }
            let execution = guest.execute(&[&format!("/opt/{name}")])?;
            if has {
                execution.is_allowed();
            } else {
                execution.is_refused(Errno::EACCES, cause);
            }
            guest.execute(&[&format!("/opt/{name}-changed")])?.is_refused(Errno::EACCES, cause);
        }
        Ok(())
    }
}
