//! Finds a caller by apiKey, in a time that does not reveal whether the apiKey exists.
//!
//! A perfect hash table: every caller is in the one slot that its name leads to, so no search ever takes a second step.
//! A search reads the seed of the name's group, the slot that name and seed lead to, and the caller there with its name.
//! The slots that no caller has name callers, too: an unknown apiKey is checked by the keys of some other caller, which
//! are as near or as far in memory as those of a known one, and the result does not count. Names are 128-bit hashes with
//! a random key for each table, so nobody can choose names that belong to one group.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq};

use super::Caller;
use crate::credential::SigningKey;

/// The least number of slots for each caller: the more are empty, the sooner a seed is found.
const SLOTS_PER_CALLER: usize = 4;
/// How many callers share a seed, about.
const CALLERS_PER_SEED: usize = 2;

/// A keyed hash of an apiKey. The first word chooses the group, the second one the slot.
type Name = [u64; 2];

#[derive(Debug)]
pub(super) struct Index {
    /// The first one is the decoy, for a directory without keys.
    callers: Vec<Arc<Caller>>,
    names: Vec<Name>,
    /// One for each group of names.
    seeds: Box<[u32]>,
    slots: Box<[u32]>,
    hasher: SigningKey,
}

/// An index to which callers are added.
pub(super) struct IndexBuilder {
    callers: Vec<Arc<Caller>>,
    names: Vec<Name>,
    numbers: HashMap<Name, usize>,
    hasher: SigningKey,
}

impl IndexBuilder {
    /// An index with room for `many` callers.
    pub(super) fn new(decoy: Caller, hasher: SigningKey, many: usize) -> Self {
        let (mut callers, mut names) = (Vec::with_capacity(many + 1), Vec::with_capacity(many + 1));
        // No apiKey is empty, so no caller has this name.
        names.push(name(&hasher, ""));
        callers.push(Arc::new(decoy));
        Self { callers, names, numbers: HashMap::with_capacity(many), hasher }
    }

    /// Adds a caller, unless its apiKey exists already.
    ///
    /// # Errors
    /// The existing caller.
    pub(super) fn add(&mut self, caller: Caller) -> Result<(), &Arc<Caller>> {
        let name = name(&self.hasher, &caller.api_key);
        match self.numbers.entry(name) {
            Entry::Occupied(existing) => Err(&self.callers[*existing.get()]),
            Entry::Vacant(vacant) => {
                vacant.insert(self.callers.len());
                self.callers.push(Arc::new(caller));
                self.names.push(name);
                Ok(())
            }
        }
    }

    /// Makes the caller of this apiKey inactive.
    pub(super) fn disable(&mut self, api_key: &str) {
        let name = name(&self.hasher, api_key);
        // Nobody else holds a caller of an index that is not built yet.
        if let Some(caller) = self.numbers.get(&name).and_then(|number| Arc::get_mut(&mut self.callers[*number])) {
            caller.active = false;
        }
    }

    /// The index of all callers that were added.
    pub(super) fn build(self) -> Index {
        let Self { callers, names, hasher, .. } = self;
        let mut slots = vec![0; (callers.len() * SLOTS_PER_CALLER).next_power_of_two()].into_boxed_slice();
        let mut seeds = vec![0; callers.len().div_ceil(CALLERS_PER_SEED).next_power_of_two()].into_boxed_slice();
        let mut groups = vec![Vec::new(); seeds.len()];
        for (number, name) in names.iter().enumerate().skip(1) {
            groups[group(name, &seeds)].push(number);
        }
        // The largest first, while most slots are empty.
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_unstable_by_key(|&group| std::cmp::Reverse(groups[group].len()));
        for at in order {
            seeds[at] = place(&groups[at], &names, &mut slots);
        }
        let others = (1..callers.len() as u32).cycle();
        slots.iter_mut().filter(|slot| **slot == 0).zip(others).for_each(|(slot, other)| *slot = other);
        Index { callers, names, seeds, slots, hasher }
    }
}

/// Puts each caller of a group into a slot of its own. Returns the seed that leads to these slots. Three of four slots are
/// empty and each seed leads to others, so a few seeds are tried at most.
fn place(group: &[usize], names: &[Name], slots: &mut [u32]) -> u32 {
    let mut seed = 0;
    loop {
        let mut taken = Vec::with_capacity(group.len());
        for &number in group {
            let slot = slot(&names[number], seed, slots);
            if slots[slot] == 0 && !taken.contains(&slot) {
                taken.push(slot);
            }
        }
        if taken.len() == group.len() {
            for (slot, &number) in taken.into_iter().zip(group) {
                slots[slot] = number as u32;
            }
            return seed;
        }
        seed += 1;
    }
}

impl Index {
    /// The caller of this apiKey and true, or any other and false.
    pub(super) fn find(&self, api_key: &str) -> (&Arc<Caller>, Choice) {
        let name = name(&self.hasher, api_key);
        let seed = self.seeds[group(&name, &self.seeds)];
        let number = self.slots[slot(&name, seed, &self.slots)];
        let it = &self.names[number as usize];
        // The empty apiKey has the name of the decoy.
        let known = it[0].ct_eq(&name[0]) & it[1].ct_eq(&name[1]) & !number.ct_eq(&0);
        (&self.callers[number as usize], known)
    }

    /// All callers without the decoy.
    pub(super) fn callers(&self) -> &[Arc<Caller>] {
        &self.callers[1..]
    }
}

fn name(hasher: &SigningKey, api_key: &str) -> Name {
    let hash = hasher.keyed_hash(api_key);
    let (words, _) = hash.as_chunks::<8>();
    [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
}

fn group(name: &Name, seeds: &[u32]) -> usize {
    name[0] as usize & (seeds.len() - 1)
}

/// The one slot of a name. The factors are odd and have no pattern in their bits.
fn slot(name: &Name, seed: u32, slots: &[u32]) -> usize {
    let mixed = (name[1] ^ u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed >> 32) as usize & (slots.len() - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::directory::decoy_caller;

    /// Whatever a search cost beyond one slot would tell known apiKeys from unknown ones.
    #[test]
    fn every_caller_is_in_the_one_slot_that_its_name_leads_to() {
        for many in [0, 1, 2, 3, 16, 5_000] {
            let mut builder = IndexBuilder::new(decoy_caller().unwrap(), SigningKey::decoy().unwrap(), 0);
            for n in 0..many {
                let caller = Caller { api_key: format!("KEY{n}").into(), ..decoy_caller().unwrap() };
                assert!(builder.add(caller).is_ok());
            }
            let index = builder.build();
            let taken: HashSet<_> = index.slots.iter().filter(|number| **number != 0).collect();
            assert_eq!(taken.len(), many, "no slot is empty, and every caller has one");
            for n in 0..many {
                let (caller, known) = index.find(&format!("KEY{n}"));
                assert!(bool::from(known) && *caller.api_key == format!("KEY{n}"));
                assert!(!bool::from(index.find(&format!("KEZ{n}")).1));
            }
            assert!(!bool::from(index.find("").1));
        }
    }
}
