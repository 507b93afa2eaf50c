//! Firmware with Secure Boot: OVMF with its own keys, and the unified kernel image that it starts from a
//! disk of its own.
//!
//! The keys are written into the variable store in the layout of UEFI and EDK II, instead of being
//! enrolled in the setup screen:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 48 | 2 | length of the volume's header, after which the store's header of 28 bytes begins |
//! | then | 60 | of each variable, at a multiple of 4: the header, of which the mark 0x55aa, the state 0x3f, the attributes at 4, the sizes of name and data at 36 and 40, and the vendor's GUID at 44 are set |
//! | | | its name in UTF-16, and its data: a signature list (`EFI_SIGNATURE_LIST`) with one certificate |

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{ensure, Context, Result};
use tempfile::TempDir;

use super::Machine;
use crate::host;

const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// The memory addresses of the sections of a unified image.
const SECTIONS: [(&str, &str); 3] =
    [(".cmdline", "0x30000"), (".linux", "0x2000000"), (".initrd", "0x3000000")];
/// Larger than the files of the image.
const DISK_SIZE: u64 = 96 << 20;

/// GUIDs in their memory layout.
const GLOBAL: [u8; 16] = *b"\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c";
const SECURITY: [u8; 16] = *b"\xcb\xb2\x19\xd7\x3a\x3d\x96\x45\xa3\xbc\xda\xd0\x0e\x67\x65\x6f";
const SHIM: [u8; 16] = *b"\x50\xab\x5d\x60\x46\xe0\x00\x43\xab\xb6\x3d\xd8\x10\xdd\x8b\x23";
const X509: [u8; 16] = *b"\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72";

/// A key that is enrolled as platform key, exchange key and in `db`, and the image that it signs.
#[derive(Debug, Clone)]
pub struct SecureBoot {
    directory: Rc<TempDir>,
    /// The directory with the key that signs the image.
    signer: Rc<TempDir>,
    replacement: Option<(String, String)>,
    machine_owner: Option<Vec<u8>>,
}

impl SecureBoot {
    /// Generates a key with this name.
    pub fn create(name: &str) -> Result<Self> {
        let directory = Rc::new(tempfile::tempdir()?);
        let mut openssl = host::command("openssl", "openssl")?;
        openssl.current_dir(directory.path()).args(["req", "-x509", "-newkey", "rsa:2048"]);
        openssl.args(["-nodes", "-subj", &format!("/CN={name}"), "-days", "3650"]);
        host::run(openssl.args(["-keyout", "key.pem", "-out", "certificate.pem"]))?;
        let mut convert = host::command("openssl", "openssl")?;
        convert.current_dir(directory.path()).args(["x509", "-in", "certificate.pem"]);
        host::run(convert.args(["-outform", "DER", "-out", "certificate.der"]))?;
        let signer = Rc::clone(&directory);
        Ok(Self { signer, directory, replacement: None, machine_owner: None })
    }

    /// Enrolls a certificate in DER as machine owner key: in `MokListRT`, which shim writes for the kernel.
    pub fn machine_owner(mut self, certificate: &[u8]) -> Self {
        self.machine_owner = Some(certificate.to_owned());
        self
    }

    /// Signs the image with another key, which is not enrolled.
    pub fn signed_by(mut self, other: &Self) -> Self {
        self.signer = Rc::clone(&other.directory);
        self
    }

    /// Replaces a text in the signed image with another of the same length.
    pub fn replacing(mut self, from: &str, to: &str) -> Self {
        self.replacement = Some((from.to_owned(), to.to_owned()));
        self
    }

    /// Writes the files that QEMU needs, disk and variables, into the machine's directory.
    pub(super) fn prepare(&self, machine: &Machine, words: &str, directory: &Path) -> Result<()> {
        for (path, package) in [(CODE, "ovmf"), (VARIABLES, "ovmf"), (STUB, "systemd-boot-efi")] {
            host::file(Path::new(path), package)?;
        }
        let inside = |name: &str| directory.join(name);
        let mut store = fs::read(VARIABLES)?;
        self.enroll(&mut store)?;
        fs::write(inside("variables"), store)?;

        machine.kernel.write_bootable(&machine.certificates, &inside("kernel"))?;
        fs::write(inside("words"), words)?;
        let initramfs =
            machine.initramfs.clone().context("a unified image without an initramfs")?;
        let mut objcopy = host::command("objcopy", "binutils")?;
        let files = [inside("words"), inside("kernel"), initramfs];
        for ((section, address), file) in SECTIONS.iter().zip(files) {
            objcopy.arg(format!("--add-section={section}={}", file.display()));
            objcopy.arg(format!("--change-section-vma={section}={address}"));
        }
        host::run(objcopy.arg(STUB).arg(inside("unsigned.efi")))?;
        let image = self.sign(&inside("unsigned.efi"), inside("unified.efi"))?;

        let disk = inside("esp");
        fs::File::create(&disk)?.set_len(DISK_SIZE)?;
        host::run(host::command("mkfs.vfat", "dosfstools")?.arg(&disk))?;
        let tool = |name| -> Result<_> {
            let mut tool = host::command(name, "mtools")?;
            tool.arg("-i").arg(&disk);
            Ok(tool)
        };
        host::run(tool("mmd")?.args(["::/EFI", "::/EFI/BOOT"]))?;
        host::run(tool("mcopy")?.arg(image).arg("::/EFI/BOOT/BOOTX64.EFI")).map(drop)
    }

    fn sign(&self, unsigned: &Path, to: PathBuf) -> Result<PathBuf> {
        let signer = self.signer.path();
        let mut sbsign = host::command("sbsign", "sbsigntool")?;
        sbsign.arg("--key").arg(signer.join("key.pem"));
        sbsign.arg("--cert").arg(signer.join("certificate.pem"));
        host::run(sbsign.arg("--output").arg(&to).arg(unsigned))?;
        if let Some((from, with)) = &self.replacement {
            ensure!(from.len() == with.len(), "{from:?} and {with:?} are not of one length");
            let mut image = fs::read(&to)?;
            let found = image.windows(from.len()).position(|it| it == from.as_bytes());
            let start = found.with_context(|| format!("no {from:?} in the image"))?;
            image[start..start + from.len()].copy_from_slice(with.as_bytes());
            fs::write(&to, image)?;
        }
        Ok(to)
    }

    /// Writes the variables into a store without variables.
    fn enroll(&self, store: &mut [u8]) -> Result<()> {
        // non-volatile, boot service and runtime access
        const PLAIN: u32 = 0x07;
        // the same, time-based authenticated writes
        const AUTHENTICATED: u32 = 0x27;
        let certificate = fs::read(self.directory.path().join("certificate.der"))?;
        let list = signature_list(&certificate)?;
        let mut variables: Vec<_> = [("PK", GLOBAL), ("KEK", GLOBAL), ("db", SECURITY)]
            .map(|(name, vendor)| (name, vendor, AUTHENTICATED, list.clone()))
            .into();
        if let Some(certificate) = &self.machine_owner {
            variables.push(("MokListRT", SHIM, PLAIN, signature_list(certificate)?));
        }
        let mut at = usize::from(u16::from_le_bytes([store[48], store[49]])) + 28;
        for (name, vendor, attributes, list) in variables {
            let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
            let mut variable = vec![0; 60];
            variable[..3].copy_from_slice(b"\xaa\x55\x3f");
            variable[4..8].copy_from_slice(&attributes.to_le_bytes());
            variable[36..40].copy_from_slice(&u32::try_from(name.len())?.to_le_bytes());
            variable[40..44].copy_from_slice(&u32::try_from(list.len())?.to_le_bytes());
            variable[44..].copy_from_slice(&vendor);
            variable.extend([name, list].concat());
            at = at.next_multiple_of(4);
            let place = store.get_mut(at..at + variable.len()).context("the store is too small")?;
            ensure!(place.iter().all(|byte| *byte == 0xff), "{VARIABLES} has variables");
            place.copy_from_slice(&variable);
            at += variable.len();
        }
        Ok(())
    }
}

/// An `EFI_SIGNATURE_LIST` with one certificate; the owner GUID is arbitrary.
fn signature_list(certificate: &[u8]) -> Result<Vec<u8>> {
    let size = u32::try_from(16 + certificate.len())?;
    // the sizes of the list, of its header, and of each signature (the owner's GUID and the certificate)
    let sizes = [28 + size, 0, size].map(u32::to_le_bytes).concat();
    Ok([&X509[..], &sizes, &[0; 16], certificate].concat())
}

/// QEMU's arguments for the firmware.
pub(super) fn arguments(directory: &Path) -> Vec<String> {
    let flash = |unit: u8, file: &str, more: &str| {
        format!("if=pflash,format=raw,unit={unit},file={file}{more}")
    };
    let inside = |name: &str| directory.join(name).display().to_string();
    let esp = format!("if=none,id=esp,format=raw,file={}", inside("esp"));
    [
        // only code in SMM may write the variables
        "-global",
        "driver=cfi.pflash01,property=secure,value=on",
        "-drive",
        &flash(0, CODE, ",readonly=on"),
        "-drive",
        &flash(1, &inside("variables"), ""),
        "-drive",
        &esp,
        "-device",
        "virtio-blk-pci,drive=esp",
    ]
    .map(str::to_owned)
    .into()
}
