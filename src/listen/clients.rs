use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many connections each client has, so that none has them all.
///
/// A client is an IPv4 address, or the /64 of an IPv6 address: a subscriber has that whole network
/// to choose addresses from. Only who has a connection is remembered, so there are never more
/// clients than connections.
pub struct Clients {
    most: usize,
    shards: Box<[Shard]>,
    /// Keyed at random: nobody chooses addresses that all fall into one shard.
    hash: RandomState,
}

type Shard = Mutex<HashMap<u128, usize>>;

/// A connection's place; dropping it gives it back.
pub struct Place {
    clients: Arc<Clients>,
    client: u128,
}

impl Clients {
    /// None may have more than this many at a time.
    pub fn new(most: usize) -> Self {
        Self { most, shards: (0..16).map(|_| Shard::default()).collect(), hash: RandomState::new() }
    }

    /// A place for one more connection of this client's, if it may have one.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let client = client(address);
        let mut held = self.shard(client);
        let count = held.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Place { clients: self.clone(), client })
    }

    fn shard(&self, client: u128) -> MutexGuard<'_, HashMap<u128, usize>> {
        let at = self.hash.hash_one(client) as usize % self.shards.len();
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.clients.shard(self.client).entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// IPv4 as it is mapped into IPv6, so that the two are never one.
fn client(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_share_and_is_forgotten_when_it_leaves() {
        let clients = Arc::new(Clients::new(2));
        let enter = |address: &str| clients.enter(address.parse().unwrap());
        let held = [enter("192.0.2.1"), enter("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some));
        assert!(enter("192.0.2.1").is_none(), "mapped or not, it is one client");
        assert!(enter("192.0.2.2").is_some());
        let subscriber = [enter("2001:db8::1"), enter("2001:db8::2:0:0:1")];
        assert!(subscriber.iter().all(Option::is_some));
        assert!(enter("2001:db8::ffff").is_none(), "a /64 is one client");
        assert!(enter("2001:db8:0:1::1").is_some(), "the next is another");
        drop((held, subscriber));
        assert!(clients.shards.iter().all(|shard| shard.lock().unwrap().is_empty()), "nobody is remembered");
    }
}
