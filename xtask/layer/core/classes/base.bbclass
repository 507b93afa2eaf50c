do_fetch() {
    :
}
do_configure() {
    :
}
do_compile() {
    :
}
do_install() {
    :
}
addtask fetch
addtask configure after do_fetch
addtask compile after do_configure
addtask install after do_compile
addtask prepare_recipe_sysroot before do_configure after do_fetch
