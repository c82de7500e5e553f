//! Reads a table of keys once, for commands.

use crate::directory::Directory;
use crate::postgres::KeyTableSettings;

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyTableError {
    /// The database.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] crate::postgres::PostgresError),
    /// There is no runtime to wait in.
    #[cfg(feature = "postgres")]
    #[error("cannot be waited for: {0}")]
    Runtime(#[source] std::io::Error),
    /// Tables are not in this build.
    #[cfg(not(feature = "postgres"))]
    #[error("is not in this build")]
    Missing,
}

/// All keys, and what is wrong with those that are disabled.
#[cfg(feature = "postgres")]
pub(super) async fn read(table: &KeyTableSettings) -> Result<(Directory, Vec<String>), KeyTableError> {
    use crate::postgres::{KeyTable, PostgresError};

    let snapshot = KeyTable::new(table.clone()).look().await?;
    let (entries, mut faults) = match snapshot {
        Some(snapshot) => (snapshot.entries, snapshot.faults.iter().map(ToString::to_string).collect()),
        // The first look always reads.
        None => (Vec::new(), Vec::new()),
    };
    let (directory, clashes) = Directory::without_clashes(entries).map_err(|_| PostgresError::NoRandomness)?;
    faults.extend(clashes.iter().map(ToString::to_string));
    Ok((directory, faults))
}

#[cfg(not(feature = "postgres"))]
pub(super) async fn read(_: &KeyTableSettings) -> Result<(Directory, Vec<String>), KeyTableError> {
    Err(KeyTableError::Missing)
}

/// The same, for a command that is not asynchronous otherwise.
#[cfg(feature = "postgres")]
pub(super) fn read_once(table: &KeyTableSettings) -> Result<Directory, KeyTableError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(KeyTableError::Runtime)?;
    runtime.block_on(read(table)).map(|(directory, _)| directory)
}

#[cfg(not(feature = "postgres"))]
pub(super) fn read_once(_: &KeyTableSettings) -> Result<Directory, KeyTableError> {
    Err(KeyTableError::Missing)
}
