//! Where signatures live: what is signed, verified, inspected and cleared.

pub mod image;
mod kind;
mod pool;
pub mod rpm;
pub mod tar;
pub mod tree;

pub use kind::kind_of;

/// Is told how far a run has come, from any thread.
pub trait Progress: Sync {
    /// Something of so many bytes was found.
    fn found(&self, bytes: u64);
    /// So many more bytes were read.
    fn read(&self, bytes: u64);
    /// One of what was found is done.
    fn finished(&self);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn found(&self, _: u64) {}
    fn read(&self, _: u64) {}
    fn finished(&self) {}
}
