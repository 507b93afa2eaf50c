SUMMARY = "Linux file integrity (IMA/EVM), from keys to a kernel that refuses"
DESCRIPTION = "Makes keys, signs files, packages and images, checks policies, tells before the \
boot what the kernel will refuse, and reads back what it refused."

require imactl-source.inc

inherit pkgconfig

DEPENDS += "openssl"

# OpenEmbedded's OpenSSL, not one that the crate openssl-src builds.
CARGO_BUILD_FLAGS += "--package imactl --no-default-features"

BBCLASSEXTEND = "native nativesdk"
