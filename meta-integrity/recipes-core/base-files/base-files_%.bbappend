# systemd mounts it by itself. No iversion for the root: since Linux 6.1 ext4 keeps change counters
# without the word, and later refuses it.
do_install:append() {
    if ${@bb.utils.contains('DISTRO_FEATURES', 'systemd', 'false', bb.utils.contains('DISTRO_FEATURES', 'ima', 'true', 'false', d), d)}; then
        echo "securityfs /sys/kernel/security securityfs defaults 0 0" >> ${D}${sysconfdir}/fstab
    fi
}
