# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Inherited by the configuration (conf/layer.conf) where DISTRO_FEATURES holds "ima" or "modsign".
#
# IMA_POLICY_INITRAMFS  a file with the policy that the initramfs loads, in place of the default one
# IMA_POLICY_ROOT       files with policies that the root file system brings: the image signs them,
#                       and the kernel adds their rules

inherit ima-keys ima-rpm

IMA_POLICY_DEFAULT = "${INTEGRITY_LAYERDIR}/recipes-support/ima-policy/files/ima_policy.default"
IMA_POLICY_INITRAMFS ??= ""
IMA_POLICY_ROOT ??= ""
BB_BASEHASH_IGNORE_VARS:append = " INTEGRITY_LAYERDIR"

addhandler integrity_check_model
integrity_check_model[eventmask] = "bb.event.BuildStarted"
python integrity_check_model() {
    model = d.getVar('SIGNING_MODEL')
    directories = ['IMA_KEYS_DIR', 'SYSTEM_TRUSTED_KEYS_DIR', 'SECONDARY_TRUSTED_KEYS_DIR',
        'MODSIGN_KEYS_DIR']
    given = [name for name in directories if d.getVar(name)]
    if model == 'sample':
        if given:
            bb.fatal('SIGNING_MODEL is "sample", and yet %s is set: for your own keys '
                'SIGNING_MODEL is "user"' % given[0])
        bb.warn('SAMPLE KEYS: whoever can read %s can sign for these images. They are for '
            'development; do not ship them.' % d.getVar('SAMPLE_KEYS_DIR'))
    elif model == 'user':
        required = {'SYSTEM_TRUSTED_KEYS_DIR': ['SYSTEM_TRUSTED_CERT']}
        if bb.utils.contains('DISTRO_FEATURES', 'ima', True, False, d):
            required['IMA_KEYS_DIR'] = ['IMA_SIGNING_KEY', 'IMA_SIGNING_CERT']
        if bb.utils.contains('DISTRO_FEATURES', 'modsign', True, False, d):
            required['MODSIGN_KEYS_DIR'] = ['MODSIGN_KEY', 'MODSIGN_CERT']
        for directory, files in required.items():
            for name in files:
                if not d.getVar(name):
                    bb.fatal('SIGNING_MODEL is "user", but neither %s nor %s is set: name your '
                        'keys; `imactl keys create DIR` makes them' % (directory, name))
    else:
        bb.fatal('SIGNING_MODEL is "%s": say whose keys sign this build. SIGNING_MODEL = "sample" '
            'has keys made, for development; SIGNING_MODEL = "user" takes yours' % model)
    for name in ['IMA_SIGNING_KEY', 'MODSIGN_KEY']:
        if 'pin-value=' in (d.getVar(name) or ''):
            bb.fatal('%s holds a PIN, and variables are printed and logged: put it into a file '
                'and name that in %s' % (name, name.split('_')[0] + '_PASSPHRASE_FILE'))
}

# BitBake's server logs the whole environment that it is started in, so a passphrase would stay
# there. It is overwritten where it stands: the server goes on appending to the same file.
addhandler integrity_blot_passphrase
integrity_blot_passphrase[eventmask] = "bb.event.BuildStarted bb.command.CommandCompleted bb.command.CommandFailed"
python integrity_blot_passphrase() {
    import glob
    variable = d.getVar('IMA_PASSPHRASE_ENV')
    passphrase = variable and d.getVar('BB_ORIGENV', False).getVar(variable, False)
    if not passphrase:
        return
    forms = [form.encode() for form in (passphrase, repr(passphrase)[1:-1])]
    for path in glob.glob(os.path.join(d.getVar('TOPDIR'), 'bitbake-cookerdaemon.log*')):
        with open(path, 'r+b') as log:
            content = log.read()
            for form in forms:
                start = content.find(form)
                while start >= 0:
                    log.seek(start)
                    log.write(b'*' * len(form))
                    start = content.find(form, start + len(form))
}
