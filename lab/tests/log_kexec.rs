//! The list across kexec: the entry of a module with an appended signature is handed over with all others, entries that
//! a kernel loses are noticed, and `imactl log keep` continues where it was.

use anyhow::Result;
use lab::image::Tree;
use lab::kernel::{Kernel, Series};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Guest, Tpm};
use lab::protocol::Action;
use lab::scenario::{enforce, run, Enforced};
use serde_json::Value;

use crate::measurement::{SECURITYFS, TPM};
use crate::modules_and_firmware::{add_module, load};

const IMACTL: &str = "/usr/bin/imactl";
/// Nothing else is measured, so that it is known which entries there are.
const POLICY: &str = "\
measure func=BPRM_CHECK
measure func=MODULE_CHECK template=ima-modsig
appraise func=MODULE_CHECK appraise_type=imasig|modsig
measure func=CRITICAL_DATA
measure func=FILE_CHECK mask=MAY_READ fowner=1234
";
const OWNER: u32 = 1234;
/// The mount point of a disk for the segments.
const STATE: &str = "/var/keep";

/// Moves entries all the time.
const KEEP: &str = "\
#!/bin/sh
while :; do
  /usr/bin/imactl --quiet log keep --once /var/keep
done >/dev/null 2>&1 &
";

fn boot(kernel: &Kernel, module: bool) -> Result<Guest> {
    let store = KeyStore::create(Algorithm::Rsa2048)?;
    let root = Tree::small_root()?;
    root.install_imactl()?;
    root.write("/opt/keep.sh", KEEP, 0o755)?;
    root.take(&kernel.image(), "/boot/vmlinuz")?;
    let initramfs = Tree::small_initramfs_for(kernel.architecture(), &store, POLICY)?;
    root.take(initramfs.initramfs()?.path(), "/boot/initrd")?;
    if module {
        add_module(&root, kernel, "test_module", "measured", Some(&store))?;
        // the key of modules is not in .ima
        root.sign_all(&store)?;
    }
    let root = ("ext4", root.ext4(512 << 20)?);
    let mut enforced = Enforced::with_root(kernel, &store, root, POLICY)?;
    enforced = enforced.disk(Tree::new()?.ext4(64 << 20)?);
    enforced.machine = enforced.machine.tpm(Tpm::Version2).memory(1024);
    enforced.boot()
}

/// Makes the kernel measure a new file.
fn measure(guest: &mut Guest, name: &str) -> Result<()> {
    let path = format!("/opt/{name}");
    let content = name.as_bytes().to_vec().into();
    guest.request(Action::Write { path: path.clone(), content, mode: 0o644 })?.is_allowed();
    guest.request(Action::ChangeOwner { path: path.clone(), uid: OWNER, gid: 0 })?.is_allowed();
    guest.read(&path)?.is_allowed();
    Ok(())
}

fn load_kernel(guest: &mut Guest) -> Result<()> {
    let (path, initramfs) = ("/boot/vmlinuz".into(), Some("/boot/initrd".into()));
    guest.request(Action::LoadKernel { path, initramfs })?.is_allowed();
    Ok(())
}

fn start_kernel(guest: &mut Guest) -> Result<()> {
    guest.start_kernel()?;
    enforce(guest, "ext4")
}

/// The exit status and the JSON lines of `imactl log` in the guest.
fn log(guest: &mut Guest, words: &str) -> Result<(bool, Vec<Value>)> {
    let command = format!("{IMACTL} log {words} && echo '{{\"type\":\"good\"}}'");
    let said = guest.execute(&["/usr/bin/sh", "-c", &command])?.text();
    let lines: Vec<Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok((lines.last().is_some_and(|line| line["type"] == "good"), lines))
}

fn verify(guest: &mut Guest) -> Result<(bool, Vec<Value>)> {
    // measured before, so that it adds no entry
    guest.execute(&[IMACTL, "log", "show"])?.is_allowed();
    log(guest, &format!("verify --json --pcrs {TPM} {SECURITYFS}/binary_runtime_measurements"))
}

fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

/// The numbers of the entries with this name.
fn indexes(guest: &mut Guest, name: &str) -> Result<Vec<u64>> {
    let shown = log(guest, "show --json")?.1;
    let named = shown.iter().filter(|line| line["path"] == name);
    Ok(named.filter_map(|line| line["index"].as_u64()).collect())
}

fn hands_over(kernel: &Kernel) -> Result<()> {
    let mut guest = boot(kernel, true)?;
    load(&mut guest, "measured")?.is_allowed();
    measure(&mut guest, "first")?;
    assert!(verify(&mut guest)?.0);
    assert_eq!(indexes(&mut guest, "/opt/first")?.len(), 1);

    // nothing is measured between loading and starting
    load_kernel(&mut guest)?;
    start_kernel(&mut guest)?;
    let (good, lines) = verify(&mut guest)?;
    assert!(good, "{lines:?}");
    let pcrs = of_type(&lines, "pcr");
    assert!(pcrs.iter().all(|line| line["verdict"] == "match" && line["unverified"] == 0));
    assert_eq!(indexes(&mut guest, "boot_aggregate")?.len(), 2);
    let shown = log(&mut guest, "show --json --template ima-modsig")?.1;
    let module = shown.iter().find(|line| line["path"] == "/usr/lib/modules/measured.ko");
    assert!(module.is_some_and(|line| !line["modsig"].is_null()), "{shown:?}");

    // entries that were made after the next kernel was loaded
    load_kernel(&mut guest)?;
    measure(&mut guest, "second")?;
    start_kernel(&mut guest)?;
    let (good, lines) = verify(&mut guest)?;
    let boots = indexes(&mut guest, "boot_aggregate")?;
    assert_eq!(boots.len(), 3);
    let second = indexes(&mut guest, "/opt/second")?.len();
    if kernel.series() == Series::Linux6_1 {
        assert!(!good && second == 0, "{lines:?}");
        for line in of_type(&lines, "pcr").into_iter().filter(|line| line["entries"] != 0) {
            assert_eq!(line["explanation"], "lost-in-kexec", "{line}");
            assert_eq!((&line["first"], &line["proven"]), (&boots[1].into(), &false.into()));
        }
    } else {
        assert!(good && second == 1, "{lines:?}");
    }
    let executed = if kernel.series() == Series::Linux7 { 2 } else { 0 };
    assert_eq!(indexes(&mut guest, "kexec_execute")?.len(), executed);
    Ok(())
}

#[test]
fn linux_6_1_loses_entries_which_is_noticed() {
    run(Series::Linux6_1, hands_over);
}

#[test]
fn linux_6_12_hands_all_entries_over() {
    run(Series::Linux6_12, hands_over);
}

#[test]
fn linux_7_hands_all_entries_over() {
    run(Series::Linux7, hands_over);
}

fn mount_state(guest: &mut Guest) -> Result<()> {
    guest.mount("/dev/vdb", "ext4", STATE)?.is_allowed();
    Ok(())
}

/// Kernels are started while entries are being moved: afterwards segments and list have each entry once.
#[test]
fn keeping_continues_after_kexec() {
    run(Series::Linux7, |kernel| {
        let mut guest = boot(kernel, false)?;
        mount_state(&mut guest)?;
        let mut before = 0;
        for round in 0..3 {
            guest.execute(&["/opt/keep.sh"])?.is_allowed();
            for number in 0..5 {
                measure(&mut guest, &format!("{round}.{number}"))?;
            }
            load_kernel(&mut guest)?;
            measure(&mut guest, &format!("{round}.loaded"))?;
            start_kernel(&mut guest)?;
            mount_state(&mut guest)?;
            guest.execute(&[IMACTL, "log", "keep", "--once", STATE])?.is_allowed();
            let list = format!("{SECURITYFS}/binary_runtime_measurements");
            let segments = format!("$(busybox find {STATE}/boot-* -type f | busybox sort)");
            let words = format!("verify --json --pcrs {TPM} {segments} {list}_staged {list}");
            let (good, lines) = log(&mut guest, &words)?;
            assert!(good, "{lines:?}");
            for line in of_type(&lines, "pcr").into_iter().filter(|line| line["entries"] != 0) {
                let values = (&line["verdict"], &line["unverified"]);
                assert_eq!(values, (&"match".into(), &0.into()), "{line}");
            }
            let entries = of_type(&lines, "summary")[0]["entries"].as_u64().unwrap_or_default();
            assert!(entries >= before + 6, "{before} {entries}");
            before = entries;
        }
        Ok(())
    });
}
