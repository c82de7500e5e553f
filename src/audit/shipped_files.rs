//! Which files were copied elsewhere, so that they may be removed when they are old enough.

use std::sync::Weak;

use super::FileName;
use super::writer_state::WriterState;

/// Notes files that were copied.
pub(crate) struct ShippedFiles(pub(super) Weak<WriterState>);

impl ShippedFiles {
    /// Notes that a file was copied up to this length; `None`: to its end.
    pub(crate) fn add(&self, file: FileName, length: Option<u64>) {
        if let Some(state) = self.0.upgrade() {
            state.shipped(file, length);
        }
    }
}
