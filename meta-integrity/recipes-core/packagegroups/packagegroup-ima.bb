SUMMARY = "What a device under IMA appraisal needs on its root file system"
DESCRIPTION = "The certificates, further policies, and a static, signed switch_root. The program imactl is \
in packagegroup-ima-tools."

inherit packagegroup features_check

REQUIRED_DISTRO_FEATURES = "ima"

# switch_root.static is here for an initramfs that ends with a switch_root of the real root: it is
# static, and signed as all of the root is.
RDEPENDS:${PN} = "\
    ima-policy-root \
    imactl-init \
    key-store-evm-cert \
    key-store-ima-cert \
    key-store-secondary-trusted-cert \
    key-store-system-trusted-cert \
    util-linux-switch-root.static \
"
