SUMMARY = "A module outside the kernel's tree, signed as the kernel's makefiles do"

require ../programs.inc

inherit module

PROGRAMS = "sign-file"

LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"
SRC_URI = "file://Makefile;subdir=${BP}"

# LAB_SIGN_FILE is another program where a test has it fail
LAB_SIGN_FILE ?= "${IMACTL_PROGRAMS}/sign-file"
EXTRA_OEMAKE += "LAB_SIGN_FILE='${LAB_SIGN_FILE}' LAB_CERTIFICATE='${MODSIGN_CERT}'"
