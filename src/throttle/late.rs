//! Limits how many requests with one header wait for their bodies at once.

use crate::credential::SaltId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many requests with one header may wait for their bodies at once. At most one of them can pass, so more are of no
/// use, and a stranger who copied a header takes no more of its owner's slots than these.
pub(crate) const COPIES: u8 = 2;

const SHARDS: usize = 16;

/// The requests that wait for their bodies, by the salt of their header.
#[derive(Clone, Default)]
pub struct LateBodies(Arc<[Mutex<HashMap<SaltId, u8>>; SHARDS]>);

/// A request that waits for its body. Dropping it ends the wait.
pub struct LateBody {
    of: LateBodies,
    salt: SaltId,
}

impl LateBodies {
    /// Registers a request that waits; `None` if [`COPIES`] with this header already wait.
    pub fn wait(&self, salt: SaltId) -> Option<LateBody> {
        let mut waiting = self.shard(salt);
        let copies = waiting.entry(salt).or_default();
        if *copies == COPIES {
            return None;
        }
        *copies += 1;
        Some(LateBody { of: self.clone(), salt })
    }

    fn shard(&self, salt: SaltId) -> MutexGuard<'_, HashMap<SaltId, u8>> {
        // Consistent between any two statements, so poisoning does no harm.
        self.0[usize::from(salt.bytes()[15]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LateBody {
    fn drop(&mut self) {
        if let Entry::Occupied(mut copies) = self.of.shard(self.salt).entry(self.salt) {
            match copies.get() {
                0 | 1 => drop(copies.remove()),
                more => *copies.get_mut() = more - 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limited_number_of_copies_waits_and_leaves_nothing_behind() {
        let (late, salt) = (LateBodies::default(), |n| SaltId::from_stored([n; 16]));
        let held: Vec<LateBody> = (0..COPIES).map(|_| late.wait(salt(1)).unwrap()).collect();
        assert!(late.wait(salt(1)).is_none());
        assert!(late.wait(salt(2)).is_some(), "another header");
        drop(held);
        assert!(late.wait(salt(1)).is_some());
        assert!(late.0.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
