SUMMARY = "Initramfs that secures the kernel and hands over to a signed root file system"
DESCRIPTION = "imactl-init is its only program: it finds root=, loads certificates and the policy, \
and switches root."
LICENSE = "MIT"

inherit features_check

REQUIRED_DISTRO_FEATURES = "ima"

PACKAGE_INSTALL = "packagegroup-ima-initramfs imactl-init-initramfs"

IMAGE_FSTYPES = "${INITRAMFS_FSTYPES}"
IMAGE_NAME_SUFFIX ?= ""
IMAGE_FEATURES = ""
IMAGE_LINGUAS = ""
PACKAGE_EXCLUDE = "kernel-image-*"
IMAGE_ROOTFS_SIZE = "4096"
IMAGE_ROOTFS_EXTRA_SPACE = "0"

inherit image

# Its content is this one program; the kernel's modules come with the root file system, and
# waiting for the kernel would close a circle where it is bundled with this image.
KERNELDEPMODDEPEND = ""
