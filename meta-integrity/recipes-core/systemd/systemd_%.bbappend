# A policy at /etc/ima/ima-policy is loaded early, by systemd itself.
PACKAGECONFIG:append = "${@bb.utils.contains('DISTRO_FEATURES', 'ima', ' ima', '', d)}"
