//! Chooses the server for a request: the less busy of two random ones.

use super::rng::Rng;
use super::server::{Servers, Standing};

/// A server to send to.
pub(super) struct Choice {
    pub(super) at: usize,
    /// Whether this is the first try since the server was ejected.
    pub(super) trial: bool,
}

impl Servers {
    /// Picks two usable servers at random and returns the one with fewer requests in flight. A server whose trial is due
    /// comes first. `tried` has a bit for each server that was tried already. `None` if no server is left.
    pub(super) fn choose(&self, rng: &Rng, tried: u64) -> Option<Choice> {
        let mut usable = 0_u64;
        for (at, server) in self.list.iter().enumerate() {
            if tried & (1 << at) != 0 {
                continue;
            }
            match self.standing(server) {
                Standing::Usable => usable |= 1 << at,
                Standing::Trial => return Some(Choice { at, trial: true }),
                Standing::Out => {}
            }
        }
        let at = match usable.count_ones() {
            0 => return None,
            1 => usable.trailing_zeros() as usize,
            count => {
                let random = rng.next();
                let (first, second) = (random as u32 % count, (random >> 32) as u32 % (count - 1));
                let first = nth(usable, first);
                let second = nth(usable & !(1 << first), second);
                if self.list[second].in_flight() < self.list[first].in_flight() { second } else { first }
            }
        };
        Some(Choice { at, trial: false })
    }
}

/// The position of the n-th bit that is set, counted from 0.
fn nth(mut bits: u64, n: u32) -> usize {
    (0..n).for_each(|_| bits &= bits - 1);
    bits.trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::upstream::settings::{ServerAddress, UpstreamSettings};

    #[test]
    fn servers_are_chosen_evenly_except_a_busy_one() {
        let server =
            |port| ServerAddress::Network { at: crate::net::Authority::new("127.0.0.1", port).unwrap(), tls: false };
        let settings = UpstreamSettings::new((1..=4).map(server).collect());
        let servers = Servers::new(settings, Clock::system(), None).unwrap();
        let rng = Rng::new();
        let throw = |tried| {
            let mut chosen = [0; 4];
            (0..4_000).for_each(|_| chosen[servers.choose(&rng, tried).unwrap().at] += 1);
            chosen
        };
        assert!(throw(0).iter().all(|n| (700..1_300).contains(n)), "{:?}", throw(0));
        servers.list[2].begin();
        assert_eq!(throw(0)[2], 0, "any other has less in flight");
        servers.list[0].set_down(true);
        let chosen = throw(0b1000);
        assert_eq!((chosen[0], chosen[2], chosen[3]), (0, 0, 0), "{chosen:?}");
        assert!(servers.choose(&rng, 0b1110).is_none(), "the rest was tried, the first is down");
    }
}
