//! A signature covers the content of a file: times, owner and mode may change, and so may the content if it
//! becomes the same again. (Kernels before 5.14 removed the signature when times, owner or mode were
//! changed by a user to whom no appraise rule of the policy applies, such as a user under `euid=0`.)

use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_kernel;
use lab::protocol::{Action, Errno, Position};
use lab::scenario::{Enforced, DEFAULT_POLICY};

const PROGRAM: &str = "/opt/program";

on_each_kernel! {
    fn a_signature_outlives_what_does_not_change_the_content(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        for name in ["chmod", "chown", "cp", "touch"] {
            root.install(&format!("/usr/bin/{name}"), "coreutils")?;
        }
        root.copy("/usr/bin/true", PROGRAM)?;
        root.sign_all(&store)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;
        guest.execute(&[PROGRAM])?.is_allowed();

        let back = ["/usr/bin/cp", "/usr/bin/true", PROGRAM];
        for command in [
            &["/usr/bin/touch", "-d", "2001-02-03", PROGRAM][..],
            &["/usr/bin/chmod", "0700", PROGRAM],
            &["/usr/bin/chown", "1000:1000", PROGRAM],
            // opened for writing, truncated, and written
            &back,
        ] {
            guest.execute(command)?.is_allowed();
            guest.execute(&[PROGRAM])?.is_allowed();
        }

        let path = PROGRAM.to_owned();
        guest.request(Action::Patch { path, position: Position::End, content: vec![0].into() })?.is_allowed();
        guest.execute(&[PROGRAM])?.is_denied(Errno::EACCES, "invalid-signature");
        guest.execute(&back)?.is_allowed();
        guest.execute(&[PROGRAM])?.is_allowed();
        Ok(())
    }
}
