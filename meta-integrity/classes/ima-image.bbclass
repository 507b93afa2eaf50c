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
# Then imactl reports which files of it a kernel will deny (preflight).
#
# IMA_PREFLIGHT           "error": an image that would not boot, or not run all that it holds, fails
#                         the build; "warn"; "off"
# IMA_PREFLIGHT_POLICY    policies, in the order of loading: what the initramfs loads first, then
#                         those of the root by their names, as imactl-init does
# IMA_PREFLIGHT_INIT      "0": no machine starts from this image, and it needs no init (a container,
#                         a system extension)
# IMA_PREFLIGHT_CPU       the CPUs that the machine may have, in the words of `imactl preflight --cpu`; the
#                         tune's level where it has one, else all of the architecture
# IMA_ROOT_FS             the file system that the root will be on, where IMAGE_FSTYPES does not tell
#
# In the end imactl looks into the images as they ship, compressed or on a disk with partitions (tar,
# ext2 to ext4, erofs, squashfs, wic): each file that was signed must be signed there. A warning names
# the images that cannot be read, such as ubifs.

# IMA_PACKAGE_CHECK  "error": an image with a package manager that does not write signatures fails the
#                    build: the kernel denies what such a manager installs; "warn"; "off"

inherit ima-evm

IMA_SIGN_ROOTFS ??= "all"
IMA_PACKAGE_CHECK ??= "error"
IMA_SIGN_EXCLUDE ??= ""
IMA_PREFLIGHT ??= "error"
IMA_PREFLIGHT_POLICY ??= "${@ima_policies(d)}"
IMA_PREFLIGHT_INIT ??= "${@'0' if set(d.getVar('IMAGE_FSTYPES').split()) <= {'container', 'oci'} else '1'}"
IMA_PREFLIGHT_CPU ??= "${@ima_cpus(d)}"
IMA_UNSIGNED_TYPES ??= "cpio vfat"
IMA_ROOT_FS ??= "${@ima_root_fs(d)}"

# Without these words tar leaves the attributes behind. The others keep out of the archive what
# differs from build to build: times of access and change, and tar's process id.
IMAGE_CMD_TAR:append = " --xattrs --xattrs-include=security.ima"
IMAGE_CMD_TAR:append = "${@' --xattrs-include=security.*' if d.getVar('IMA_EVM') != 'none' else ''}"
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

def ima_cpus(d):
    """The CPUs on which the tune's programs run; '' for all of the architecture."""
    levels = {'corei7': 'x86-64-v2 x86-64-v3 x86-64-v4', 'x86-64-v3': 'x86-64-v3 x86-64-v4'}
    features = (d.getVar('TUNE_FEATURES') or '').split()
    return next((names for tune, names in levels.items() if tune in features), '')

python () {
    d.appendVarFlag('do_image', 'postfuncs', ' ima_check_initramfs')
    d.appendVarFlag('do_image', 'vardeps', ' ima_check_initramfs')
    if d.getVar('IMA_SIGN_ROOTFS') == 'none' or not ima_image_types(d):
        return
    depends = ' imactl-native:do_populate_sysroot key-store:do_prepare_keys'
    d.appendVarFlag('do_image', 'depends', depends)
    d.appendVarFlag('do_image', 'postfuncs', ' ima_sign_rootfs')
    d.appendVarFlag('do_image', 'vardeps', ' IMA_IDENTITY EVM_IDENTITY INTEGRITY_SIGNS ima_sign_rootfs')
    # The root file system is signed where it is. It is made anew where it would be signed
    # otherwise: signatures of before would stay in what is excluded now.
    signing = ' IMA_IDENTITY EVM_IDENTITY IMA_SIGN_ROOTFS IMA_SIGN_EXCLUDE IMA_EVM_EXCLUDE INTEGRITY_SIGNS'
    d.appendVarFlag('do_rootfs', 'vardeps', signing)
    for key in ['IMA_SIGNING_KEY', 'EVM_SIGNING_KEY']:
        integrity_let_sign(d, 'do_image', key)
    d.appendVarFlag('do_image', 'postfuncs', ' ima_check_package_management')
    d.appendVarFlag('do_image', 'vardeps', ' ima_check_package_management')
    d.appendVarFlag('do_image_complete', 'depends', depends)
    # before sstate's own function publishes them
    d.prependVarFlag('do_image_complete', 'postfuncs', 'ima_check_images ')
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
        bb.fatal('images of type %s leave signatures behind, and a kernel would deny what is in '
            'them. Take them out of IMAGE_FSTYPES, or name them in IMA_UNSIGNED_TYPES'
            % ', '.join(sorted(bare)))
    if d.getVar('INTEGRITY_SIGNS') == '0' and d.getVar('IMA_EVM') == 'none':
        ima_take_signatures(d)
        return
    selection = ['--only', 'executable'] if which == 'executable' else []
    for glob in d.getVar('IMA_SIGN_EXCLUDE').split():
        selection += ['--exclude', glob]
    arguments = [*integrity_sign_arguments(d), *selection]
    status, output = integrity_imactl(d, arguments + [d.getVar('IMAGE_ROOTFS')])
    if status != 0:
        bb.fatal('the root file system was not signed:\n%s' % output)
    bb.note(output)
    if d.getVar('IMA_EVM') != 'none':
        ima_sign_evm(d, selection)
    ima_list_signed(d)
}

def ima_list_signed(d):
    """Verifies the root file system; the others are the result. Those who look at the images have a list
    of the valid."""
    for attribute, arguments in ima_attributes(d):
        valid, others = ima_verify(d, d.getVar('IMAGE_ROOTFS'), arguments)
        with open(d.expand('${WORKDIR}/%s-signed' % attribute), 'w') as names:
            names.write(''.join(name + '\n' for name in sorted(valid)))
    return others

def ima_attributes(d):
    """What files are signed with, and the arguments of imactl that verify it."""
    ima = ['--cert', d.getVar('IMA_SIGNING_CERT')]
    evm = [('evm', ima + ima_evm_arguments(d))] if d.getVar('IMA_EVM') != 'none' else []
    return [('ima', ima), *evm]

def ima_take_signatures(d):
    """Without the key: gives files the signatures that their packages carry, and reports the others."""
    import subprocess
    from itertools import islice
    packages = iter(sorted(str(path) for path in oe.path.find(d.expand('${WORKDIR}/oe-rootfs-repo'))
        if path.endswith('.rpm')))
    signatures = {}
    query = ['rpm', '-qp', '--nosignature', '--nodigest', '--qf', '[%{FILENAMES}\t%{FILEDIGESTS}\t%{FILESIGNATURES}\n]']
    while batch := list(islice(packages, 500)):
        for line in subprocess.run(query + batch, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines():
            name, digest, signature = line.split('\t')
            if signature not in ('', '(none)'):
                signatures[name, digest] = bytes.fromhex(signature)
    root = d.getVar('IMAGE_ROOTFS')
    for path in oe.path.find(root):
        if os.path.isfile(path) and not os.path.islink(path):
            signature = signatures.get((path[len(root):], bb.utils.sha256_file(path)))
            if signature:
                os.setxattr(path, 'security.ima', signature)
    unsigned = sorted(ima_list_signed(d))
    with open(d.expand('${WORKDIR}/ima-unsigned'), 'w') as names:
        names.write(''.join(name + '\n' for name in unsigned))
    if unsigned:
        bb.warn('SIGNING_MODEL is "verify": %d files of the image would need the key, since no package has '
            'a signature for them; all are listed in %s: %s'
            % (len(unsigned), d.expand('${WORKDIR}/ima-unsigned'), ' '.join(unsigned[:10])))

# An initramfs that brings a policy has to load it, and nothing may start the root's init before.
python ima_check_initramfs() {
    import glob, re
    root = d.getVar('IMAGE_ROOTFS')
    policies = [root + d.expand('${sysconfdir}/ima/') + name for name in ('ima_policy', 'ima_policy.default')]
    if ima_image_types(d) or not any(os.path.exists(policy) for policy in policies):
        return
    if d.getVar('IMA_EVM') != 'none' and not glob.glob(root + d.expand('${sysconfdir}/keys/evm/*.der')):
        bb.fatal('IMA_EVM is "%s", and this initramfs has no certificate for EVM, which would stay off. Install '
            'key-store-evm-cert, or packagegroup-ima-initramfs' % d.getVar('IMA_EVM'))
    module = root + '/init.d/98-imactl'
    def text(path):
        with open(path, errors='replace') as file:
            return file.read()
    def is_ours(path):
        return os.path.basename(os.path.realpath(path)) == 'imactl-init'
    if os.path.exists(module):
        # initramfs-framework sources them by their names
        for path in sorted(glob.glob(root + '/init.d/[0-9][0-9]-*')):
            if path >= module:
                break
            if re.search(r'^\s*exec\s+(chroot|switch_root|run-init|pivot_root)\b', text(path), re.M):
                bb.fatal('%s starts the init of the root, and 98-imactl, which loads the policy, comes '
                    'after it: the machine would boot without a policy. Take this module out of the '
                    'initramfs' % path[len(root):])
        return
    init = root + '/init'
    if is_ours(init):
        return
    if os.path.exists(init) and os.path.lexists(root + '/init.ima') and 'init.ima' in text(init):
        return
    if os.path.exists(root + d.expand('${systemd_system_unitdir}/initrd-switch-root.service.d/imactl.conf')):
        return
    bb.fatal('this initramfs brings a policy, but nothing in it loads the policy: the machine would '
        'boot without one. Install imactl-init-initramfs (as /init), initramfs-module-imactl (for '
        'initramfs-framework), or have /init call /init.ima (initrdscripts-ima)')
}

def ima_unsigned_management(d):
    """Why what is installed on the target would not be signed, or None."""
    root = d.getVar('IMAGE_ROOTFS')
    there = lambda path: os.path.lexists(root + path)
    for name in ['dpkg', 'opkg']:
        if there(d.expand('${bindir}/') + name):
            return '%s does not write signatures, and runs maintainer scripts, which it unpacks' % name
    if 'package-management' in d.getVar('IMAGE_FEATURES').split() and d.getVar('IMAGE_PKGTYPE') != 'rpm':
        return 'packages of the kind %s carry no signatures' % d.getVar('IMAGE_PKGTYPE')
    if there(d.expand('${bindir}/rpm')):
        if d.getVar('IMA_EVM') != 'none':
            return 'IMA_EVM is "%s", and packages carry no EVM signatures' % d.getVar('IMA_EVM')
        if d.getVar('IMA_SIGN_RPM') != '1':
            return 'IMA_SIGN_RPM is not "1": the packages carry no signatures'
        if not there(d.expand('${libdir}/rpm-plugins/ima.so')):
            return 'its rpm has no ima plugin, and does not write the signatures of packages'
    return None

python ima_check_package_management() {
    level = d.getVar('IMA_PACKAGE_CHECK')
    if level not in ('error', 'warn', 'off'):
        bb.fatal('IMA_PACKAGE_CHECK is "%s": it is "error", "warn" or "off"' % level)
    reason = level != 'off' and ima_unsigned_management(d)
    if reason:
        text = ('this image manages packages, and the kernel would deny what is installed later: %s. '
            'PACKAGE_CLASSES = "package_rpm" has packages signed; or take package-management out of '
            'IMAGE_FEATURES' % reason)
        if level == 'warn':
            bb.warn(text)
        else:
            bb.fatal(text + '. IMA_PACKAGE_CHECK = "warn" builds the image anyway')
}

def ima_verify(d, what, arguments):
    """The names, below the root, of files in a tree or an image: the valid, and the others."""
    import json
    status, output = integrity_imactl(d, ['--json', 'verify', *arguments, what])
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

def ima_check_image(d, name, kind, parts, attribute, arguments):
    """Fails where a file of the root file system that was signed is not signed in the image."""
    with open(d.expand('${WORKDIR}/%s-signed' % attribute)) as list:
        signed = set(list.read().splitlines())
    valid, others = set(), set()
    for part in parts:
        found = ima_verify(d, part, arguments)
        valid |= signed & found[0]
        others |= signed & found[1]
    if kind.startswith('wic') and 'etc/fstab' in others:
        others.remove('etc/fstab')
        bb.warn('%s: wic has changed etc/fstab, whose signature is void. Where a policy wants it, '
            'WIC_CREATE_EXTRA_ARGS = "--no-fstab-update" leaves the file alone' % name)
    if others or (signed and not valid):
        bb.fatal('%s: %d of the %d files that were signed (security.%s) are not signed there: %s'
            % (name, len(others), len(signed), attribute, ' '.join(sorted(others)[:5])))
    bb.note('%s: security.%s: %d files are signed' % (name, attribute, len(valid)))

# What is made from an image and holds none of its files.
IMA_ABOUT_IMAGES = "bmap gzsync md5sum sha1sum sha224sum sha256sum sha384sum sha512sum zsync"

python ima_check_images() {
    unverified = []
    for kind in ima_image_types(d):
        if kind.split('.')[-1] in d.getVar('IMA_ABOUT_IMAGES').split():
            continue
        name = d.expand('${IMAGE_NAME}.') + kind
        scratch = d.expand('${WORKDIR}/ima-verify')
        bb.utils.remove(scratch, recurse=True)
        bb.utils.mkdirhier(scratch)
        parts = ima_readable(os.path.join(d.getVar('IMGDEPLOYDIR'), name), kind, scratch)
        for attribute, arguments in ima_attributes(d) if parts else []:
            ima_check_image(d, name, kind, parts, attribute, arguments)
        bb.utils.remove(scratch, recurse=True)
        if not parts:
            unverified.append(name)
    if unverified:
        bb.warn('the signatures in these images were not verified, since there is no tool that reads '
            'them: %s' % ' '.join(unverified))
}

def ima_readable(path, kind, scratch):
    """The parts of an image with files, in forms that imactl reads; none where it cannot be read."""
    import shutil, subprocess
    base, *conversions = kind.split('.')
    if not os.path.isfile(path):
        return []
    if base == 'tar' and conversions in ([], ['bz2'], ['gz'], ['xz'], ['zst']):
        return [path]
    while conversions:
        extension = conversions.pop()
        if extension not in integrity.unpack.PROGRAMS:
            return []
        plain = os.path.join(scratch, 'image.%d' % len(conversions))
        with open(plain, 'wb') as output:
            integrity.unpack.decompress(path, extension, output)
        path = plain
    if base == 'tar':
        return [path]
    systems = integrity.unpack.file_systems(path)
    if not systems and shutil.which('parted'):
        systems = integrity.unpack.partitions(path, scratch)
    parts = []
    for system, path in systems:
        if system == 'squashfs':
            if not shutil.which('unsquashfs'):
                continue
            tree = os.path.join(scratch, 'tree.%d' % len(parts))
            command = ['unsquashfs', '-no-progress', '-d', tree, path]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            path = tree
        parts.append(path)
    return parts

fakeroot python ima_preflight() {
    level = d.getVar('IMA_PREFLIGHT')
    if level not in ('error', 'warn'):
        bb.fatal('IMA_PREFLIGHT is "%s": it is "error", "warn" or "off"' % level)
    arguments = ['preflight', '--cert', d.getVar('IMA_SIGNING_CERT'), *integrity_kernel_arguments(d)]
    if d.getVar('IMA_EVM') != 'none':
        arguments += ima_evm_arguments(d)
    if d.getVar('IMA_PREFLIGHT_INIT') == '0':
        arguments += ['--no-init']
    if d.getVar('IMA_ROOT_FS'):
        arguments += ['--fs', d.getVar('IMA_ROOT_FS')]
    for cpu in d.getVar('IMA_PREFLIGHT_CPU').split():
        arguments += ['--cpu', cpu]
    for policy in d.getVar('IMA_PREFLIGHT_POLICY').split():
        arguments += ['--policy', policy]
    status, output = integrity_imactl(d, arguments + ['--', d.getVar('IMAGE_ROOTFS')])
    if status == 0:
        bb.note(output)
        return
    if status != 1:  # it could not be told
        bb.fatal('imactl preflight:\n%s' % output)
    text = 'a kernel under this policy would deny some of the image, or not start from it:\n%s' % output
    if level == 'warn':
        bb.warn(text)
    else:
        bb.fatal(text + '\nIMA_PREFLIGHT = "warn" builds it all the same')
}
