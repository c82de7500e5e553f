//! The latest refused requests, kept in memory for `saltgate refusals` (contract §8).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::net::Client;
use crate::refusal::Reason;
use crate::repeats::Repeat;

/// How many of the latest refusals are kept, whatever their reason.
const KEPT: u64 = 10_000;
/// How many of the latest refusals of each part are kept in addition, however old they are.
const KEPT_OF_PART: u64 = 250;
/// After this many refusals a worker also trims the queues of another worker, which may have stopped refusing requests.
const LOOK: u64 = 64;
/// Each reason has two parts: callers whose signature was proven, and strangers.
const PARTS: usize = 2 * Reason::ALL.len();

/// A request that was refused or failed, as operators see it.
#[derive(Clone, Debug)]
pub struct RefusedRequest {
    /// When it was received.
    pub time: SystemTime,
    /// Its request id.
    pub request_id: Box<str>,
    /// Why it was refused.
    pub reason: Reason,
    /// The apiKey it claims; see `proven`.
    pub api_key: Option<Box<str>>,
    /// How many seconds its date was ahead of our clock.
    pub skew_seconds: Option<f64>,
    /// Whether the signature was right, so that the apiKey is proven.
    pub proven: bool,
    /// The client.
    pub client: Client,
    /// The method.
    pub method: http::Method,
    /// The path, cut off after 256 characters.
    pub path: Box<str>,
    /// The request that it repeats.
    pub repeat: Option<Box<Repeat>>,
}

/// The last 10 000 refused requests, and the last 250 of each part, so that a flood of junk does not push out the refusals
/// of others. Each worker has its own queues and locks them only when it refuses a request. Sometimes it trims those of
/// another worker.
pub struct Refusals {
    next: AtomicU64,
    next_of_part: Box<[AtomicU64]>,
    workers: Box<[Mutex<Queues>]>,
}

/// A worker's queues, by part. Each is in the order of its numbers.
struct Queues {
    parts: Box<[VecDeque<Kept>]>,
    /// The part to trim next, besides the one that grows.
    look: usize,
}

#[derive(Clone)]
struct Kept {
    number: u64,
    number_of_part: u64,
    refused: RefusedRequest,
}

impl RefusedRequest {
    fn part(&self) -> usize {
        2 * self.reason as usize + usize::from(self.proven)
    }
}

impl Refusals {
    /// For this many workers.
    pub fn new(workers: usize) -> Self {
        let queues = || Mutex::new(Queues { parts: (0..PARTS).map(|_| VecDeque::new()).collect(), look: 0 });
        Self {
            next: AtomicU64::new(0),
            next_of_part: (0..PARTS).map(|_| AtomicU64::new(0)).collect(),
            workers: (0..workers.max(1)).map(|_| queues()).collect(),
        }
    }

    /// Adds a request that this worker refused.
    pub fn push(&self, worker: usize, refused: RefusedRequest) {
        let part = refused.part();
        let mut queues = self.workers[worker % self.workers.len()].lock().unwrap_or_else(PoisonError::into_inner);
        // Numbered under the lock, so that a queue is in the order of its numbers.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let number_of_part = self.next_of_part[part].fetch_add(1, Ordering::Relaxed);
        queues.parts[part].push_back(Kept { number, number_of_part, refused });
        self.trim(&mut queues.parts[part]);
        // Trim the others in turn: this one may have made their oldest obsolete.
        let look = queues.look;
        self.trim(&mut queues.parts[look]);
        queues.look = (look + 1) % PARTS;
        drop(queues);
        if number.is_multiple_of(LOOK) {
            let another = (number / LOOK) as usize % self.workers.len();
            // If it is locked, its worker is trimming it.
            if let Ok(mut queues) = self.workers[another].try_lock() {
                queues.parts.iter_mut().for_each(|queue| self.trim(queue));
            }
        }
    }

    /// All that are kept, oldest first.
    pub fn last(&self) -> Vec<RefusedRequest> {
        let mut all = Vec::new();
        for queues in &self.workers {
            let queues = queues.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(queues.parts.iter().flatten().filter(|kept| !self.is_old(kept)).cloned());
        }
        all.sort_by_key(|kept| kept.number);
        all.into_iter().map(|kept| kept.refused).collect()
    }

    /// The latest `count`, newest first.
    pub(crate) fn latest(&self, count: usize) -> Vec<RefusedRequest> {
        let mut all = Vec::new();
        for queues in &self.workers {
            let queues = queues.lock().unwrap_or_else(PoisonError::into_inner);
            // Each queue is in the order of its numbers.
            all.extend(queues.parts.iter().flat_map(|queue| queue.iter().rev().take(count)).cloned());
        }
        all.sort_by_key(|kept| std::cmp::Reverse(kept.number));
        all.into_iter().take(count).map(|kept| kept.refused).collect()
    }

    fn is_old(&self, kept: &Kept) -> bool {
        let of_part = self.next_of_part[kept.refused.part()].load(Ordering::Relaxed);
        kept.number + KEPT < self.next.load(Ordering::Relaxed) && kept.number_of_part + KEPT_OF_PART < of_part
    }

    fn trim(&self, queue: &mut VecDeque<Kept>) {
        // From the front, where few are old. A search would touch cold memory and take a different time for each reason.
        while queue.front().is_some_and(|kept| self.is_old(kept)) {
            queue.pop_front();
        }
        // Give back the memory of a burst.
        if queue.capacity() > 1024 && queue.len() < queue.capacity() / 4 {
            queue.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(refusals: &Refusals) -> usize {
        refusals.workers.iter().map(|it| it.lock().unwrap().parts.iter().map(VecDeque::len).sum::<usize>()).sum()
    }

    fn refused(n: usize) -> RefusedRequest {
        RefusedRequest {
            time: std::time::UNIX_EPOCH,
            request_id: n.to_string().into(),
            reason: Reason::UnknownKey,
            api_key: None,
            skew_seconds: None,
            proven: false,
            client: Client::new(Some([127, 0, 0, 1].into()), false),
            method: http::Method::DELETE,
            path: "/".into(),
            repeat: None,
        }
    }

    #[test]
    fn the_last_ten_thousand_are_kept_whoever_refused_them() {
        let refusals = Refusals::new(3);
        // One worker has nearly all refusals; another refuses from time to time.
        for n in 0..25_000 {
            refusals.push(usize::from(n % 100 == 0), refused(n));
        }
        let last = refusals.last();
        assert_eq!(last.len(), 10_000);
        assert!(last.iter().zip(15_000..).all(|(refused, n)| *refused.request_id == *n.to_string()));
        let held: usize = held(&refusals);
        assert!(held <= 10_200, "{held}: old refusals are dropped");
    }

    #[test]
    fn junk_does_not_evict_the_refusals_of_others() {
        let refusals = Refusals::new(4);
        let honest = [(Reason::NotCreator, true), (Reason::SignatureMismatch, false), (Reason::UnknownKey, true)];
        for (n, (reason, proven)) in honest.into_iter().enumerate() {
            refusals.push(n, RefusedRequest { reason, proven, ..refused(n) });
        }
        for n in 3..100_000 {
            let reason = [Reason::UnknownKey, Reason::MissingCredentials, Reason::MalformedRequest][n % 3];
            refusals.push(n % 4, RefusedRequest { reason, ..refused(n) });
        }
        let last = refusals.last();
        let ids: Vec<&str> = last.iter().take(4).map(|refused| &*refused.request_id).collect();
        assert_eq!(ids, ["0", "1", "2", "90000"], "the honest ones, and the last 10 000");
        assert_eq!(last.len(), 10_003);
        assert!(held(&refusals) < 12_000);
        // However many reasons there are, the number of kept refusals is bounded.
        for n in 0..300_000 {
            let reason = Reason::ALL[n / 7 % Reason::ALL.len()];
            refusals.push(n % 4, RefusedRequest { reason, proven: n % 2 == 0, ..refused(n) });
        }
        assert!(refusals.last().len() <= KEPT as usize + PARTS * KEPT_OF_PART as usize);
        assert!(held(&refusals) <= 4 * (KEPT as usize + PARTS * KEPT_OF_PART as usize));
    }

    #[test]
    fn old_refusals_of_an_idle_worker_are_dropped() {
        let refusals = Refusals::new(16);
        for worker in 0..16 {
            (0..10_000).for_each(|_| refusals.push(worker, refused(1)));
        }
        let held: usize = held(&refusals);
        assert!(held <= 21_000, "{held}");
        assert_eq!(refusals.last().len(), 10_000);
    }
}
