//! The keys that a database confirmed last, sealed in a file, so that a gateway can start while the database is away
//! (contract §4, §9).
//!
//! 1. The file is written after each set of keys that was taken, and is used by a start only. It never replaces keys that were
//!    read from the database.
//! 2. It extends nothing: its keys hold for `max_stale` from the time at which the database last confirmed them. That time is
//!    in the file. While the keys stay the same, a later time is written to a small file beside it, `….confirmed`, so that
//!    100 000 keys are not written again every half minute.
//! 3. Everything in both files is sealed or authenticated by the keys of `[seal]`, with the database that it is of, the
//!    number of the set and the time. A changed, truncated or exchanged file, or one of another database, does not open.
//! 4. Each set has a number, which is also kept beside the record ([`Counts`]). A file with a smaller number is an older copy.
//! 5. The age is the time that passed by the wall clock, or by the elapsed clock if the machine was not booted since,
//!    whichever is more. A time in the future has no age, and the file is not used.
//! 6. If the file cannot be written, the one of the earlier keys is removed.
//!
//! What remains: whoever can write to the disk can put back an older pair of files together with an older copy of the record's
//! folder; it holds until `max_stale` after its own time, as it would have if the gateway had stopped then. Without a record,
//! an older pair of files is enough. Whoever can set the clock **and** boot the machine again can make a file look young that
//! was written on that machine before. Neither makes a file that the gateway did not write.

mod age;
mod entries;
mod error;
mod file;
mod sealed_file;
#[cfg(test)]
mod tests;

pub(crate) use age::ConfirmedAt;
pub(crate) use error::SnapshotError;
pub(crate) use file::{KeptKeys, SetContent, SetFacts, SnapshotFile};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[allow(unused_imports, reason = "for the documentation")]
use crate::state::Counts;
