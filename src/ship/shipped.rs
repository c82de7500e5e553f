//! Reads the copied record back into files, for the commands that read files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::ShipSettings;
use crate::audit::file_of;
use crate::postgres::{PostgresError, RecordPlace, RecordTable};
use crate::state;

/// Why the copied record cannot be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadBackError {
    /// The database cannot be asked.
    #[error(transparent)]
    Database(#[from] PostgresError),
    /// The files cannot be written.
    #[error("the files cannot be written: {0}")]
    Write(#[from] io::Error),
    /// A row names no place of a record.
    #[error("the table has a line of \"{0}\", which is not the name of a process; somebody else wrote it")]
    Instance(String),
}

/// Writes all lines of the table to files in `directory`, as the gateways wrote them. Returns how many there are.
///
/// # Errors
/// If the database cannot be asked, or the files cannot be written.
pub(crate) async fn read_back(settings: &ShipSettings, directory: &Path) -> Result<u64, ReadBackError> {
    let mut table = RecordTable::new(settings.address.clone(), settings.timeout);
    let (mut lines, mut open): (u64, Option<(String, u64, BufWriter<File>)>) = (0, None);
    let mut failed = None;
    let mut write = |RecordPlace { instance, file, .. }, bytes: Vec<u8>| -> Result<(), ReadBackError> {
        if !open.as_ref().is_some_and(|(of, number, _)| *of == instance && *number == file) {
            if let Some((_, _, mut done)) = open.take() {
                done.flush()?;
            }
            let path = file_of(directory, &instance, file).ok_or_else(|| ReadBackError::Instance(instance.clone()))?;
            open = Some((instance, file, BufWriter::new(state::file().write(true).create_new(true).open(path)?)));
        }
        if let Some((_, _, into)) = &mut open {
            into.write_all(&bytes)?;
            into.write_all(b"\n")?;
        }
        lines += 1;
        Ok(())
    };
    table
        .read(|place, bytes| {
            failed = write(place, bytes).err();
            failed.is_none()
        })
        .await?;
    if let Some(error) = failed {
        return Err(error);
    }
    if let Some((_, _, mut done)) = open {
        done.flush()?;
    }
    Ok(lines)
}
