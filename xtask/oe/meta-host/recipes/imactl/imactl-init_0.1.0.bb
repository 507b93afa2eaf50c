SUMMARY = "imactl-init as cargo built it"

require ../programs.inc

PROGRAMS = "imactl-init"

do_install() {
    install -D -m 0755 ${IMACTL_PROGRAMS}/imactl-init ${D}${bindir}/imactl-init
}

# yocto-check-layer parses this without the layer, and wants the same with it
ROLES = "imactl-init-initramfs initrdscripts-ima util-linux-switch-root.static"
RPROVIDES:${PN} += "${@d.getVar('ROLES') if d.getVar('CHECKING') else ''}"
require ${@'' if d.getVar('CHECKING') else 'recipes-support/imactl/imactl-init-roles.inc'}
