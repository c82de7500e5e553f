//! Finds a caller by apiKey, in a time that does not reveal whether the apiKey exists.
//!
//! An open-addressing table whose empty slots all refer to the decoy caller. Every step of a search does the same
//! work, whether it ends at a caller or at an empty slot: it reads a slot, reads the name of the caller there, and
//! compares both words of it. Names are 128-bit hashes with a random key for each table, so nobody can choose
//! colliding apiKeys.

use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq};

use super::Caller;
use crate::credential::SigningKey;

/// The least number of slots for each caller, so that most searches end at their first slot.
const SLOTS_PER_CALLER: usize = 4;

/// A keyed hash of an apiKey.
pub(super) type Name = [u64; 2];

#[derive(Debug)]
pub(super) struct Index {
    /// The first one is the decoy; its number, 0, is in all empty slots.
    callers: Vec<Arc<Caller>>,
    names: Vec<Name>,
    slots: Box<[u32]>,
    hasher: SigningKey,
}

impl Index {
    /// An index with room for `many` callers.
    pub(super) fn new(decoy: Caller, hasher: SigningKey, many: usize) -> Self {
        let slots = ((many + 1) * SLOTS_PER_CALLER).next_power_of_two();
        let (mut callers, mut names) = (Vec::with_capacity(many + 1), Vec::with_capacity(many + 1));
        // No apiKey is empty, so no caller has this name.
        names.push(name(&hasher, ""));
        callers.push(Arc::new(decoy));
        Self { callers, names, slots: vec![0; slots].into(), hasher }
    }

    /// Adds a caller, unless its apiKey exists already.
    ///
    /// # Errors
    /// The existing caller.
    pub(super) fn add(&mut self, caller: Caller) -> Result<(), &Arc<Caller>> {
        let name = name(&self.hasher, &caller.api_key);
        let (slot, number) = self.search(&name);
        if number != 0 {
            return Err(&self.callers[number as usize]);
        }
        self.slots[slot] = self.callers.len() as u32;
        self.callers.push(Arc::new(caller));
        self.names.push(name);
        if self.callers.len() * 2 > self.slots.len() {
            self.grow();
        }
        Ok(())
    }

    /// The caller of this apiKey and true, or the decoy and false.
    pub(super) fn find(&self, api_key: &str) -> (&Arc<Caller>, Choice) {
        let (_, number) = self.search(&name(&self.hasher, api_key));
        (&self.callers[number as usize], !number.ct_eq(&0))
    }

    /// All callers without the decoy.
    pub(super) fn callers(&self) -> &[Arc<Caller>] {
        &self.callers[1..]
    }

    fn search(&self, name: &Name) -> (usize, u32) {
        let mask = self.slots.len() - 1;
        let mut slot = name[0] as usize & mask;
        loop {
            let number = self.slots[slot];
            let it = &self.names[number as usize];
            let same = it[0].ct_eq(&name[0]) & it[1].ct_eq(&name[1]);
            if bool::from(same | number.ct_eq(&0)) {
                return (slot, number);
            }
            slot = (slot + 1) & mask;
        }
    }

    fn grow(&mut self) {
        self.slots = vec![0; self.slots.len() * SLOTS_PER_CALLER].into();
        for number in 1..self.callers.len() {
            let (slot, _) = self.search(&self.names[number].clone());
            self.slots[slot] = number as u32;
        }
    }
}

fn name(hasher: &SigningKey, api_key: &str) -> Name {
    let hash = hasher.keyed_hash(api_key);
    let (words, _) = hash.as_chunks::<8>();
    [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
}
