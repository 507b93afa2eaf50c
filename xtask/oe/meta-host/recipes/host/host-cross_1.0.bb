SUMMARY = "Wrappers that a build without a kernel and without emulation does not call"
LICENSE = "MIT"

inherit native

PROVIDES += "depmodwrapper-cross qemuwrapper-cross"

INHIBIT_DEFAULT_DEPS = "1"
PATCHDEPENDENCY = ""
deltask do_create_spdx
