CLASSOVERRIDE = "class-native"
PN = "${BPN}-native"
