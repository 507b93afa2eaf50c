//! The kernel command line: what of it concerns the boot from the initramfs.
//!
//! Words are split as `next_arg()` in the kernel's `lib/cmdline.c` does: double quotes keep
//! spaces, `-` and `_` in a name are the same, and what follows `--` is for init alone.

use alloc::string::String;
use alloc::vec::Vec;

use rustix::io::Errno;

use crate::root::Root;
use crate::text::Printable;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// `ima_appraise=`.
    pub appraise: Appraise,
    /// `imactl.mode=`.
    pub mode: Mode,
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
    /// `init=`.
    pub init: Option<Vec<u8>>,
    /// Values that were not understood, and what is done about it.
    pub complaints: Vec<String>,
}

/// `ima_appraise=`, as `ima_appraise_parse_cmdline()` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appraise {
    /// Nothing is appraised.
    Off,
    /// Refusals are logged, not carried out.
    Log,
    /// Missing attributes are written.
    Fix,
    /// Refusals are carried out: the kernel's default.
    Enforce,
}

/// `imactl.mode=`: what a failure to secure the kernel does to the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It stops the boot.
    Enforce,
    /// The boot goes on, with a warning.
    Permissive,
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
    /// So many seconds.
    Seconds(u32),
}

/// Without `rootwait`: drivers probe in the background, which the kernel itself would await.
const DEFAULT_WAIT: Wait = Wait::Seconds(10);

impl Default for CommandLine {
    fn default() -> Self {
        Self {
            appraise: Appraise::Enforce,
            mode: Mode::Enforce,
            timeout: None,
            root: None,
            root_types: Vec::new(),
            root_flags: Vec::new(),
            access: Access::ReadOnly,
            wait: DEFAULT_WAIT,
            delay: 0,
            init: None,
            complaints: Vec::new(),
        }
    }
}

impl Appraise {
    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Log => "log",
            Self::Fix => "fix",
            Self::Enforce => "enforce",
        }
    }

    /// The kernel compares beginnings, and leaves its default where none fits.
    fn parse(value: &[u8]) -> Self {
        [Self::Off, Self::Log, Self::Fix]
            .into_iter()
            .find(|mode| value.starts_with(mode.name().as_bytes()))
            .unwrap_or(Self::Enforce)
    }
}

impl CommandLine {
    /// Reads `/proc/cmdline`. Of a parameter given twice the last one counts.
    pub fn parse(line: &[u8]) -> Self {
        let mut this = Self::default();
        for (name, value) in Words(line) {
            if name == b"--" && value.is_none() {
                break;
            }
            let name: Vec<u8> =
                name.iter().map(|&byte| if byte == b'-' { b'_' } else { byte }).collect();
            this.take(&name, value);
        }
        this
    }

    fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        match (name, value) {
            (b"ima_appraise", Some(value)) => self.appraise = Appraise::parse(value),
            (b"imactl.mode", value) => self.take_mode(value.unwrap_or_default()),
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
            (b"init", Some(value)) if !value.is_empty() => self.init = Some(value.into()),
            _ => {}
        }
    }

    /// Fails closed: what is not `permissive` enforces.
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

/// Whether the kernel obeys an `ima_appraise=` that asks for less than enforcing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InForce {
    /// It does.
    Obeyed(Appraise),
    /// It does not, and enforces: why.
    Ignored(&'static str),
    /// That cannot be told.
    Unknown,
}

/// Whether the kernel obeys the command line, as far as user space can tell.
///
/// Where the kernel is built without `CONFIG_IMA_APPRAISE_BOOTPARAM` it does not know the
/// parameter, and hands it to the first process as an environment variable; under Secure
/// Boot it refuses any weaker mode than enforcing (`ima_appraise_parse_cmdline()`). In both
/// cases the word on the command line must not talk anybody out of loading the policy.
pub fn appraise_in_force(
    command_line: &CommandLine,
    environment: &[u8],
    boot: SecureBoot,
) -> InForce {
    if environment.split(|&byte| byte == 0).any(|entry| entry.starts_with(b"ima_appraise=")) {
        let reason = "the kernel does not know it (no CONFIG_IMA_APPRAISE_BOOTPARAM)";
        return InForce::Ignored(reason);
    }
    match boot {
        SecureBoot::On => InForce::Ignored("Secure Boot is on, where the kernel ignores it"),
        SecureBoot::Off => InForce::Obeyed(command_line.appraise),
        SecureBoot::Unknown => InForce::Unknown,
    }
}

/// Whether the firmware checked what it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureBoot {
    /// The `SecureBoot` variable says so.
    On,
    /// It says otherwise, or there is none.
    Off,
    /// There is EFI, and the variable cannot be read.
    Unknown,
}

impl SecureBoot {
    /// By what efivarfs has of the variable: four bytes of attributes, one of value. Only a
    /// definite no is one.
    pub fn of_variable(variable: Result<&[u8], &Errno>) -> Self {
        match variable {
            Ok([_, _, _, _, 1]) => Self::On,
            Ok([_, _, _, _, 0]) | Err(&Errno::NOENT) => Self::Off,
            Ok(_) | Err(_) => Self::Unknown,
        }
    }
}

/// The words of a command line: name, and value behind `=`.
struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.0.iter().position(|byte| !is_space(*byte))?;
        let (_, rest) = self.0.split_at(start);
        let mut quoted = false;
        let end = rest.iter().position(|&byte| {
            quoted ^= byte == b'"';
            is_space(byte) && !quoted
        });
        let (word, tail) = rest.split_at(end.unwrap_or(rest.len()));
        self.0 = tail;
        // A quoted word (`"name=value"`) or a quoted value (`name="value"`).
        let word = unquote(word).unwrap_or(word);
        Some(match word.iter().position(|&byte| byte == b'=') {
            None | Some(0) => (word, None),
            Some(equals) => {
                let (name, value) = word.split_at(equals);
                let value = value.get(1..).unwrap_or_default();
                (name, Some(unquote(value).unwrap_or(value)))
            }
        })
    }
}

fn unquote(word: &[u8]) -> Option<&[u8]> {
    let inner = word.strip_prefix(b"\"")?;
    Some(inner.strip_suffix(b"\"").unwrap_or(inner))
}

/// The kernel's `isspace()`; a newline ends `/proc/cmdline`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0xa0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.into()).unwrap();
        Words(line.as_bytes()).map(|(name, value)| (text(name), value.map(text))).collect()
    }

    fn pair(name: &str, value: Option<&str>) -> (String, Option<String>) {
        (name.into(), value.map(String::from))
    }

    #[test]
    fn words_split_as_the_kernel_splits_them() {
        assert_eq!(
            words("quiet  root=\"LABEL=my root\"\t\"rootflags=a b\" =x y=\"open\n"),
            [
                pair("quiet", None),
                pair("root", Some("LABEL=my root")),
                pair("rootflags", Some("a b")),
                pair("=x", None),
                pair("y", Some("open\n")),
            ]
        );
    }

    #[test]
    fn defaults_enforce_and_mount_read_only() {
        let line = CommandLine::parse(b"console=ttyS0\n");
        assert_eq!(line, CommandLine::default());
        assert_eq!((line.mode, line.access), (Mode::Enforce, Access::ReadOnly));
        assert_eq!(line.appraise, Appraise::Enforce);
    }

    #[test]
    fn the_last_of_a_parameter_counts() {
        let line = CommandLine::parse(b"ro ima_appraise=off rw ima-appraise=log init=/a init=/b");
        assert_eq!(line.access, Access::ReadWrite);
        assert_eq!(line.appraise, Appraise::Log);
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
    fn numbers_that_are_none_are_told() {
        let line = CommandLine::parse(b"imactl.timeout=5 imactl.timeout=soon rootdelay=-1");
        assert_eq!((line.timeout, line.delay), (Some(5), 0));
        assert_eq!(line.complaints.len(), 2);
    }

    #[test]
    fn what_follows_two_dashes_is_for_init() {
        let line = CommandLine::parse(b"ro -- ima_appraise=off imactl.mode=permissive");
        assert_eq!((line.appraise, line.mode), (Appraise::Enforce, Mode::Enforce));
    }

    #[test]
    fn root_types_are_a_list() {
        let line = CommandLine::parse(b"rootfstype=squashfs,,ext4 rootwait=3");
        assert_eq!(line.root_types, [b"squashfs".to_vec(), b"ext4".to_vec()]);
        assert_eq!(line.wait, Wait::Seconds(3));
        assert_eq!(CommandLine::parse(b"rootwait").wait, Wait::Forever);
    }

    #[test]
    fn appraisal_is_off_only_if_the_kernel_obeys() {
        let off = CommandLine::parse(b"ima_appraise=offline");
        let in_force = |environment: &[u8], boot| appraise_in_force(&off, environment, boot);
        let obeyed = InForce::Obeyed(Appraise::Off);
        assert_eq!(in_force(b"HOME=/\0", SecureBoot::Off), obeyed);
        assert!(matches!(in_force(b"HOME=/\0", SecureBoot::On), InForce::Ignored(_)));
        assert_eq!(in_force(b"HOME=/\0", SecureBoot::Unknown), InForce::Unknown);
        for boot in [SecureBoot::On, SecureBoot::Off, SecureBoot::Unknown] {
            let handed_on = in_force(b"HOME=/\0ima_appraise=off\0", boot);
            assert!(matches!(handed_on, InForce::Ignored(_)));
        }
    }

    #[test]
    fn secure_boot_is_off_only_where_that_is_certain() {
        let of = |variable: Result<&[u8], Errno>| {
            SecureBoot::of_variable(variable.as_ref().map(|it| *it))
        };
        assert_eq!(of(Ok(b"\x06\0\0\0\x01")), SecureBoot::On);
        assert_eq!(of(Ok(b"\x06\0\0\0\0")), SecureBoot::Off);
        assert_eq!(of(Err(Errno::NOENT)), SecureBoot::Off);
        for unread in [Errno::IO, Errno::ACCESS, Errno::NODEV, Errno::INTR] {
            assert_eq!(of(Err(unread)), SecureBoot::Unknown);
        }
        for odd in [&b""[..], b"\x06\0\0\0", b"\x06\0\0\0\x02", b"\x06\0\0\0\0\0"] {
            assert_eq!(of(Ok(odd)), SecureBoot::Unknown);
        }
    }
}
