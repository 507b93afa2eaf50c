SUMMARY = "IMA policies for the initramfs and for the root file system"
DESCRIPTION = "The policy that secures the boot, and policies that add to it later. \
IMA_POLICY_INITRAMFS names a file to use in place of the default policy; IMA_POLICY_ROOT names \
files that the root file system brings, which the kernel takes because the image signs them."
SECTION = "security"
LICENSE = "${INTEGRITY_LICENSE}"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302 \
                    file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

inherit allarch features_check

# Words that imactl-init reads before the kernel's command line: imactl.mode=, imactl.timeout=,
# imactl.root-certificates=.
IMACTL_INIT_CMDLINE ??= ""

python () {
    if d.getVar('IMA_SIGN_POLICY') == '1':
        d.appendVarFlag('do_compile', 'depends', ' key-store:do_prepare_keys')
        d.appendVarFlag('do_compile', 'postfuncs', ' ima_sign_policies')
        d.appendVarFlag('do_compile', 'vardeps', ' IMA_IDENTITY ima_sign_policies')
        integrity_let_sign(d, 'do_compile', 'IMA_SIGNING_KEY')
    for word in d.getVar('IMACTL_INIT_CMDLINE').split():
        if word.split('=')[0] not in ('imactl.mode', 'imactl.timeout', 'imactl.root-certificates'):
            bb.fatal('IMACTL_INIT_CMDLINE: imactl-init does not know the word %s' % word)
}

REQUIRED_DISTRO_FEATURES = "ima"

SRC_URI = "file://ima_policy.default;subdir=${BP}"

DEPENDS += "imactl-native"
INHIBIT_DEFAULT_DEPS = "1"

B = "${WORKDIR}/build"

do_configure[noexec] = "1"
do_compile[cleandirs] = "${B}"

# What is packaged is the same for every kernel, and this recipe is for every machine.
POLICY_KERNEL = "${@' '.join(integrity_kernel_arguments(d))}"
do_compile[vardepsexclude] += "POLICY_KERNEL"

# A policy with a line that the kernel rejects is rejected as a whole, and then nothing boots.
do_compile() {
    cp ${S}/ima_policy.default ${B}
    if [ -n "${IMA_POLICY_INITRAMFS}" ]; then
        cp ${IMA_POLICY_INITRAMFS} ${B}/ima_policy
    fi
    # the first policy that is loaded replaces the kernel's own, ima_policy=tcb among them
    if [ "${IMA_MEASURE}" != none ]; then
        for policy in ${B}/ima_policy*; do
            imactl policy default --kind measure >> "$policy"
        done
    fi
    for policy in ${B}/ima_policy* ${IMA_POLICY_ROOT}; do
        imactl --color never policy check ${POLICY_KERNEL} "$policy" || bbfatal "$policy: the kernel would reject it"
    done
}
do_compile[file-checksums] += "${@' '.join(f + ':True' for f in d.expand('${IMA_POLICY_INITRAMFS} ${IMA_POLICY_ROOT}').split())}"

ima_sign_policies[vardepsexclude] = "INTEGRITY_SIGNS"
python ima_sign_policies() {
    import glob
    if d.getVar('INTEGRITY_SIGNS') == '0':
        bb.fatal('SIGNING_MODEL is "verify", and the policies are not in shared state with their signatures. '
            'Build %s where the key is' % d.getVar('PN'))
    policies = sorted(glob.glob(d.expand('${B}/ima_policy*')))
    arguments = ['policy', 'sign', '--detached', *integrity_kernel_arguments(d), *integrity_key_arguments(d)]
    status, output = integrity_imactl(d, [*arguments, *policies])
    if status != 0:
        bb.fatal('the policies were not signed:\n%s' % output)
}

do_install() {
    install -d ${D}${sysconfdir}/ima
    install -m 0400 ${B}/ima_policy* ${D}${sysconfdir}/ima
    if [ -n "${IMACTL_INIT_CMDLINE}" ]; then
        install -d ${D}${sysconfdir}/imactl
        echo "${IMACTL_INIT_CMDLINE}" > ${D}${sysconfdir}/imactl/cmdline
    fi
    for policy in ${IMA_POLICY_ROOT}; do
        install -m 0400 "$policy" "${D}${sysconfdir}/ima/ima_policy.$(basename "$policy")"
    done
}

PACKAGES = "${PN} ${PN}-root"
FILES:${PN} = "\
    ${sysconfdir}/ima/ima_policy ${sysconfdir}/ima/ima_policy.default \
    ${sysconfdir}/ima/ima_policy.sig ${sysconfdir}/ima/ima_policy.default.sig \
    ${sysconfdir}/imactl \
"
FILES:${PN}-root = "${sysconfdir}/ima/ima_policy.*"
SUMMARY:${PN}-root = "Policies of the root file system, which add to that of the initramfs"
ALLOW_EMPTY:${PN}-root = "1"
