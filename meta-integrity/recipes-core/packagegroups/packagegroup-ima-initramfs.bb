SUMMARY = "What an initramfs needs to load the IMA certificate and the policy"

inherit packagegroup features_check

REQUIRED_DISTRO_FEATURES = "ima"

RDEPENDS:${PN} = "\
    ima-policy \
    imactl-init \
    key-store-ima-cert \
    key-store-secondary-trusted-cert \
"
