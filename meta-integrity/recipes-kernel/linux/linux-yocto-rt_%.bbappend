require ${@bb.utils.contains_any('DISTRO_FEATURES', 'ima modsign', 'linux-yocto-integrity.inc', '', d)}
