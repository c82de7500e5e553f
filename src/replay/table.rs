//! The hash table that holds the salts of one shard.

use crate::credential::SaltId;

/// A set of salts with linear probing: 10 bytes a slot, nothing else.
///
/// A [`SaltId`] is a keyed hash: it needs no further hashing, and nobody can choose collisions. A slot holds nine bytes of
/// the salt behind the tag of its generation, so that one look-up, most often in one cache line, finds a salt of any
/// generation. The table is at most four fifths full and grows by a quarter, which takes 13 to 16 bytes a salt; a small one, by half.
///
/// Two salts that agree in these bytes and in their shard count as one: the second is refused. A new salt meets such a one
/// among a million with a probability of 2⁻⁵⁸, so that ten thousand a second meet one in nine hundred thousand years.
#[derive(Default)]
pub(super) struct Table {
    slots: Box<[Slot]>,
    held: usize,
}

/// The tag, then bytes of the salt; zeros if it is empty.
type Slot = [u8; 10];

/// The generation of a salt, as its slot holds it. At least 1, so that no occupied slot equals [`EMPTY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u8);

impl Tag {
    /// One of the two tags of a generation. While salts with one tag are being forgotten, new salts get the other.
    pub(super) fn new(generation: usize, parity: bool) -> Self {
        Self(1 + (generation as u8 & 7) * 2 + u8::from(parity))
    }
}

const EMPTY: Slot = [0; 10];
/// A table with fewer slots is small: growing is rather quick than sparing.
const SMALL: usize = 4096;

impl Table {
    pub(super) fn contains(&self, salt: SaltId) -> bool {
        !self.slots.is_empty() && self.slots[self.slot(&key(salt))] != EMPTY
    }

    /// Adds a salt; `false` if it is there already, in any generation.
    pub(super) fn insert(&mut self, salt: SaltId, tag: Tag) -> bool {
        if (self.held + 1) * 5 > self.slots.len() * 4 {
            let slots = self.slots.len();
            let more = if slots < SMALL { slots / 2 } else { slots / 4 };
            self.rebuild((slots + more).max(8), |_| true);
        }
        let mut key = key(salt);
        let slot = self.slot(&key);
        let slot = &mut self.slots[slot];
        if *slot != EMPTY {
            return false;
        }
        key[0] = tag.0;
        *slot = key;
        self.held += 1;
        true
    }

    /// Removes all salts with a tag, and frees their memory.
    pub(super) fn forget(&mut self, forgotten: Tag) {
        let of_it = |entry: &Slot| entry[0] == forgotten.0;
        let left = self.slots.iter().filter(|entry| **entry != EMPTY && !of_it(entry)).count();
        if left < self.held {
            self.held = left;
            // As full as a table that has just grown, but with one empty slot at least: a search ends only there.
            let slots = if left == 0 { 0 } else { (left * 25 / 16).max(left + 1) };
            self.rebuild(slots, |entry| !of_it(entry));
        }
    }

    /// Allocates room for `salts` salts and half as many again.
    pub(super) fn preallocate(&mut self, salts: usize) {
        if salts * 3 / 2 > self.slots.len() {
            self.rebuild(salts * 3 / 2, |_| true);
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// The slot of the key, or the empty slot where it would go.
    fn slot(&self, key: &Slot) -> usize {
        // Eight bytes of the key, scaled to the number of slots, so that this number need not be a power of two.
        let [.., a, b, c, d, e, f, g, h] = *key;
        let slots = self.slots.len();
        let mut slot = ((u128::from(u64::from_le_bytes([a, b, c, d, e, f, g, h])) * slots as u128) >> 64) as usize;
        while self.slots[slot] != EMPTY && self.slots[slot][1..] != key[1..] {
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
        slot
    }

    fn rebuild(&mut self, slots: usize, keep: impl Fn(&Slot) -> bool) {
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; slots].into());
        for entry in old.into_iter().filter(|entry| *entry != EMPTY && keep(entry)) {
            let slot = self.slot(&entry);
            self.slots[slot] = entry;
        }
    }
}

/// The last bytes of a salt, behind a place for the tag. Within a shard the first byte says little, because it chose the shard.
fn key(salt: SaltId) -> Slot {
    let [.., a, b, c, d, e, f, g, h, i] = *salt.bytes();
    [0, a, b, c, d, e, f, g, h, i]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn salt(n: u128) -> SaltId {
        SaltId::from_stored((n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_be_bytes())
    }

    #[test]
    fn forgetting_removes_exactly_the_salts_with_the_tag() {
        let (one, other) = (Tag::new(3, false), Tag::new(3, true));
        let mut table = Table::default();
        for n in 0..1000 {
            table.insert(salt(n), if n % 3 == 0 { one } else { other });
        }
        assert!((0..1000).all(|n| table.contains(salt(n))) && !table.contains(salt(1000)));
        let full = table.heap_bytes();
        table.forget(one);
        assert!((0..1000).all(|n| table.contains(salt(n)) == (n % 3 != 0)));
        assert!(table.heap_bytes() < full);
        table.insert(salt(0), one);
        assert!(table.contains(salt(0)));
        table.forget(one);
        table.forget(other);
        assert_eq!(table.heap_bytes(), 0, "the memory is given back");
    }

    #[test]
    fn a_search_ends_even_if_few_salts_are_left() {
        let (forgotten, kept) = (Tag::new(3, false), Tag::new(3, true));
        for left in 0..20 {
            let mut table = Table::default();
            (0..100).for_each(|n| assert!(table.insert(salt(n), if n < left { kept } else { forgotten })));
            table.forget(forgotten);
            assert!(table.slots.is_empty() || table.slots.contains(&EMPTY), "{left} left: a search would not end");
            assert!((0..200).all(|n| table.contains(salt(n)) == (n < left)), "{left} left");
        }
    }

    #[test]
    fn salts_that_collide_are_distinguished() {
        let near = |n: u8| SaltId::from_stored([1, 0, 0, 0, 0, 0, 0, n, 7, 7, 7, 7, 7, 7, 7, 0xff]);
        let mut table = Table::default();
        assert!((0..100).all(|n| table.insert(near(n), Tag::new(usize::from(n), false))));
        assert!(!table.insert(near(5), Tag::new(0, true)), "whatever its generation");
        assert!((0..100).all(|n| table.contains(near(n))) && !table.contains(near(100)));
    }
}
