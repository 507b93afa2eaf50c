//! A complete distribution under enforcement: Debian, with systemd as its init.

use lab::boot::Boot;
use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_kernel;
use lab::protocol::Errno;

/// Starts the agent after everything else.
const UNIT: &str = "[Unit]
Description=The lab's agent
After=multi-user.target

[Service]
Type=simple
ExecStart=/opt/lab-agent

[Install]
WantedBy=graphical.target
";

on_each_kernel! {
    fn a_signed_debian_reaches_its_target_without_a_denial(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::debian()?;
        root.install_agent("/opt/lab-agent")?;
        root.write("/etc/systemd/system/lab-agent.service", UNIT, 0o644)?;
        let wants = "/etc/systemd/system/graphical.target.wants/lab-agent.service";
        root.symlink(wants, "/etc/systemd/system/lab-agent.service")?;
        root.sign_all(&store)?;
        root.copy("/usr/bin/true", "/opt/unsigned")?;
        let mut guest = Boot::of(kernel, &store, root)?.append("root=/dev/vda rw").up_large()?;

        assert!(guest.agent() > 1, "systemd is the init");
        let refused = guest.boot_audit().iter().filter(|it| it.is_integrity() && it.is_failure());
        let refused: Vec<_> = refused.collect();
        assert!(refused.is_empty(), "{refused:#?}");
        assert!(guest.boot_says(": 1 certificate, 1 policy, 7 rules in force"));

        let active = guest.execute(&["/usr/bin/systemctl", "is-active", "multi-user.target"])?;
        assert_eq!(active.is_allowed().text().trim(), "active");
        guest.execute(&["/usr/bin/dpkg", "--version"])?.is_allowed();
        guest.execute(&["/opt/unsigned"])?.is_denied(Errno::EACCES, "IMA-signature-required");
        guest.copy("/usr/bin/true", "/run/true")?.is_allowed();
        guest.execute(&["/run/true"])?.is_denied(Errno::EACCES, "IMA-signature-required");
        Ok(())
    }
}
