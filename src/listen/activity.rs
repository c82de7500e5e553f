//! Which connections may be evicted: a connection without a request and without a recognised caller.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

/// The connection must close to free its slot.
const EVICTED: u32 = 1 << 31;
/// It was evicted because its client reached `limits.max_connections_per_client`.
const FOR_CLIENT: u32 = 1 << 30;
/// A request on it has spent its salt.
const PROVEN: u32 = 1 << 29;
/// The remaining bits count the requests under way.
const UNDER_WAY: u32 = PROVEN - 1;

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// `limits.max_connections`.
    Gateway,
    /// `limits.max_connections_per_client`.
    Client,
}

impl Full {
    /// The name of the setting, which is the `limit` label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "max_connections",
            Self::Client => "max_connections_per_client",
        }
    }
}

/// Decides whether a connection may be evicted: not while a request is under way, and never once a caller was
/// recognised on it.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    state: AtomicU32,
    waker: Mutex<Option<Waker>>,
}

/// The result of an attempt to evict a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The connection closes.
    Evicted,
    /// A request is under way, or the connection is already closing.
    Busy,
    /// A caller was recognised: the connection is never evicted.
    Proven,
}

impl Activity {
    /// Counts a request that begins. Returns false if the connection was evicted; the request must then not be served.
    pub(crate) fn begin(&self) -> bool {
        self.state.fetch_add(1, Ordering::AcqRel) & EVICTED == 0
    }

    /// Counts a request that ended.
    pub(crate) fn end(&self) {
        self.state.fetch_sub(1, Ordering::AcqRel);
    }

    /// A caller was recognised: from now on the connection is not evicted.
    pub(crate) fn prove(&self) {
        if self.state.load(Ordering::Relaxed) & PROVEN == 0 {
            self.state.fetch_or(PROVEN, Ordering::AcqRel);
        }
    }

    /// Resolves when the connection is evicted, with the limit that was reached.
    pub(crate) fn evicted(&self) -> impl Future<Output = Full> + '_ {
        let mut heard: Option<Waker> = None;
        std::future::poll_fn(move |cx| {
            if heard.as_ref().is_none_or(|heard| !heard.will_wake(cx.waker())) {
                heard = Some(cx.waker().clone());
                *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            }
            self.evicted_for().map_or(Poll::Pending, Poll::Ready)
        })
    }

    pub(super) fn evicted_for(&self) -> Option<Full> {
        match self.state.load(Ordering::Acquire) {
            state if state & EVICTED == 0 => None,
            state if state & FOR_CLIENT == 0 => Some(Full::Gateway),
            _ => Some(Full::Client),
        }
    }

    pub(super) fn evict(&self, full: Full) -> Attempt {
        let state = self.state.load(Ordering::Acquire);
        if state & PROVEN != 0 {
            return Attempt::Proven;
        }
        let evicted = if full == Full::Client { EVICTED | FOR_CLIENT } else { EVICTED };
        let idle = state & (EVICTED | UNDER_WAY) == 0;
        if !idle || self.state.compare_exchange(state, evicted, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Attempt::Busy;
        }
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
        Attempt::Evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_an_idle_connection_without_a_caller_is_evicted() {
        let activity = Activity::default();
        assert!(activity.begin());
        assert_eq!(activity.evict(Full::Gateway), Attempt::Busy);
        activity.end();
        assert_eq!(activity.evict(Full::Client), Attempt::Evicted);
        assert_eq!(activity.evicted().await, Full::Client);
        assert_eq!(activity.evict(Full::Gateway), Attempt::Busy, "once");
        assert!(!activity.begin(), "a request that comes too late is not served");

        let activity = Activity::default();
        activity.prove();
        assert_eq!(activity.evict(Full::Gateway), Attempt::Proven);
        assert!(activity.begin());
    }

    #[tokio::test]
    async fn an_eviction_wakes_the_connection() {
        let activity = std::sync::Arc::new(Activity::default());
        let waiting = tokio::spawn({
            let activity = activity.clone();
            async move { activity.evicted().await }
        });
        tokio::task::yield_now().await;
        assert_eq!(activity.evict(Full::Gateway), Attempt::Evicted);
        assert_eq!(waiting.await.unwrap(), Full::Gateway);
    }
}
