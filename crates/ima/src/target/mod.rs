//! Where signatures live: what is signed, verified, inspected and cleared.

pub mod tree;
