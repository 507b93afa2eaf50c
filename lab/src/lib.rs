//! The kernel lab: tests the project's results with the Linux kernel.
//!
//! | module | purpose |
//! |---|---|
//! | [`kernel`], [`archive`], [`cache`], [`host`] | the crate `lab-kernels` |
//! | [`keys`] | makes key stores |
//! | [`image`] | makes trees of files, signs them, and makes disks and initramfs images of them |
//! | [`machine`] | boots them under QEMU, and sends requests to the agent inside |
//! | [`audit`] | reads the kernel's records of denials |
//! | [`boot`] | boots them with imactl-init |
//! | [`random`] | generates cases |
//! | [`rpm`] | builds rpm as the layer does |
//! | [`scenario`] | the common parts of the scenarios in `tests/` |
//!
//! The README explains how to run it and where it keeps files.

#![warn(missing_docs)]

pub mod audit;
pub mod boot;
pub mod image;
pub mod keys;
pub mod machine;
pub mod programs;
pub mod random;
pub mod rpm;
pub mod scenario;

pub use lab_agent as protocol;
pub use lab_kernels::{archive, cache, host, kernel};
