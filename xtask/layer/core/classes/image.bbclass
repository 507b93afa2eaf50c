inherit_defer ${IMAGE_CLASSES}

PACKAGES = ""
IMAGE_ROOTFS = "${WORKDIR}/rootfs"
IMAGE_CMD_TAR ?= "tar"

fakeroot python do_rootfs() {
    pass
}
addtask rootfs after do_install

fakeroot python do_image() {
    pass
}
addtask image after do_rootfs
