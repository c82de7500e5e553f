use super::SaltId;

/// A set of salts by linear probing: 16 bytes a place, nothing else.
///
/// Salts are a keyed hash, so nobody can aim at a place, and they need no hashing again. It is at
/// most four fifths full and grows by half: 20 to 30 bytes a salt.
#[derive(Default)]
pub(super) struct Table {
    places: Box<[u128]>,
    held: usize,
}

/// No salt: a hash of zero is taken for 1, which costs one salt in 2^128 its neighbour's fate.
const EMPTY: u128 = 0;

impl Table {
    pub(super) fn contains(&self, salt: SaltId) -> bool {
        !self.places.is_empty() && self.places[self.place(key(salt))] != EMPTY
    }

    /// Remembers a salt that is not there yet.
    pub(super) fn insert(&mut self, salt: SaltId) {
        if (self.held + 1) * 5 > self.places.len() * 4 {
            self.grow();
        }
        let place = self.place(key(salt));
        self.places[place] = key(salt);
        self.held += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.places)
    }

    /// Where the key is, or would be.
    fn place(&self, key: u128) -> usize {
        // The high half scaled to the number of places, which thereby need be no power of two.
        let places = self.places.len();
        let mut place = (((key >> 64) * places as u128) >> 64) as usize;
        while self.places[place] != EMPTY && self.places[place] != key {
            place = if place + 1 == places { 0 } else { place + 1 };
        }
        place
    }

    fn grow(&mut self) {
        let places = (self.places.len() * 3 / 2).max(8);
        let old = std::mem::replace(&mut self.places, vec![EMPTY; places].into());
        for key in old.into_iter().filter(|key| *key != EMPTY) {
            let place = self.place(key);
            self.places[place] = key;
        }
    }
}

fn key(salt: SaltId) -> u128 {
    u128::from_le_bytes(salt).max(1)
}
