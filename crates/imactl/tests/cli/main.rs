//! The program as users run it, compared with other tools.

// first, because it defines a macro
#[macro_use]
mod support;

mod appended;
mod container_pages;
mod disk;
mod erofs;
mod evm;
mod evmctl;
mod evmctl_scripts;
mod golden;
mod image;
mod image_differential;
mod image_hostile;
mod initramfs;
mod interop;
mod interrupted;
mod keys;
mod keys_check;
mod keys_rotate;
mod kind_names;
mod kinds;
mod log;
mod manifest;
mod manifest_exported;
mod manifest_signed;
mod named_paths;
mod names;
mod no_room;
mod oci;
mod policy;
mod policy_pages;
mod preflight;
mod preflight_loader;
mod pseudo;
mod races;
mod revoke;
mod rpm;
mod rpm_differential;
mod rpm_forms;
mod selinux;
mod several;
mod sign;
mod signature_forms;
mod status;
mod tar;
mod tar_differential;
mod tar_memory;
mod terminal;
mod token;
mod transcript;
mod updates;
mod verity;
mod whole;
mod why;
