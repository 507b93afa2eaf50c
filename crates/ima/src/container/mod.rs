//! Where signatures live: what is signed, verified, inspected and cleared.

mod detect;
pub mod image;
pub(crate) mod pool;
pub mod rpm;
mod selection;
pub mod source;
pub mod tar;
pub mod tree;

use std::path::Path;

pub use detect::{kind_of, mismatch, Mismatch};
pub use selection::{Only, Selection, SelectionError};

/// How many zeros of sparse files are digested in an archive or an image, unless more are
/// allowed. They take time and no room: a few KiB can ask for any number of them.
pub const MAX_SPARSE: u64 = 16 << 30;

/// Is told how far a run has come, from any thread.
pub trait Progress: Sync {
    /// Something of so many bytes was found.
    fn found(&self, bytes: u64);
    /// So many more bytes were read.
    fn read(&self, bytes: u64);
    /// One of what was found is done, of so many bytes, be they read or not.
    fn finished(&self, bytes: u64);
    /// A temporary file or directory of a run that was cut short is left out.
    fn left_out(&self, _path: &Path) {}
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn found(&self, _: u64) {}
    fn read(&self, _: u64) {}
    fn finished(&self, _: u64) {}
}
