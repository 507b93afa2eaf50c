SUMMARY = "Initramfs stage: loads certificates and policies, switches root"
DESCRIPTION = "One static program without a C library, as /init of an initramfs of its own or as \
the last step of another's. On the real root it serves as a switch_root that is signed."

require imactl-source.inc

# It has its own start code, one for each architecture.
COMPATIBLE_HOST = "(x86_64|i.86|aarch64|arm|riscv64).*-linux.*"

CARGO_BUILD_FLAGS += "--package imactl-init --features start"

# As `cargo xtask init` does: small, and without unwinding.
export CARGO_PROFILE_RELEASE_PANIC = "abort"
export CARGO_PROFILE_RELEASE_OPT_LEVEL = "z"
export CARGO_PROFILE_RELEASE_LTO = "fat"
export CARGO_PROFILE_RELEASE_DEBUG = "0"

require imactl-init-roles.inc

# for imactl-manual
DEPENDS += "imactl-native"

do_install:append() {
    imactl-manual man ${D}${datadir} imactl-init
    install -D -m 0755 ${S}/contrib/initramfs-framework/imactl ${D}/init.d/98-imactl
}

PACKAGES =+ "initramfs-module-imactl"

SUMMARY:initramfs-module-imactl = "imactl-init as the last step of an initramfs-framework image"
FILES:initramfs-module-imactl = "/init.d/98-imactl"
RDEPENDS:initramfs-module-imactl = "${PN} initramfs-framework-base"

# It is static on purpose, and linked without the flags that a C library asks for.
INSANE_SKIP:${PN} += "already-stripped ldflags"
