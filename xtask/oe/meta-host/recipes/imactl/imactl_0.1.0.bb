SUMMARY = "imactl as cargo built it for the build host"

require ../programs.inc

PROGRAMS = "imactl"

# It needs the C library of the build host, which no image here has.
do_install:class-target() {
    :
}
ALLOW_EMPTY:${PN} = "1"

do_install:class-native() {
    install -D -m 0755 ${IMACTL_PROGRAMS}/imactl ${D}${bindir}/imactl
}

BBCLASSEXTEND = "native"
