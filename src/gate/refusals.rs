use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::Client;
use crate::refusal::Reason;

/// How many are kept.
const KEPT: u64 = 10_000;

/// A request that was refused or failed, as it is told to operators.
#[derive(Clone, Debug)]
pub struct RefusedRequest {
    /// When it came.
    pub time: SystemTime,
    /// The id under which it was answered.
    pub request_id: Box<str>,
    /// Why.
    pub reason: Reason,
    /// The apiKey it claims; nothing is proven by it unless the reason comes after the signature.
    pub api_key: Option<Box<str>>,
    /// How many seconds its date was ahead of us.
    pub skew_seconds: Option<f64>,
    /// The client.
    pub client: Client,
    /// The method.
    pub method: http::Method,
    /// The path, up to its 256th character.
    pub path: Box<str>,
}

/// The last 10 000 of them. Each worker has a queue of its own, and takes its lock for nothing but
/// what it refuses.
pub struct Refusals {
    next: AtomicU64,
    queues: Box<[Mutex<VecDeque<(u64, RefusedRequest)>>]>,
}

impl Refusals {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self { next: AtomicU64::new(0), queues: (0..workers.max(1)).map(|_| Mutex::default()).collect() }
    }

    pub(super) fn push(&self, worker: usize, refused: RefusedRequest) {
        let mut queue = self.queues[worker % self.queues.len()].lock().unwrap_or_else(PoisonError::into_inner);
        // Numbered within the lock, so that a queue is in the order of its numbers.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        while queue.front().is_some_and(|(first, _)| first + KEPT <= number) {
            queue.pop_front();
        }
        queue.push_back((number, refused));
    }

    /// The last 10 000, oldest first.
    pub fn last(&self) -> Vec<RefusedRequest> {
        let queue = |queue: &Mutex<VecDeque<_>>| queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: Vec<(u64, RefusedRequest)> = self.queues.iter().flat_map(queue).collect();
        all.sort_by_key(|(number, _)| *number);
        let old = all.len().saturating_sub(KEPT as usize);
        all.drain(old..).map(|(_, refused)| refused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_thousand_are_kept_whoever_refused_them() {
        let refusals = Refusals::new(3);
        let refused = |n: usize| RefusedRequest {
            time: std::time::UNIX_EPOCH,
            request_id: n.to_string().into(),
            reason: Reason::UnknownKey,
            api_key: None,
            skew_seconds: None,
            client: Client { address: Some([127, 0, 0, 1].into()), https: false },
            method: http::Method::DELETE,
            path: "/".into(),
        };
        // One worker has nearly all; another refuses now and then.
        for n in 0..25_000 {
            refusals.push(usize::from(n % 100 == 0), refused(n));
        }
        let last = refusals.last();
        assert_eq!(last.len(), 10_000);
        assert!(last.iter().zip(15_000..).all(|(refused, n)| *refused.request_id == *n.to_string()));
        let held: usize = refusals.queues.iter().map(|queue| queue.lock().unwrap().len()).sum();
        assert!(held <= 10_200, "{held}: what is old is let go of");
    }
}
