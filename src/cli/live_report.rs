//! The lines of `check --live`.

use crate::console::{complain, say};
use crate::plain;

/// The results so far, printed one per line.
#[derive(Default)]
pub(super) struct Report {
    pub(super) failed: bool,
}

impl Report {
    // A line may quote the service, so control characters are escaped.
    pub(super) fn found(&self, line: &str) {
        say!("ok: {}", plain::line(line));
    }

    pub(super) fn failed(&mut self, line: &str) {
        self.failed = true;
        complain!("failed: {}", plain::line(line));
    }
}
