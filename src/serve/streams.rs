use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::connection::{LAST_CALL, Limits};

/// What is under way on a connection of HTTP/2.
#[derive(Clone)]
pub(super) struct Streams(Arc<Mutex<State>>);

pub(super) struct State {
    /// The requests that are being answered, and, where an answer has begun, when its client last
    /// took some of it.
    open: HashMap<u64, Option<Instant>>,
    next: u64,
    /// Since when there are none.
    quiet: Instant,
    /// How many were answered to the end.
    pub(super) answered: u64,
    /// When the frame or header block that has begun must have ended.
    pub(super) due: Option<Instant>,
    /// Whether more came than a client has a use for.
    pub(super) flooded: bool,
}

/// What is to become of a connection.
pub(super) enum Verdict {
    Fine,
    /// Nothing was under way for long.
    Idle,
    /// The other side does not keep up its part.
    Broken(&'static str),
}

impl Streams {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            open: HashMap::new(),
            next: 0,
            quiet: Instant::now(),
            answered: 0,
            due: None,
            flooded: false,
        })))
    }

    /// Nobody but the tasks of one connection holds it, and those only for moments.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more is to be answered.
    pub(super) fn begin(&self) -> Stream {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.open.insert(number, None);
        Stream { streams: self.clone(), number, whole: false }
    }

    /// Whether the connection keeps up its part.
    pub(super) fn judge(&self, now: Instant, leaving: Option<Instant>, limits: &Limits) -> Verdict {
        let state = self.lock();
        let longer = |since: Instant, limit| now.saturating_duration_since(since) > limit;
        if state.due.is_some_and(|due| now > due) {
            return Verdict::Broken("a frame or header block did not end in time");
        }
        if state.open.values().flatten().any(|moved| longer(*moved, limits.write_timeout)) {
            return Verdict::Broken("an answer was not taken in time");
        }
        match leaving {
            _ if !state.open.is_empty() => Verdict::Fine,
            Some(since) if longer(since.max(state.quiet), LAST_CALL.min(limits.write_timeout)) => {
                Verdict::Broken("it was told to end and does not")
            }
            None if longer(state.quiet, limits.idle_timeout) => Verdict::Idle,
            _ => Verdict::Fine,
        }
    }
}

/// A request that is being answered. Dropped when all of its answer is on its way, or nobody wants
/// it any more.
pub(super) struct Stream {
    streams: Streams,
    number: u64,
    /// Whether all of its answer was made.
    pub(super) whole: bool,
}

impl Stream {
    /// Some of its answer is on its way.
    pub(super) fn moved(&self) {
        self.streams.lock().open.insert(self.number, Some(Instant::now()));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.streams.lock();
        state.open.remove(&self.number);
        state.answered += u64::from(self.whole);
        if state.open.is_empty() {
            state.quiet = Instant::now();
        }
    }
}
