use std::string::{String, ToString};
use std::vec::Vec;

use super::*;
use crate::policy::builtin::{Builtin, Preset};
use crate::policy::kernel::{Available, KernelVersion, LsmRules};

fn found_on(text: &str, kernel: &Kernel) -> Vec<(usize, &'static str)> {
    let found = check(text.as_bytes(), kernel, Loading::File);
    let line = |it: &Diagnostic| it.location.map_or(0, |location| location.line);
    found.iter().map(|it| (line(it), it.name)).collect()
}

fn found(text: &str) -> Vec<(usize, &'static str)> {
    found_on(text, &Kernel::default())
}

/// Whether the lint `name` has a finding on line `line` of `text`, 0 for the policy as a whole.
#[track_caller]
fn finds(name: &str, line: usize, text: &str) {
    assert!(found(text).contains(&(line, name)), "{name} in {text:?}: {:?}", found(text));
}

#[track_caller]
fn passes(name: &str, text: &str) {
    assert!(!found(text).iter().any(|(_, other)| *other == name), "{:?}", found(text));
}

#[test]
fn refusals_come_alone() {
    let names: Vec<_> = found("apraise fowner=0\nappraise\n");
    assert_eq!(names, [(1, "unknown-word")]);
}

#[test]
fn each_hole_in_appraisal_is_told() {
    let text = "appraise func=CREDS_CHECK appraise_type=imasig\n";
    for name in [
        "exec-not-appraised",
        "mmap-not-appraised",
        "module-not-appraised",
        "firmware-not-appraised",
        "policy-not-appraised",
        "kexec-not-appraised",
    ] {
        finds(name, 0, text);
        passes(name, Preset::Strict.text());
        passes(name, "appraise appraise_type=imasig\n");
        passes(name, "measure\n");
    }
    finds("nothing-appraised", 0, "measure func=BPRM_CHECK\n");
    let reqprot = "appraise func=MMAP_CHECK_REQPROT appraise_type=imasig\n";
    passes("mmap-not-appraised", reqprot);
    passes("exec-not-appraised", "appraise func=BPRM_CHECK obj_type=bin_t appraise_type=imasig\n");
}

#[test]
fn a_digest_is_not_enough() {
    finds("hash-is-enough", 2, "# x\nappraise func=BPRM_CHECK euid=0\n");
    passes("hash-is-enough", "appraise func=BPRM_CHECK appraise_type=imasig\n");
    passes("hash-is-enough", "appraise func=SETXATTR_CHECK appraise_algos=sha256\n");
}

#[test]
fn ids_do_not_limit_what_the_kernel_reads() {
    finds("uid-limits-kernel-reads", 1, "appraise func=MODULE_CHECK euid=0 appraise_type=imasig\n");
    finds("uid-limits-kernel-reads", 1, "appraise func=POLICY_CHECK gid=0 appraise_type=imasig\n");
    passes("uid-limits-kernel-reads", "appraise func=FIRMWARE_CHECK uid=0 appraise_type=imasig\n");
    passes("uid-limits-kernel-reads", "appraise func=MODULE_CHECK appraise_type=imasig\n");
    passes("uid-limits-kernel-reads", "measure func=MODULE_CHECK uid=0\n");
}

#[test]
fn set_user_id_programs_are_looked_after() {
    let bprm = "appraise func=BPRM_CHECK euid=0 appraise_type=imasig\n";
    finds("set-user-id-not-appraised", 0, bprm);
    let creds = bprm.to_string() + "appraise func=CREDS_CHECK euid=0 appraise_type=imasig\n";
    finds("set-user-id-not-appraised", 0, &creds);
    let newest = Kernel::new("6.19".parse().unwrap());
    assert!(!found_on(&creds, &newest).contains(&(0, "set-user-id-not-appraised")));
    passes("set-user-id-not-appraised", Preset::Appraise.text());
    passes("set-user-id-not-appraised", "appraise func=BPRM_CHECK appraise_type=imasig\n");
}

#[test]
fn exclusions_of_writable_places_are_holes() {
    let appraise = "appraise func=BPRM_CHECK appraise_type=imasig\n";
    let with = |first: &str| first.to_string() + "\n" + appraise;
    finds("writable-not-appraised", 1, &with("dont_appraise fsmagic=0x01021994"));
    finds("writable-not-appraised", 1, &with("dont_appraise fsname=nfs"));
    for condition in [
        "fowner>999",
        "fowner=33",
        "fowner<5",
        "fgroup=100",
        "fsname=xfs",
        "fsname=btrfs",
        "fsmagic=0xf2f52010",
        "fsname=zfs",
        "fsmagic=0x2fc12fc1",
        "fsname=ext4 fowner=33",
        "obj_type=home_t fsname=xfs",
    ] {
        finds("writable-not-appraised", 1, &with(&std::format!("dont_appraise {condition}")));
    }
    for condition in ["obj_type=home_t", "fsuuid=8bcbe394-4f13-4144-be8e-5aa9ea2ce2f6"] {
        let text = with(&std::format!("dont_appraise {condition}"));
        finds("unclear-exclusion", 1, &text);
        passes("writable-not-appraised", &text);
    }
    for condition in ["fsname=squashfs", "fsmagic=0xe0f5e1e2", "fowner=0", "uid=1000 fsname=xfs"] {
        passes("writable-not-appraised", &with(&std::format!("dont_appraise {condition}")));
    }
    passes("writable-not-appraised", &with("dont_appraise fsmagic=0x9fa0"));
    passes("writable-not-appraised", &with("dont_appraise func=FILE_CHECK fsname=tmpfs"));
    passes("writable-not-appraised", "appraise func=BPRM_CHECK\ndont_appraise fsname=tmpfs\n");
}

#[test]
fn rules_that_never_decide_are_told_with_their_reason() {
    finds("unreachable-rule", 2, "measure func=BPRM_CHECK\ndont_measure func=BPRM_CHECK uid=0\n");
    finds("unreachable-rule", 3, "measure uid<10\nmeasure uid>9\nmeasure func=FILE_CHECK\n");
    finds("unreachable-rule", 2, "audit euid>5\naudit euid=7\n");
    finds(
        "unreachable-rule",
        2,
        "audit func=FILE_CHECK mask=^MAY_READ\naudit func=FILE_CHECK mask=MAY_READ\n",
    );
    finds(
        "unreachable-rule",
        2,
        "appraise func=SETXATTR_CHECK appraise_algos=sha256\nappraise func=SETXATTR_CHECK appraise_algos=sha512\n",
    );
    passes("unreachable-rule", "audit uid=0\naudit euid=0\n");
    passes("unreachable-rule", "measure func=BPRM_CHECK\nappraise func=BPRM_CHECK\n");
    passes("unreachable-rule", "measure obj_type=a_t\nmeasure\n");
    passes(
        "unreachable-rule",
        "dont_measure fsmagic=0xef53 func=FILE_CHECK\nmeasure fsname=ext4\n",
    );
    let told = check(b"audit\n\naudit func=MMAP_CHECK\n", &Kernel::default(), Loading::File);
    let shadow = told.iter().find(|it| it.name == "unreachable-rule").unwrap();
    assert_eq!(shadow.message, "never decides: line 1 matches all that it matches");
}

#[test]
fn rules_that_match_nothing_are_told() {
    finds("never-matches", 1, "measure func=BPRM_CHECK mask=MAY_READ\n");
    finds("never-matches", 1, "measure func=MODULE_CHECK mask=^MAY_EXEC\n");
    finds("never-matches", 1, "measure func=FILE_CHECK mask=MAY_APPEND\n");
    finds("never-matches", 1, "measure fsmagic=0x9fa0 fsname=ext4\n");
    finds("never-matches", 1, "measure uid<0\n");
    passes("never-matches", "measure func=FILE_CHECK mask=^MAY_APPEND\n");
    passes("never-matches", "measure func=KEY_CHECK keyrings=.ima uid=7\n");
    let later = Kernel {
        lsm_rules: LsmRules::Undefined,
        in_force: crate::policy::kernel::InForce::Custom,
        ..Kernel::default()
    };
    assert!(found_on("measure obj_type=a_t\n", &later).contains(&(1, "never-matches")));
}

#[test]
fn exclusions_stand_above() {
    finds("exclusion-too-late", 2, "appraise fowner=0\ndont_appraise fsmagic=0x9fa0\nappraise\n");
    passes("exclusion-too-late", "dont_appraise fsmagic=0x9fa0\nappraise fowner=0\n");
    let told = check(
        b"measure fowner=0\ndont_measure fsname=sysfs\nmeasure\n",
        &Kernel::default(),
        Loading::File,
    );
    let late = told.iter().find(|it| it.name == "exclusion-too-late").unwrap();
    assert_eq!(late.message, "line 1 already takes files of user 0 on sysfs");
    for func in ["BPRM_CHECK", "MMAP_CHECK"] {
        let text = std::format!(
            "appraise func={func} fowner=0\ndont_appraise func={func} fsname=tmpfs\nappraise\n"
        );
        finds("exclusion-too-late", 2, &text);
    }
    finds("exclusion-too-late", 2, "appraise func=BPRM_CHECK\ndont_appraise fsname=tmpfs\n");
    passes(
        "exclusion-too-late",
        "appraise func=BPRM_CHECK\ndont_appraise fsname=proc\nappraise fowner=0\n",
    );
    finds("exclusion-without-effect", 1, "dont_measure fsmagic=0x9fa0\naudit\n");
    passes("exclusion-without-effect", "dont_measure fsmagic=0x9fa0\nmeasure\n");
}

#[test]
fn pseudo_files_are_left_out() {
    finds("pseudo-files-measured", 1, "measure func=FILE_CHECK uid=0\n");
    finds("pseudo-files-appraised", 1, "appraise fowner=0\n");
    passes("pseudo-files-measured", "measure func=BPRM_CHECK\n");
    passes("pseudo-files-measured", Preset::Measure.text());
    let tcb = Builtin::AppraiseTcb.text(&Kernel::default());
    let told = check(tcb.as_bytes(), &Kernel::default(), Loading::File);
    let pseudo = told.iter().find(|it| it.name == "pseudo-files-appraised").unwrap();
    assert!(!pseudo.message.contains("proc"), "{}", pseudo.message);
}

#[test]
fn floods_are_told() {
    finds("user-files-measured", 1, "measure func=FILE_CHECK\n");
    finds("user-files-audited", 1, "audit\n");
    for limit in ["fowner=0", "mask=^MAY_WRITE", "fgroup=0", "uid=7 fowner=0"] {
        passes("user-files-measured", &std::format!("measure func=FILE_CHECK {limit}\n"));
    }
    // root reads files that anyone wrote; and any named user reads their own files
    for limit in ["uid=0", "euid=0", "fowner=33", "uid=33", "fgroup=100", "fowner>100", "uid<50"] {
        finds("user-files-measured", 1, &std::format!("measure func=FILE_CHECK {limit}\n"));
    }
    finds("user-files-appraised", 1, "appraise func=FILE_CHECK appraise_type=imasig\n");
    passes("user-files-appraised", "appraise func=FILE_CHECK fowner=0 appraise_type=imasig\n");
    finds("user-programs-measured", 1, "measure func=BPRM_CHECK\n");
    finds("user-programs-measured", 1, "measure func=MMAP_CHECK uid=33\n");
    passes("user-programs-measured", "measure func=BPRM_CHECK fowner=0\n");
    passes("user-programs-measured", "measure func=BPRM_CHECK uid=0\n");
    finds("measured-without-audit", 0, "measure func=BPRM_CHECK\n");
    passes("measured-without-audit", "measure func=BPRM_CHECK\naudit func=BPRM_CHECK\n");
    passes("measured-without-audit", "measure func=KEY_CHECK\n");
}

#[test]
fn attributes_vanish_before_5_14() {
    let text = "dont_appraise func=FILE_CHECK\nappraise func=BPRM_CHECK appraise_type=imasig\n";
    finds("attribute-vanishes", 1, text);
    let old = Kernel::new(KernelVersion::V5_10);
    assert!(found_on(text, &old).contains(&(1, "attribute-vanishes")));
    let told = |kernel: &Kernel| {
        let told = check(text.as_bytes(), kernel, Loading::File);
        told.iter().find(|it| it.name == "attribute-vanishes").unwrap().message.clone()
    };
    assert!(told(&old).starts_with("touch"));
    let severity = |kernel: &Kernel| {
        let told = check(text.as_bytes(), kernel, Loading::File);
        told.iter().find(|it| it.name == "attribute-vanishes").unwrap().severity
    };
    assert_eq!(severity(&old), Severity::Warning);
    assert_eq!(severity(&Kernel::default()), Severity::Note);
    assert!(told(&Kernel::default()).starts_with("on kernels before"));
    passes("attribute-vanishes", "dont_appraise fsname=proc\nappraise appraise_type=imasig\n");
}

#[test]
fn single_rules_are_looked_at() {
    finds("weak-algorithm", 1, "appraise appraise_type=imasig appraise_algos=sha1,sha256\n");
    finds("exact-mask", 1, "measure func=FILE_CHECK mask=MAY_READ uid=0\n");
    passes("exact-mask", "measure func=FILE_CHECK mask=^MAY_READ uid=0\n");
    finds("ignored-condition", 1, "measure func=KEY_CHECK gid=0\n");
    finds("obsolete-flag", 1, "appraise appraise_type=imasig appraise_flag=check_blacklist\n");
    finds("old-spelling", 1, "measure func=FILE_MMAP\n");
    passes("old-spelling", "measure func=MMAP_CHECK\n");
    finds("repeated-condition", 1, "measure fsname=a fsname=b\n");
    finds("carriage-return", 1, "measure fsname=ext4\r\n");
    finds("directio-unseen", 1, "appraise appraise_type=imasig permit_directio\n");
    finds("label-may-be-undefined", 1, "measure obj_type=a_t\n");
    finds(
        "verity-binds-appraisal",
        1,
        "measure digest_type=verity\nappraise func=BPRM_CHECK appraise_type=imasig\n",
    );
    finds("template-lacks-field", 1, "measure digest_type=verity\n");
    passes("template-lacks-field", "measure digest_type=verity template=ima-ngv2\n");
    finds("algorithm-may-be-missing", 1, "appraise appraise_algos=sm3 appraise_type=imasig\n");
    let sure = Kernel {
        algorithms: Available::Exactly(crate::hash::HashAlgorithm::ALL.iter().copied().collect()),
        ..Kernel::default()
    };
    let text = "appraise appraise_algos=sm3 appraise_type=imasig\n";
    assert!(!found_on(text, &sure).contains(&(1, "algorithm-may-be-missing")));
}

#[test]
fn comments_switch_lints_off() {
    let rule = "appraise func=BPRM_CHECK\n";
    let with = |comment: &str| comment.to_string() + "\n" + rule;
    passes("hash-is-enough", &with("# imactl: allow(hash-is-enough)"));
    passes("hash-is-enough", &with("#imactl:allow( exact-mask , hash-is-enough )"));
    passes("hash-is-enough", &with("# imactl: allow(hash-is-enough)\n# and why"));
    finds("hash-is-enough", 3, &(with("# imactl: allow(hash-is-enough)") + rule));
    passes("hash-is-enough", &(with("# imactl: allow-file(hash-is-enough)") + rule));
    finds("mmap-not-appraised", 0, &with("# imactl: allow(mmap-not-appraised)"));
    passes("mmap-not-appraised", &with("# imactl: allow-file(mmap-not-appraised)"));
    finds("unknown-lint", 1, &with("# imactl: allow(hash-is-enuf)"));
    finds("unknown-lint", 1, &with("# imactl: allow hash-is-enough"));
    passes("unknown-lint", &with("# imactl is a program"));
}

#[test]
fn what_is_told_stands_in_the_order_of_the_text() {
    let text = "audit\nappraise euid=0 mask=MAY_READ\n";
    let told = check(text.as_bytes(), &Kernel::default(), Loading::File);
    let lines: Vec<_> =
        told.iter().map(|it| it.location.map_or(usize::MAX, |location| location.line)).collect();
    let mut sorted = lines.clone();
    sorted.sort();
    assert_eq!(lines, sorted);
    let mask = told.iter().find(|it| it.name == "exact-mask").unwrap().location.unwrap();
    assert_eq!((mask.line, mask.column), (2, 17));
    assert_eq!(mask.span.of(text.as_bytes()), b"mask=MAY_READ");
}

#[test]
fn any_policy_can_be_linted() {
    let words = [
        "measure",
        "dont_appraise",
        "appraise",
        "func=FILE_CHECK",
        "func=KEY_CHECK",
        "euid>4",
        "fowner<7",
        "fsmagic=0x9fa0",
        "fsname=fuse",
        "mask=^MAY_WRITE",
        "obj_type=x",
        "appraise_type=imasig",
        "pcr=10",
        "gid=4294967294",
        "uid=0",
    ];
    let mut seed = 7_usize;
    for _ in 0..150 {
        let mut text = String::new();
        for _ in 0..6 {
            for _ in 0..4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_041);
                text += words[(seed >> 33) % words.len()];
                text += " ";
            }
            text += "\n";
        }
        let reading = read(text.as_bytes(), &Kernel::default(), Loading::File);
        lint(text.as_bytes(), &reading.policy, &Kernel::default());
    }
}
