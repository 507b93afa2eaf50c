//! Signed programs and shared libraries can be executed.

use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Ending;
use lab::on_each_architecture;
use lab::protocol::{Action, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

on_each_architecture! {
    fn signed_programs_and_libraries_run(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root_for(kernel.architecture())?;
        root.sign_all(&store)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;
        assert_eq!(guest.agent(), 1, "the signed init is the init");

        // a static program, a dynamic one, and one with further libraries
        guest.execute(&["/usr/bin/busybox", "true"])?.is_allowed();
        let shell = guest.execute(&["/bin/sh", "-c", "echo it runs"])?;
        assert_eq!(shell.is_allowed().text(), "it runs\n");
        let listing = guest.execute(&["/bin/ls", "/etc/../usr"])?;
        assert_eq!(listing.is_allowed().text(), "bin\nlib\nlib64\nsbin\n");

        let path = format!("/usr/lib/{}/libc.so.6", kernel.architecture().multiarch());
        guest.request(Action::MapExecutable { path: path.clone() })?.is_allowed();
        // a read-only mapping cannot become executable, signed or not
        guest
            .request(Action::ProtectExecutable { path })?
            .is_denied(Errno::EPERM, "failed-mprotect");
        assert_eq!(guest.power_off()?.ending, Ending::Off);
        Ok(())
    }
}
