//! `imactl policy`: what it says and how it exits.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{directory, run};

/// A policy in a file of its own.
fn policy(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

const SIGNED: &str = "appraise func=BPRM_CHECK appraise_type=imasig\n";

#[test]
fn check_shows_the_line_and_what_is_meant() {
    let directory = directory();
    let text = "# mine\nappraise\tfucn=BPRM_CHECK appraise_type=imasig\n";
    let file = policy(directory.path(), "policy", text);
    let ran = run(args!["policy", "check", file]).exits(1);
    let expected = [
        "error[unknown-word]: unknown word \"fucn=BPRM_CHECK\"".to_owned(),
        format!(" --> {}:2:10", file.display()),
        "  |".to_owned(),
        "2 | appraise    fucn=BPRM_CHECK appraise_type=imasig".to_owned(),
        "  |             ^^^^^^^^^^^^^^^".to_owned(),
        "  = hint: did you mean func=BPRM_CHECK?".to_owned(),
        String::new(),
        format!(
            "{}: refused by Linux 6.12, 1 error: it gives up at line 2 and takes no rule of the \
             file",
            file.display()
        ),
    ];
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn check_tells_programs_what_it_tells_people() {
    let directory = directory();
    let file = policy(directory.path(), "policy", "measure\nappraise fowner=root\n");
    let lines = run(args!["policy", "check", "--json", file]).exits(1).json();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let finding = &lines[0];
    assert_eq!(finding["severity"], "error");
    assert_eq!(finding["error"], "not-a-number");
    assert!(finding.get("lint").is_none());
    assert_eq!((&finding["line"], &finding["column"]), (&2.into(), &17.into()));
    assert_eq!(finding["path"], file.to_str().unwrap());
    assert!(finding["hint"].as_str().unwrap().contains("decimal"));
    assert_eq!(lines[1]["accepted"], false);
    assert_eq!(lines[1]["errors"], 1);

    let file = policy(directory.path(), "lint", "appraise func=BPRM_CHECK\n");
    let lines = run(args!["policy", "check", "--json", file]).exits(0).json();
    assert_eq!(lines[0]["lint"], "hash-is-enough");
    assert!(lines[0].get("error").is_none());
    assert_eq!(lines.last().unwrap()["accepted"], true);
}

#[test]
fn warnings_fail_where_they_are_denied() {
    let directory = directory();
    let file = policy(directory.path(), "policy", SIGNED);
    run(args!["policy", "check", file]).exits(0);
    run(args!["policy", "check", "--deny-warnings", file]).exits(1);
    run(args!["policy", "check", "--deny-warnings", "default:appraise"]).exits(0);
}

#[test]
fn comments_switch_lints_off() {
    let directory = directory();
    let text = "# imactl: allow(hash-is-enough)\nappraise func=BPRM_CHECK\n";
    let file = policy(directory.path(), "policy", text);
    let ran = run(args!["policy", "check", file]).exits(0);
    assert!(!ran.stdout.contains("hash-is-enough"), "{}", ran.stdout);
    let file = policy(directory.path(), "unknown", &text.replace("is-enough", "suffices"));
    let ran = run(args!["policy", "check", file]).exits(0);
    assert!(ran.stdout.contains("[hash-is-enough]") && ran.stdout.contains("[unknown-lint]"));
}

#[test]
fn check_goes_by_the_kernels_version() {
    let directory = directory();
    let file = policy(directory.path(), "policy", "measure fgroup=5\n");
    run(args!["policy", "check", "--kernel", "6.1.99-yocto-standard", file]).exits(0);
    let ran = run(args!["policy", "check", "--kernel", "5.15", file]).exits(1);
    assert!(ran.stdout.contains("needs Linux 5.16"), "{}", ran.stdout);
    let ran = run(args!["policy", "check", "--kernel", "4.19", file]).exits(2);
    assert!(ran.stderr.contains("before 5.10"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_read_is_told_and_the_others_are_checked() {
    let directory = directory();
    let bad = policy(directory.path(), "bad", "measure x\n");
    let missing = directory.path().join("missing");
    let ran = run(args!["policy", "check", missing, bad]).exits(2);
    assert!(ran.stderr.contains("missing: No such file"), "{}", ran.stderr);
    assert!(ran.stdout.contains("error[unknown-word]"), "{}", ran.stdout);
    run(args!["policy", "check", "builtin:no-such"]).exits(2);
}
