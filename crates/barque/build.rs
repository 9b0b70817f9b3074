//! Has the linker place the functions that a `create` needs side by side, in the order that `text.ld` says.
//!
//! The kernel maps 64 KB around each page of the program that is touched (`fault_around_bytes`): strewn over the whole
//! text, a megabyte of functions costs four megabytes of resident memory. `cargo xtask layout` writes the file; a
//! function that it does not know, or knows and no longer finds, lies where the linker would have put it anyway.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=text.ld");
    // A debug build has other functions, and no need.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let directory =
            std::env::var("CARGO_MANIFEST_DIR").expect("cargo tells a build script where it is");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{directory}/text.ld");
    }
}
