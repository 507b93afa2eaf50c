//! imactl-init as /init: the policy of the initramfs, and those of the real root.

use lab::boot::Boot;
use lab::keys::{Algorithm, Issuer, KeyStore};
use lab::machine::Ending;
use lab::on_each_architecture;
use lab::protocol::Errno;
use lab::scenario::DEFAULT_POLICY;

const POLICY: &str = "/sys/kernel/security/ima/policy";

on_each_architecture! {
    fn the_default_policy_is_used(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.root.sign_all(&store)?;
        boot.root.copy("/usr/bin/true", "/opt/unsigned")?;
        let mut guest = boot.up()?;
        assert!(guest.boot_says("policy /etc/ima/ima_policy.default loaded: 7 rules"));
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        guest.execute(&["/opt/unsigned"])?.is_denied(Errno::EACCES, "IMA-signature-required");
        assert_eq!(guest.read(POLICY)?.text().lines().count(), 7);
        Ok(())
    }

    fn a_custom_policy_takes_its_place(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.root.sign_all(&store)?;
        let custom = "# ours\n\nappraise func=BPRM_CHECK appraise_type=imasig\n";
        boot.initramfs.write("/etc/ima/ima_policy", custom, 0o400)?;
        let mut guest = boot.up()?;
        assert!(guest.boot_says("policy /etc/ima/ima_policy loaded: 1 rule"));
        let rules = guest.read(POLICY)?.text();
        assert_eq!(rules.trim_end(), "appraise func=BPRM_CHECK appraise_type=imasig");
        Ok(())
    }

    fn a_custom_policy_without_a_rule_leaves_the_default(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        for custom in ["", "# nothing\n"] {
            let boot = Boot::new(kernel, &store)?;
            boot.root.sign_all(&store)?;
            boot.initramfs.write("/etc/ima/ima_policy", custom, 0o400)?;
            let guest = boot.up()?;
            assert!(guest.boot_says("/etc/ima/ima_policy has no rules: skipped"));
            assert!(guest.boot_says("policy /etc/ima/ima_policy.default loaded: 7 rules"));
        }
        Ok(())
    }

    fn signed_policies_of_the_real_root_are_added_in_order(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        for (name, rule) in [
            ("ima_policy.b", "audit func=MMAP_CHECK\n"),
            ("ima_policy", "audit func=BPRM_CHECK\n"),
            ("ima_policy.B c", "audit func=FILE_CHECK mask=MAY_READ uid=77\n"),
            ("ima_policy.empty", ""),
        ] {
            boot.root.write(&format!("/etc/ima/{name}"), rule, 0o400)?;
        }
        // absolute links resolve as they will once this is the root
        boot.root.write("/usr/share/ima/more", "audit func=MODULE_CHECK\n", 0o400)?;
        boot.root.symlink("/etc/ima/ima_policy.c", "/usr/share/ima/more")?;
        boot.root.sign_all(&store)?;
        let mut guest = boot.up()?;
        let rules = guest.read(POLICY)?.text();
        let added: Vec<&str> =
            rules.lines().map(str::trim).filter(|rule| rule.starts_with("audit")).collect();
        assert_eq!(
            added,
            [
                "audit func=BPRM_CHECK",
                "audit func=FILE_CHECK mask=MAY_READ uid=77",
                "audit func=MMAP_CHECK",
                "audit func=MODULE_CHECK",
            ]
        );
        assert!(guest.boot_says("5 policies, 11 rules in force"));
        Ok(())
    }

    fn policies_of_the_real_root_have_no_power_without_a_signature(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let unknown = KeyStore::create(Algorithm::Rsa2048)?.another_signer("s", Issuer::System)?;
        let boot = Boot::new(kernel, &store)?;
        let files = ["tampered", "unknown", "syntax", "nul", "newline", "unsigned"];
        for name in files {
            let text = match name {
                "syntax" => "audit func=NONSENSE\n",
                "nul" => "audit func=BPRM_CHECK\n\0\n",
                "newline" => "audit func=BPRM_CHECK",
                _ => "audit func=BPRM_CHECK\n",
            };
            boot.root.write(&format!("/etc/ima/ima_policy.{name}"), text, 0o400)?;
        }
        boot.root.sign_all(&store)?;
        boot.root.tamper("/etc/ima/ima_policy.tampered")?;
        unknown.sign(&[boot.root.path("/etc/ima/ima_policy.unknown")])?;
        boot.root.remove("/etc/ima/ima_policy.unsigned")?;
        boot.root.write("/etc/ima/ima_policy.unsigned", "audit func=BPRM_CHECK\n", 0o400)?;
        let mut guest = boot.up()?;
        for (name, reason) in [
            ("tampered", "EACCES: permission denied"),
            ("unknown", "EACCES: permission denied"),
            ("unsigned", "EACCES: permission denied"),
            ("syntax", "EINVAL: invalid argument: a rule that this kernel rejects"),
            ("nul", "EINVAL: invalid argument: it has a NUL byte"),
            ("newline", "EINVAL: invalid argument: its last line does not end with a newline"),
        ] {
            let words = format!("policy /sysroot/etc/ima/ima_policy.{name} rejected: {reason}");
            assert!(guest.boot_says(&words), "{words}: {:#?}", guest.boot_messages());
        }
        assert!(guest.boot_says("1 policy, 7 rules in force"));
        assert_eq!(guest.read(POLICY)?.text().lines().count(), 7);
        Ok(())
    }

    fn where_no_rule_demands_signatures_the_root_has_no_say(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let imasig = "appraise func=POLICY_CHECK appraise_type=imasig";
        for (lax, why) in [
            ("audit func=MMAP_CHECK\n".to_owned(), "no rule in force demands a signature on every"),
            // a digest is enough
            ("appraise func=POLICY_CHECK\n".to_owned(), "a rule in force may accept policies"),
            (format!("{imasig} fowner=77\n"), "no rule in force demands a signature on every"),
            (format!("dont_appraise fsmagic=0xef53\n{imasig}\n"), "a rule in force may accept"),
        ] {
            let boot = Boot::new(kernel, &store)?;
            boot.root.sign_all(&store)?;
            boot.initramfs.write("/etc/ima/ima_policy", lax.as_bytes(), 0o400)?;
            boot.root.write("/etc/ima/ima_policy", "audit func=BPRM_CHECK\n", 0o400)?;
            let mut guest = boot.up()?;
            let words = format!("policy /sysroot/etc/ima/ima_policy not offered: {why}");
            assert!(guest.boot_says(&words), "{words}: {:#?}", guest.boot_messages());
            assert!(guest.boot_says("secured in "), "the boot goes on");
            assert!(!guest.read(POLICY)?.text().contains("BPRM_CHECK"), "{lax}");
        }
        Ok(())
    }

    fn permissive_mode_loads_policies_without_verification(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.root.sign_all(&store)?;
        boot.initramfs.write("/etc/ima/ima_policy", "audit func=MMAP_CHECK\n", 0o400)?;
        boot.root.write("/etc/ima/ima_policy", "audit func=BPRM_CHECK\n", 0o400)?;
        let mut guest = boot.append("imactl.mode=permissive").up()?;
        assert!(guest.boot_says(
            "policy /sysroot/etc/ima/ima_policy loaded WITHOUT signature verification: no rule"
        ));
        assert!(guest.read(POLICY)?.text().contains("audit func=BPRM_CHECK"));
        Ok(())
    }

    fn a_demand_for_signatures_that_spares_other_file_systems_is_one(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        let policy = format!("dont_appraise fsmagic=0x9fa0\n{DEFAULT_POLICY}");
        boot.initramfs.write("/etc/ima/ima_policy", policy, 0o400)?;
        boot.root.write("/etc/ima/ima_policy", "audit func=BPRM_CHECK\n", 0o400)?;
        boot.root.sign_all(&store)?;
        let mut guest = boot.up()?;
        assert!(guest.boot_says("policy /sysroot/etc/ima/ima_policy loaded: 1 rule"));
        assert!(guest.read(POLICY)?.text().contains("audit func=BPRM_CHECK"));
        Ok(())
    }

    fn an_enormous_policy_is_left_to_the_kernel(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        // larger than imactl-init's read limit
        let mut policy = "# nothing more to say here\n".repeat(700_000);
        policy.push_str(DEFAULT_POLICY);
        assert!(policy.len() > 16 << 20);
        boot.initramfs.write("/etc/ima/ima_policy", policy, 0o400)?;
        boot.root.write("/etc/ima/ima_policy", "audit func=BPRM_CHECK\n", 0o400)?;
        boot.root.sign_all(&store)?;
        let mut guest = boot.up()?;
        assert!(guest.boot_says("policy /etc/ima/ima_policy loaded"), "{:#?}", guest.boot_messages());
        assert!(guest.boot_says("2 policies, 8 rules in force"));
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        Ok(())
    }

    fn without_a_policy_the_boot_stops(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.initramfs.remove("/etc/ima/ima_policy.default")?;
        boot.root.write("/etc/ima/ima_policy", DEFAULT_POLICY, 0o400)?;
        boot.root.sign_all(&store)?;
        let record = boot.ends()?;
        assert_eq!(record.ending, Ending::Off);
        assert!(record.console.contains("the kernel is not secured: no policy: add one as"));
        assert!(record.console.contains("rebooting in 0 seconds"));
        Ok(())
    }

    fn a_broken_policy_stops_the_boot_and_names_the_rule(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        let broken = format!("{DEFAULT_POLICY}# next\n  appraise func=NONSENSE\n");
        let line = broken.lines().count();
        boot.initramfs.write("/etc/ima/ima_policy", broken, 0o400)?;
        boot.root.sign_all(&store)?;
        let record = boot.ends()?;
        assert_eq!(record.ending, Ending::Off);
        assert!(record.console.contains(&format!(
            "policy /etc/ima/ima_policy rejected: line {line}, \"appraise func=NONSENSE\": EINVAL"
        )));
        assert!(record.console.contains("the kernel rejected the policy of the initramfs"));
        Ok(())
    }

    fn a_policy_that_only_loads_by_content_is_loaded_so(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.initramfs.write("/etc/ima/ima_policy", DEFAULT_POLICY.trim_end(), 0o400)?;
        boot.root.sign_all(&store)?;
        let guest = boot.up()?;
        assert!(guest.boot_says("policy /etc/ima/ima_policy only loads by content: EINVAL"));
        assert!(guest.boot_says("its last line does not end with a newline"));
        assert!(guest.boot_says("1 policy, 7 rules in force"));
        Ok(())
    }
}
