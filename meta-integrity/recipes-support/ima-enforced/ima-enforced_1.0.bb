SUMMARY = "Check at boot that the kernel enforces IMA appraisal"
DESCRIPTION = "A second line of defence on the root file system: a boot that went around the \
initramfs, and so has no policy, is reported, or ended by a reboot."
SECTION = "security"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

inherit features_check systemd update-rc.d

REQUIRED_DISTRO_FEATURES = "ima"

SRC_URI = "file://ima-enforced.service;subdir=${BP} file://ima-enforced.init;subdir=${BP}"

# "report": the service fails; "reboot": the machine starts again
IMA_ENFORCED_ACTION ??= "report"

python () {
    action = d.getVar('IMA_ENFORCED_ACTION')
    if action not in ('report', 'reboot'):
        bb.fatal('IMA_ENFORCED_ACTION is "%s": it is "report" or "reboot"' % action)
}

SYSTEMD_SERVICE:${PN} = "ima-enforced.service"
INITSCRIPT_NAME = "ima-enforced"
# after mountall.sh, which mounts securityfs
INITSCRIPT_PARAMS = "start 04 S ."

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    if ${@bb.utils.contains('DISTRO_FEATURES', 'systemd', 'true', 'false', d)}; then
        install -D -m 0644 ${S}/ima-enforced.service ${D}${systemd_system_unitdir}/ima-enforced.service
        failure=${@'reboot-force' if d.getVar('IMA_ENFORCED_ACTION') == 'reboot' else 'none'}
        sed -i -e 's:@BINDIR@:${bindir}:' -e "s:@FAILURE@:$failure:" \
            ${D}${systemd_system_unitdir}/ima-enforced.service
    fi
    if ${@bb.utils.contains('DISTRO_FEATURES', 'sysvinit', 'true', 'false', d)}; then
        install -D -m 0755 ${S}/ima-enforced.init ${D}${sysconfdir}/init.d/ima-enforced
        sed -i -e 's:@BINDIR@:${bindir}:' -e 's:@ACTION@:${IMA_ENFORCED_ACTION}:' \
            ${D}${sysconfdir}/init.d/ima-enforced
    fi
}

RDEPENDS:${PN} = "imactl"
