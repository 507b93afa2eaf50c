//! The kernel's causes, explained, and how to fix them.

/// The meaning of a cause, and how to fix it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) why: &'static str,
    pub(super) fix: &'static str,
}

const fn meaning(why: &'static str, fix: &'static str) -> Meaning {
    Meaning { why, fix }
}

/// The values of `op=` that report a `cause=`. The same cause has a different meaning in different operations.
type Operations = &'static [&'static str];

/// The appraisal of a file.
const APPRAISAL: Operations = &["appraise_data"];
/// The collection of the data that a rule needs of a file.
const COLLECTION: Operations = &["collect_data"];
/// EVM's check of attributes before they change.
const METADATA: Operations = &["appraise_metadata", "update_metadata"];
/// A policy as a whole.
const POLICY: Operations = &["policy_update"];
/// A rule of a policy.
const RULE: Operations = &["update_policy"];
/// Entries of the measurement list.
const MEASUREMENT: Operations =
    &["add_template_measure", "add_boot_aggregate", "measuring_", "measure_loaded_ima_policy"];
/// Denials without an audit record, and so without an operation.
const SILENT: Operations = &[""];

const LOST: &str = "the event is not in the measurement list, so that a verifier does not see it";

/// `cause=` by `op=`, from all files in `security/integrity` of the kernel's source, and the words
/// that [`ima_format::policy::decide::Cause`] has for denials without a record.
const MEANINGS: &[(Operations, &str, Meaning)] = &[
    (APPRAISAL, "IMA-signature-required", meaning(
        "a rule demands a signature, and the file has none (or only a digest)",
        "sign it: imactl sign --keys DIR FILE; a copy loses the attribute unless it is made with cp --preserve=xattr",
    )),
    (APPRAISAL, "invalid-signature", meaning(
        "the signature is not valid: the file was changed after it was signed, or its key is not in the .ima keyring, or the attribute is malformed",
        "imactl verify --cert CERT FILE shows which; reinstall or sign the file again, or load the key's certificate with imactl keys load",
    )),
    (APPRAISAL, "missing-hash", meaning(
        "a rule demands a digest or signature, and the file has no security.ima",
        "sign it: imactl sign --keys DIR FILE",
    )),
    (APPRAISAL, "invalid-hash", meaning(
        "the digest in security.ima is not that of the file's content: it was changed",
        "find out why it was changed; then reinstall it or sign it: imactl sign --keys DIR FILE",
    )),
    (APPRAISAL, "invalid-signature-version", meaning(
        "the signature is of a version that this kernel does not verify on files: version 3 needs Linux 7.1 or newer",
        "sign it again: imactl sign --for-kernel VERSION --keys DIR FILE chooses the version",
    )),
    (APPRAISAL, "IMA-sigv3-required", meaning(
        "the rule asks for a signature of version 3 (appraise_type=sigv3), and the file's is of version 2",
        "sign it again: imactl sign --signature-version 3 --keys DIR FILE",
    )),
    (APPRAISAL, "verity-signature-required", meaning(
        "the rule asks for an fs-verity signature (appraise_type=sigv3)",
        "enable fs-verity on the file and sign its fs-verity digest, or change the rule",
    )),
    (APPRAISAL, "invalid-verity-signature", meaning(
        "the fs-verity signature is not valid, or the rule does not ask for one",
        "sign the file again, or change the rule to digest_type=verity",
    )),
    (APPRAISAL, "sigv3-hashing-error", meaning(
        "the digest that a signature of version 3 signs could not be computed: this kernel lacks the signature's hash algorithm",
        "imactl inspect FILE shows the algorithm; enable it in the kernel, or sign with another (--hash)",
    )),
    (APPRAISAL, "unknown-ima-data", meaning(
        "security.ima is neither a digest nor a signature of a file",
        "imactl inspect FILE shows it; sign the file again: imactl sign --keys DIR FILE",
    )),
    (APPRAISAL, "unverifiable-signature", meaning(
        "the file system may return other bytes than those that were checked (FUSE, or mounted by a user)",
        "move the file to a file system that the kernel reads itself",
    )),
    (APPRAISAL, "missing-HMAC", meaning(
        "EVM is active, and the file has no security.evm",
        "sign it where it is built (imactl sign --evm), and replace the file",
    )),
    (APPRAISAL, "invalid-HMAC", meaning(
        "security.evm does not match the file's attributes, or its key is not in .evm",
        "find out what changed them; replace the file by a signed one (imactl verify --evm shows details)",
    )),
    (APPRAISAL, "invalid-fail-immutable", meaning(
        "the portable EVM signature does not match the file's attributes, or its key is not in .evm",
        "reinstall the file with its owner, mode and attributes (imactl verify --evm shows details)",
    )),
    (APPRAISAL, "unknown", meaning(
        "the kernel could not read the attribute: a read error, a file system without attributes, or EVM that could not decide",
        "dmesg shows read errors; imactl why FILE shows the file's attributes, imactl status the state of EVM",
    )),
    (&["mmap_file"], "mmapped_writers", meaning(
        "a program has the file mapped shared and writable: it could change after the check",
        "end the program that has it mapped (fuser FILE)",
    )),
    (COLLECTION, "failed", meaning(
        "the file's digest could not be computed: a hash algorithm that this kernel lacks, or a read error",
        "imactl inspect FILE names the algorithm; dmesg shows read errors",
    )),
    (COLLECTION, "failed(directio)", meaning(
        "the file was opened with O_DIRECT, with which its digest cannot be computed",
        "open it without O_DIRECT, or allow it with permit_directio in the rule",
    )),
    (COLLECTION, "no-verity-digest", meaning(
        "the rule asks for the file's fs-verity digest, and fs-verity is not enabled on it",
        "enable it (fsverity enable FILE), or change the rule",
    )),
    (COLLECTION, "invalid-verity-digest", meaning(
        "the rule asks for the file's fs-verity digest, and it is of an algorithm that this kernel does not measure",
        "enable fs-verity on the file with SHA-256, or change the rule",
    )),
    (COLLECTION, "denied-hash-algorithm", meaning(
        "the attribute uses a hash algorithm that the rule's appraise_algos= does not allow",
        "sign it again with one that it allows: imactl sign --hash sha256 --keys DIR FILE",
    )),
    (COLLECTION, "failed-mprotect", meaning(
        "a program tried to make memory mapped from the file executable afterwards, which bypasses the check at mapping",
        "change the program to map it executable from the start, or run it as a user whom no rule restricts",
    )),
    (&["set_data"], "denied-hash-algorithm", meaning(
        "security.ima was to be written with a hash algorithm that the policy's SETXATTR_CHECK rule does not allow",
        "sign it with one that the rule's appraise_algos= allows: imactl sign --hash sha256 --keys DIR FILE",
    )),
    (&["set_data"], "unavailable-hash-algorithm", meaning(
        "security.ima was to be written with a hash algorithm that this kernel does not have",
        "sign it with one that the kernel has (imactl sign --hash sha256), or build the kernel with it",
    )),
    (POLICY, "signed policy required", meaning(
        "a policy was written as text, and the policy in force takes only signed files",
        "sign the policy and load it by its path: imactl policy sign, then imactl policy load FILE",
    )),
    (POLICY, "failed", meaning(
        "a policy was rejected: it has an invalid rule, no rules, or not the required signature",
        "the records before this one show which (type 1807 with res=0 names the rule, type 1800 the signature); imactl policy check FILE parses it as the kernel does",
    )),
    (RULE, "invalid-policy", meaning(
        "the kernel rejects a rule of the policy",
        "the record of type 1807 with res=0 before this one names it; imactl policy check FILE explains it",
    )),
    (RULE, "-ENOMEM", meaning(
        "the kernel had no memory for a rule of the policy",
        "free some memory and load it again",
    )),
    (METADATA, "pass", meaning(
        "security.evm fits the attributes, but the kernel denied the change anyway",
        "change them with CAP_SYS_ADMIN",
    )),
    (METADATA, "pass_immutable", meaning(
        "a portable EVM signature makes owner, mode and attributes immutable",
        "replace the file by a new one with a signature of its own",
    )),
    (METADATA, "fail", meaning(
        "security.evm does not match the file's attributes; EVM denies changes to files that it cannot trust",
        "find out what changed them; write security.evm again while EVM allows metadata writes",
    )),
    (METADATA, "fail_immutable", meaning(
        "the portable EVM signature does not match the file's attributes; EVM denies this change",
        "reinstall the file with its owner, mode and attributes",
    )),
    (METADATA, "no_label", meaning(
        "EVM is active, and the file has protected attributes but no security.evm: it denies changes",
        "lock EVM (bit 0x80000000) if it has no HMAC key, or replace the file by one that is signed",
    )),
    (METADATA, "no_xattrs", meaning(
        "EVM is active, and the file has none of the protected attributes: it denies this change",
        "write security.evm with the portable signature first",
    )),
    (METADATA, "unknown", meaning(
        "EVM could not read the file's attributes",
        "dmesg shows read errors; imactl status shows EVM's state",
    )),
    (MEASUREMENT, "ENOMEM", meaning(LOST, "the kernel had no memory: see dmesg")),
    (MEASUREMENT, "hashing_error", meaning(LOST, "a digest could not be computed: dmesg shows which algorithm this kernel lacks")),
    (MEASUREMENT, "alloc_entry", meaning(LOST, "the kernel had no memory for the entry: see dmesg")),
    (MEASUREMENT, "store_entry", meaning(LOST, "the entry could not be stored: the records and kernel messages before this one explain why")),
    (MEASUREMENT, "ima_template_desc_buf", meaning(LOST, "the kernel could not find its template ima-buf: see dmesg")),
    (MEASUREMENT, "hash_added", meaning(LOST, "the entry was made, and something after it failed: see dmesg")),
    (MEASUREMENT, "hash_exists", meaning(
        "the measurement list has this entry already",
        "no action needed: the kernel records each content once",
    )),
    (MEASUREMENT, "measurements_suspended", meaning(
        "the machine was about to reboot, and its TPM was off: files read from then on are not in the measurement list",
        "no action needed: the next boot begins a new list",
    )),
    (&["measure_loaded_ima_policy"], "rule_length", meaning(
        "the loaded policy is not in the measurement list: a rule was longer than the kernel expected",
        "the policy is in force anyway; report it to the kernel's maintainers",
    )),
    (MEASUREMENT, "TPM_error", meaning(
        "the TPM rejected a measurement: from now on the list and PCR 10 differ, and no quote of this boot can be verified",
        "see dmesg for the TPM's error; reboot to begin a new list",
    )),
    (&["invalid_pcr"], "ToMToU", meaning(
        "a file was opened for writing while it was read: the measured content may differ from the content that was used, and the list does not show it",
        "change the writer to replace the file instead",
    )),
    (&["invalid_pcr"], "open_writers", meaning(
        "a file was read while it was open for writing: the measured content may differ from the content that was used, and the list does not show it",
        "change the writer to close it first",
    )),
    (SILENT, "no-attributes", meaning(
        "the file system does not support security.ima, so no file on it can be signed",
        "move the file to a file system with security attributes (ext4, squashfs, erofs, tmpfs with CONFIG_TMPFS_XATTR)",
    )),
    (SILENT, "blacklisted", meaning(
        "the file's digest is on the kernel's blacklist",
        "it was revoked; use another version of it",
    )),
    (SILENT, "signed-file-written", meaning(
        "a signed file was opened for writing",
        "replace it by a new file instead of changing it",
    )),
];

/// The meaning of a cause reported by an operation (empty for denials without a record);
/// `None` if the kernel is newer than this table.
pub(super) fn of(operation: &str, cause: &str) -> Option<Meaning> {
    // the number in TPM_error(-62) is the driver's error
    let cause = if cause.starts_with("TPM_error(") { "TPM_error" } else { cause };
    // likewise the hook in measuring_kexec_cmdline and similar
    let operation = if operation.starts_with("measuring_") { "measuring_" } else { operation };
    let known = MEANINGS
        .iter()
        .find(|(operations, known, _)| *known == cause && operations.contains(&operation));
    known.map(|(.., meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use ima_format::policy::decide::Cause;

    #[test]
    fn every_cause_has_a_meaning() {
        for cause in Cause::ALL.iter().filter(|cause| **cause != Cause::Unknown) {
            assert!(super::of(cause.operation().unwrap_or(""), cause.name()).is_some(), "{cause}");
        }
    }

    #[test]
    fn the_same_word_means_what_its_operation_does() {
        let why = |operation, cause| super::of(operation, cause).map(|meaning| meaning.why);
        assert!(why("collect_data", "failed").unwrap().contains("digest"));
        assert!(why("policy_update", "failed").unwrap().contains("policy"));
        assert!(why("appraise_data", "failed").is_none());
        assert!(why("add_template_measure", "TPM_error(-62)").is_some());
    }
}
