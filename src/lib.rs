//! Saltgate: an authenticating reverse proxy that lets exactly the right deletions through.
//!
//! # The life of a request
//!
//! 1. A worker accepts the connection ([`serve`], [`listen`]). What is in doubt on the raw bytes is
//!    refused ([`wire`]); hyper reads the rest.
//! 2. [`stack`] is the whole way, in order; each step is a gate of [`gate`].
//! 3. The form is inspected, then the signature: [`credential`] parses and verifies, [`directory`]
//!    knows whose key it is, [`replay`] has the window and the floor.
//! 4. It is admitted while nothing is spent, and its body read.
//! 5. Its salt is spent, once ([`replay`]). From here on it runs to its end.
//! 6. [`policy`] finds its route and judges role and [`ownership`].
//! 7. The intent goes on record ([`audit`]), the deletion goes [`upstream`], at most once, and the
//!    outcome goes on record.
//! 8. Whatever was refused on the way has a reason in [`refusal`], and one answer.

pub mod audit;
mod bytewise;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod credential;
#[cfg(feature = "demo")]
pub mod demo;
pub mod directory;
pub mod explain;
pub mod gate;
pub mod listen;
pub mod ownership;
pub mod policy;
pub mod refusal;
pub mod replay;
pub mod safeguard;
pub mod serve;
pub mod stack;
pub mod telemetry;
pub mod throttle;
mod turn;
pub mod upstream;
pub mod wire;
