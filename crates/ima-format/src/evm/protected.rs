//! The attributes that a machine's EVM covers, in the order in which it hashes their values.
//!
//! Mirrors `evm_config_xattrnames`: `evm_config_default_xattrnames` and `evm_init_config` in
//! `security/integrity/evm/evm_main.c`, and `evm_write_xattrs` in `evm_secfs.c` (Linux 5.10 to 7.3).
//!
//! | | attribute | enabled by |
//! |---|---|---|
//! | 1 | `security.selinux` | `CONFIG_SECURITY_SELINUX` |
//! | 2 | `security.SMACK64` | `CONFIG_SECURITY_SMACK` |
//! | 3 | `security.SMACK64EXEC` | `CONFIG_EVM_EXTRA_SMACK_XATTRS` |
//! | 4 | `security.SMACK64TRANSMUTE` | the same |
//! | 5 | `security.SMACK64MMAP` | the same |
//! | 6 | `security.apparmor` | `CONFIG_SECURITY_APPARMOR` |
//! | 7 | `security.ima` | `CONFIG_IMA_APPRAISE` |
//! | 8 | `security.capability` | always |
//! | 9 | names written to `evm/evm_xattrs`, in that order | the write |
//!
//! HMACs and inode-bound signatures cover those that are enabled, portable signatures all of the list.
//! Before Linux 5.14, those that are not enabled are not in the list. So writing such a name appends
//! it there; since then, it is enabled at its place.

use alloc::vec::Vec;
use core::fmt;

use crate::policy::kernel::{Built, Feature, Kernel, KernelVersion};
use crate::xattr::AttributeName;

/// `XATTR_SECURITY_PREFIX`
const PREFIX: &str = "security.";
/// `XATTR_NAME_MAX`, in bytes.
const NAME_MAX: usize = 255;

/// The attributes that EVM covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protected {
    /// In order; those that are out are covered by portable signatures only.
    list: Vec<(AttributeName, Built)>,
}

/// All that the kernel knows, as with every security module.
impl Default for Protected {
    fn default() -> Self {
        Self { list: DEFAULTS.map(|(name, _)| (name, Built::In)).into() }
    }
}

/// An attribute of `evm_config_default_xattrnames`, and the option that enables it.
type Row = (AttributeName, fn(&Kernel) -> Built);

const DEFAULTS: [Row; 8] = [
    (AttributeName::Selinux, |kernel| kernel.evm.selinux),
    (AttributeName::Smack, |kernel| kernel.evm.smack),
    (AttributeName::SmackExec, |kernel| kernel.evm.extra_smack),
    (AttributeName::SmackTransmute, |kernel| kernel.evm.extra_smack),
    (AttributeName::SmackMmap, |kernel| kernel.evm.extra_smack),
    (AttributeName::AppArmor, |kernel| kernel.evm.apparmor),
    (AttributeName::Ima, |kernel| kernel.appraise),
    (AttributeName::Capability, |_| Built::In),
];

/// Why a name cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// It does not begin with `security.`.
    Prefix,
    /// It has more than 255 bytes.
    TooLong,
    /// A single dot, which makes the list final.
    Lock,
    /// It is in the list.
    Present,
    /// The attribute with the signature itself. The kernel accepts it, and no file that has one is
    /// valid from then on.
    Itself,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "the kernel rejects names that do not begin with security. (EINVAL)",
            Self::TooLong => "the kernel rejects names of more than 255 bytes (E2BIG)",
            Self::Lock => "not a name: the kernel accepts no further names after a dot",
            Self::Present => "the kernel rejects names that are in its list already (EEXIST)",
            Self::Itself => "no value of security.evm can cover itself",
        })
    }
}

#[cfg(feature = "std")]
impl std::error::Error for NameFault {}

impl Protected {
    /// The list of a kernel at boot.
    pub fn of(kernel: &Kernel) -> Self {
        let keeps_all = kernel.version.has(Feature::EvmPortable);
        let list = DEFAULTS.map(|(name, built)| (name, built(kernel)));
        let mut list = Vec::from(list);
        list.retain(|(_, built)| keeps_all || *built == Built::In);
        Self { list }
    }

    /// The list of a running kernel, whose `evm/evm_xattrs` has these lines: those that are enabled.
    pub fn of_securityfs(version: KernelVersion, text: &str) -> Self {
        let names: Vec<_> = text.lines().map(AttributeName::named).collect();
        let known = DEFAULTS.iter().map(|(name, _)| *name);
        let further = |name: &AttributeName| !known.clone().any(|known| known == *name);
        let list = match version.has(Feature::EvmPortable) {
            true => {
                let state = |name| match names.contains(&name) {
                    true => (name, Built::In),
                    false => (name, Built::Out),
                };
                let further = names.iter().copied().filter(further);
                known.clone().map(state).chain(further.map(|name| (name, Built::In))).collect()
            }
            false => names.iter().map(|name| (*name, Built::In)).collect(),
        };
        Self { list }
    }

    /// Adds a name as the kernel does when it is written to `evm/evm_xattrs`, with or without a newline.
    ///
    /// # Errors
    /// A name that the kernel rejects, or that makes all files invalid.
    pub fn add(&mut self, name: &str) -> Result<(), NameFault> {
        let name = name.strip_suffix('\n').unwrap_or(name);
        if name.len() > NAME_MAX {
            return Err(NameFault::TooLong);
        }
        if name == "." {
            return Err(NameFault::Lock);
        }
        if !name.starts_with(PREFIX) {
            return Err(NameFault::Prefix);
        }
        if name == AttributeName::Evm.as_str() {
            return Err(NameFault::Itself);
        }
        match self.list.iter_mut().find(|(listed, _)| listed.as_str() == name) {
            Some((_, Built::In)) => return Err(NameFault::Present),
            Some((_, built)) => *built = Built::In,
            None => self.list.push((AttributeName::named(name), Built::In)),
        }
        Ok(())
    }

    /// The attributes that a portable signature covers.
    pub fn by_portable_signatures(&self) -> impl Iterator<Item = AttributeName> + '_ {
        self.list.iter().map(|(name, _)| *name)
    }

    /// The attributes that HMACs and inode-bound signatures cover.
    pub fn by_inode(&self) -> impl Iterator<Item = AttributeName> + '_ {
        let enabled = self.list.iter().filter(|(_, built)| *built == Built::In);
        enabled.map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;
    use crate::kernel_config::KernelConfig;

    /// As of the lab's kernels: no security module.
    fn kernel(version: KernelVersion, options: &str) -> Kernel {
        let text = std::format!("CONFIG_EVM=y\nCONFIG_IMA_APPRAISE=y\n{options}");
        Kernel::new(version).configured(&KernelConfig::parse(&text).unwrap())
    }

    fn names(names: impl Iterator<Item = AttributeName>) -> String {
        let names: Vec<_> = names.map(|name| name.as_str().trim_start_matches(PREFIX)).collect();
        names.join(" ")
    }

    #[test]
    fn the_configuration_selects_the_attributes() {
        const ALL: &str =
            "selinux SMACK64 SMACK64EXEC SMACK64TRANSMUTE SMACK64MMAP apparmor ima capability";
        for (options, enabled) in [
            ("", "ima capability"),
            ("CONFIG_SECURITY_SELINUX=y\n", "selinux ima capability"),
            ("CONFIG_SECURITY_SMACK=y\n", "SMACK64 ima capability"),
            (
                "CONFIG_SECURITY_SMACK=y\nCONFIG_EVM_EXTRA_SMACK_XATTRS=y\n",
                "SMACK64 SMACK64EXEC SMACK64TRANSMUTE SMACK64MMAP ima capability",
            ),
            ("CONFIG_SECURITY_APPARMOR=y\n", "apparmor ima capability"),
        ] {
            for version in [KernelVersion::V6_1, KernelVersion::V6_12, KernelVersion::V7_3] {
                let protected = Protected::of(&kernel(version, options));
                assert_eq!(names(protected.by_inode()), enabled, "{version}");
                assert_eq!(names(protected.by_portable_signatures()), ALL, "{version}");
            }
            let protected = Protected::of(&kernel(KernelVersion::V5_10, options));
            assert_eq!(names(protected.by_inode()), enabled);
            assert_eq!(names(protected.by_portable_signatures()), enabled);
        }
        assert_eq!(names(Protected::default().by_inode()), ALL);
        assert_eq!(Protected::of(&Kernel::default()), Protected::default(), "if it is not known");
    }

    #[test]
    fn names_are_added_as_the_kernel_adds_them() {
        let mut protected = Protected::of(&kernel(KernelVersion::V6_1, ""));
        assert_eq!(protected.add("security.b"), Ok(()));
        assert_eq!(protected.add("security.a\n"), Ok(()));
        assert_eq!(protected.add("security.apparmor"), Ok(()));
        let enabled = "apparmor ima capability b a";
        assert_eq!(names(protected.by_inode()), enabled, "at its place, the others in order");
        for (name, fault) in [
            ("user.a", NameFault::Prefix),
            ("", NameFault::Prefix),
            ("trusted.security.a", NameFault::Prefix),
            ("security.a", NameFault::Present),
            ("security.ima", NameFault::Present),
            ("security.apparmor", NameFault::Present),
            ("security.evm", NameFault::Itself),
            (".", NameFault::Lock),
            (".\n", NameFault::Lock),
        ] {
            assert_eq!(protected.add(name), Err(fault), "{name}");
        }
        let long = |length: usize| String::from(PREFIX) + &"x".repeat(length - PREFIX.len());
        assert_eq!(protected.add(&long(256)), Err(NameFault::TooLong));
        assert_eq!(protected.add(&long(255)), Ok(()));

        let mut before = Protected::of(&kernel(KernelVersion::V5_10, ""));
        assert_eq!(before.add("security.apparmor"), Ok(()));
        assert_eq!(names(before.by_inode()), "ima capability apparmor", "at the end");
    }

    #[test]
    fn a_running_kernel_shows_what_is_enabled() {
        let text = "security.ima\nsecurity.capability\nsecurity.b\nsecurity.a\n";
        let protected = Protected::of_securityfs(KernelVersion::V6_1, text);
        let mut expected = Protected::of(&kernel(KernelVersion::V6_1, ""));
        expected.add("security.b").unwrap();
        expected.add("security.a").unwrap();
        assert_eq!(protected, expected);
        let text = "security.ima\nsecurity.capability\nsecurity.selinux\n";
        let protected = Protected::of_securityfs(KernelVersion::V5_10, text);
        assert_eq!(names(protected.by_portable_signatures()), "ima capability selinux");
    }
}
