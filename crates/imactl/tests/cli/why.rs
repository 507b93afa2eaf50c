//! `imactl why`: files under a given policy, and lines of the audit log.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{directory, finish, run, security_attributes, set_security_ima, store};

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
    assert_eq!((&found["type"], &found["times"]), (&"denial".into(), &1.into()));
    assert_eq!((&found["name"], &found["command"]), (&"/opt/x".into(), &"sh".into()));
    let ran = run(["why", "--audit", "type=SYSCALL msg=audit(1.2:3): arch=c000003e"]).exits(2);
    assert!(ran.stderr.contains("no record of the integrity subsystem"), "{}", ran.stderr);
    let ran = run(["why", "--audit", "type=1800 audit(1.2:3): op=\"x"]).exits(2);
    assert!(ran.stderr.contains("at offset"), "{}", ran.stderr);
}

#[test]
fn a_log_is_summed_up_and_nothing_in_it_is_skipped() {
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
    assert!(ran.stdout.ends_with("3 records, 2 denials\n"), "{}", ran.stdout);
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
    assert!(unsigned.contains("execute  denied    IMA-signature-required, by: "), "{unsigned}");
    assert!(unsigned.contains("module   allowed   no rule matches"), "{unsigned}");
    run(args!["sign", "--keys", keys, file]).exits(0);
    assert!(why(0).contains("execute  allowed"));

    // the same signature with another ID, as with a key ID given by hand
    let mut value = crate::support::security_ima(&file).unwrap();
    value[3..7].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
    set_security_ima(&file, &value);
    let told = why(1);
    assert!(told.contains("the signature names key deadbeef"), "{told}");
    assert!(told.contains("but was made by key"), "{told}");

    set_security_ima(&file, &[3, 2, 4]);
    let told = why(1);
    assert!(told.contains("its attribute is malformed: truncated"), "{told}");
    // not executable now, so it is treated as a library, which no rule checks
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(why(0).contains("not executable: no x in its mode"));
    run(args!["why", "--policy", policy, directory.path()]).exits(2);
}

#[test]
fn a_cause_means_what_its_operation_does() {
    let line = "type=1802 audit(1.2:3): pid=1 uid=0 auid=0 ses=0 op=policy_update cause=failed \
        comm=\"init\" res=0 errno=0";
    let told = run(["why", "--audit", line]).exits(1).stdout;
    assert!(told.contains("a policy was rejected"), "{told}");
    let line = line.replace("policy_update", "collect_data");
    let told = run(["why", "--audit", &line]).exits(1).stdout;
    assert!(told.contains("digest could not be computed"), "{told}");
}

#[test]
fn a_refused_rule_is_told_with_the_reason() {
    let line = "audit: type=1807 audit(1.2:3): action=appraise func=NONSENSE res=0";
    let told = run(["why", "--audit", line]).exits(1).stdout;
    assert!(told.starts_with("appraise func=NONSENSE: invalid-policy"), "{told}");
    assert!(told.contains("unknown func \"NONSENSE\""), "{told}");
    let line = "type=1807 audit(1.2:3): action=measure uid>1000 UNKNOWN=nonsense res=0";
    let told = run(["why", "--audit", line]).exits(1).stdout;
    assert!(told.starts_with("measure uid>1000 nonsense: "), "{told}");
    assert!(told.contains("\"nonsense\""), "{told}");
    let taken = "type=1807 audit(1.2:3): action=measure func=BPRM_CHECK res=1";
    run(["why", "--audit", taken]).exits(0);
}

#[test]
fn names_write_no_line_of_their_own_and_nothing_to_the_terminal() {
    // "/x\x1b[2J\nerror: forged"
    let line =
        "type=1800 audit(1.2:3): pid=1 uid=0 op=appraise_data cause=invalid-hash comm=610A62 \
        name=2F781B5B324A0A6572726F723A20666F72676564 res=0 errno=0";
    for arguments in [&["why", "--audit"][..], &["why", "--color", "always", "--audit"]] {
        let told = run(arguments.iter().copied().chain([line])).exits(1).stdout;
        assert!(told.contains("/x\\x1b[2J\\x0aerror: forged"), "{told}");
        assert_eq!(told.lines().count(), 3, "{told}");
        assert!(!told.contains("\x1b[2J"), "{told:?}");
    }
}

#[test]
fn logs_are_read_in_the_forms_that_people_have() {
    let directory = directory();
    let log = directory.path().join("log");
    let interpreted = "type=INTEGRITY_DATA msg=audit(10/23/2023 10:00:00.123:45) : pid=7 uid=root \
        auid=unset ses=unset op=appraise_data cause=IMA-signature-required comm=my shell \
        name=/opt/a b dev=vda ino=38 res=no errno=0";
    let journal = format!("Nov 23 10:00:00 host audit[7]: <audit-1800> {RECORD}");
    let auditd = format!("type=UNKNOWN[1800] msg=audit(1.2:3): {RECORD}");
    fs::write(&log, format!("{interpreted}\n{journal}\n{auditd}\n")).unwrap();
    let told = run(args!["why", "--audit-log", log]).exits(1).stdout;
    assert!(told.contains("/opt/a b: IMA-signature-required"), "{told}");
    assert!(told.contains("asked for by \"my shell\" of user root, on vda"), "{told}");
    assert!(told.ends_with("3 records, 3 denials\n"), "{told}");

    // lines that look like a record without being one are reported
    for line in ["type=1899 audit(1.2:3): a=b", RECORD, "audit[7]: INTEGRITY_NEW op=a res=0"] {
        fs::write(&log, format!("x\n{line}\n")).unwrap();
        let ran = run(args!["why", "--audit-log", log]).exits(2);
        assert!(ran.stderr.contains("log:2: malformed record"), "{line}: {}", ran.stderr);
    }
}

#[test]
fn a_key_that_the_kernel_missed_is_named() {
    let directory = directory();
    let log = directory.path().join("log");
    let line = "[ 1.2] integrity: Request for unknown key 'id:8d0c3afe' in '.ima' keyring. err -11";
    fs::write(&log, format!("{line}\n{line}\n")).unwrap();
    let told = run(args!["why", "--audit-log", log]).exits(1).stdout;
    assert!(told.starts_with("key 8d0c3afe: not found, 2 times"), "{told}");
    assert!(told.ends_with("0 records, 0 denials, 1 missing key\n"), "{told}");

    let keys = store(directory.path(), "p-256");
    let shown = run(args!["keys", "show", "--json", keys]).exits(0).json();
    let found = shown.iter().find(|it| it["path"].to_string().contains("x509_ima"));
    let key_id = found.unwrap()["key_id"].as_str().unwrap().to_owned();
    let line = line.replace("8d0c3afe", &key_id);
    let found = &run(args!["why", "--json", "--keys", keys, "--audit", line]).exits(1).json()[0];
    assert_eq!((&found["type"], &found["key_id"]), (&"missing-key".into(), &key_id.into()));
    assert!(found["certificate"].is_string(), "{found}");
}

#[test]
fn a_line_without_an_end_takes_no_memory() {
    let directory = directory();
    let log = directory.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    // sparse: only its size is large
    file.set_len(1 << 30).unwrap();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -v 600000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_imactl")]);
    let ran = finish(limited.args(args!["why", "--audit-log", log])).exits(2);
    assert!(
        ran.stderr.contains("log:1: malformed record: longer than 65536 bytes"),
        "{}",
        ran.stderr
    );
}

#[test]
fn denials_that_people_paste_are_counted() {
    let directory = directory();
    let log = directory.path().join("log");
    // auditd's separator, as mail programs show it
    let pasted = format!("{}^]UID=\"root\" AUID=\"root\"", RECORD.replace(" errno=0", ""));
    let interpreter = format!("type=1808 audit(1.2:3): {RECORD}");
    fs::write(&log, format!("type=1800 audit(1.2:3): {pasted}\n{interpreter}\n")).unwrap();
    let told = run(args!["why", "--audit-log", log]).exits(1).stdout;
    assert!(told.ends_with("2 records, 2 denials\n"), "{told}");
    fs::write(&log, "type=1800 audit(1.2:3): op=x cause=y res=9\n").unwrap();
    let ran = run(args!["why", "--audit-log", log]).exits(2);
    assert!(ran.stderr.contains("res= is neither"), "{}", ran.stderr);

    let message = "integrity: Problem loading X.509 certificate -126";
    fs::write(
        &log,
        format!(
            "sonic ERR kernel: [   76.2] ima: impossible to appraise a kernel image without a file \
             descriptor; try using kexec_file_load syscall.\n[    1.8] {message}\n{message}\n"
        ),
    )
    .unwrap();
    let told = run(args!["why", "--audit-log", log]).exits(1).stdout;
    assert!(told.contains("kexec -s"), "{told}");
    assert!(told.contains("certificate -126, 2 times\n  why   no key"), "{told}");
    assert!(told.ends_with("0 records, 0 denials, 2 kernel messages\n"), "{told}");
    let found = &run(args!["why", "--json", "--audit", message]).exits(1).json()[0];
    assert_eq!((&found["type"], &found["message"]), (&"message".into(), &message[11..].into()));
}
