SUMMARY = "A root file system that the kernel lab can ask things of"
DESCRIPTION = "The lab's agent as init, a static busybox, and a configuration file."

require ../programs.inc

PROGRAMS = "lab-agent busybox"

# names of programs that an image is not to have
LAB_ROOT_EXTRA ?= ""

do_install() {
    install -d ${D}${bindir}
    for directory in dev mnt opt proc run sys tmp var; do
        install -d ${D}/$directory
    done
    install -D -m 0755 ${IMACTL_PROGRAMS}/lab-agent ${D}${base_sbindir}/init
    install -D -m 0755 ${IMACTL_PROGRAMS}/busybox ${D}${base_bindir}/busybox
    ln -s busybox ${D}${base_bindir}/sh
    printf '#!/bin/sh\nexit 0\n' > ${D}${base_bindir}/script
    chmod 0755 ${D}${base_bindir}/script
    for name in ${LAB_ROOT_EXTRA}; do
        ln -s ${base_bindir}/busybox ${D}${bindir}/$name
    done
    install -d ${D}${sysconfdir}
    echo lab > ${D}${sysconfdir}/hostname
}

FILES:${PN} = "/"
CONFFILES:${PN} = "${sysconfdir}/hostname"
# the link to busybox; what a package needs is not looked at here
RPROVIDES:${PN} = "/bin/sh"
