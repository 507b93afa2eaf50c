//! Generated texts are offered to the kernel and to the parser of `imactl policy check`, which must accept
//! and reject the same ones.
//!
//! Accepted texts do not come into force: the agent ends each offer with a line that every kernel rejects,
//! and the kernel drops the whole text (`ima_release_policy`).

use ima_format::hash::HashAlgorithm;
use ima_format::policy::ast::AlgorithmSet;
use ima_format::policy::kernel::{Available, LsmRules};
use ima_format::policy::{read, Fault, Kernel as PolicyKernel, Loading};
use lab::image::Tree;
use lab::kernel::Kernel;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Guest, Machine};
use lab::on_each_kernel;
use lab::protocol::{Action, Bytes, Errno, Offer, Output};
use lab::random::{cases, Random};

/// The number of texts offered to a kernel.
const TEXTS: usize = 4000;
/// The number of texts per request to the agent.
const AT_A_TIME: usize = 200;

/// A model of the lab's kernels: no security module with labels.
fn model(kernel: &Kernel) -> anyhow::Result<PolicyKernel> {
    use HashAlgorithm::*;
    let algorithms: AlgorithmSet = [
        Md5,
        Sha1,
        Rmd160,
        Sha224,
        Sha256,
        Sha384,
        Sha512,
        Sm3,
        Streebog256,
        Streebog512,
        Sha3_256,
        Sha3_384,
        Sha3_512,
    ]
    .into_iter()
    .collect();
    Ok(PolicyKernel {
        lsm_rules: LsmRules::Undefined,
        algorithms: Available::Exactly(algorithms),
        ..PolicyKernel::new(kernel.version().parse()?)
    })
}

fn guest(kernel: &Kernel) -> anyhow::Result<Guest> {
    let store = KeyStore::create(Algorithm::P256)?;
    let initramfs = Tree::small_initramfs(&store, "")?.initramfs()?;
    // Without a final newline, Linux reads past the end of the text: memory that is not zeroed may have
    // anything there, and 6.12 once read beyond the page and panicked
    Machine::new(kernel)
        .append("init_on_alloc=1")
        .append("loglevel=1")
        .append("log_buf_len=16M")
        .initramfs(&initramfs)
        .boot()
}

/// The kernel's answer to each offer.
fn offer(guest: &mut Guest, offers: &[Offer]) -> anyhow::Result<Vec<Option<Errno>>> {
    let observed = guest.request(Action::OfferPolicies { offers: offers.to_vec() })?;
    match &observed.outcome {
        Ok(Output::Taken(taken)) => Ok(taken.clone()),
        _ => anyhow::bail!("{observed}"),
    }
}

/// Whether the parser accepts a text. The kernel reports a missing rule only at the end, which an offer
/// does not reach.
fn takes(text: &[u8], kernel: &PolicyKernel, loading: Loading) -> Result<(), String> {
    let mut refusals = read(text, kernel, loading).refusals.into_iter();
    match refusals.find(|refusal| refusal.fault != Fault::NoRules) {
        None => Ok(()),
        Some(refusal) => Err(format!("line {}: {}", refusal.line, refusal.fault)),
    }
}

fn compare(kernel: &Kernel, texts: &[(Loading, Vec<u8>)]) -> anyhow::Result<(usize, usize)> {
    let model = model(kernel)?;
    let mut guest = guest(kernel)?;
    let (mut taken, mut refused, mut wrong) = (0, 0, Vec::new());
    for batch in texts.chunks(AT_A_TIME) {
        let offers: Vec<Offer> = batch
            .iter()
            .map(|(loading, text)| match loading {
                Loading::File => Offer::File(Bytes(text.clone())),
                _ => Offer::Text(Bytes(text.clone())),
            })
            .collect();
        for ((loading, text), errno) in batch.iter().zip(offer(&mut guest, &offers)?) {
            let ours = takes(text, &model, *loading);
            match errno {
                None => taken += 1,
                Some(_) => refused += 1,
            }
            if ours.is_ok() != errno.is_none() {
                let text = String::from_utf8_lossy(text);
                wrong.push(format!("{loading:?} {text:?}: kernel {errno:?}, imactl {ours:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
    Ok((taken, refused))
}

on_each_kernel! {
    fn generated_texts_are_accepted_and_rejected_alike(kernel) {
        let mut random = Random::new(5);
        let texts: Vec<_> = (0..cases(TEXTS)).map(|_| text(&mut random)).collect();
        let (taken, refused) = compare(kernel, &texts)?;
        println!("{}: {taken} taken, {refused} refused", kernel.series());
        // if all generated texts had the same result, the test would prove nothing
        assert!(taken * 5 > texts.len() && refused * 5 > texts.len(), "{taken} {refused}");
        Ok(())
    }

    fn surprising_texts_are_accepted_and_rejected_alike(kernel) {
        let mut texts: Vec<(Loading, Vec<u8>)> = Vec::new();
        for text in SURPRISING {
            texts.push((Loading::File, text.as_bytes().to_vec()));
            texts.push((Loading::Text, text.as_bytes().to_vec()));
        }
        compare(kernel, &texts)?;
        Ok(())
    }

    fn a_policy_without_rules_is_rejected(kernel) {
        let mut guest = guest(kernel)?;
        for text in ["# nothing\n", "\n"] {
            guest.request(Action::WritePolicy { text: text.into() })?.audited("failed");
            let (path, content) = ("/policy".to_owned(), text.as_bytes().into());
            guest.request(Action::Write { path: path.clone(), content, mode: 0o600 })?;
            guest.load_policy(&path)?.audited("failed");
            let refused = read(text.as_bytes(), &model(kernel)?, Loading::File).refusals;
            assert_eq!(refused[0].fault, Fault::NoRules, "{text:?}");
        }
        Ok(())
    }
}

/// Texts with unexpected results.
const SURPRISING: &[&str] = &[
    "measure func=BPRM_CHECK\nmeasure func=MMAP_CHECK",
    "measure func=BPRM_CHECK # a comment behind\n",
    "measure func=BPRM_CHECK\r\n",
    "measure fsname=ext4\r\n",
    "measure uid=+7\n",
    "measure uid=-0\n",
    "measure pcr=-0\n",
    "measure uid=4294967294\n",
    "measure uid=4294967295\n",
    "measure uid=4294967296\n",
    "measure uid=0 euid=0\n",
    "measure fsmagic=0x0 fsmagic=0x1\n",
    "measure fsmagic=0x1 fsmagic=0x2\n",
    "measure fsname=a fsname=b\n",
    "measure pcr=10 pcr=11\n",
    "measure pcr=63\n",
    "measure pcr=64\n",
    "template=ima-sig measure\n",
    "measure template=ima-sig\n",
    "measure template=d-ng|n-ng\n",
    "measure template=n-ng|d-ng\n",
    "audit template=ima-sig\n",
    "appraise appraise_type=sigv3 digest_type=verity\n",
    "appraise digest_type=verity appraise_type=sigv3\n",
    "appraise digest_type=verity\n",
    "measure digest_type=verity\n",
    "appraise digest_type=verity appraise_type=imasig\n",
    "appraise appraise_type=imasig|modsig\n",
    "appraise func=MODULE_CHECK appraise_type=imasig|modsig\n",
    "appraise func=MODULE_CHECK appraise_type=imasig|modsig appraise_flag=check_blacklist\n",
    "appraise func=MODULE_CHECK appraise_type=imasig appraise_flag=check_blacklist\n",
    "appraise func=MODULE_CHECK appraise_type=imasig appraise_flag=other\n",
    "measure appraise_flag=check_blacklist\n",
    "appraise func=SETXATTR_CHECK\n",
    "appraise func=SETXATTR_CHECK appraise_algos=sha256\n",
    "appraise func=SETXATTR_CHECK appraise_algos=sha256 uid=0\n",
    "appraise appraise_algos=sha256,sha3-256\n",
    "appraise appraise_algos=md5\n",
    "appraise appraise_algos=sha256,\n",
    "appraise appraise_algos=sha256,sha256\n",
    "measure func=KEY_CHECK keyrings=.ima|.evm\n",
    "measure func=KEY_CHECK keyrings=.ima||.evm\n",
    "measure keyrings=.ima\n",
    "measure func=KEY_CHECK uid=0 gid=0\n",
    "measure func=KEY_CHECK euid=0\n",
    "measure func=CRITICAL_DATA label=selinux\n",
    "appraise func=CRITICAL_DATA\n",
    "measure func=KEXEC_CMDLINE fowner=0\n",
    "measure func=POST_SETATTR\n",
    "measure func=MMAP_CHECK_REQPROT\n",
    "measure obj_type=bin_t\n",
    "measure fsuuid=8bcbe394-4f13-4144-be8e-5aa9ea2ce2f6-and-more\n",
    "measure fsuuid=00000000-0000-0000-0000-000000000000 fsuuid=8bcbe394-4f13-4144-be8e-5aa9ea2ce2f6\n",
    "appraise permit_directio\n",
    "appraise permit_directio=1\n",
    "dont_audit\n",
    "hash func=FILE_CHECK\n",
    "measure measure\n",
    "  \t measure\tuid=0 \n",
    "measure func=FILE_MMAP mask=^MAY_EXEC\n",
    "measure mask=MAY_READ mask=MAY_EXEC\n",
];

const UUID: &str = "8bcbe394-4f13-4144-be8e-5aa9ea2ce2f6";

/// Keys with mostly valid values, and their weights.
const KEYS: &[(u64, &str, &[&str])] = &[
    (
        12,
        "func=",
        &[
            "FILE_CHECK",
            "MMAP_CHECK",
            "BPRM_CHECK",
            "CREDS_CHECK",
            "MODULE_CHECK",
            "FIRMWARE_CHECK",
            "POLICY_CHECK",
            "KEXEC_KERNEL_CHECK",
            "KEXEC_INITRAMFS_CHECK",
            "KEXEC_CMDLINE",
            "KEY_CHECK",
            "CRITICAL_DATA",
            "SETXATTR_CHECK",
            "PATH_CHECK",
            "FILE_MMAP",
            "MMAP_CHECK_REQPROT",
            "POST_SETATTR",
            "bprm_check",
            "FILE_CHECKS",
        ],
    ),
    (6, "mask=", &["MAY_READ", "MAY_EXEC", "^MAY_WRITE", "^MAY_APPEND", "MAY_EXEC ", "^^MAY_EXEC"]),
    (
        4,
        "fsmagic=",
        &["0xef53", "9fa0", "0x0", "0", "+0xEF53", "0xg", "ffffffffffffffff", "10000000000000000"],
    ),
    (4, "fsname=", &["ext4", "tmpfs", "a,b", "x=y"]),
    (1, "fs_subtype=", &["sshfs"]),
    (
        3,
        "fsuuid=",
        &[
            UUID,
            "8BCBE394-4F13-4144-BE8E-5AA9EA2CE2F6xyz",
            "00000000-0000-0000-0000-000000000000",
            "8bcbe394",
        ],
    ),
    (5, "uid", &["=0", ">1000", "<+1000", "=-1", "=root", "=4294967295", "=007", "!=0"]),
    (5, "euid", &["=0", ">1000", "<10", "=4294967294", "=0x10"]),
    (4, "gid", &["=0", ">1000", "<10"]),
    (4, "egid", &["=0", ">1000", "<10"]),
    (5, "fowner", &["=0", ">1000", "<10", "=99999999999999999999"]),
    (4, "fgroup", &["=0", ">1000", "<10"]),
    (1, "obj_type=", &["bin_t"]),
    (1, "subj_role=", &["system_r"]),
    (8, "appraise_type=", &["imasig", "imasig", "imasig|modsig", "sigv3", "imasig|", "IMASIG"]),
    (2, "appraise_flag=", &["check_blacklist", "blacklist", "xblacklistx", "black"]),
    (
        5,
        "appraise_algos=",
        &[
            "sha256",
            "sha256,sha512",
            "sha1,rmd160",
            "sha3-256",
            "md5",
            "sha256,",
            ",sha256",
            "sha-256",
            "sm3",
            "streebog256,sha384",
            "sha256,sha256",
        ],
    ),
    (4, "digest_type=", &["verity", "verity", "Verity"]),
    (3, "permit_directio", &["", "", "=1"]),
    (5, "pcr=", &["10", "0", "63", "64", "-1", "+3", "010", "0x1"]),
    (
        5,
        "template=",
        &[
            "ima",
            "ima-ng",
            "ima-sig",
            "ima-ngv2",
            "ima-buf",
            "ima-modsig",
            "evm-sig",
            "d-ng|n-ng",
            "n|d",
            "none",
        ],
    ),
    (3, "keyrings=", &[".ima", ".ima|.evm", "|.ima", ".ima|", "a||b"]),
    (3, "label=", &["selinux", "a|b", "|"]),
];

const ACTIONS: &[(u64, &str)] = &[
    (30, "measure"),
    (30, "appraise"),
    (6, "dont_measure"),
    (6, "dont_appraise"),
    (8, "audit"),
    (8, "hash"),
    (3, "dont_hash"),
    (1, "dont_audit"),
    (1, "Measure"),
];

/// A rule that is likely to be accepted.
fn rule(random: &mut Random) -> String {
    let mut words = vec![(*random.weighted(ACTIONS)).to_owned()];
    let keys: Vec<_> = KEYS.iter().map(|(weight, key, values)| (*weight, (key, values))).collect();
    // one in four rules is an arbitrary combination
    let wild = random.chance(25);
    for _ in 0..random.below(4) + usize::from(wild) {
        let (key, values) = *random.weighted(&keys);
        let stands = words.iter().any(|word| word.starts_with(key.trim_end_matches('=')));
        if stands && !wild {
            continue;
        }
        let value = if random.chance(60) { values[0] } else { random.pick(values) };
        let word = format!("{key}{value}");
        match wild && random.chance(20) {
            true => words.insert(0, word),
            false => words.push(word),
        }
    }
    let separator = *random.weighted(&[(20, " "), (1, "\t"), (1, "  "), (1, " \t ")]);
    words.join(separator)
}

fn text(random: &mut Random) -> (Loading, Vec<u8>) {
    let mut lines = Vec::new();
    for _ in 0..=*random.weighted(&[(6, 0), (2, 1), (1, 3)]) {
        lines.push(match random.below(12) {
            0 => "# a comment".to_owned(),
            1 => [String::new(), "  \t".to_owned()][random.below(2)].clone(),
            _ => rule(random),
        });
    }
    let mut text = lines.join("\n").into_bytes();
    if !random.chance(4) {
        text.push(b'\n');
    }
    if random.chance(8) && !text.is_empty() {
        let at = random.below(text.len());
        match random.below(4) {
            0 => text[at] = *random.pick(b"\0\r\n #=|^,<>_Az09\xff"),
            1 => drop(text.remove(at)),
            2 => text.insert(at, *random.pick(b"\0\r\n\t #=x1")),
            _ => text.truncate(at),
        }
    }
    // a path is not parsed as a rule, and an empty write is not one
    if text.is_empty() || text[0] == b'/' {
        text.insert(0, b' ');
    }
    let loading = if random.chance(50) { Loading::File } else { Loading::Text };
    (loading, text)
}
