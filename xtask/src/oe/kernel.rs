//! Certificates and a module of a kernel, as its own makefiles make them from the arguments that the layer passes to
//! make: the CA's certificate and the module key.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};

use super::build::{layer, Build};
use super::PASSPHRASE;
use crate::{output, root};

/// Debian's package of a kernel's source.
const SOURCE: &str = "/usr/src/linux-source-6.12.tar.xz";
/// The options besides those of the layer: a small kernel with one module.
const OPTIONS: &str = "CONFIG_64BIT=y\nCONFIG_CRC7=m\n";

/// The kernel has the CA's certificate and that of the module key, and the module a signature by that key. The
/// files that the arguments name are those of the last build of lab-module.
pub(super) fn keys(build: &Build, store: &Path) -> Result<()> {
    let arguments = build.variable("lab-module", "EXTRA_OEMAKE")?;
    let arguments: Vec<_> =
        arguments.split_whitespace().filter(|word| word.starts_with("CONFIG_")).collect();
    ensure!(arguments.len() == 2, "the arguments of make are {arguments:?}");

    let object = build.directory().with_extension("kernel");
    if object.exists() {
        fs::remove_dir_all(&object)?;
    }
    fs::create_dir(&object)?;
    let mut options = String::from(OPTIONS);
    for name in ["integrity", "ima", "modsign"] {
        let path = layer().join(format!("recipes-kernel/linux/linux-yocto/{name}.cfg"));
        options += &fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    }
    let wanted = object.join("wanted.config");
    fs::write(&wanted, options)?;
    let source = unpacked()?;
    let make = |targets: &str| {
        // BitBake's oe_runmake leaves the quotation marks to a shell, too
        let script = format!("make -s -j2 -C \"$1\" O=\"$2\" {} {targets}", arguments.join(" "));
        let mut make = Command::new("sh");
        make.args(["-ec", &script, "sh"]).arg(&source).arg(&object);
        make.env("KCONFIG_ALLCONFIG", &wanted).env("KBUILD_SIGN_PIN", PASSPHRASE);
        make.env("INSTALL_MOD_PATH", object.join("installed")).env("KBUILD_MODPOST_WARN", "1");
        for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
            make.env_remove(name);
        }
        output(&mut make).with_context(|| format!("make {targets}"))
    };
    make("allnoconfig")?;
    make("certs/")?;
    make("modules")?;
    // lists that only a whole build writes
    for name in ["modules.builtin", "modules.builtin.modinfo"] {
        fs::write(object.join(name), "")?;
    }
    make("modules_install")?;

    let linked = fs::read(object.join("certs/system_certificates.o"))?;
    let module_key = store.join("modsign_keys/modsign_key.crt");
    for certificate in [&store.join("system_trusted_keys/system_trusted_key.crt"), &module_key] {
        let mut convert = Command::new("openssl");
        let der = output(convert.args(["x509", "-outform", "DER", "-in"]).arg(certificate))?;
        let built_in = linked.windows(der.len()).any(|part| part == der);
        ensure!(built_in, "{} is not in the kernel", certificate.display());
    }
    let mut find = Command::new("find");
    let found = output(find.arg(object.join("installed")).args(["-name", "crc7.ko*"]))?;
    let module = String::from_utf8(found)?;
    let mut verify = build.imactl();
    verify.args(["verify", "--appended", "--cert"]).arg(&module_key).arg(module.trim());
    output(&mut verify).context("the module's signature")?;
    Ok(())
}

/// The unpacked source.
fn unpacked() -> Result<PathBuf> {
    let place = root().join("target/oe/linux");
    if !place.exists() {
        let new = place.with_extension("new");
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::create_dir_all(&new)?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--strip-components=1", "--file", SOURCE, "--directory"]);
        output(tar.arg(&new)).context("Debian: apt-get install linux-source-6.12")?;
        fs::rename(&new, &place)?;
    }
    Ok(place)
}
