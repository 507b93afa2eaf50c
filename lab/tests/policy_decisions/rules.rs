//! Small policies for groups of files.

use std::collections::BTreeSet;

use ima_format::policy::{read, Kernel, Loading};
use lab::random::Random;

use super::files::{Files, System, USERS};
use super::Case;

/// All rules of all groups, as one policy. The rules of different groups are interleaved: only their order
/// within a group matters.
pub(crate) fn policy(
    cases: &[Case],
    files: &Files,
    kernel: &Kernel,
    random: &mut Random,
) -> String {
    let mut text = String::new();
    let groups: BTreeSet<u32> = cases.iter().map(|case| case.file.group()).collect();
    for group in groups {
        if let Some(case) = cases.iter().find(|case| case.file.group() == group) {
            if let Some(rules) = case.file.rules {
                rules.iter().for_each(|rule| text += &format!("{rule} fgroup={group}\n"));
                continue;
            }
        }
        for _ in 0..*random.weighted(&[(10, 1), (30, 2), (30, 3), (20, 4), (10, 6)]) {
            text += &loop {
                let rule = format!("{} fgroup={group}\n", rule(files, random));
                if read(rule.as_bytes(), kernel, Loading::File).refusals.is_empty() {
                    break rule;
                }
            };
        }
    }
    text
}

const ACTIONS: &[(u64, &str)] = &[
    (60, "appraise"),
    (9, "dont_appraise"),
    (16, "measure"),
    (6, "dont_measure"),
    (12, "audit"),
    (9, "hash"),
    (3, "dont_hash"),
];

const FUNCS: &[(u64, &str)] = &[
    (16, ""),
    (22, "FILE_CHECK"),
    (20, "BPRM_CHECK"),
    (20, "MMAP_CHECK"),
    (8, "CREDS_CHECK"),
    (6, "MODULE_CHECK"),
    (6, "FIRMWARE_CHECK"),
    (6, "POLICY_CHECK"),
    (5, "MMAP_CHECK_REQPROT"),
];

const MASKS: &[&str] = &[
    "MAY_EXEC",
    "MAY_READ",
    "MAY_WRITE",
    "MAY_APPEND",
    "^MAY_EXEC",
    "^MAY_READ",
    "^MAY_WRITE",
    "^MAY_APPEND",
];

fn rule(files: &Files, random: &mut Random) -> String {
    let action = *random.weighted(ACTIONS);
    let mut words = vec![action.to_owned()];
    let func = *random.weighted(FUNCS);
    if !func.is_empty() {
        words.push(format!("func={func}"));
    }
    if random.chance(14) {
        words.push(format!("mask={}", random.pick(MASKS)));
    }
    if random.chance(6) {
        words.push(format!("fsmagic={:#x}", random.pick(&System::ALL).magic()));
    }
    if random.chance(5) {
        words.push(format!("fsname={}", random.pick(&System::ALL).name()));
    }
    if random.chance(4) {
        let other = "8bcbe394-4f13-4144-be8e-5aa9ea2ce2f6".to_owned();
        let uuid = if random.chance(60) { files.uuid.to_string() } else { other };
        words.push(format!("fsuuid={uuid}"));
    }
    for (key, percent) in [("uid", 8), ("euid", 12), ("gid", 4), ("egid", 5), ("fowner", 10)] {
        let taken = |key: &str| words.iter().any(|word| word.starts_with(key));
        let clashes = match key {
            "euid" => taken("uid"),
            "egid" => taken("gid"),
            _ => false,
        };
        if !clashes && random.chance(percent) {
            let comparison = random.weighted(&[(6, '='), (2, '<'), (2, '>')]);
            words.push(format!("{key}{comparison}{}", random.pick(&USERS)));
        }
    }
    words.extend(options(action, func, random));
    words.join(" ")
}

fn options(action: &str, func: &str, random: &mut Random) -> Vec<String> {
    let mut words = Vec::new();
    match action {
        "appraise" => {
            match random.below(100) {
                0..=54 => words.push("appraise_type=imasig".to_owned()),
                55..=57 => words.push("digest_type=verity appraise_type=sigv3".to_owned()),
                58..=64 if func == "MODULE_CHECK" => {
                    words.push("appraise_type=imasig|modsig".to_owned());
                }
                _ => {}
            }
            if random.chance(10) {
                let sets = ["sha256", "sha512", "sha256,sha512", "sha1,sha384"];
                words.push(format!("appraise_algos={}", random.pick(&sets)));
            }
        }
        "measure" => {
            if random.chance(20) {
                words.push(format!("pcr={}", random.pick(&[8, 11, 12])));
            }
            if random.chance(12) {
                let templates = ["ima-ng", "ima", "ima-ngv2", "evm-sig"];
                words.push(format!("template={}", random.pick(&templates)));
            }
            if random.chance(2) {
                words.push("digest_type=verity".to_owned());
            }
        }
        _ => {}
    }
    if random.chance(5) {
        words.push("permit_directio".to_owned());
    }
    words
}
