//! Faults of a configuration, and settings as they were read.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::plain;

/// One fault as one line: where it is, what is wrong, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    file: PathBuf,
    line: Option<usize>,
    pub(super) key: String,
    pub(super) message: String,
}

impl Fault {
    /// A fault of `key`, in `line` if that is known.
    pub fn new(file: &Path, line: Option<usize>, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: file.into(), line, key: key.into(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", plain::line(&self.file.to_string_lossy()))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", plain::line(&self.key))?;
        }
        // The text of a file may contain control characters.
        write!(f, ": {}", plain::line(&self.message))
    }
}

/// A setting as it was read, for `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The whole key, such as `limits.idle_timeout`.
    pub key: String,
    /// Its value, as TOML.
    pub value: String,
    /// Its default, as TOML; `None` if it has none.
    pub default: Option<String>,
}
