//! Tells the code which OpenSSL it is linked with, as the `openssl` crate itself does.

fn main() {
    println!("cargo:rustc-check-cfg=cfg(ossl320)");
    let version = std::env::var("DEP_OPENSSL_VERSION_NUMBER").unwrap_or_default();
    if u64::from_str_radix(&version, 16).unwrap_or(0) >= 0x3020_0000 {
        println!("cargo:rustc-cfg=ossl320");
    }
}
