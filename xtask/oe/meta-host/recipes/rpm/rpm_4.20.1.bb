SUMMARY = "Files in the places of rpm's, for the layer's append"
LICENSE = "MIT"

INHIBIT_DEFAULT_DEPS = "1"
INHIBIT_PACKAGE_STRIP = "1"
SKIP_FILEDEPS = "1"
# without rpm's sources there is nothing to patch
do_patch[noexec] = "1"

# "plugin", "macro": what is missing
LAB_RPM_WITHOUT ?= ""
PACKAGECONFIG[plugins] = ",,"

do_install() {
    install -D -m 0755 /bin/busybox ${D}${bindir}/rpm
    if [ "${LAB_RPM_WITHOUT}" != plugin ]; then
        install -D -m 0755 /bin/busybox ${D}${libdir}/rpm-plugins/ima.so
    fi
    install -d ${D}${libdir}/rpm/macros.d
    if [ "${LAB_RPM_WITHOUT}" != macro ]; then
        echo '%__transaction_ima %{__plugindir}/ima.so' > ${D}${libdir}/rpm/macros.d/macros.transaction_ima
    fi
}

FILES:${PN} += "${libdir}/rpm-plugins/*.so"

require recipes-devtools/rpm/rpm-integrity.inc
