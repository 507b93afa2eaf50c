SUMMARY = "imactl on the target, and what is done with it"
DESCRIPTION = "imactl says why a file is denied, verifies files and measurement lists, and loads keys and \
policies; ima-enforced has it check each boot."

inherit packagegroup features_check

REQUIRED_DISTRO_FEATURES = "ima"

RDEPENDS:${PN} = "\
    ima-enforced \
    imactl \
"
