SUMMARY = "Debian's rpm with its plugin, in the places of OpenEmbedded's, for the layer's append"

require debian.inc

PROGRAMS = "rpm.tar"
# without rpm's sources there is nothing to patch
do_patch[noexec] = "1"

# "plugin", "macro": what is missing
LAB_RPM_WITHOUT ?= ""
PACKAGECONFIG[plugins] = ",,"

do_install:append() {
    mv ${D}${libdir}/x86_64-linux-gnu/rpm-plugins ${D}${libdir}/
    install -d ${D}${libdir}/rpm/macros.d
    # Debian's own are another directory of plugins, and a database in the home directory
    printf '%%_dbpath /var/lib/rpm\n%%__plugindir ${libdir}/rpm-plugins\n' > ${D}${libdir}/rpm/macros.d/macros.lab
    case "${LAB_RPM_WITHOUT}" in
    plugin) rm ${D}${libdir}/rpm-plugins/ima.so ;;
    macro) sed -i /__transaction_ima/d ${D}${libdir}/rpm/macros ;;
    esac
}

require recipes-devtools/rpm/rpm-integrity.inc
