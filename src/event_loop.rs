//! A worker's event loop: yielding to it once, the time of its turn, and timeouts that let it run once more before they expire.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{self, Instant};

use crate::clock::KeptReading;

/// How long a timeout waits after its deadline.
///
/// After a pause of the whole process (SIGSTOP, a suspended machine) the event loop fires its timers before it reads
/// its sockets. Data that arrived during the pause is seen only in the next iteration, so it must not count as late yet.
pub(crate) const TIMER_GRACE: Duration = Duration::from_millis(2);

/// The future did not complete in time.
#[derive(Debug)]
pub(crate) struct TimedOut;

/// Waits for a future for at most `limit`, plus one more iteration of the event loop: see [`TIMER_GRACE`].
///
/// # Errors
/// [`TimedOut`] if it does not complete in that time.
pub(crate) async fn timeout<F: Future>(limit: Duration, awaited: F) -> Result<F::Output, TimedOut> {
    timeout_at(Instant::now() + limit, awaited).await
}

/// The same until `due`.
///
/// # Errors
/// [`TimedOut`] if it does not complete in that time.
pub(crate) async fn timeout_at<F: Future>(due: Instant, awaited: F) -> Result<F::Output, TimedOut> {
    let mut awaited = pin!(awaited);
    match time::timeout_at(due, awaited.as_mut()).await {
        Ok(output) => Ok(output),
        Err(_) => time::timeout(TIMER_GRACE, awaited).await.map_err(|_| TimedOut),
    }
}

thread_local! {
    static NOW: KeptReading<Instant> = const { KeptReading::new() };
}

/// The time of the runtime's timers some time during this turn: exact enough for a timeout of seconds ([`crate::clock`]).
pub(crate) fn turn_instant() -> Instant {
    NOW.with(|now| now.get(Instant::now))
}

/// Yields to the event loop once, so that ready requests run as a batch.
///
/// Under load many requests are ready at the same time. When each step runs for all of them before the next step
/// begins, its code stays in the CPU caches, and a receiver is woken once for all of them. If nothing else is ready,
/// the task continues immediately.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        YIELDED.set(true);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

thread_local! {
    /// Whether the future that this thread polls, or one within it, has yielded.
    static YIELDED: Cell<bool> = const { Cell::new(false) };
}

/// Polls a future, and returns whether it has yielded. Then its task is polled again at once, so nobody need wait for
/// anything else meanwhile.
pub(crate) fn poll_yielding<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> (Poll<F::Output>, bool) {
    YIELDED.set(false);
    let polled = future.poll(cx);
    (polled, YIELDED.replace(false))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_future_that_yielded_is_told_from_one_that_waits() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut yields_and_waits = pin!(async {
            yield_now().await;
            std::future::pending::<()>().await;
        });
        assert_eq!(poll_yielding(yields_and_waits.as_mut(), &mut cx), (Poll::Pending, true));
        assert_eq!(poll_yielding(yields_and_waits.as_mut(), &mut cx), (Poll::Pending, false));
    }
}
