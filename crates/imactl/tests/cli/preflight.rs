//! `imactl preflight`: its output about roots, and its exit status.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::support::*;
use serde_json::Value;

/// A root in a temporary directory, with keys next to it.
struct Root {
    directory: tempfile::TempDir,
    keys: PathBuf,
}

const POLICY: &str = "default:appraise";

impl Root {
    /// A root with `/usr/bin/true`, its loader and its libraries, and a copy of it as `/sbin/init`; all
    /// unsigned. `None` if `security.ima` cannot be set.
    fn new() -> Option<Self> {
        let directory = directory();
        if !security_attributes(directory.path()) {
            return None;
        }
        let keys = store(directory.path(), "p-256");
        let root = Self { directory, keys };
        for path in program_files()? {
            root.take(&path, &path);
        }
        root.take(Path::new("/usr/bin/true"), Path::new("/sbin/init"));
        Some(root)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.path().join(path.trim_start_matches('/'))
    }

    fn take(&self, from: &Path, to: &Path) {
        let to = self.at(to.to_str().unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }

    fn write(&self, path: &str, content: &str, mode: u32) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn sign(&self) {
        run(args!["sign", "--quiet", "--keys", self.keys, self.path()]).exits(0);
    }

    fn preflight(&self, policy: &str, more: &[&str]) -> Run {
        let words = args!["preflight", self.path(), "--policy", policy, "--keys", self.keys];
        run(words.into_iter().chain(more.iter().map(std::ffi::OsString::from)))
    }

    /// The JSON lines about all files.
    fn lines(&self, policy: &str, code: i32) -> Vec<Value> {
        self.preflight(policy, &["--json", "--details"]).exits(code).json()
    }
}

/// `/usr/bin/true`, its loader, and the libraries that the loader reports.
fn program_files() -> Option<Vec<PathBuf>> {
    // preloaded libraries (pseudo, faketime) are not needed by the program
    let listed = finish(tool("ldd")?.arg("/usr/bin/true").env_remove("LD_PRELOAD")).exits(0).stdout;
    let mut files = vec![PathBuf::from("/usr/bin/true")];
    for line in listed.lines() {
        files.extend(line.split_whitespace().find(|word| word.starts_with('/')).map(Into::into));
    }
    assert!(files.len() >= 3, "{listed}");
    Some(files)
}

#[track_caller]
fn of<'a>(lines: &'a [Value], kind: &str, path: &str) -> &'a Value {
    let found = lines.iter().find(|line| line["type"] == kind && line["path"] == path);
    found.unwrap_or_else(|| panic!("no {kind} {path} in {lines:#?}"))
}

#[test]
fn a_signed_root_is_good() {
    let Some(root) = Root::new() else { return };
    root.write("/usr/bin/script", "#!/usr/bin/true\n", 0o755);
    root.sign();
    let ran = root.preflight(POLICY, &[]).exits(0);
    for part in ["programs", "init: /sbin/init: will run", "assumed: / on ext4"] {
        assert!(ran.stdout.contains(part), "{part} in {}", ran.stdout);
    }
    let lines = root.lines(POLICY, 0);
    assert_eq!(of(&lines, "file", "/usr/bin/true")["result"], "allowed");
    assert_eq!(of(&lines, "file", "/usr/bin/script")["use"], "script");
    assert_eq!(of(&lines, "init", "/sbin/init")["result"], "runs");
    let summary = lines.last().unwrap();
    assert_eq!((&summary["good"], &summary["reaches_init"]), (&true.into(), &true.into()));
}

#[test]
fn what_a_program_needs_is_followed() {
    let Some(root) = Root::new() else { return };
    for library in program_files().unwrap().iter().skip(1) {
        let library = library.to_str().unwrap();
        root.sign();
        run(args!["clear", "--quiet", root.at(library)]).exits(0);
        let lines = root.lines(POLICY, 1);
        assert_eq!(of(&lines, "file", library)["cause"], "IMA-signature-required");
        for program in ["/usr/bin/true", "/sbin/init"] {
            let found = of(&lines, "file", program);
            assert_eq!(found["result"], "blocked", "{library}: {found}");
            assert_eq!(found["needs"]["path"], library);
            assert_eq!(found["needs"]["func"], "MMAP_CHECK");
        }
        assert_eq!(of(&lines, "init", "/sbin/init")["result"], "dies");
        let ran = root.preflight(POLICY, &[]).exits(1);
        let because = format!("the machine will not reach init because {library}");
        assert!(ran.stdout.contains(&because), "{}", ran.stdout);
    }
}

#[test]
fn a_missing_library_is_told_and_is_no_refusal() {
    let Some(root) = Root::new() else { return };
    let library = program_files().unwrap().into_iter().find(|path| path.ends_with("libc.so.6"));
    let Some(library) = library else { return missing("a libc.so.6") };
    fs::remove_file(root.at("/sbin/init")).unwrap();
    fs::remove_file(root.at(library.to_str().unwrap())).unwrap();
    root.sign();
    let lines = root.preflight(POLICY, &["--json", "--no-init"]).exits(0).json();
    let found = of(&lines, "file", "/usr/bin/true");
    assert_eq!(
        (&found["result"], &found["needs"]["path"]),
        (&"incomplete".into(), &"libc.so.6".into())
    );
    // if init itself lacks it, the machine does not boot
    root.take(Path::new("/usr/bin/true"), Path::new("/sbin/init"));
    root.sign();
    assert_eq!(of(&root.lines(POLICY, 1), "init", "/sbin/init")["result"], "dies");
}

#[test]
fn causes_are_the_kernels_words() {
    let Some(root) = Root::new() else { return };
    let stranger = store(root.directory.path(), "p-384");
    for name in ["changed", "strangers", "digest"] {
        root.take(Path::new("/usr/bin/true"), Path::new(&format!("/usr/bin/{name}")));
    }
    root.sign();
    let mut content = fs::read(root.at("/usr/bin/changed")).unwrap();
    content.push(0);
    fs::write(root.at("/usr/bin/changed"), content).unwrap();
    let strangers = root.at("/usr/bin/strangers");
    run(args!["clear", "--quiet", strangers]).exits(0);
    run(args!["sign", "--quiet", "--keys", stranger, strangers]).exits(0);
    set_security_ima(&root.at("/usr/bin/digest"), &[&[4, 4][..], &[0; 32]].concat());
    let lines = root.lines(POLICY, 1);
    for (name, cause) in [
        ("changed", "invalid-signature"),
        ("strangers", "invalid-signature"),
        ("digest", "IMA-signature-required"),
    ] {
        assert_eq!(of(&lines, "file", &format!("/usr/bin/{name}"))["cause"], cause, "{name}");
    }
    assert!(of(&lines, "file", "/usr/bin/strangers")["unknown_key"].is_string());
    assert!(of(&lines, "file", "/usr/bin/changed")["unknown_key"].is_null());
    assert_eq!(of(&lines, "file", "/usr/bin/changed")["rule"], "default:appraise:21");
    let ran = root.preflight(POLICY, &[]).exits(1);
    assert!(ran.stdout.contains("denied: invalid-signature: unknown key"), "{}", ran.stdout);
}

#[test]
fn scripts_need_their_interpreters() {
    let Some(root) = Root::new() else { return };
    root.take(Path::new("/usr/bin/true"), Path::new("/opt/unsigned"));
    root.take(Path::new("/usr/bin/env"), Path::new("/usr/bin/env"));
    root.write("/usr/bin/by-unsigned", "#! /opt/unsigned -x\n", 0o755);
    root.write("/usr/bin/by-script", "#!/usr/bin/by-unsigned\n", 0o755);
    root.write("/usr/bin/by-env", "#!/usr/bin/env true\n", 0o755);
    root.write("/usr/bin/by-nobody", "#!/usr/bin/env python9\n", 0o755);
    root.write("/usr/bin/sourced", "#!/usr/bin/nothing\n", 0o644);
    root.sign();
    run(args!["clear", "--quiet", root.at("/opt/unsigned")]).exits(0);
    let lines = root.lines(POLICY, 1);
    for (name, result) in [
        ("by-unsigned", "blocked"),
        ("by-script", "blocked"),
        ("by-env", "allowed"),
        ("by-nobody", "incomplete"),
    ] {
        let found = of(&lines, "file", &format!("/usr/bin/{name}"));
        assert_eq!(found["result"], result, "{found}");
    }
    assert!(lines.iter().all(|line| line["path"] != "/usr/bin/sourced"), "nobody executes it");
}

#[test]
fn scripts_interpret_scripts_as_deep_as_the_kernel_goes() {
    let Some(root) = Root::new() else { return };
    root.write("/usr/bin/self", "#!/usr/bin/self\n", 0o755);
    root.write("/usr/bin/s1", "#!/usr/bin/true\n", 0o755);
    for depth in 2..=6 {
        root.write(&format!("/usr/bin/s{depth}"), &format!("#!/usr/bin/s{}\n", depth - 1), 0o755);
    }
    root.sign();
    let lines = root.lines(POLICY, 0);
    assert_eq!(of(&lines, "file", "/usr/bin/s5")["result"], "allowed");
    for name in ["s6", "self"] {
        let found = of(&lines, "file", &format!("/usr/bin/{name}"));
        assert_eq!(
            (&found["result"], &found["needs"]["too_deep"]),
            (&"incomplete".into(), &true.into())
        );
    }
    let ran = root.preflight(POLICY, &["--init", "/usr/bin/self"]).exits(1);
    assert!(ran.stdout.contains("scripts interpret scripts, up to /usr/bin/self"), "{ran:?}");
}

#[test]
fn a_root_without_an_init_is_a_finding_unless_none_is_wanted() {
    let Some(root) = Root::new() else { return };
    fs::remove_file(root.at("/sbin/init")).unwrap();
    root.sign();
    let ran = root.preflight(POLICY, &[]).exits(1);
    let because = "will not reach init because none of /sbin/init, /etc/init, /bin/init, /bin/sh";
    assert!(ran.stdout.contains(because), "{}", ran.stdout);
    assert_eq!(root.lines(POLICY, 1).last().unwrap()["reaches_init"], false);
    let lines = root.preflight(POLICY, &["--no-init", "--json"]).exits(0).json();
    assert!(lines.last().unwrap()["reaches_init"].is_null(), "{lines:?}");
    root.preflight(POLICY, &["--no-init", "--init", "/usr/bin/true"]).exits(2);
}

#[test]
fn modules_firmware_and_policies_are_looked_at() {
    let Some(root) = Root::new() else { return };
    root.write("/lib/modules/6.12/a.ko.xz", "compressed", 0o644);
    root.write("/lib/firmware/b.bin", "firmware", 0o644);
    root.write("/etc/keys/x509_ima.der", "certificate", 0o644);
    root.write("/etc/ima/ima_policy.good", "measure func=BPRM_CHECK\n", 0o644);
    root.write("/etc/ima/ima_policy.bad", "measure\n\nmeasure func=BPRM\n", 0o644);
    root.sign();
    run(args!["clear", "--quiet", root.at("/lib/firmware/b.bin")]).exits(0);
    let lines = root.lines(POLICY, 1);
    assert_eq!(of(&lines, "file", "/lib/modules/6.12/a.ko.xz")["use"], "module");
    let firmware = of(&lines, "file", "/lib/firmware/b.bin");
    assert_eq!(
        (&firmware["use"], &firmware["func"]),
        (&"firmware".into(), &"FIRMWARE_CHECK".into())
    );
    assert_eq!(of(&lines, "file", "/etc/keys/x509_ima.der")["use"], "certificate");
    assert_eq!(of(&lines, "file", "/etc/ima/ima_policy.good")["result"], "allowed");
    let bad = of(&lines, "file", "/etc/ima/ima_policy.bad");
    assert_eq!((&bad["result"], &bad["line"]), (&"denied".into(), &3.into()));
    let ran = root.preflight(POLICY, &[]).exits(1);
    assert!(ran.stdout.contains("1 compressed module appraised as stored"), "{}", ran.stdout);
}

#[test]
fn certificates_are_held_against_the_keys() {
    let Some(root) = Root::new() else { return };
    let stranger = store(root.directory.path(), "p-384");
    let take = |store: &Path, from: &str, to: &str| {
        root.take(&store.join(from), Path::new(&format!("/etc/keys/{to}")));
    };
    take(&root.keys, "ima_keys/x509_ima.der", "x509_ima.der");
    take(&root.keys, "secondary_trusted_keys/secondary_trusted_key.der", "x509_secondary_ours.der");
    take(&stranger, "ima_keys/x509_ima.der", "x509_ima_theirs.der");
    root.write("/etc/keys/x509_evm.der", "junk", 0o644);
    root.sign();
    let lines = root.lines(POLICY, 1);
    for (name, message) in [
        ("x509_ima_theirs.der", Some(".ima rejects it: no trusted key has the name or identifier")),
        ("x509_evm.der", Some(".evm rejects it: DER: tag 0x6a instead of 0x30 at offset 0")),
        ("x509_ima.der", None),
        ("x509_secondary_ours.der", None),
    ] {
        let found = lines.iter().find(|line| line["path"] == format!("/etc/keys/{name}"));
        let said = found.and_then(|line| line["message"].as_str());
        match message {
            Some(message) => {
                assert!(said.is_some_and(|it| it.contains(message)), "{name}: {said:?}")
            }
            None => assert_eq!(said, None, "{name}"),
        }
    }
    let ran = root.preflight(POLICY, &[]).exits(1);
    assert!(ran.stdout.contains("rejected: no keyring accepts it (2)"), "{}", ran.stdout);
    // without a CA, only the faults of the certificate itself are found
    fs::remove_file(root.at("/etc/keys/x509_evm.der")).unwrap();
    let certificate = root.keys.join("ima_keys/x509_ima.der");
    run(args!["preflight", root.path(), "--policy", POLICY, "--cert", certificate]).exits(0);
}

/// Certificates that dracut loads are judged, too; a certificate that `.ima` rejects verifies no file.
#[test]
fn certificates_that_ima_refuses_verify_nothing() {
    let Some(root) = Root::new() else { return };
    let issued = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/certificate/issued");
    root.take(&issued.join("good.der"), Path::new("/etc/keys/ima/vendor"));
    root.take(&issued.join("no-usage.der"), Path::new("/etc/keys/ima/other.der"));
    root.write("/etc/keys/ima/text.pem", "-----BEGIN CERTIFICATE-----\n", 0o644);
    root.write("/etc/sysconfig/ima-policy", "apraise\n", 0o644);
    root.sign();
    let message = |lines: &[Value], path: &str| {
        let found = lines.iter().find(|line| line["path"] == path);
        found.and_then(|line| line["message"].as_str().map(str::to_owned))
    };
    let given = |certificates: &[&str], kernel: &str| {
        let mut args = args!["preflight", "--json", root.path(), "--policy", POLICY].to_vec();
        args.extend(args!["--kernel", kernel]);
        for name in certificates {
            args.extend(args!["--cert", issued.join(name)]);
        }
        run(args)
    };
    let ran = given(&["good.der", "authority.der"], "6.12").exits(1);
    assert_eq!(ran.stderr, "");
    let lines = ran.json();
    assert_eq!(message(&lines, "/etc/keys/ima/vendor"), None);
    let said = message(&lines, "/etc/keys/ima/other.der").unwrap();
    assert_eq!(said, ".ima rejects it: key usage lacks digitalSignature");
    let said = message(&lines, "/etc/keys/ima/text.pem").unwrap();
    assert_eq!(said, ".ima rejects it: PEM, but the kernel reads DER only");
    assert!(message(&lines, "/etc/sysconfig/ima-policy").is_some(), "a policy");
    // Linux 6.1 requires no key usage; the renewed authority has another serial number
    let lines = given(&["good.der", "authority.der"], "6.1").exits(1).json();
    assert_eq!(message(&lines, "/etc/keys/ima/other.der"), None);
    let refused = |certificates: &[&str]| given(certificates, "6.12").exits(1).stderr;
    let said = refused(&["no-usage.der", "authority.der"]);
    assert!(said.contains("rejects it: key usage lacks digitalSignature: files signed"), "{said}");
    let said = refused(&["serial-and-issuer.der", "authority-renewed.der"]);
    assert!(said.contains("rejects it: no trusted key has the name or identifier"), "{said}");
}

#[test]
fn file_systems_without_attributes_refuse_all() {
    let Some(root) = Root::new() else { return };
    root.take(Path::new("/usr/bin/true"), Path::new("/boot/program"));
    root.sign();
    let ran = root.preflight(POLICY, &["--fs", "/boot=vfat"]).exits(1);
    assert!(ran.stdout.contains("denied: no-attributes, without an audit record (1)"), "{ran:?}");
    assert!(ran.stdout.contains("init: /sbin/init: will run"), "{}", ran.stdout);
    let ran = root.preflight(POLICY, &["--fs", "vfatt"]).exits(2);
    assert!(ran.stderr.contains("no file system that is known here"), "{}", ran.stderr);
}

#[test]
fn init_is_looked_for_as_the_kernel_does() {
    let Some(root) = Root::new() else { return };
    fs::rename(root.at("/sbin/init"), root.at("/usr/bin/sh")).unwrap();
    symlink("usr/bin", root.at("/bin")).unwrap();
    symlink("/opt/none", root.at("/sbin/init")).unwrap();
    root.sign();
    let lines = root.lines(POLICY, 0);
    assert_eq!(of(&lines, "init", "/sbin/init")["result"], "absent");
    let sh = of(&lines, "init", "/bin/sh");
    assert_eq!((&sh["result"], &sh["file"]), (&"runs".into(), &"/usr/bin/sh".into()));
    let ran = root.preflight(POLICY, &["--init", "/usr/bin/nothing"]).exits(1);
    assert!(ran.stdout.contains("because none of /usr/bin/nothing is in the root"), "{ran:?}");
    fs::write(root.at("/usr/bin/text"), "text").unwrap();
    let ran = root.preflight(POLICY, &["--init", "/usr/bin/text"]).exits(1);
    assert!(ran.stdout.contains("because /usr/bin/text is no program"), "{}", ran.stdout);
}

#[test]
fn what_init_starts_is_read_from_its_table() {
    let Some(root) = Root::new() else { return };
    root.write("/etc/init.d/rcS", "#!/usr/bin/true\n", 0o755);
    root.write("/etc/inittab", "::sysinit:/etc/init.d/rcS\n::respawn:/sbin/getty 1\n", 0o644);
    root.sign();
    run(args!["clear", "--quiet", root.at("/etc/init.d/rcS")]).exits(0);
    let lines = root.lines(POLICY, 1);
    let step = of(&lines, "step", "/etc/init.d/rcS");
    assert_eq!((&step["result"], &step["asked_by"]), (&"denied".into(), &"/etc/inittab".into()));
    assert_eq!(of(&lines, "step", "/sbin/getty")["result"], "absent");
}

#[test]
fn reads_are_looked_at_where_the_policy_appraises_them() {
    let Some(root) = Root::new() else { return };
    root.write("/etc/hosts", "localhost\n", 0o644);
    root.sign();
    run(args!["clear", "--quiet", root.at("/etc/hosts")]).exits(0);
    let lines = root.lines(POLICY, 0);
    assert!(lines.iter().all(|line| line["path"] != "/etc/hosts"));
    let hosts = of(&root.lines("builtin:appraise_tcb", 1), "file", "/etc/hosts").clone();
    assert_eq!((&hosts["use"], &hosts["cause"]), (&"data".into(), &"missing-hash".into()));
    // rules with fowner=0 apply only to root's files
    std::os::unix::fs::chown(root.at("/etc/hosts"), Some(1000), None).unwrap();
    let lines = root.lines("builtin:appraise_tcb", 0);
    assert!(lines.iter().all(|line| line["path"] != "/etc/hosts"));
    let ran = root.preflight("builtin:appraise_tcb", &["--all-root"]).exits(1);
    assert!(ran.stdout.contains("denied: missing-hash (1)"), "{}", ran.stdout);
}

impl Root {
    /// Creates files with many types, links and owners.
    fn varied() -> Option<Self> {
        let root = Self::new()?;
        root.take(Path::new("/usr/bin/true"), Path::new("/usr/bin/unsigned"));
        root.write("/usr/bin/script", "#!/opt/link\n", 0o4755);
        root.write("/opt/data", "data", 0o600);
        symlink("/usr/bin/unsigned", root.at("/opt/link")).unwrap();
        let long = format!("{}usr/bin/true", "../".repeat(30));
        symlink(long, root.at("/opt/long-link")).unwrap();
        root.write("/usr/bin/by-long-link", "#!/opt/long-link\n", 0o755);
        fs::hard_link(root.at("/usr/bin/true"), root.at("/opt/hard")).unwrap();
        std::os::unix::fs::chown(root.at("/opt/data"), Some(70_000), Some(70_001)).unwrap();
        root.sign();
        run(args!["clear", "--quiet", root.at("/usr/bin/unsigned")]).exits(0);
        Some(root)
    }

    /// Writes it as a tar archive.
    fn archive(&self, compression: &str) -> Option<PathBuf> {
        let archive = self.directory.path().join("root.tar");
        let mut tar = tool("tar")?;
        tar.args(["--xattrs", "--xattrs-include=security.ima", compression, "-C"]);
        finish(tar.arg(self.path()).arg("-cf").arg(&archive).arg(".")).exits(0);
        Some(archive)
    }

    /// The result for a container is that for its directory.
    fn is_judged_as(&self, container: &Path) {
        for policy in [POLICY, "builtin:appraise_tcb"] {
            let expected = without_summary(self.lines(policy, 1));
            let words = args!["preflight", container, "--policy", policy, "--keys", self.keys];
            let lines = run(words.into_iter().chain(args!["--json", "--details"])).exits(1).json();
            assert_eq!(without_summary(lines), expected, "{policy}");
        }
    }
}

#[test]
fn a_tar_archive_comes_to_the_same_as_its_directory() {
    let Some(root) = Root::varied() else { return };
    for compression in ["--no-auto-compress", "--gzip"] {
        let Some(archive) = root.archive(compression) else { return };
        root.is_judged_as(&archive);
    }
}

#[test]
fn an_image_comes_to_the_same_as_its_directory() {
    let Some(root) = Root::varied() else { return };
    let Some(mut mke2fs) = tool("mke2fs") else { return };
    let image = root.directory.path().join("root.ext4");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-I", "256", "-d"]);
    finish(mke2fs.arg(root.path()).arg(&image).arg("32M")).exits(0);
    root.is_judged_as(&image);
}

#[test]
fn a_squashfs_image_comes_to_the_same_as_its_directory() {
    let Some(root) = Root::varied() else { return };
    // not sqfstar, which removes leading ../ from the targets of links
    let Some(mut mksquashfs) = tool("mksquashfs") else { return };
    let Some(_) = tool("sqfs2tar") else { return };
    let image = root.directory.path().join("root.squashfs");
    mksquashfs.arg(root.path()).arg(&image).args(["-quiet", "-no-progress", "-comp", "zstd"]);
    finish(&mut mksquashfs).exits(0);
    root.is_judged_as(&image);
    // truncated: reported as such
    let bytes = fs::read(&image).unwrap();
    fs::write(&image, &bytes[..bytes.len() / 2]).unwrap();
    run(args!["preflight", image, "--policy", POLICY, "--keys", root.keys]).exits(2);
}

/// The findings, without the duration.
fn without_summary(lines: Vec<Value>) -> Vec<Value> {
    lines.into_iter().filter(|line| line["type"] != "summary").collect()
}

#[test]
fn a_cut_archive_is_an_error() {
    let Some(root) = Root::new() else { return };
    let Some(mut tar) = tool("tar") else { return };
    let archive = root.directory.path().join("root.tar");
    finish(tar.arg("-C").arg(root.path()).arg("-cf").arg(&archive).arg(".")).exits(0);
    let whole = fs::read(&archive).unwrap();
    fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    let words = args!["preflight", archive, "--policy", POLICY, "--keys", root.keys];
    let ran = run(words).exits(2);
    assert!(ran.stderr.contains("truncated"), "{}", ran.stderr);
    // of a compressed archive, not even the first header may be complete
    finish(tool("gzip").unwrap().arg("-9f").arg(&archive)).exits(0);
    let archive = root.directory.path().join("root.tar.gz");
    let whole = fs::read(&archive).unwrap();
    for length in [20, whole.len() / 2] {
        fs::write(&archive, &whole[..length]).unwrap();
        let words = args!["preflight", archive, "--policy", POLICY, "--keys", root.keys];
        let ran = run(words).exits(2);
        assert!(!ran.stderr.contains("Not a directory"), "{}", ran.stderr);
        assert!(ran.stderr.contains("cannot read"), "{}", ran.stderr);
    }
}

#[test]
fn what_is_no_root_says_what_is() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let text = directory.path().join("text");
    fs::write(&text, "text").unwrap();
    let ran = run(args!["preflight", text, "--policy", POLICY, "--keys", keys]).exits(2);
    assert!(ran.stderr.contains("not a directory, tar archive"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: ROOT is a directory"), "{}", ran.stderr);
}

#[test]
fn old_kernels_know_no_p_521() {
    let Some(mut root) = Root::new() else { return };
    root.keys = store(root.directory.path(), "p-521");
    root.sign();
    root.preflight(POLICY, &["--kernel", "6.12"]).exits(0);
    let ran = root.preflight(POLICY, &["--kernel", "6.1"]).exits(1);
    assert!(ran.stdout.contains("unknown key"), "{}", ran.stdout);
}

#[test]
fn wrong_usage_is_told() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let words = args!["preflight", directory.path().join("no"), "--policy", POLICY, "--keys", keys];
    let ran = run(words).exits(2);
    assert!(ran.stderr.contains("No such file"), "{}", ran.stderr);
    let ran = run(args!["preflight", directory.path(), "--keys", keys]).exits(2);
    assert!(ran.stderr.contains("--policy"), "{}", ran.stderr);
}
