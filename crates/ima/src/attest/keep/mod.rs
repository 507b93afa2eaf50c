//! Moving the list from kernel memory to files (`CONFIG_IMA_STAGING`, Linux 7.2).
//!
//! In kernel memory the list grows without limit. With staging, the kernel can delete entries once they are stored
//! elsewhere. A [`Keeper`] does this in cycles:
//!
//! | step | after a crash here |
//! |---|---|
//! | the kernel stages its list | the list is staged: the next cycle continues from here |
//! | the staged entries become a new segment: a file that is complete or missing | the last segment is also staged |
//! | all segments and the rest of the list are replayed, and result in the PCRs | the same |
//! | the staged entries are compared with the segment, and the kernel deletes them | the list is in segments and kernel, each entry once |
//!
//! No other state is kept. After a restart, the entries of the last segment may be in the kernel as well or not,
//! and the list may be of the boot of the segments or of a new one. Only one of these combinations results in the
//! PCRs, which decide. This also holds after kexec, which hands over the entries that were not deleted. The PCRs
//! are read after staging and before the rest of the list: they cover at least the staged entries, and at most
//! those that are read. If no combination results in them, nothing is deleted.

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
