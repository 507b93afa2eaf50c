//! The lab's kernels, and what their builds share with the rest of the lab.
//!
//! | module | purpose |
//! |---|---|
//! | [`kernel`] | builds kernels from Debian's sources and the layer's fragments |
//! | [`archive`] | fetches packages of other suites and architectures |
//! | [`cache`] | keeps results outside the checkout, named by their inputs |
//! | [`host`] | programs of the host, and the error if one is missing |
//!
//! A crate of its own: the first kernel can be built while the program is still being compiled.

#![warn(missing_docs)]

pub mod archive;
pub mod cache;
pub mod host;
pub mod kernel;
