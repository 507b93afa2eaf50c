require recipes-core/images/integrity-image-minimal.bb

SUMMARY = "integrity-image-minimal with what the lab needs in place of what must be downloaded"

IMAGE_INSTALL = "packagegroup-ima lab-root"
IMAGE_FSTYPES = "tar ext4 squashfs erofs"
IMAGE_FEATURES = ""
