//! `sdn-controller`.
fn main() {}
