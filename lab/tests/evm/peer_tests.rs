//! The tests of ima-evm-utils that need a kernel, unmodified, with imactl as evmctl and with evmctl itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use lab::host;
use lab::image::{Image, Tree};
use lab::kernel::{Kernel, Series};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Guest;
use lab::on_each_kernel;
use lab::scenario::Enforced;

/// Rules that no test takes for one of its own.
const POLICY: &str = "dont_measure fsmagic=0x9fa0\ndont_appraise fsmagic=0x9fa0\n";
/// fsverity.test makes an image of 600 MB.
const ROOT_SIZE: u64 = 2 << 30;
const KEY: &str = "/opt/signing_key.pem";
const EVMCTL: &str = "/opt/src/evmctl";
/// The attributes that EVM covers; names can be added (`CONFIG_EVM_ADD_XATTRS`).
const PROTECTED: &str = "/sys/kernel/security/integrity/evm/evm_xattrs";
/// What the tests run that Debian's minbase does not have.
const PROGRAMS: &[(&str, &str)] = &[
    ("/usr/bin/fsverity", "fsverity"),
    ("/usr/bin/gawk", "gawk"),
    ("/usr/bin/getfattr", "attr"),
    ("/usr/bin/keyctl", "keyutils"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/setfacl", "acl"),
    ("/usr/bin/setfattr", "attr"),
    ("/usr/bin/xxd", "xxd"),
    ("/usr/sbin/capsh", "libcap2-bin"),
];
/// The program that the tests run as evmctl.
#[derive(Debug, Clone, Copy)]
enum Evmctl<'a> {
    Imactl,
    /// evmctl of ima-evm-utils, in the directory in which it was built.
    Peers(&'a Path),
}

/// The results of a test: how many of its cases passed, were skipped, and failed.
type Counts = [u64; 3];

/// A guest's tests in the order in which they run: the name, the value of `TST_LIST`, and the results of imactl.
type Row = (&'static str, &'static str, Counts);

/// The tests of each guest, and what imactl passes. Skipped are the cases for EVM in the other mode, which the second
/// guest runs, and SELinux, which the kernel does not have.
const GUESTS: [&[Row]; 3] = [
    &[
        ("mmap_check.test", "", [10, 0, 0]),
        ("fsverity.test", "", [6, 0, 0]),
        // enables EVM and locks its bits
        ("portable_signatures.test", "", [9, 1, 0]),
    ],
    &[("portable_signatures.test", "check_evm_revalidate", [1, 9, 0])],
    // with Smack
    &[("evm_hmac.test", "", [2, 1, 0])],
];

/// The results on a kernel. Linux 6.1 has no `MMAP_CHECK_REQPROT` in policies, and its Smack gives new directories no
/// `SMACK64TRANSMUTE`: evmctl fails there, too.
fn wanted(kernel: &Kernel, (name, _, counts): Row) -> Counts {
    match (kernel.series(), name) {
        (Series::Linux6_1, "mmap_check.test") => [5, 0, 5],
        (Series::Linux6_1, "evm_hmac.test") => [1, 1, 1],
        _ => counts,
    }
}

/// A Debian root with the tests, a key that the kernel accepts, and evmctl in the directory in which they look
/// for it.
fn root(peer: &Path, store: &KeyStore, evmctl: Evmctl<'_>) -> Result<Image> {
    let root = Tree::debian()?;
    root.remove("/usr/sbin/init")?;
    root.install_agent("/usr/sbin/init")?;
    for (program, package) in PROGRAMS {
        root.install(program, package)?;
    }
    let mut copy = host::command("cp", "coreutils")?;
    host::run(copy.arg("-r").arg(peer.join("tests")).arg(root.path("/opt/tests")))?;
    let mut compiler = host::command("gcc", "gcc")?;
    compiler.arg("-o").arg(root.path("/opt/tests/test_mmap")).arg(peer.join("tests/test_mmap.c"));
    host::run(&mut compiler)?;
    match evmctl {
        Evmctl::Imactl => {
            root.install_imactl()?;
            root.symlink(EVMCTL, "/usr/bin/imactl")?;
        }
        Evmctl::Peers(built) => root.install_built(&built.join("evmctl"), built, EVMCTL)?,
    }
    let part = |name: &str| std::fs::read(store.directory().join("ima_keys").join(name));
    root.write(KEY, [part("x509_ima.key")?, part("x509_ima.crt")?].concat(), 0o600)?;
    root.ext4(ROOT_SIZE)
}

fn boot(kernel: &Kernel, store: &KeyStore, root: Image, words: &str) -> Result<Guest> {
    let mut enforced = Enforced::with_root(kernel, store, ("ext4", root), POLICY)?;
    // mount of util-linux 2.38 keeps a loop device open for writing; since 6.8 this is allowed only with this word
    // or CONFIG_BLK_DEV_WRITE_MOUNTED
    enforced.machine = enforced.machine.append("bdev_allow_write_mounted=1");
    enforced.machine =
        enforced.machine.memory(1024).patience(Duration::from_secs(900)).append(words);
    enforced.boot()
}

/// Runs a test.
fn test(guest: &mut Guest, name: &str, list: &str) -> Result<Counts> {
    let variables = [("TST_EVM_CHANGE_MODE", "1"), ("TST_KEY_PATH", KEY), ("TST_LIST", list)];
    let path = format!("/opt/tests/{name}");
    let observed = guest.execute_with(&variables, &[&path])?;
    let text = observed.text();
    let summary = text.lines().find_map(|line| line.find("PASS: ").map(|start| &line[start..]));
    let summary = summary.with_context(|| format!("{observed}"))?;
    let mut numbers = summary.split_whitespace().filter_map(|word| word.parse().ok());
    let mut next = || numbers.next().context(summary.to_owned());
    let counts = [next()?, next()?, next()?];
    if counts[0] == 0 || counts[2] > 0 {
        host::say(&text);
    }
    Ok(counts)
}

/// Prepares a guest with Smack: EVM covers one more of its attributes, and the key is there with which evm-key is
/// encrypted.
fn with_smack(guest: &mut Guest) -> Result<()> {
    guest.mount("smackfs", "smackfs", "/sys/fs/smackfs")?.is_allowed();
    // its audit record has res=0 for success
    let name = "security.SMACK64TRANSMUTE";
    let add = format!("echo {name} > {PROTECTED} && grep -x {name} {PROTECTED}");
    guest.execute(&["/bin/sh", "-c", &add])?.exits(0);
    let key = "0123456789abcdef0123456789abcdef";
    guest.execute(&["/usr/bin/keyctl", "add", "user", "kmk", key, "@u"])?.exits(0);
    Ok(())
}

/// All tests on a kernel.
fn results(kernel: &Kernel, peer: &Path, evmctl: Evmctl<'_>) -> Result<Vec<Counts>> {
    let store = KeyStore::create(Algorithm::Rsa2048)?;
    let mut results = Vec::new();
    for (number, rows) in GUESTS.into_iter().enumerate() {
        let words = if number == 2 { "lsm=smack,integrity" } else { "" };
        let mut guest = boot(kernel, &store, root(peer, &store, evmctl)?, words)?;
        if number == 2 {
            with_smack(&mut guest)?;
        }
        for (name, list, _) in rows {
            let counts = test(&mut guest, name, list)?;
            host::say(&format!("{}: {evmctl:?}: {name} {list}: {counts:?}", kernel.version()));
            results.push(counts);
        }
    }
    Ok(results)
}

on_each_kernel! {
    /// `IMA_EVM_UTILS_DIR` names the sources of ima-evm-utils 1.6.2. If they are built there with `--enable-debug`,
    /// the same tests are run with its evmctl: imactl must pass what that passes.
    fn the_peers_tests_pass(kernel) {
        let Some(peer) = std::env::var_os("IMA_EVM_UTILS_DIR").map(PathBuf::from) else {
            host::say("SKIPPED: IMA_EVM_UTILS_DIR does not name the sources of ima-evm-utils");
            return Ok(());
        };
        let ours = results(kernel, &peer, Evmctl::Imactl)?;
        let rows = GUESTS.concat();
        let wanted: Vec<_> = rows.iter().map(|row| wanted(kernel, *row)).collect();
        assert_eq!(ours, wanted);
        let built = peer.join("src/.libs");
        if !built.join("evmctl").exists() {
            host::say("SKIPPED: the comparison with evmctl, which is not built there");
            return Ok(());
        }
        let theirs = results(kernel, &peer, Evmctl::Peers(&built))?;
        for ((name, list, _), (ours, theirs)) in rows.iter().zip(ours.iter().zip(&theirs)) {
            assert!(ours[0] >= theirs[0] && ours[2] <= theirs[2], "{name} {list}: {theirs:?}");
        }
        Ok(())
    }
}
