# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Compares a kernel's configuration with the fragments that it was to have, and with the file systems
# of the images.

import re

# A file system: its option, and the options without which the kernel does not see security.ima.
_FILE_SYSTEMS = {
    'btrfs': ('BTRFS_FS', []),
    'erofs': ('EROFS_FS', ['EROFS_FS_XATTR', 'EROFS_FS_SECURITY']),
    'ext4': ('EXT4_FS', ['EXT4_FS_SECURITY']),
    'f2fs': ('F2FS_FS', ['F2FS_FS_XATTR', 'F2FS_FS_SECURITY']),
    'jffs2': ('JFFS2_FS', ['JFFS2_FS_XATTR', 'JFFS2_FS_SECURITY']),
    'squashfs': ('SQUASHFS', ['SQUASHFS_XATTR']),
    'ubifs': ('UBIFS_FS', ['UBIFS_FS_XATTR', 'UBIFS_FS_SECURITY']),
}
# What the compressed forms need.
_COMPRESSIONS = {
    'erofs-lz4': 'EROFS_FS_ZIP', 'erofs-lz4hc': 'EROFS_FS_ZIP', 'squashfs': 'SQUASHFS_ZLIB',
    'squashfs-lz4': 'SQUASHFS_LZ4', 'squashfs-lzo': 'SQUASHFS_LZO', 'squashfs-xz': 'SQUASHFS_XZ',
    'squashfs-zst': 'SQUASHFS_ZSTD',
}
_OTHER_NAMES = {'ext2': 'ext4', 'ext3': 'ext4', 'ubi': 'ubifs', 'multiubi': 'ubifs'}

def parse(text):
    """{option: value}; the value of an option that is not set is None."""
    options = {}
    for line in text.splitlines():
        unset = re.fullmatch(r'# (CONFIG_\w+) is not set', line.strip())
        given = re.fullmatch(r'(CONFIG_\w+)=(.*)', line.strip())
        if unset:
            options[unset.group(1)] = None
        elif given:
            options[given.group(1)] = given.group(2)
    return options

def demands_signed_policies(config):
    """Whether the kernel, under Secure Boot, takes no policy without a signature."""
    return parse(config).get('CONFIG_IMA_ARCH_POLICY') == 'y'

def missing(config, fragments, types):
    """The lines that a configuration lacks: of fragments, and for image types."""
    config = parse(config)
    used, wanted = set(), {}
    for fragment in fragments:
        wanted.update(parse(fragment))
    for name in types:
        name = name.split('.')[0]
        system = name.split('-')[0]
        system = _OTHER_NAMES.get(system, system)
        if system in _FILE_SYSTEMS:
            used.add(system)
        if name in _COMPRESSIONS:
            wanted['CONFIG_' + _COMPRESSIONS[name]] = 'y'
    lacking = []
    for system, (option, attributes) in _FILE_SYSTEMS.items():
        if system in used and config.get('CONFIG_' + option) not in ('y', 'm'):
            lacking.append('CONFIG_%s=y' % option)
        for attribute in ('CONFIG_' + name for name in attributes):
            # of a file system that is off nothing is asked
            if config.get('CONFIG_' + option) is None:
                wanted.pop(attribute, None)
            else:
                wanted[attribute] = 'y'
    for option, value in wanted.items():
        if config.get(option) != value:
            lacking.append('%s=%s' % (option, value) if value else '# %s is not set' % option)
    return lacking
