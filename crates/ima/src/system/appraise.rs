//! What the kernel does with files that fail: `ima_appraise=`, and whether it obeys that.
//!
//! Mirrors `default_appraise_setup` and `ima_appraise_parse_cmdline` in
//! `security/integrity/ima/ima_appraise.c`: a kernel without `CONFIG_IMA_APPRAISE_BOOTPARAM` does
//! not know the parameter and hands it to the first process as an environment variable, and
//! under Secure Boot no weaker mode than enforcing is taken.

use std::fs;
use std::path::Path;

use super::Sight;

/// What the kernel does with files that fail.
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

    /// What a command line asks for: the last `ima_appraise=` counts, three letters are enough,
    /// what is unknown changes nothing.
    fn of_command_line(arguments: &[String]) -> Self {
        let asked = |argument: &'_ String| {
            let (name, value) = argument.split_once('=')?;
            (name.replace('-', "_") == "ima_appraise").then(|| value.to_owned())
        };
        match arguments.iter().rev().find_map(asked) {
            Some(word) if word.starts_with("off") => Self::Off,
            Some(word) if word.starts_with("log") => Self::Log,
            Some(word) if word.starts_with("fix") => Self::Fix,
            _ => Self::Enforce,
        }
    }
}

/// What is asked of the kernel, and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appraisal {
    /// What the command line asks for.
    pub asked: AppraiseMode,
    /// What is in force; `None` where that cannot be seen.
    pub in_force: Option<AppraiseMode>,
    /// Why that is another, or not known.
    pub reason: Option<&'static str>,
}

/// Whether the firmware checked what it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SecureBoot {
    On,
    Off,
    Unknown,
}

/// What is in force on a machine.
pub(super) fn appraisal(
    arguments: &[String],
    proc: &Path,
    sys: &Path,
    sight: &mut Sight<'_>,
) -> Appraisal {
    let asked = AppraiseMode::of_command_line(arguments);
    let known = |in_force, reason| Appraisal { asked, in_force, reason };
    if asked == AppraiseMode::Enforce {
        return known(Some(asked), None);
    }
    match secure_boot(sys) {
        SecureBoot::On => {
            let reason = "Secure Boot is on, where the kernel ignores it";
            return known(Some(AppraiseMode::Enforce), Some(reason));
        }
        SecureBoot::Unknown => {
            let reason = "whether Secure Boot is on, where the kernel ignores it, cannot be read";
            return known(None, Some(reason));
        }
        SecureBoot::Off => {}
    }
    let Some(environment) = sight.text(&proc.join("1/environ")) else {
        return known(None, Some("whether the kernel knows the parameter cannot be seen"));
    };
    if environment.split('\0').any(|entry| entry.starts_with("ima_appraise=")) {
        let reason = "the kernel does not know it (no CONFIG_IMA_APPRAISE_BOOTPARAM)";
        return known(Some(AppraiseMode::Enforce), Some(reason));
    }
    known(Some(asked), None)
}

/// By the EFI variable: four bytes of attributes, one of value. Only a definite no is one.
fn secure_boot(sys: &Path) -> SecureBoot {
    const NAME: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let efi = sys.join("firmware/efi");
    if !efi.exists() {
        return SecureBoot::Off;
    }
    let variables = efi.join("efivars");
    // efivarfs is mounted on an empty directory
    let is_mounted = || fs::read_dir(&variables).is_ok_and(|mut entries| entries.next().is_some());
    match fs::read(variables.join(NAME)).as_deref() {
        Ok([_, _, _, _, 1]) => SecureBoot::On,
        Ok([_, _, _, _, 0]) => SecureBoot::Off,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_mounted() => {
            SecureBoot::Off
        }
        _ => SecureBoot::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::machine;
    use super::*;

    #[test]
    fn the_last_word_on_appraisal_counts() {
        let mode = |words: &[&str]| {
            AppraiseMode::of_command_line(&words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(mode(&[]), AppraiseMode::Enforce);
        assert_eq!(mode(&["ima_appraise=log", "ima-appraise=fix"]), AppraiseMode::Fix);
        assert_eq!(mode(&["ima_appraise=nonsense"]), AppraiseMode::Enforce);
        assert_eq!(mode(&["ima_appraise_tcb=off"]), AppraiseMode::Enforce);
    }

    #[test]
    fn the_command_line_is_believed_where_the_kernel_obeys_it() {
        const VARIABLE: &str =
            "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        const OTHER: &str = "sys/firmware/efi/efivars/Boot0000";
        let obeyed = Some(AppraiseMode::Log);
        let enforced = Some(AppraiseMode::Enforce);
        for (environment, variables, in_force, reason) in [
            (Some("HOME=/\0"), &[][..], obeyed, None),
            (Some("HOME=/\0ima_appraise=log\0"), &[], enforced, Some("does not know it")),
            (None, &[], None, Some("cannot be seen")),
            (Some(""), &[(VARIABLE, "\u{6}\0\0\0\u{1}")], enforced, Some("Secure Boot is on")),
            (Some(""), &[(VARIABLE, "\u{6}\0\0\0\0")], obeyed, None),
            (Some(""), &[(OTHER, "")], obeyed, None),
            (Some(""), &[("sys/firmware/efi/runtime", "")], None, Some("cannot be read")),
            (Some(""), &[(VARIABLE, "")], None, Some("cannot be read")),
        ] {
            let mut files = vec![("proc/cmdline", "ima_appraise=log\n")];
            files.extend(environment.map(|text| ("proc/1/environ", text)));
            files.extend(variables);
            let (_root, machine) = machine(&files);
            let found = machine.status().appraisal;
            assert_eq!((found.asked, found.in_force), (AppraiseMode::Log, in_force), "{files:?}");
            let told = found.reason.unwrap_or_default();
            assert!(told.contains(reason.unwrap_or_default()), "{files:?}: {told}");
            assert_eq!(told.is_empty(), reason.is_none(), "{files:?}: {told}");
        }
    }
}
