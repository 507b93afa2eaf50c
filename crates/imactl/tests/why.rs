//! `imactl why`: files under a policy that is given, and lines of the audit log.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::{directory, run, security_attributes, set_security_ima, store};

const RECORD: &str = "pid=7 uid=0 auid=4294967295 ses=4294967295 subj=unconfined \
    op=appraise_data cause=IMA-signature-required comm=\"sh\" name=\"/opt/x\" dev=\"vda\" \
    ino=38 res=0 errno=0";

#[test]
fn a_line_of_the_log_is_explained() {
    let line = format!("type=INTEGRITY_DATA msg=audit(1700000000.1:2): {RECORD}");
    let ran = run(["why", "--audit", &line]).exits(1);
    assert!(ran.stdout.starts_with("/opt/x: IMA-signature-required"), "{}", ran.stdout);
    assert!(ran.stdout.contains("imactl sign --keys DIR"), "{}", ran.stdout);
    let found = &run(["why", "--json", "--audit", &line]).exits(1).json()[0];
    assert_eq!((&found["type"], &found["times"]), (&"refusal".into(), &1.into()));
    assert_eq!((&found["name"], &found["command"]), (&"/opt/x".into(), &"sh".into()));
    let ran = run(["why", "--audit", "type=SYSCALL msg=audit(1.2:3): arch=c000003e"]).exits(2);
    assert!(ran.stderr.contains("no record of the integrity subsystem"), "{}", ran.stderr);
    let ran = run(["why", "--audit", "type=1800 audit(1.2:3): op=\"x"]).exits(2);
    assert!(ran.stderr.contains("at offset"), "{}", ran.stderr);
}

#[test]
fn a_log_is_summed_up_and_nothing_in_it_is_passed_over() {
    let directory = directory();
    let log = directory.path().join("audit.log");
    let loaded = "type=1802 audit(1.2:3): pid=1 uid=0 auid=0 ses=0 op=policy_update \
        cause=completed comm=\"init\" res=1 errno=0";
    let text = format!(
        "type=1800 audit(1.2:3): {RECORD}\n{loaded}\nsomething else\n\
         Nov 23 10:00:00 host audit[7]: INTEGRITY_DATA {RECORD}\n"
    );
    fs::write(&log, &text).unwrap();
    let ran = run(args!["why", "--audit-log", log]).exits(1);
    assert!(ran.stdout.contains(", 2 times\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("3 records, 2 refusals\n"), "{}", ran.stdout);
    fs::write(&log, format!("{loaded}\n")).unwrap();
    run(args!["why", "--audit-log", log]).exits(0);
    fs::write(&log, format!("{text}type=1800 audit(1.2:3): op=\"x\n")).unwrap();
    let ran = run(args!["why", "--audit-log", log]).exits(2);
    assert!(ran.stderr.contains("audit.log:5: malformed record"), "{}", ran.stderr);
}

#[test]
fn the_certificate_that_was_meant_is_found() {
    let directory = directory();
    if !security_attributes(directory.path()) {
        return;
    }
    let keys = store(directory.path(), "p-256");
    let file = directory.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &file).unwrap();
    let policy = directory.path().join("policy");
    fs::write(&policy, "appraise func=BPRM_CHECK appraise_type=imasig\n").unwrap();
    let why =
        |code: i32| run(args!["why", "--policy", policy, "--keys", keys, file]).exits(code).stdout;
    let unsigned = why(1);
    assert!(unsigned.contains("execute  refused   IMA-signature-required, by: "), "{unsigned}");
    assert!(unsigned.contains("module   allowed   no rule looks at it"), "{unsigned}");
    run(args!["sign", "--keys", keys, file]).exits(0);
    assert!(why(0).contains("execute  allowed"));

    // the same signature under another id, as with a key id given by hand
    let mut value = support::security_ima(&file).unwrap();
    value[3..7].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
    set_security_ima(&file, &value);
    let told = why(1);
    assert!(told.contains("the signature names key deadbeef"), "{told}");
    assert!(told.contains(") made it"), "{told}");

    set_security_ima(&file, &[3, 2, 4]);
    let told = why(1);
    assert!(told.contains("its attribute is malformed: truncated"), "{told}");
    // nobody executes it now, so that it is taken for a library, which no rule looks at
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(why(0).contains("nobody may execute it"));
    run(args!["why", "--policy", policy, directory.path()]).exits(2);
}
