//! Attributes that root adds to those which EVM covers, and those that the configuration selects.

use std::ffi::OsStr;

use anyhow::Result;
use lab::image::Tree;
use lab::kernel::Kernel;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Guest, Observation};
use lab::on_each_kernel;
use lab::protocol::{Action, Errno};
use serde_json::Value;

use super::{boot, judges, set, tempfile, with_hmac_key, KEY, LABEL};

const LIST: &str = "/sys/kernel/security/integrity/evm/evm_xattrs";
/// The names that the guest adds, in this order.
const NAMES: [&str; 2] = ["security.b", "security.a"];

/// Programs with both attributes, and one without.
fn programs(names: &[&str]) -> Result<Tree> {
    let root = Tree::small_root()?;
    for name in names {
        let path = root.path(&format!("/opt/{name}"));
        root.copy("/usr/bin/true", &format!("/opt/{name}"))?;
        set(&path, "security.selinux", LABEL)?;
        if *name != "without" {
            set(&path, "security.b", b"of b")?;
            set(&path, "security.a", b"of a")?;
        }
    }
    Ok(root)
}

/// `--evm-xattr` for each name.
fn options<'a>(names: &[&'a str]) -> Vec<&'a str> {
    names.iter().flat_map(|name| ["--evm-xattr", name]).collect()
}

/// What `imactl verify --evm` says of a file, with these options.
fn predicted(
    kernel: &Kernel,
    store: &KeyStore,
    options: &[&OsStr],
    (input, file): (&std::path::Path, &str),
) -> Result<String> {
    let mut verify = lab::programs::imactl()?;
    verify.args(["verify", "--evm", "--json", "--kernel", kernel.version(), "--keys"]);
    verify.arg(store.directory()).args(options).args(["--include", file]);
    let output = verify.arg(input).output()?;
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let line = lines.iter().find(|line| line["type"] == "file");
    let verdict = line.and_then(|line| line["verdict"].as_str());
    verdict.map(str::to_owned).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::anyhow!("{file}: no verdict: {text}{said}")
    })
}

fn write(guest: &mut Guest, name: &str) -> Result<Observation> {
    let (path, content) = (LIST.to_owned(), name.as_bytes().into());
    guest.request(Action::Write { path, content, mode: 0o660 })
}

on_each_kernel! {
    fn evm_covers_what_root_adds(kernel) {
        let store = KeyStore::create(Algorithm::P256)?;
        let all = ["listed", "reversed", "unlisted", "changed", "without", "early"];
        let root = programs(&all)?;
        root.install_imactl()?;
        root.install("/usr/bin/cp", "coreutils")?;
        root.write("/etc/keys/x509_ima.der", store.ima_certificate()?, 0o644)?;
        root.write("/etc/keys/evm/x509_evm.der", store.evm_certificate()?, 0o644)?;
        store.sign_with(&["--evm"], root.directory())?;
        let sign = |name: &str, names: &[&str]| {
            let more = [&["--evm"][..], &options(names)].concat();
            store.sign_with(&more, &root.path(&format!("/opt/{name}")))
        };
        for name in ["listed", "changed"] {
            sign(name, &NAMES)?;
        }
        sign("reversed", &[NAMES[1], NAMES[0]])?;
        set(&root.path("/opt/changed"), "security.a", b"other")?;
        let verdicts = |names: &[&str]| -> Result<Vec<(String, String)>> {
            let options: Vec<_> = options(names).into_iter().map(OsStr::new).collect();
            let verdict = |name: &&str| {
                let path = format!("/opt/{name}");
                let said = predicted(kernel, &store, &options, (root.directory(), &path[1..]))?;
                Ok((path, said))
            };
            all.iter().map(verdict).collect()
        };
        let (before, after) = (verdicts(&[])?, verdicts(&NAMES)?);
        let of = |verdicts: &[(String, String)], name: &str| {
            let found = verdicts.iter().find(|(path, _)| path == name);
            found.map(|(_, verdict)| verdict.clone()).unwrap_or_default()
        };
        assert_eq!(of(&before, "/opt/listed"), "invalid-fail-immutable");
        assert_eq!(of(&after, "/opt/listed"), "valid");
        assert_eq!(of(&after, "/opt/reversed"), "invalid-fail-immutable");
        assert_eq!(of(&after, "/opt/without"), "valid");

        let mut guest = boot(kernel, &store, root)?.up()?;
        // the kernel keeps what it found of a file: of the others, nothing is asked before the list is set
        judges(&mut guest, "/opt/listed", &of(&before, "/opt/listed"))?;
        judges(&mut guest, "/opt/early", &of(&before, "/opt/early"))?;
        for name in NAMES {
            write(&mut guest, name)?.is_allowed();
        }
        // as imactl rejects them
        let long = format!("security.{}", "x".repeat(247));
        for (name, errno) in
            [("user.a", Errno::EINVAL), (NAMES[0], Errno::EEXIST), (&long, Errno::E2BIG)]
        {
            write(&mut guest, name)?.fails(errno);
        }
        for (path, verdict) in after.iter().filter(|(path, _)| path != "/opt/early") {
            judges(&mut guest, path, verdict)?;
            let why = guest.execute(&["/usr/bin/imactl", "why", path])?.text();
            let expected = match verdict.as_str() {
                "valid" => "execute  allowed".to_owned(),
                cause => format!("execute  denied    {cause}, by: "),
            };
            assert!(why.contains(&expected), "{path} {verdict}: {why}");
        }
        // opened before: still allowed, although it is not valid any more
        assert_eq!(of(&after, "/opt/early"), "invalid-fail-immutable");
        judges(&mut guest, "/opt/early", "valid")?;

        // attributes can be set until they are valid together
        let copy = ["/usr/bin/cp", "--preserve=all", "/opt/listed", "/opt/copy"];
        guest.execute(&copy)?.is_allowed();
        judges(&mut guest, "/opt/copy", "valid")?;

        // enabled at its place
        write(&mut guest, "security.apparmor")?.is_allowed();
        write(&mut guest, ".")?.is_allowed();
        write(&mut guest, "security.c")?.fails(Errno::EPERM);
        let names = ["SMACK64", "apparmor", "ima", "capability", "b", "a"];
        let names = names.map(|name| format!("security.{name}")).join(", ");
        let status = guest.execute(&["/usr/bin/imactl", "status"])?.text();
        assert!(status.contains(&names), "{status}");
        Ok(())
    }

    fn hmacs_cover_what_the_configuration_selects(kernel) {
        let store = KeyStore::create(Algorithm::P256)?;
        let root = programs(&["configured", "all"])?;
        let key = tempfile(&KEY)?;
        store.sign_with(&["--evm"], root.directory())?;
        let boot = boot(kernel, &store, root)?;
        with_hmac_key(&boot, "")?;
        let disk = boot.root.ext4(64 << 20)?;
        let (key, config) = (key.path().to_string_lossy(), kernel.directory().join("config"));
        let config = config.to_string_lossy();
        let configured = ["--kernel-config", &*config];
        for (name, more) in [("configured", &configured[..]), ("all", &[])] {
            let path = format!("/opt/{name}");
            let hmac = ["--evm", "--evm-only", "--evm-type", "hmac", "--hmac-key", &*key];
            store.sign_with(&[&hmac[..], more, &["--include", &path]].concat(), disk.path())?;
        }
        let options = [&configured[..], &["--hmac-key", &*key]].concat();
        let options: Vec<_> = options.into_iter().map(OsStr::new).collect();
        let mut guest = boot.up_from_disk(&disk)?;
        for (name, expected) in [("configured", "valid"), ("all", "invalid-HMAC")] {
            let path = format!("/opt/{name}");
            let verdict = predicted(kernel, &store, &options, (disk.path(), &path))?;
            assert_eq!(verdict, expected, "{name}");
            judges(&mut guest, &path, &verdict)?;
        }
        Ok(())
    }
}
