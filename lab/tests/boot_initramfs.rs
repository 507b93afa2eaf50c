//! The result of `imactl initramfs create` boots.

use lab::boot::Boot;
use lab::keys::{Algorithm, KeyStore};
use lab::protocol::Errno;
use lab::{host, on_each_kernel, programs};

on_each_kernel! {
    fn a_ready_initramfs_secures_the_kernel_and_hands_over(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        for compression in ["zstd", "gzip", "none"] {
            let boot = Boot::new(kernel, &store)?;
            boot.root.sign_all(&store)?;
            boot.root.copy("/usr/bin/true", "/opt/copy")?;
            let directory = tempfile::tempdir()?;
            let initramfs = directory.path().join("initramfs.img");
            let mut imactl = programs::imactl()?;
            imactl.args(["initramfs", "create", "--compress", compression, "--output"]);
            imactl.arg(&initramfs).arg("--keys").arg(store.directory());
            host::run(imactl.arg("--init").arg(programs::imactl_init()?))?;
            let mut guest = boot.up_with(&initramfs)?;

            assert!(guest.boot_says(": 1 certificate, 1 policy, 7 rules in force"), "{compression}");
            guest.execute(&["/usr/bin/true"])?.is_allowed();
            guest.execute(&["/opt/copy"])?.is_denied(Errno::EACCES, "IMA-signature-required");
        }
        Ok(())
    }
}
