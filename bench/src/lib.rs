//! Shared code of the load generator and the upstream of `bench/compare`.

pub mod message;
pub mod poll;
pub mod sign;
pub mod stream;
