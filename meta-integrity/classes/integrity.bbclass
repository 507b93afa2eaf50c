# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Inherited by the configuration (conf/layer.conf) where DISTRO_FEATURES holds "ima" or "modsign".
#
# IMA_POLICY_INITRAMFS  a file with the policy that the initramfs loads, in place of the default one
# IMA_POLICY_ROOT       files with policies that the root file system brings: the image signs them,
#                       and the kernel adds their rules, in the order of the files' names
# IMA_SIGN_POLICY       "1": signatures of the initramfs's policies are next to them. A kernel with
#                       CONFIG_IMA_ARCH_POLICY demands them under Secure Boot
# IMA_MEASURE           "none"; "policy": the initramfs's policy measures, too; "tcb": and the kernel does
#                       from its start (docs/measuring.md)
# IMA_KERNEL_VERSION    "6.12": the kernel that policies and images are checked for; else what
#                       PREFERRED_VERSION says of the preferred kernel, else imactl's own choice

inherit ima-keys ima-rpm

IMA_POLICY_DEFAULT = "${INTEGRITY_LAYERDIR}/recipes-support/ima-policy/files/ima_policy.default"
IMA_POLICY_INITRAMFS ??= ""
IMA_POLICY_ROOT ??= ""
IMA_SIGN_POLICY ??= "0"
IMA_MEASURE ??= "none"
IMA_KERNEL_VERSION ??= "${@integrity_kernel_version(d)}"
BB_BASEHASH_IGNORE_VARS:append = " INTEGRITY_LAYERDIR"

def integrity_kernel_version(d):
    """The preferred kernel's version, where the configuration says which it is."""
    import re
    provider = d.getVar('PREFERRED_PROVIDER_virtual/kernel')
    version = re.match(r'\d+\.\d+', provider and d.getVar('PREFERRED_VERSION_' + provider) or '')
    return version.group() if version else ''

def integrity_kernel_arguments(d):
    version = d.getVar('IMA_KERNEL_VERSION')
    return ['--kernel', version] if version else []

addhandler integrity_check_model
integrity_check_model[eventmask] = "bb.event.BuildStarted"
python integrity_check_model() {
    model = d.getVar('SIGNING_MODEL')
    if d.getVar('IMA_SAMPLE_KEY_ON_TARGET') == '1':
        if model != 'sample':
            bb.fatal('IMA_SAMPLE_KEY_ON_TARGET is "1", and SIGNING_MODEL is "%s": only sample keys may be '
                'on the target' % model)
        bb.warn('IMA_SAMPLE_KEY_ON_TARGET: images hold the private key, and root there can sign')
    evm = d.getVar('IMA_EVM')
    if evm not in ('none', 'portable'):
        bb.fatal('IMA_EVM is "%s": it is "none" or "portable"' % evm)
    directories = ['IMA_KEYS_DIR', 'SYSTEM_TRUSTED_KEYS_DIR', 'SECONDARY_TRUSTED_KEYS_DIR',
        'MODSIGN_KEYS_DIR', 'EVM_KEYS_DIR']
    given = [name for name in directories if integrity_keys_dir(d, name)]
    if model == 'sample':
        if given:
            bb.fatal('SIGNING_MODEL is "sample", and yet %s is set: for your own keys '
                'SIGNING_MODEL is "user"' % given[0])
        bb.warn('SAMPLE KEYS: whoever can read %s can sign for these images. They are for '
            'development; do not ship them.' % d.getVar('SAMPLE_KEYS_DIR'))
    elif model in ('user', 'verify'):
        keys = ['IMA_SIGNING_KEY', 'MODSIGN_KEY', 'EVM_SIGNING_KEY'] if model == 'user' else []
        required = {}
        if bb.utils.contains('DISTRO_FEATURES', 'ima', True, False, d):
            required['SYSTEM_TRUSTED_KEYS_DIR'] = ['SYSTEM_TRUSTED_CERT']
            required['IMA_KEYS_DIR'] = [*keys[:1], 'IMA_SIGNING_CERT']
        if bb.utils.contains('DISTRO_FEATURES', 'modsign', True, False, d):
            required['MODSIGN_KEYS_DIR'] = [*keys[1:2], 'MODSIGN_CERT']
        if evm == 'portable':
            required['EVM_KEYS_DIR'] = [*keys[2:], 'EVM_SIGNING_CERT']
        for directory, files in required.items():
            for name in files:
                if not d.getVar(name):
                    bb.fatal('SIGNING_MODEL is "%s", but neither %s nor %s is set: name your '
                        'keys; `imactl keys create DIR` makes them' % (model, directory, name))
    else:
        bb.fatal('SIGNING_MODEL is "%s": say whose keys sign this build. SIGNING_MODEL = "sample" '
            'has keys made, for development; SIGNING_MODEL = "user" takes yours; "verify" needs their '
            'certificates only' % (model or ''))
    measure = d.getVar('IMA_MEASURE')
    if measure not in ('none', 'policy', 'tcb'):
        bb.fatal('IMA_MEASURE is "%s": it is "none", "policy" or "tcb"' % measure)
    if measure == 'tcb' and bb.utils.contains('DISTRO_FEATURES', 'luks', True, False, d):
        bb.fatal('IMA_MEASURE is "tcb", and DISTRO_FEATURES has luks: the kernel would extend PCR 10 with '
            'each file of the initramfs before the root is unlocked, and a key that is sealed to this PCR '
            'would be lost. IMA_MEASURE = "policy" measures from when the policy is loaded, which is '
            'after unlocking')
    classes = (d.getVar('PACKAGE_CLASSES') or '').split()
    if bb.utils.contains('DISTRO_FEATURES', 'ima', True, False, d) and classes[:1] != ['package_rpm']:
        bb.warn('PACKAGE_CLASSES begins with %s, whose packages carry no signatures of their files: '
            'images are signed, but the kernel would deny what is installed or updated later. '
            'PACKAGE_CLASSES = "package_rpm" has packages signed' % ''.join(classes[:1]))
    names = {}
    for policy in d.getVar('IMA_POLICY_ROOT').split():
        name = os.path.basename(policy)
        if name == 'default':
            bb.fatal('IMA_POLICY_ROOT: %s would be installed as ima_policy.default, which is the name '
                'of the first policy; give it another name' % policy)
        if name.endswith('.sig'):
            bb.fatal('IMA_POLICY_ROOT: %s has the name of a signature; give it another name' % policy)
        if name in names:
            bb.fatal('IMA_POLICY_ROOT: %s and %s would be installed under one name; policies are '
                'loaded in the order of their names' % (names[name], policy))
        names[name] = policy
    for name in ['IMA_SIGNING_KEY', 'MODSIGN_KEY', 'EVM_SIGNING_KEY']:
        if 'pin-value=' in (d.getVar(name) or ''):
            bb.fatal('%s holds a PIN, and variables are printed and logged: put it into a file '
                'and name that in %s' % (name, name.split('_')[0] + '_PASSPHRASE_FILE'))
}

# Passphrases do not stay in the server's log: lib/integrity/cookerlog.py. It blots early and often,
# and as the server ends.
addhandler integrity_blot_passphrase
integrity_blot_passphrase[eventmask] = "bb.event.ConfigParsed bb.event.BuildStarted bb.event.BuildCompleted bb.command.CommandCompleted bb.command.CommandFailed bb.command.CommandExit"
python integrity_blot_passphrase() {
    integrity.cookerlog.blot(d)
}

# BB_ENV_PASSTHROUGH_ADDITIONS turns a variable of the environment into one of BitBake's, which
# `bitbake -e` prints, caches keep and tasks may depend on. So does an assignment.
addhandler integrity_refuse_passphrase_variable
integrity_refuse_passphrase_variable[eventmask] = "bb.event.ConfigParsed"
python integrity_refuse_passphrase_variable() {
    for name in integrity.cookerlog.NAMES:
        variable = d.getVar(name)
        if variable and d.getVar(variable) is not None:
            bb.fatal('%s: %s is a variable of BitBake, which prints and keeps it. Take it out of the '
                'configuration and of BB_ENV_PASSTHROUGH_ADDITIONS; the layer reads the environment '
                'by itself' % (name, variable))
}

# Every kernel needs the options and the keys, whatever its recipe is called; and what is loaded into it
# is signed with the same key. (inherit_defer is for recipes: of a configuration, one recipe would take
# away what is for all.)
addhandler integrity_prepare_kernels
integrity_prepare_kernels[eventmask] = "bb.event.RecipePreFinalise"
python integrity_prepare_kernels() {
    signs = bb.utils.contains('DISTRO_FEATURES', 'modsign', True, False, d)
    if bb.data.inherits_class('kernel', d) or (signs and bb.data.inherits_class('module', d)):
        bb.parse.BBHandler.inherit('kernel-integrity', d.getVar('FILE'), 0, d)
}
