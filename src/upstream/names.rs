//! The addresses of a server's name: how long they are valid, and which of them cannot be reached.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::settings::UpstreamSettings;
use crate::clock::Clock;

/// The addresses of one name. Read when a connection is opened, not when one is reused.
#[derive(Default)]
pub(super) struct Names {
    known: Mutex<Known>,
    /// Which address comes first next, modulo how many there are.
    turn: AtomicUsize,
    /// Incremented when the addresses or the certificates change; connections of an earlier epoch are closed.
    epoch: AtomicU64,
}

#[derive(Default)]
struct Known {
    addresses: Arc<[IpAddr]>,
    /// Elapsed time after which the name is resolved again.
    until: Option<Duration>,
    /// The addresses that could not be reached last time.
    failing: Vec<Failing>,
}

/// An address that could not be reached.
struct Failing {
    address: IpAddr,
    /// Elapsed time at which it is tried again.
    again: Duration,
    /// The pause before that try.
    pause: Duration,
}

/// The first pause before a failing address is tried again. It doubles each time.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_AT_MOST: Duration = Duration::from_secs(60);

impl Known {
    fn is_failing(&self, address: IpAddr) -> bool {
        self.failing.iter().any(|failing| failing.address == address)
    }
}

impl Names {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Starts a new epoch: connections of earlier epochs are closed.
    pub(super) fn begin_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// All addresses of `host`, and which of them comes first this time, modulo how many there are.
    pub(super) async fn look_up(
        &self,
        host: &str,
        settings: &UpstreamSettings,
        clock: &Clock,
    ) -> io::Result<(Arc<[IpAddr]>, usize)> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(addresses) = self.fresh(clock) {
            return Ok((addresses, turn));
        }
        let old = self.known().addresses.clone();
        let asking = settings.resolver.resolve(host);
        let found = if old.is_empty() {
            asking.await
        } else {
            // If resolving takes half of the timeout, the old addresses are used: time must be left to connect.
            let asked = tokio::time::timeout(settings.connect_timeout / 2, asking).await;
            asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        match found {
            Ok(mut found) if !found.is_empty() => {
                found.sort_unstable();
                found.dedup();
                Ok((self.learn(found.into(), clock.elapsed() + settings.dns_refresh), turn))
            }
            _ if !old.is_empty() => Ok((old, turn)),
            Ok(_) => Err(io::Error::other("the name has no address")),
            Err(error) => Err(error),
        }
    }

    /// The addresses in the order to try them: round robin, and last those that could not be reached last time.
    pub(super) fn in_order(&self, addresses: &[IpAddr], turn: usize) -> Vec<IpAddr> {
        let known = self.known();
        let in_turn = || (0..addresses.len()).map(|n| addresses[(turn + n) % addresses.len()]);
        let (last, first): (Vec<_>, Vec<_>) = in_turn().partition(|address| known.is_failing(*address));
        [first, last].concat()
    }

    /// An address could be reached. Returns whether it was failing before.
    pub(super) fn works(&self, address: IpAddr) -> bool {
        let mut known = self.known();
        let before = known.failing.len();
        known.failing.retain(|failing| failing.address != address);
        known.failing.len() < before
    }

    /// An address could not be reached. Returns whether it was working before.
    pub(super) fn fails(&self, address: IpAddr, clock: &Clock) -> bool {
        let mut known = self.known();
        let now = clock.elapsed();
        match known.failing.iter_mut().find(|failing| failing.address == address) {
            Some(failing) => {
                failing.again = now + failing.pause;
                false
            }
            None => {
                known.failing.push(Failing { address, again: now + PAUSE, pause: PAUSE });
                true
            }
        }
    }

    /// Whether any address could not be reached.
    pub(super) fn are_failing(&self) -> bool {
        !self.known().failing.is_empty()
    }

    /// A failing address that is due to be tried again. Each call schedules the next try, so only one caller gets it.
    pub(super) fn next_to_try(&self, clock: &Clock) -> Option<IpAddr> {
        let now = clock.elapsed();
        let mut known = self.known();
        let due = known.failing.iter_mut().find(|failing| failing.again <= now)?;
        due.pause = (2 * due.pause).min(PAUSE_AT_MOST);
        due.again = now + due.pause;
        Some(due.address)
    }

    /// Whether it is time to resolve the name again.
    pub(super) fn is_due(&self, clock: &Clock) -> bool {
        self.fresh(clock).is_none()
    }

    /// No address works: the name is resolved again before the next connection.
    pub(super) fn expire(&self) {
        self.known().until = None;
    }

    fn fresh(&self, clock: &Clock) -> Option<Arc<[IpAddr]>> {
        let known = self.known();
        known.until.filter(|until| clock.elapsed() < *until).map(|_| known.addresses.clone())
    }

    fn learn(&self, found: Arc<[IpAddr]>, until: Duration) -> Arc<[IpAddr]> {
        let mut known = self.known();
        if known.addresses != found {
            if !known.addresses.is_empty() {
                self.begin_epoch();
            }
            known.addresses = found;
            let Known { addresses, failing, .. } = &mut *known;
            failing.retain(|failing| addresses.contains(&failing.address));
        }
        known.until = Some(until);
        known.addresses.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Consistent between any two statements, so poisoning does no harm.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_address_is_tried_last_and_reported_once() {
        let (clock, time) = Clock::manual(std::time::UNIX_EPOCH);
        let names = Names::default();
        let [a, b, c] = [1, 2, 3].map(|n| IpAddr::from([127, 0, 0, n]));
        let addresses = names.learn([a, b, c].into(), Duration::MAX);
        assert_eq!(names.in_order(&addresses, 1), [b, c, a], "by turns");
        assert!(names.fails(b, &clock), "news");
        assert!(!names.fails(b, &clock), "and no more");
        for turn in 0..3 {
            assert_eq!(names.in_order(&addresses, turn).last(), Some(&b));
        }
        // It is tried again by one caller at a time, with longer and longer pauses.
        let mut tried = Vec::new();
        for second in 1..=100 {
            time.advance(Duration::from_secs(1));
            if let Some(address) = names.next_to_try(&clock) {
                assert_eq!(address, b);
                assert_eq!(names.next_to_try(&clock), None);
                assert!(!names.fails(b, &clock));
                tried.push(second);
            }
        }
        assert_eq!(tried, [5, 15, 35, 75]);
        assert!(names.works(b) && !names.works(b), "news, once");
        assert_eq!(names.in_order(&addresses, 1), [b, c, a]);
        // An address that the name lost is forgotten.
        names.fails(a, &clock);
        names.learn([b].into(), Duration::MAX);
        assert!(!names.works(a));
    }
}
