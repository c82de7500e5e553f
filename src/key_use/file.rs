//! The file in which one gateway keeps when secrets were used. It is replaced as a whole.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{GatewayUses, NotUses};
use crate::state;

/// A file of uses.
#[derive(Clone, Debug)]
pub(crate) struct UseFile(PathBuf);

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UseFileError {
    /// It cannot be opened or read.
    #[error("{0}: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// It is something else.
    #[error("{0}: {1}")]
    NotUses(PathBuf, #[source] NotUses),
}

impl UseFile {
    /// The file at this path; it need not exist.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What it holds; `None` if it does not exist.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn read(&self) -> Result<Option<GatewayUses>, UseFileError> {
        let text = match std::fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(UseFileError::Unreadable(self.0.clone(), error)),
        };
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap_or(Value::Null));
        GatewayUses::of_lines(lines).map(Some).map_err(|error| UseFileError::NotUses(self.0.clone(), error))
    }

    /// Replaces it.
    ///
    /// # Errors
    /// If it cannot be written. The old one is unchanged.
    pub(crate) fn write(&self, uses: &GatewayUses) -> io::Result<()> {
        let text: String = uses.lines().map(|line| format!("{line}\n")).collect();
        let (Some(folder), Some(name)) = (self.0.parent(), self.0.file_name().and_then(|name| name.to_str())) else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        state::replace(folder, name, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_file_is_read_as_it_was_written_and_one_of_others_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = UseFile::new(folder.path().join("last-use"));
        assert!(file.read().unwrap().is_none());
        let (since, until) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
        let uses = HashMap::from([(("K".into(), "t".into()), since)]);
        let uses = GatewayUses { gateway: "g".into(), since, until, ended: false, lost: None, uses };
        file.write(&uses).unwrap();
        assert_eq!(file.read().unwrap(), Some(uses));
        for wrong in ["", "{}\n", "what is this"] {
            std::fs::write(file.path(), wrong).unwrap();
            assert!(file.read().is_err(), "{wrong:?}");
        }
    }
}
