# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Signs an image's root file system. IMAGE_CLASSES holds it (conf/layer.conf) where DISTRO_FEATURES
# holds "ima".
#
# It is done in do_image, behind everything that still changes files and before any image type is
# made; so tar, ext4, squashfs, erofs and wic all carry the signatures. An image whose types carry
# no extended attributes (cpio: an initramfs) is left alone.
#
# IMA_SIGN_ROOTFS   "all" regular files; "executable": only what the kernel runs, maps or loads
#                   (programs, libraries, scripts, modules, firmware, policies); "none"
# IMA_SIGN_EXCLUDE  globs, on paths below the root, of what is left unsigned
#
# Then imactl tells what a kernel will refuse of it (preflight).
#
# IMA_PREFLIGHT           "error": an image that would not boot, or not run all that it holds, fails
#                         the build; "warn"; "off"
# IMA_PREFLIGHT_INIT      "0": no machine starts from this image, and it needs no init (a container,
#                         a system extension)
# IMA_PREFLIGHT_POLICY    policies, in the order of loading: what the initramfs loads first

IMA_SIGN_ROOTFS ??= "all"
IMA_SIGN_EXCLUDE ??= ""
IMA_PREFLIGHT ??= "error"
IMA_PREFLIGHT_INIT ??= "1"
IMA_PREFLIGHT_POLICY ??= "${@d.getVar('IMA_POLICY_INITRAMFS') or d.getVar('IMA_POLICY_DEFAULT')} ${IMA_POLICY_ROOT}"

# Without these words tar leaves the attributes behind. The others keep out of the archive what
# differs from build to build: times of access and change, and tar's process id.
IMAGE_CMD_TAR:append = " --xattrs --xattrs-include=security.ima"
IMAGE_CMD_TAR:append = " --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"

def ima_image_types(d):
    """The image types that can carry extended attributes."""
    bare = ('cpio', 'vfat', 'cramfs')
    types = (d.getVar('IMAGE_FSTYPES') or '').split()
    return [name for name in types if name.split('.')[0] not in bare]

python () {
    if d.getVar('IMA_SIGN_ROOTFS') == 'none' or not ima_image_types(d):
        return
    depends = ' imactl-native:do_populate_sysroot key-store:do_prepare_keys'
    d.appendVarFlag('do_image', 'depends', depends)
    d.appendVarFlag('do_image', 'postfuncs', ' ima_sign_rootfs')
    d.appendVarFlag('do_image', 'vardeps', ' IMA_IDENTITY ima_sign_rootfs')
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
    arguments = ['sign', *integrity_key_arguments(d)]
    if which == 'executable':
        arguments += ['--only', 'executable']
    for glob in d.getVar('IMA_SIGN_EXCLUDE').split():
        arguments += ['--exclude', glob]
    status, output = integrity_imactl(d, arguments + [d.getVar('IMAGE_ROOTFS')])
    if status != 0:
        bb.fatal('the root file system was not signed:\n%s' % output)
    bb.note(output)
}

fakeroot python ima_preflight() {
    level = d.getVar('IMA_PREFLIGHT')
    if level not in ('error', 'warn'):
        bb.fatal('IMA_PREFLIGHT is "%s": it is "error", "warn" or "off"' % level)
    arguments = ['preflight', '--cert', d.getVar('IMA_SIGNING_CERT')]
    if d.getVar('IMA_PREFLIGHT_INIT') == '0':
        arguments += ['--no-init']
    for policy in d.getVar('IMA_PREFLIGHT_POLICY').split():
        arguments += ['--policy', policy]
    status, output = integrity_imactl(d, arguments + ['--', d.getVar('IMAGE_ROOTFS')])
    if status == 0:
        bb.note(output)
        return
    if status != 1:  # it could not be told
        bb.fatal('imactl preflight:\n%s' % output)
    text = 'a kernel under this policy would refuse some of the image:\n%s' % output
    if level == 'warn':
        bb.warn(text)
    else:
        bb.fatal(text + '\nIMA_PREFLIGHT = "warn" builds it all the same')
}
