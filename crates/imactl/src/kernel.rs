//! The target kernel: arguments, as typed and resolved.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use ima::compression::decoder;
use ima::input;
use ima::key::acceptance::Rules;
use ima_format::kernel_config::KernelConfig;
use ima_format::kind::{Compression, Content};
use ima_format::policy::kernel::{Built, Kernel, KernelVersion};

use crate::error::{hinted, Context, Result};
use crate::output::Output;

/// The maximum size of a configuration in bytes; some 300,000 are usual.
const CONFIG_MAX: u64 = 16 << 20;

/// The kernel that a policy is meant for
#[derive(Debug, Args)]
#[command(next_help_heading = "Kernel")]
pub(crate) struct KernelArgs {
    /// The kernel's version, 5.10 or later, as uname -r prints it; the sources of 5.10, 6.1, 6.12, 7.2 and
    /// 7.3 were read (docs/kernels.md) [default: that of --kernel-config, or 6.12]
    #[arg(long, value_name = "VERSION")]
    kernel: Option<KernelVersion>,
    /// The kernel's configuration: .config, /boot/config-*, /proc/config.gz [default: that of the layer
    /// meta-integrity is assumed]
    #[arg(long, value_name = "FILE")]
    kernel_config: Option<PathBuf>,
}

/// A kernel, and its keyrings.
pub(crate) struct Target {
    pub(crate) kernel: Kernel,
    pub(crate) rules: Rules,
}

impl KernelArgs {
    /// A kernel of this version and configuration.
    pub(crate) fn resolve(&self) -> Result<Kernel> {
        Ok(self.target()?.kernel)
    }

    /// A kernel of this version and configuration, and its keyrings.
    pub(crate) fn target(&self) -> Result<Target> {
        target(self.kernel, self.config())
    }

    /// The file with the configuration.
    pub(crate) fn config(&self) -> Option<&Path> {
        self.kernel_config.as_deref()
    }
}

/// A kernel of this version and configuration, as far as they are given.
pub(crate) fn target(version: Option<KernelVersion>, config: Option<&Path>) -> Result<Target> {
    let Some(path) = config else {
        let kernel = Kernel::new(version.unwrap_or(KernelVersion::V6_12));
        return Ok(Target { rules: Rules::of(&kernel), kernel });
    };
    let text = read(path)?;
    let Some(config) = KernelConfig::parse(&text) else {
        return Err(hinted(
            format!("{}: not the configuration of a kernel", path.display()),
            "give .config, /boot/config-VERSION, or /proc/config.gz (CONFIG_IKCONFIG_PROC)",
        ));
    };
    if config.built("IMA") == Built::Out {
        return Err(hinted(
            format!("{}: CONFIG_IMA is not set: this kernel has no IMA", path.display()),
            "give the configuration of the kernel that will run",
        ));
    }
    let version = version.or(config.version()).with_context(|| {
        format!("{}: no version in its head: give --kernel, too", path.display())
    })?;
    let kernel = Kernel::new(version).configured(&config);
    Ok(Target { rules: Rules::of(&kernel).configured(&config), kernel })
}

/// The text of a configuration, decompressed if needed.
fn read(path: &Path) -> Result<String> {
    let bytes = input::read_path(path, CONFIG_MAX)?;
    let bytes = match Content::of(&bytes) {
        Some(Content::Compressed(compression @ Compression::Gzip)) => {
            let mut plain = Vec::new();
            let mut decoder = decoder(compression, &*bytes).at(path)?;
            decoder.by_ref().take(CONFIG_MAX).read_to_end(&mut plain).at(path)?;
            plain
        }
        _ => bytes,
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The source of the answers for a version, as in JSON.
pub(crate) fn source(version: KernelVersion) -> &'static str {
    match version.is_verified() {
        true => "read",
        false => "history",
    }
}

/// Warns if the grammar of a version was not read from the kernel's source.
pub(crate) fn warn_of_hearsay(version: KernelVersion, output: &mut Output) {
    if !version.is_verified() && !output.is_json() {
        let text = format!(
            "the source of Linux {version} was not read: its rules are taken from the versions \
             before and after it, and from the kernel's history"
        );
        output.warn(&text);
    }
}
