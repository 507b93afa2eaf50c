//! The kernel's command line, and what of `ima_appraise=` the kernel obeys.
//!
//! Words are split as `next_arg()` of `lib/cmdline.c` does: double quotes keep spaces, `-` and `_`
//! in a name are the same (`parameqn()`).
//!
//! Mirrors `default_appraise_setup()` and `ima_appraise_parse_cmdline()` of
//! `security/integrity/ima/ima_appraise.c`: a kernel without `CONFIG_IMA_APPRAISE_BOOTPARAM` does
//! not know the parameter, and hands it to the first process as an environment variable; under
//! Secure Boot no weaker mode than enforcing is taken.

/// The words of a command line: a name, and the value after `=`.
#[derive(Debug, Clone)]
pub struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    /// The words of `line`.
    pub fn new(line: &'a [u8]) -> Self {
        Self(line)
    }
}

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

/// Whether a parameter has this name; `expected` is spelled with `_`.
pub fn is_parameter(name: &[u8], expected: &[u8]) -> bool {
    let underscored = name.iter().map(|&byte| if byte == b'-' { b'_' } else { byte });
    underscored.eq(expected.iter().copied())
}

spelled! {
    /// `ima_appraise=`: what the kernel does with files that fail the appraisal.
    AppraiseMode {
        /// It denies them; the default.
        Enforce = "enforce",
        /// It logs them.
        Log = "log",
        /// It logs them, and replaces their attributes by the digests of their content.
        Fix = "fix",
        /// It does not look; but an `appraise` rule for modules, firmware, policies or kexec turns appraisal on, as
        /// in [`Self::Log`].
        Off = "off",
    }
}

impl AppraiseMode {
    /// The kernel compares beginnings, and leaves its default where none fits.
    pub fn parse(value: &[u8]) -> Self {
        [Self::Off, Self::Log, Self::Fix]
            .into_iter()
            .find(|mode| value.starts_with(mode.name().as_bytes()))
            .unwrap_or(Self::Enforce)
    }

    /// What a command line asks for: the last `ima_appraise=` counts.
    pub fn of_command_line(line: &[u8]) -> Self {
        let asked = Words::new(line).filter(|(name, _)| is_parameter(name, b"ima_appraise"));
        asked.filter_map(|(_, value)| value).last().map_or(Self::Enforce, Self::parse)
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
    /// The variable's name in efivarfs.
    pub const VARIABLE: &'static str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

    /// By the content of the variable in efivarfs: four bytes of attributes, one of value. Only a
    /// definite no is one.
    pub fn of_variable(content: &[u8]) -> Self {
        match content {
            [_, _, _, _, 1] => Self::On,
            [_, _, _, _, 0] => Self::Off,
            _ => Self::Unknown,
        }
    }
}

/// Whether the kernel obeys an `ima_appraise=` that asks for less than enforcing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InForce {
    /// It does.
    Obeyed(AppraiseMode),
    /// It does not, and enforces: why.
    Ignored(&'static str),
    /// That is not known: why.
    Unknown(&'static str),
}

impl InForce {
    /// Of the mode asked for, by the first process's environment (`/proc/1/environ`, `None` where
    /// that cannot be read) and the firmware's state. An `ima_appraise=` that the kernel does not
    /// obey must not lead anyone to believe that nothing is appraised.
    pub fn of(asked: AppraiseMode, environment: Option<&[u8]>, boot: SecureBoot) -> Self {
        if asked == AppraiseMode::Enforce {
            return Self::Obeyed(asked);
        }
        let handed_on = |text: &[u8]| {
            text.split(|&byte| byte == 0).any(|entry| entry.starts_with(b"ima_appraise="))
        };
        match (environment.map(handed_on), boot) {
            (Some(true), _) => {
                Self::Ignored("the kernel does not know it (no CONFIG_IMA_APPRAISE_BOOTPARAM)")
            }
            (_, SecureBoot::On) => Self::Ignored("Secure Boot is on, where the kernel ignores it"),
            (_, SecureBoot::Unknown) => Self::Unknown(
                "whether Secure Boot is on, where the kernel ignores it, cannot be read",
            ),
            (None, SecureBoot::Off) => {
                Self::Unknown("whether the kernel knows the parameter cannot be seen")
            }
            (Some(false), SecureBoot::Off) => Self::Obeyed(asked),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn words_split_as_the_kernel_splits_them() {
        let text = |bytes: &[u8]| String::from_utf8(bytes.into()).unwrap();
        let line = b"quiet  root=\"LABEL=my root\"\t\"rootflags=a b\" =x y=\"open\n";
        let words: Vec<_> =
            Words::new(line).map(|(name, value)| (text(name), value.map(text))).collect();
        let expected = [
            ("quiet", None),
            ("root", Some("LABEL=my root")),
            ("rootflags", Some("a b")),
            ("=x", None),
            ("y", Some("open\n")),
        ];
        assert_eq!(words, expected.map(|(name, value)| (name.into(), value.map(String::from))));
    }

    #[test]
    fn the_last_word_on_appraisal_counts() {
        for (line, mode) in [
            ("", AppraiseMode::Enforce),
            ("ima_appraise=log ima-appraise=fix", AppraiseMode::Fix),
            ("ima_appraise=off ima_appraise=nonsense", AppraiseMode::Enforce),
            ("ima_appraise=offline\n", AppraiseMode::Off),
            ("\"ima_appraise=log\" ima_appraise", AppraiseMode::Log),
            ("ima_appraise_tcb=off", AppraiseMode::Enforce),
        ] {
            assert_eq!(AppraiseMode::of_command_line(line.as_bytes()), mode, "{line}");
        }
    }

    #[test]
    fn appraisal_is_off_only_if_the_kernel_obeys() {
        let in_force = |environment, boot| InForce::of(AppraiseMode::Off, environment, boot);
        let nothing = Some(&b"HOME=/\0"[..]);
        assert_eq!(in_force(nothing, SecureBoot::Off), InForce::Obeyed(AppraiseMode::Off));
        assert!(matches!(in_force(nothing, SecureBoot::On), InForce::Ignored(_)));
        assert!(matches!(in_force(nothing, SecureBoot::Unknown), InForce::Unknown(_)));
        assert!(matches!(in_force(None, SecureBoot::Off), InForce::Unknown(_)));
        assert!(matches!(in_force(None, SecureBoot::On), InForce::Ignored(_)));
        for boot in [SecureBoot::On, SecureBoot::Off, SecureBoot::Unknown] {
            let handed_on = in_force(Some(b"HOME=/\0ima_appraise=off\0"), boot);
            assert!(matches!(handed_on, InForce::Ignored(_)));
        }
    }

    #[test]
    fn secure_boot_is_off_only_where_that_is_certain() {
        for (content, state) in [
            (&b"\x06\0\0\0\x01"[..], SecureBoot::On),
            (b"\x06\0\0\0\0", SecureBoot::Off),
            (b"", SecureBoot::Unknown),
            (b"\x06\0\0\0", SecureBoot::Unknown),
            (b"\x06\0\0\0\x02", SecureBoot::Unknown),
            (b"\x06\0\0\0\0\0", SecureBoot::Unknown),
        ] {
            assert_eq!(SecureBoot::of_variable(content), state, "{content:?}");
        }
    }
}
