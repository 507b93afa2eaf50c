SUMMARY = "The build host's tools, under the names of the recipes that would build them"
LICENSE = "MIT"

inherit native

PROVIDES += "\
    attr-native base-passwd-native bzip2-replacement-native cpio-native createrepo-c-native \
    cross-localedef-native dnf-native dosfstools-native dwarfsrcfiles-native e2fsprogs-native \
    elfutils-native erofs-utils-native expat-native f2fs-tools-native file-native gnupg-native gptfdisk-native gzip-native kmod-native ldconfig-native \
    libcap-native lz4-native makedevs-native mtools-native openssl-native opkg-utils-native parted-native \
    patch-replacement-native pigz-native pinentry-native pkgconf-native pkgconfig-native pseudo-native python3-native \
    qemu-helper-native qemu-system-native quilt-native rpm-native shadow-native squashfs-tools-native \
    systemd-systemctl-native tar-replacement-native update-rc.d-native util-linux-native \
    wic-native wic-tools-native xz-native zstd-native \
    virtual/fakeroot-native virtual/update-alternatives-native \
"

INHIBIT_DEFAULT_DEPS = "1"
PATCHDEPENDENCY = ""
deltask do_create_spdx

# The host's rpm is not patched as OpenEmbedded's is. It would make packages that depend on
# rpmlib(ShortCircuited), and dnf would take the architecture from the host.
do_install() {
    install -d ${D}${bindir} ${D}${libdir}/rpm
    cat > ${D}${bindir}/rpmbuild <<'SCRIPT'
#!/bin/bash
arguments=()
for argument; do [ "$argument" = --short-circuit ] || arguments+=("$argument"); done
exec /usr/bin/rpmbuild "${arguments[@]}"
SCRIPT
    printf '#!/bin/sh\nexec /usr/bin/dnf --setopt=ignorearch=True "$@"\n' > ${D}${bindir}/dnf
    printf '#!/bin/sh\nexec ${HOST_WIC} "$@"\n' > ${D}${bindir}/wic
    chmod 0755 ${D}${bindir}/rpmbuild ${D}${bindir}/dnf ${D}${bindir}/wic
    ln -s /usr/lib/rpm/rpmdeps ${D}${libdir}/rpm/rpmdeps
}

do_addto_recipe_sysroot[noexec] = "1"
addtask addto_recipe_sysroot after do_populate_sysroot
