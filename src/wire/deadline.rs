use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::alarm::Alarm;

/// What a connection waits for its peer to send.
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
/// There is one timer for both directions, and it is not set anew for every request.
#[derive(Default)]
pub(super) struct Deadlines {
    reading: Option<(Awaited, Instant)>,
    writing: Option<Instant>,
    timer: Alarm,
}

impl Deadlines {
    /// Whether what is awaited is overdue. The time runs from when it was first awaited.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, awaited: Awaited, within: Duration) -> Poll<()> {
        let due = match self.reading {
            Some((before, due)) if before == awaited => due,
            _ => after(within),
        };
        self.reading = Some((awaited, due));
        self.poll(cx, due)
    }

    /// What was awaited has come.
    pub(super) fn read(&mut self) {
        self.reading = None;
    }

    /// Whether the peer has taken nothing for so long.
    pub(super) fn poll_written(&mut self, cx: &mut Context<'_>, within: Duration) -> Poll<()> {
        let due = *self.writing.get_or_insert_with(|| after(within));
        self.poll(cx, due)
    }

    /// The peer has taken something.
    pub(super) fn written(&mut self) {
        self.writing = None;
    }

    /// The timer serves both directions: it is set to what is due first.
    fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let ends = [self.reading.map(|(_, due)| due), self.writing];
        let earliest = ends.into_iter().flatten().fold(due, Instant::min);
        if self.timer.poll(cx, earliest).is_pending() {
            return Poll::Pending;
        }
        // If the other direction is overdue, it says so when it is asked, which is in the same turn.
        self.timer.poll(cx, due)
    }
}

/// A time that the timers can hold, however far the configuration says.
fn after(within: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + within.min(FAR)
}
