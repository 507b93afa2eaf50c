python do_package_write_rpm() {
    pass
}
addtask package_write_rpm after do_install
