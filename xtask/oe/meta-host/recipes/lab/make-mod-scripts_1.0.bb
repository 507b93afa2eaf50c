SUMMARY = "What modules depend on, without a kernel to make it from"
LICENSE = "MIT"

INHIBIT_DEFAULT_DEPS = "1"
do_compile[noexec] = "1"
do_install[noexec] = "1"
