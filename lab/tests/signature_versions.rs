//! Signatures of version 2 and 3, by RSA, ECDSA and ML-DSA, and over fs-verity digests: which kernel verifies
//! which.

use std::fs;
use std::os::unix::fs::chown;

use lab::image::Tree;
use lab::kernel::Series;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Guest;
use lab::on_each_kernel;
use lab::programs;
use lab::protocol::{Action, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};
use serde_json::Value;

use crate::measurement::SECURITYFS;

/// The owner whose programs need a signature over their fs-verity digest.
const VERITY: u32 = 1001;
/// The owner whose programs need a signature of version 3, if the kernel supports that rule.
const SIGV3: u32 = 1003;
/// The entries show each signature, and whether the digest is that of fs-verity.
const MEASURED: &str = "\
measure func=BPRM_CHECK fowner=1001 digest_type=verity template=ima-sigv2
measure func=BPRM_CHECK template=ima-sigv2
";

fn policy(series: Series) -> String {
    let mut conditions = vec![format!("fowner={VERITY} digest_type=verity appraise_type=sigv3")];
    if series == Series::Linux7 {
        conditions.push(format!("fowner={SIGV3} appraise_type=sigv3"));
    }
    let rule = |condition: &String| {
        format!("appraise func=MMAP_CHECK {condition}\nappraise func=BPRM_CHECK {condition}\n")
    };
    conditions.iter().map(rule).collect::<String>() + MEASURED + DEFAULT_POLICY
}

/// A store with another key for files, whose CA is its own; and the name of the key.
fn stores() -> anyhow::Result<Vec<(&'static str, KeyStore)>> {
    Ok(vec![
        ("p-256", KeyStore::create(Algorithm::P256)?),
        ("ml-dsa-44", KeyStore::create_with(Algorithm::P256, &["--ima-algorithm", "ml-dsa-44"])?),
        (
            "ml-dsa-65",
            KeyStore::create_with(Algorithm::Rsa2048, &["--ima-algorithm", "ml-dsa-65"])?,
        ),
    ])
}

on_each_kernel! {
    fn each_kernel_verifies_its_versions(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let stores = stores()?;
        let root = Tree::small_root()?;
        root.sign_all(&store)?;
        let sign = |store: &KeyStore, version: &str, path: &str| {
            root.copy("/usr/bin/true", path)?;
            store.sign_with(&["--signature-version", version], &root.path(path))
        };
        verity_programs(&root, &store)?;
        for version in ["2", "3"] {
            let path = format!("/opt/sigv3/{version}");
            sign(&store, version, &path)?;
            chown(root.path(&path), Some(SIGV3), None)?;
        }
        sign(&stores[0].1, "2", "/opt/p-256-2")?;
        sign(&store, "2", "/opt/rsa-2")?;
        sign(&store, "3", "/opt/rsa-3")?;
        sign(&store, "3", "/opt/rsa-3-changed")?;
        for (name, store) in &stores {
            sign(store, "3", &format!("/opt/{name}"))?;
            sign(store, "3", &format!("/opt/{name}-changed"))?;
            root.tamper(&format!("/opt/{name}-changed"))?;
        }
        root.tamper("/opt/rsa-3-changed")?;
        let disk = root.ext4_with(128 << 20, &["-O", "verity"])?;
        let policy = policy(kernel.series());
        let mut enforced = Enforced::with_root(kernel, &store, ("ext4", disk), &policy)?;
        for (_, store) in &stores {
            enforced.machine = enforced.machine.trusting(&store.system_certificate()?);
        }
        let mut guest = enforced.boot()?;
        let has = kernel.series() == Series::Linux7;

        guest.execute(&["/opt/rsa-2"])?.is_allowed();
        let execution = guest.execute(&["/opt/rsa-3"])?;
        if has {
            execution.is_allowed();
        } else {
            execution.is_denied(Errno::EACCES, "invalid-signature-version");
        }
        let cause = if has { "invalid-signature" } else { "invalid-signature-version" };
        guest.execute(&["/opt/rsa-3-changed"])?.is_denied(Errno::EACCES, cause);
        for (name, store) in &stores {
            let certificate = store.ima_certificate()?.into();
            let added = guest.request(Action::AddKey { keyring: ".ima".into(), certificate })?;
            if has || !name.starts_with("ml-dsa") {
                added.is_allowed();
            } else {
                added.is_denied_silently(Errno::ENOPKG);
            }
            let execution = guest.execute(&[&format!("/opt/{name}")])?;
            if has {
                execution.is_allowed();
            } else {
                execution.is_denied(Errno::EACCES, cause);
            }
            guest.execute(&[&format!("/opt/{name}-changed")])?.is_denied(Errno::EACCES, cause);
        }
        guest.execute(&["/opt/p-256-2"])?.is_allowed();
        if has {
            guest.execute(&["/opt/sigv3/2"])?.is_denied(Errno::EACCES, "IMA-sigv3-required");
            guest.execute(&["/opt/sigv3/3"])?.is_allowed();
        }
        verity(&mut guest)?;
        let stores = stores.iter().map(|(_, store)| store).chain([&store]);
        let certificates: Vec<_> = stores.map(KeyStore::ima_certificate).collect::<Result<_, _>>()?;
        // on Linux 7 also the two for the rule that asks for version 3
        measured(&mut guest, &certificates, if has { 10 } else { 8 })
    }
}

/// Checks that `imactl log verify` judges the signatures in the kernel's list as they were made, whether this
/// kernel verifies them or not.
fn measured(guest: &mut Guest, certificates: &[Vec<u8>], valid: u64) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let list = directory.path().join("list");
    fs::write(&list, guest.read(&format!("{SECURITYFS}/binary_runtime_measurements"))?.content())?;
    let mut imactl = programs::imactl()?;
    imactl.args(["log", "verify", "--json", "--no-pcrs"]);
    for (number, certificate) in certificates.iter().enumerate() {
        let path = directory.path().join(number.to_string());
        fs::write(&path, certificate)?;
        imactl.arg("--cert").arg(path);
    }
    let text = String::from_utf8(imactl.arg(&list).output()?.stdout)?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let found = lines.iter().filter(|line| line["type"] == "finding");
    let found: Vec<_> = found.map(|line| (&line["path"], &line["finding"])).collect();
    let [invalid, unverifiable] = ["invalid-signature", "unverifiable-signature"].map(Value::from);
    let expected = [
        ("/opt/rsa-3-changed", &invalid),
        ("/opt/p-256-changed", &invalid),
        ("/opt/ml-dsa-44-changed", &invalid),
        ("/opt/ml-dsa-65-changed", &invalid),
        ("/opt/verity/changed", &invalid),
        // signed over another type of digest than the rule measures
        ("/opt/verity/content", &unverifiable),
        ("/opt/verity/elsewhere", &unverifiable),
    ];
    let expected = expected.map(|(path, finding)| (Value::from(path), finding));
    assert_eq!(found, expected.iter().map(|(path, finding)| (path, *finding)).collect::<Vec<_>>());
    assert_eq!(lines.last().map(|summary| &summary["valid"]), Some(&valid.into()));
    Ok(())
}

/// Adds programs for the rules of [`VERITY`], before fs-verity is enabled.
fn verity_programs(root: &Tree, store: &KeyStore) -> anyhow::Result<()> {
    for name in ["signed", "changed", "disabled", "unsigned", "content"] {
        let path = format!("/opt/verity/{name}");
        root.copy("/usr/bin/true", &path)?;
        match name {
            "unsigned" => {}
            "content" => store.sign(&[root.path(&path)])?,
            _ => store.sign_with(&["--digest", "verity"], &root.path(&path))?,
        }
        chown(root.path(&path), Some(VERITY), None)?;
    }
    root.tamper("/opt/verity/changed")?;
    // rules without a verity digest reject such a signature
    root.copy("/usr/bin/true", "/opt/verity/elsewhere")?;
    store.sign_with(&["--digest", "verity"], &root.path("/opt/verity/elsewhere"))
}

fn verity(guest: &mut Guest) -> anyhow::Result<()> {
    for name in ["signed", "changed", "unsigned", "content", "elsewhere"] {
        guest.request(Action::EnableVerity { path: format!("/opt/verity/{name}") })?.is_allowed();
    }
    guest.execute(&["/opt/verity/signed"])?.is_allowed();
    for (name, cause) in [
        ("changed", "invalid-verity-signature"),
        ("unsigned", "verity-signature-required"),
        ("content", "verity-signature-required"),
        ("disabled", "no-verity-digest"),
        ("elsewhere", "IMA-signature-required"),
    ] {
        let execution = guest.execute(&[&format!("/opt/verity/{name}")])?;
        execution.is_denied(Errno::EACCES, cause);
    }
    Ok(())
}
