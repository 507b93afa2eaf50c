SUMMARY = "What a system under IMA appraisal has on its root file system"
DESCRIPTION = "imactl, the certificates, further policies, and a static, signed switch_root."

inherit packagegroup features_check

REQUIRED_DISTRO_FEATURES = "ima"

# switch_root.static is here for an initramfs that ends with a switch_root of the real root: it is
# static, and signed as all of the root is.
RDEPENDS:${PN} = "\
    ima-enforced \
    ima-policy-root \
    imactl \
    imactl-init \
    key-store-ima-cert \
    key-store-secondary-trusted-cert \
    key-store-system-trusted-cert \
    util-linux-switch-root.static \
"
