//! `imactl sign` for RPM packages

use clap::Args;
use ima::container::rpm::{Packages, Payload, ReservedSpace, SourcePackages, WeakDigests};

/// How packages are signed
#[derive(Debug, Args)]
#[command(next_help_heading = "Packages")]
pub(crate) struct SignRpmArgs {
    /// Use the space that the signature header reserves, if it suffices: the size of the package
    /// and the offset of its payload do not change; clear restores the space
    #[arg(long)]
    reserved_space: bool,
    /// Also sign digests of algorithms without collision resistance (md5, sha1)
    #[arg(long)]
    allow_weak_digests: bool,
    /// Sign the digests in the header without unpacking the payload to compare them: much faster,
    /// and safe only for packages whose OpenPGP signature or checksum was verified before
    #[arg(long, visible_alias = "no-payload")]
    trust_header: bool,
    /// Also sign source packages, although no kernel will see their files
    #[arg(long)]
    force: bool,
}

impl SignRpmArgs {
    /// Applies the options to packages.
    pub(super) fn set(&self, packages: &mut Packages) {
        packages.reserved = match self.reserved_space {
            true => ReservedSpace::Use,
            false => ReservedSpace::Keep,
        };
        packages.weak_digests = match self.allow_weak_digests {
            true => WeakDigests::Signed,
            false => WeakDigests::Refused,
        };
        packages.payload = match self.trust_header {
            true => Payload::Left,
            false => Payload::Unpacked,
        };
        packages.source_packages = match self.force {
            true => SourcePackages::Signed,
            false => SourcePackages::Refused,
        };
    }
}
