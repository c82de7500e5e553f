use super::SaltId;

/// A set of salts by linear probing: 16 bytes a place, nothing else.
///
/// Salts are a keyed hash, so nobody can aim at a place, and they need no hashing again. A place
/// holds the salt with its first byte given over to the tag of its generation: one look-up, one
/// line of memory, finds a salt in whatever generation it is. It is at most four fifths full and
/// grows by half: 20 to 30 bytes a salt.
#[derive(Default)]
pub(super) struct Table {
    places: Box<[u128]>,
    held: usize,
}

/// Which generation a salt belongs to, as its place says: 1 and up, so that no place that is taken
/// reads as [`EMPTY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u8);

impl Tag {
    /// One of the two tags of each generation: what is forgotten has the one while what
    /// comes after has the other.
    pub(super) fn new(generation: usize, turn: bool) -> Self {
        Self(1 + (generation as u8 & 7) * 2 + u8::from(turn))
    }
}

const EMPTY: u128 = 0;
const TAG: u128 = 0xff;

impl Table {
    pub(super) fn contains(&self, salt: SaltId) -> bool {
        !self.places.is_empty() && self.places[self.place(key(salt))] != EMPTY
    }

    /// Remembers a salt; `false` if it is there already, in whatever generation.
    pub(super) fn insert(&mut self, salt: SaltId, tag: Tag) -> bool {
        if (self.held + 1) * 5 > self.places.len() * 4 {
            self.rebuild((self.places.len() * 3 / 2).max(8), |_| true);
        }
        let place = self.place(key(salt));
        let place = &mut self.places[place];
        if *place != EMPTY {
            return false;
        }
        *place = key(salt) | u128::from(tag.0);
        self.held += 1;
        true
    }

    /// Forgets all salts of a tag, and gives back the room they took.
    pub(super) fn forget(&mut self, forgotten: Tag) {
        let of_it = |entry: u128| entry & TAG == u128::from(forgotten.0);
        let left = self.places.iter().filter(|entry| **entry != EMPTY && !of_it(**entry)).count();
        if left < self.held {
            self.held = left;
            // As full as a table is that has just grown.
            self.rebuild(left * 15 / 8, |entry| !of_it(entry));
        }
    }

    /// Makes room for so many salts, and some more, at once.
    pub(super) fn expect(&mut self, salts: usize) {
        if salts * 3 / 2 > self.places.len() {
            self.rebuild(salts * 3 / 2, |_| true);
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.places)
    }

    /// Where the key is, or would be.
    fn place(&self, key: u128) -> usize {
        // The high half scaled to the number of places, which thereby need be no power of two.
        let places = self.places.len();
        let mut place = (((key >> 64) * places as u128) >> 64) as usize;
        while self.places[place] != EMPTY && self.places[place] & !TAG != key {
            place = if place + 1 == places { 0 } else { place + 1 };
        }
        place
    }

    fn rebuild(&mut self, places: usize, keep: impl Fn(u128) -> bool) {
        let old = std::mem::replace(&mut self.places, vec![EMPTY; places].into());
        for entry in old.into_iter().filter(|entry| *entry != EMPTY && keep(*entry)) {
            let place = self.place(entry & !TAG);
            self.places[place] = entry;
        }
    }
}

/// A salt without its first byte. Within a shard that byte says little: it chose the shard.
fn key(salt: SaltId) -> u128 {
    u128::from_le_bytes(salt) & !TAG
}

#[cfg(test)]
mod tests {
    use super::*;

    fn salt(n: u128) -> SaltId {
        (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_be_bytes()
    }

    #[test]
    fn what_is_forgotten_goes_and_what_is_not_stays() {
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
    fn salts_that_share_a_place_are_told_apart() {
        let near = |n: u8| [1, n, 0, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 0xff];
        let mut table = Table::default();
        assert!((0..100).all(|n| table.insert(near(n), Tag::new(usize::from(n), false))));
        assert!(!table.insert(near(5), Tag::new(0, true)), "whatever its generation");
        assert!((0..100).all(|n| table.contains(near(n))) && !table.contains(near(100)));
    }
}
