//! This machine: the policy, keys and measurements of its kernel, as far as they are visible.
//!
//! Reads securityfs (`security/integrity/ima/ima_fs.c`, `security/integrity/evm/evm_secfs.c`),
//! `/proc/keys`, `/proc/cmdline` and `/sys/class/tpm`. Nothing here needs root; files that
//! only root can read are reported as unseen.

mod appraise;
mod keyring;
mod load;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use ima_format::blacklist::Entry;

use crate::evm::Versions;
use crate::verify::Revocations;

pub use appraise::{Appraisal, AppraiseMode};
pub use keyring::{add_version_1, Key, Keyring, KeyringError, Members, BLACKLIST, KEYRINGS};
pub use load::{add_certificate, load_certificate, load_policy, LoadError};

/// Where a machine shows itself; elsewhere than here in tests.
#[derive(Debug, Clone)]
pub struct Machine {
    proc: PathBuf,
    sys: PathBuf,
}

/// Something that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Whether IMA is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ima {
    /// It is, and securityfs shows it.
    Present,
    /// securityfs is not mounted: nothing can be said.
    NoSecurityfs,
    /// The kernel has none.
    Absent,
}

/// A TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tpm {
    /// `tpm0` and so on.
    pub name: String,
    /// 1 or 2.
    pub version: Option<u8>,
    /// The PCR banks that it shows.
    pub banks: Vec<String>,
}

/// EVM's state: the bits of securityfs' `evm` (`Documentation/ABI/testing/evm`). The kernel does not show that they are
/// locked (`evm_read_key` in `evm_secfs.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evm(pub u32);

impl Evm {
    /// Whether it looks at files: it was given a key.
    pub const fn is_active(self) -> bool {
        self.0 & 3 != 0
    }

    /// The signatures that it accepts.
    pub const fn versions(self) -> Versions {
        match self.0 & 8 {
            0 => Versions::All,
            _ => Versions::V3,
        }
    }
}

/// Whether EVM is there, and its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvmState {
    /// The kernel has none.
    Absent,
    /// It cannot be seen.
    Unknown,
    /// It is there.
    Present(Evm),
}

impl fmt::Display for Evm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = [
            (1, "HMAC"),
            (2, "signatures"),
            (4, "metadata writes allowed"),
            (8, "version 3 required"),
        ]
        .iter()
        .filter(|(bit, _)| self.0 & bit != 0)
        .map(|(_, name)| *name)
        .collect();
        match names.is_empty() {
            true => f.write_str("not set up"),
            false => f.write_str(&names.join(", ")),
        }
    }
}

/// The visible state of a machine; `None` is not visible, and `unseen` has the reason.
#[derive(Debug, Clone)]
pub struct Status {
    /// The kernel's release, as `uname -r` has it.
    pub release: Option<String>,
    /// Whether IMA is there.
    pub ima: Ima,
    /// The mode of appraisal.
    pub appraisal: Appraisal,
    /// The parameters of the command line that concern integrity.
    pub arguments: Vec<String>,
    /// The policy in force.
    pub policy: Option<String>,
    /// The keyrings that IMA uses: all of [`KEYRINGS`].
    pub keyrings: Vec<Keyring>,
    /// Entries in the measurement list.
    pub measurements: Option<u64>,
    /// Violations in it: files opened for writing while they were read, and the reverse.
    pub violations: Option<u64>,
    /// The template of the list's first entry.
    pub template: Option<String>,
    /// The hash algorithm of the list's first entry.
    pub hash: Option<String>,
    /// The TPMs.
    pub tpms: Vec<Tpm>,
    /// EVM.
    pub evm: EvmState,
    /// The attributes that its HMACs cover, a name per line (`evm_read_xattrs`).
    pub evm_xattrs: Option<String>,
    /// The files that could not be read.
    pub unseen: Vec<Unseen>,
}

impl Status {
    /// The visible state of a keyring.
    pub fn members(&self, keyring: &str) -> &Members {
        let mut found = self.keyrings.iter().filter(|it| it.name == keyring);
        found.next().map_or(&Members::Absent, |keyring| &keyring.members)
    }

    /// The revocations, as far as they are visible.
    pub fn revocations(&self) -> Revocations {
        let keys = |keyring: &str| match self.members(keyring) {
            Members::Keys(keys) => keys.as_slice(),
            _ => &[],
        };
        let entry = |key: &Key| Entry::parse(key.description.as_bytes());
        Revocations {
            added: keys(BLACKLIST).iter().filter_map(entry).collect(),
            keys: keys(".ima_blacklist").iter().filter_map(|key| key.key_id).collect(),
            ..Revocations::default()
        }
    }
}

impl Machine {
    /// The machine that this program runs on.
    pub fn here() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into() }
    }

    /// Everything that it shows.
    pub fn status(&self) -> Status {
        let mut unseen = Vec::new();
        let mut sight = Sight { unseen: &mut unseen };
        let line = sight.text(&self.proc.join("cmdline")).unwrap_or_default();
        let ima = self.ima();
        let securityfs = self.sys.join("kernel/security");
        let present = ima == Ima::Present;
        let mut read =
            |name: &str| present.then(|| sight.text(&securityfs.join("ima").join(name))).flatten();
        let number = |text: Option<String>| text.and_then(|text| text.trim().parse().ok());
        let policy = read("policy");
        let measurements = number(read("runtime_measurements_count"));
        let violations = number(read("violations"));
        let first = read("ascii_runtime_measurements");
        let first: Vec<_> = first
            .iter()
            .flat_map(|list| list.lines().next())
            .flat_map(str::split_whitespace)
            .collect();
        let evm = self.evm(ima, &mut sight);
        let evm_xattrs = securityfs.join("integrity/evm/evm_xattrs");
        let evm_xattrs = evm_xattrs.exists().then(|| sight.at_once(&evm_xattrs)).flatten();
        let keyrings = keyring::read(&self.proc, &mut sight);
        let tpms = self.tpms(&mut sight);
        Status {
            release: sight
                .text(&self.proc.join("sys/kernel/osrelease"))
                .map(|s| s.trim().to_owned()),
            ima,
            appraisal: appraise::appraisal(&line, &self.proc, &self.sys, &mut sight),
            arguments: Self::arguments(&line),
            policy,
            keyrings,
            measurements,
            violations,
            template: first.get(2).map(|&template| template.to_owned()),
            hash: first.get(3).and_then(|digest| Some(digest.split_once(':')?.0.to_owned())),
            tpms,
            evm,
            evm_xattrs,
            unseen,
        }
    }

    /// Whether IMA is there. securityfs is mounted on an empty directory of sysfs.
    pub fn ima(&self) -> Ima {
        let securityfs = self.sys.join("kernel/security");
        if securityfs.join("ima").exists() {
            return Ima::Present;
        }
        let is_empty =
            fs::read_dir(&securityfs).map_or(true, |mut entries| entries.next().is_none());
        if is_empty {
            Ima::NoSecurityfs
        } else {
            Ima::Absent
        }
    }

    /// The path of the file that policies are written to.
    pub fn policy_file(&self) -> PathBuf {
        self.sys.join("kernel/security/ima/policy")
    }

    /// The files that are this machine's measurement list, in order: staged records (Linux 7.2)
    /// stand before the others.
    pub fn measurement_list(&self) -> Vec<PathBuf> {
        let folder = self.sys.join("kernel/security/ima");
        let staged = folder.join("binary_runtime_measurements_staged");
        let staged = staged.exists().then_some(staged);
        staged.into_iter().chain([folder.join("binary_runtime_measurements")]).collect()
    }

    /// The files of a kernel that can stage its list (Linux 7.2): staged entries, the others, and how many
    /// those are.
    pub(crate) fn staging(&self) -> [PathBuf; 3] {
        let names = [
            "binary_runtime_measurements_staged",
            "binary_runtime_measurements",
            "runtime_measurements_count",
        ];
        names.map(|name| self.sys.join("kernel/security/ima").join(name))
    }

    /// The firmware's event log, if the kernel has one.
    pub fn event_log(&self) -> Option<PathBuf> {
        let log = self.sys.join("kernel/security/tpm0/binary_bios_measurements");
        log.exists().then_some(log)
    }

    /// The directory of the TPM that IMA extends, if it shows its PCRs (Linux 5.12).
    pub fn tpm_with_pcrs(&self) -> Option<PathBuf> {
        let tpm = self.sys.join("class/tpm/tpm0");
        let mut entries = fs::read_dir(&tpm).ok()?.flatten();
        let is_bank = |entry: fs::DirEntry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with("pcr-"))
        };
        entries.any(is_bank).then_some(tpm)
    }

    fn evm(&self, ima: Ima, sight: &mut Sight<'_>) -> EvmState {
        let path = self.sys.join("kernel/security/evm");
        match ima {
            Ima::NoSecurityfs => return EvmState::Unknown,
            _ if !path.exists() => return EvmState::Absent,
            _ => {}
        }
        let number = sight.text(&path).and_then(|text| text.trim().parse::<i64>().ok());
        number.map_or(EvmState::Unknown, |number| EvmState::Present(Evm(number as u32)))
    }

    fn arguments(line: &str) -> Vec<String> {
        const PREFIXES: [&str; 7] =
            ["ima_", "ima-", "ima=", "evm", "lockdown=", "integrity_", "lsm="];
        let concerns = |word: &&str| PREFIXES.iter().any(|prefix| word.starts_with(prefix));
        line.split_whitespace().filter(concerns).map(str::to_owned).collect()
    }

    fn tpms(&self, sight: &mut Sight<'_>) -> Vec<Tpm> {
        let class = self.sys.join("class/tpm");
        let mut names = sight.names(&class);
        names.sort();
        let describe = |name: String| {
            let device = class.join(&name);
            let version = fs::read_to_string(device.join("tpm_version_major")).ok();
            let banks = fs::read_dir(&device).into_iter().flatten().flatten();
            let banks = banks.filter_map(|entry| {
                entry.file_name().to_str()?.strip_prefix("pcr-").map(str::to_owned)
            });
            let mut banks: Vec<_> = banks.collect();
            banks.sort();
            Tpm { name, version: version.and_then(|text| text.trim().parse().ok()), banks }
        };
        names.into_iter().map(describe).collect()
    }
}

/// Reads, and remembers the files that could not be read.
struct Sight<'a> {
    unseen: &'a mut Vec<Unseen>,
}

impl Sight<'_> {
    fn text(&mut self, path: &Path) -> Option<String> {
        match fs::read(path) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => {
                self.note(path.display().to_string(), &error);
                None
            }
        }
    }

    /// The text of a file that the kernel gives to one call only: the next one finds the end, however
    /// small the first one's buffer was (`evm_read_xattrs`).
    fn at_once(&mut self, path: &Path) -> Option<String> {
        let mut text = vec![0; 1 << 16];
        match fs::File::open(path).and_then(|mut file| file.read(&mut text)) {
            Ok(length) => Some(String::from_utf8_lossy(&text[..length]).into_owned()),
            Err(error) => {
                self.note(path.display().to_string(), &error);
                None
            }
        }
    }

    fn names(&mut self, directory: &Path) -> Vec<String> {
        match fs::read_dir(directory) {
            Ok(entries) => {
                let names = entries.flatten().map(|entry| entry.file_name());
                names.filter_map(|name| name.into_string().ok()).collect()
            }
            // no such class: no such device
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.note(directory.display().to_string(), &error);
                Vec::new()
            }
        }
    }

    fn note(&mut self, what: String, error: &io::Error) {
        let why = match error.kind() {
            io::ErrorKind::PermissionDenied => "only root can see it".to_owned(),
            _ => error.to_string(),
        };
        self.unseen.push(Unseen { what, why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of files.
    pub(super) fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let machine = Machine { proc: root.path().join("proc"), sys: root.path().join("sys") };
        (root, machine)
    }

    #[test]
    fn a_machine_that_enforces_is_read() {
        let entry =
            "10 00aa ima-sig sha256:00bb boot_aggregate \n10 00cc ima-sig sha256:00dd /init \n";
        let (_root, machine) = machine(&[
            ("proc/cmdline", "root=/dev/vda ima_appraise=enforce quiet ima_hash=sha256\n"),
            ("proc/sys/kernel/osrelease", "6.12.0\n"),
            ("proc/keys", ""),
            ("sys/kernel/security/ima/policy", "measure func=BPRM_CHECK \n"),
            ("sys/kernel/security/ima/runtime_measurements_count", "2\n"),
            ("sys/kernel/security/ima/violations", "0\n"),
            ("sys/kernel/security/ima/ascii_runtime_measurements", entry),
            ("sys/kernel/security/evm", "2"),
            ("sys/class/tpm/tpm0/tpm_version_major", "2\n"),
            ("sys/class/tpm/tpm0/pcr-sha256/10", "00\n"),
        ]);
        let status = machine.status();
        assert_eq!(status.ima, Ima::Present);
        assert_eq!(status.arguments, ["ima_appraise=enforce", "ima_hash=sha256"]);
        assert_eq!((status.measurements, status.violations), (Some(2), Some(0)));
        assert_eq!(status.template.as_deref(), Some("ima-sig"));
        assert_eq!(status.hash.as_deref(), Some("sha256"));
        let EvmState::Present(evm) = status.evm else { panic!("{:?}", status.evm) };
        assert_eq!((evm.to_string().as_str(), evm.is_active()), ("signatures", true));
        let tpm = Tpm { name: "tpm0".into(), version: Some(2), banks: vec!["sha256".into()] };
        assert_eq!(status.tpms, [tpm]);
        assert_eq!(status.unseen, []);
    }

    #[test]
    fn what_is_not_shown_is_told() {
        let (_root, machine) = machine(&[
            ("proc/cmdline", "ima_appraise=offline\n"),
            ("sys/kernel/security/lsm", "capability"),
        ]);
        let status = machine.status();
        assert_eq!((status.ima, status.appraisal.asked), (Ima::Absent, AppraiseMode::Off));
        assert_eq!(status.evm, EvmState::Absent);
        assert!(status.keyrings.iter().all(|it| matches!(it.members, Members::Hidden)));
    }

    #[test]
    fn without_securityfs_nothing_is_said_of_evm() {
        let (_root, machine) = machine(&[("sys/kernel/security/.keep", "")]);
        fs::remove_file(machine.sys.join("kernel/security/.keep")).unwrap();
        let status = machine.status();
        assert_eq!((status.ima, status.evm), (Ima::NoSecurityfs, EvmState::Unknown));
        assert!(status.unseen.iter().any(|unseen| unseen.what.ends_with("proc/keys")));
    }
}
