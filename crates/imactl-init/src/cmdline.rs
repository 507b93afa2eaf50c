//! The kernel command line: the words that concern the boot from the initramfs.
//!
//! Words after `--` are for init alone.
//!
//! `/etc/imactl/cmdline` of the initramfs holds words that are read before those of the kernel's
//! command line: only `imactl.*`, because the kernel must see the others itself. Lines that begin
//! with `#` are comments.

use alloc::string::String;
use alloc::vec::Vec;

use ima_format::boot::{AppraiseMode, Words};
use ima_format::printable::Printable;

use crate::root::name::Root;

/// The parsed words of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// `ima_appraise=`.
    pub appraise: AppraiseMode,
    /// `imactl.mode=`.
    pub mode: Mode,
    /// `imactl.root-certificates=`.
    pub root_certificates: RootCertificates,
    /// `imactl.timeout=`: seconds from a stop to a reboot; without it the machine halts.
    pub timeout: Option<u32>,
    /// `root=`.
    pub root: Option<Root>,
    /// `rootfstype=`, a list with commas.
    pub root_types: Vec<Vec<u8>>,
    /// `rootflags=`.
    pub root_flags: Vec<u8>,
    /// `ro` or `rw`, whichever comes last.
    pub access: Access,
    /// `rootwait` or `rootwait=SECONDS`.
    pub wait: Wait,
    /// `rootdelay=`, in seconds.
    pub delay: u32,
    /// Words about EVM's keys: [`Configuration::take`](crate::evm::Configuration::take).
    pub evm: Vec<(Vec<u8>, Vec<u8>)>,
    /// `init=`.
    pub init: Option<Vec<u8>>,
    /// Values that could not be parsed, and the default used instead.
    pub complaints: Vec<String>,
}

/// `imactl.mode=`: the effect of a failure to secure the kernel on the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It stops the boot.
    Enforce,
    /// The boot continues, with a warning.
    Permissive,
}

/// `imactl.root-certificates=`: whether certificates of the real root are loaded.
///
/// An attacker who can write to the root can put a certificate there that a trusted key once signed,
/// such as that of a key replaced since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootCertificates {
    /// They are offered to the kernel.
    Load,
    /// Only those of the initramfs are loaded. Once this is set, `load` does not change it.
    Skip,
}

/// How the root file system is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `ro`, the kernel's default.
    ReadOnly,
    /// `rw`.
    ReadWrite,
}

/// How long to wait for the root device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// As long as it takes.
    Forever,
    /// This many seconds.
    Seconds(u32),
}

/// Without `rootwait`: drivers probe in the background. Without an initramfs the kernel itself waits for them.
const DEFAULT_WAIT: Wait = Wait::Seconds(10);

impl Default for CommandLine {
    fn default() -> Self {
        Self {
            appraise: AppraiseMode::Enforce,
            mode: Mode::Enforce,
            root_certificates: RootCertificates::Load,
            timeout: None,
            root: None,
            root_types: Vec::new(),
            root_flags: Vec::new(),
            access: Access::ReadOnly,
            wait: DEFAULT_WAIT,
            delay: 0,
            evm: Vec::new(),
            init: None,
            complaints: Vec::new(),
        }
    }
}

impl CommandLine {
    /// Parses `/proc/cmdline`. If a parameter is given twice, the last one counts.
    pub fn parse(line: &[u8]) -> Self {
        Self::configured(b"", line)
    }

    /// Parses `/etc/imactl/cmdline`, then `/proc/cmdline`.
    ///
    /// The boot loader verifies the file with the initramfs, if it does, and the command line likewise.
    /// The order matters: a later word overrides an earlier one, except that the command line cannot
    /// override `imactl.root-certificates=skip` of an image.
    pub fn configured(configuration: &[u8], line: &[u8]) -> Self {
        let mut this = Self::default();
        let lines = configuration.split(|&byte| byte == b'\n');
        for (name, value) in lines.filter(|line| !line.starts_with(b"#")).flat_map(Words::new) {
            if name.starts_with(b"imactl.") {
                this.take(&underscored(name), value);
            } else {
                let name = Printable(name);
                this.complaints.push(alloc::format!(
                    "/etc/imactl/cmdline: {name} is not an imactl.* word: ignored"
                ));
            }
        }
        for (name, value) in Words::new(line) {
            if name == b"--" && value.is_none() {
                break;
            }
            this.take(&underscored(name), value);
        }
        this
    }

    fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        match (name, value) {
            (b"ima_appraise", Some(value)) => self.appraise = AppraiseMode::parse(value),
            (b"imactl.mode", value) => self.take_mode(value.unwrap_or_default()),
            (b"imactl.root_certificates", value) => {
                self.take_root_certificates(value.unwrap_or_default());
            }
            (b"imactl.timeout", Some(value)) => {
                self.timeout = self.number("imactl.timeout", value).or(self.timeout);
            }
            (b"root", Some(value)) => self.root = Some(Root::parse(value)),
            (b"rootfstype", Some(value)) => {
                let types = value.split(|&byte| byte == b',').filter(|name| !name.is_empty());
                self.root_types = types.map(Vec::from).collect();
            }
            (b"rootflags", Some(value)) => self.root_flags = value.into(),
            (b"ro", None) => self.access = Access::ReadOnly,
            (b"rw", None) => self.access = Access::ReadWrite,
            (b"rootwait", None) => self.wait = Wait::Forever,
            (b"rootwait", Some(value)) => {
                self.wait = self.number("rootwait", value).map_or(Wait::Forever, Wait::Seconds);
            }
            (b"rootdelay", Some(value)) => {
                self.delay = self.number("rootdelay", value).unwrap_or(self.delay);
            }
            (b"evmkey" | b"evmx509" | b"masterkey" | b"masterkeytype", Some(value)) => {
                self.evm.push((name.into(), value.into()));
            }
            (b"init", Some(value)) if !value.is_empty() => self.init = Some(value.into()),
            _ => {}
        }
    }

    /// Fails closed: any value but `permissive` enforces.
    fn take_mode(&mut self, value: &[u8]) {
        self.mode = match value {
            b"permissive" => Mode::Permissive,
            b"enforce" => Mode::Enforce,
            other => {
                self.complaints.push(alloc::format!(
                    "imactl.mode={} is neither enforce nor permissive: enforcing",
                    Printable(other)
                ));
                Mode::Enforce
            }
        };
    }

    /// Fails closed: any value but `load` skips them.
    fn take_root_certificates(&mut self, value: &[u8]) {
        match value {
            b"load" => return,
            b"skip" => {}
            other => self.complaints.push(alloc::format!(
                "imactl.root-certificates={} is neither load nor skip: skipping",
                Printable(other)
            )),
        }
        self.root_certificates = RootCertificates::Skip;
    }

    fn number(&mut self, name: &str, value: &[u8]) -> Option<u32> {
        let number = core::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        if number.is_none() {
            self.complaints.push(alloc::format!(
                "{name}={} is not a number of seconds: ignored",
                Printable(value)
            ));
        }
        number
    }
}

/// A parameter's name as the kernel compares it: `-` and `_` are equal.
fn underscored(name: &[u8]) -> Vec<u8> {
    name.iter().map(|&byte| if byte == b'-' { b'_' } else { byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_enforce_and_mount_read_only() {
        let line = CommandLine::parse(b"console=ttyS0\n");
        assert_eq!(line, CommandLine::default());
        assert_eq!((line.mode, line.access), (Mode::Enforce, Access::ReadOnly));
        assert_eq!(line.appraise, AppraiseMode::Enforce);
    }

    #[test]
    fn the_last_of_a_parameter_counts() {
        let line = CommandLine::parse(b"ro ima_appraise=off rw ima-appraise=log init=/a init=/b");
        assert_eq!(line.access, Access::ReadWrite);
        assert_eq!(line.appraise, AppraiseMode::Log);
        assert_eq!(line.init.as_deref(), Some(&b"/b"[..]));
    }

    #[test]
    fn an_unknown_mode_enforces_and_is_told() {
        let line = CommandLine::parse(b"imactl.mode=permissive imactl.mode=permisive");
        assert_eq!(line.mode, Mode::Enforce);
        assert_eq!(
            line.complaints,
            ["imactl.mode=permisive is neither enforce nor permissive: enforcing"]
        );
    }

    #[test]
    fn certificates_of_the_root_once_skipped_stay_so() {
        let of = |configuration: &str, line: &str| {
            let line = CommandLine::configured(configuration.as_bytes(), line.as_bytes());
            (line.root_certificates, line.complaints.len())
        };
        let (load, skip) = (RootCertificates::Load, RootCertificates::Skip);
        assert_eq!(of("", "quiet"), (load, 0));
        assert_eq!(of("", "imactl.root-certificates=load"), (load, 0));
        assert_eq!(of("", "imactl.root_certificates=skip"), (skip, 0));
        assert_eq!(
            of("", "imactl.root-certificates=skip imactl.root-certificates=load"),
            (skip, 0)
        );
        assert_eq!(
            of("imactl.root-certificates=skip\n", "imactl.root-certificates=load"),
            (skip, 0)
        );
        for unknown in ["imactl.root-certificates", "imactl.root-certificates=no"] {
            assert_eq!(of("", unknown), (skip, 1), "{unknown}");
        }
    }

    #[test]
    fn a_configuration_holds_only_words_that_the_kernel_need_not_see() {
        let text =
            b"# one per line\nimactl.mode=permissive  imactl.timeout=5\n\nima_appraise=off ro\n";
        let line = CommandLine::configured(text, b"imactl.mode=enforce rw");
        assert_eq!((line.mode, line.timeout), (Mode::Enforce, Some(5)), "the command line wins");
        assert_eq!((line.appraise, line.access), (AppraiseMode::Enforce, Access::ReadWrite));
        assert_eq!(line.complaints.len(), 2);
        assert!(line.complaints[0].contains("ima_appraise is not an imactl.* word"));
    }

    #[test]
    fn numbers_that_are_none_are_told() {
        let line = CommandLine::parse(b"imactl.timeout=5 imactl.timeout=soon rootdelay=-1");
        assert_eq!((line.timeout, line.delay), (Some(5), 0));
        assert_eq!(line.complaints.len(), 2);
    }

    #[test]
    fn what_follows_two_dashes_is_for_init() {
        let line = CommandLine::parse(b"ro -- ima_appraise=off imactl.mode=permissive");
        assert_eq!((line.appraise, line.mode), (AppraiseMode::Enforce, Mode::Enforce));
    }

    #[test]
    fn root_types_are_a_list() {
        let line = CommandLine::parse(b"rootfstype=squashfs,,ext4 rootwait=3");
        assert_eq!(line.root_types, [b"squashfs".to_vec(), b"ext4".to_vec()]);
        assert_eq!(line.wait, Wait::Seconds(3));
        assert_eq!(CommandLine::parse(b"rootwait").wait, Wait::Forever);
    }
}
