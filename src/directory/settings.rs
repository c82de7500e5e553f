//! Where the keys are.

use std::path::PathBuf;
use std::sync::Arc;

use crate::seal::KeyRing;

/// `[directory.file]`.
#[derive(Clone, Debug)]
pub(crate) struct KeysFile {
    /// The file, in TOML.
    pub path: PathBuf,
    /// Whether it may hold no keys at all.
    pub allow_empty: bool,
    /// Where the gateway keeps when secrets were last used; `None`: in memory only.
    pub last_use: Option<PathBuf>,
    /// What opens its sealed secrets.
    pub seal: Arc<KeyRing>,
}

impl KeysFile {
    /// Default of [`KeysFile::allow_empty`].
    pub(crate) const ALLOW_EMPTY: bool = false;
}
