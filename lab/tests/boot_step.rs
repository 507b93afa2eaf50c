//! imactl-init as a step of another initramfs: its exit codes, and its effects.

use lab::boot::{mounted, Boot};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Guest, Part};
use lab::on_each_kernel;
use lab::protocol::{Action, Errno};

const STEP: [&str; 2] = ["/usr/bin/imactl-init", "/sysroot"];

/// Switches to the root as the other initramfs would; the agent keeps running.
fn enter(guest: &mut Guest) -> anyhow::Result<()> {
    let refusal = guest.switch_root("/sysroot", "/sbin/init")?;
    assert!(refusal.is_none(), "{}", refusal.expect("checked"));
    Ok(())
}

on_each_kernel! {
    fn success_is_0_and_the_policy_in_force(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.root.sign_all(&store)?;
        boot.root.copy("/usr/bin/true", "/opt/unsigned")?;
        boot.root.write("/etc/keys/x509_evm.der", store.evm_certificate()?, 0o644)?;
        let mut guest = mounted(boot)?;
        let step = guest.execute(&STEP)?;
        let said = step.exits(0);
        // these files have no effect
        assert!(said.contains("EVM: the real root has EVM files"), "{said}");
        assert!(said.contains("secured in "), "to the standard error too: {said}");
        assert!(!said.contains('\x1b'), "no colours in a pipe");
        // programs of the initramfs can no longer be executed
        guest.execute(&STEP)?.is_denied(Errno::EACCES, "IMA-signature-required");
        enter(&mut guest)?;
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        guest.execute(&["/opt/unsigned"])?.is_denied(Errno::EACCES, "IMA-signature-required");
        Ok(())
    }

    fn no_securityfs_is_1(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let mut guest = mounted(Boot::step(kernel, &store)?.without(Part::Securityfs))?;
        assert!(guest.execute(&STEP)?.exits(1).contains("no securityfs"));
        Ok(())
    }

    fn no_ima_is_2(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let mut guest = mounted(Boot::step(kernel, &store)?.without(Part::Ima))?;
        assert!(guest.execute(&STEP)?.exits(2).contains("no IMA"));
        Ok(())
    }

    fn no_certificate_is_3(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.initramfs.remove("/etc/keys/x509_ima.der")?;
        let mut guest = mounted(boot.append("imactl.mode=permissive"))?;
        assert!(guest.execute(&STEP)?.exits(3).contains(".ima has no certificate"));
        Ok(())
    }

    fn no_policy_is_4(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.initramfs.remove("/etc/ima/ima_policy.default")?;
        let mut guest = mounted(boot)?;
        assert!(guest.execute(&STEP)?.exits(4).contains("no policy"));
        Ok(())
    }

    fn a_broken_policy_is_5(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.initramfs.write("/etc/ima/ima_policy", "nonsense\n", 0o400)?;
        let mut guest = mounted(boot)?;
        assert!(guest.execute(&STEP)?.exits(5).contains("line 1, \"nonsense\": EINVAL"));
        Ok(())
    }

    fn no_root_and_wrong_usage_are_6(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let mut guest = mounted(Boot::step(kernel, &store)?)?;
        guest.execute(&["/usr/bin/imactl-init", "/nowhere"])?.exits(6);
        guest.execute(&["/usr/bin/imactl-init", "--no-such-option"])?.exits(6);
        let switch = ["/usr/bin/imactl-init", "switch-root", "/sysroot", "/sbin/init"];
        assert!(guest.execute(&switch)?.exits(6).contains("for the first process"));
        Ok(())
    }

    fn evm_that_cannot_be_set_up_is_7(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let unknown = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.initramfs.write("/etc/sysconfig/evm", "", 0o644)?;
        boot.initramfs.write("/etc/other.der", unknown.evm_certificate()?, 0o644)?;
        boot.initramfs.write("/etc/evm.der", store.evm_certificate()?, 0o644)?;
        let mut guest = mounted(boot)?;
        for (text, complaint) in [
            ("EVMX509=$HOME/x509_evm.der", "cannot parse: EVMX509=$HOME"),
            ("EVMX509=/etc/other.der EVMKEYSDIR=/none", "cannot parse"),
            ("EVMX509=/etc/other.der\nEVM_ACTIVATION_BITS=0x100", "signed it"),
            ("EVMX509=/etc/other.der", "neither a certificate in .evm nor an HMAC key"),
            ("EVMX509=/etc/evm.der\nEVMKEY=/none", "there is no EVM key /none"),
            ("EVMX509=/etc/evm.der\nEVMKEY=/etc/evm.der", "key /etc/evm.der of type encrypted"),
            // detected when the policy is in force
            ("EVMX509=/etc/evm.der\nEVM_ACTIVATION_BITS=0x100", "0x80000102 rejected: EINVAL"),
        ] {
            guest.request(Action::Write {
                path: "/etc/sysconfig/evm".into(),
                content: format!("{text}\n").into_bytes().into(),
                mode: 0o644,
            })?.is_allowed();
            let said = guest.execute(&STEP)?.exits(7);
            assert!(said.contains(complaint), "{text}: {said}");
            assert!(said.contains("asks for EVM, but it is not in force"), "{text}: {said}");
        }
        Ok(())
    }

    fn appraisal_off_is_0(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let mut guest = mounted(Boot::step(kernel, &store)?.append("ima_appraise=off"))?;
        assert!(guest.execute(&STEP)?.exits(0).contains("nothing is loaded"));
        Ok(())
    }

    fn neither_proc_nor_securityfs_need_be_mounted(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.root.sign_all(&store)?;
        let mut guest = mounted(boot)?;
        for target in ["/sys/kernel/security", "/proc"] {
            guest.request(Action::Unmount { target: target.into() })?.is_allowed();
        }
        let said = guest.execute(&STEP)?.exits(0);
        assert!(said.contains("1 certificate, 1 policy, 7 rules in force"), "{said}");
        guest.read("/proc/mounts")?.fails(Errno::ENOENT);
        Ok(())
    }

    fn securityfs_may_be_mounted_elsewhere(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.root.sign_all(&store)?;
        let mut guest = mounted(boot)?;
        guest.request(Action::Unmount { target: "/sys/kernel/security".into() })?.is_allowed();
        guest.mount("securityfs", "securityfs", "/mnt")?.is_allowed();
        let said = guest.execute(&STEP)?.exits(0);
        assert!(said.contains("1 certificate, 1 policy, 7 rules in force"), "{said}");
        assert_eq!(guest.read("/mnt/ima/policy")?.text().lines().count(), 7);
        Ok(())
    }

    fn a_full_initramfs_is_secured_like_any(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.initramfs.install("/usr/bin/busybox", "busybox-static")?;
        boot.root.sign_all(&store)?;
        let mut guest = mounted(boot)?;
        // the root of an initramfs has no size limit: copy it to a tmpfs that has one
        guest.request(Action::Mount {
            source: "full".into(),
            target: "/tmp".into(),
            kind: "tmpfs".into(),
            access: lab::protocol::Access::ReadWrite,
            options: "size=4m".into(),
        })?.is_allowed();
        let fill = "cd /tmp; B=/usr/bin/busybox; \
            $B mkdir -p new/proc new/sys new/dev new/usr new/sysroot; \
            $B cp -a /etc new/; $B cp -a /usr/bin new/usr/; \
            $B mount -t ext4 -o ro /dev/vda new/sysroot; \
            $B dd if=/dev/zero of=fill bs=1k 2>/dev/null; \
            $B chroot new /usr/bin/imactl-init /sysroot";
        let step = guest.execute(&["/usr/bin/busybox", "sh", "-c", fill])?;
        let said = step.exits(0);
        assert!(said.contains("1 certificate, 1 policy, 7 rules in force"), "{said}");
        Ok(())
    }

    fn names_that_lead_out_of_the_tree_do_not(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.root.symlink("/etc/ima", "/../../etc/ima-of-the-root")?;
        boot.root.write("/etc/ima-of-the-root/ima_policy", "audit func=BPRM_CHECK\n", 0o400)?;
        boot.root.sign_all(&store)?;
        let mut guest = mounted(boot)?;
        let said = guest.execute(&STEP)?.exits(0);
        assert!(said.contains("policy /sysroot/etc/ima/ima_policy loaded: 1 rule"), "{said}");
        Ok(())
    }

    fn an_overlay_root_is_secured_like_any(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.root.write("/etc/ima/ima_policy", "audit func=BPRM_CHECK\n", 0o400)?;
        boot.root.sign_all(&store)?;
        let mut guest = boot.up()?;
        guest.mount("/dev/vda", "ext4", "/lower")?.is_allowed();
        guest.mount("tmpfs", "tmpfs", "/mnt")?.is_allowed();
        for path in ["/mnt/upper", "/mnt/work"] {
            guest.request(Action::MakeDirectory { path: path.into() })?.is_allowed();
        }
        guest
            .request(Action::Mount {
                source: "overlay".into(),
                target: "/sysroot".into(),
                kind: "overlay".into(),
                access: lab::protocol::Access::ReadWrite,
                options: "lowerdir=/lower,upperdir=/mnt/upper,workdir=/mnt/work".into(),
            })?
            .is_allowed();
        let said = guest.execute(&STEP)?.exits(0);
        assert!(said.contains("2 policies, 8 rules in force"), "{said}");
        enter(&mut guest)?;
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        guest.copy("/usr/bin/true", "/opt-copy")?.is_allowed();
        guest.execute(&["/opt-copy"])?.is_denied(Errno::EACCES, "IMA-signature-required");
        Ok(())
    }

    fn run_on_the_real_root_it_loads_each_policy_once(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.initramfs.write("/etc/ima/ima_policy.site", "audit func=BPRM_CHECK\n", 0o400)?;
        let mut guest = boot.up()?;
        // the initramfs as the root: its further policies have no signature
        let said = guest.execute(&STEP[..1])?.exits(0);
        assert!(said.contains("policy /etc/ima/ima_policy.site rejected: EACCES"), "{said}");
        assert!(said.contains("1 policy, 7 rules in force"), "{said}");
        Ok(())
    }
}
