use std::string::{String, ToString};
use std::vec::Vec;

use super::*;
use crate::hash::HashAlgorithm;
use crate::policy::ast::{AlgorithmSet, Func, Key, Name};
use crate::policy::kernel::{Available, Built, InForce, KernelVersion, LongSize, LsmRules};

fn kernel(version: &str) -> Kernel {
    Kernel::new(version.parse().unwrap())
}

/// The rule as it is printed, or the name of the fault.
fn line(rule: &str, kernel: &Kernel) -> Result<String, &'static str> {
    let text = rule.to_string() + "\n";
    let reading = read(text.as_bytes(), kernel, Loading::File);
    match reading.refusals.first() {
        None => Ok(reading.policy.to_string().trim_end().to_string()),
        Some(refusal) => Err(refusal.fault.name()),
    }
}

#[track_caller]
fn accepted(rules: &[(&str, &str)]) {
    for (rule, printed) in rules {
        for version in ["6.1", "6.12"] {
            assert_eq!(line(rule, &kernel(version)).as_deref(), Ok(*printed), "{rule}, {version}");
        }
    }
}

#[track_caller]
fn refused(rules: &[(&str, &str)]) {
    for (rule, fault) in rules {
        for version in ["6.1", "6.12"] {
            assert_eq!(line(rule, &kernel(version)), Err(*fault), "{rule}, {version}");
        }
    }
}

#[test]
fn accepts_and_prints_as_the_kernel_shows() {
    accepted(&[
        ("measure", "measure"),
        (" \tappraise\t func=FILE_MMAP  euid=0 ", "appraise func=MMAP_CHECK euid=0"),
        ("func=PATH_CHECK audit", "audit func=FILE_CHECK"),
        ("measure mask=^MAY_READ func=FILE_CHECK", "measure func=FILE_CHECK mask=^MAY_READ"),
        ("dont_measure fsmagic=01021994", "dont_measure fsmagic=0x1021994"),
        ("dont_measure fsmagic=+0X9FA0", "dont_measure fsmagic=0x9fa0"),
        ("hash uid<1000 egid>+007 fowner=0", "hash uid<1000 egid>7 fowner=0"),
        ("measure uid=4294967294", "measure uid=4294967294"),
        ("measure pcr=-0 template=d-ng|n-ng", "measure pcr=0 template=d-ng|n-ng"),
        ("measure func=KEY_CHECK keyrings=.ima|x", "measure func=KEY_CHECK keyrings=.ima|x"),
        ("measure label=a func=CRITICAL_DATA", "measure func=CRITICAL_DATA label=a"),
        (
            "appraise func=BPRM_CHECK digest_type=verity appraise_type=sigv3",
            "appraise func=BPRM_CHECK digest_type=verity appraise_type=sigv3",
        ),
        (
            "appraise func=SETXATTR_CHECK appraise_algos=sha512,sha256",
            "appraise func=SETXATTR_CHECK appraise_algos=sha256,sha512",
        ),
        ("audit permit_directio obj_type=x_t", "audit obj_type=x_t permit_directio"),
        (
            "dont_hash fsuuid=8BCBE394-4f13-4144-be8e-5aa9ea2ce2f6-and-more",
            "dont_hash fsuuid=8bcbe394-4f13-4144-be8e-5aa9ea2ce2f6",
        ),
    ]);
}

#[test]
fn folds_what_may_stand_again() {
    accepted(&[
        ("measure fsname=a fsname=b", "measure fsname=b"),
        ("measure pcr=1 pcr=2", "measure pcr=2"),
        ("measure fsmagic=0 fsmagic=1", "measure fsmagic=0x1"),
        (
            "measure fsuuid=00000000-0000-0000-0000-000000000000 \
             fsuuid=8bcbe394-4f13-4144-be8e-5aa9ea2ce2f6",
            "measure fsuuid=8bcbe394-4f13-4144-be8e-5aa9ea2ce2f6",
        ),
        ("audit permit_directio permit_directio", "audit permit_directio"),
        (
            "appraise func=MODULE_CHECK appraise_type=imasig|modsig appraise_type=imasig",
            "appraise func=MODULE_CHECK appraise_type=imasig|modsig",
        ),
        (
            "appraise digest_type=verity digest_type=verity appraise_type=sigv3 appraise_type=sigv3",
            "appraise digest_type=verity appraise_type=sigv3",
        ),
    ]);
}

#[test]
fn refuses_words() {
    refused(&[
        ("Measure", "unknown-word"),
        ("measure # why", "unknown-word"),
        ("measure\r", "unknown-word"),
        ("measure\u{b}func=BPRM_CHECK", "unknown-word"),
        ("\r", "unknown-word"),
        ("measure func=", "empty-value"),
        ("measure func = BPRM_CHECK", "unknown-word"),
        ("measure func=bprm_check", "unknown-value"),
        ("measure func=POST_SETATTR", "unknown-value"),
        ("measure func=NONE", "unknown-value"),
        ("measure mask=^^MAY_READ", "unknown-value"),
        ("measure fsmagic=0x", "not-a-number"),
        ("measure fsmagic=10000000000000000", "out-of-range"),
        ("measure uid=root", "not-a-number"),
        ("measure uid=-1", "not-a-number"),
        ("measure uid=4294967295", "out-of-range"),
        ("measure uid=18446744073709551616", "out-of-range"),
        ("measure fsuuid=8bcbe394", "bad-uuid"),
        ("measure pcr=64", "out-of-range"),
        ("measure pcr=-1", "out-of-range"),
        ("measure template=ima-sigv3", "unknown-value"),
        ("appraise appraise_type=sigv2", "unknown-value"),
        ("appraise appraise_algos=sha256,", "empty-list-item"),
        ("appraise appraise_algos=SHA256", "unknown-value"),
        ("measure func=KEY_CHECK keyrings=a||b", "empty-list-item"),
        ("measure func=CRITICAL_DATA label=|", "empty-list-item"),
        ("dont_audit", "needs-newer-kernel"),
        ("measure fs_subtype=sshfs", "needs-newer-kernel"),
    ]);
}

#[test]
fn refuses_what_does_not_go_together() {
    refused(&[
        ("func=BPRM_CHECK", "no-action"),
        ("measure audit", "repeated-action"),
        ("measure measure", "repeated-action"),
        ("measure func=BPRM_CHECK func=BPRM_CHECK", "repeated-key"),
        ("measure mask=MAY_READ mask=MAY_EXEC", "repeated-key"),
        ("measure uid=0 euid=0", "repeated-key"),
        ("measure fgroup=1 fgroup<2", "repeated-key"),
        ("template=ima measure", "template-needs-measure"),
        ("audit template=ima", "template-needs-measure"),
        ("appraise pcr=10", "key-needs-action"),
        ("measure appraise_type=imasig", "key-needs-action"),
        ("dont_appraise appraise_algos=sha256", "key-needs-action"),
        ("appraise appraise_type=imasig digest_type=verity", "digest-type-after-appraise-type"),
        ("appraise digest_type=verity appraise_type=imasig", "verity-needs-sigv3"),
        ("appraise appraise_type=sigv3 digest_type=verity", "sigv3-needs-verity"),
        ("appraise digest_type=verity", "verity-needs-signature"),
        ("appraise appraise_type=imasig|modsig", "key-not-for-func"),
        ("appraise func=BPRM_CHECK appraise_type=imasig|modsig", "key-not-for-func"),
        ("measure func=MODULE_CHECK digest_type=verity", "key-not-for-func"),
        ("measure keyrings=.ima", "key-not-for-func"),
        ("measure func=KEY_CHECK euid=0", "key-not-for-func"),
        ("measure func=KEY_CHECK obj_type=x", "key-not-for-func"),
        ("measure func=KEXEC_CMDLINE mask=MAY_READ", "key-not-for-func"),
        ("appraise func=KEXEC_CMDLINE", "action-not-for-func"),
        ("audit func=CRITICAL_DATA", "action-not-for-func"),
        ("dont_appraise func=SETXATTR_CHECK", "action-not-for-func"),
        ("appraise func=SETXATTR_CHECK", "setxattr-needs-algos"),
        ("appraise func=SETXATTR_CHECK appraise_algos=sha256 uid=0", "key-not-for-func"),
    ]);
}

#[test]
fn versions_differ() {
    let table = [
        // rule, 5.10, 5.15, 6.1, 6.6, 6.12, 6.19
        ("measure func=CRITICAL_DATA", "-+++++"),
        ("appraise func=SETXATTR_CHECK appraise_algos=sha256", "-+++++"),
        ("measure fgroup=0", "--++++"),
        ("measure digest_type=verity template=ima-ngv2", "--++++"),
        ("measure template=evm-sig", "-+++++"),
        ("appraise func=MMAP_CHECK_REQPROT", "---+++"),
        ("appraise appraise_algos=sha3-256", "----++"),
        ("measure appraise_flag=anything", "---+++"),
        (
            "appraise func=MODULE_CHECK appraise_type=imasig|modsig appraise_flag=blacklist",
            "++++++",
        ),
        ("appraise func=MODULE_CHECK appraise_type=imasig appraise_flag=blacklist", "---+++"),
        ("dont_audit fs_subtype=sshfs", "-----+"),
    ];
    for (rule, expected) in table {
        let accepted: String = ["5.10", "5.15", "6.1", "6.6", "6.12", "6.19"]
            .iter()
            .map(|version| if line(rule, &kernel(version)).is_ok() { '+' } else { '-' })
            .collect();
        assert_eq!(accepted, expected, "{rule}");
    }
}

#[test]
fn configurations_differ() {
    let full = kernel("6.12");
    let rule = "measure obj_type=a obj_type=b";
    assert_eq!(line(rule, &full), Err("repeated-key"));
    let no_labels = Kernel { lsm_rules: LsmRules::Undefined, ..full.clone() };
    assert_eq!(line(rule, &no_labels), Err("undefined-label"));
    let later = Kernel { in_force: InForce::Custom, ..no_labels };
    assert_eq!(line(rule, &later).as_deref(), Ok("measure obj_type=b"));

    let bare = Kernel { modsig: Built::Out, asymmetric_keys: Built::Out, ..kernel("6.1") };
    for rule in [
        "appraise func=MODULE_CHECK appraise_type=imasig|modsig",
        "measure func=KEY_CHECK",
        "measure func=BPRM_CHECK keyrings=.ima",
    ] {
        assert_eq!(line(rule, &bare), Err("not-configured"), "{rule}");
    }

    let sha256: AlgorithmSet = [HashAlgorithm::Sha256].into_iter().collect();
    let small = Kernel { algorithms: Available::Exactly(sha256), ..full.clone() };
    assert_eq!(
        line("appraise appraise_algos=md5", &full).as_deref(),
        Ok("appraise appraise_algos=md5")
    );
    assert_eq!(line("appraise appraise_algos=md5", &small), Err("unavailable-algorithm"));

    let narrow = Kernel { long_size: LongSize::Bits32, ..full };
    assert_eq!(line("measure fsmagic=100000000", &narrow), Err("out-of-range"));
    assert_eq!(line("measure pcr=32", &narrow), Err("out-of-range"));
    let custom_template = Name::new(b"n-ng|d-ng");
    let kernel = Kernel { custom_template, ..narrow };
    assert!(line("measure template=n-ng|d-ng", &kernel).is_ok());
}

#[test]
fn a_file_ends_in_a_newline() {
    let faults = |text: &[u8], loading| -> Vec<&'static str> {
        let reading = read(text, &Kernel::default(), loading);
        reading.refusals.iter().map(|refusal| refusal.fault.name()).collect()
    };
    assert!(faults(b"measure\n", Loading::File).is_empty());
    assert_eq!(faults(b"measure", Loading::File), ["no-final-newline"]);
    assert_eq!(faults(b"measure\n# end", Loading::File), ["no-final-newline"]);
    assert!(faults(b"measure\0", Loading::File).is_empty(), "a NUL at the end is accepted");
    assert!(faults(b"measure\n\0", Loading::File).is_empty());
    assert_eq!(faults(b"measure\0\n", Loading::File), ["nul-byte"]);
    assert_eq!(faults(b"", Loading::File), ["empty-file"]);
    assert_eq!(faults(b"\n#\n", Loading::File), ["no-rules"]);
    assert!(faults(b"measure", Loading::Text).is_empty());
    assert!(faults(b"measure\0audit", Loading::Text).is_empty(), "a NUL is as good as a newline");
    let long = [&b"measure fsname="[..], &[b'x'; 4081]].concat();
    assert_eq!(faults(&long, Loading::Text), ["line-too-long"]);
    assert!(faults(&long[..4095], Loading::Text).is_empty());
    assert!(faults(&[&long[..], b"\n"].concat(), Loading::File).is_empty());
}

#[test]
fn refusals_know_their_places() {
    let text = b"# a comment\n\n appraise func=BPRM_CHEK euid=0\nmeasure uid=0 gid=x\nhash\n";
    let reading = read(text, &Kernel::default(), Loading::File);
    let places: Vec<_> =
        reading.refusals.iter().map(|refusal| (refusal.line, refusal.span.of(text))).collect();
    assert_eq!(places, [(3, &b"BPRM_CHEK"[..]), (4, b"x")]);
    assert_eq!(reading.policy.rules().count(), 1, "the rest is read anyway");
    let error = Policy::parse(text, &Kernel::default()).unwrap_err();
    assert_eq!(error.offset, 28);
    assert_eq!(
        error.to_string(),
        "unknown func \"BPRM_CHEK\" at offset 28",
        "the first is the error"
    );
    assert_eq!(reading.refusals[0].fault.hint().as_deref(), Some("did you mean func=BPRM_CHECK?"));
    let (position, _) = reading.policy.positioned_rules().next().unwrap();
    assert_eq!((position.line, position.span.of(text)), (5, &b"hash"[..]));
}

#[test]
fn hints_say_what_to_write() {
    for (rule, expected) in [
        ("measure mask=^MAY_RAED", "did you mean mask=^MAY_READ?"),
        ("measure uid!=0", "the kernel knows =, < and >: write uid>0"),
        (
            "measure fowner!=7",
            "the kernel knows =, < and >: write two rules, with fowner<7 and fowner>7",
        ),
        (
            "measure fsname!=ext4",
            "the kernel knows no !=: write an exclusion above it, dont_ and fsname=ext4",
        ),
        ("measure func=BPRM_CHECK,MMAP_CHECK", "write one rule per func"),
        ("measure uid=0\r", "the line ends in CR LF; the kernel expects LF"),
        ("measure func=BPRM_CHECK\r", "the line ends in CR LF; the kernel expects LF"),
        (
            "measure func=BPRM_CHECK # why",
            "put the comment on a line of its own; Linux 6.14 and later accept it here",
        ),
        ("dont-measure", "did you mean dont_measure?"),
        ("measure fmagic=0x9fa0", "did you mean fsmagic=0x9fa0?"),
        ("measure template=ima_ng", "did you mean template=ima-ng?"),
        ("measure keyrings=.ima", "it is valid with func=KEY_CHECK"),
        (
            "appraise func=BPRM_CHECK appraise_type=imasig|modsig",
            "imasig|modsig is valid with MODULE_CHECK and the kexec hooks; write imasig",
        ),
        (
            "appraise appraise_type=sigv3 digest_type=verity",
            "write digest_type=verity before it; Linux 7.1 and later accept it alone",
        ),
        (
            "measure fgroup=0 # x",
            "leave it out, or load this policy on Linux 5.16 and later (by the kernel's history; read \
             in the source of 6.1)",
        ),
        ("measure func=BPRM_CHECK \\", "a rule cannot be continued: write it on one line"),
    ] {
        let kernel = kernel(if rule.contains("fgroup") { "5.10" } else { "6.12" });
        let reading = read((rule.to_string() + "\n").as_bytes(), &kernel, Loading::File);
        assert_eq!(reading.refusals[0].fault.hint().as_deref(), Some(expected), "{rule}");
    }
}

#[test]
fn keys_know_their_places() {
    let text = b"measure func=BPRM_CHECK pcr=1 pcr=2\n";
    let reading = read(text, &Kernel::default(), Loading::File);
    let (position, rule) = reading.policy.positioned_rules().next().unwrap();
    assert_eq!(rule.func, Some(Func::BprmCheck));
    assert_eq!(position.action.of(text), b"measure");
    assert_eq!(position.of(Key::Pcr).of(text), b"pcr=2", "the last counts");
    assert_eq!(position.of(Key::Uid), position.span);
}

#[test]
fn the_layout_survives() {
    let text = b"\n\n# one  \n  # two\n\n\n measure\n\n\n";
    let reading = read(text, &Kernel::default(), Loading::File);
    assert_eq!(reading.policy.to_bytes(), b"# one\n# two\n\nmeasure\n");
}

#[test]
fn comments_after_rules_are_kept_from_linux_6_14_on() {
    let text = b"measure func=BPRM_CHECK # programs  \nmeasure #\nmeasure uid=0#1\n";
    let new = read(text, &Kernel::new("6.14".parse().unwrap()), Loading::File);
    assert_eq!(new.refusals.len(), 1, "a word that only contains # is not a comment");
    let expected = "measure func=BPRM_CHECK # programs\nmeasure #\n";
    assert_eq!(new.policy.to_string(), expected);
    let old = read(text, &Kernel::new(KernelVersion::V6_12), Loading::File);
    assert_eq!(old.refusals.len(), 3);
}

#[test]
fn sigv3_stands_alone_and_in_any_order_from_linux_7_1_on() {
    let fault = |version: &str, conditions: &str| {
        let kernel = Kernel::new(version.parse().unwrap());
        let text = std::format!("appraise func=MODULE_CHECK {conditions}\n");
        let reading = read(text.as_bytes(), &kernel, Loading::File);
        let again = read(&reading.policy.to_bytes(), &kernel, Loading::File);
        assert!(again.policy.says_the_same(&reading.policy), "{text}");
        reading.refusals.first().map(|refusal| refusal.fault.name())
    };
    for (conditions, before, since) in [
        ("appraise_type=sigv3", Some("sigv3-needs-verity"), None),
        ("appraise_type=imasig appraise_type=sigv3", Some("sigv3-needs-verity"), None),
        ("appraise_type=imasig|modsig appraise_type=sigv3", Some("sigv3-needs-verity"), None),
        ("appraise_type=sigv3 appraise_type=imasig", Some("sigv3-needs-verity"), None),
        (
            "appraise_type=sigv3 appraise_type=imasig|modsig",
            Some("sigv3-needs-verity"),
            Some("sigv3-excludes-modsig"),
        ),
    ] {
        assert_eq!(fault("6.12", conditions), before, "{conditions}");
        assert_eq!(fault("7.1", conditions), since, "{conditions}");
    }
    let verity = |version: &str, conditions: &str| {
        let kernel = Kernel::new(version.parse().unwrap());
        let text = std::format!("appraise func=BPRM_CHECK {conditions}\n");
        let reading = read(text.as_bytes(), &kernel, Loading::File);
        let again = read(&reading.policy.to_bytes(), &kernel, Loading::File);
        assert!(again.policy.says_the_same(&reading.policy), "{text}");
        reading.refusals.is_empty()
    };
    for (conditions, before, since) in [
        ("digest_type=verity appraise_type=sigv3", true, true),
        ("appraise_type=sigv3 digest_type=verity", false, true),
        ("appraise_type=imasig digest_type=verity", false, true),
        ("digest_type=verity appraise_type=imasig", false, false),
    ] {
        assert_eq!(verity("7.0", conditions), before, "{conditions}");
        assert_eq!(verity("7.1", conditions), since, "{conditions}");
    }
}

#[test]
fn what_the_kernel_shows_is_read_back() {
    let shown = b"appraise func=BPRM_CHECK uid=-2 appraise_type=sigv3 digest_type=verity \n";
    let read_as = |loading| read(shown, &Kernel::new(KernelVersion::V6_12), loading);
    assert_eq!(read_as(Loading::File).refusals.len(), 1);
    let reading = read_as(Loading::ReadBack);
    assert!(reading.refusals.is_empty());
    assert_eq!(
        reading.policy.to_string(),
        "appraise func=BPRM_CHECK uid=4294967294 digest_type=verity appraise_type=sigv3\n"
    );
}

/// xorshift: the same texts in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % limit as u64).unwrap()
    }
}

#[test]
fn any_text_is_read_and_what_was_read_leads_back() {
    const PIECES: &[&str] = &[
        "measure",
        "dont_measure",
        "appraise",
        "audit",
        "hash",
        "func=",
        "BPRM_CHECK",
        "KEY_CHECK",
        "MODULE_CHECK",
        "CRITICAL_DATA",
        "SETXATTR_CHECK",
        " ",
        " ",
        " ",
        "\t",
        "\n",
        "\n",
        "\n\n",
        "#",
        "mask=^MAY_READ",
        "fsmagic=0x9fa0",
        "fsname=\u{fc}",
        "uid=0",
        "euid>5",
        "egid<7",
        "fowner=0",
        "fgroup=+1",
        "obj_type=a_t",
        "subj_user=_",
        "digest_type=verity",
        "appraise_type=sigv3",
        "appraise_type=imasig",
        "appraise_type=imasig|modsig",
        "appraise_flag=x",
        "appraise_algos=sha256,sha1",
        "permit_directio",
        "pcr=10",
        "template=ima-ng",
        "keyrings=.ima|b",
        "label=a|b",
        "0",
        "-",
        "\r",
        "\0",
        "=",
        "fsuuid=8bcbe394-4f13-4144-be8e-5aa9ea2ce2f6",
    ];
    let mut random = Random(0x1d_e4_5e_ed);
    let mut rules = 0;
    for _ in 0..6_000 {
        let mut text = Vec::new();
        for _ in 0..random.below(24) {
            if text.last().map_or(true, |byte| *byte == b'\n') && random.below(3) > 0 {
                text.extend_from_slice(PIECES[random.below(5)].as_bytes());
                text.push(b' ');
            }
            text.extend_from_slice(PIECES[random.below(PIECES.len())].as_bytes());
            text.push([b' ', b'\n'][random.below(2)]);
            if random.below(40) == 0 {
                text.push(u8::try_from(random.below(256)).unwrap());
            }
        }
        let shown = String::from_utf8_lossy(&text);
        let loading = [Loading::File, Loading::Text, Loading::ReadBack][random.below(3)];
        let kernel = Kernel::default();
        let first = read(&text, &kernel, loading).policy;
        let again = read(&first.to_bytes(), &kernel, Loading::Text);
        let only_empty = |refusal: &Refusal| refusal.fault == Fault::NoRules;
        assert!(again.refusals.iter().all(only_empty), "{shown:?}");
        assert!(again.policy.says_the_same(&first), "{shown:?}");
        rules += first.rules().count();
    }
    assert!(rules > 5_000, "{rules} rules are too few to tell");
}
