# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Signs the files of each RPM package (integrity.bbclass inherits it where DISTRO_FEATURES holds
# "ima"). The signatures stand in the package's signature header, and rpm's ima plugin writes them
# to security.ima as it installs the files. It goes with an OpenPGP signature (sign_rpm), in any
# order, and without.
#
# IMA_SIGN_RPM          "1": packages are signed
# IMA_SIGN_RPM_EXCLUDE  globs, on package names, of those left out: what no kernel executes, such as
#                       debug information and sources

IMA_SIGN_RPM ??= "1"
IMA_SIGN_RPM_EXCLUDE ??= "kernel-devsrc kernel-dbg *-dbg *-src *-staticdev *-doc *-locale-*"

python () {
    writes = bb.data.inherits_class('package_rpm', d) and d.getVar('PACKAGES')
    # what an SDK runs on the machine of a developer, no kernel of this build sees
    for_sdk = bb.data.inherits_class('nativesdk', d) or bb.data.inherits_class('cross-canadian', d)
    signs = bb.utils.contains('DISTRO_FEATURES', 'ima', True, False, d)
    if not writes or not signs or for_sdk or d.getVar('IMA_SIGN_RPM') != '1':
        return
    depends = ' imactl-native:do_populate_sysroot key-store:do_prepare_keys'
    d.appendVarFlag('do_package_write_rpm', 'depends', depends)
    # before sstate's own function takes them away
    d.prependVarFlag('do_package_write_rpm', 'postfuncs', 'ima_sign_packages ')
    d.appendVarFlag('do_package_write_rpm', 'vardeps', ' IMA_IDENTITY ima_sign_packages')
    integrity_let_sign(d, 'do_package_write_rpm', 'IMA_SIGNING_KEY')
}

ima_sign_packages[vardepsexclude] = "INTEGRITY_SIGNS"
python ima_sign_packages() {
    from fnmatch import fnmatch
    excluded = d.getVar('IMA_SIGN_RPM_EXCLUDE').split()
    packages = []
    for directory, _, files in os.walk(d.getVar('PKGWRITEDIRRPM')):
        for file in files:
            name = file.rsplit('-', 2)[0]  # NAME-VERSION-RELEASE.ARCHITECTURE.rpm
            if file.endswith('.rpm') and not any(fnmatch(name, glob) for glob in excluded):
                packages.append(os.path.join(directory, file))
    if not packages:
        return
    if d.getVar('INTEGRITY_SIGNS') == '0':
        bb.fatal('SIGNING_MODEL is "verify", and these packages are not in shared state with their '
            'signatures: %s\nBuild them where the key is. With bitbake -k all such recipes are listed; '
            'SIGNING_MODEL = "sample" signs a build of your own'
            % ' '.join(sorted(os.path.basename(package) for package in packages)))
    status, output = integrity_imactl(d, [*integrity_sign_arguments(d), *sorted(packages)])
    if status != 0:
        bb.fatal('the files in the packages were not signed:\n%s' % output)
    bb.note(output)
}
