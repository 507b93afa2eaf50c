SUMMARY = "Debian's dnf, with its Python"

require debian.inc

PROGRAMS = "dnf.tar"

RDEPENDS:${PN} = "rpm"

do_install:append() {
    # used whatever the times of the sources are in the package
    /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash -s ${D} ${D}${libdir}
    install -d ${D}${sysconfdir}/dnf
    # the names of OpenEmbedded's architectures are not Debian's
    printf '[main]\nignorearch=True\n' > ${D}${sysconfdir}/dnf/dnf.conf
}
