//! Saltgate: an authenticating reverse proxy that lets exactly the right deletions through.

pub mod clock;
pub mod credential;
#[cfg(feature = "demo")]
pub mod demo;
pub mod policy;
pub mod replay;
