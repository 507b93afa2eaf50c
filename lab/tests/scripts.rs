//! An executed script needs a signature. A script that an interpreter reads as an argument does not: the
//! kernel sees a program open a file, not code.

use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_architecture;
use lab::protocol::Errno;
use lab::scenario::{Enforced, DEFAULT_POLICY};

const SCRIPT: &str = "#!/bin/sh\necho from the script\n";

on_each_architecture! {
    fn scripts_need_a_signature_only_when_executed(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root_for(kernel.architecture())?;
        root.write("/opt/signed.sh", SCRIPT, 0o755)?;
        root.copy("/usr/bin/dash", "/opt/other-dash")?;
        root.write("/opt/other-interpreter.sh", SCRIPT.replace("/bin/sh", "/opt/other-dash"), 0o755)?;
        root.sign_all(&store)?;
        root.tamper("/opt/other-dash")?;
        root.write("/opt/unsigned.sh", SCRIPT, 0o755)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;

        guest
            .execute(&["/opt/unsigned.sh"])?
            .is_denied(Errno::EACCES, "IMA-signature-required");
        for argv in [&["/opt/signed.sh"][..], &["/bin/sh", "/opt/unsigned.sh"]] {
            let execution = guest.execute(argv)?;
            assert_eq!(execution.is_allowed().text(), "from the script\n");
        }
        // the interpreter of a signed script needs a signature, too
        let execution = guest.execute(&["/opt/other-interpreter.sh"])?;
        let record = execution.is_denied(Errno::EACCES, "invalid-signature");
        assert_eq!(record.name(), Some("/opt/other-dash"));
        Ok(())
    }
}
