# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Signs an image's root file system. IMAGE_CLASSES holds it (conf/layer.conf) where DISTRO_FEATURES
# holds "ima".
#
# It is done in do_image, behind everything that still changes files and before any image type is
# made; so tar, ext4, squashfs, erofs and wic all carry the signatures. An image whose types carry
# no extended attributes (cpio: an initramfs) is left alone.
#
# IMA_UNSIGNED_TYPES  image types that may come out without signatures. Another one that cannot carry
#                     them, such as f2fs, fails the build.
# IMA_SIGN_ROOTFS   "all" regular files; "executable": only what the kernel runs, maps or loads
#                   (programs, libraries, scripts, modules, firmware, policies); "none"
# IMA_SIGN_EXCLUDE  globs, on paths below the root, of what is left unsigned
#
# Then imactl tells what a kernel will refuse of it (preflight).
#
# IMA_PREFLIGHT           "error": an image that would not boot, or not run all that it holds, fails
#                         the build; "warn"; "off"
# IMA_PREFLIGHT_POLICY    policies, in the order of loading: what the initramfs loads first, then
#                         those of the root by their names, as imactl-init does
# IMA_PREFLIGHT_INIT      "0": no machine starts from this image, and it needs no init (a container,
#                         a system extension)
# IMA_ROOT_FS             the file system that the root will be on, where IMAGE_FSTYPES does not tell
#
# In the end imactl looks into the images that it can read (tar, ext4, erofs; squashfs where
# sqfs2tar is in HOSTTOOLS): each file that was signed must be signed there.

IMA_SIGN_ROOTFS ??= "all"
IMA_SIGN_EXCLUDE ??= ""
IMA_PREFLIGHT ??= "error"
IMA_PREFLIGHT_POLICY ??= "${@ima_policies(d)}"
IMA_PREFLIGHT_INIT ??= "${@'0' if set(d.getVar('IMAGE_FSTYPES').split()) <= {'container', 'oci'} else '1'}"
IMA_UNSIGNED_TYPES ??= "cpio vfat"
IMA_ROOT_FS ??= "${@ima_root_fs(d)}"

# Without these words tar leaves the attributes behind. The others keep out of the archive what
# differs from build to build: times of access and change, and tar's process id.
IMAGE_CMD_TAR:append = " --xattrs --xattrs-include=security.ima"
IMAGE_CMD_TAR:append = " --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"

# It leaves them behind unless told otherwise.
# nooelint: oelint.vars.overrideappend
EXTRA_IMAGECMD:jffs2:append = " --with-xattr"

def ima_image_types(d):
    """The image types that are to carry signatures."""
    unsigned = (d.getVar('IMA_UNSIGNED_TYPES') or '').split()
    types = (d.getVar('IMAGE_FSTYPES') or '').split()
    return [name for name in types if name.split('.')[0] not in unsigned]

def ima_policies(d):
    first = d.getVar('IMA_POLICY_INITRAMFS') or d.getVar('IMA_POLICY_DEFAULT')
    by_name = lambda path: os.fsencode(os.path.basename(path))
    return ' '.join([first, *sorted(d.getVar('IMA_POLICY_ROOT').split(), key=by_name)])

def ima_root_fs(d):
    """The file system of the image's types, where they agree on one."""
    known = ['btrfs', 'erofs', 'ext2', 'ext4', 'f2fs', 'jffs2', 'squashfs', 'ubifs']
    names = {name.split('.')[0].split('-')[0] for name in ima_image_types(d)}
    found = {'ext4' if name == 'ext3' else name for name in names}.intersection(known)
    return found.pop() if len(found) == 1 else ''

python () {
    if d.getVar('IMA_SIGN_ROOTFS') == 'none' or not ima_image_types(d):
        return
    depends = ' imactl-native:do_populate_sysroot key-store:do_prepare_keys'
    d.appendVarFlag('do_image', 'depends', depends)
    d.appendVarFlag('do_image', 'postfuncs', ' ima_sign_rootfs')
    d.appendVarFlag('do_image', 'vardeps', ' IMA_IDENTITY ima_sign_rootfs')
    # The root file system is signed where it is. It is made anew where it would be signed
    # otherwise: signatures of before would stay in what is excluded now.
    signing = ' IMA_IDENTITY IMA_SIGN_ROOTFS IMA_SIGN_EXCLUDE'
    d.appendVarFlag('do_rootfs', 'vardeps', signing)
    integrity_let_sign(d, 'do_image', 'IMA_SIGNING_KEY')
    d.appendVarFlag('do_image_complete', 'depends', depends)
    d.appendVarFlag('do_image_complete', 'prefuncs', ' ima_check_images')
    d.appendVarFlag('do_image_complete', 'vardeps', ' ima_check_images')
    if d.getVar('IMA_PREFLIGHT') != 'off':
        d.appendVarFlag('do_image', 'postfuncs', ' ima_preflight')
        d.appendVarFlag('do_image', 'vardeps', ' ima_preflight')
        policies = d.getVar('IMA_PREFLIGHT_POLICY').split()
        d.appendVarFlag('do_image', 'file-checksums', ''.join(' %s:True' % p for p in policies))
}

fakeroot python ima_sign_rootfs() {
    which = d.getVar('IMA_SIGN_ROOTFS')
    if which not in ('all', 'executable'):
        bb.fatal('IMA_SIGN_ROOTFS is "%s": it is "all", "executable" or "none"' % which)
    bare = {'cpio', 'cramfs', 'f2fs', 'vfat'}.intersection(
        name.split('.')[0] for name in ima_image_types(d))
    if bare:
        bb.fatal('images of type %s leave signatures behind, and a kernel would refuse what is in '
            'them. Take them out of IMAGE_FSTYPES, or name them in IMA_UNSIGNED_TYPES'
            % ', '.join(sorted(bare)))
    arguments = ['sign', *integrity_key_arguments(d)]
    if which == 'executable':
        arguments += ['--only', 'executable']
    for glob in d.getVar('IMA_SIGN_EXCLUDE').split():
        arguments += ['--exclude', glob]
    status, output = integrity_imactl(d, arguments + [d.getVar('IMAGE_ROOTFS')])
    if status != 0:
        bb.fatal('the root file system was not signed:\n%s' % output)
    bb.note(output)
    # for those who look at the images
    valid, _ = ima_verify(d, d.getVar('IMAGE_ROOTFS'))
    with open(d.expand('${WORKDIR}/ima-signed'), 'w') as list:
        list.write(''.join(name + '\n' for name in sorted(valid)))
}

def ima_verify(d, what):
    """The names, below the root, of files in a tree or an image: the valid, and the others."""
    import json
    arguments = ['--json', 'verify', '--cert', d.getVar('IMA_SIGNING_CERT'), what]
    status, output = integrity_imactl(d, arguments)
    found, complete = {True: set(), False: set()}, False
    for line in output.splitlines():
        if not line.startswith('{'):
            continue  # a warning
        line = json.loads(line)
        complete = complete or line['type'] == 'summary'
        if line['type'] == 'file':
            start = '.' if 'container' in line else what
            found[line['valid']].add(os.path.relpath(line['path'], start))
    if status not in (0, 1) or not complete:
        bb.fatal('%s cannot be verified:\n%s' % (what, output))
    return found[True], found[False]

python ima_check_images() {
    import re, shutil
    with open(d.expand('${WORKDIR}/ima-signed')) as list:
        signed = set(list.read().splitlines())
    kinds = r'ext[234]|erofs(-[a-z0-9]+)?|tar(\.(gz|bz2|xz|zst))?'
    if shutil.which('sqfs2tar'):
        kinds += r'|squashfs(-[a-z0-9]+)?'
    readable = re.compile(r'%s\.(%s)' % (re.escape(d.getVar('IMAGE_NAME')), kinds))
    for name in sorted(os.listdir(d.getVar('IMGDEPLOYDIR'))):
        path = os.path.join(d.getVar('IMGDEPLOYDIR'), name)
        if os.path.islink(path) or not readable.fullmatch(name):
            continue
        valid, others = ima_verify(d, path)
        lost = signed & others
        if lost or (signed and not valid):
            bb.fatal('%s: %d of the %d files that were signed are not signed there: %s'
                % (path, len(lost), len(signed), ' '.join(sorted(lost)[:5])))
        bb.note('%s: %d files are signed' % (path, len(valid)))
}

fakeroot python ima_preflight() {
    level = d.getVar('IMA_PREFLIGHT')
    if level not in ('error', 'warn'):
        bb.fatal('IMA_PREFLIGHT is "%s": it is "error", "warn" or "off"' % level)
    arguments = ['preflight', '--cert', d.getVar('IMA_SIGNING_CERT'), *integrity_kernel_arguments(d)]
    if d.getVar('IMA_PREFLIGHT_INIT') == '0':
        arguments += ['--no-init']
    if d.getVar('IMA_ROOT_FS'):
        arguments += ['--fs', d.getVar('IMA_ROOT_FS')]
    for policy in d.getVar('IMA_PREFLIGHT_POLICY').split():
        arguments += ['--policy', policy]
    status, output = integrity_imactl(d, arguments + ['--', d.getVar('IMAGE_ROOTFS')])
    if status == 0:
        bb.note(output)
        return
    if status != 1:  # it could not be told
        bb.fatal('imactl preflight:\n%s' % output)
    text = 'a kernel under this policy would refuse some of the image, or not start from it:\n%s' % output
    if level == 'warn':
        bb.warn(text)
    else:
        bb.fatal(text + '\nIMA_PREFLIGHT = "warn" builds it all the same')
}
