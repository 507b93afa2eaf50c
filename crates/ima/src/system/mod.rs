//! This machine: what its kernel measures, appraises and trusts, as far as it shows it.
//!
//! Reads securityfs (`security/integrity/ima/ima_fs.c`, `security/integrity/evm/evm_secfs.c`),
//! `/proc/keys`, `/proc/cmdline` and `/sys/class/tpm`. Nothing here needs root; what root
//! alone can see is told as unseen.

mod keyring;
mod load;

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

pub use keyring::{Key, Keyring, KeyringError, KEYRINGS};
pub use load::{load_certificate, load_policy, LoadError};

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

/// What the kernel does with files that fail: `ima_appraise=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppraiseMode {
    /// It refuses them; the default.
    Enforce,
    /// It logs them.
    Log,
    /// It writes digests for those without a signature.
    Fix,
    /// It does not look.
    Off,
}

impl AppraiseMode {
    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Log => "log",
            Self::Fix => "fix",
            Self::Off => "off",
        }
    }

    /// What a command line asks for, as `ima_appraise_parse_cmdline` reads it: the last
    /// `ima_appraise=` counts, three letters are enough, what is unknown changes nothing.
    fn of_command_line(arguments: &[String]) -> Self {
        let asked =
            |argument: &'_ String| argument.strip_prefix("ima_appraise=").map(str::to_owned);
        match arguments.iter().rev().find_map(asked) {
            Some(word) if word.starts_with("off") => Self::Off,
            Some(word) if word.starts_with("log") => Self::Log,
            Some(word) if word.starts_with("fix") => Self::Fix,
            _ => Self::Enforce,
        }
    }
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

/// EVM's state: the bits of securityfs' `evm` (`Documentation/ABI/testing/evm`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evm(pub u32);

impl fmt::Display for Evm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = [
            (1, "HMAC"),
            (2, "signatures"),
            (4, "metadata writes allowed"),
            (1 << 31, "set up, no more changes"),
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

/// What a machine shows of itself; `None` is what it does not show, and `unseen` tells why.
#[derive(Debug, Clone)]
pub struct Status {
    /// The kernel's release, as `uname -r` has it.
    pub release: Option<String>,
    /// Whether IMA is there.
    pub ima: Ima,
    /// What the command line asks appraisal to do. Secure boot overrides it in the kernel.
    pub appraise: AppraiseMode,
    /// What of the command line concerns integrity.
    pub arguments: Vec<String>,
    /// The policy in force.
    pub policy: Option<String>,
    /// The keyrings that IMA uses.
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
    /// EVM, where the kernel has it.
    pub evm: Option<Evm>,
    /// What could not be looked at.
    pub unseen: Vec<Unseen>,
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
        let arguments = self.arguments(&mut sight);
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
        let evm = fs::read_to_string(securityfs.join("evm"));
        let keyrings = keyring::read(&self.proc, &mut sight);
        let tpms = self.tpms(&mut sight);
        Status {
            release: sight
                .text(&self.proc.join("sys/kernel/osrelease"))
                .map(|s| s.trim().to_owned()),
            ima,
            appraise: AppraiseMode::of_command_line(&arguments),
            arguments,
            policy,
            keyrings,
            measurements,
            violations,
            template: first.get(2).map(|&template| template.to_owned()),
            hash: first.get(3).and_then(|digest| Some(digest.split_once(':')?.0.to_owned())),
            tpms,
            evm: evm.ok().and_then(|text| text.trim().parse::<i64>().ok()).map(|n| Evm(n as u32)),
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

    fn arguments(&self, sight: &mut Sight<'_>) -> Vec<String> {
        const PREFIXES: [&str; 6] = ["ima_", "ima=", "evm", "lockdown=", "integrity_", "lsm="];
        let line = sight.text(&self.proc.join("cmdline")).unwrap_or_default();
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

/// Reads, and remembers what could not be read.
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
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
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
        assert_eq!(status.evm.unwrap().to_string(), "signatures");
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
        assert_eq!((status.ima, status.appraise), (Ima::Absent, AppraiseMode::Off));
        assert!(status.unseen.iter().any(|unseen| unseen.what.ends_with("proc/keys")));
    }

    #[test]
    fn the_last_word_on_appraisal_counts() {
        let mode = |words: &[&str]| {
            AppraiseMode::of_command_line(&words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(mode(&[]), AppraiseMode::Enforce);
        assert_eq!(mode(&["ima_appraise=log", "ima_appraise=fix"]), AppraiseMode::Fix);
        assert_eq!(mode(&["ima_appraise=nonsense"]), AppraiseMode::Enforce);
    }
}
