//! Why a journal may lack spent salts although its files are intact.

use std::fmt;
use std::path::PathBuf;

/// Why a journal may lack spent salts. It then starts behind the fence.
///
/// None of these stops the start, unlike damage that no crash explains: behind the fence, missing salts do no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The machine restarted without a clean close of the journal.
    PowerLost,
    /// An earlier version wrote it, in a format that shows less.
    OlderFormat,
    /// `state.json` is not the file that was written, but a copy.
    Restored,
    /// The witness has recorded a later start.
    OlderStart {
        /// Starts that the journal has recorded.
        known: u64,
        /// Starts that the witness has recorded.
        seen: u64,
    },
    /// The witness has recorded a later end of the log.
    EndsEarly,
    /// The witness is missing.
    NoWitness(PathBuf),
    /// The witness is damaged or belongs to another journal.
    WitnessDamaged(PathBuf),
    /// A record, perhaps of a spent salt, is damaged or half written: the file, and the byte offset.
    DamagedRecord(PathBuf, usize),
    /// A salt with one date is in it twice.
    Twice,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerLost => f.write_str(
                "it was not closed, and the machine has restarted since: salts that had not reached the disk are lost",
            ),
            Self::OlderFormat => {
                f.write_str("an earlier version of saltgate wrote it, in a format that does not show what is missing")
            }
            Self::Restored => f.write_str(
                "its state.json is not the file that the gateway wrote: the journal was copied, moved to another file \
                 system or restored from a backup",
            ),
            Self::OlderStart { known, seen } => {
                write!(f, "an older copy of it was restored: it has recorded {known} starts, and its witness {seen}")
            }
            Self::EndsEarly => f.write_str(
                "records that its witness has noted are missing at its end: an older copy of it was restored, or they were \
                 removed",
            ),
            Self::NoWitness(path) => write!(
                f,
                "its witness {} is missing, so an older copy of the journal may have been restored",
                path.display()
            ),
            Self::WitnessDamaged(path) => write!(
                f,
                "its witness {} is damaged, so an older copy of the journal may have been restored",
                path.display()
            ),
            Self::DamagedRecord(file, byte) => write!(
                f,
                "the record of a salt, at byte {byte} of {}, is damaged or only half written",
                file.display()
            ),
            Self::Twice => f.write_str("a spent salt is in it twice, so one record may have overwritten another"),
        }
    }
}
