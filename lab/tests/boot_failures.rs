//! imactl-init as /init if the kernel cannot be secured: the failures that stop the boot, and the effect
//! of the command line on them.

use lab::boot::Boot;
use lab::kernel::{Kernel, Variant, SERIES_OF_VARIANTS};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Ending, Part};
use lab::on_each_kernel;
use lab::scenario::run_on;

on_each_kernel! {
    fn permissive_mode_goes_on_with_a_warning(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.initramfs.remove("/etc/ima/ima_policy.default")?;
        let mut guest = boot.append("imactl.mode=permissive").up()?;
        assert!(guest.boot_says("the kernel is not secured: no policy"));
        assert!(guest.boot_says("CONTINUING WITHOUT A SECURED KERNEL"));
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        Ok(())
    }

    fn permissive_mode_goes_on_with_a_broken_policy(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.initramfs.write("/etc/ima/ima_policy", "appraise func=NONSENSE\n", 0o400)?;
        let mut guest = boot.append("imactl.mode=permissive").up()?;
        assert!(guest.boot_says("line 1, \"appraise func=NONSENSE\": EINVAL"));
        assert!(guest.boot_says("the kernel rejected the policy of the initramfs"));
        assert!(guest.boot_says("CONTINUING WITHOUT A SECURED KERNEL"));
        assert_eq!(guest.agent(), 1);
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        Ok(())
    }

    fn permissive_mode_goes_on_without_a_certificate(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.initramfs.remove("/etc/keys/x509_ima.der")?;
        let mut guest = boot.append("imactl.mode=permissive").up()?;
        assert!(guest.boot_says("the kernel is not secured: .ima has no certificate"));
        assert!(guest.boot_says("CONTINUING WITHOUT A SECURED KERNEL"));
        // with a policy nothing could be executed
        assert_eq!(guest.read("/sys/kernel/security/ima/policy")?.text(), "");
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        Ok(())
    }

    fn an_unknown_mode_enforces(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.initramfs.remove("/etc/ima/ima_policy.default")?;
        let record = boot.append("imactl.mode=permisive").ends()?;
        assert_eq!(record.ending, Ending::Off);
        assert!(record.console.contains("is neither enforce nor permissive: enforcing"));
        Ok(())
    }

    fn appraisal_off_leaves_the_kernel_alone(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let mut guest = Boot::new(kernel, &store)?.append("ima_appraise=off").up()?;
        assert!(guest.boot_says("ima_appraise=off: nothing is loaded, and nothing is appraised"));
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        assert_eq!(guest.read("/sys/kernel/security/ima/policy")?.text(), "");
        Ok(())
    }

    fn appraisal_that_only_logs_is_told(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let mut guest = Boot::new(kernel, &store)?.append("ima_appraise=log").up()?;
        assert!(guest.boot_says("appraisal mode log"));
        assert!(guest.boot_says("ima_appraise=log: the kernel denies no file"));
        guest.execute(&["/usr/bin/true"])?.audited("IMA-signature-required");
        Ok(())
    }

    fn without_ima_the_boot_stops_or_goes_on_as_told(kernel) {
        let words = "the kernel is not secured: this kernel has no IMA";
        stops_or_goes_on(kernel, Part::Ima, words)
    }

    fn without_securityfs_the_boot_stops_or_goes_on_as_told(kernel) {
        let words = "the kernel is not secured: this kernel has no securityfs";
        stops_or_goes_on(kernel, Part::Securityfs, words)
    }

    fn an_unsigned_init_stops_the_boot_with_the_reason(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let record = Boot::new(kernel, &store)?.ends()?;
        assert_eq!(record.ending, Ending::Off);
        assert!(record.console.contains("cannot hand over to /sbin/init: EACCES"));
        assert!(record.console.contains("cause=IMA-signature-required comm=\"init\""));
        Ok(())
    }

    fn a_missing_init_stops_the_boot(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.root.sign_all(&store)?;
        let record = boot.append("init=/sbin/no-init").ends()?;
        assert_eq!(record.ending, Ending::Off);
        let words = "cannot hand over to /sbin/no-init: init is not there: ENOENT";
        assert!(record.console.contains(words));
        Ok(())
    }
}

fn stops_or_goes_on(kernel: &Kernel, part: Part, words: &str) -> anyhow::Result<()> {
    let store = KeyStore::create(Algorithm::Rsa2048)?;
    let record = Boot::new(kernel, &store)?.without(part).ends()?;
    assert_eq!(record.ending, Ending::Off);
    assert!(record.console.contains(words), "{}", record.console);

    let boot = Boot::new(kernel, &store)?.without(part).append("imactl.mode=permissive");
    let guest = boot.up()?;
    assert!(guest.boot_says(words));
    assert!(guest.boot_says("CONTINUING WITHOUT A SECURED KERNEL"));
    Ok(())
}

// Only imactl-init distinguishes what these two kernels lack: one series is enough.

#[test]
fn a_kernel_that_takes_one_policy_says_so_of_the_second() {
    run_on(SERIES_OF_VARIANTS, Variant::WithoutWritePolicy, |kernel| {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.root.write("/etc/ima/ima_policy", "audit func=BPRM_CHECK\n", 0o400)?;
        boot.root.sign_all(&store)?;
        let guest = boot.up()?;
        assert!(guest.boot_says(
            "policy /sysroot/etc/ima/ima_policy not loaded: this kernel accepts one policy"
        ));
        assert!(guest.boot_says("1 policy, 7 rules in force"));
        Ok(())
    });
}

#[test]
fn a_kernel_that_loads_no_certificate_itself_is_given_it() {
    run_on(SERIES_OF_VARIANTS, Variant::WithoutLoadX509, |kernel| {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.root.sign_all(&store)?;
        let mut guest = boot.up()?;
        assert!(guest.boot_says("(/etc/keys/x509_ima.der) loaded into .ima"));
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        Ok(())
    });
}
