use super::dice::Dice;
use super::server::{Servers, Standing};

/// A server to send to.
pub(super) struct Choice {
    pub(super) at: usize,
    /// Whether it is tried for the first time since it was set aside.
    pub(super) trial: bool,
}

impl Servers {
    /// Of two usable servers that were not tried yet, the one with less in flight; one whose
    /// trial is due comes first. `None` if there is none.
    pub(super) fn choose(&self, dice: &Dice, tried: u64) -> Option<Choice> {
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
                let dice = dice.throw();
                let (first, second) = (dice as u32 % count, (dice >> 32) as u32 % (count - 1));
                let first = nth(usable, first);
                let second = nth(usable & !(1 << first), second);
                if self.list[second].in_flight() < self.list[first].in_flight() { second } else { first }
            }
        };
        Some(Choice { at, trial: false })
    }
}

/// Where the n-th one is.
fn nth(mut bits: u64, n: u32) -> usize {
    (0..n).for_each(|_| bits &= bits - 1);
    bits.trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::upstream::settings::{Address, Settings};

    #[test]
    fn all_are_chosen_alike_but_the_busy_one() {
        let server = |port| Address::Network { host: "127.0.0.1".into(), port, tls: false };
        let settings = Settings::new((1..=4).map(server).collect());
        let servers = Servers::new(settings, Clock::system(), None).unwrap();
        let dice = Dice::new();
        let throw = |tried| {
            let mut chosen = [0; 4];
            (0..4_000).for_each(|_| chosen[servers.choose(&dice, tried).unwrap().at] += 1);
            chosen
        };
        assert!(throw(0).iter().all(|n| (700..1_300).contains(n)), "{:?}", throw(0));
        servers.list[2].begin();
        assert_eq!(throw(0)[2], 0, "any other has less in flight");
        servers.list[0].set_down(true);
        let chosen = throw(0b1000);
        assert_eq!((chosen[0], chosen[2], chosen[3]), (0, 0, 0), "{chosen:?}");
        assert!(servers.choose(&dice, 0b1110).is_none(), "the rest was tried, the first is down");
    }
}
