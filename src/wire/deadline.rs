use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

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
/// There is one timer for both directions, and it is not set anew for every request: it may go
/// off too early, and is then set to what is due. A connection on which requests follow each
/// other touches the runtime's timers once in a timeout.
#[derive(Default)]
pub(super) struct Deadlines {
    reading: Option<(Awaited, Instant)>,
    writing: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
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

    fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        loop {
            let earliest =
                [self.reading.map(|(_, due)| due), self.writing].into_iter().flatten().fold(due, Instant::min);
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(earliest)));
            if timer.deadline() > earliest {
                timer.as_mut().reset(earliest);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if due <= now {
                return Poll::Ready(());
            }
            // Too early for this one. If the other direction is overdue, it says so when it is
            // asked, which is in the same turn.
            timer.as_mut().reset(if earliest <= now { due } else { earliest });
            if earliest <= now {
                return timer.as_mut().poll(cx);
            }
        }
    }
}

/// A time that the timers can hold, however far the configuration says.
fn after(within: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + within.min(FAR)
}
