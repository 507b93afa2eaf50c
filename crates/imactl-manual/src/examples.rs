//! The examples of the man pages.

/// An example: its purpose, and the command line.
pub(crate) type Example = (&'static str, &'static str);

/// The examples of a command.
pub(crate) fn of(command: &str) -> Option<&'static [Example]> {
    EXAMPLES.iter().find(|(name, _)| *name == command).map(|(_, examples)| *examples)
}

pub(crate) const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "imactl",
        &[
            ("Make keys for development", "imactl keys create --sample keys"),
            ("Sign all files of a root file system", "imactl sign --keys keys root"),
            (
                "Find the files that a kernel with the default policy would deny",
                "imactl preflight root --policy default:appraise --keys keys",
            ),
            (
                "Make an initramfs that loads the certificate and the policy",
                "imactl initramfs create --keys keys -o initramfs.img",
            ),
            ("Explain why this machine denies a program", "imactl why /opt/tool"),
        ],
    ),
    (
        "imactl keys",
        &[
            ("Make a key store", "imactl keys create keys"),
            ("Check it before use", "imactl keys check keys"),
        ],
    ),
    (
        "imactl keys create",
        &[
            ("RSA keys with a passphrase, which is asked for", "imactl keys create keys"),
            (
                "ECDSA keys for development, without a passphrase",
                "imactl keys create --sample --algorithm p-256 keys",
            ),
        ],
    ),
    (
        "imactl keys certify",
        &[(
            "A certificate for a key in a hardware token",
            "imactl keys certify --keys keys -o x509_ima.der 'pkcs11:token=Vault;object=ima'",
        )],
    ),
    (
        "imactl keys rotate",
        &[
            (
                "Replace the key that signs files, and list the files that the old one signed",
                "imactl keys rotate --keys keys root",
            ),
            (
                "List again what is still signed by the old key",
                "imactl keys rotate --keys keys --list root.tar",
            ),
        ],
    ),
    ("imactl keys show", &[("Show the subject and key ID of a certificate", "imactl keys show x509_ima.der")]),
    ("imactl keys check", &[("Check a key store", "imactl keys check keys")]),
    (
        "imactl keys load",
        &[("Add a certificate to the .ima keyring", "imactl keys load /etc/keys/x509_ima.der")],
    ),
    (
        "imactl sign",
        &[
            ("Sign a directory", "imactl sign --keys keys root"),
            ("Sign only files that changed since the last run", "imactl sign --changed --keys keys root"),
            ("Sign the files in all RPM packages of a directory", "imactl sign --keys keys -r packages"),
            ("Sign an image, and keep the original", "imactl sign --keys keys -o signed.ext4 root.ext4"),
            ("Sign owner, mode and labels, too", "imactl sign --evm --keys keys root"),
            (
                "Sign with a key in a hardware token",
                "imactl sign --key 'pkcs11:token=Vault;object=ima' --cert x509_ima.der root",
            ),
        ],
    ),
    (
        "imactl verify",
        &[
            ("Verify a directory", "imactl verify --keys keys root"),
            ("Print a line for each file, in JSON", "imactl verify --json -v --cert x509_ima.der root"),
        ],
    ),
    ("imactl inspect", &[("Show the attribute of a program", "imactl inspect root/usr/bin/ls")]),
    ("imactl clear", &[("Remove the signatures of a directory", "imactl clear root")]),
    (
        "imactl digest",
        &[
            ("The SHA-512 digest of a file", "imactl digest --hash sha512 FILE"),
            ("Its fs-verity digest", "imactl digest --verity FILE"),
        ],
    ),
    (
        "imactl policy",
        &[
            ("Check a policy for Linux 6.1", "imactl policy check --kernel 6.1 my.policy"),
            ("Explain the policy in force", "imactl policy explain /sys/kernel/security/ima/policy"),
        ],
    ),
    (
        "imactl policy check",
        &[
            ("Check a policy for Linux 6.1", "imactl policy check --kernel 6.1 my.policy"),
            ("Let a build fail on warnings", "imactl policy check --deny-warnings my.policy"),
        ],
    ),
    ("imactl policy fmt", &[("Format a policy in place", "imactl policy fmt -i my.policy")]),
    (
        "imactl policy explain",
        &[("Explain a policy that the kernel brings", "imactl policy explain builtin:tcb")],
    ),
    (
        "imactl policy default",
        &[("Start a policy from the default one", "imactl policy default > my.policy")],
    ),
    (
        "imactl policy builtin",
        &[("Print the rules of ima_policy=secure_boot", "imactl policy builtin secure_boot")],
    ),
    (
        "imactl policy diff",
        &[("Compare a policy with the default one", "imactl policy diff default:appraise my.policy")],
    ),
    (
        "imactl policy simulate",
        &[(
            "Show whether root may run a file",
            "imactl policy simulate my.policy --func BPRM_CHECK --file /opt/tool --keys keys",
        )],
    ),
    ("imactl policy sign", &[("Check and sign a policy", "imactl policy sign --keys keys my.policy")]),
    (
        "imactl policy load",
        &[("Load a policy into the running kernel", "imactl policy load /etc/ima/ima_policy")],
    ),
    (
        "imactl preflight",
        &[
            (
                "Find the files of an image that would be denied",
                "imactl preflight root.ext4 --policy default:appraise --keys keys",
            ),
            (
                "The same for Linux 6.1 and a container without an init",
                "imactl preflight root.tar --policy my.policy --cert x509_ima.der --kernel 6.1 --no-init",
            ),
        ],
    ),
    (
        "imactl revoke",
        &[
            (
                "Deny a program that was signed, and list the files of a root that are the same",
                "imactl revoke --file /usr/bin/old --keys keys -o blacklist root",
            ),
            ("Deny all files of a key", "imactl revoke --cert stolen.crt -o blacklist"),
        ],
    ),
    (
        "imactl initramfs",
        &[("Make an initramfs", "imactl initramfs create --keys keys -o initramfs.img")],
    ),
    (
        "imactl initramfs create",
        &[
            ("With the default policy", "imactl initramfs create --keys keys -o initramfs.img"),
            (
                "With another policy",
                "imactl initramfs create --keys keys --policy my.policy -o initramfs.img",
            ),
        ],
    ),
    (
        "imactl status",
        &[
            ("Show the state of this machine", "imactl status"),
            ("Let a script fail unless the kernel enforces", "imactl status --require enforced"),
        ],
    ),
    (
        "imactl why",
        &[
            ("Explain why a program is denied", "imactl why /opt/tool"),
            ("Explain the denials in the audit log", "imactl why --audit-log /var/log/audit/audit.log"),
        ],
    ),
    ("imactl log", &[("Show the measurement list of this machine", "imactl log show")]),
    (
        "imactl log show",
        &[("Show files below /opt that have no signature", "imactl log show --unsigned --path '/opt/**'")],
    ),
    (
        "imactl log verify",
        &[("Verify a list against PCR values", "imactl log verify --pcrs pcrs --keys keys list")],
    ),
    (
        "imactl log check",
        &[("Find files that a manifest does not have", "imactl log check --manifest root.manifest list")],
    ),
    ("imactl log diff", &[("Compare the lists of two boots", "imactl log diff monday tuesday")]),
    (
        "imactl log timeline",
        &[(
            "Merge the list of this machine with its audit log",
            "imactl log timeline --audit /var/log/audit/audit.log",
        )],
    ),
    (
        "imactl log keep",
        &[("Keep the measurement list of a machine that runs for long", "imactl log keep /var/lib/ima")],
    ),
    (
        "imactl log prune",
        &[(
            "Remove the segments of an earlier boot, of which a quote proves every entry",
            "imactl log prune --quote quote --signature signature --ak ak.pub --nonce 3f9ac1 --pcrs pcrs \
             --list list /var/lib/ima/boot-00000001",
        )],
    ),
    (
        "imactl log convert",
        &[
            ("Write a Canonical Event Log in JSON", "imactl log convert --to cel-json -o list.json list"),
            (
                "Write a table for databases, with the verdict on each signature",
                "imactl log convert --to parquet --keys keys --machine web1 -o list.parquet list",
            ),
        ],
    ),
    (
        "imactl manifest",
        &[("List the files of a root", "imactl manifest create -o root.manifest root")],
    ),
    (
        "imactl manifest create",
        &[
            ("List the files of a root", "imactl manifest create -o root.manifest root"),
            ("List the files of all packages of a directory", "imactl manifest create -r packages"),
        ],
    ),
    ("imactl manifest diff", &[("Compare two manifests", "imactl manifest diff old.manifest new.manifest")]),
    (
        "imactl manifest merge",
        &[("Merge manifests", "imactl manifest merge -o all.manifest root.manifest tools.manifest")],
    ),
    (
        "imactl manifest export",
        &[("Write a runtime policy for Keylime", "imactl manifest export --to keylime root.manifest")],
    ),
    (
        "imactl report",
        &[
            (
                "A page on an image: which of its files are signed, and which would be denied",
                "imactl report --root root.ext4 --policy default:appraise --keys keys -o report.html",
            ),
            (
                "A page on a boot: list, PCRs and audit log of a machine",
                "imactl report --list list --pcrs pcrs --audit audit.log --cert x509_ima.der -o report.html",
            ),
        ],
    ),
    (
        "imactl evmctl",
        &[
            ("Sign a file", "imactl evmctl ima_sign --key privkey.pem -a sha256 FILE"),
            ("Verify its signature", "imactl evmctl ima_verify --key x509_ima.der FILE"),
        ],
    ),
];
