SUMMARY = "imactl-init as cargo built it"

require ../programs.inc

PROGRAMS = "imactl-init"

do_install() {
    install -D -m 0755 ${IMACTL_PROGRAMS}/imactl-init ${D}${bindir}/imactl-init
}

require recipes-support/imactl/imactl-init-roles.inc
