inherit_defer ${IMAGE_CLASSES}

PACKAGES = ""
IMAGE_ROOTFS = "${WORKDIR}/rootfs"
IMAGE_CMD_TAR ?= "tar"

fakeroot python do_image() {
    pass
}
addtask image after do_install
