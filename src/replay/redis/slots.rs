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

/// Each master and its slots, from the reply to `CLUSTER SLOTS`. `None` if the reply is not understood, or lists a
/// slot twice.
pub(super) fn owners(ranges: &Value, asked: &Authority) -> Option<BTreeMap<Authority, Vec<u16>>> {
    let mut owners = BTreeMap::<Authority, Vec<u16>>::new();
    let mut listed = vec![false; usize::from(SLOTS)];
    for range in ranges.as_sequence()? {
        let [Value::Int(first), Value::Int(last), master, ..] = range.as_sequence()? else { return None };
        let [host, Value::Int(port), ..] = master.as_sequence()? else { return None };
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
        owners.entry(master).or_default().extend(first..=last);
    }
    Some(owners)
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
                Value::Array(vec![bulk(host), Value::Int(port), bulk("id")]),
            ])
        };
        let asked = Authority::new("redis", 6379).unwrap();
        let read = |ranges: &[Value]| owners(&Value::Array(ranges.to_vec()), &asked);
        let two = read(&[range(0, 1, "a", 1), range(3, 3, "", 6379), range(2, 2, "a", 1)]).unwrap();
        assert_eq!(two[&Authority::new("a", 1).unwrap()], [0, 1, 2]);
        assert_eq!(two[&asked], [3]);
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
