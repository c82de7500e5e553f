use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::settings::Settings;
use crate::clock::Clock;

/// Addresses of a host, some time from now.
pub type Resolving<'r> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'r>>;

/// Who knows the addresses of a name.
pub trait Resolve: Send + Sync {
    /// All addresses of `host`.
    fn resolve<'r>(&'r self, host: &'r str) -> Resolving<'r>;
}

/// The operating system.
pub(super) struct System;

impl Resolve for System {
    fn resolve<'r>(&'r self, host: &'r str) -> Resolving<'r> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect()) })
    }
}

/// What is known of one name. Looked at where a connection is made, never where one is reused.
#[derive(Default)]
pub(super) struct Names {
    known: Mutex<Known>,
    /// Whose turn it is.
    turn: AtomicUsize,
    /// Counts the times the addresses became others: connections made before that go.
    epoch: AtomicU64,
}

#[derive(Default)]
struct Known {
    addresses: Arc<[IpAddr]>,
    /// The elapsed time at which it is to be asked again.
    until: Option<Duration>,
}

impl Names {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// All addresses of `host`, and which of them comes first this time.
    pub(super) async fn look_up(
        &self,
        host: &str,
        settings: &Settings,
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
            // What was true a while ago is better than nothing, and time must be left to try it.
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

    /// Whether it is time to ask again.
    pub(super) fn is_due(&self, clock: &Clock) -> bool {
        self.fresh(clock).is_none()
    }

    /// None of the addresses works: they are asked for again before the next connection.
    pub(super) fn doubt(&self) {
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
                self.epoch.fetch_add(1, Ordering::Relaxed);
            }
            known.addresses = found;
        }
        known.until = Some(until);
        known.addresses.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Whole between any two statements.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
