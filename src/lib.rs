//! Saltgate: an authenticating reverse proxy that lets exactly the right deletions through.
//!
//! # The life of a request
//!
//! 1. A worker accepts the connection ([`serve`], [`listen`]). A request whose raw bytes are ambiguous is refused
//!    ([`http::h1`]).
//! 2. [`stack`] lists all further steps in order. Each is a gate of [`gate`].
//! 3. The form of the request is checked, then its signature: [`authentication`] gives the verdict. [`credential`] parses and
//!    verifies the header, [`directory`] finds the key, and [`replay`] has the window and the floor for its date.
//! 4. The request is admitted and its body is read, before anything is spent.
//! 5. Its salt is spent, once ([`replay`]). From here on the request runs to its end.
//! 6. [`policy`] finds its route and judges the role and the [`ownership`] of the segment.
//! 7. The intent is recorded ([`audit`]), the deletion is sent [`upstream`] at most once, and the outcome is recorded.
//! 8. A request that is refused at any step has a reason in [`refusal`], and one answer.

#[cfg(test)]
mod adversary;
pub mod audit;
pub mod authentication;
mod bytewise;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod config;
mod console;
pub mod control;
pub mod credential;
#[cfg(feature = "demo")]
pub mod demo;
pub mod directory;
mod event_loop;
pub mod explain;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod gate;
pub mod http;
pub mod listen;
pub mod lookup;
pub mod net;
pub mod ownership;
pub mod pipeline;
pub mod plain;
pub mod policy;
pub mod process;
pub mod refusal;
pub mod repeats;
pub mod replay;
pub mod safeguard;
pub mod serve;
pub mod stack;
pub mod state;
pub mod telemetry;
pub mod throttle;
pub mod upstream;
