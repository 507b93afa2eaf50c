SUMMARY = "Files in the places of rpm's, for the layer's append"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

INHIBIT_DEFAULT_DEPS = "1"
SKIP_FILEDEPS = "1"
# without rpm's sources there is nothing to patch
do_patch[noexec] = "1"

# "plugin", "macro": what is missing
LAB_RPM_WITHOUT ?= ""
PACKAGECONFIG[plugins] = ",,"

do_install() {
    install -d ${D}${bindir} ${D}${libdir}/rpm-plugins ${D}${libdir}/rpm/macros.d
    printf '#!/bin/sh\n' > ${D}${bindir}/rpm
    chmod 0755 ${D}${bindir}/rpm
    if [ "${LAB_RPM_WITHOUT}" != plugin ]; then
        echo 'no real plugin' > ${D}${libdir}/rpm-plugins/ima.so
    fi
    if [ "${LAB_RPM_WITHOUT}" != macro ]; then
        echo '%__transaction_ima %{__plugindir}/ima.so' > ${D}${libdir}/rpm/macros.d/macros.transaction_ima
    fi
}

FILES:${PN} += "${libdir}/rpm-plugins/*.so"

require recipes-devtools/rpm/rpm-integrity.inc
