//! The streams of one HTTP/2 connection: whether each waits for the client or for the service, and for how long.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::rt::Executor;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::http::timer::LAST_CALL;
use crate::policy::Limits;

/// The requests in progress on an HTTP/2 connection. Also runs each stream of it, as a task of its own.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Whether nothing more is read from the connection.
    deaf: AtomicBool,
    /// Notified when the first request arrives.
    first: Notify,
}

pub(crate) struct State {
    /// The requests that are being answered.
    open: HashMap<u64, Open>,
    next: u64,
    /// The latest one, until its task is known.
    begun: Option<u64>,
    /// Since when there are none.
    quiet: Instant,
    /// When the last one that must not be cut off ended.
    held: Option<Instant>,
    /// How many were answered in full.
    pub(crate) answered: u64,
    /// When the first byte must have arrived, or the frame or header block under way must have ended.
    pub(crate) due: Option<Instant>,
    /// Since when the connection accepts nothing of what is written.
    blocked: Option<Instant>,
    /// When it last began to accept something again.
    flowing: Instant,
    /// Whether the client has overdrawn its budget of frames.
    pub(crate) flooded: bool,
}

/// One request that is being answered.
#[derive(Default)]
struct Open {
    /// Since when a part of the answer waits for the client; `None` while the stream waits for the service.
    offered: Option<Instant>,
    /// Whether it must not be cut off: it runs to its end, or its client must get the answer.
    held: bool,
    /// The task that runs it, until it is aborted.
    task: Option<AbortHandle>,
}

/// What to do with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    /// Nothing was in progress for `limits.idle_timeout`.
    Idle,
    /// Clients did not read answers in time: their streams were reset, and the others continue.
    NotTaken,
    /// A frame or header block does not end in time: nothing behind it can be read.
    Unfinished,
    /// The client is too slow or broke a limit. The text says why.
    Broken(&'static str),
}

impl Streams {
    /// No streams yet, on a connection whose first byte must arrive by `due`.
    pub(crate) fn new(due: Instant) -> Self {
        let state = Mutex::new(State {
            open: HashMap::new(),
            next: 0,
            begun: None,
            quiet: Instant::now(),
            held: None,
            answered: 0,
            due: Some(due),
            blocked: None,
            flowing: Instant::now(),
            flooded: false,
        });
        Self(Arc::new(Shared { state, deaf: AtomicBool::new(false), first: Notify::new() }))
    }

    /// Only the tasks of one connection lock it, each for a moment.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads nothing more from the connection; answers are still written.
    pub(crate) fn deafen(&self) {
        self.0.deaf.store(true, Ordering::Relaxed);
    }

    pub(crate) fn are_deaf(&self) -> bool {
        self.0.deaf.load(Ordering::Relaxed)
    }

    /// Starts one more request.
    pub(crate) fn begin(&self) -> H2Stream {
        let mut state = self.lock();
        let number = state.next;
        if number == 0 {
            self.0.first.notify_one();
        }
        state.next += 1;
        state.begun = Some(number);
        state.open.insert(number, Open::default());
        H2Stream { streams: self.clone(), number, offers: false, whole: false }
    }

    /// Waits until a request has arrived. For one waiter only.
    pub(crate) async fn first_request(&self) {
        self.0.first.notified().await;
    }

    /// Notes whether the connection accepts nothing of what is written.
    pub(crate) fn blocked(&self, blocked: bool) {
        let mut state = self.lock();
        if blocked {
            state.blocked.get_or_insert_with(Instant::now);
        } else if state.blocked.take().is_some() {
            state.flowing = Instant::now();
        }
    }

    /// Checks whether the client keeps its deadlines. Resets streams whose answers it does not read.
    pub(crate) fn judge(&self, now: Instant, leaving: Option<Instant>, limits: &Limits) -> Verdict {
        let mut state = self.lock();
        let longer = |since: Instant, limit| now.saturating_duration_since(since) > limit;
        if state.blocked.is_some_and(|since| longer(since, limits.write_timeout)) {
            return Verdict::Broken("nothing of what is written was read in time");
        }
        if state.due.take_if(|due| now > *due).is_some() {
            let under_way = !state.open.is_empty() || (state.answered > 0 && !longer(state.quiet, LAST_CALL));
            return if under_way {
                Verdict::Unfinished
            } else {
                Verdict::Broken("the preface did not arrive, or a frame or header block did not end, in time")
            };
        }
        // If the connection as a whole accepts nothing, no single stream is to blame.
        if state.blocked.is_none() && state.reset_untaken(|since| longer(since, limits.write_timeout)) {
            return Verdict::NotTaken;
        }
        match leaving {
            _ if !state.open.is_empty() => Verdict::Fine,
            Some(since) if longer(since.max(state.quiet), LAST_CALL.min(limits.write_timeout)) => {
                Verdict::Broken("it was told to end and did not")
            }
            None if longer(state.quiet, limits.idle_timeout) => Verdict::Idle,
            _ => Verdict::Fine,
        }
    }

    /// Whether a request or an answer is in progress that must not be cut off.
    pub(crate) fn hold(&self, now: Instant) -> bool {
        let state = self.lock();
        let just_ended = |ended| now.saturating_duration_since(ended) < LAST_CALL;
        state.open.values().any(|open| open.held) || state.held.is_some_and(just_ended)
    }
}

impl State {
    /// Resets the streams whose answers were not read for too long, and returns whether there were any. h2 resets a
    /// stream when its task is aborted.
    fn reset_untaken(&mut self, too_long: impl Fn(Instant) -> bool) -> bool {
        let flowing = self.flowing;
        let untaken = |open: &&mut Open| open.offered.is_some_and(|since| too_long(since.max(flowing)));
        let tasks: Vec<_> = self.open.values_mut().filter(untaken).filter_map(|open| open.task.take()).collect();
        tasks.iter().for_each(AbortHandle::abort);
        !tasks.is_empty()
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    /// hyper runs each stream here, right after it passed on the request.
    fn execute(&self, stream: F) {
        let task = tokio::spawn(stream).abort_handle();
        let mut state = self.lock();
        // A stream that has already ended is no longer in the map.
        if let Some(begun) = state.begun.take()
            && let Some(open) = state.open.get_mut(&begun)
        {
            open.task = Some(task);
        }
    }
}

/// A request that is being answered. Dropped once its whole answer is on its way, or its client has left.
pub(crate) struct H2Stream {
    streams: Streams,
    number: u64,
    /// Whether its client has a part of its answer to read.
    offers: bool,
    /// Whether its answer is complete.
    pub(crate) whole: bool,
}

impl H2Stream {
    /// Notes that its client has a part of its answer to read.
    pub(crate) fn offers(&mut self) {
        self.offers = true;
        self.streams.lock().open.entry(self.number).or_default().offered = Some(Instant::now());
    }

    /// Notes that its client has read everything so far, and the service is awaited.
    pub(crate) fn awaits(&mut self) {
        if std::mem::take(&mut self.offers) {
            self.streams.lock().open.entry(self.number).or_default().offered = None;
        }
    }

    /// Notes whether it must not be cut off.
    pub(crate) fn held(&self, held: bool) {
        self.streams.lock().open.entry(self.number).or_default().held = held;
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        let mut state = self.streams.lock();
        if state.open.remove(&self.number).is_some_and(|open| open.held) {
            state.held = Some(Instant::now());
        }
        state.answered += u64::from(self.whole);
        if state.open.is_empty() {
            state.quiet = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::policy::Budget;

    const WRITE: Duration = Duration::from_secs(10);
    const LONG: Duration = Duration::from_secs(1000);
    const LIMITS: Limits = Limits {
        max_header_bytes: 256,
        max_target_bytes: 64,
        max_body_bytes: 64,
        header_timeout: LONG,
        body_timeout: LONG,
        write_timeout: WRITE,
        idle_timeout: LONG,
        spent_per_key: Budget { limit: NonZeroU32::MIN, span: LONG },
        drain_delay: LONG,
        drain_timeout: LONG,
    };

    /// A connection with one stream that has offered a part of its answer since now.
    fn offering() -> (Streams, H2Stream, Instant) {
        let streams = Streams::new(Instant::now() + LONG);
        let mut stream = streams.begin();
        streams.execute(std::future::pending());
        stream.offers();
        (streams, stream, Instant::now())
    }

    #[tokio::test]
    async fn a_stream_is_reset_if_its_client_reads_nothing_for_too_long() {
        let (streams, mut stream, now) = offering();
        let judged = |after| streams.judge(now + after, None, &LIMITS);
        assert_eq!(judged(WRITE / 2), Verdict::Fine);
        stream.awaits();
        assert_eq!(judged(9 * WRITE), Verdict::Fine, "the service is waited for");
        stream.offers();
        assert_eq!(judged(2 * WRITE), Verdict::NotTaken);
        assert_eq!(judged(3 * WRITE), Verdict::Fine, "once");
    }

    #[tokio::test]
    async fn no_stream_is_reset_if_the_whole_connection_is_blocked() {
        let (streams, _stream, now) = offering();
        let judged = |after| streams.judge(now + after, None, &LIMITS);
        streams.lock().blocked = Some(now + WRITE / 2);
        assert_eq!(judged(WRITE + WRITE / 4), Verdict::Fine);
        assert!(matches!(judged(2 * WRITE), Verdict::Broken(_)), "unless it takes nothing at all");
        streams.blocked(false);
        assert_eq!(streams.lock().blocked, None);
        streams.lock().flowing = now + WRITE + WRITE / 2;
        assert_eq!(judged(2 * WRITE), Verdict::Fine, "what it was to take had not come to it");
        assert_eq!(judged(3 * WRITE), Verdict::NotTaken);
    }
}
