//! The scripts that run in Redis (the `.lua` files here), their replies, and the names of the keys.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::{Script, Value};

use super::super::{FleetTaken, Mark, Window};
use super::slots;
use crate::credential::SaltId;
use crate::replay::ledger::KeyTag;

pub(super) fn claim() -> Script {
    Script::new(include_str!("claim.lua"))
}

/// The mark in the value that a claim wrote.
pub(super) fn mark(written: &[u8]) -> Option<Mark> {
    Mark::parse(std::str::from_utf8(written).ok()?)
}

pub(super) fn attest() -> Script {
    Script::new(include_str!("attest.lua"))
}

/// The number of a request, which its reply repeats. A connection matches replies to requests only by their order:
/// after one surplus reply, each reply would be taken for that of the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(u64);

/// Generates the numbers. Each process starts at a random one, so that two gateways do not use the same.
pub(super) struct Numbers(AtomicU64);

impl Numbers {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self(AtomicU64::new(getrandom::u64()?)))
    }

    pub(super) fn next(&self) -> Number {
        Number(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Number {
    pub(super) fn of(number: u64) -> Self {
        Self(number)
    }

    /// The deletion that the request with this number counted.
    pub(super) fn taken(self) -> FleetTaken {
        FleetTaken(self.0)
    }

    /// Whether this is the reply to a `PING` with this number.
    pub(super) fn is_echoed(self, answer: &Value) -> bool {
        matches!(answer, Value::BulkString(bytes) if *bytes == self.to_string().into_bytes())
    }
}

/// The reply of either script.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Spent,
    /// Spent before, by the request with this mark, if there is one.
    Reused(Option<Mark>),
    /// The date is at or below this floor.
    Floor(SystemTime),
    /// The history was attested before, from this floor on.
    Attested(SystemTime),
    /// The history is attested now, from this floor on, and was not before.
    Raised(SystemTime),
    /// There is no epoch marker for the server's history and the failover that the gateway knows: salts may be lost.
    Forgot,
    /// The epoch marker is of a later failover than the gateway knows, with this epoch.
    Later(u64),
    /// Other gateways use this window.
    OtherWindow(Window),
    /// The server is out of memory; nothing was spent.
    Full,
    /// The key holds its share in the fleet's store; nothing was spent.
    KeyShare,
    /// The clocks differ by too much.
    Clock,
    /// The epoch marker is of a newer version, or is something else.
    Version,
    /// Not the reply to this request, or not understood. It is unclear which replies of the connection belong to
    /// which requests.
    OutOfSync,
}

impl Verdict {
    /// Reads a script's reply to the request with this key and number.
    pub(super) fn read(answer: &Value, key: &str, number: Number) -> Self {
        let Value::BulkString(bytes) = answer else { return Self::OutOfSync };
        std::str::from_utf8(bytes).ok().and_then(|text| Self::parse(text, key, number)).unwrap_or(Self::OutOfSync)
    }

    fn parse(text: &str, key: &str, number: Number) -> Option<Self> {
        let (word, rest) = text.split_once(' ')?;
        let rest = rest.strip_prefix(key)?.strip_prefix(' ')?.strip_prefix(&*number.to_string())?;
        let verdict = match (word, rest) {
            ("SPENT", "") => Self::Spent,
            ("REUSED", "") => Self::Reused(None),
            ("REUSED", rest) => Self::Reused(Some(Mark::parse(rest.strip_prefix(' ')?)?)),
            ("FORGOT", "") => Self::Forgot,
            ("SHARE", "") => Self::KeyShare,
            ("CLOCK", "") => Self::Clock,
            ("VERSION", "") => Self::Version,
            ("FLOOR", rest) => Self::Floor(at(rest)?),
            ("OK", rest) => Self::Attested(at(rest)?),
            ("RAISED", rest) => Self::Raised(at(rest)?),
            ("LATER", rest) => Self::Later(decimal(rest.strip_prefix(' ').filter(|digits| digits.len() == 20)?)?),
            ("WINDOW", rest) => {
                let (past, future) = rest.strip_prefix(' ')?.split_once(' ')?;
                let time = |text| decimal(text).map(Duration::from_millis);
                Self::OtherWindow(Window { past: time(past)?, future: time(future)? })
            }
            _ => return None,
        };
        Some(verdict)
    }
}

/// A time as the scripts write it: a space and 20 digits.
fn at(rest: &str) -> Option<SystemTime> {
    let digits = rest.strip_prefix(' ').filter(|digits| digits.len() == 20)?;
    decimal(digits).map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos))
}

/// A number of decimal digits only, if it fits.
pub(super) fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A time as the scripts compare it: 20 digits of nanoseconds since 1970, cut off at the highest value.
pub(super) fn digits(at: SystemTime) -> String {
    let nanos = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{:020}", u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The epoch of a failover as the scripts compare it: 20 digits, or nothing without Sentinels or a cluster.
pub(super) fn epoch(epoch: Option<u64>) -> String {
    epoch.map(|epoch| format!("{epoch:020}")).unwrap_or_default()
}

/// The names of all keys.
pub(super) struct Keys {
    prefix: String,
    /// A hash tag for each slot; empty without a cluster.
    tags: Box<[String]>,
}

impl Keys {
    pub(super) fn new(prefix: &str, cluster: bool) -> Self {
        Self::with_slots(prefix, if cluster { slots::SLOTS } else { 0 })
    }

    /// The same for a cluster with fewer slots.
    pub(super) fn with_slots(prefix: &str, slots: u16) -> Self {
        Self { prefix: prefix.into(), tags: if slots > 0 { slots::tags(slots) } else { Box::default() } }
    }

    /// The number of slots to attest; 1 without a cluster.
    pub(super) fn slots(&self) -> usize {
        self.tags.len().max(1)
    }

    /// The key of a salt.
    pub(super) fn salt(&self, salt: SaltId) -> String {
        self.named(":", salt)
    }

    /// The key of what is frozen for the fleet.
    pub(super) fn fleet(&self) -> String {
        format!("{}:fleet", self.prefix)
    }

    /// The key of the deletions of one key or account.
    pub(super) fn budget(&self, kind: &str, name: &str) -> String {
        format!("{}:budget:{kind}:{name}", self.prefix)
    }

    /// The key of the salts that the keys with this tag hold.
    pub(super) fn share(&self, KeyTag(tag): KeyTag) -> String {
        format!("{}:share:{tag:08x}", self.prefix)
    }

    /// The key of the answer to the request that spent the salt.
    pub(super) fn answer(&self, salt: SaltId) -> String {
        self.named(":answer:", salt)
    }

    fn named(&self, kind: &str, salt: SaltId) -> String {
        let mut key = String::with_capacity(self.prefix.len() + kind.len() + 32);
        key.push_str(&self.prefix);
        key.push_str(kind);
        for byte in salt.bytes() {
            key.extend([byte >> 4, byte & 15].map(|n| char::from_digit(n.into(), 16).unwrap_or('0')));
        }
        key
    }

    /// The slot of a salt's key.
    pub(super) fn slot(&self, key: &str) -> usize {
        usize::from(slots::slot(key.as_bytes())) % self.slots()
    }

    /// The key of a slot's epoch marker, which is in that slot.
    pub(super) fn epoch_marker(&self, slot: usize) -> String {
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
    fn a_reply_is_read_completely_and_only_for_its_own_request() {
        let (key, number) = ("saltgate:ab", Number(0xff));
        let read = |text: &str| Verdict::read(&Value::BulkString(text.as_bytes().into()), key, number);
        let mine = "saltgate:ab 00000000000000ff";
        assert_eq!(read(&format!("SPENT {mine}")), Verdict::Spent);
        assert_eq!(read(&format!("REUSED {mine}")), Verdict::Reused(None));
        assert_eq!(read(&format!("SHARE {mine}")), Verdict::KeyShare);
        let mark = Mark::new([0xab; 16], [0xcd; 16]);
        let (print, id) = ("ab".repeat(16), "cd".repeat(16));
        assert_eq!(read(&format!("REUSED {mine} {print}{id}")), Verdict::Reused(Some(mark)));
        assert_eq!((mark.print(), mark.id()), ([0xab; 16], id.clone()));
        let floor = Verdict::Floor(UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!(read(&format!("FLOOR {mine} 00000000001000000000")), floor);
        assert_eq!(read(&format!("LATER {mine} 00000000000000000012")), Verdict::Later(12));
        let window = Window { past: Duration::from_secs(1), future: Duration::from_secs(2) };
        assert_eq!(read(&format!("WINDOW {mine} 1000 2000")), Verdict::OtherWindow(window));
        for odd in [
            "",
            "SPENT",
            "SPENT saltgate:ab",
            "SPENT saltgate:ac 00000000000000ff",
            "SPENT saltgate:ab 00000000000000fe",
            "SPENT saltgate:ab 00000000000000ff ",
            "SPENT  saltgate:ab 00000000000000ff",
            " SPENT saltgate:ab 00000000000000ff",
            "spent saltgate:ab 00000000000000ff",
            "SPENT saltgate:ab 00000000000000ff more",
            "SPENT saltgate:ab 00000000000000ff\n",
            "LATER saltgate:ab 00000000000000ff 7",
            "LATER saltgate:ab 00000000000000ff 99999999999999999999",
            "FLOOR saltgate:ab 00000000000000ff",
            "FLOOR saltgate:ab 00000000000000ff 1000000000",
            "FLOOR saltgate:ab 00000000000000ff 99999999999999999999",
            "FLOOR saltgate:ab 00000000000000ff +0000000001000000000",
            "WINDOW saltgate:ab 00000000000000ff 1000",
            "WINDOW saltgate:ab 00000000000000ff 1000 -1",
            "WINDOW saltgate:ab 00000000000000ff 1000 99999999999999999999",
            &format!("REUSED {mine} "),
            &format!("REUSED {mine} {print}"),
            &format!("REUSED {mine} {print}{id}0"),
            &format!("REUSED {mine} {print}{}", id.to_uppercase()),
            &format!("REUSED {mine} {print}+{}", &id[1..]),
            "SHARE saltgate:ab 00000000000000ff 3",
            "PONG",
        ] {
            assert_eq!(read(odd), Verdict::OutOfSync, "{odd:?}");
        }
        let spent = format!("SPENT {mine}");
        for other in [Value::SimpleString(spent), Value::Nil, Value::Int(1), Value::Okay, Value::Array(vec![])] {
            assert_eq!(Verdict::read(&other, key, number), Verdict::OutOfSync, "{other:?}");
        }
    }

    #[test]
    fn no_two_requests_have_the_same_number() {
        let (one, other) = (Numbers::new().unwrap(), Numbers::new().unwrap());
        let (first, second) = (one.next(), one.next());
        assert!(first != second && first != other.next());
        assert!(first.is_echoed(&Value::BulkString(first.to_string().into_bytes())));
        assert!(!first.is_echoed(&Value::BulkString(second.to_string().into_bytes())));
        assert!(!first.is_echoed(&Value::SimpleString("PONG".into())));
    }

    #[test]
    fn a_salt_and_its_epoch_marker_are_in_one_slot() {
        let keys = Keys::new("saltgate", true);
        for n in 0..=255_u8 {
            let key = keys.salt(SaltId::from_stored([n; 16]));
            assert_eq!(key, format!("saltgate:{}", format!("{n:02x}").repeat(16)));
            let marker = keys.epoch_marker(keys.slot(&key));
            let tag = marker.split(['{', '}']).nth(1).unwrap();
            assert_eq!(usize::from(slots::slot(tag.as_bytes())), keys.slot(&key));
        }
    }
}
