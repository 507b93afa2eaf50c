//! Kernel messages without an audit record.

/// A message: its text after `ima: ` or `integrity: `, the error number at its end, and its meaning.
#[derive(Debug)]
pub(super) struct Message {
    text: &'static str,
    end: &'static str,
    pub(super) why: &'static str,
    pub(super) fix: &'static str,
}

const fn message(
    text: &'static str,
    end: &'static str,
    why: &'static str,
    fix: &'static str,
) -> Message {
    Message { text, end, why, fix }
}

const LOADING: &str = "Problem loading X.509 certificate";
const OPENING: &str = "Unable to open file: ";
const CHECK: &str = "imactl keys check CERT CA finds the reason";

/// If several messages have the same text, the first that fits is used (`ima_main.c`, `ima_fs.c`, `ima_policy.c`
/// and `digsig.c` in `security/integrity`).
const MESSAGES: &[Message] = &[
    message(
        "impossible to appraise a kernel image without a file descriptor",
        "",
        "kexec_load(2) gives the kernel no file, and a rule appraises kernels (KEXEC_KERNEL_CHECK)",
        "load it with kexec_file_load(2): kexec -s",
    ),
    message(
        "impossible to appraise a module without a file descriptor",
        "",
        "init_module(2) gives the kernel no file, and a rule appraises modules (MODULE_CHECK)",
        "load it with finit_module(2), as kmod does; or boot with module.sig_enforce=1",
    ),
    message(
        "impossible to appraise a firmware image without a file descriptor",
        "",
        "firmware came without a file (the sysfs fallback), and a rule appraises firmware",
        "install the firmware file, signed, below /lib/firmware",
    ),
    message(
        "signed policy file (specified as an absolute pathname) required",
        "",
        "a policy was written as text, and the policy in force accepts only signed files",
        "sign the policy and load it by its path: imactl policy sign, then imactl policy load FILE",
    ),
    message(
        "policy update failed",
        "",
        "the kernel rejected a policy as a whole: the message before this one says why",
        "imactl policy check FILE reads it as the kernel does",
    ),
    message(
        "rule for LSM ",
        "is undefined",
        "a rule names a label that no security module knows yet: its policy is not loaded, or it has none",
        "load the policy of the security module first, or leave such rules out of the initramfs",
    ),
    message(
        LOADING,
        " -126",
        "no key of the kernel has issued the certificate (ENOKEY)",
        "build the CA into the kernel (CONFIG_SYSTEM_TRUSTED_KEYS); imactl keys check CERT CA",
    ),
    message(
        LOADING,
        " -65",
        "the kernel lacks the algorithm of the certificate's key or signature (ENOPKG)",
        "build it in (CONFIG_CRYPTO_ECDSA, CONFIG_CRYPTO_SHA512), or use an RSA certificate over sha256",
    ),
    message(
        LOADING,
        " -74",
        "the file is not a certificate in DER (EBADMSG)",
        "convert it: openssl x509 -in CERT -outform DER -out x509_ima.der",
    ),
    message(
        LOADING,
        " -129",
        "the certificate's signature is not by the issuer's key, or it is in .blacklist (EKEYREJECTED)",
        CHECK,
    ),
    message(LOADING, "", "the kernel did not accept the certificate", CHECK),
    message(
        OPENING,
        "(-13)",
        "the policy in force does not let the kernel read the file: it is not signed",
        "sign it, a policy with imactl policy sign",
    ),
    message(
        OPENING,
        "(-2)",
        "the file is not there: a certificate that is missing in the initramfs, or a wrong path",
        "put the certificate into the initramfs as /etc/keys/x509_ima.der, or correct the path",
    ),
    message(
        OPENING,
        "",
        "the kernel could not open a certificate or policy; the number is the error",
        "errno NUMBER (moreutils) shows its name",
    ),
];

/// A message as it appears in the log, without time and host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Console {
    message: String,
}

impl Console {
    /// Finds a message in a line.
    pub(super) fn parse(line: &[u8]) -> Option<(Self, &'static Message)> {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        let start = ["ima: ", "integrity: "].iter().find_map(|head| {
            let at = line.find(head)?;
            Some(at + head.len())
        })?;
        let text = &line[start..];
        let fits =
            |message: &&Message| text.starts_with(message.text) && text.ends_with(message.end);
        let message = MESSAGES.iter().find(fits)?;
        Some((Self { message: text.to_owned() }, message))
    }

    pub(super) fn text(&self) -> &str {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_whatever_stands_before_them() {
        for (line, why) in [
            ("[    1.8] integrity: Problem loading X.509 certificate -126", "ENOKEY"),
            ("integrity: Problem loading X.509 certificate -65\r\n", "ENOPKG"),
            ("integrity: Problem loading X.509 certificate -12", "did not accept"),
            ("kernel: ima: Unable to open file: /etc/ima/p (-13)", "not signed"),
            ("ima: rule for LSM 'bin_t' is undefined", "security module"),
            ("Jan 31 host kernel: [ 7.2] ima: policy update failed", "as a whole"),
        ] {
            let (_, message) = Console::parse(line.as_bytes()).expect(line);
            assert!(message.why.contains(why), "{line}: {}", message.why);
        }
        for line in ["ima: policy update completed", "Problem loading X.509 certificate -126", ""] {
            assert!(Console::parse(line.as_bytes()).is_none(), "{line}");
        }
    }
}
