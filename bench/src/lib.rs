//! What the load generator and the upstream of `bench/compare` share.

pub mod message;
pub mod poll;
pub mod sign;
