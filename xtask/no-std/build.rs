//! The C runtime starts the program and gives it `memcpy` and its like; nothing else of it is used.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg=-lc");
}
