//! A signed program is denied if it is copied to a file system in memory, or to one without extended
//! attributes. File systems of images can keep the signature.

use lab::image::{Image, Tree, ERASE_SIZE};
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_architecture;
use lab::protocol::{Action, Attributes, Credentials, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

on_each_architecture! {
    fn programs_on_tmpfs_ramfs_and_vfat_are_denied(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root_for(kernel.architecture())?;
        root.sign_all(&store)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?
            .disk(Image::vfat(8 << 20)?)
            .boot()?;

        for (source, kind) in [("tmpfs", "tmpfs"), ("ramfs", "ramfs"), ("/dev/vdb", "vfat")] {
            let directory = format!("/mnt/{kind}");
            guest.mount(source, kind, &directory)?.is_allowed();
            let program = format!("{directory}/true");
            guest.copy("/usr/bin/true", &program)?.is_allowed();

            let execution = guest.execute(&[&program])?;
            if kind == "tmpfs" {
                let record = execution.is_denied(Errno::EACCES, "IMA-signature-required");
                assert_eq!(record.device(), Some("tmpfs"));
            } else {
                // without attributes the kernel does not even write an audit record
                execution.is_denied_silently(Errno::EACCES);
            }
            // other users, to whom the policy does not apply, may execute it: IMA denied it
            guest.execute_as(&Credentials::user(1000), &[&program])?.is_allowed();
        }

        // tmpfs supports attributes: the signature can be copied, too
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

    fn signatures_count_on_the_file_systems_of_images(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root_for(kernel.architecture())?;
        root.sign_all(&store)?;
        let cases = vec![
            ("f2fs", "/dev/vdb", Image::f2fs()?),
            ("jffs2", "mtd0", Image::flash()?),
            ("ubifs", "ubi0:root", Image::ubi()?),
        ];
        for (kind, source, image) in cases {
            let mut enforced = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.disk(image);
            if !source.starts_with('/') {
                let flash = format!("block2mtd.block2mtd=/dev/vdb,{ERASE_SIZE}");
                enforced.machine = enforced.machine.append(&flash);
            }
            if kind == "ubifs" {
                enforced.machine = enforced.machine.append("ubi.mtd=0");
            }
            let mut guest = enforced.boot()?;
            guest.mount(source, kind, "/mnt/other")?.is_allowed();
            guest.copy("/usr/bin/true", "/mnt/other/copy")?.is_allowed();
            guest
                .execute(&["/mnt/other/copy"])?
                .is_denied(Errno::EACCES, "IMA-signature-required");
            guest
                .request(Action::Copy {
                    from: "/usr/bin/true".into(),
                    to: "/mnt/other/whole".into(),
                    attributes: Attributes::Kept,
                })?
                .is_allowed();
            guest.execute(&["/mnt/other/whole"])?.is_allowed();
        }
        Ok(())
    }
}
