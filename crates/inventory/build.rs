//! `sqlx::migrate!` reads the folder while compiling, which cargo cannot see by itself.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
