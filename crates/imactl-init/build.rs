//! Links the program as the kernel starts it: static, at fixed addresses, without the C
//! library's start files.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for argument in [
        "-static",
        "-no-pie",
        "-nostartfiles",
        "-nostdlib",
        "-Wl,--build-id=none",
        "-Wl,--gc-sections",
        "-Wl,-z,noseparate-code",
        "-Wl,-z,norelro",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
