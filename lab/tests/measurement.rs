//! Real measurement lists, PCR values and quotes: every verb of `imactl log` agrees with the kernel that
//! wrote the list, the TPM that it extended, and evmctl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use lab::audit::Kind;
use lab::image::Tree;
use lab::kernel::{Kernel, Series};
use lab::keys::{Algorithm, Issuer, KeyStore};
use lab::machine::{Guest, Tpm};
use lab::on_each_kernel;
use lab::protocol::Action;
use lab::scenario::{Enforced, DEFAULT_POLICY};
use lab::{host, programs};
use serde_json::Value;
use tempfile::TempDir;

use crate::modules_and_firmware::{add_module, load};

/// Files of proc, sysfs, securityfs and tmpfs are not measured, so that reading the list adds no entries.
pub(crate) const MEASURED: &str = "\
dont_measure fsmagic=0x9fa0
dont_measure fsmagic=0x62656572
dont_measure fsmagic=0x73636673
dont_measure fsmagic=0x01021994
measure func=BPRM_CHECK template=ima-ngv2
measure func=MMAP_CHECK mask=MAY_EXEC
measure func=FILE_CHECK mask=^MAY_READ euid=0 fsmagic=0xef53
measure func=KEY_CHECK keyrings=.ima
measure func=CRITICAL_DATA
audit func=FILE_CHECK mask=^MAY_READ fsmagic=0xef53
";

pub(crate) const SECURITYFS: &str = "/sys/kernel/security/ima";
pub(crate) const TPM: &str = "/sys/class/tpm/tpm0";
/// The kernel reads an appended signature only if a rule accepts it.
const MODULES: &str = "\
measure func=MODULE_CHECK template=ima-modsig
appraise func=MODULE_CHECK appraise_type=imasig|modsig
";
const MODULE: &str = "/usr/lib/modules/measured.ko";
/// The size of a root with tpm2-tools, in bytes.
const ROOT_SIZE: u64 = 512 << 20;
/// A file that goes back to an earlier content, and one that is read while it is written.
const BACK: &str = "/opt/back";
const OPEN: &str = "/opt/open";

/// The directory with the files copied from a guest, and the facts known about it.
struct Taken {
    directory: TempDir,
    manifest: PathBuf,
    certificate: PathBuf,
    /// The certificate for the appended signature of [`MODULE`].
    module_certificate: PathBuf,
}

impl Taken {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Copies a file from the guest.
    fn take(&self, guest: &mut Guest, path: &str, name: &str) -> Result<()> {
        Ok(fs::write(self.path(name), guest.read(path)?.content())?)
    }

    /// Runs `imactl log` on the host; returns the exit status and the lines of its JSON output.
    fn log(&self, arguments: &[&str], lists: &[&str]) -> Result<(i32, Vec<Value>)> {
        let mut imactl = programs::imactl()?;
        imactl.arg("log").args(arguments).arg("--json").args(lists);
        let output = imactl.current_dir(self.directory.path()).output()?;
        let text = String::from_utf8(output.stdout)?;
        let lines = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok((output.status.code().unwrap_or(-1), lines))
    }

    /// Converts a list into another form, in a new file.
    fn convert(&self, list: &str, to: &str, bank: &[&str], name: &str) -> Result<()> {
        let mut imactl = programs::imactl()?;
        imactl.args(["log", "convert", "--to", to, "--output", name]).args(bank).arg(list);
        host::run(imactl.current_dir(self.directory.path()))?;
        Ok(())
    }

    fn content(&self, name: &str) -> Result<Vec<u8>> {
        Ok(fs::read(self.path(name))?)
    }
}

fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

fn root() -> Result<Tree> {
    let root = Tree::small_root()?;
    root.install_imactl()?;
    root.install("/usr/bin/tpm2", "tpm2-tools")?;
    root.install("/usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0", "tpm2-tools")?;
    root.write("/opt/README", "", 0o644)?;
    Ok(root)
}

/// Makes the guest measure something of each kind. Returns its audit log.
fn measure(guest: &mut Guest, store: &KeyStore) -> Result<String> {
    guest.mount("tmpfs", "tmpfs", "/run")?.is_allowed();
    guest.execute(&["/usr/bin/ls", "/"])?.is_allowed();
    let certificate = store.another_signer("vendor", Issuer::System)?.certificate()?.into();
    guest.request(Action::AddKey { keyring: ".ima".into(), certificate })?.is_allowed();
    load(guest, "measured")?.is_allowed();
    let command = format!("exec 3>>{OPEN}; exec cat {OPEN}");
    guest.execute(&["/usr/bin/sh", "-c", &command])?.is_allowed();
    let mut audit = String::new();
    for content in ["X", "Y", "X"] {
        let content = content.as_bytes().to_vec().into();
        guest.request(Action::Write { path: BACK.into(), content, mode: 0o600 })?.is_allowed();
        let read = guest.read(BACK)?;
        for record in read.audit.iter().filter(|record| record.kind == Kind::Rule) {
            audit += &format!("type=INTEGRITY_RULE msg=audit(1.2:3): {}\n", record.text);
        }
    }
    Ok(audit)
}

fn tpm2(guest: &mut Guest, arguments: &str) -> Result<()> {
    let argv: Vec<_> = ["/usr/bin/tpm2"].into_iter().chain(arguments.split(' ')).collect();
    guest.execute_with(&[("TPM2TOOLS_TCTI", "device:/dev/tpmrm0")], &argv)?.is_allowed();
    Ok(())
}

/// Makes a quote in the guest, and copies it with the files that it is over.
fn take(guest: &mut Guest, taken: &Taken, series: Series) -> Result<()> {
    // measure the program now, so that it adds no entry between the quote and the list
    guest.execute(&["/usr/bin/imactl", "log", "show"])?.is_allowed();
    taken.take(guest, &format!("{SECURITYFS}/binary_runtime_measurements"), "before")?;
    tpm2(guest, "createek -G ecc -c /run/ek -u /run/ek.pub")?;
    tpm2(guest, "createak -C /run/ek -c /run/ak -G ecc -g sha256 -s ecdsa -u /run/ak.pub")?;
    let select = "sha256:0,1,2,3,4,5,6,7,8,9,10";
    tpm2(
        guest,
        &format!("quote -c /run/ak -l {select} -q c0ffee -m /run/quote -s /run/sig -o /run/pcrs"),
    )?;
    for name in ["ak.pub", "quote", "sig", "pcrs"] {
        taken.take(guest, &format!("/run/{name}"), name)?;
    }
    for bank in ["sha1", "sha256"] {
        let mut text = String::new();
        for pcr in 0..24 {
            let value = guest.read(&format!("{TPM}/pcr-{bank}/{pcr}"))?.text();
            text += &format!("PCR-{pcr:02}: {}\n", value.trim());
        }
        fs::write(taken.path(bank), text)?;
    }
    taken.take(guest, &format!("{SECURITYFS}/binary_runtime_measurements"), "list")?;
    taken.take(guest, &format!("{SECURITYFS}/ascii_runtime_measurements"), "list.ascii")?;
    if series != Series::Linux6_1 {
        taken.take(
            guest,
            &format!("{SECURITYFS}/binary_runtime_measurements_sha256"),
            "sha256.list",
        )?;
    }
    taken.take(guest, &format!("{SECURITYFS}/runtime_measurements_count"), "count")
}

/// Checks that the list replays to every bank of the TPM, according to the machine itself, a quote and evmctl.
fn verify(guest: &mut Guest, taken: &Taken) -> Result<()> {
    let here = ["/usr/bin/imactl", "log", "verify", "--ignore-violations", "--json"];
    let here = guest.execute(&here)?.text();
    let here: Vec<Value> = here.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let quoted = ["verify", "--ignore-violations", "--quote", "quote", "--signature", "sig"];
    let quoted = [&quoted[..], &["--ak", "ak.pub", "--nonce", "c0ffee", "--pcrs", "pcrs"]].concat();
    let certificate = taken.certificate.to_string_lossy();
    let quoted = [&quoted[..], &["--cert", &certificate]].concat();
    let module = taken.module_certificate.to_string_lossy();
    // the signature in security.ima and the appended one are by two keys
    let (status, unknown) = taken.log(&quoted, &["list"])?;
    let found = of_type(&unknown, "finding").into_iter().filter(|line| line["path"] == MODULE);
    let found: Vec<_> = found.filter_map(|line| line["finding"].as_str()).collect();
    assert_eq!((status, found), (1, vec!["unknown-key"]), "{unknown:?}");
    let (status, there) = taken.log(&[&quoted[..], &["--cert", &module]].concat(), &["list"])?;
    assert_eq!(status, 0, "{there:?}");
    assert_eq!(of_type(&there, "quote")[0]["good"], true, "{there:?}");
    for (lines, banks) in [(&here, 2..), (&there, 1..)] {
        let extended = of_type(lines, "pcr").into_iter().filter(|line| line["entries"] != 0);
        let extended: Vec<_> = extended.collect();
        assert!(banks.contains(&extended.len()), "{lines:?}");
        for line in extended {
            assert_eq!((&line["verdict"], &line["pcr"]), (&"match".into(), &10.into()), "{line}");
            assert_eq!(line["unverified"], 0, "{line}");
        }
        assert_eq!(of_type(lines, "boot-aggregate")[0]["matches"], true, "{lines:?}");
        let summary = of_type(lines, "summary")[0];
        assert_eq!((&summary["good"], &summary["malformed"]), (&true.into(), &0.into()));
        assert!(summary["violations"].as_u64() >= Some(1), "{summary}");
    }
    let summary = of_type(&there, "summary")[0];
    assert!(summary["valid"].as_u64() >= Some(5), "{summary}");
    // an entry with two signatures is one signed entry
    assert_eq!(
        summary["valid"].as_u64(),
        summary["signed"].as_u64().map(|signed| signed + 1),
        "{summary}"
    );

    let evmctl = |options: &[&str]| -> Result<bool> {
        let mut evmctl = host::command("evmctl", "ima-evm-utils")?;
        evmctl.arg("ima_measurement").args(options).args(["--pcrs", "sha1,sha1"]);
        evmctl.args(["--pcrs", "sha256,sha256", "list"]).current_dir(taken.directory.path());
        Ok(evmctl.output()?.status.success())
    };
    assert!(evmctl(&["--ignore-violations"])?);
    assert!(!evmctl(&[])?);
    Ok(())
}

/// Checks that each converted form equals the kernel's own, and converts back.
fn convert(taken: &Taken, series: Series) -> Result<()> {
    taken.convert("list", "ascii", &[], "ascii")?;
    assert_eq!(taken.content("ascii")?, taken.content("list.ascii")?);
    taken.convert("list.ascii", "binary", &[], "binary")?;
    assert_eq!(taken.content("binary")?, taken.content("list")?);
    if series != Series::Linux6_1 {
        taken.convert("list", "binary", &["--bank", "sha256"], "sha256.own")?;
        assert_eq!(taken.content("sha256.own")?, taken.content("sha256.list")?);
    }
    for form in ["cel-tlv", "cel-cbor", "cel-json"] {
        taken.convert("list", form, &["--bank", "sha256"], form)?;
        let verify = ["verify", "--ignore-violations", "--pcrs", "sha256,sha256"];
        let (status, lines) = taken.log(&verify, &[form])?;
        assert_eq!(status, 0, "{form}: {lines:?}");
        taken.convert(form, "binary", &["--bank", "sha1"], "binary")?;
        assert_eq!(taken.content("binary")?, taken.content("list")?, "{form}");
    }
    Ok(())
}

fn compare(taken: &Taken) -> Result<()> {
    let (status, lines) = taken.log(&["show"], &["list"])?;
    let count: usize = String::from_utf8(taken.content("count")?)?.trim().parse()?;
    assert_eq!((status, lines.len()), (0, count));
    for template in ["ima-sig", "ima-ngv2", "ima-buf", "ima-modsig"] {
        assert!(lines.iter().any(|line| line["template"] == template), "{template}");
    }
    assert!(lines.iter().any(|line| line["violation"] == true && line["path"] == OPEN));

    assert_eq!(taken.log(&["diff"], &["list", "cel-json"])?.0, 0);
    let (status, lines) = taken.log(&["diff"], &["before", "list"])?;
    assert!(status == 1 && lines.iter().all(|line| line["difference"] == "added"), "{lines:?}");
    assert!(lines.iter().any(|line| line["path"] == "/usr/bin/tpm2"), "{lines:?}");

    let (status, lines) = taken.log(&["timeline", "--audit", "audit"], &["list"])?;
    assert_eq!(status, 1, "{lines:?}");
    let back = |line: &&Value| line["path"] == BACK;
    let events: Vec<_> = lines.iter().filter(back).map(|line| &line["event"]).collect();
    assert_eq!(events, ["measured", "measured", "back"]);

    let manifest = taken.manifest.to_string_lossy();
    let (status, lines) = taken.log(&["check", "--manifest", &manifest], &["list"])?;
    assert_eq!(status, 1, "{lines:?}");
    let unexpected = of_type(&lines, "entry").into_iter().map(|line| &line["path"]);
    assert_eq!(unexpected.collect::<Vec<_>>(), [OPEN, BACK, BACK], "{lines:?}");
    Ok(())
}

fn manifest(root: &Path, to: &Path) -> Result<()> {
    let mut create: Command = programs::imactl()?;
    host::run(create.args(["manifest", "create", "--output"]).args([to, root]))?;
    Ok(())
}

on_each_kernel! {
    fn every_verb_agrees_with_the_tpm(kernel) {
        let kernel: &Kernel = kernel;
        let directory = TempDir::new()?;
        let (manifest_file, certificate) =
            (directory.path().join("manifest"), directory.path().join("certificate"));
        let module_certificate = directory.path().join("module");
        let taken = Taken { manifest: manifest_file, certificate, module_certificate, directory };
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        fs::write(&taken.certificate, store.ima_certificate()?)?;
        fs::write(&taken.module_certificate, store.module_certificate()?)?;
        let root = root()?;
        add_module(&root, kernel, "test_module", "measured", Some(&store))?;
        root.sign_all(&store)?;
        manifest(root.directory(), &taken.manifest)?;

        let policy = format!("{MEASURED}{MODULES}{DEFAULT_POLICY}");
        let mut enforced = Enforced::with_root(kernel, &store, ("ext4", root.ext4(ROOT_SIZE)?), &policy)?;
        enforced.machine = enforced.machine.tpm(Tpm::Version2);
        let mut guest = enforced.boot()?;
        fs::write(taken.path("audit"), measure(&mut guest, &store)?)?;
        take(&mut guest, &taken, kernel.series())?;
        verify(&mut guest, &taken)?;
        convert(&taken, kernel.series())?;
        compare(&taken)
    }
}
