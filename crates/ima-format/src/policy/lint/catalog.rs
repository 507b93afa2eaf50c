//! All lints, with their reasons.

use super::Lint;
use crate::policy::diagnostic::Severity;

macro_rules! lints {
    ($($constant:ident = $name:literal, $severity:ident, $summary:literal, $reason:literal;)+) => {
        $(
            pub(super) const $constant: Lint = Lint {
                name: $name,
                severity: Severity::$severity,
                summary: $summary,
                reason: $reason,
            };
        )+

        /// All lints.
        pub const LINTS: &[Lint] = &[$($constant,)+];
    };
}

lints! {
    EXEC_NOT_APPRAISED = "exec-not-appraised", Warning,
        "root executes programs that nothing appraises",
        "a program that was changed or brought along runs as root";
    MMAP_NOT_APPRAISED = "mmap-not-appraised", Warning,
        "root maps code that nothing appraises",
        "a shared library that was changed or brought along runs in every signed program that \
         loads it";
    MODULE_NOT_APPRAISED = "module-not-appraised", Warning,
        "the kernel reads modules that nothing appraises",
        "a module is the kernel: it can switch off everything else, unless the kernel itself \
         insists on module signatures";
    FIRMWARE_NOT_APPRAISED = "firmware-not-appraised", Warning,
        "the kernel reads firmware that nothing appraises",
        "firmware of a device with access to memory is as good as a module";
    POLICY_NOT_APPRAISED = "policy-not-appraised", Warning,
        "the kernel takes policies that nothing appraises",
        "root can load further rules, as text or from an unsigned file";
    KEXEC_NOT_APPRAISED = "kexec-not-appraised", Note,
        "kexec starts kernels that nothing appraises",
        "another kernel need not have this policy, where kexec is built in and not locked down";
    NOTHING_APPRAISED = "nothing-appraised", Note,
        "the policy appraises nothing",
        "it reports changes and denies nothing";
    HASH_IS_ENOUGH = "hash-is-enough", Warning,
        "a rule that a digest satisfies",
        "anyone who can write the file can also write its digest; only a signature shows who made \
         it";
    UID_LIMITS_KERNEL_READS = "uid-limits-kernel-reads", Warning,
        "the kernel's own reads are appraised for some users only",
        "a process of another user that has the capability is not held: root can hand it on";
    SET_USER_ID_NOT_APPRAISED = "set-user-id-not-appraised", Warning,
        "users execute set-user-ID programs of root's that nothing appraises",
        "hooks of execve see the caller's ids; the program then runs as root";
    WRITABLE_NOT_APPRAISED = "writable-not-appraised", Warning,
        "an exclusion from appraisal that covers files that users write",
        "root can run any file from there, or load it into the kernel";
    UNCLEAR_EXCLUSION = "unclear-exclusion", Note,
        "an exclusion from appraisal by a label or a UUID",
        "who may write the files that it covers is defined elsewhere; if users may, root runs \
         files from anyone";
    UNREACHABLE_RULE = "unreachable-rule", Warning,
        "a rule that earlier rules always win over",
        "the first rule that matches decides; this one never does";
    NEVER_MATCHES = "never-matches", Warning,
        "a rule that no event matches",
        "its conditions cannot hold together";
    EXCLUSION_TOO_LATE = "exclusion-too-late", Warning,
        "an exclusion of a file system after a rule that already takes part of it",
        "the first rule that matches decides: for these files the exclusion does not count";
    EXCLUSION_WITHOUT_EFFECT = "exclusion-without-effect", Note,
        "a dont_ rule without a later rule to be excluded from",
        "only rules of the same kind further down are held off by it";
    PSEUDO_FILES_MEASURED = "pseudo-files-measured", Warning,
        "files of pseudo file systems are measured",
        "each reading is another content and another entry, kept in kernel memory for ever and \
         telling nothing";
    PSEUDO_FILES_APPRAISED = "pseudo-files-appraised", Warning,
        "files of pseudo file systems are appraised",
        "they cannot carry an attribute, so that every access is denied: the machine does not \
         boot";
    USER_FILES_MEASURED = "user-files-measured", Warning,
        "reads of files that users own are measured",
        "users can fill the kernel's memory with entries, which are never freed, and the list \
         with noise";
    USER_FILES_AUDITED = "user-files-audited", Warning,
        "reads of files that users own are written to the audit log",
        "users can flood the log";
    USER_FILES_APPRAISED = "user-files-appraised", Warning,
        "reads of files that users own are appraised",
        "no one signs files that users write: they are denied their own files, and root is, too";
    USER_PROGRAMS_MEASURED = "user-programs-measured", Note,
        "programs that users own are measured",
        "users can write and execute ever new programs, each of which is an entry in the kernel's \
         memory that is never freed";
    MEASURED_WITHOUT_AUDIT = "measured-without-audit", Note,
        "files are measured and nothing is audited",
        "an entry in the measurement list has no time, no process and no user; an audit record has";
    ATTRIBUTE_VANISHES = "attribute-vanishes", Note,
        "a change of mode or owner removes security.ima before Linux 5.14",
        "these kernels ask the policy about the change without regard to func and mask, and \
         remove the attribute where a dont_appraise rule answers";
    DETACHED_UNCHECKED = "appended-signature-unbound", Warning,
        "appended signatures are accepted, which IMA does not bind to the file",
        "ima_collect_modsig() ignores that a PKCS#7 message has content of its own: with such a \
         message at its end any file passes";
    DEPENDS_ON_CONFIGURATION = "depends-on-configuration", Note,
        "a word that only some configurations of the kernel know",
        "without the option the kernel rejects the whole policy, or the rule has no effect";
    NOT_CONFIGURED = "option-not-built", Warning,
        "a rule that this kernel was built without",
        "the kernel accepts it and does nothing, or denies everything";
    WEAK_ALGORITHM = "weak-algorithm", Warning,
        "a rule that allows a hash algorithm with known collisions",
        "two files with the same digest can be made, and the signature of one is good for the other";
    EXACT_MASK = "exact-mask", Note,
        "a mask that misses files opened for more",
        "mask=MAY_READ is not matched when the file is opened for reading and writing";
    IGNORED_CONDITION = "ignored-condition", Warning,
        "a condition that the kernel accepts and does not look at",
        "the rule matches more than it says";
    OBSOLETE_FLAG = "obsolete-flag", Note,
        "appraise_flag, which has meant nothing since Linux 6.6",
        "every rule that asks for a signature looks into the blacklist";
    OLD_SPELLING = "old-spelling", Note,
        "a hook under its old name",
        "the kernel shows it under the new one";
    REPEATED_KEY = "repeated-condition", Warning,
        "a key that is given twice",
        "only the last counts";
    CARRIAGE_RETURN = "carriage-return", Warning,
        "a carriage return at the end of a value",
        "it is part of the value, which then matches nothing that is meant";
    ALGORITHM_MAY_BE_MISSING = "algorithm-may-be-missing", Note,
        "a hash algorithm that not every kernel has",
        "a kernel that cannot compute it rejects the whole policy";
    LABEL_MAY_BE_UNDEFINED = "label-may-be-undefined", Warning,
        "a label that a security module has to know",
        "a kernel without such a module, or whose module does not know the label, rejects the \
         whole policy if it is the first";
    VERITY_BINDS_APPRAISAL = "verity-binds-appraisal", Warning,
        "a rule that does not appraise and asks for the fs-verity digest",
        "the requirements of matching rules add up: files that it matches are then appraised only \
         by fs-verity signature";
    DIRECTIO_UNSEEN = "directio-unseen", Warning,
        "a rule that lets O_DIRECT through unchecked",
        "a file opened this way is neither read nor checked";
    TEMPLATE_LACKS_FIELD = "template-lacks-field", Note,
        "a measurement without the field that its rule is about",
        "a verifier of the list cannot know which digest was measured";
    UNKNOWN_LINT = "unknown-lint", Warning,
        "a comment that switches off an unknown lint",
        "the intended lint is still on";
}

/// The lint with this name.
pub fn find(name: &str) -> Option<&'static Lint> {
    LINTS.iter().find(|lint| lint.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_and_distinct() {
        for lint in LINTS {
            assert!(lint.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", lint.name);
            assert_eq!(LINTS.iter().filter(|other| other.name == lint.name).count(), 1);
            assert_eq!(find(lint.name), Some(lint));
        }
        assert_eq!(find("no-such-lint"), None);
    }
}
