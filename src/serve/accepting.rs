use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::time::Instant;

/// How long to wait before accepting again, where there are no descriptors left, say.
const PAUSE: Duration = Duration::from_millis(50);
/// How long between two warnings.
const QUIET: Duration = Duration::from_secs(10);

/// What a loop that accepts does where it cannot: it waits, for what is in the queue is still there and would be
/// tried thousands of times a second; and it warns, now and then.
pub(super) struct Failures {
    /// What is accepted.
    what: &'static str,
    warned: Option<Instant>,
}

impl Failures {
    pub(super) fn of(what: &'static str) -> Self {
        Self { what, warned: None }
    }

    /// Accepting failed: it may be tried again when this returns.
    pub(super) async fn pause(&mut self, error: &io::Error) {
        // The connection is gone, and the next one is another matter.
        if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted) {
            return;
        }
        let now = Instant::now();
        if self.warned.is_none_or(|warned| now.duration_since(warned) >= QUIET) {
            self.warned = Some(now);
            tracing::warn!(%error, "{} cannot be accepted; it is tried again every {PAUSE:?}", self.what);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
