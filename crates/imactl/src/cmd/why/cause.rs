//! The kernel's causes in plain words, and what to do about them.

/// What a cause means, and how it is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) why: &'static str,
    pub(super) mend: &'static str,
}

const fn meaning(why: &'static str, mend: &'static str) -> Meaning {
    Meaning { why, mend }
}

/// `cause=` of `ima_appraise.c`, `ima_main.c` and `ima_policy.c`, and the words that
/// [`ima_format::policy::decide::Cause`] has for refusals without a record.
const MEANINGS: &[(&str, Meaning)] = &[
    ("IMA-signature-required", meaning(
        "a rule asks for a signature, and the file carries none (or a digest only)",
        "sign it: imactl sign --keys DIR FILE; a copy loses the attribute unless it is made with cp --preserve=xattr",
    )),
    ("invalid-signature", meaning(
        "the signature does not hold: the file was changed after it was signed, or its key is not in the .ima keyring, or the attribute is malformed",
        "imactl verify --cert CERT FILE tells which; reinstall or sign the file again, or load the key's certificate with imactl keys load",
    )),
    ("missing-hash", meaning(
        "a rule wants the file's digest or signature, and there is no security.ima",
        "sign it: imactl sign --keys DIR FILE",
    )),
    ("invalid-hash", meaning(
        "the digest in security.ima is not that of the file's content: it was changed",
        "see why it was changed; then reinstall it or sign it: imactl sign --keys DIR FILE",
    )),
    ("invalid-signature-version", meaning(
        "the signature is of a version that this kernel does not take for regular files",
        "sign it again: imactl sign --keys DIR FILE writes version 2",
    )),
    ("verity-signature-required", meaning(
        "the rule asks for an fs-verity signature (appraise_type=sigv3)",
        "enable fs-verity on the file and sign its fs-verity digest, or change the rule",
    )),
    ("invalid-verity-signature", meaning(
        "the fs-verity signature does not hold, or the rule does not ask for one",
        "sign the file again, or change the rule to digest_type=verity",
    )),
    ("no-verity-digest", meaning(
        "the rule asks for the file's fs-verity digest, and fs-verity is not enabled on it",
        "enable it (fsverity enable FILE), or change the rule",
    )),
    ("unknown-ima-data", meaning(
        "security.ima holds neither a digest nor a signature of a file",
        "imactl inspect FILE shows it; sign the file again: imactl sign --keys DIR FILE",
    )),
    ("denied-hash-algorithm", meaning(
        "the attribute uses a hash algorithm that the rule's appraise_algos= does not allow",
        "sign it again with one that it allows: imactl sign --hash sha256 --keys DIR FILE",
    )),
    ("signed policy required", meaning(
        "a policy was written as text, and the policy in force takes only signed files",
        "sign the policy and load it by its path: imactl policy sign, then imactl policy load FILE",
    )),
    ("invalid-policy", meaning(
        "the kernel does not take a rule of the policy",
        "imactl policy check FILE tells which, and why",
    )),
    ("failed-mprotect", meaning(
        "memory mapped from the file was to be made executable afterwards, which goes around the check at mapping",
        "have the program map it executable from the start, or leave it to a user whom no rule holds",
    )),
    ("mmapped_writers", meaning(
        "someone has the file mapped shared and writable: it could change under the check",
        "end the program that has it mapped (fuser FILE)",
    )),
    ("unverifiable-signature", meaning(
        "the file system may give other bytes than those that were checked (FUSE, or mounted by a user)",
        "have the file on a file system that the kernel reads itself",
    )),
    ("failed", meaning(
        "the file's digest could not be computed: a hash algorithm that this kernel lacks, or a read error",
        "imactl inspect FILE names the algorithm; dmesg tells of read errors",
    )),
    ("failed(directio)", meaning(
        "the file was opened with O_DIRECT, and its digest cannot be computed so",
        "open it without O_DIRECT, or allow it with permit_directio in the rule",
    )),
    ("missing-HMAC", meaning(
        "EVM is active, and the file has no security.evm",
        "label it while EVM's metadata writes are allowed (Documentation/ABI/testing/evm)",
    )),
    ("invalid-HMAC", meaning(
        "security.evm does not fit the file's attributes: they were changed without EVM",
        "see who changed them; label the file again",
    )),
    ("invalid-fail-immutable", meaning(
        "the portable EVM signature does not fit the file's attributes",
        "reinstall the file with its owner, mode and attributes",
    )),
    ("no-attributes", meaning(
        "the file system cannot carry security.ima at all, so nothing on it can be signed",
        "have the file on a file system with security attributes (ext4, squashfs, erofs, tmpfs with CONFIG_TMPFS_XATTR)",
    )),
    ("blacklisted", meaning(
        "the file's digest is on the kernel's blacklist",
        "it was revoked; use another version of it",
    )),
    ("signed-file-written", meaning(
        "a signed file was opened for writing",
        "replace it by a new file instead of changing it",
    )),
    ("appraise_metadata", meaning("security.ima may not be changed so", "imactl sign writes what the kernel takes")),
];

/// What a cause means; some word of it where the kernel is newer than this table.
pub(super) fn of(cause: &str) -> Option<Meaning> {
    MEANINGS.iter().find(|(known, _)| *known == cause).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use ima_format::policy::decide::Cause;

    #[test]
    fn every_cause_has_a_meaning() {
        use Cause::*;
        for cause in [
            ImaSignatureRequired,
            VeritySignatureRequired,
            MissingHash,
            InvalidHash,
            InvalidSignature,
            InvalidSignatureVersion,
            InvalidVeritySignature,
            UnknownImaData,
            MissingHmac,
            InvalidHmac,
            InvalidFailImmutable,
            UnverifiableSignature,
            DeniedHashAlgorithm,
            MmappedWriters,
            NoVerityDigest,
            Failed,
            FailedDirectio,
            NoAttributes,
            Blacklisted,
            SignedFileWritten,
        ] {
            assert!(super::of(cause.name()).is_some(), "{cause}");
        }
    }
}
