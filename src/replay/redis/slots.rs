//! The slots of a cluster: which slot a key is in, and which server owns which slots.

use std::collections::BTreeMap;

use redis::Value;

use crate::net::Authority;

/// The number of slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key without a hash tag, or of a hash tag alone.
pub(super) fn slot(key: &[u8]) -> u16 {
    crc16(key) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

/// A hash tag for every slot: the lowest number whose digits are in that slot, so it is the same in every process. With
/// fewer slots (a power of two) each stands for several.
pub(super) fn tags(slots: u16) -> Box<[String]> {
    let mut tags = vec![String::new(); usize::from(slots)];
    let mut missing = tags.len();
    for number in 0_u32.. {
        let digits = number.to_string();
        let tag = &mut tags[usize::from(slot(digits.as_bytes()) % slots)];
        if tag.is_empty() {
            *tag = digits;
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    tags.into()
}

/// What a master has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) slots: Vec<u16>,
    /// The epoch of the failover, or of its own last rise, since which it has them; nothing without Sentinels or a cluster.
    pub(super) epoch: Option<u64>,
}

/// Each master and what it has, from the replies to `CLUSTER SLOTS` and `CLUSTER NODES`. `None` if a reply is not understood,
/// or lists a slot twice.
pub(super) fn owners(ranges: &Value, nodes: &str, asked: &Authority) -> Option<BTreeMap<Authority, Owned>> {
    let epochs = epochs(nodes)?;
    let mut owners = BTreeMap::<Authority, Owned>::new();
    let mut listed = vec![false; usize::from(SLOTS)];
    for range in ranges.as_sequence()? {
        let [Value::Int(first), Value::Int(last), master, ..] = range.as_sequence()? else { return None };
        let [host, Value::Int(port), id, ..] = master.as_sequence()? else { return None };
        let id: String = redis::from_redis_value_ref(id).ok()?;
        let host: String = redis::from_redis_value_ref::<Option<String>>(host).ok().flatten().unwrap_or_default();
        // A server that does not know its own name sends an empty one: it means the address that was asked.
        let host = if host.is_empty() { asked.host() } else { &host };
        let master = Authority::new(host, u16::try_from(*port).ok()?).ok()?;
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        let new = listed.get_mut(usize::from(first)..=usize::from(last)).filter(|new| !new.is_empty())?;
        if new.contains(&true) {
            return None;
        }
        new.fill(true);
        let owned = owners.entry(master).or_default();
        owned.slots.extend(first..=last);
        let epoch = *epochs.get(&*id)?;
        // Two servers at one address.
        if owned.epoch.is_some_and(|other| other != epoch) {
            return None;
        }
        owned.epoch = Some(epoch);
    }
    Some(owners)
}

/// The epoch of each server by its id, from the reply to `CLUSTER NODES`.
fn epochs(nodes: &str) -> Option<BTreeMap<&str, u64>> {
    let mut epochs = BTreeMap::new();
    for line in nodes.lines() {
        let [id, _address, _flags, _master, _ping, _pong, epoch] = line.splitn(8, ' ').take(7).collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let is_number = epoch.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || epochs.insert(id, epoch.parse().ok()?).is_some() {
            return None;
        }
    }
    Some(epochs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_map_with_two_owners_of_a_slot_is_refused() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().into());
        let range = |first: i64, last: i64, host: &str, port: i64| {
            Value::Array(vec![
                Value::Int(first),
                Value::Int(last),
                Value::Array(vec![bulk(host), Value::Int(port), bulk(if host == "a" { "id-a" } else { "id" })]),
            ])
        };
        let asked = Authority::new("redis", 6379).unwrap();
        let nodes =
            "id-a a:1@2,a master - 0 0 7 connected 0-2\nid :6379@16379 myself,master - 0 0 12 connected 3 [4->-id-a]\n";
        let read = |ranges: &[Value]| owners(&Value::Array(ranges.to_vec()), nodes, &asked);
        let two = read(&[range(0, 1, "a", 1), range(3, 3, "", 6379), range(2, 2, "a", 1)]).unwrap();
        assert_eq!(two[&Authority::new("a", 1).unwrap()], Owned { slots: vec![0, 1, 2], epoch: Some(7) });
        assert_eq!(two[&asked], Owned { slots: vec![3], epoch: Some(12) });
        for odd in ["", "id-a a:1@2 master - 0 0", "id-a a:1@2 master - 0 0 x connected", &format!("{nodes}{nodes}")] {
            assert!(owners(&Value::Array(vec![range(0, 1, "a", 1)]), odd, &asked).is_none(), "{odd}");
        }
        assert!(read(&[]).unwrap().is_empty());
        for (name, ranges) in [
            ("two owners", vec![range(0, 5, "a", 1), range(5, 9, "b", 1)]),
            ("listed twice", vec![range(0, 16383, "a", 1), range(0, 16383, "a", 1)]),
            ("backwards", vec![range(5, 4, "a", 1)]),
            ("far backwards", vec![range(9, 4, "a", 1)]),
            ("beyond the last", vec![range(0, 16384, "a", 1)]),
            ("before the first", vec![range(-1, 4, "a", 1)]),
            ("no port", vec![range(0, 4, "a", 65536)]),
            ("no range", vec![Value::Int(1)]),
        ] {
            assert!(read(&ranges).is_none(), "{name}");
        }
    }

    #[test]
    fn the_checksum_matches_the_published_one() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
    }

    #[test]
    fn every_slot_has_a_hash_tag_in_it() {
        for (expected, tag) in tags(SLOTS).iter().enumerate() {
            assert_eq!(usize::from(slot(tag.as_bytes())), expected);
        }
    }
}
