//! The limit of connections of each client.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::activity::{Activity, Full};
use super::eviction_order::EvictionOrder;
use crate::net::Subscriber;

/// The number of connections of each client, so that no client takes them all.
///
/// Only clients that have a connection are stored, so there are never more clients than connections.
pub(super) struct Clients {
    most: usize,
    shards: Box<[Shard]>,
    /// Keyed at random, so that nobody can choose addresses that all fall into one shard.
    hash: RandomState,
}

type Shard = Mutex<HashMap<Subscriber, Held>>;

/// The connections of one client.
#[derive(Default)]
struct Held {
    count: usize,
    order: EvictionOrder,
}

impl Clients {
    /// No client may have more than `most` connections at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { most, shards: (0..16).map(|_| Shard::default()).collect(), hash: RandomState::new() }
    }

    /// Counts one more connection of this client. If the client has reached its limit, its oldest idle connection is
    /// evicted. `None` if none of them is idle.
    pub(super) fn enter(&self, address: IpAddr, number: u64, activity: &Arc<Activity>) -> Option<Subscriber> {
        let client = Subscriber::of(address);
        let mut shard = self.shard(client);
        let held = shard.entry(client).or_default();
        if held.count >= self.most {
            if !held.order.evict_oldest(Full::Client) {
                return None;
            }
            // The evicted connection no longer counts, though it takes a moment to close.
            held.count -= 1;
        }
        held.count += 1;
        held.order.insert(number, activity.clone());
        Some(client)
    }

    /// Counts that a connection of this client has ended.
    pub(super) fn leave(&self, client: Subscriber, number: u64, activity: &Activity) {
        if let Entry::Occupied(mut held) = self.shard(client).entry(client) {
            held.get_mut().order.remove(number);
            if activity.evicted_for() != Some(Full::Client) {
                held.get_mut().count -= 1;
            }
            if held.get().count == 0 {
                held.remove();
            }
        }
    }

    fn shard(&self, client: Subscriber) -> MutexGuard<'_, HashMap<Subscriber, Held>> {
        let at = self.hash.hash_one(client) as usize % self.shards.len();
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An activity with a request in progress, under a number that no other has.
    fn busy(clients: &Clients, address: &str, number: u64) -> Option<(Subscriber, u64, Arc<Activity>)> {
        let activity = Arc::new(Activity::default());
        activity.begin();
        let key = clients.enter(address.parse().unwrap(), number, &activity)?;
        Some((key, number, activity))
    }

    #[test]
    fn a_client_has_a_limit_and_is_forgotten_when_it_leaves() {
        let clients = Clients::new(2);
        let mut numbers = 0..;
        let mut enter = |address: &str| busy(&clients, address, numbers.next().unwrap());
        let held = [enter("192.0.2.1"), enter("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some));
        assert!(enter("192.0.2.1").is_none(), "mapped or not, it is one client");
        let other = enter("192.0.2.2");
        assert!(other.is_some());
        let subscriber = [enter("2001:db8::1"), enter("2001:db8::2:0:0:1")];
        assert!(subscriber.iter().all(Option::is_some));
        assert!(enter("2001:db8::ffff").is_none(), "a /64 is one client");
        let next = enter("2001:db8:0:1::1");
        assert!(next.is_some(), "the next is another");
        for (key, number, activity) in held.into_iter().chain(subscriber).chain([other, next]).flatten() {
            clients.leave(key, number, &activity);
        }
        assert!(clients.shards.iter().all(|shard| shard.lock().unwrap().is_empty()), "nobody is remembered");
    }

    #[test]
    fn a_client_at_its_limit_loses_its_own_oldest_idle_connection() {
        let clients = Clients::new(2);
        let enter = |number| {
            let activity = Arc::new(Activity::default());
            let key = clients.enter("192.0.2.1".parse().unwrap(), number, &activity);
            (key, number, activity)
        };
        let order = [enter(0), enter(1), enter(2)];
        let evicted: Vec<_> = order.iter().map(|(_, _, activity)| activity.evicted_for()).collect();
        assert_eq!(evicted, [Some(Full::Client), None, None]);
        for (key, number, activity) in order {
            clients.leave(key.unwrap(), number, &activity);
        }
        assert!(clients.shards.iter().all(|shard| shard.lock().unwrap().is_empty()), "nobody is remembered");
    }
}
