//! The limit of connections, and the slot that each connection holds.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::activity::{Activity, Full};
use super::clients::Clients;
use super::eviction_order::EvictionOrder;
use crate::net::Subscriber;

/// How often a waiting connection looks again for one that it may evict.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The limit of connections, in all (`limits.max_connections`) and for each client
/// (`limits.max_connections_per_client`).
///
/// When it is reached, a new connection evicts the oldest one that has no request under way and on which no caller was
/// ever recognised. If there is none, the new connection waits.
pub(crate) struct ConnectionLimit {
    permits: Arc<Semaphore>,
    clients: Clients,
    next: AtomicU64,
    order: Mutex<Evictions>,
    waiting: AtomicUsize,
}

struct Evictions {
    order: EvictionOrder,
    /// Connections that were evicted for a waiting one and have not closed yet.
    closing: usize,
}

/// The slot of one connection. Dropping it frees the slot.
pub(crate) struct ConnectionSlot {
    limit: Arc<ConnectionLimit>,
    number: u64,
    activity: Arc<Activity>,
    client: Option<(IpAddr, Subscriber)>,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionLimit {
    /// At most `connections`, of which each client may hold `per_client`.
    pub(crate) fn new(connections: usize, per_client: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(connections)),
            clients: Clients::new(per_client),
            next: AtomicU64::new(0),
            order: Mutex::new(Evictions { order: EvictionOrder::default(), closing: 0 }),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A slot, if one is free.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<ConnectionSlot> {
        Some(self.slot(self.permits.clone().try_acquire_owned().ok()?))
    }

    /// Waits for a slot, and evicts other connections to get one. `None` if the limit was closed.
    pub(crate) async fn wait(self: &Arc<Self>) -> Option<ConnectionSlot> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waits = Waits(&self.waiting);
        let mut permit = std::pin::pin!(self.permits.clone().acquire_owned());
        loop {
            self.evict();
            tokio::select! {
                biased;
                permit = permit.as_mut() => return Some(self.slot(permit.ok()?)),
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Evicts one connection, unless as many are closing as are waiting.
    fn evict(&self) {
        let mut inner = self.lock();
        if inner.closing < self.waiting.load(Ordering::Acquire) && inner.order.evict_oldest(Full::Gateway) {
            inner.closing += 1;
        }
    }

    fn slot(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> ConnectionSlot {
        let (number, activity) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::<Activity>::default());
        self.lock().order.insert(number, activity.clone());
        ConnectionSlot { limit: self.clone(), number, activity, client: None, _permit: permit }
    }

    fn lock(&self) -> MutexGuard<'_, Evictions> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waits<'r>(&'r AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl ConnectionSlot {
    /// What decides whether it can be evicted.
    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Counts the connection for this client. Returns false if the client has as many connections as it may have, and
    /// all of them are in use.
    pub(super) fn enter(&mut self, address: IpAddr) -> bool {
        let key = self.limit.clients.enter(address, self.number, &self.activity);
        self.client = key.map(|key| (address, key));
        self.client.is_some()
    }

    /// The client for which it is counted, if any.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.client.map(|(address, _)| address)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        if let Some((_, client)) = self.client {
            self.limit.clients.leave(client, self.number, &self.activity);
        }
        let mut inner = self.limit.lock();
        inner.order.remove(self.number);
        if self.activity.evicted_for() == Some(Full::Gateway) {
            inner.closing -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_connection_gets_the_slot_of_the_oldest_idle_one() {
        let limit = Arc::new(ConnectionLimit::new(2, 2));
        let (first, second) = (limit.try_take().unwrap(), limit.try_take().unwrap());
        assert!(limit.try_take().is_none());
        first.activity().begin();
        let serving = |slot: ConnectionSlot| {
            tokio::spawn(async move {
                let full = slot.activity().evicted().await;
                drop(slot);
                full
            })
        };
        let first_activity = first.activity().clone();
        let (first, second) = (serving(first), serving(second));
        let third = limit.wait().await.unwrap();
        assert_eq!(second.await.unwrap(), Full::Gateway);
        third.activity().prove();
        assert!(!first.is_finished());

        // Every connection is in use or proven, until one is not.
        let waits = tokio::spawn({
            let limit = limit.clone();
            async move { limit.wait().await }
        });
        tokio::time::sleep(3 * LOOK_AGAIN).await;
        assert!(!waits.is_finished());
        first_activity.end();
        let fourth = waits.await.unwrap().unwrap();
        assert!(first.is_finished());
        drop((third, fourth));
        assert_eq!(limit.lock().closing, 0);
        assert!(limit.try_take().is_some());
    }
}
