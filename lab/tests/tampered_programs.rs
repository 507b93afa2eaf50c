//! Files that were changed after signing, or signed by an unknown key, are denied: programs, and programs
//! because of a library.

use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_architecture;
use lab::protocol::{Action, Attributes, Errno, Position};
use lab::scenario::{Enforced, DEFAULT_POLICY};

/// A library of `ls`, not the C library.
const LIBRARY: &str = "libselinux.so.1";

on_each_architecture! {
    fn tampered_programs_are_denied(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let unknown = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root_for(kernel.architecture())?;
        root.sign_all(&store)?;
        for name in ["tampered", "unknown-key"] {
            root.copy("/usr/bin/true", &format!("/opt/{name}"))?;
        }
        root.sign(&store, &["/opt/tampered"])?;
        root.tamper("/opt/tampered")?;
        root.sign(&unknown, &["/opt/unknown-key"])?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;

        guest.execute(&["/opt/tampered"])?.is_denied(Errno::EACCES, "invalid-signature");
        let seen = guest.execute(&["/opt/unknown-key"])?;
        seen.is_denied(Errno::EACCES, "invalid-signature");
        seen.says("Request for unknown key 'id:");

        // a program that was executed before, then changed in place
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        let path = "/usr/bin/true".to_owned();
        let content = vec![0].into();
        guest.request(Action::Patch { path, position: Position::End, content })?.is_allowed();
        guest.execute(&["/usr/bin/true"])?.is_denied(Errno::EACCES, "invalid-signature");
        Ok(())
    }

    fn programs_with_bad_libraries_do_not_start(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root_for(kernel.architecture())?;
        root.sign_all(&store)?;
        let library = format!("/usr/lib/{}/{LIBRARY}", kernel.architecture().multiarch());
        for name in ["unsigned", "tampered", "good"] {
            root.copy(&library, &format!("/opt/{name}/{LIBRARY}"))?;
        }
        let tampered = format!("/opt/tampered/{LIBRARY}");
        root.sign(&store, &[&tampered, &format!("/opt/good/{LIBRARY}")])?;
        root.tamper(&tampered)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;

        let mut list_with = |directory: &str| {
            guest.execute_with(&[("LD_LIBRARY_PATH", directory)], &["/bin/ls", "/"])
        };
        list_with("/opt/good")?.is_allowed();
        for (directory, cause) in
            [("/opt/unsigned", "IMA-signature-required"), ("/opt/tampered", "invalid-signature")]
        {
            let listing = list_with(directory)?;
            // the loader's exit code if it cannot map a library
            assert!(listing.exits(127).contains(LIBRARY));
            let record = listing.audited(cause);
            assert_eq!(record.name(), Some(&*format!("{directory}/{LIBRARY}")));
        }

        // a copy with the signature of other content
        let to = "/opt/good/other".to_owned();
        let from = "/usr/bin/cat".to_owned();
        guest
            .request(Action::Copy { from, to: to.clone(), attributes: Attributes::Kept })?
            .is_allowed();
        let content = std::fs::read(root.path("/usr/bin/true"))?.into();
        let position = Position::Start(0);
        guest.request(Action::Patch { path: to.clone(), position, content })?.is_allowed();
        guest.execute(&[&to])?.is_denied(Errno::EACCES, "invalid-signature");
        Ok(())
    }
}
