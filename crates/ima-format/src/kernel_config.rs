//! A kernel's configuration: `.config`, `/boot/config-*`, `/proc/config.gz` unpacked.
//!
//! Mirrors `conf_read_simple()` in `scripts/kconfig/confdata.c`:
//!
//! | line | value |
//! |---|---|
//! | `# Linux/x86 6.12.117 Kernel Configuration` | the version, in the third line |
//! | `CONFIG_NAME=y`, `CONFIG_NAME=m` | built in, a module |
//! | `CONFIG_NAME="text"`, `CONFIG_NAME=10` | a text, a number |
//! | `# CONFIG_NAME is not set` | off, as options that are not named |
//!
//! Of several lines about one option the last counts.

use crate::policy::version::KernelVersion;

/// Whether an option is built into a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Built {
    /// `=y`
    In,
    /// `is not set`
    Out,
}

/// A configuration.
#[derive(Debug, Clone, Copy)]
pub struct KernelConfig<'a> {
    text: &'a str,
}

impl<'a> KernelConfig<'a> {
    /// Reads a text; `None` if no line of it is about an option.
    pub fn parse(text: &'a str) -> Option<Self> {
        let is_option = |line: &str| {
            line.starts_with("CONFIG_")
                || (line.starts_with("# CONFIG_") && line.ends_with(" is not set"))
        };
        text.lines().any(is_option).then_some(Self { text })
    }

    /// The value of an option, `NAME` without `CONFIG_`, as it is written.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        let value = |line: &'a str| match line.strip_prefix("# CONFIG_") {
            Some(rest) => (rest.strip_suffix(" is not set")? == name).then_some(None),
            None => {
                let (found, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
                (found == name).then_some(Some(value))
            }
        };
        self.text.lines().rev().map(str::trim_end).find_map(value).flatten()
    }

    /// Whether an option is built in.
    pub fn built(&self, name: &str) -> Built {
        match self.value(name) {
            Some("y") => Built::In,
            _ => Built::Out,
        }
    }

    /// Whether an option is on, built in or as a module.
    pub fn has(&self, name: &str) -> bool {
        matches!(self.value(name), Some("y" | "m"))
    }

    /// The text of an option.
    pub fn string(&self, name: &str) -> Option<&'a str> {
        self.value(name)?.strip_prefix('"')?.strip_suffix('"')
    }

    /// The version in the head of the file.
    pub fn version(&self) -> Option<KernelVersion> {
        let head = self.text.lines().take(4);
        let mut versions = head.filter_map(|line| {
            let title = line.strip_prefix("# Linux/")?.strip_suffix(" Kernel Configuration")?;
            title.split_once(' ')?.1.parse().ok()
        });
        versions.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#\n# Automatically generated file; DO NOT EDIT.\n\
        # Linux/x86 6.12.117-yocto Kernel Configuration\n#\nCONFIG_IMA=y\nCONFIG_CRYPTO_SM3=m\n\
        CONFIG_IMA_DEFAULT_HASH=\"sha512\"\n# CONFIG_EVM is not set\nCONFIG_EVM_X=y\n\
        CONFIG_TWICE=y\n# CONFIG_TWICE is not set\n";

    #[test]
    fn options_are_read_as_kconfig_reads_them() {
        let config = KernelConfig::parse(TEXT).unwrap();
        assert_eq!((config.built("IMA"), config.built("CRYPTO_SM3")), (Built::In, Built::Out));
        assert!(config.has("IMA") && config.has("CRYPTO_SM3"));
        for name in ["EVM", "TWICE", "IM", "IMA_APPRAISE"] {
            assert!(!config.has(name), "{name}");
        }
        assert_eq!(config.string("IMA_DEFAULT_HASH"), Some("sha512"));
        assert_eq!(config.string("IMA"), None);
        assert_eq!(config.version(), Some(KernelVersion::V6_12));
        assert_eq!(KernelConfig::parse("CONFIG_IMA=y\n").unwrap().version(), None);
        assert!(KernelConfig::parse("appraise func=BPRM_CHECK\n").is_none());
    }
}
