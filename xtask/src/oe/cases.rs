//! Configurations that a build must refuse, secrets that it must not leave, and keys that it must support:
//! each with its own configuration, in a build directory that has an image.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};

use super::build::Build;
use super::{image, own_keys, PASSPHRASE};
use crate::output;

pub(super) const SAMPLE: &str = "SIGNING_MODEL = \"sample\"\n";
/// The PIN of the key in the token.
pub(super) const PIN: &str = "Pin-93517024-Huhn";
/// The environment variable of the passphrase.
pub(super) const VARIABLE: &str = "OUR_PASSPHRASE";

/// Configurations that must fail, with their error messages.
pub(super) fn refusals(build: &Build) -> Result<()> {
    let policies = build.directory().join("policies");
    let rule = "audit func=BPRM_CHECK\n";
    for (name, content) in [("a/one", rule), ("a/one.sig", rule), ("b/one", ""), ("a/default", "")]
    {
        let path = policies.join(name);
        fs::create_dir_all(path.parent().context("no directory")?)?;
        fs::write(path, content)?;
    }
    let root = |names: &[&str]| {
        let paths = names.iter().map(|name| policies.join(name).display().to_string());
        format!("IMA_POLICY_ROOT = \"{}\"\n", paths.collect::<Vec<_>>().join(" "))
    };
    for (text, wanted) in [
        (root(&["a/default"]), "ima_policy.default"),
        (root(&["a/one", "b/one"]), "under one name"),
        (root(&["a/one.sig"]), "has the name of a signature"),
        ("IMAGE_FSTYPES:append:pn-lab-image = \" f2fs\"\n".into(), "leave signatures behind"),
        ("IMAGE_INSTALL:pn-lab-image = \"imactl-init\"\n".into(), "will not reach init"),
        ("IMA_KERNEL_VERSION = \"5.9\"\n".into(), "5.9"),
        ("IMA_MEASURE = \"tcb\"\nDISTRO_FEATURES:append = \" luks\"\n".into(), "after unlocking"),
        ("IMACTL_INIT_CMDLINE = \"imactl.rots=skip\"\n".into(), "does not know the word"),
        ("IMA_PREFLIGHT_CPU = \"pentium\"\n".into(), "pentium"),
    ] {
        build.configure(&format!("{SAMPLE}{text}"))?;
        let said = build.bitbake_fails(&["lab-image"])?;
        ensure!(said.contains(wanted), "{text}: nothing of {wanted:?} in: {said}");
    }
    Ok(())
}

/// An rpm that does not write signatures must not be packaged, and an image that manages packages without
/// signatures must not be built.
pub(super) fn package_management(build: &Build) -> Result<()> {
    const RPM: &str = "IMAGE_INSTALL:append:pn-lab-image = \" rpm\"\n";
    for (text, target, wanted) in [
        ("LAB_RPM_WITHOUT = \"plugin\"\n", "rpm", "lacks rpm-plugins/ima.so:"),
        ("LAB_RPM_WITHOUT = \"macro\"\n", "rpm", "lacks the macro %__transaction_ima:"),
        ("IMA_SIGN_RPM = \"0\"\n", "lab-image", "IMA_SIGN_RPM is not"),
        ("LAB_ROOT_EXTRA = \"opkg\"\n", "lab-image", "opkg does not write signatures"),
    ] {
        build.configure(&format!("{SAMPLE}{RPM}{text}"))?;
        let said = build.bitbake_fails(&[target])?;
        ensure!(said.contains(wanted), "{text}: nothing of {wanted:?} in: {said}");
    }
    let warned = format!("{SAMPLE}{RPM}IMA_SIGN_RPM = \"0\"\nIMA_PACKAGE_CHECK = \"warn\"\n");
    build.configure(&warned)?;
    let said = build.bitbake(&["lab-image"])?;
    ensure!(said.contains("IMA_SIGN_RPM is not"), "no warning: {said}");
    build.configure(&format!("{SAMPLE}{RPM}"))?;
    build.bitbake(&["lab-image"])?;

    build.configure(&format!("{SAMPLE}PACKAGE_CLASSES = \"package_ipk\"\n"))?;
    let said = build.bitbake(&["-n", "ima-policy"])?;
    ensure!(said.contains("PACKAGE_CLASSES begins with package_ipk"), "no warning: {said}");
    // remove it from later images: its package would keep the signatures of these keys
    build.configure(SAMPLE)?;
    build.bitbake(&["-c", "clean", "rpm"]).map(drop)
}

/// An initramfs that would start the root without a policy must not be built.
pub(super) fn initramfs(build: &Build) -> Result<()> {
    const WITHOUT: &str =
        "PACKAGE_INSTALL:remove:pn-integrity-initramfs = \"imactl-init-initramfs\"\n";
    let modules = |names: &str| {
        format!(
            "{WITHOUT}PACKAGE_INSTALL:append:pn-integrity-initramfs = \" lab-framework\"\n\
             LAB_MODULES = \"{names}\"\n"
        )
    };
    for (text, wanted) in [
        (WITHOUT.to_owned(), "nothing in it loads the policy"),
        (modules("90-rootfs 99-finish"), "nothing in it loads the policy"),
        (modules("90-rootfs 91-overlayroot 98-imactl"), "/init.d/91-overlayroot starts the init"),
    ] {
        build.configure(&format!("{SAMPLE}{text}"))?;
        let said = build.bitbake_fails(&["integrity-initramfs"])?;
        ensure!(said.contains(wanted), "{text}: nothing of {wanted:?} in: {said}");
    }
    build.configure(&format!("{SAMPLE}{}", modules("90-rootfs 98-imactl 99-finish")))?;
    build.bitbake(&["integrity-initramfs"])?;
    build.configure(SAMPLE)?;
    build.bitbake(&["-c", "clean", "lab-framework"])?;
    build.bitbake(&["integrity-initramfs"])?;
    Ok(())
}

/// Images are verified in their final form, compressed or not; if that is impossible, a message says so.
pub(super) fn shipped(build: &Build) -> Result<()> {
    let types = |types: &str| format!("{SAMPLE}IMAGE_FSTYPES:pn-lab-image = \"{types}\"\n");
    let odd = "IMAGE_CMD:odd = \"echo > ${IMGDEPLOYDIR}/${IMAGE_NAME}.odd\"\n\
               IMAGE_TYPES:append = \" odd\"\n";
    let configuration = types("ext4.zst wic.zst squashfs tar.zst odd") + odd;
    build.configure(&configuration)?;
    let said = build.bitbake(&["lab-image"])?;
    ensure!(said.contains(".odd") && said.contains("were not verified"), "no warning: {said}");
    ensure!(!said.contains(".zst"), "it is not verified: {said}");
    let log = build.task_log("lab-image", "do_image_complete")?;
    for kind in ["ext4.zst", "wic.zst", "squashfs", "tar.zst"] {
        let mut lines = log.lines().filter(|line| line.ends_with(" files are signed"));
        let verified = lines.any(|line| line.contains(&format!(".{kind}: ")));
        ensure!(verified, "{kind} is not among what was verified: {log}");
    }
    let bare = "EXTRA_IMAGECMD:squashfs = \"-no-xattrs\"\n";
    build.configure(&(types("squashfs") + bare))?;
    let said = build.bitbake_fails(&["lab-image"])?;
    ensure!(said.contains("are not signed there"), "an image without attributes: {said}");
    build.configure(SAMPLE)
}

/// Excluded files are as in a clean build, even if they were signed before.
pub(super) fn exclude(build: &Build) -> Result<()> {
    build.configure(&format!("{SAMPLE}IMA_SIGN_EXCLUDE = \"etc/hostname\"\n"))?;
    build.bitbake(&["lab-image"])?;
    let bare = image::bare_files(build)?;
    ensure!(bare == ["hostname"], "without a signature: {bare:?}");
    build.configure(SAMPLE)?;
    build.bitbake(&["lab-image"])?;
    let bare = image::bare_files(build)?;
    ensure!(bare.is_empty(), "without a signature: {bare:?}");
    Ok(())
}

/// The log of bitbake's server never has the passphrase, whatever bitbake is called for, and however it ends.
///
/// The build is configured to read the passphrase from the environment.
pub(super) fn server_log(build: &Build, configuration: &str) -> Result<()> {
    for (more, arguments) in [
        ("", &["-e"][..]),
        ("", &["-s"]),
        ("", &["-n", "lab-image"]),
        ("", &["no-such-recipe"]),
        ("INHERIT += \"no-such-class\"\n", &["-p"]),
    ] {
        build.configure(&format!("{configuration}{more}"))?;
        let ended = build.attempt("bitbake", arguments)?;
        no_passphrase(build, &ended.1).with_context(|| format!("bitbake {arguments:?} {more}"))?;
    }
    build.configure(configuration)?;
    build.variable("lab-image", "PN")?;
    no_passphrase(build, "").context("bitbake-getvar")?;

    // a running server would keep the environment of its start
    build.bitbake(&["--kill-server"])?;
    let mut passing = build.clone();
    passing.set_environment("BB_ENV_PASSTHROUGH_ADDITIONS", VARIABLE);
    let (succeeded, said) = passing.attempt("bitbake", &["-e"])?;
    ensure!(!succeeded && said.contains("is a variable of BitBake"), "not refused: {said}");
    no_passphrase(build, &said).context("a variable that is passed through")
}

/// Neither the files at the top of the build directory nor the output have the passphrase.
fn no_passphrase(build: &Build, printed: &str) -> Result<()> {
    ensure!(!printed.contains(PASSPHRASE), "it was printed");
    let mut logs = 0;
    for entry in fs::read_dir(build.directory())? {
        let path = entry?.path();
        if path.is_file() {
            let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            ensure!(!text.contains(PASSPHRASE), "it is in {}", path.display());
            logs += usize::from(text.contains(VARIABLE));
        }
    }
    ensure!(logs > 0, "the server has logged no environment: there is nothing to see");
    Ok(())
}

/// A module outside the kernel's tree is signed with an encrypted key. Without a signature, with another
/// key's certificate or the wrong passphrase, the build fails.
pub(super) fn modules(build: &Build, store: &Path) -> Result<()> {
    let file = build.directory().with_extension("passphrase");
    fs::write(&file, format!("{PASSPHRASE}\n"))?;
    let ima = format!("IMA_PASSPHRASE_ENV = \"{VARIABLE}\"\n");
    let from_file = format!("MODSIGN_PASSPHRASE_FILE = \"{}\"\n", file.display());
    let from_environment = format!("MODSIGN_PASSPHRASE_ENV = \"{VARIABLE}\"\n");
    for passphrase in [&from_file, &from_environment] {
        build.configure(&own_keys(store, &format!("{ima}{passphrase}")))?;
        build.bitbake(&["-c", "cleansstate", "lab-module", "key-store"])?;
        build.bitbake(&["-c", "install", "lab-module"])?;
        let modules = build.variable("lab-module", "D")?;
        let find = ["-name", "lab.ko", "-exec", "tail", "-c", "28", "{}", "+"];
        let tail = output(Command::new("find").arg(modules.trim()).args(find))?;
        ensure!(tail == b"~Module signature appended~\n", "the module is not signed");
    }
    let other = store.join("ima_keys/x509_ima.der");
    let wrong = build.directory().with_extension("wrong-passphrase");
    fs::write(&wrong, "not it\n")?;
    for (text, wanted) in [
        (format!("{from_file}LAB_SIGN_FILE = \"false\"\n"), "modules without a signature"),
        (format!("{from_file}MODSIGN_CERT = \"{}\"\n", other.display()), "this key cannot sign"),
        (
            format!("MODSIGN_PASSPHRASE_FILE = \"{}\"\n", wrong.display()),
            "the passphrase does not decrypt",
        ),
    ] {
        build.configure(&own_keys(store, &format!("{ima}{text}")))?;
        build.bitbake(&["-c", "cleansstate", "lab-module", "key-store"])?;
        let said = build.bitbake_fails(&["-c", "install", "lab-module"])?;
        ensure!(said.contains(wanted), "{text}: nothing of {wanted:?} in: {said}");
    }
    Ok(())
}

/// A package with an OpenPGP signature and signed files.
pub(super) fn openpgp(build: &Build, store: &Path) -> Result<()> {
    let home = build.directory().with_extension("gnupg");
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::create_dir(&home)?;
    let mut gpg = Command::new("gpg");
    gpg.arg("--homedir").arg(&home).args(["--batch", "--passphrase", "lab", "--pinentry-mode"]);
    output(gpg.args(["loopback", "--quick-gen-key", "lab@example.org", "rsa2048", "sign", "0"]))?;
    let mut export = Command::new("gpg");
    let public = output(export.arg("--homedir").arg(&home).args(["--armor", "--export"]))?;
    // an agent started by root would serve the building user's gpg
    output(Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "all"]))?;
    build.give(&home)?;
    fs::set_permissions(&home, Permissions::from_mode(0o700))?;

    build.configure(&format!(
        "{SAMPLE}INHERIT += \"sign_rpm\"\nRPM_GPG_NAME = \"lab@example.org\"\n\
         RPM_GPG_PASSPHRASE = \"lab\"\nGPG_PATH = \"{}\"\n",
        home.display()
    ))?;
    build.bitbake(&["-c", "cleansstate", "ima-policy"])?;
    build.bitbake(&["-c", "package_write_rpm", "ima-policy"])?;
    let find = ["-name", "ima-policy-1.0-*.rpm"];
    let found = String::from_utf8(output(Command::new("find").arg(build.packages()).args(find))?)?;
    let package = found.lines().next().context("no package of ima-policy")?;
    let database = build.directory().with_extension("rpmdb");
    fs::create_dir_all(&database)?;
    let key = home.join("public.asc");
    fs::write(&key, public)?;
    let rpmkeys = || {
        let mut rpmkeys = Command::new("rpmkeys");
        rpmkeys.arg("--dbpath").arg(&database);
        rpmkeys
    };
    output(rpmkeys().arg("--import").arg(&key))?;
    let said = String::from_utf8(output(rpmkeys().args(["-Kv", package]))?)?;
    ensure!(said.contains("Signature") && said.contains(": OK"), "OpenPGP: {said}");
    let certificate = store.join("ima_keys/x509_ima.der");
    output(build.imactl().args(["verify", "--cert"]).arg(certificate).arg(package))?;
    build.configure(SAMPLE)
}

/// Signs with a key in a token; the PKCS#11 module finds its configuration by an environment variable.
pub(super) fn token(mut build: Build, store: &Path) -> Result<()> {
    let token = build.directory().with_extension("token");
    if token.exists() {
        fs::remove_dir_all(&token)?;
    }
    fs::create_dir_all(token.join("tokens"))?;
    let (configuration, pin) = (token.join("softhsm2.conf"), token.join("pin"));
    fs::write(&configuration, format!("directories.tokendir = {}/tokens\n", token.display()))?;
    fs::write(&pin, format!("{PIN}\n"))?;
    let plain = token.join("plain.pem");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkey", "-passin", "env:PASSPHRASE"]).env("PASSPHRASE", PASSPHRASE);
    openssl.arg("-in").arg(store.join("ima_keys/x509_ima.key")).arg("-out").arg(&plain);
    output(&mut openssl)?;
    let softhsm = || {
        let mut softhsm = Command::new("softhsm2-util");
        softhsm.env("SOFTHSM2_CONF", &configuration);
        softhsm
    };
    let new = ["--init-token", "--free", "--label", "lab", "--so-pin", "12345678", "--pin", PIN];
    output(softhsm().args(new))?;
    let import = ["--token", "lab", "--label", "ima", "--id", "01", "--pin", PIN, "--import"];
    output(softhsm().args(import).arg(&plain))?;
    fs::remove_file(&plain)?;
    build.give(&token)?;

    build.set_environment("SOFTHSM2_CONF", &configuration.display().to_string());
    build.configure(&own_keys(
        store,
        &format!(
            "IMA_TOKEN_ENV = \"SOFTHSM2_CONF\"\n\
             IMA_SIGNING_KEY = \"pkcs11:token=lab;object=ima?module-path={}\"\n\
             IMA_PASSPHRASE_FILE = \"{}\"\n\
             MODSIGN_PASSPHRASE_ENV = \"{VARIABLE}\"\n\
             PSEUDO_IGNORE_PATHS .= \",{}\"\n",
            module()?.display(),
            pin.display(),
            token.display()
        ),
    ))?;
    build.bitbake(&["lab-image"])?;
    image::check(&build, store).map(drop)
}

/// SoftHSM's PKCS#11 module.
fn module() -> Result<PathBuf> {
    const PLACES: [&str; 3] = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
    ];
    let found = PLACES.iter().map(PathBuf::from).find(|path| path.exists());
    found.context("softhsm2 is not installed")
}
