# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Gives a kernel recipe, or one of kernel modules, the CA's certificate and the module signing key.
# linux-yocto has it from this layer; other kernels inherit it.
#
# The options CONFIG_SYSTEM_TRUSTED_KEYS and CONFIG_MODULE_SIG_KEY are paths on the build machine.
# They are given to make and not to the configuration, which goes into packages.

inherit ima-keys

INTEGRITY_MODSIGN_KEY = "${@integrity_modsign_key(d)}"

EXTRA_OEMAKE:append = " CONFIG_SYSTEM_TRUSTED_KEYS='${INTEGRITY_KERNEL_KEYS_DIR}/system_trusted.pem'"
EXTRA_OEMAKE:append = "${@bb.utils.contains('DISTRO_FEATURES', 'modsign', " CONFIG_MODULE_SIG_KEY='${INTEGRITY_MODSIGN_KEY}'", '', d)}"

BB_BASEHASH_IGNORE_VARS:append = " INTEGRITY_MODSIGN_KEY"

do_configure[depends] += "key-store:do_prepare_keys"
do_compile[vardeps] += "SYSTEM_TRUSTED_IDENTITY MODSIGN_IDENTITY"
do_install[vardeps] += "MODSIGN_IDENTITY"

def integrity_modsign_key(d):
    key = d.getVar('MODSIGN_KEY')
    if key.startswith('pkcs11:'):
        return key
    return os.path.join(d.getVar('INTEGRITY_KERNEL_KEYS_DIR'), 'modsign.pem')

# The kernel's sign-file takes the passphrase from the environment. It is read where it is used:
# an exported variable would stand in the task's script.
integrity_modsign_passphrase() {
    if [ -n "${MODSIGN_PASSPHRASE_FILE}" ]; then
        { set +x; } 2>/dev/null # not into the log, however verbose
        KBUILD_SIGN_PIN=$(head -n 1 "${MODSIGN_PASSPHRASE_FILE}")
        export KBUILD_SIGN_PIN
    fi
}

do_compile:prepend() {
    integrity_modsign_passphrase
}

do_install:prepend() {
    integrity_modsign_passphrase
}
