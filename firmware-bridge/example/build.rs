//! Lets the linker find the script wherever cargo is called from.

fn main() {
    println!("cargo::rerun-if-changed=mps2.ld");
    println!("cargo::rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
}
