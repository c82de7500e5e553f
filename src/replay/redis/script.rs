//! What is asked of Redis, and what it answers. The questions are in the `.lua` files beside.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::Script;

use super::super::{SaltId, Window};
use super::slots;

pub(super) fn claim() -> Script {
    Script::new(include_str!("claim.lua"))
}

pub(super) fn vouch() -> Script {
    Script::new(include_str!("vouch.lua"))
}

/// What either script answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Spent,
    Reused,
    /// At or below this floor.
    Floor(SystemTime),
    /// Vouched for, from this floor on.
    Vouched(SystemTime),
    /// The same, and it had not been before.
    Raised(SystemTime),
    /// The server has not been vouched for, or has lost what was.
    Forgot,
    /// Other gateways judge by this window.
    OtherWindow(Window),
    /// The server has no memory left; nothing was spent.
    Full,
    /// The clocks differ by too much.
    Clock,
    /// The witness is of a newer version, or no witness.
    Unreadable,
}

impl Verdict {
    pub(super) fn read(text: &str) -> Self {
        let mut words = text.split(' ');
        let word = words.next();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        match (word, number(), number()) {
            (Some("SPENT"), ..) => Self::Spent,
            (Some("REUSED"), ..) => Self::Reused,
            (Some("FORGOT"), ..) => Self::Forgot,
            (Some("CLOCK"), ..) => Self::Clock,
            (Some("FLOOR"), Some(nanos), _) => Self::Floor(at(nanos)),
            (Some("OK"), Some(nanos), _) => Self::Vouched(at(nanos)),
            (Some("RAISED"), Some(nanos), _) => Self::Raised(at(nanos)),
            (Some("WINDOW"), Some(past), Some(future)) => {
                Self::OtherWindow(Window { past: Duration::from_millis(past), future: Duration::from_millis(future) })
            }
            _ => Self::Unreadable,
        }
    }
}

fn at(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// A time as the scripts compare it: 20 digits. What cannot be written is as far as can be.
pub(super) fn digits(at: SystemTime) -> String {
    let nanos = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{:020}", u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The names of all keys.
pub(super) struct Keys {
    prefix: String,
    /// By slot; empty where there is but one server.
    tags: Box<[String]>,
}

impl Keys {
    pub(super) fn new(prefix: &str, cluster: bool) -> Self {
        Self { prefix: prefix.into(), tags: if cluster { slots::tags() } else { Box::default() } }
    }

    /// How many slots there are to vouch for: one, where there is but one server.
    pub(super) fn slots(&self) -> usize {
        self.tags.len().max(1)
    }

    pub(super) fn salt(&self, salt: SaltId) -> String {
        let mut key = String::with_capacity(self.prefix.len() + 33);
        key.push_str(&self.prefix);
        key.push(':');
        for byte in salt {
            key.extend([byte >> 4, byte & 15].map(|n| char::from_digit(n.into(), 16).unwrap_or('0')));
        }
        key
    }

    /// The slot of a salt's key.
    pub(super) fn slot(&self, key: &str) -> usize {
        if self.tags.is_empty() { 0 } else { slots::slot(key.as_bytes()).into() }
    }

    /// The witness of a slot, which lies in that slot.
    pub(super) fn witness(&self, slot: usize) -> String {
        match self.tags.get(slot) {
            Some(tag) => format!("{}:epoch:{{{tag}}}", self.prefix),
            None => format!("{}:epoch", self.prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_what_is_none_is_unreadable() {
        assert_eq!(Verdict::read("SPENT"), Verdict::Spent);
        assert_eq!(Verdict::read("FLOOR 00000000001000000000"), Verdict::Floor(UNIX_EPOCH + Duration::from_secs(1)));
        let window = Window { past: Duration::from_secs(1), future: Duration::from_secs(2) };
        assert_eq!(Verdict::read("WINDOW 1000 2000"), Verdict::OtherWindow(window));
        for odd in ["", "FLOOR", "WINDOW 1", "VERSION", "spent", "OK x"] {
            assert_eq!(Verdict::read(odd), Verdict::Unreadable, "{odd:?}");
        }
    }

    #[test]
    fn a_salt_and_its_witness_lie_in_one_slot() {
        let keys = Keys::new("saltgate", true);
        for n in 0..=255_u8 {
            let key = keys.salt([n; 16]);
            assert_eq!(key, format!("saltgate:{}", format!("{n:02x}").repeat(16)));
            let witness = keys.witness(keys.slot(&key));
            let tag = witness.split(['{', '}']).nth(1).unwrap();
            assert_eq!(usize::from(slots::slot(tag.as_bytes())), keys.slot(&key));
        }
    }
}
