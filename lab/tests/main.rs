//! Scenarios: what the kernel allows and refuses, a file each, on each kernel.

mod boot_certificates;
mod boot_debian;
mod boot_dracut;
mod boot_failures;
mod boot_initramfs;
mod boot_policies;
mod boot_roots;
mod boot_step;
mod key_algorithms;
mod limits;
mod machines;
mod modules_and_firmware;
mod ordinary_users;
mod other_file_systems;
mod policies;
mod policy_decisions;
mod policy_texts;
mod preflight;
mod rpm_packages;
mod scripts;
mod self_signed_certificate;
mod signed_programs;
mod signed_without_root;
mod tampered_programs;
mod this_machine;
mod unsigned_programs;
