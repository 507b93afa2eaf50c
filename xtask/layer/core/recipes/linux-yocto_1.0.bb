LICENSE = "MIT"

inherit kernel kernel-yocto
