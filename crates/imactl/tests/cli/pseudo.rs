//! Under pseudo, OpenEmbedded's fakeroot, an ordinary user can set attributes that otherwise only root can
//! set, and read them back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::*;

/// Runs a shell script as `nobody` in pseudo, with its own state directory.
fn in_pseudo(directory: &Path, script: &str) -> Option<Command> {
    tool("pseudo")?;
    let mut setpriv = tool("setpriv")?;
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "pseudo"]);
    setpriv.args(["sh", "-euc", script]);
    setpriv.env("PSEUDO_LOCALSTATEDIR", directory.join("state")).env("PSEUDO_PREFIX", "/usr");
    setpriv.current_dir(directory);
    Some(setpriv)
}

#[test]
fn signs_and_verifies_without_root() {
    // not below the build directory, which other users may be unable to enter
    let directory = tempfile::tempdir().unwrap();
    if !security_attributes(directory.path()) {
        return;
    }
    let root = directory.path().join("root");
    let keys = store(directory.path(), "p-256");
    write_tree(&root, &[("bin/program", b"\x7fELF"), ("etc/hosts", b"localhost")]);
    fs::create_dir(directory.path().join("state")).unwrap();
    fs::copy(imactl().get_program(), directory.path().join("imactl")).unwrap();
    finish(Command::new("chown").args(["-R", "65534:65534"]).arg(directory.path())).exits(0);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let keys = keys.display();
    let script = format!(
        "chown 0:0 root/bin/program
         ./imactl sign --keys {keys} root
         ./imactl verify --keys {keys} root
         ./imactl preflight root --no-init --policy builtin:appraise_tcb --keys {keys}
         getfattr --absolute-names -m security.ima -d -e hex root/bin/program
         ./imactl sign --detached --keys {keys} root/etc
         ./imactl sign --detached --keys {keys} root/etc
         stat -c 'owner %u:%g %n' root/etc/hosts.sig
         ./imactl verify --detached --keys {keys} root/etc
         ls -A root/etc
         ./imactl clear root/etc
         ! ./imactl verify --keys {keys} root/etc"
    );
    let Some(mut command) = in_pseudo(directory.path(), &script) else { return };
    let done = finish(&mut command).exits(0);
    assert!(done.stdout.contains("2 files valid"), "{}", done.stdout);
    assert!(done.stdout.contains("security.ima=0x0302"), "{}", done.stdout);
    assert_eq!(security_ima(&root.join("bin/program")), None, "the real file has none");
    // pseudo records the files written there
    assert!(done.stdout.contains("owner 0:0 root/etc/hosts.sig"), "{}", done.stdout);
    assert!(!done.stdout.contains(".imactl-"), "{}", done.stdout);
}
