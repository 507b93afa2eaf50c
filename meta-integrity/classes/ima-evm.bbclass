# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Signs owner, mode, capabilities and labels of an image's files (EVM, docs/evm.md of imactl), where
# IMA_EVM is "portable" (ima-keys.bbclass). ima-image.bbclass inherits and calls it, after the files' content
# is signed.
#
# IMA_EVM_EXCLUDE    globs, on paths below the root, of files without an EVM signature besides those of
#                    IMA_SIGN_EXCLUDE: with one a file is immutable. The default is what software on the target
#                    changes or replaces. A policy that appraises such a file denies it
# IMA_EVM_WORD_SIZE  of the target's kernel: 64, 32, 64be or 32be
# IMA_EVM_CAPABILITIES
#                    a file with capabilities that files of the image get (lines of getcap -r /); without it an image
#                    with a script that calls setcap at the first boot is refused

IMA_EVM_EXCLUDE ??= "\
    etc/passwd* etc/group* etc/shadow* etc/gshadow* etc/subuid* etc/subgid* etc/machine-id etc/hostname \
    etc/machine-info etc/locale.conf etc/vconsole.conf etc/resolv.conf etc/ld.so.cache etc/adjtime etc/mtab \
    etc/timestamp etc/random-seed etc/udev/hwdb.bin etc/.updated var/** \
"
IMA_EVM_WORD_SIZE ??= "${SITEINFO_BITS}${@'be' if d.getVar('SITEINFO_ENDIANNESS') == 'be' else ''}"

def ima_evm_arguments(d):
    """The arguments of imactl that have it judge EVM signatures, too."""
    return ['--evm', '--evm-cert', d.getVar('EVM_SIGNING_CERT'), '--word-size', d.getVar('IMA_EVM_WORD_SIZE')]

def ima_sign_evm(d, selection):
    root = d.getVar('IMAGE_ROOTFS')
    if d.getVar('INTEGRITY_SIGNS') == '0':
        bb.fatal('SIGNING_MODEL is "verify", and EVM signatures are in no package: an image with them is made '
            'where the key is. IMA_EVM = "none" makes one without')
    reason = ima_evm_later(d)
    if reason:
        bb.fatal('IMA_EVM is "portable", but %s. Labels are a part of what is signed: a kernel would deny every '
            'file that gets another one. Label the files in do_rootfs or IMAGE_PREPROCESS_COMMAND (setfiles -r), '
            'or set IMA_EVM = "none"' % reason)
    scripts = ima_evm_scripts(d)
    if scripts:
        bb.warn('IMA_EVM is "portable", and these scripts, which run at the first boot, change owners, modes or '
            'labels. The kernel denies that for signed files: %s' % ' '.join(scripts))
    arguments = ['sign', '--evm', '--evm-only', *integrity_key_arguments(d, 'EVM'),
        '--word-size', d.getVar('IMA_EVM_WORD_SIZE'), *selection]
    if d.getVar('IMA_EVM_CAPABILITIES'):
        arguments += ['--capabilities', d.getVar('IMA_EVM_CAPABILITIES')]
    for glob in d.getVar('IMA_EVM_EXCLUDE').split():
        arguments += ['--exclude', glob]
    status, output = integrity_imactl(d, [*arguments, root], 'EVM')
    if status != 0:
        bb.fatal('no EVM signatures were made:\n%s' % output)
    bb.note(output)

def ima_evm_later(d):
    """Why the target would change labels after they were signed, or None."""
    if os.path.lexists(d.expand('${IMAGE_ROOTFS}/.autorelabel')):
        return '/.autorelabel has the target label its files at the first boot'
    config = d.expand('${IMAGE_ROOTFS}${sysconfdir}/selinux/config')
    if os.path.exists(config) and 'security.selinux' not in os.listxattr(config):
        with open(config) as lines:
            if not any(line.split() == ['SELINUX=disabled'] for line in lines):
                return 'it has SELinux, and its files have no labels yet'
    return None

def ima_evm_scripts(d):
    """The scripts of packages that run on the target and change what EVM covers."""
    import glob, re
    changes = re.compile(rb'\b(chmod|chown|chgrp|setcap|setfattr|chcon|restorecon|setfiles|chsmack)\b')
    found = []
    for path in sorted(glob.glob(d.expand('${IMAGE_ROOTFS}${sysconfdir}/*-postinsts/*'))):
        with open(path, 'rb') as script:
            if changes.search(script.read()):
                found.append(os.path.basename(path))
    return found
