SUMMARY = "What a system under IMA appraisal has on its root file system"
DESCRIPTION = "imactl, the certificates, further policies, and a static, signed switch_root."

inherit packagegroup features_check

REQUIRED_DISTRO_FEATURES = "ima"

# imactl-init is here for initramfs images that end with a switch_root on the real root: it is
# static, and signed as all of the root is.
RDEPENDS:${PN} = "\
    ima-policy-root \
    imactl \
    imactl-init \
    key-store-ima-cert \
    key-store-secondary-trusted-cert \
    key-store-system-trusted-cert \
"
