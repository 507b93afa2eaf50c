# Keeps images from what only a real build can give: an SDK, a dynamic loader's cache, kernel
# modules, scripts that packages run on the target.

NO_RECOMMENDATIONS = "1"
LDCONFIGDEPEND = ""
KERNELDEPMODDEPEND = ""
KERNEL_DEPLOY_DEPEND = ""
EXTRA_IMAGEDEPENDS = ""
ROOTFS_BOOTSTRAP_INSTALL = ""
ROOTFS_POSTPROCESS_COMMAND = ""
IMAGE_PREPROCESS_COMMAND:prepend = "host_image_tidy "

# The host's dnf logs below the root file system, under the path of the log on the host.
host_image_tidy() {
    rm -rf ${IMAGE_ROOTFS}${WORKDIR}
    directory=${@os.path.dirname(d.getVar('WORKDIR'))}
    while [ "$directory" != / ]; do
        # not when do_image runs once more
        [ ! -d "${IMAGE_ROOTFS}$directory" ] || rmdir --ignore-fail-on-non-empty "${IMAGE_ROOTFS}$directory"
        directory=$(dirname "$directory")
    done
}

python () {
    for task in ['do_populate_sdk', 'do_populate_sdk_ext', 'do_sdk_depends', 'do_testimage', 'do_testsdk']:
        bb.build.deltask(task, d)
        for flag in ['depends', 'rdepends']:
            d.delVarFlag(task, flag)
}

# The part of do_populate_sdk_ext that has layers, configuration and shared state: no toolchain, no buildtools.
SDK_INCLUDE_TOOLCHAIN = "0"
SDK_INCLUDE_BUILDTOOLS = "0"

python do_lab_sdk() {
    import oe.copy_buildsystem
    oe.copy_buildsystem.generate_locked_sigs(d.expand('${WORKDIR}/locked-sigs.inc'), d)
    bb.build.exec_func('copy_buildsystem', d)
}
do_lab_sdk[nostamp] = "1"
do_lab_sdk[cleandirs] = "${SDK_OUTPUT}"
do_lab_sdk[depends] = "${@get_ext_sdk_depends(d)}"
do_lab_sdk[recrdeptask] = "do_packagedata do_package_write_rpm do_package_qa do_populate_lic do_populate_sysroot do_deploy"
addtask lab_sdk
