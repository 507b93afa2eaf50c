# nothing that parsing needs

KERNEL_CONFIG_COMMAND = "make olddefconfig"
