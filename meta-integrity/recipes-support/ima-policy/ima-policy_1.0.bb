SUMMARY = "IMA policies for the initramfs and for the root file system"
DESCRIPTION = "The policy that secures the boot, and policies that add to it later. \
IMA_POLICY_INITRAMFS names a file to use in place of the default policy; IMA_POLICY_ROOT names \
files that the root file system brings, which the kernel takes because the image signs them."
SECTION = "security"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302 \
                    file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

inherit allarch features_check

REQUIRED_DISTRO_FEATURES = "ima"

SRC_URI = "file://ima_policy.default;subdir=${BP}"

DEPENDS += "imactl-native"
INHIBIT_DEFAULT_DEPS = "1"

do_configure[noexec] = "1"

# What is packaged is the same for every kernel, and this recipe is for every machine.
POLICY_KERNEL = "${@' '.join(integrity_kernel_arguments(d))}"
do_compile[vardepsexclude] += "POLICY_KERNEL"

# A policy with a line that the kernel refuses is refused as a whole, and then nothing boots.
do_compile() {
    for policy in ${S}/ima_policy.default ${IMA_POLICY_INITRAMFS} ${IMA_POLICY_ROOT}; do
        imactl --color never policy check ${POLICY_KERNEL} "$policy" || bbfatal "$policy: the kernel would refuse it"
    done
}
do_compile[file-checksums] += "${@' '.join(f + ':True' for f in d.expand('${IMA_POLICY_INITRAMFS} ${IMA_POLICY_ROOT}').split())}"

do_install() {
    install -D -m 0400 ${S}/ima_policy.default ${D}${sysconfdir}/ima/ima_policy.default
    if [ -n "${IMA_POLICY_INITRAMFS}" ]; then
        install -m 0400 ${IMA_POLICY_INITRAMFS} ${D}${sysconfdir}/ima/ima_policy
    fi
    for policy in ${IMA_POLICY_ROOT}; do
        install -m 0400 "$policy" "${D}${sysconfdir}/ima/ima_policy.$(basename "$policy")"
    done
}

PACKAGES = "${PN} ${PN}-root"
FILES:${PN} = "${sysconfdir}/ima/ima_policy ${sysconfdir}/ima/ima_policy.default"
FILES:${PN}-root = "${sysconfdir}/ima/ima_policy.*"
SUMMARY:${PN}-root = "Policies of the root file system, which add to that of the initramfs"
ALLOW_EMPTY:${PN}-root = "1"
