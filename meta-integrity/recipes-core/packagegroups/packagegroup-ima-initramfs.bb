SUMMARY = "What an initramfs needs to load the IMA certificate and the policy"
DESCRIPTION = "imactl-init, the certificates that it loads, and the policy that secures the boot."

inherit packagegroup features_check

REQUIRED_DISTRO_FEATURES = "ima"

RDEPENDS:${PN} = "\
    ima-policy \
    imactl-init \
    initrdscripts-ima \
    key-store-evm-cert \
    key-store-ima-cert \
    key-store-secondary-trusted-cert \
"
