//! The deadlines of one HTTP/1 connection.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::event_loop::{TIMER_GRACE, turn_instant};
use crate::http::timer::DeadlineTimer;

/// What a connection expects from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A message.
    Anything,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
}

/// The deadlines of one connection.
///
/// One timer serves both directions, and it is not reset for every request.
#[derive(Default)]
pub(super) struct Deadlines {
    reading: Option<(Awaited, Due)>,
    writing: Option<Due>,
    timer: DeadlineTimer,
}

/// A deadline.
#[derive(Clone, Copy)]
struct Due {
    at: Instant,
    /// Whether this is the last check after the deadline. A worker that was paused finds its timers expired before
    /// it learns what has arrived meanwhile; it learns that in the next iteration of its event loop.
    is_last_look: bool,
}

impl Due {
    fn after(within: Duration) -> Self {
        Self { at: later(turn_instant(), within), is_last_look: false }
    }

    /// Called after the deadline: grants one last check, if there was none.
    fn extended(self) -> Option<Self> {
        // From now, however long this turn has lasted, or the check would not come.
        (!self.is_last_look).then(|| Self { at: Instant::now() + TIMER_GRACE, is_last_look: true })
    }
}

impl Deadlines {
    /// Whether the expected data is overdue. The time runs from when it was first expected.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, awaited: Awaited, within: Duration) -> Poll<()> {
        let due = match self.reading {
            Some((before, due)) if before == awaited => due,
            _ => Due::after(within),
        };
        self.reading = Some((awaited, due));
        ready!(self.poll(cx, due.at));
        let Some(due) = due.extended() else { return Poll::Ready(()) };
        self.reading = Some((awaited, due));
        self.poll(cx, due.at)
    }

    /// Called when the expected data has arrived.
    pub(super) fn read(&mut self) {
        self.reading = None;
    }

    /// Whether the client has read nothing for this long.
    pub(super) fn poll_written(&mut self, cx: &mut Context<'_>, within: Duration) -> Poll<()> {
        let due = *self.writing.get_or_insert_with(|| Due::after(within));
        ready!(self.poll(cx, due.at));
        let Some(due) = due.extended() else { return Poll::Ready(()) };
        self.writing = Some(due);
        self.poll(cx, due.at)
    }

    /// Called when the client has read something.
    pub(super) fn written(&mut self) {
        self.writing = None;
    }

    /// The timer serves both directions: it is set to the earlier deadline.
    fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let ends = [self.reading.map(|(_, due)| due.at), self.writing.map(|due| due.at)];
        let earliest = ends.into_iter().flatten().fold(due, Instant::min);
        if self.timer.poll(cx, earliest).is_pending() {
            return Poll::Pending;
        }
        // If the other direction is overdue, it finds that when it is polled, in the same iteration.
        self.timer.poll(cx, due)
    }
}

/// A time that the timers can hold, however long the configured timeout is.
fn later(from: Instant, within: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    from + within.min(FAR)
}
