SUMMARY = "Linux file integrity (IMA/EVM), from keys to a kernel that denies"
DESCRIPTION = "Creates keys; signs files, packages and images; checks policies; predicts what the kernel \
will deny, before the boot; and explains denials and measurements."

require imactl-source.inc

inherit bash-completion pkgconfig

DEPENDS += "openssl"

# OpenEmbedded's OpenSSL, not one that the crate openssl-src builds.
CARGO_BUILD_FLAGS += "--package imactl --bins --no-default-features"

# The native recipe has the program that writes man pages and completions.
CARGO_BUILD_FLAGS:append:class-native = " --package imactl-manual"
DEPENDS:append:class-target = " imactl-native"

do_install:append:class-target() {
    imactl-manual man ${D}${datadir} imactl
    imactl-manual completions ${D}${datadir}
}

PACKAGES =+ "${PN}-zsh-completion ${PN}-fish-completion"
SUMMARY:${PN}-zsh-completion = "Completions of imactl for zsh"
FILES:${PN}-zsh-completion = "${datadir}/zsh"
SUMMARY:${PN}-fish-completion = "Completions of imactl for fish"
FILES:${PN}-fish-completion = "${datadir}/fish"

BBCLASSEXTEND = "native nativesdk"
