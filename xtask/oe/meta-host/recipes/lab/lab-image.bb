require recipes-core/images/integrity-image-minimal.bb

SUMMARY = "integrity-image-minimal with what the lab needs in place of what must be downloaded"

IMAGE_INSTALL = "packagegroup-ima packagegroup-ima-tools lab-root"
IMAGE_FSTYPES = "tar ext4 squashfs erofs wic"
# by its path: series differ in where they look
WKS_FILE = "${THISDIR}/../../files/wic/lab.wks"
WKS_FILE_DEPENDS = ""
IMAGE_FEATURES = ""

# The machine's boot loader would have to be downloaded; the disc is looked at, not booted.
python () {
    depends = (d.getVarFlag('do_image_wic', 'depends') or '').split()
    depends = [task for task in depends if not task.startswith('syslinux')]
    d.setVarFlag('do_image_wic', 'depends', ' '.join(depends))
    # wic wants the place to be there where kernels are put
    d.prependVarFlag('do_image_wic', 'dirs', d.getVar('DEPLOY_DIR_IMAGE') + ' ')
}
