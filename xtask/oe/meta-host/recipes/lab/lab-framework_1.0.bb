SUMMARY = "OpenEmbedded's initramfs-framework: the scripts themselves, without what they run"
LICENSE = "MIT"

INHIBIT_DEFAULT_DEPS = "1"

# NN-NAME, as the recipe of initramfs-framework installs them
LAB_MODULES ?= ""

FRAMEWORK = "${COREBASE}/meta/recipes-core/initrdscripts/initramfs-framework"
OURS = "${INTEGRITY_LAYERDIR}/../contrib/initramfs-framework/imactl"

do_install() {
    install -D -m 0755 ${FRAMEWORK}/init ${D}/init
    install -d ${D}/init.d
    for name in ${LAB_MODULES}; do
        case $name in
        98-imactl) source=${OURS} ;;
        *) source=${FRAMEWORK}/$(echo $name | cut -d- -f2-) ;;
        esac
        install -m 0755 $source ${D}/init.d/$name
    done
}

FILES:${PN} = "/init /init.d"
SKIP_FILEDEPS = "1"
