//! What an accept loop does when it cannot accept.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::time::Instant;

/// How long to wait before accepting again, for example when no descriptors are left.
const PAUSE: Duration = Duration::from_millis(50);
/// How long to wait between two warnings.
const QUIET: Duration = Duration::from_secs(10);

/// Slows down an accept loop that fails, because the connections in the queue would otherwise be tried thousands of
/// times a second, and logs a warning from time to time.
pub(super) struct Failures {
    /// What is being accepted, for the log.
    what: &'static str,
    warned: Option<Instant>,
}

impl Failures {
    pub(super) fn of(what: &'static str) -> Self {
        Self { what, warned: None }
    }

    /// Call this after accepting failed, and try again when it returns.
    pub(super) async fn pause(&mut self, error: &io::Error) {
        // Only this connection is gone; the next one is not affected.
        if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted) {
            return;
        }
        let now = Instant::now();
        if self.warned.is_none_or(|warned| now.duration_since(warned) >= QUIET) {
            self.warned = Some(now);
            tracing::warn!(%error, "{} cannot be accepted; the next attempt is in {PAUSE:?}", self.what);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
