//! The tests of ima-evm-utils that need a kernel, unmodified, with imactl as evmctl.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use lab::host;
use lab::image::{Image, Tree};
use lab::kernel::{Kernel, Series};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Guest;
use lab::scenario::{run, Enforced};

/// Rules that no test takes for one of its own.
const POLICY: &str = "dont_measure fsmagic=0x9fa0\ndont_appraise fsmagic=0x9fa0\n";
const ROOT_SIZE: u64 = 512 << 20;
const KEY: &str = "/opt/signing_key.pem";
/// What the tests run that Debian's minbase does not have.
const PROGRAMS: &[(&str, &str)] = &[
    ("/usr/bin/gawk", "gawk"),
    ("/usr/bin/getfattr", "attr"),
    ("/usr/bin/keyctl", "keyutils"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/setfacl", "acl"),
    ("/usr/bin/setfattr", "attr"),
    ("/usr/bin/xxd", "xxd"),
    ("/usr/sbin/capsh", "libcap2-bin"),
];

/// A Debian root with the tests, a key that the kernel accepts, and evmctl in the directory in which they look
/// for it.
fn root(peer: &Path, store: &KeyStore) -> Result<Image> {
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
    root.install_imactl()?;
    root.symlink("/opt/src/evmctl", "/usr/bin/imactl")?;
    let part = |name: &str| std::fs::read(store.directory().join("ima_keys").join(name));
    root.write(KEY, [part("x509_ima.key")?, part("x509_ima.crt")?].concat(), 0o600)?;
    root.ext4(ROOT_SIZE)
}

fn boot(kernel: &Kernel, store: &KeyStore, root: Image, words: &str) -> Result<Guest> {
    let mut enforced = Enforced::with_root(kernel, store, ("ext4", root), POLICY)?;
    enforced.machine =
        enforced.machine.memory(1024).patience(Duration::from_secs(900)).append(words);
    enforced.boot()
}

/// Runs a test and returns how many of its cases passed, were skipped, and failed.
fn test(guest: &mut Guest, name: &str, list: &str) -> Result<[u64; 3]> {
    let variables = [("TST_EVM_CHANGE_MODE", "1"), ("TST_KEY_PATH", KEY), ("TST_LIST", list)];
    let path = format!("/opt/tests/{name}");
    let observed = guest.execute_with(&variables, &[&path])?;
    let text = observed.text();
    let summary = text.lines().find(|line| line.starts_with("PASS: "));
    let summary = summary.with_context(|| format!("{observed}"))?;
    host::say(&format!("{name} {list}: {summary}"));
    let mut numbers = summary.split_whitespace().filter_map(|word| word.parse().ok());
    let mut next = || numbers.next().context(summary.to_owned());
    let counts = [next()?, next()?, next()?];
    if counts[0] == 0 || counts[2] > 0 {
        host::say(&text);
    }
    Ok(counts)
}

/// `IMA_EVM_UTILS_DIR` names the sources of ima-evm-utils 1.6.2.
#[test]
fn the_peers_tests_pass_on_a_kernel() {
    let Some(peer) = std::env::var_os("IMA_EVM_UTILS_DIR").map(PathBuf::from) else {
        host::say("SKIPPED: IMA_EVM_UTILS_DIR does not name the sources of ima-evm-utils");
        return;
    };
    run(Series::Linux6_12, |kernel| {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let mut guest = boot(kernel, &store, root(&peer, &store)?, "")?;
        let mut results = Vec::new();
        // in this order: the last one enables EVM and locks its bits
        for name in ["mmap_check.test", "portable_signatures.test"] {
            results.push(test(&mut guest, name, "")?);
        }
        let mut guest = boot(kernel, &store, root(&peer, &store)?, "")?;
        results.push(test(&mut guest, "portable_signatures.test", "check_evm_revalidate")?);
        let mut guest = boot(kernel, &store, root(&peer, &store)?, "lsm=smack,integrity")?;
        let key = "0123456789abcdef0123456789abcdef";
        guest.execute(&["/usr/bin/keyctl", "add", "user", "kmk", key, "@u"])?.exits(0);
        results.push(test(&mut guest, "evm_hmac.test", "")?);
        // skipped: cases for EVM in the other mode, and SELinux; evm_hmac.test then ends, as Smack's further
        // attributes are not among those that EVM protects
        assert_eq!(results, [[10, 0, 0], [9, 1, 0], [1, 9, 0], [1, 1, 0]]);
        Ok(())
    });
}
