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
//!
//! The crate is a program: [`run`] is its only public function. `cargo doc --document-private-items` shows the rest.

#[cfg(test)]
mod adversary;
mod audit;
mod authentication;
mod bytewise;
mod certificate;
mod cli;
mod clock;
mod config;
mod console;
mod control;
mod credential;
#[cfg(feature = "demo")]
mod demo;
mod directory;
mod event_loop;
mod explain;
mod file_watch;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod http;
mod key_file;
#[cfg_attr(not(feature = "postgres"), allow(dead_code, unused_imports, reason = "only keys in PostgreSQL are kept so"))]
mod key_snapshot;
mod key_use;
mod listen;
mod lookup;
mod net;
mod ownership;
#[doc(hidden)]
pub mod parts;
mod pipeline;
mod plain;
mod policy;
mod postgres;
mod process;
mod refusal;
mod repeats;
mod replay;
mod safeguard;
mod seal;
mod serve;
mod ship;
mod socket;
mod stack;
mod state;
mod status;
mod systemd;
mod telemetry;
mod throttle;
mod trace;
mod upstream;

pub use cli::run;
