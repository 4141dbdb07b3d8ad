//! `sdn-node`.
fn main() {}
