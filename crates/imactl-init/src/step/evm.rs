//! EVM: its keys, and the bits that enable it.

use alloc::ffi::CString;
use alloc::vec::Vec;

use ima_format::printable::Printable;
use rustix::fs::{self, Mode, OFlags};
use rustix::io::{self, Errno};

use super::{Failure, Work};
use crate::evm::{bits, Configuration, FILE, MASTER_FILE};
use crate::file::{self, Tree};
use crate::keyring::{self, Keyring};
use crate::plan::{Evm, Files, Origin};
use crate::say;
use crate::syscall::{self, KeySerial};
use crate::text::Reason;

/// The path in securityfs; `evm` is a link to it.
const EVM: &str = "integrity/evm/evm";
/// The attributes that EVM covers (`CONFIG_EVM_ADD_XATTRS`).
const ATTRIBUTES: &str = "integrity/evm/evm_xattrs";
/// Keys and configuration files are smaller.
const SIZE_LIMIT: usize = 64 << 10;

impl Work<'_> {
    /// Reads the configuration of the initramfs.
    pub(super) fn read_evm_configuration(&mut self) -> Result<(), Failure> {
        for name in [FILE, MASTER_FILE] {
            let text = match read(&self.initramfs, name) {
                Ok(text) => text,
                Err(Errno::NOENT) => continue,
                Err(errno) => {
                    let path = self.initramfs.path_of(name);
                    let (path, reason) = (Printable(&path), Reason(errno));
                    say!(self.console, Error, "cannot read {path}: {reason}");
                    return Err(Failure::NoEvm);
                }
            };
            if let Err(error) = self.evm.read(&text) {
                let path = self.initramfs.path_of(name);
                let (path, line) = (Printable(&path), Printable(&error.line));
                say!(self.console, Error, "{path}: cannot parse: {line}");
                return Err(Failure::NoEvm);
            }
        }
        Ok(())
    }

    /// The certificates that the configuration names.
    pub(super) fn evm_certificates(&self, origin: Origin) -> Vec<Vec<u8>> {
        let Configuration { certificate, certificates, .. } = &self.evm;
        let first = self.tree(origin).find(certificate).map(|_| certificate.clone());
        let directory = core::str::from_utf8(certificates).unwrap_or_default();
        first.into_iter().chain(self.list(origin, directory, "", ".der")).collect()
    }

    /// Whether the initramfs requests EVM: by a file of its own, or by a key on the command line.
    pub(super) fn evm_wanted(&self, initramfs: &Files, root: Option<&Files>) -> Evm {
        let is_there = |tree: &Tree, name: &[u8]| tree.find(name).is_ok();
        let Configuration { key, .. } = &self.evm;
        if !initramfs.evm_certificates.is_empty()
            || key.is_some()
            || [FILE, self.evm.key_path()].iter().any(|name| is_there(&self.initramfs, name))
        {
            return Evm::Wanted;
        }
        let root_has_certificates = root.is_some_and(|root| !root.evm_certificates.is_empty());
        if root_has_certificates || is_there(&self.root, FILE) {
            let text = "the real root has EVM files, but the initramfs has none: EVM not set up";
            say!(
                self.console,
                Notice,
                "EVM: {text} (an empty /etc/sysconfig/evm there asks for it)"
            );
        }
        Evm::Unwanted
    }

    /// Enables EVM, and locks its bits. By then the kernel has copied the HMAC key, so the key is removed
    /// from the keyring.
    pub(super) fn enable_evm(&mut self) -> Result<(), Failure> {
        let result = self.add_evm_attributes().and_then(|()| self.write_evm_bits());
        for key in core::mem::take(&mut self.evm_keys) {
            if let Err(errno) = syscall::invalidate_key(key) {
                say!(
                    self.console,
                    Warning,
                    "cannot remove an EVM key from the session keyring: {}",
                    Reason(errno)
                );
            }
        }
        result
    }

    /// Adds the attributes of the configuration to those that EVM covers, and lets no one add others. Before EVM is
    /// enabled, because each changes which files are valid.
    fn add_evm_attributes(&self) -> Result<(), Failure> {
        let names = &self.evm.attributes;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            match self.write_to(ATTRIBUTES, name) {
                // in the list already, or the list is final: it is read below
                Ok(()) | Err(Errno::EXIST | Errno::PERM) => {}
                Err(errno) => {
                    let (name, reason) = (Printable(name), Reason(errno));
                    let cause = match errno {
                        Errno::NOENT => ": this kernel adds none (CONFIG_EVM_ADD_XATTRS)",
                        _ => "",
                    };
                    say!(self.console, Error, "EVM: attribute {name} rejected: {reason}{cause}");
                    return Err(Failure::NoEvm);
                }
            }
        }
        let covered = file::read_at(&self.securityfs, ATTRIBUTES.as_bytes(), SIZE_LIMIT);
        let covered = covered.unwrap_or_default();
        let is_covered =
            |name: &&Vec<u8>| covered.split(|&byte| byte == b'\n').any(|it| it == **name);
        if let Some(name) = names.iter().find(|name| !is_covered(name)) {
            say!(self.console, Error, "EVM does not cover attribute {}", Printable(name));
            return Err(Failure::NoEvm);
        }
        match self.write_to(ATTRIBUTES, b".") {
            Ok(()) | Err(Errno::PERM) => Ok(()),
            Err(errno) => {
                let reason = Reason(errno);
                say!(self.console, Error, "EVM: cannot lock the list of attributes: {reason}");
                Err(Failure::NoEvm)
            }
        }
    }

    fn write_evm_bits(&self) -> Result<(), Failure> {
        let wanted = self.evm.bits | bits::COMPLETE | self.evm_key_bits();
        let written = self.write_evm(wanted);
        // an earlier program may have set and locked the bits; the lock bit cannot be read
        let in_force = self.evm_bits().unwrap_or(0);
        let needed = match wanted & bits::HMAC {
            0 => wanted & !bits::COMPLETE,
            _ => wanted & !(bits::COMPLETE | bits::METADATA_WRITES),
        };
        match written {
            Ok(()) if in_force & needed == needed => {}
            Err(Errno::PERM) if in_force & needed == needed => {}
            Ok(()) => {
                say!(self.console, Error, "EVM: wrote {wanted:#x}, but {in_force:#x} is in force");
                return Err(Failure::NoEvm);
            }
            Err(errno) => {
                let (reason, cause) = (Reason(errno), evm_refusal(errno));
                say!(self.console, Error, "EVM: {wanted:#x} rejected: {reason}: {cause}");
                return Err(Failure::NoEvm);
            }
        }
        let by = match in_force & (bits::HMAC | bits::X509) {
            bits::HMAC => "HMAC",
            bits::X509 => "signatures",
            _ => "HMAC and signatures",
        };
        say!(self.console, Notice, "EVM in force: {by} (bits {in_force:#x}, locked)");
        if in_force & bits::METADATA_WRITES != 0 {
            say!(self.console, Warning, "EVM: metadata can be changed even if it becomes invalid");
        }
        Ok(())
    }

    /// The bits of the loaded keys; the kernel may have loaded a certificate itself.
    fn evm_key_bits(&self) -> u32 {
        let evm = keyring::find(self.proc, Keyring::Evm);
        let certificates = evm.and_then(syscall::keyring_members).unwrap_or_default();
        let hmac = if self.evm_keys.is_empty() { 0 } else { bits::HMAC };
        hmac | if certificates.is_empty() { 0 } else { bits::X509 }
    }

    /// Loads the HMAC key; fails if there is neither that nor a certificate.
    pub(super) fn require_evm_key(&mut self) -> Result<(), Failure> {
        self.load_evm_key()?;
        if self.evm_key_bits() == 0 {
            say!(self.console, Error, "EVM has neither a certificate in .evm nor an HMAC key");
            return Err(Failure::NoEvm);
        }
        Ok(())
    }

    /// Loads the HMAC key, if there is one, and the key that encrypts it.
    fn load_evm_key(&mut self) -> Result<(), Failure> {
        let evm = self.evm.clone();
        let path = evm.key_path();
        let Some(blob) = self.key_blob(path)? else {
            if evm.key.is_some() {
                say!(self.console, Error, "there is no EVM key /{}", Printable(path));
                return Err(Failure::NoEvm);
            }
            return Ok(());
        };
        let Configuration { key_type, key_name, master_key_type, .. } = &evm;
        let master_path = evm.master_key_path();
        // without a master key file, the encrypting key may already be in the kernel
        if let Some(master) = self.key_blob(&master_path)? {
            let name = [b"kmk-", &**master_key_type].concat();
            let payload = evm.master_key_payload(&master);
            let key = self.add_key(&master_path, master_key_type, &name, &payload)?;
            self.evm_keys.push(key);
        }
        let key = self.add_key(path, key_type, key_name, &[b"load ", &*blob].concat())?;
        self.evm_keys.push(key);
        Ok(())
    }

    fn add_key(
        &self,
        path: &[u8],
        kind: &[u8],
        name: &[u8],
        payload: &[u8],
    ) -> Result<KeySerial, Failure> {
        let added = CString::new(kind)
            .and_then(|kind| Ok((kind, CString::new(name)?)))
            .map_err(|_| Errno::INVAL)
            .and_then(|(kind, name)| {
                syscall::add_key(&kind, Some(&name), payload, syscall::PROCESS_KEYRING)
            });
        added.map_err(|errno| {
            let (path, kind, reason) = (Printable(path), Printable(kind), Reason(errno));
            say!(self.console, Error, "key /{path} of type {kind} rejected: {reason}");
            Failure::NoEvm
        })
    }

    /// The first line of a key file, from the initramfs, else from the real root.
    fn key_blob(&self, name: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        for origin in [Origin::Initramfs, Origin::Root] {
            let tree = self.tree(origin);
            match read(tree, name) {
                Ok(text) => {
                    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
                    return Ok(Some(line.into()));
                }
                Err(Errno::NOENT) => {}
                Err(errno) => {
                    let path = tree.path_of(name);
                    let (path, reason) = (Printable(&path), Reason(errno));
                    say!(self.console, Error, "cannot read {path}: {reason}");
                    return Err(Failure::NoEvm);
                }
            }
        }
        Ok(None)
    }

    fn write_evm(&self, wanted: u32) -> Result<(), Errno> {
        self.write_to(EVM, alloc::format!("{wanted}").as_bytes())
    }

    /// Writes to a file of securityfs at once.
    fn write_to(&self, name: &str, content: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = fs::openat(&self.securityfs, name, flags, Mode::empty())?;
        io::retry_on_intr(|| io::write(&file, content)).map(drop)
    }

    fn evm_bits(&self) -> Option<u32> {
        let text = file::read_at(&self.securityfs, EVM.as_bytes(), 64).ok()?;
        core::str::from_utf8(&text).ok()?.trim().parse().ok()
    }
}

fn read(tree: &Tree, name: &[u8]) -> Result<Vec<u8>, Errno> {
    file::read(&tree.open_file(name)?, SIZE_LIMIT)
}

/// The likely reason why the kernel rejected the bits.
fn evm_refusal(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT => "this kernel has no EVM (CONFIG_EVM)",
        Errno::INVAL => "a bit that this kernel does not support",
        Errno::NOKEY => "it did not find the encrypted key \"evm-key\"",
        Errno::PERM => "other bits were set and locked before",
        _ => "see the kernel's messages",
    }
}
