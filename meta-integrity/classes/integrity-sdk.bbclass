# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Has an extensible SDK (do_populate_sdk_ext) work without the private keys. IMAGE_CLASSES has this class
# (conf/layer.conf).
#
# The SDK has the layers and a filtered local.conf, from which OpenEmbedded removes each variable that begins
# with "/", so all keys. It gets, in its directory "integrity":
#
# - the certificates, and SIGNING_MODEL = "verify": what this build signed comes from the SDK's shared state.
#   The identities of the keys are written down, for the hashes of tasks to be those of this build
# - the sources that the recipes of imactl name, which are outside the layer
#
# Sample keys that a team shares stay in use if ESDK_LOCALCONF_ALLOW has SAMPLE_KEYS_DIR.

require recipes-support/imactl/imactl-files.inc

INTEGRITY_SDK_CERTIFICATES = "IMA_SIGNING_CERT SYSTEM_TRUSTED_CERT SECONDARY_TRUSTED_CERT MODSIGN_CERT EVM_SIGNING_CERT"
INTEGRITY_SDK_IDENTITIES = "IMA_IDENTITY SYSTEM_TRUSTED_IDENTITY SECONDARY_TRUSTED_IDENTITY MODSIGN_IDENTITY EVM_IDENTITY IMA_EXTRA_IDENTITY"

python copy_buildsystem:prepend() {
    integrity_prepare_sdk(d)
}

def integrity_prepare_sdk(d):
    if d.getVar('IMA_EVM') != 'none':
        bb.fatal('IMA_EVM is "%s": an extensible SDK builds images, and has no key for their EVM signatures. '
            'IMA_EVM = "none" makes an SDK' % d.getVar('IMA_EVM'))
    place = os.path.join(d.getVar('SDK_OUTPUT') + d.getVar('SDKPATH'), 'integrity')
    # not expanded here: the SDK's bblayers.conf sets it
    there = '$' + '{SDKBASEMETAPATH}/integrity'
    # do_image depends on do_prepare_keys, which shared state does not have: without this the SDK's installer fails
    lines = ['BB_SETSCENE_ENFORCE_IGNORE_TASKS .= " key-store:*"']
    if '://' not in d.getVar('IMACTL_SOURCE'):
        integrity_copy_sources(d, os.path.join(place, 'source'))
        lines.append('IMACTL_SOURCE:forcevariable = "%s/source"' % there)
    allowed = (d.getVar('ESDK_LOCALCONF_ALLOW') or '').split()
    if d.getVar('SIGNING_MODEL') != 'sample' or 'SAMPLE_KEYS_DIR' not in allowed:
        lines.append('SIGNING_MODEL = "verify"')
        for name in d.getVar('INTEGRITY_SDK_CERTIFICATES').split():
            path = d.getVar(name)
            if path and os.path.exists(path):
                file = name.lower() + '.der'
                bb.utils.mkdirhier(place)
                with open(os.path.join(place, file), 'wb') as copy:
                    copy.write(integrity_certificate(path))
                lines.append('%s:forcevariable = "%s/%s"' % (name, there, file))
        for name in d.getVar('INTEGRITY_SDK_IDENTITIES').split():
            lines.append('%s:forcevariable = "%s"' % (name, d.getVar(name)))
    d.setVar('sdk_extraconf', '\n'.join([d.getVar('sdk_extraconf', False) or '', *lines]))

def integrity_copy_sources(d, place):
    import shutil
    for name in d.getVar('IMACTL_SOURCES').split():
        source, target = os.path.join(d.getVar('IMACTL_SOURCE'), name), os.path.join(place, name)
        bb.utils.mkdirhier(os.path.dirname(target))
        if os.path.isdir(source):
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
