//! The kernel verifies signatures by every key algorithm that it supports.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Result;
use lab::image::Tree;
use lab::kernel::Series;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_kernel;
use lab::protocol::{Action, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

type Stores = Vec<(Algorithm, KeyStore)>;

/// A store for each algorithm, shared by tests that run at the same time: generating a large RSA key
/// takes longer than booting a machine.
fn stores() -> Result<Arc<Stores>> {
    static SHARED: Mutex<Weak<Stores>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stores) = shared.upgrade() {
        return Ok(stores);
    }
    let store = |algorithm| Ok((algorithm, KeyStore::create(algorithm)?));
    // the lab's kernels have no ML-DSA
    let algorithms = Algorithm::ALL.into_iter().filter(|it| !matches!(it, Algorithm::MlDsa(_)));
    let stores = Arc::new(algorithms.map(store).collect::<Result<_>>()?);
    *shared = Arc::downgrade(&stores);
    Ok(stores)
}

on_each_kernel! {
    fn every_key_algorithm_verifies(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        root.sign_all(&store)?;
        let stores = stores()?;
        let program = |algorithm: Algorithm| format!("/opt/{}", algorithm.name());
        for (algorithm, store) in &*stores {
            root.copy("/usr/bin/true", &program(*algorithm))?;
            root.sign(store, &[&program(*algorithm)])?;
        }
        let mut enforced = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?;
        for (_, store) in &*stores {
            enforced.machine = enforced.machine.trusting(&store.system_certificate()?);
        }
        let mut guest = enforced.boot()?;

        for (algorithm, store) in &*stores {
            let certificate = store.ima_certificate()?.into();
            let added = guest.request(Action::AddKey { keyring: ".ima".into(), certificate })?;
            let execution = guest.execute(&[&program(*algorithm)])?;
            // ecdsa-nist-p521 is supported since Linux 6.10
            if *algorithm == Algorithm::P521 && kernel.series() == Series::Linux6_1 {
                added.is_denied_silently(Errno::ENOPKG);
                execution.is_denied(Errno::EACCES, "invalid-signature");
            } else {
                added.is_allowed();
                execution.is_allowed();
            }
        }
        Ok(())
    }
}
