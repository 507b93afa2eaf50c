//! The common parts of scenarios: the machine that enforces the default policy, and running a scenario
//! on each kernel.

use anyhow::{bail, Result};

use crate::host::{self, Missing};
use crate::image::{Image, Tree};
use crate::kernel::{self, Architecture, Kernel, Series, Variant};
use crate::keys::KeyStore;
use crate::machine::{keep_console, Disk, Ended, Guest, Machine};

/// The policy that the layer installs.
pub const DEFAULT_POLICY: &str =
    include_str!("../../meta-integrity/recipes-support/ima-policy/files/ima_policy.default");

/// The size of a root disk in bytes; most of it is a hole.
const ROOT_SIZE: u64 = 256 << 20;

/// A machine whose initramfs loads a policy and hands over to a root disk.
#[derive(Debug)]
pub struct Enforced {
    /// The machine, before it starts; a scenario may change it.
    pub machine: Machine,
    kind: &'static str,
    images: Vec<Image>,
}

impl Enforced {
    /// A machine with `root` as an ext4 disk, the store's certificates in kernel and initramfs, and
    /// `policy` in the initramfs.
    pub fn new(kernel: &Kernel, store: &KeyStore, root: &Tree, policy: &str) -> Result<Self> {
        Self::with_root(kernel, store, ("ext4", root.ext4(ROOT_SIZE)?), policy)
    }

    /// The same with any root disk: its file system, and the disk.
    pub fn with_root(
        kernel: &Kernel,
        store: &KeyStore,
        (kind, root): (&'static str, Image),
        policy: &str,
    ) -> Result<Self> {
        let initramfs =
            Tree::small_initramfs_for(kernel.architecture(), store, policy)?.initramfs()?;
        let machine = Machine::new(kernel)
            .trusting(&store.system_certificate()?)
            .trusting(&store.module_certificate()?)
            .append("ima_appraise=enforce")
            .initramfs(&initramfs)
            .disk(&root, Disk::Discarded);
        Ok(Self { machine, kind, images: vec![initramfs, root] })
    }

    /// Adds a disk, discarded after use: `/dev/vdb` and following.
    pub fn disk(mut self, image: Image) -> Self {
        self.machine = self.machine.disk(&image, Disk::Discarded);
        self.images.push(image);
        self
    }

    /// Boots until the agent is the init of the root disk, with the policy in force.
    pub fn boot(self) -> Result<Guest> {
        let mut guest = self.machine.boot()?;
        enforce(&mut guest, self.kind)?;
        Ok(guest)
    }
}

/// From the agent in the initramfs to the agent on the root disk with this file system: mounts the
/// disk, loads the policy by its path and switches the root.
pub fn enforce(guest: &mut Guest, kind: &str) -> Result<()> {
    guest.mount("/dev/vda", kind, "/sysroot")?.is_allowed();
    guest.load_policy("/etc/ima/ima_policy.default")?.is_allowed();
    match guest.switch_root("/sysroot", "/sbin/init")? {
        None => Ok(()),
        Some(refusal) => bail!("the init of the root: {refusal}"),
    }
}

/// Runs a scenario on the full kernel of a series. If the host lacks something, the scenario is skipped
/// with a message; if `CI=true` it fails, unless Debian's archive lacks it, too.
pub fn run(series: Series, scenario: impl FnOnce(&Kernel) -> Result<()>) {
    run_on(series, Variant::Full, scenario);
}

/// The same on a variant of the kernel.
pub fn run_on(series: Series, variant: Variant, scenario: impl FnOnce(&Kernel) -> Result<()>) {
    run_on_host(|| kernel::prepare(series, variant).and_then(|kernel| scenario(&kernel)));
}

/// The same on one of [`kernel::FOREIGN`].
pub fn run_foreign(
    (architecture, series): (Architecture, Series),
    scenario: impl FnOnce(&Kernel) -> Result<()>,
) {
    let prepared = || kernel::prepare_for(architecture, series, Variant::Full);
    run_on_host(|| prepared().and_then(|kernel| scenario(&kernel)));
}

/// Runs a scenario that needs no kernel of the lab; missing parts of the host are handled likewise.
pub fn run_on_host(scenario: impl FnOnce() -> Result<()>) {
    let Err(error) = scenario() else { return };
    let name = std::thread::current().name().unwrap_or("a scenario").to_owned();
    match error.downcast_ref::<Missing>() {
        // sources that Debian's archive lacks are not available everywhere; a named mirror has them
        Some(missing @ Missing::Source(_)) if std::env::var_os("IMACTL_RPM_GIT").is_none() => {
            host::say(&format!("SKIPPED {name}: {missing}"));
        }
        Some(missing) if !in_ci() => host::say(&format!("SKIPPED {name}: {missing}")),
        _ => {
            if let Some(ended) = error.downcast_ref::<Ended>() {
                keep_console(&ended.record.console);
            }
            panic!("{error:?}")
        }
    }
}

/// Whether nothing may be skipped.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Makes a test of each scenario on each kernel: `fn name(kernel: &Kernel) -> Result<()>`.
#[macro_export]
macro_rules! on_each_kernel {
    (@tests $kernel:ident $body:block) => {
        fn scenario($kernel: &$crate::kernel::Kernel) -> anyhow::Result<()> $body

        #[test]
        fn linux_6_1() {
            $crate::scenario::run($crate::kernel::Series::Linux6_1, scenario);
        }

        #[test]
        fn linux_6_12() {
            $crate::scenario::run($crate::kernel::Series::Linux6_12, scenario);
        }

        #[test]
        fn linux_7() {
            $crate::scenario::run($crate::kernel::Series::Linux7, scenario);
        }
    };
    ($($(#[$attribute:meta])* fn $name:ident($kernel:ident) $body:block)*) => {$(
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::on_each_kernel!(@tests $kernel $body);
        }
    )*};
}

/// The same, and on a kernel of each architecture: for scenarios whose trees are
/// `Tree::small_root_for(kernel.architecture())`.
#[macro_export]
macro_rules! on_each_architecture {
    ($($(#[$attribute:meta])* fn $name:ident($kernel:ident) $body:block)*) => {$(
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::on_each_kernel!(@tests $kernel $body);

            #[test]
            fn arm64() {
                $crate::scenario::run_foreign($crate::kernel::FOREIGN[0], scenario);
            }

            #[test]
            fn arm() {
                $crate::scenario::run_foreign($crate::kernel::FOREIGN[1], scenario);
            }
        }
    )*};
}
