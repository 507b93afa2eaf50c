SUMMARY = "A small image whose kernel runs signed files only"
DESCRIPTION = "What boots, and imactl. An example to start from, and what the runtime tests run on."
LICENSE = "MIT"

inherit core-image features_check

REQUIRED_DISTRO_FEATURES = "ima"

# packages carry no EVM signatures
IMAGE_FEATURES += "${@'package-management' if d.getVar('IMA_EVM') == 'none' else ''}"
IMAGE_INSTALL = "packagegroup-core-boot packagegroup-ima packagegroup-ima-tools ${CORE_IMAGE_EXTRA_INSTALL}"
IMAGE_LINGUAS = ""
