# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Gives a kernel recipe its options, the CA's certificate and the module signing key; and a recipe of
# kernel modules the key. integrity.bbclass has every such recipe inherit it.
#
# The options CONFIG_SYSTEM_TRUSTED_KEYS and CONFIG_MODULE_SIG_KEY are paths on the build machine.
# They are given to make and not to the configuration, which goes into packages.
#
# IMA_KERNEL_CHECK  "error": a kernel whose final configuration lacks a line of the fragments, or what
#                   the file systems of IMAGE_FSTYPES need for signatures, fails the build; "warn"; "off".
#                   A warning says where the kernel demands signed policies and IMA_SIGN_POLICY is not "1"
# IMA_APPRAISE_BOOTPARAM  "0": ima_appraise= on the kernel's command line has no effect, for products
# IMA_APPRAISE_MODSIG     "1": rules with appraise_type=imasig|modsig accept appended signatures. The kernel
#                         then puts the module key into .ima: whoever has it can sign any file

IMA_KERNEL_CHECK ??= "error"
IMA_APPRAISE_BOOTPARAM ??= "1"
IMA_APPRAISE_MODSIG ??= "0"

INTEGRITY_FRAGMENTS_DIR = "${INTEGRITY_LAYERDIR}/recipes-kernel/linux/linux-yocto"
INTEGRITY_KERNEL_FEATURES = "integrity ${@bb.utils.filter('DISTRO_FEATURES', 'ima modsign', d)} \
    ${@'evm' if d.getVar('IMA_EVM') != 'none' and bb.utils.contains('DISTRO_FEATURES', 'ima', True, False, d) else ''} \
    ${@'ima-modsig' if d.getVar('IMA_APPRAISE_MODSIG') == '1' else ''} \
    ${@'no-bootparam' if d.getVar('IMA_APPRAISE_BOOTPARAM') == '0' else ''}"
INTEGRITY_FRAGMENTS = "${@' '.join('%s/%s.cfg' % (d.getVar('INTEGRITY_FRAGMENTS_DIR'), name) for name in d.getVar('INTEGRITY_KERNEL_FEATURES').split())}"
BB_BASEHASH_IGNORE_VARS:append = " INTEGRITY_FRAGMENTS_DIR INTEGRITY_FRAGMENTS"

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

python () {
    if not bb.data.inherits_class('kernel', d):
        return
    if bb.data.inherits_class('kernel-yocto', d):
        # its own tasks merge them
        d.prependVar('FILESEXTRAPATHS', d.getVar('INTEGRITY_FRAGMENTS_DIR') + ':')
        for name in d.getVar('INTEGRITY_KERNEL_FEATURES').split():
            d.appendVar('SRC_URI', ' file://%s.scc file://%s.cfg' % (name, name))
    else:
        d.appendVarFlag('do_configure', 'postfuncs', ' integrity_merge_fragments')
    d.appendVarFlag('do_configure', 'postfuncs', ' integrity_check_kernel')
    d.appendVarFlag('do_configure', 'vardeps', ' INTEGRITY_KERNEL_FEATURES integrity_check_kernel')
    fragments = d.getVar('INTEGRITY_FRAGMENTS').split()
    d.appendVarFlag('do_configure', 'file-checksums', ''.join(' %s:True' % file for file in fragments))
}

integrity_merge_fragments() {
    ${S}/scripts/kconfig/merge_config.sh -m -O ${B} ${B}/.config ${INTEGRITY_FRAGMENTS}
    ${KERNEL_CONFIG_COMMAND}
}

python integrity_check_kernel() {
    level = d.getVar('IMA_KERNEL_CHECK')
    if level not in ('error', 'warn', 'off'):
        bb.fatal('IMA_KERNEL_CHECK is "%s": it is "error", "warn" or "off"' % level)
    def text(path):
        with open(path) as file:
            return file.read()
    fragments = [text(path) for path in d.getVar('INTEGRITY_FRAGMENTS').split()]
    config = text(d.expand('${B}/.config'))
    if level != 'off' and d.getVar('IMA_SIGN_POLICY') != '1' and integrity.kconfig.demands_signed_policies(config):
        bb.warn('%s has CONFIG_IMA_ARCH_POLICY, and IMA_SIGN_POLICY is not "1". Under Secure Boot this kernel '
            'refuses policies without signatures, and the boot would stop in the initramfs. '
            'IMA_SIGN_POLICY = "1" signs them' % d.expand('${B}/.config'))
    lacking = integrity.kconfig.missing(config, fragments, (d.getVar('IMAGE_FSTYPES') or '').split())
    if level == 'off' or not lacking:
        return
    report = '%s lacks options, without which signatures are not seen or not demanded (a dependency is off, ' \
        'or this kernel has another name for the option):\n  %s' % (d.expand('${B}/.config'), '\n  '.join(lacking))
    if level == 'warn':
        bb.warn(report)
    else:
        bb.fatal(report + '\nIMA_KERNEL_CHECK = "warn" builds the kernel anyway')
}

# The tasks that call the kernel's sign-file or build what it needs.
INTEGRITY_SIGNING_TASKS = "do_compile do_compile_kernelmodules do_bundle_initramfs do_install"

python () {
    signs = bb.utils.contains('DISTRO_FEATURES', 'modsign', True, False, d)
    for task in d.getVar('INTEGRITY_SIGNING_TASKS').split():
        if d.getVarFlag(task, 'task'):
            if signs:
                d.prependVarFlag(task, 'prefuncs', 'integrity_modsign_environment ')
                integrity_let_sign(d, task, 'MODSIGN_KEY')
            d.prependVarFlag(task, 'prefuncs', 'integrity_write_kernel_keys ')
    if signs:
        d.appendVarFlag('do_install', 'postfuncs', ' integrity_check_modules')
}

# The files that the kernel's makefiles read. They are written by each task that needs them: what
# another task left may be gone, or was made without the private key.
integrity_write_kernel_keys[vardepsexclude] = "INTEGRITY_SIGNS"
python integrity_write_kernel_keys() {
    import ssl
    pem = lambda path: ssl.DER_cert_to_PEM_cert(integrity_certificate(path)).encode()
    trusted = d.getVar('SYSTEM_TRUSTED_CERT')
    if trusted:  # not where only modules are signed
        integrity_write_kernel_key(d, 'system_trusted.pem', pem(trusted))
    if not bb.utils.contains('DISTRO_FEATURES', 'modsign', True, False, d):
        return
    if d.getVar('INTEGRITY_SIGNS') == '0':
        bb.fatal('SIGNING_MODEL is "verify", and %s is not in shared state: its modules would have to be '
            'signed. Build it where the key is; SIGNING_MODEL = "sample" signs a build of your own'
            % d.getVar('PN'))
    path = d.getVar('MODSIGN_KEY')
    if not path.startswith('pkcs11:'):
        # one file with the private key and its certificate
        with open(path, 'rb') as file:
            key = file.read()
        if b'-----BEGIN CERTIFICATE-----' not in key:
            key = key.rstrip() + b'\n' + pem(d.getVar('MODSIGN_CERT'))
        integrity_write_kernel_key(d, 'modsign.pem', key)
}

def integrity_write_kernel_key(d, name, content):
    directory = d.getVar('INTEGRITY_KERNEL_KEYS_DIR')
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, name)
    if os.path.exists(path):
        with open(path, 'rb') as file:
            if file.read() == content:
                return  # with a new time make would link the kernel again
    new = '%s.%d' % (path, os.getpid())
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'wb') as file:
        file.write(content)
    os.rename(new, path)

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
    unsigned = []
    for directory, _, files in os.walk(d.getVar('D')):
        for path in (os.path.join(directory, file) for file in files):
            _, module, compression = os.path.basename(path).rpartition('.ko')
            if module and (not compression or compression[0] == '.'):
                if not integrity_is_signed_module(path, compression[1:]):
                    unsigned.append(path[len(d.getVar('D')):])
    if unsigned:
        bb.fatal('modules without a signature, which a kernel of this build does not load: %s\n'
            'do the kernel and this recipe have MODSIGN_KEY, and sign-file what it needs?'
            % ' '.join(sorted(unsigned)))
}

def integrity_is_signed_module(path, compression):
    if not compression:
        with open(path, 'rb') as module:
            content = module.read()
    elif compression in integrity.unpack.PROGRAMS:
        content = integrity.unpack.decompress(path, compression)
    else:
        bb.fatal('%s: this compression is unknown: the signature cannot be checked' % path)
    return content.endswith(b'~Module signature appended~\n')
