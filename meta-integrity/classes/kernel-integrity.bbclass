# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Gives a kernel recipe, or one of kernel modules, the CA's certificate and the module signing key.
# linux-yocto has it from this layer, and every recipe of modules (integrity.bbclass); other kernels
# inherit it.
#
# The options CONFIG_SYSTEM_TRUSTED_KEYS and CONFIG_MODULE_SIG_KEY are paths on the build machine.
# They are given to make and not to the configuration, which goes into packages.

inherit ima-keys

INTEGRITY_MODSIGN_KEY = "${@integrity_modsign_key(d)}"

EXTRA_OEMAKE:append = "${@integrity_kernel_options(d)}"

BB_BASEHASH_IGNORE_VARS:append = " INTEGRITY_MODSIGN_KEY"

do_configure[depends] += "key-store:do_prepare_keys"
do_compile[vardeps] += "SYSTEM_TRUSTED_IDENTITY MODSIGN_IDENTITY"
do_install[vardeps] += "MODSIGN_IDENTITY"

def integrity_modsign_key(d):
    key = d.getVar('MODSIGN_KEY')
    if key.startswith('pkcs11:'):
        return key
    return os.path.join(d.getVar('INTEGRITY_KERNEL_KEYS_DIR'), 'modsign.pem')

def integrity_kernel_options(d):
    options = ''
    if d.getVar('SYSTEM_TRUSTED_CERT'):
        options += " CONFIG_SYSTEM_TRUSTED_KEYS='${INTEGRITY_KERNEL_KEYS_DIR}/system_trusted.pem'"
    if bb.utils.contains('DISTRO_FEATURES', 'modsign', True, False, d):
        options += " CONFIG_MODULE_SIG_KEY='${INTEGRITY_MODSIGN_KEY}'"
    return options

# The tasks that call the kernel's sign-file or build what it needs.
INTEGRITY_SIGNING_TASKS = "do_compile do_compile_kernelmodules do_bundle_initramfs do_install"

python () {
    if not bb.utils.contains('DISTRO_FEATURES', 'modsign', True, False, d):
        return
    for task in d.getVar('INTEGRITY_SIGNING_TASKS').split():
        if d.getVarFlag(task, 'task'):
            d.prependVarFlag(task, 'prefuncs', 'integrity_modsign_environment ')
            integrity_let_sign(d, task, 'MODSIGN_KEY')
    d.appendVarFlag('do_install', 'postfuncs', ' integrity_check_modules')
}

# sign-file takes the passphrase from the environment. It goes there by no variable of BitBake: an
# exported one would stand in the task's script.
python integrity_modsign_environment() {
    os.environ.update(integrity_token_environment(d))
    passphrase = integrity_passphrase(d, 'MODSIGN')
    if passphrase is not None:
        os.environ['KBUILD_SIGN_PIN'] = passphrase
}

# For modules outside the kernel's tree its makefiles ignore that sign-file fails; and such a module
# would not load.
python integrity_check_modules() {
    import gzip, lzma
    openers = {'.ko': open, '.gz': gzip.open, '.xz': lzma.open}
    unsigned = []
    for directory, _, files in os.walk(d.getVar('D')):
        for file in files:
            stem, extension = os.path.splitext(file)
            if extension not in openers or not (extension == '.ko' or stem.endswith('.ko')):
                continue
            path = os.path.join(directory, file)
            with openers[extension](path, 'rb') as module:
                if not module.read().endswith(b'~Module signature appended~\n'):
                    unsigned.append(path[len(d.getVar('D')):])
    if unsigned:
        bb.fatal('modules without a signature, which a kernel of this build does not load: %s\n'
            'do the kernel and this recipe have MODSIGN_KEY, and sign-file what it needs?'
            % ' '.join(sorted(unsigned)))
}
