//! The kernel lab: the Linux kernel as the judge of what the project does.
//!
//! | module | what it does |
//! |---|---|
//! | [`kernel`] | builds kernels from Debian's sources and the layer's fragments |
//! | [`archive`] | fetches packages of other suites and architectures |
//! | [`keys`] | makes key stores |
//! | [`image`] | puts trees of files together, signs them, makes discs and initramfs of them |
//! | [`machine`] | boots them under QEMU and has the agent inside do things |
//! | [`audit`] | reads the kernel's records of denials |
//! | [`boot`] | boots them with imactl-init |
//! | [`random`] | generated cases |
//! | [`rpm`] | builds rpm as the layer does |
//! | [`scenario`] | what the scenarios in `tests/` share |
//!
//! The README tells how to run it and where it keeps things.

#![warn(missing_docs)]

pub mod archive;
pub mod audit;
pub mod boot;
pub mod cache;
pub mod host;
pub mod image;
pub mod kernel;
pub mod keys;
pub mod machine;
pub mod programs;
pub mod random;
pub mod rpm;
pub mod scenario;

pub use lab_agent as protocol;
