use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::Client;
use crate::refusal::Reason;

/// How many are kept.
const KEPT: u64 = 10_000;
/// After so many, another worker's queue is looked at: one that refuses nothing more would hold
/// what it has for ever.
const LOOK: u64 = 64;

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
/// what it refuses; now and then it looks whether another's can let go of what is old.
pub struct Refusals {
    next: AtomicU64,
    queues: Box<[Mutex<Queue>]>,
}

type Queue = VecDeque<(u64, RefusedRequest)>;

impl Refusals {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self { next: AtomicU64::new(0), queues: (0..workers.max(1)).map(|_| Mutex::default()).collect() }
    }

    pub(super) fn push(&self, worker: usize, refused: RefusedRequest) {
        let mut queue = self.queues[worker % self.queues.len()].lock().unwrap_or_else(PoisonError::into_inner);
        // Numbered within the lock, so that a queue is in the order of its numbers.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let_go(&mut queue, number);
        queue.push_back((number, refused));
        drop(queue);
        if number.is_multiple_of(LOOK) {
            let another = (number / LOOK) as usize % self.queues.len();
            // Whoever has it sees to it.
            if let Ok(mut queue) = self.queues[another].try_lock() {
                let_go(&mut queue, number);
            }
        }
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

/// What is older than the last so many.
fn let_go(queue: &mut Queue, newest: u64) {
    let old = queue.partition_point(|(number, _)| number + KEPT <= newest);
    queue.drain(..old);
    // A burst may have been all there was.
    if queue.capacity() > 1024 && queue.len() < queue.capacity() / 4 {
        queue.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(n: usize) -> RefusedRequest {
        RefusedRequest {
            time: std::time::UNIX_EPOCH,
            request_id: n.to_string().into(),
            reason: Reason::UnknownKey,
            api_key: None,
            skew_seconds: None,
            client: Client::new(Some([127, 0, 0, 1].into()), false),
            method: http::Method::DELETE,
            path: "/".into(),
        }
    }

    #[test]
    fn the_last_ten_thousand_are_kept_whoever_refused_them() {
        let refusals = Refusals::new(3);
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

    #[test]
    fn what_a_worker_refused_long_ago_is_let_go_of_though_it_refuses_nothing_more() {
        let refusals = Refusals::new(16);
        for worker in 0..16 {
            (0..10_000).for_each(|_| refusals.push(worker, refused(1)));
        }
        let held: usize = refusals.queues.iter().map(|queue| queue.lock().unwrap().len()).sum();
        assert!(held <= 21_000, "{held}");
        assert_eq!(refusals.last().len(), 10_000);
    }
}
