//! Repeats: requests that a client or proxy sends again (contract §3, "A request that comes again").
//!
//! Many clients and proxies resend a request by themselves when its answer was lost. Its salt is spent, so it is
//! never forwarded.
//!
//! 1. [`Repeats`] remembers the first request of each spent salt: what it asked for ([`Asked`]), and how it ended.
//! 2. A *repeat* has the apiKey, method, target and body of the first request. Anything else with a spent salt is a
//!    *replay*.
//! 3. Only the store ([`crate::replay`]) decides whether a salt is spent. Nothing here admits a request.
//! 4. Memory is bounded: it holds the requests under way (limited by their slots), and up to `max_repeats` that have
//!    ended, for `repeat_window` each. The oldest is forgotten first; a repeat of a forgotten request is a replay.

mod asked;
mod claim;
mod first;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod kept;
mod memory;

pub(crate) use asked::{Asked, Print};
pub(crate) use claim::UnderWay;
pub(crate) use first::First;
pub(crate) use kept::{Became, KEPT_BODY, KeptAnswer, Shared};
pub(crate) use memory::Repeats;

use std::time::Duration;

/// How repeats are handled (contract §9, `[replay]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatSettings {
    /// Whether a repeat gets the answer of the first request. If not, it is refused like a replay.
    pub answer: bool,
    /// How long a request is remembered after its end.
    pub window: Duration,
    /// How many ended requests are remembered.
    pub max: usize,
    /// Whether the record keeps a hash of what requests asked for, so that repeats are recognized after a restart.
    pub by_record: bool,
}

impl RepeatSettings {
    /// Default of [`RepeatSettings::answer`].
    pub const ANSWER: bool = false;
    /// Default of [`RepeatSettings::window`], where `authentication.window_past` is not shorter.
    pub const WINDOW: Duration = Duration::from_secs(60);
    /// Default of [`RepeatSettings::max`].
    pub const MAX: usize = 10_000;
}

/// A request that ended before this process began.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// Its request id.
    pub id: String,
    /// What became of it.
    pub became: Became,
    /// Its answer, as far as the record holds it.
    pub kept: KeptAnswer,
}

/// A repeat of an earlier request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// The request id of the first request.
    pub of: String,
    /// How the first request has ended, if it has.
    pub first: Became,
    /// How long ago the first request arrived, if known.
    pub after: Option<Duration>,
    /// Whether both came from the same client address, if known.
    pub same_client: Option<bool>,
}
