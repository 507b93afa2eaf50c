//! `imactl status` as root and as another user.

use std::process::Command;

use crate::support::{finish, imactl, missing, Run};

/// Runs the program as a user without privileges; `None` if that is impossible here. The program is passed as
/// an open file, because that user may be unable to enter the build directory.
fn as_nobody(arguments: &[&str]) -> Option<Run> {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("imactl");
    std::fs::copy(imactl().get_program(), &program).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command.arg(&program).args(arguments);
    let ran = match command.output() {
        Ok(_) => finish(&mut command),
        Err(error) => {
            missing(&format!("setpriv (util-linux): {error}"));
            return None;
        }
    };
    if ran.stderr.contains("setpriv:") {
        missing(&format!("another user (root?): {}", ran.stderr));
        return None;
    }
    Some(ran)
}

#[test]
fn keyrings_that_are_not_seen_are_named() {
    let Some(ran) = as_nobody(&["status"]) else { return };
    for name in [".ima", ".builtin_trusted_keys", ".secondary_trusted_keys", ".ima_blacklist"] {
        let line = format!("keyring        {name} hidden: not seen without root\n");
        assert!(ran.stdout.contains(&line), "{name}: {}", ran.stdout);
    }
    let ran = as_nobody(&["status", "--json"]).unwrap();
    let status = &ran.json()[0];
    let keyrings = status["keyrings"].as_array().unwrap();
    assert!(keyrings.iter().all(|it| it["state"] == "hidden" && it["keys"].is_null()), "{status}");
    // only root can read EVM's state; without securityfs no one can
    if status["ima"] == "unknown" {
        assert_eq!(status["evm_state"], "unknown", "{status}");
    }
}

#[test]
fn every_keyring_has_its_line() {
    let ran = finish(imactl().args(["status", "--json"]));
    let status = &ran.json()[0];
    let keyrings = status["keyrings"].as_array().unwrap();
    assert_eq!(keyrings.len(), 8, "{status}");
    for keyring in keyrings {
        let shown = keyring["state"] == "shown";
        assert_eq!(shown, keyring["keys"].is_array(), "{keyring}");
    }
}

#[test]
fn what_hangs_on_unseen_keys_is_not_called_allowed() {
    let directory = tempfile::tempdir().unwrap();
    if !crate::support::security_attributes(directory.path()) {
        return;
    }
    let open = || std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open()).unwrap();
    let keys = crate::support::store(directory.path(), "p-256");
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (program, certificate, policy) = (path("it's a $program"), path("cert"), path("policy"));
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::copy(keys.join("ima_keys/x509_ima.der"), &certificate).unwrap();
    std::fs::write(&policy, "appraise func=BPRM_CHECK appraise_type=imasig\n").unwrap();
    let readable = || std::os::unix::fs::PermissionsExt::from_mode(0o644);
    for file in [&certificate, &policy] {
        std::fs::set_permissions(file, readable()).unwrap();
    }
    crate::support::run(["sign".as_ref(), "--keys".as_ref(), keys.as_os_str(), program.as_ref()])
        .exits(0);
    let why = ["why", "--policy", &policy, "--cert", &certificate, &program];
    let Some(ran) = as_nobody(&why) else { return };
    let ran = ran.exits(2);
    assert!(ran.stdout.contains("execute  unknown   the keys in .ima"), "{}", ran.stdout);

    // the fix is a shell command
    crate::support::set_security_ima(program.as_ref(), &[3, 2, 4]);
    let ran = as_nobody(&why).unwrap().exits(1);
    let quoted = program.replace('\'', r"'\''");
    assert!(ran.stdout.contains(&format!("imactl sign --keys DIR '{quoted}'\n")), "{}", ran.stdout);
}
