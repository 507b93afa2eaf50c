//! Programs without a signature are denied, however they were created.

use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_architecture;
use lab::protocol::{Action, Attributes, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

on_each_architecture! {
    fn unsigned_created_and_copied_programs_are_denied(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root_for(kernel.architecture())?;
        root.sign_all(&store)?;
        root.copy("/usr/bin/true", "/opt/unsigned")?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;

        let unsigned = guest.execute(&["/opt/unsigned"])?;
        let record = unsigned.is_denied(Errno::EACCES, "IMA-signature-required");
        assert_eq!(record.operation(), Some("appraise_data"));
        assert_eq!(record.name(), Some("/opt/unsigned"));
        assert_eq!(record.device(), Some("vda"));
        assert_eq!(record.errno(), Some(0));

        let content = std::fs::read(root.path("/usr/bin/true"))?.into();
        guest
            .request(Action::Write { path: "/opt/created".into(), content, mode: 0o755 })?
            .is_allowed();
        guest
            .execute(&["/opt/created"])?
            .is_denied(Errno::EACCES, "IMA-signature-required");

        guest.execute(&["/usr/bin/true"])?.is_allowed();
        guest.copy("/usr/bin/true", "/opt/copied")?.is_allowed();
        guest.execute(&["/opt/copied"])?.is_denied(Errno::EACCES, "IMA-signature-required");

        // mapping it executable is denied as well
        let mapped = guest.request(Action::MapExecutable { path: "/opt/copied".into() })?;
        mapped.is_denied(Errno::EACCES, "IMA-signature-required");

        // the signature counts, not the path
        guest
            .request(Action::Copy {
                from: "/usr/bin/true".into(),
                to: "/opt/copied-whole".into(),
                attributes: Attributes::Kept,
            })?
            .is_allowed();
        guest.execute(&["/opt/copied-whole"])?.is_allowed();
        Ok(())
    }
}
