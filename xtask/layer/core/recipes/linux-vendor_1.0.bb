LICENSE = "MIT"

inherit kernel
