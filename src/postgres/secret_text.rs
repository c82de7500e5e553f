//! A secret as a column has it: as it is, or where it is. What begins with `sg1:` is sealed.

use std::path::Path;

use zeroize::Zeroizing;

use crate::credential::{Secret, SecretError};
use crate::seal::{KeyRing, OpenError, Place};

/// Why a column holds no secret. Never quotes the column.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SecretTextError {
    /// Too short or too long.
    #[error("{0}")]
    Length(#[from] SecretError),
    /// Sealed, and it does not open.
    #[error(transparent)]
    Sealed(#[from] OpenError),
    /// A variable that is not set.
    #[error("names an environment variable that is not set")]
    Unset,
    /// A file that cannot be read.
    #[error("names a file that cannot be read, or whose path is not absolute")]
    File,
}

/// The secret at this place.
pub(super) fn secret(text: &str, place: Place<'_>, seal: &KeyRing) -> Result<Secret, SecretTextError> {
    if text.starts_with("sg1:") {
        return Ok(seal.open(place, text)?);
    }
    if let Some(name) = text.strip_prefix("env:") {
        let value = std::env::var(name).map(Zeroizing::new).map_err(|_| SecretTextError::Unset)?;
        return Ok(Secret::new(value.as_bytes())?);
    }
    if let Some(path) = text.strip_prefix("file:") {
        return Ok(Secret::of_file(&content(Path::new(path)).ok_or(SecretTextError::File)?)?);
    }
    Ok(Secret::new(text.as_bytes())?)
}

/// The content of a small file: whoever writes into the table must not make the gateway wait for a pipe, or read a disk.
fn content(path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    let about = std::fs::metadata(path).ok().filter(|_| path.is_absolute())?;
    let is_small = about.is_file() && about.len() <= 2 * Secret::MAX as u64;
    is_small.then(|| std::fs::read(path).ok().map(Zeroizing::new)).flatten()
}
