//! Kernel modules and firmware. A module needs two signatures: its own, enforced by the kernel's
//! configuration, and the file's, required by the policy.

use std::os::unix::fs::chown;
use std::path::PathBuf;

use anyhow::Result;
use lab::host;
use lab::image::Tree;
use lab::kernel::{Kernel, Series};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Guest, Observation};
use lab::on_each_kernel;
use lab::protocol::{Action, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

const FIRMWARE: &[u8] = b"firmware of the lab";

/// Adds `/lib/modules/NAME.ko` to the tree, with a module signature by `signer`.
pub(crate) fn add_module(
    root: &Tree,
    kernel: &Kernel,
    module: &str,
    name: &str,
    signer: Option<&KeyStore>,
) -> Result<()> {
    let path = format!("/lib/modules/{name}.ko");
    root.take(&kernel.module(module)?, &path)?;
    if let Some(store) = signer {
        let (key, certificate): (PathBuf, PathBuf) = store.module_key();
        kernel.sign_module(&root.path(&path), &key, &certificate)?;
    }
    Ok(())
}

pub(crate) fn load(guest: &mut Guest, name: &str) -> Result<Observation> {
    let path = format!("/lib/modules/{name}.ko");
    guest.request(Action::LoadModule { path, parameters: String::new() })
}

/// The owner whose modules and kernels may have an appended signature.
const MODSIG: u32 = 1001;

/// Adds files with signatures appended by imactl, by keys in `.ima`.
fn appended(
    root: &Tree,
    kernel: &Kernel,
    store: &KeyStore,
    unknown: &KeyStore,
    ml_dsa: &KeyStore,
) -> Result<()> {
    for (name, signer) in [
        ("good", Some(store)),
        ("foreign", Some(unknown)),
        ("bare", None),
        ("ml-dsa", Some(ml_dsa)),
        ("ml-dsa-changed", Some(ml_dsa)),
    ] {
        let module = format!("/lib/modules/appended-{name}.ko");
        let (image, initramfs) = (format!("/boot/vmlinuz-{name}"), format!("/boot/initrd-{name}"));
        add_module(root, kernel, "test_module", &format!("appended-{name}"), None)?;
        root.take(&kernel.image(), &image)?;
        root.write(&initramfs, "an initramfs", 0o644)?;
        for path in [module, image, initramfs] {
            if let Some(store) = signer {
                store.append_with_ima_key(&root.path(&path))?;
            }
            if name == "ml-dsa-changed" {
                // change a byte before the appended signature
                let mut bytes = std::fs::read(root.path(&path))?;
                bytes[0] ^= 1;
                std::fs::write(root.path(&path), bytes)?;
            }
            chown(root.path(&path), Some(MODSIG), None)?;
        }
    }
    Ok(())
}

/// Signatures over the content itself, which Linux 7.2 and newer verify. Older kernels cannot parse the
/// message and treat the files as unsigned.
fn ml_dsa_counts(guest: &mut Guest, series: Series, certificate: Vec<u8>) -> Result<()> {
    let has = series == Series::Linux7;
    let added = guest
        .request(Action::AddKey { keyring: ".ima".into(), certificate: certificate.into() })?;
    match has {
        true => added.is_allowed(),
        false => added.is_denied_silently(Errno::ENOPKG),
    };
    for name in ["ml-dsa", "ml-dsa-changed"] {
        let denied = match (name, has) {
            ("ml-dsa", true) => None,
            (_, true) => Some("invalid-signature"),
            (_, false) => Some("IMA-signature-required"),
        };
        let path = format!("/boot/vmlinuz-{name}");
        let initramfs = Some(format!("/boot/initrd-{name}"));
        let kernel = guest.request(Action::LoadKernel { path, initramfs })?;
        let module = load(guest, &format!("appended-{name}"))?;
        match denied {
            None => {
                kernel.is_allowed();
                module.is_allowed().says("test_module:");
                guest.request(Action::UnloadModule { name: "test_module".into() })?.is_allowed();
            }
            Some(cause) => {
                kernel.is_denied(Errno::EACCES, cause);
                module.is_denied(Errno::EACCES, cause);
            }
        }
    }
    Ok(())
}

/// Appends a message that includes its own content: the signature is valid for that content, whatever
/// the file has.
fn attach(root: &Tree, store: &KeyStore, path: &str) -> Result<()> {
    let key = store.directory().join("ima_keys/x509_ima");
    root.write("/boot/other", "what was signed", 0o644)?;
    let mut cms = host::command("openssl", "openssl")?;
    cms.args(["cms", "-sign", "-binary", "-noattr", "-nocerts", "-nodetach", "-outform", "DER"]);
    cms.arg("-signer").arg(key.with_extension("crt")).arg("-inkey").arg(key.with_extension("key"));
    let message = host::run(cms.arg("-in").arg(root.path("/boot/other")))?.stdout;
    let trailer = ima_format::modsig::trailer(u32::try_from(message.len())?);
    root.write(path, [b"unsigned content", &message[..], &trailer[..]].concat(), 0o644)?;
    Ok(chown(root.path(path), Some(MODSIG), None)?)
}

fn appended_signatures_count(guest: &mut Guest) -> Result<()> {
    let mut kexec = |kernel: &str, initramfs: &str| {
        let path = format!("/boot/vmlinuz-{kernel}");
        let initramfs = Some(format!("/boot/initrd-{initramfs}"));
        guest.request(Action::LoadKernel { path, initramfs })
    };
    kexec("good", "good")?.is_allowed();
    for (name, cause) in [("foreign", "invalid-signature"), ("bare", "IMA-signature-required")] {
        kexec(name, "good")?.is_denied(Errno::EACCES, cause);
        kexec("good", name)?.is_denied(Errno::EACCES, cause);
    }
    // ima_collect_modsig() ignores the error of pkcs7_supply_detached_data()
    kexec("good", "attached")?.is_allowed().says("PKCS7: Data already supplied");
    load(guest, "appended-good")?.is_allowed().says("test_module:");
    load(guest, "appended-foreign")?.is_denied(Errno::EACCES, "invalid-signature");
    load(guest, "appended-bare")?.is_denied(Errno::EACCES, "IMA-signature-required");
    Ok(())
}

on_each_kernel! {
    fn modules_need_both_signatures(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let unknown = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        for (name, signer) in [
            ("signed", Some(&store)),
            ("without-module-signature", None),
            ("unknown-key", Some(&unknown)),
            ("tampered", Some(&store)),
        ] {
            add_module(&root, kernel, "test_module", name, signer)?;
        }
        root.sign_all(&store)?;
        root.tamper("/lib/modules/tampered.ko")?;
        // the result must equal that of the kernel's own program
        add_module(&root, kernel, "test_module", "ours", None)?;
        store.append(&root.path("/lib/modules/ours.ko"))?;
        let read = |name: &str| std::fs::read(root.path(&format!("/lib/modules/{name}.ko")));
        assert_eq!(read("ours")?, read("signed")?);
        root.sign(&store, &["/lib/modules/ours.ko"])?;
        // an RSA CA, so that older kernels fail only on the ML-DSA key itself
        let ml_dsa = KeyStore::create_with(Algorithm::Rsa2048, &["--ima-algorithm", "ml-dsa-65"])?;
        appended(&root, kernel, &store, &unknown, &ml_dsa)?;
        attach(&root, &store, "/boot/initrd-attached")?;
        add_module(&root, kernel, "test_module", "without-ima-signature", Some(&store))?;
        let policy = ["MODULE_CHECK", "KEXEC_KERNEL_CHECK", "KEXEC_INITRAMFS_CHECK"]
            .map(|func| format!("appraise func={func} fowner={MODSIG} appraise_type=imasig|modsig\n"))
            .concat()
            + DEFAULT_POLICY;
        let mut enforced = Enforced::new(kernel, &store, &root, &policy)?;
        // the key that signs modules is also in .ima
        enforced.machine = enforced.machine.trusting(&store.ima_certificate()?);
        for certificate in [ml_dsa.system_certificate()?, ml_dsa.ima_certificate()?] {
            enforced.machine = enforced.machine.trusting(&certificate);
        }
        let mut guest = enforced.boot()?;

        for name in ["signed", "ours"] {
            load(&mut guest, name)?.is_allowed().says("test_module:");
            guest.request(Action::UnloadModule { name: "test_module".into() })?.is_allowed();
        }

        load(&mut guest, "without-ima-signature")?
            .is_denied(Errno::EACCES, "IMA-signature-required");
        load(&mut guest, "tampered")?.is_denied(Errno::EACCES, "invalid-signature");
        // the file's signature is valid; the module's own is missing, or by an unknown key
        load(&mut guest, "without-module-signature")?
            .is_denied_silently(Errno::EKEYREJECTED)
            .says("unsigned module");
        load(&mut guest, "unknown-key")?
            .is_denied_silently(Errno::EKEYREJECTED)
            .says("module with unavailable key");
        ml_dsa_counts(&mut guest, kernel.series(), ml_dsa.ima_certificate()?)?;
        appended_signatures_count(&mut guest)
    }

    fn firmware_needs_a_signature(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        add_module(&root, kernel, "test_firmware", "test_firmware", Some(&store))?;
        for name in ["signed", "tampered"] {
            root.write(&format!("/lib/firmware/{name}.bin"), FIRMWARE, 0o644)?;
        }
        root.sign_all(&store)?;
        root.tamper("/lib/firmware/tampered.bin")?;
        root.write("/lib/firmware/unsigned.bin", FIRMWARE, 0o644)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;
        load(&mut guest, "test_firmware")?.is_allowed();

        let mut firmware =
            |name: &str| guest.request(Action::RequestFirmware { name: format!("{name}.bin") });
        assert_eq!(firmware("signed")?.is_allowed().content(), FIRMWARE);
        firmware("unsigned")?.is_denied(Errno::EACCES, "IMA-signature-required");
        firmware("tampered")?.is_denied(Errno::EACCES, "invalid-signature");
        firmware("absent")?.is_denied_silently(Errno::ENOENT);
        Ok(())
    }
}
