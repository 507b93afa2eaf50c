SUMMARY = "imactl-init as cargo built it"

require ../programs.inc

PROGRAMS = "imactl-init"

do_install() {
    install -D -m 0755 ${IMACTL_PROGRAMS}/imactl-init ${D}${bindir}/imactl-init
    ln -s ${bindir}/imactl-init ${D}/init
}

PACKAGES =+ "imactl-init-initramfs"
FILES:imactl-init-initramfs = "/init"
RDEPENDS:imactl-init-initramfs = "${PN}"
