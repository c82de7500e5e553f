//! Copies what is new.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::ShipSettings;
use crate::audit::{FileName, ReadError, Tail};
use crate::postgres::{PostgresError, RecordPlace, RecordTable};

/// The most bytes of lines in one statement.
const PART: usize = 1 << 20;

/// The files of a directory, and the table that they are copied to.
pub(super) struct Shipment {
    tail: Tail,
    table: RecordTable,
    /// The processes of which is known what the table has.
    known: HashSet<String>,
}

/// Why not everything was copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShipError {
    /// The files cannot be read.
    #[error(transparent)]
    Record(#[from] ReadError),
    /// The database does not take them.
    #[error(transparent)]
    Database(#[from] PostgresError),
    /// Some files are damaged.
    #[error("{0} files of the record are damaged, and the rest of them cannot be copied")]
    Damaged(usize),
    /// It was not done in time.
    #[error("the time was over before everything was copied")]
    Late,
}

impl Shipment {
    pub(super) fn new(directory: &Path, settings: &ShipSettings) -> Self {
        let table = RecordTable::new(settings.address.clone(), settings.timeout);
        Self { tail: Tail::new(directory), table, known: HashSet::new() }
    }

    /// Copies every line that is complete now. Calls `lines` with how many were copied, and `whole` for each file that was
    /// copied up to this length, or to its end.
    ///
    /// # Errors
    /// If something could not be copied. The next call tries it again.
    pub(super) async fn send(
        &mut self,
        mut lines: impl FnMut(usize),
        mut whole: impl FnMut(FileName, Option<u64>),
    ) -> Result<(), ShipError> {
        let new = self.tail.instances()?.into_iter().filter(|instance| !self.known.contains(instance));
        let new: Vec<String> = new.collect();
        if !new.is_empty() {
            for (place, count) in self.table.stored(&new).await? {
                // With a line missing in between, all of them are sent again.
                if place.line == count {
                    self.tail.skip(FileName { instance: place.instance, number: place.file }, count);
                }
            }
            self.known.extend(new);
        }
        loop {
            let added = self.tail.read(PART)?;
            if !added.lines.is_empty() {
                let place = |line: &crate::audit::PlacedLine| RecordPlace {
                    instance: line.file.instance.clone(),
                    file: line.file.number,
                    line: line.line,
                };
                self.table.add(added.lines.iter().map(|line| (place(line), &*line.bytes))).await?;
                lines(added.lines.len());
            }
            added.whole_files().for_each(|(file, length)| whole(file, length));
            let more = added.more;
            self.tail.advance(added);
            if !more {
                break;
            }
        }
        match self.tail.damaged() {
            0 => Ok(()),
            files => Err(ShipError::Damaged(files)),
        }
    }
}

/// Copies what is left in a directory, once its record is closed. Gives up after `limit`.
///
/// # Errors
/// If not everything could be copied: the next process that writes to the directory does it.
pub(crate) async fn ship_rest(directory: &Path, settings: &ShipSettings, limit: Duration) -> Result<(), ShipError> {
    let mut shipment = Shipment::new(directory, settings);
    tokio::time::timeout(limit, shipment.send(|_| {}, |_, _| {})).await.unwrap_or(Err(ShipError::Late))
}
