//! The timer and the time constants of connections, for HTTP/1 and HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client may still send a request if it has sent nothing yet, or was told that its connection ends.
/// Longer than a message takes through the network.
pub(crate) const LAST_CALL: Duration = Duration::from_secs(2);

/// After this many bytes of a request's body, the deadline for the rest of it is renewed (`limits.body_timeout`): a
/// long body may take its time, but one that trickles may not. Code that needs a whole body sets a deadline of its
/// own.
pub(crate) const RENEWS_BODY_DEADLINE: usize = 1024;

/// A timer for consecutive waits, each with its own deadline.
///
/// It is not reset for each wait: it may fire too early, and is then set to the current deadline. Waits that all
/// end long before their deadlines touch the runtime's timers once per timeout instead of once per wait.
#[derive(Default)]
pub(crate) struct DeadlineTimer(Option<Pin<Box<Sleep>>>);

impl DeadlineTimer {
    /// Ready once `due` has passed. Only one wait may use the timer at a time.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}
