//! `sdnctl`.
fn main() {}
