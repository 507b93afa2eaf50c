//! The list, moved from kernel memory to files (`CONFIG_IMA_STAGING`, Linux 7.2).
//!
//! The list grows without end in kernel memory. With staging, its entries can be deleted there once they
//! are kept elsewhere. A [`Keeper`] does this in cycles:
//!
//! | step | after a crash here |
//! |---|---|
//! | the kernel stages its list | the list is staged: the next cycle continues from here |
//! | the staged entries become a new segment: a file that is there whole, or not at all | the last segment is also staged |
//! | all segments and the rest of the list are replayed, and result in the PCRs | the same |
//! | the kernel deletes what is staged, after it was compared with the segment | the list is in segments and kernel, each entry once |
//!
//! Nothing else is remembered. After a restart the entries of the last segment are in the kernel as well, or
//! not, and the list is that of the boot of the segments, or of a new one. Only one of these lists results
//! in the PCRs, which decide. This also holds after kexec, which hands over what was not deleted. The PCRs
//! are read after staging and before the rest of the list: they have at least what is staged, and at most
//! what is read. If none of the lists results in them, nothing is deleted.

mod error;
mod keeper;
mod kernel;
mod prune;
mod publish;
mod replayed;
mod snapshot;
mod store;

pub use error::KeepError;
pub use keeper::{Cycle, Keeper};
pub use kernel::{KernelList, Part, Securityfs, Stage};
pub use prune::{Coverage, EarlierBoot};
pub use publish::Publisher;
pub use snapshot::Snapshot;
