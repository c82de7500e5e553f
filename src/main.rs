//! Saltgate.
fn main() {}
