#!/bin/bash
# dracut module: imactl-init secures the kernel as the last thing the initramfs does.
# See README.md in this directory.

# Only where it is asked for: add_dracutmodules+=" imactl ".
check() {
    require_binaries "${imactl_init:-imactl-init}" || return 1
    return 255
}

depends() {
    return 0
}

install() {
    local keys=${imactl_keys:-/etc/keys} policy=${imactl_policy:-} name
    inst_binary "$(command -v "${imactl_init:-imactl-init}")" /usr/bin/imactl-init

    # What the initramfs is trusted with. The certificates and policies of the real root are
    # found there at boot.
    if [[ -f $keys/x509_ima.der ]]; then
        inst_simple "$keys/x509_ima.der" /etc/keys/x509_ima.der
    else
        dwarning "imactl: no $keys/x509_ima.der"
    fi
    if [[ $policy ]]; then
        inst_simple "$policy" /etc/ima/ima_policy || dfatal "imactl: no policy $policy"
    else
        for name in ima_policy ima_policy.default; do
            [[ -f /etc/ima/$name ]] && inst_simple "/etc/ima/$name"
        done
    fi
    if [[ ${imactl_evm:-} == yes ]]; then
        for name in sysconfig/evm sysconfig/masterkey keys/evm-trusted.blob keys/kmk-trusted.blob; do
            [[ -f /etc/$name ]] && inst_simple "/etc/$name"
        done
        for name in "$keys"/x509_evm.der "$keys"/evm/*.der; do
            [[ -f $name ]] && inst_simple "$name" "/etc/keys/${name#"$keys"/}"
        done
    fi
    if [[ ! -f $initdir/etc/ima/ima_policy && ! -f $initdir/etc/ima/ima_policy.default ]]; then
        dwarning "imactl: no policy: the boot will stop (imactl.mode=permissive: go on)"
    fi

    # Once a policy is in force nothing of the initramfs can be executed, so the same process
    # that loads it has to switch root.
    if dracut_module_included systemd; then
        inst_simple "$moddir/switch-root.conf" \
            "${systemdsystemunitdir:-/usr/lib/systemd/system}/initrd-switch-root.service.d/imactl.conf"
    else
        rm -f "$initdir/usr/sbin/switch_root" "$initdir/sbin/switch_root"
        inst_script "$moddir/switch_root.sh" /usr/sbin/switch_root
    fi
}
