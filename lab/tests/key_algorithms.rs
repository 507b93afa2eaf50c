//! Signatures by every key algorithm that the kernel knows verify.

use lab::image::Tree;
use lab::kernel::Series;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_kernel;
use lab::protocol::{Action, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

on_each_kernel! {
    fn every_key_algorithm_verifies(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        root.sign_all(&store)?;
        let mut stores = Vec::new();
        for algorithm in Algorithm::ALL {
            let store = KeyStore::create(algorithm)?;
            let program = format!("/opt/{}", algorithm.name());
            root.copy("/usr/bin/true", &program)?;
            root.sign(&store, &[&program])?;
            stores.push((algorithm, program, store));
        }
        let mut enforced = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?;
        for (_, _, store) in &stores {
            enforced.machine = enforced.machine.trusting(&store.system_certificate()?);
        }
        let mut guest = enforced.boot()?;

        for (algorithm, program, store) in &stores {
            let certificate = store.ima_certificate()?.into();
            let added = guest.request(Action::AddKey { keyring: ".ima".into(), certificate })?;
            let execution = guest.execute(&[program])?;
            // ecdsa-nist-p521 came with Linux 6.10
            if *algorithm == Algorithm::P521 && kernel.series() == Series::Linux6_1 {
                added.is_refused_silently(Errno::ENOPKG);
                execution.is_refused(Errno::EACCES, "invalid-signature");
            } else {
                added.is_allowed();
                execution.is_allowed();
            }
        }
        Ok(())
    }
}
