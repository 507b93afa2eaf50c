//! The owners of keys: certificates of the user alone, two keys in one build, the sample key on the target.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{ensure, Context, Result};

use super::build::Build;
use super::cases::SAMPLE;
use super::{image, own_keys, PASSPHRASE};
use crate::{output, root};

/// Without private keys: signed packages come from shared state, and so do the files of the image. A file
/// that would have to be signed is an error, and leaves nothing for builds that have the key.
pub(super) fn certificates_alone(build: &Build, store: &Path, passphrase: &str) -> Result<()> {
    let certificates = build.directory().with_extension("certificates");
    if certificates.exists() {
        fs::remove_dir_all(&certificates)?;
    }
    let mut copy = Command::new("cp");
    output(copy.arg("-a").arg(store).arg(&certificates))?;
    output(Command::new("find").arg(&certificates).args(["-name", "*.key", "-delete"]))?;
    let configuration = own_keys(&certificates, "").replace("\"user\"", "\"verify\"");

    build.configure(&configuration)?;
    build.bitbake(&["-c", "clean", "lab-root", "ima-policy", "key-store"])?;
    let said = build.bitbake(&["lab-image"])?;
    ensure!(said.contains("files of the image would need the key"), "no list: {said}");
    let valid = image::valid_files(build, store)?;
    for name in ["init", "busybox", "script", "imactl-init", "hostname"] {
        ensure!(valid.iter().any(|valid| valid == name), "{name} is not among {valid:?}");
    }

    // meta-signing-key's own stores
    for series in ["scarthgap", "wrynose"] {
        let theirs = root().join(format!("testdata/key-stores/meta-signing-key-{series}"));
        build.configure(&own_keys(&theirs, "").replace("\"user\"", "\"verify\""))?;
        build.bitbake(&["-c", "prepare_keys", "key-store"])?;
    }

    let changed = "LAB_ROOT_EXTRA = \"another\"\n";
    build.configure(&format!("{configuration}{changed}"))?;
    let said = build.bitbake_fails(&["lab-image"])?;
    ensure!(said.contains("not in shared state with their signatures: lab-root"), "{said}");
    build.configure(&configuration)?;
    let said = build.bitbake_fails(&["-C", "install", "lab-module"])?;
    ensure!(said.contains("its modules would have to be signed"), "{said}");

    build.configure(&own_keys(store, passphrase))?;
    build.bitbake(&["lab-image"])?;
    image::check(build, store)?;
    image::check_packages(build, store)
}

/// Sample keys that someone else made serve another build directory, which cannot write there.
pub(super) fn team(build: &Build) -> Result<()> {
    let shared = build.directory().with_extension("team-keys");
    if shared.exists() {
        fs::remove_dir_all(&shared)?;
    }
    let mut copy = Command::new("cp");
    output(copy.arg("-a").arg(build.directory().join("sample-keys")).arg(&shared))?;
    output(Command::new("chown").args(["-R", "root:root"]).arg(&shared)).context("as root")?;
    output(Command::new("chmod").args(["-R", "a-w,g+rX,o+rX"]).arg(&shared))?;
    let own = build.variable("lab-image", "IMA_IDENTITY")?;
    build.configure(&format!("{SAMPLE}SAMPLE_KEYS_DIR = \"{}\"\n", shared.display()))?;
    let theirs = build.variable("lab-image", "IMA_IDENTITY")?;
    ensure!(own == theirs, "signed output of {own} is not used for the same keys, {theirs}");
    build.bitbake(&["-c", "cleansstate", "lab-image", "ima-policy", "key-store"])?;
    build.bitbake(&["lab-image"])?;
    image::check(build, &shared.join("store"))?;
    image::check_packages(build, &shared.join("store"))?;
    build.configure(SAMPLE)
}

/// Images and packages add their signatures to the cache once, and a wrong passphrase is detected even if
/// every signature is in the cache.
pub(super) fn cache(build: &Build, store: &Path, passphrase: &str) -> Result<()> {
    let cache = build.directory().with_extension("cache");
    if cache.exists() {
        fs::remove_dir_all(&cache)?;
    }
    fs::create_dir(&cache)?;
    build.give(&cache)?;
    let variable = format!("IMA_SIGNATURE_CACHE = \"{}\"\n", cache.display());
    build.configure(&own_keys(store, &format!("{passphrase}{variable}")))?;
    let mut sizes = Vec::new();
    for targets in [&["ima-policy"][..], &["lab-image"], &["ima-policy", "lab-image"]] {
        build.bitbake(&[&["-c", "cleansstate"], targets].concat())?;
        build.bitbake(targets)?;
        let files = fs::read_dir(&cache)?.collect::<Result<Vec<_>, _>>()?;
        ensure!(files.len() == 1, "one key has {} files", files.len());
        sizes.push(files[0].metadata()?.len());
    }
    // a cache file has a header of 32 bytes
    let grows = sizes[0] > 32 && sizes[1] > sizes[0] && sizes[2] == sizes[1];
    ensure!(grows, "the cache's sizes are {sizes:?}");
    image::check(build, store)?;

    let wrong = build.directory().with_extension("wrong-passphrase");
    fs::write(&wrong, "not it\n")?;
    let wrong = format!("IMA_PASSPHRASE_FILE = \"{}\"\n{variable}", wrong.display());
    build.configure(&own_keys(store, &wrong))?;
    build.bitbake(&["-c", "cleansstate", "key-store"])?;
    let said = build.bitbake_fails(&["key-store"])?;
    ensure!(said.contains("the passphrase does not decrypt"), "{said}");
    build.configure(&own_keys(store, passphrase))?;
    build.bitbake(&["lab-image"])?;
    Ok(())
}

/// One key for packages and another for an image, both certified by one CA: set for the recipe of an image, by a
/// class of images, and for the recipe of a package.
pub(super) fn two_keys(build: &Build, store: &Path, passphrase: &str) -> Result<()> {
    let other = build.directory().with_extension("other-key");
    if other.exists() {
        fs::remove_dir_all(&other)?;
    }
    let (key, certificate) = (other.join("root.key"), other.join("ima_keys/x509_ima.der"));
    fs::create_dir_all(other.join("ima_keys"))?;
    let mut generate = Command::new("openssl");
    generate.args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"]);
    output(generate.arg(&key))?;
    let public = other.join("root.pub");
    output(
        Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&key).arg("-out").arg(&public),
    )?;
    let mut certify = build.imactl();
    certify.args(["keys", "certify", "--passphrase-env", "PASSPHRASE", "--keys"]).arg(store);
    output(certify.arg("-o").arg(&certificate).arg(&public).env("PASSPHRASE", PASSPHRASE))?;
    build.give(&other)?;

    let with_other = |suffix: &str| {
        format!(
            "IMA_SIGNING_KEY{suffix} = \"{}\"\nIMA_SIGNING_CERT{suffix} = \"{}\"\nIMA_PASSPHRASE_ENV{suffix} = \"\"\n",
            key.display(),
            certificate.display()
        )
    };
    // a class for images, which BitBake finds in the build directory
    let class = build.directory().join("classes/lab-keys.bbclass");
    fs::create_dir_all(build.directory().join("classes"))?;
    fs::write(&class, with_other(""))?;
    let own = own_keys(store, passphrase);
    let extra = format!("IMA_EXTRA_CERTS = \"{}\"\n", certificate.display());
    for more in [with_other(":pn-lab-image"), "IMAGE_CLASSES += \"lab-keys\"\n".to_owned()] {
        build.configure(&format!("{own}{extra}{more}"))?;
        build.bitbake(&["lab-image"])?;
        image::check(build, &other)?;
        image::check_packages(build, store)?;
        build.configure(&own)?;
        build.bitbake(&["lab-image"])?;
        image::check(build, store)?;
    }

    // a package, in an image of which all files are signed again
    build.configure(&format!("{own}{extra}{}", with_other(":pn-lab-root")))?;
    build.bitbake(&["lab-image"])?;
    image::check(build, store)?;
    let find = ["-name", "lab-root-1*.rpm"];
    let found = String::from_utf8(output(Command::new("find").arg(build.packages()).args(find))?)?;
    let mut verify = build.imactl();
    output(verify.args(["verify", "--cert"]).arg(&certificate).arg(found.trim()))?;
    build.configure(&own)?;
    build.bitbake(&["lab-image"])?;
    image::check(build, store)?;
    image::check_packages(build, store)
}

/// The sample key is installed on the target on request, a user's key never. The certificate of another key
/// is installed in addition.
pub(super) fn key_on_target(build: &Build) -> Result<()> {
    let other = build.directory().join("conf/next.crt");
    let store = build.sample_store();
    fs::copy(store.join("ima_keys/x509_ima.crt"), &other)?;
    let wanted = format!(
        "{SAMPLE}IMA_SAMPLE_KEY_ON_TARGET = \"1\"\nIMA_EXTRA_CERTS = \"{}\"\n\
         IMAGE_INSTALL:append:pn-lab-image = \" key-store-sample-key\"\n",
        other.display()
    );
    build.configure(&wanted)?;
    let said = build.bitbake(&["lab-image"])?;
    ensure!(said.contains("images hold the private key"), "no warning: {said}");
    let valid = image::valid_files(build, &store)?;
    for name in ["x509_ima.key", "x509_ima_next.der"] {
        ensure!(valid.iter().any(|valid| valid == name), "{name} is not among {valid:?}");
    }
    build.configure(&wanted.replace("\"sample\"", "\"user\""))?;
    let said = build.bitbake_fails(&["lab-image"])?;
    ensure!(said.contains("only sample keys may be on the target"), "{said}");
    // no part of the key may be left when the build is searched for secrets
    build.configure(&wanted)?;
    build.bitbake(&["-c", "cleansstate", "lab-image", "key-store"])?;
    build.configure(SAMPLE)?;
    build.bitbake(&["lab-image"])?;
    Ok(())
}

/// The files of an image have EVM signatures, which the kernel enforces, except for those that the target
/// changes. If labels will change, or the key is missing, the image is refused.
pub(super) fn evm(build: &Build, meta: &Path) -> Result<()> {
    let policy = build.directory().join("conf/further");
    fs::write(&policy, "audit func=MODULE_CHECK\n")?;
    let policy = policy.display();
    let evm = format!("{SAMPLE}IMA_EVM = \"portable\"\nIMA_POLICY_ROOT = \"{policy}\"\n");
    build.configure(&evm)?;
    build.bitbake(&["lab-image", "integrity-initramfs"])?;
    let store = build.sample_store();
    let valid = image::valid_files_under_evm(build, &store)?;
    for name in ["init", "busybox", "script", "imactl-init"] {
        ensure!(valid.iter().any(|valid| valid == name), "{name} is not among {valid:?}");
    }
    ensure!(!valid.iter().any(|valid| valid == "hostname"), "hostname is immutable");
    let log = build.task_log("lab-image", "do_image_complete")?;
    for kind in ["tar", "ext4", "squashfs", "erofs", "wic"] {
        let wanted = format!(".{kind}: security.evm: ");
        ensure!(log.contains(&wanted), "{kind} is not among what was verified: {log}");
    }
    image::boot(build, &store)?;
    // no packages: they carry no EVM signatures
    image::runtime_cases(build, &store, meta, "portable", None)?;

    for (text, target, wanted) in [
        (
            "LAB_ROOT_EXTRA = \"../../.autorelabel\"\n",
            "lab-image",
            "label its files at the first boot",
        ),
        (
            "PACKAGE_INSTALL:pn-integrity-initramfs = \"imactl-init-initramfs ima-policy\"\n",
            "integrity-initramfs",
            "this initramfs has no certificate for EVM",
        ),
        ("LAB_ROOT_EXTRA = \"rpm\"\n", "lab-image", "packages carry no EVM signatures"),
    ] {
        build.configure(&format!("{evm}{text}"))?;
        let said = build.bitbake_fails(&[target])?;
        ensure!(said.contains(wanted), "{text}: nothing of {wanted:?} in: {said}");
    }
    build.configure(&format!("{SAMPLE}IMA_EVM = \"hmac\"\n"))?;
    let said = build.bitbake_fails(&["lab-image"])?;
    ensure!(said.contains("it is \"none\" or \"portable\""), "{said}");
    build.configure(SAMPLE)?;
    build.bitbake(&["lab-image", "integrity-initramfs"])?;
    let valid = image::valid_files_under_evm(build, &store)?;
    ensure!(valid.is_empty(), "EVM signatures were left: {valid:?}");
    image::check(build, &store).map(drop)
}

/// devtool's archive is signed before it is sent, and devtool's own script on the target writes the signatures.
pub(super) fn deploy_target(build: &Build, core: &Path) -> Result<()> {
    let place = build.directory().with_extension("deployed");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    let (files, target, bin) = (place.join("files"), place.join("target"), place.join("bin"));
    for directory in [&files, &target, &bin] {
        fs::create_dir_all(directory)?;
    }
    fs::write(files.join("program"), "#!/bin/sh\n")?;
    // instead of the network: the command runs here, with the local script
    let ssh = "#!/bin/sh\nfor word; do :; done\ncommand=$(echo \"$word\" | sed s:/tmp/devtool_deploy:$SCRIPT:)\n\
               exec sh -c \"$command\"\n";
    fs::write(bin.join("ssh"), ssh)?;
    output(Command::new("chmod").arg("0755").arg(bin.join("ssh")))?;
    let mut script = Command::new("python3");
    script.args([
        "-c",
        "import sys; sys.path[:0] = sys.argv[1:]; import devtool.deploy as deploy; \
                        print(deploy._prepare_remote_script(True, sys.argv[4], nocheckspace=True))",
    ]);
    for library in ["scripts/lib", "bitbake/lib", "meta/lib"] {
        script.arg(core.join(library));
    }
    fs::write(place.join("script.sh"), output(script.arg(&target))?)?;
    fs::write(place.join("script.list"), "0\n")?;
    let store = build.sample_store();
    let command = format!(
        "sh /tmp/devtool_deploy.sh files {0}/ {1}.list",
        target.display(),
        place.join("script").display()
    );
    let send = "tar -C \"$1\" -cf - . | \"$2\" -q root@target \"$3\"";
    let mut deploy = Command::new("bash");
    deploy.args(["-o", "pipefail", "-c", send, "bash"]).arg(&files);
    deploy.arg(root().join("meta-integrity/scripts/ima-ssh")).arg(command);
    let path = std::env::var("PATH").context("no PATH")?;
    deploy.env("PATH", format!("{}:{path}", bin.display())).env("SCRIPT", place.join("script"));
    deploy.env("IMACTL", build.directory().join("programs/imactl")).env("IMACTL_KEYS", &store);
    output(&mut deploy)?;
    let certificate = store.join("ima_keys/x509_ima.der");
    output(build.imactl().args(["verify", "--cert"]).arg(certificate).arg(target.join("program")))?;
    Ok(())
}
