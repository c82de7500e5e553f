//! The room `socket` of Saltgate, for a sanitizer.

// What only the gateway uses.
#![allow(dead_code, unused_imports)]

#[path = "../../../src/socket/mod.rs"]
mod socket;
