//! The mode of appraisal, as far as this machine shows it.

use std::path::Path;
use std::{fs, io};

pub use ima_format::boot::AppraiseMode;
use ima_format::boot::{InForce, SecureBoot};

use super::Sight;

/// The mode that is asked for, and the one in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appraisal {
    /// The mode on the command line.
    pub asked: AppraiseMode,
    /// The mode in force; `None` if it is not visible.
    pub in_force: Option<AppraiseMode>,
    /// Why that is another, or not known.
    pub reason: Option<&'static str>,
}

/// The mode in force on a machine with this command line.
pub(super) fn appraisal(line: &str, proc: &Path, sys: &Path, sight: &mut Sight<'_>) -> Appraisal {
    let asked = AppraiseMode::of_command_line(line.as_bytes());
    let environment = match asked {
        AppraiseMode::Enforce => None, // nothing to look for
        _ => sight.text(&proc.join("1/environ")),
    };
    let environment = environment.as_deref().map(str::as_bytes);
    let (in_force, reason) = match InForce::of(asked, environment, secure_boot(sys)) {
        InForce::Obeyed(mode) => (Some(mode), None),
        InForce::Ignored(reason) => (Some(AppraiseMode::Enforce), Some(reason)),
        InForce::Unknown(reason) => (None, Some(reason)),
    };
    Appraisal { asked, in_force, reason }
}

/// The state of the firmware, from efivarfs.
fn secure_boot(sys: &Path) -> SecureBoot {
    let efi = sys.join("firmware/efi");
    if !efi.exists() {
        return SecureBoot::Off;
    }
    let variables = efi.join("efivars");
    // efivarfs is mounted on an empty directory
    let is_mounted = || fs::read_dir(&variables).is_ok_and(|mut entries| entries.next().is_some());
    match fs::read(variables.join(SecureBoot::VARIABLE)) {
        Ok(content) => SecureBoot::of_variable(&content),
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_mounted() => SecureBoot::Off,
        Err(_) => SecureBoot::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::machine;
    use super::*;

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
