SUMMARY = "Modules of initramfs-framework, as far as an image's check looks at them"
LICENSE = "MIT"

INHIBIT_DEFAULT_DEPS = "1"

LAB_MODULES ?= ""

do_install() {
    install -d ${D}/init.d
    printf '#!/bin/sh\nfor file in /init.d/*; do . $file; done\n' > ${D}/init
    for name in ${LAB_MODULES}; do
        echo "# $name" > ${D}/init.d/$name
    done
    cd ${D}/init.d
    [ ! -e 91-overlayroot ] || echo 'exec chroot ${NEWROOT}/ ${bootparam_init:-/sbin/init}' >> 91-overlayroot
    [ ! -e 99-finish ] || printf '\texec switch_root $ROOTFS_DIR /sbin/init "$@"\n' >> 99-finish
    chmod 0755 ${D}/init ${D}/init.d/*
}

FILES:${PN} = "/init /init.d"
SKIP_FILEDEPS = "1"
