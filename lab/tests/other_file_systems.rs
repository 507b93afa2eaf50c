//! A signed program that was copied to a file system in memory, or to one without extended
//! attributes, is refused there.

use lab::image::{Image, Tree};
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_kernel;
use lab::protocol::{Action, Attributes, Credentials, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

on_each_kernel! {
    fn programs_on_tmpfs_ramfs_and_vfat_are_refused(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        root.sign_all(&store)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?
            .disc(Image::vfat(8 << 20)?)
            .boot()?;

        for (source, kind) in [("tmpfs", "tmpfs"), ("ramfs", "ramfs"), ("/dev/vdb", "vfat")] {
            let directory = format!("/mnt/{kind}");
            guest.mount(source, kind, &directory)?.is_allowed();
            let program = format!("{directory}/true");
            guest.copy("/usr/bin/true", &program)?.is_allowed();

            let execution = guest.execute(&[&program])?;
            if kind == "tmpfs" {
                let record = execution.is_refused(Errno::EACCES, "IMA-signature-required");
                assert_eq!(record.device(), Some("tmpfs"));
            } else {
                // where there can be no attribute the kernel does not even say why
                execution.is_refused_silently(Errno::EACCES);
            }
            // that it was IMA shows in that whom the policy does not hold may
            guest.execute_as(&Credentials::user(1000), &[&program])?.is_allowed();
        }

        // tmpfs can hold attributes: the signature may go along
        guest
            .request(Action::Copy {
                from: "/usr/bin/true".into(),
                to: "/mnt/tmpfs/whole".into(),
                attributes: Attributes::Kept,
            })?
            .is_allowed();
        guest.execute(&["/mnt/tmpfs/whole"])?.is_allowed();
        Ok(())
    }
}
