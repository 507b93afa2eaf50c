"""What the layer's check of a kernel's configuration finds (lib/integrity/kconfig.py).

    kconfig.py LAYER
"""

import os
import sys

LAYER = sys.argv[1]
sys.path.insert(0, os.path.join(LAYER, 'lib/integrity'))

import kconfig

def fragment(name):
    with open(os.path.join(LAYER, 'recipes-kernel/linux/linux-yocto', name + '.cfg')) as file:
        return file.read()

FRAGMENTS = [fragment(name) for name in ['integrity', 'ima', 'modsign']]
# all that the fragments ask for, on a kernel that has ext4 and nothing else of an image's file systems
ATTRIBUTES = [name for option, names in kconfig._FILE_SYSTEMS.values() for name in names]
WHOLE = {**kconfig.parse('\n'.join(FRAGMENTS)), 'CONFIG_EXT4_FS': 'y'}
for name in ATTRIBUTES:
    WHOLE.pop('CONFIG_' + name, None)
WHOLE['CONFIG_EXT4_FS_SECURITY'] = 'y'

def missing(types='', fragments=FRAGMENTS, **changes):
    config = {**WHOLE, **{'CONFIG_' + name: value for name, value in changes.items()}}
    text = ''.join('%s=%s\n' % (name, value) if value else '# %s is not set\n' % name
        for name, value in config.items())
    return sorted(kconfig.missing(text, fragments, types.split()))

def same(found, *wanted):
    assert found == sorted(wanted), (found, wanted)

same(missing('tar.zst ext4.zst wic'))
# each line of the fragments is looked at
for name in WHOLE:
    if name != 'CONFIG_EXT4_FS':
        lost = missing('ext4', **{name[len('CONFIG_'):]: None})
        same(lost, '%s=%s' % (name, WHOLE[name]))
same(missing(IMA_X509_PATH='"/elsewhere"'), 'CONFIG_IMA_X509_PATH="/etc/keys/x509_ima.der"')
# what the image's file systems need, and nothing of those that are off
same(missing('ext4', EXT4_FS=None), 'CONFIG_EXT4_FS=y')
same(missing('squashfs-xz'), 'CONFIG_SQUASHFS=y', 'CONFIG_SQUASHFS_XZ=y')
same(missing('squashfs-xz', SQUASHFS='y', SQUASHFS_XZ='y'), 'CONFIG_SQUASHFS_XATTR=y')
same(missing('ubi', UBIFS_FS='m', UBIFS_FS_XATTR='y'), 'CONFIG_UBIFS_FS_SECURITY=y')
same(missing(JFFS2_FS='y', JFFS2_FS_XATTR='y', JFFS2_FS_SECURITY='y'))
# appended signatures are asked for where the feature is on
same(missing(fragments=[*FRAGMENTS, fragment('ima-modsig')], IMA_APPRAISE_MODSIG=None),
    'CONFIG_IMA_APPRAISE_MODSIG=y')
same(missing(fragments=[*FRAGMENTS, fragment('evm')]), 'CONFIG_EVM=y')
# a later fragment decides
fixed = [*FRAGMENTS, fragment('no-bootparam')]
same(missing(fragments=fixed), '# CONFIG_IMA_APPRAISE_BOOTPARAM is not set')
same(missing(fragments=fixed, IMA_APPRAISE_BOOTPARAM=None))
for line, demands in [('CONFIG_IMA_ARCH_POLICY=y', True), ('# CONFIG_IMA_ARCH_POLICY is not set', False), ('', False)]:
    assert kconfig.demands_signed_policies(line + '\n') == demands, line
print('kernel configurations: %d options' % len(WHOLE))
