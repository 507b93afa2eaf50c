//! imactl-init as /init: certificates of the initramfs and of the real root.

use lab::boot::{mounted, Boot};
use lab::keys::{Algorithm, Issuer, KeyStore};
use lab::machine::Ending;
use lab::on_each_architecture;
use lab::protocol::Errno;

on_each_architecture! {
    fn a_certificate_of_the_real_root_is_loaded_and_its_programs_run(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let other = store.another_signer("another", Issuer::System)?;
        let boot = Boot::new(kernel, &store)?;
        boot.root.sign_all(&store)?;
        boot.root.copy("/usr/bin/true", "/opt/other")?;
        other.sign(&[boot.root.path("/opt/other")])?;
        boot.root.write("/etc/keys/x509_ima_other.der", other.certificate()?, 0o644)?;
        let mut guest = boot.append("rw").up()?;

        assert!(guest.boot_says("certificate \"another\" (/sysroot/etc/keys/x509_ima_other.der) loaded into .ima"));
        assert!(guest.boot_says("secured in "));
        assert!(guest.boot_says(": 2 certificates, 1 policy, 7 rules in force, appraisal mode enforce"));
        guest.execute(&["/opt/other"])?.is_allowed();
        guest.copy("/usr/bin/true", "/opt/copy")?.is_allowed();
        guest.execute(&["/opt/copy"])?.is_denied(Errno::EACCES, "IMA-signature-required");
        Ok(())
    }

    fn a_secondary_trusted_key_vouches_for_an_ima_certificate(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let vendor = store.another_signer("vendor", Issuer::Secondary)?;
        for secondary in [true, false] {
            let boot = Boot::new(kernel, &store)?;
            boot.root.sign_all(&store)?;
            boot.root.copy("/usr/bin/true", "/opt/vendor")?;
            vendor.sign(&[boot.root.path("/opt/vendor")])?;
            boot.root.write("/etc/keys/x509_ima_vendor.der", vendor.certificate()?, 0o644)?;
            if secondary {
                let certificate = store.secondary_certificate()?;
                boot.root.write("/etc/keys/x509_secondary_a.der", certificate, 0o644)?;
            }
            let mut guest = boot.up()?;

            let run = guest.execute(&["/opt/vendor"])?;
            if secondary {
                assert!(guest.boot_says("loaded into .secondary_trusted_keys"));
                run.is_allowed();
            } else {
                assert!(guest.boot_says(
                    "ENOKEY: required key not available: no key in .builtin_trusted_keys or \
                     .secondary_trusted_keys signed it"
                ));
                run.is_denied(Errno::EACCES, "invalid-signature");
            }
        }
        Ok(())
    }

    fn rejected_certificates_stop_neither_the_boot_nor_the_others(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let other = store.another_signer("another one", Issuer::System)?;
        let boot = Boot::new(kernel, &store)?;
        boot.root.sign_all(&store)?;
        let certificate = store.self_signed_ima_certificate()?;
        let fresh = store.another_signer("fresh", Issuer::Itself)?;
        boot.root.copy("/usr/bin/true", "/opt/fresh")?;
        fresh.sign(&[boot.root.path("/opt/fresh")])?;
        for (name, content) in [
            ("x509_ima_a.der", &certificate[..]),
            ("x509_ima_b.der", b"no certificate"),
            ("x509_ima_c.der", b""),
            ("x509_ima_e.der", &fresh.certificate()?),
            ("x509_ima_f.der", &store.ima_certificate()?),
            ("x509_ima z.der", &other.certificate()?),
        ] {
            boot.root.write(&format!("/etc/keys/{name}"), content, 0o644)?;
        }
        boot.root.symlink("/etc/keys/x509_ima_d.der", "/etc/nowhere")?;
        let mut guest = boot.up()?;

        let missing = "rejected by .ima: ENOKEY: required key not available: no key in";
        for words in [
            // another certificate of the key in the initramfs's certificate: the kernel decides
            &format!("\"self-signed\" of issuer \"self-signed\" (/sysroot/etc/keys/x509_ima_a.der) {missing}"),
            &format!("\"fresh\" of issuer \"fresh\" (/sysroot/etc/keys/x509_ima_e.der) {missing}"),
            "x509_ima_f.der) not offered to .ima: a key with this ID and name is already in the keyring",
            "(/sysroot/etc/keys/x509_ima_b.der) rejected by .ima: EBADMSG: malformed: it is not an X.509",
            "(/sysroot/etc/keys/x509_ima_c.der) rejected by .ima: EINVAL",
            "cannot read certificate /sysroot/etc/keys/x509_ima_d.der: ENOENT",
            "certificate \"another one\" (/sysroot/etc/keys/x509_ima z.der) loaded into .ima",
        ] {
            assert!(guest.boot_says(words), "{words}: {:#?}", guest.boot_messages());
        }
        assert!(guest.boot_says("secured in ") && guest.boot_says(": 2 certificates, 1 policy"));
        guest.execute(&["/opt/fresh"])?.is_denied(Errno::EACCES, "invalid-signature");
        Ok(())
    }

    fn a_self_signed_certificate_alone_stops_the_boot(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let fresh = store.another_signer("fresh", Issuer::Itself)?.certificate()?;
        let boot = Boot::new(kernel, &store)?;
        boot.initramfs.write("/etc/keys/x509_ima.der", &fresh, 0o644)?;
        boot.root.sign_all(&store)?;
        let record = boot.ends()?;
        assert_eq!(record.ending, Ending::Off);
        for words in [
            "certificate \"fresh\" of issuer \"fresh\" (/etc/keys/x509_ima.der) rejected by .ima: ENOKEY",
            "the kernel is not secured: .ima has no certificate",
            "the boot stops",
        ] {
            assert!(record.console.contains(words), "{words}: {}", record.console);
        }
        // the same in the role of a step
        let boot = Boot::step(kernel, &store)?;
        boot.initramfs.write("/etc/keys/x509_ima.der", &fresh, 0o644)?;
        let mut guest = mounted(boot)?;
        let said = guest.execute(&["/usr/bin/imactl-init", "/sysroot"])?.exits(3);
        assert!(said.contains("\"fresh\" of issuer \"fresh\""), "{said}");
        Ok(())
    }

    fn a_certificate_by_an_unknown_key_is_rejected_with_its_names(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let others = KeyStore::create(Algorithm::Rsa2048)?;
        let unknown = others.another_signer("unknown", Issuer::System)?;
        let boot = Boot::new(kernel, &store)?;
        boot.root.sign_all(&store)?;
        boot.root.write("/etc/keys/x509_ima_s.der", unknown.certificate()?, 0o644)?;
        boot.root.write("/etc/keys/x509_ima_t.der", store.secondary_certificate()?, 0o644)?;
        let guest = boot.up()?;
        assert!(guest.boot_says("certificate \"unknown\" of issuer "));
        assert!(guest.boot_says("(/sysroot/etc/keys/x509_ima_s.der) rejected by .ima: ENOKEY"));
        // the certificate of a CA: Linux 6.1 accepts it
        let authority = guest.boot_says("it is a CA certificate, which this keyring rejects since Linux 6.6");
        assert_eq!(authority, kernel.series() >= lab::kernel::Series::Linux6_12);
        Ok(())
    }

    fn without_a_certificate_the_boot_stops(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.initramfs.remove("/etc/keys/x509_ima.der")?;
        boot.root.sign_all(&store)?;
        let record = boot.ends()?;
        assert_eq!(record.ending, Ending::Off);
        assert!(record.console.contains("the kernel is not secured: .ima has no certificate"));
        assert!(!record.console.contains("policy update"), "no policy before a certificate");
        Ok(())
    }
}
