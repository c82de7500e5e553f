//! The freeze state as one of a fleet: what a gateway tells the others, and what it takes from them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::super::freeze_error::FreezeError;
use super::super::freeze_state::{FreezeState, Note, Target};
use super::Freeze;
use crate::clock::{Clock, Lease};

/// Why a state of the fleet was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unheard {
    /// It is not understood, or of an earlier version.
    Strange,
    /// Another state has the same version. Both are to be replaced by this one.
    Differs(String),
}

impl Freeze {
    /// The same as one of a fleet.
    ///
    /// # Errors
    /// If something is frozen for this gateway alone.
    pub(crate) fn for_fleet(self, clock: Clock, lease: Duration) -> Result<Self, FreezeError> {
        let state = self.current.load();
        if state.version == 0 && !state.is_empty() {
            return Err(FreezeError::FrozenAlone);
        }
        let freeze = Self { fleet: Some((clock, lease)), ..Self::none() };
        // The same state, with a lease that nobody has renewed yet.
        let same = FreezeState { version: state.version, lease: freeze.new_lease(), ..state.copied() };
        freeze.current.store(Arc::new(same));
        freeze.cleared.store(state.version, Ordering::Release);
        drop(state);
        Ok(Self { file: self.file, ..freeze })
    }

    fn new_lease(&self) -> Option<Arc<Lease>> {
        self.fleet.as_ref().map(|(clock, lease)| Arc::new(Lease::new(clock.clone(), *lease)))
    }

    /// What this gateway tells the fleet: the version and the text of its state, and the version since which it holds no
    /// earlier one.
    pub(crate) fn told(&self) -> (u64, String, u64) {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.retain(|earlier| earlier.state.strong_count() > 0);
        let state = self.current.load();
        if earlier.is_empty() {
            self.cleared.store(state.version, Ordering::Release);
        }
        (state.version, state.json().to_string(), self.cleared.load(Ordering::Acquire))
    }

    /// Takes the fleet's state, which was asked for at this elapsed time, and renews the lease.
    ///
    /// # Errors
    /// If it is of an earlier version, not understood, or another one of the same version: then with the state to replace
    /// it by, in which everything is frozen that is in one of both.
    pub(crate) fn hear(&self, version: u64, text: &str, asked: Duration) -> Result<(), Unheard> {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = self.current.load_full();
        let theirs = match text {
            "" => Some(FreezeState::nothing()),
            text => serde_json::from_str(text).ok().and_then(|value| FreezeState::parse(&value)),
        };
        let theirs = theirs.filter(|theirs| theirs.version == version && mine.version <= version);
        let theirs = theirs.ok_or(Unheard::Strange)?;
        if theirs.version > mine.version {
            drop(mine);
            let theirs = FreezeState { lease: self.new_lease(), ..theirs };
            theirs.renew(asked);
            let written = theirs.json();
            self.replace(theirs, &mut earlier);
            if let Err(error) = self.write(&written) {
                tracing::error!(%error, "what is frozen for the fleet could not be written down");
            }
        } else if theirs.json() != mine.json() {
            return Err(Unheard::Differs(mine.joined(&theirs).following()));
        } else {
            mine.renew(asked);
        }
        Ok(())
    }

    /// The version of the state, the text of the next one, with a target more, and whether it was not frozen before.
    pub(crate) fn following_with(&self, target: &Target, note: Note) -> (u64, String, bool) {
        let state = self.current.load();
        let (next, is_new) = state.with(target, note);
        (state.version, next.following(), is_new)
    }

    /// The version of the state, the text of the next one, without this target, and whether it was frozen.
    pub(crate) fn following_without(&self, target: &Target) -> (u64, String, bool) {
        let state = self.current.load();
        (state.version, state.without(target).following(), state.names(target))
    }
}

#[cfg(test)]
mod tests {
    use super::super::NoPermit;
    use super::super::tests::{key, note};
    use super::*;

    #[test]
    fn a_gateway_of_a_fleet_permits_only_what_it_has_read_within_its_lease() {
        let (clock, hands) = Clock::manual(std::time::UNIX_EPOCH);
        let fleet = || Freeze::none().for_fleet(clock.clone(), Duration::from_secs(1)).unwrap();
        let (one, other) = (fleet(), fleet());
        let verdict = |freeze: &Freeze| freeze.permit("a", "K").map(drop);
        assert_eq!(verdict(&one), Err(NoPermit::Unknown), "nothing was read yet");
        assert!(!one.is_known());
        one.hear(0, "", clock.elapsed()).unwrap();
        assert!(one.is_known());
        let held = one.permit("a", "K").unwrap();
        let (version, next, is_new) = one.following_with(&key("K"), note());
        assert!(version == 0 && is_new);
        one.hear(1, &next, clock.elapsed()).unwrap();
        assert_eq!(verdict(&one), Err(NoPermit::Frozen));
        assert_eq!((one.told().0, one.told().2), (1, 0), "an earlier one is held");
        assert!(held.lease().unwrap().holds());
        hands.advance(Duration::from_secs(1));
        one.hear(1, &next, clock.elapsed()).unwrap();
        assert!(!held.lease().unwrap().holds(), "a later state renews nothing of an earlier one");
        drop(held);
        assert_eq!(one.told(), (1, next.clone(), 1));

        // The other one is behind, hears a later state, and never goes back.
        other.hear(1, &next, clock.elapsed()).unwrap();
        let (version, again, was) = other.following_without(&key("K"));
        assert!(version == 1 && was);
        other.hear(2, &again, clock.elapsed()).unwrap();
        assert_eq!(verdict(&other), Ok(()));
        assert_eq!(other.hear(1, &next, clock.elapsed()), Err(Unheard::Strange));
        hands.advance(Duration::from_secs(1));
        assert_eq!(verdict(&other), Err(NoPermit::Unknown));
        assert_eq!(other.hear(3, &again, clock.elapsed()), Err(Unheard::Strange), "its version is another one");
        assert_eq!(verdict(&other), Err(NoPermit::Unknown), "what is not understood renews nothing");

        // Two states with one version: what is in one of both is frozen.
        let (_, third, _) = other.following_with(&Target::All, note());
        one.hear(2, &again, clock.elapsed()).unwrap();
        one.hear(3, &one.following_with(&key("L"), note()).1, clock.elapsed()).unwrap();
        let Err(Unheard::Differs(joined)) = one.hear(3, &third, clock.elapsed()) else { panic!("they differ") };
        one.hear(4, &joined, clock.elapsed()).unwrap();
        assert_eq!(one.list().len(), 2);
    }

    #[test]
    fn what_is_frozen_for_one_gateway_is_not_forgotten_in_a_fleet() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Freeze::open(directory.path(), None, true, None).unwrap();
        let (clock, _) = Clock::manual(std::time::UNIX_EPOCH);
        let for_fleet = |freeze: Freeze| freeze.for_fleet(clock.clone(), Duration::from_secs(1));
        let fleet = for_fleet(open()).unwrap();
        let (_, next, _) = fleet.following_with(&key("K"), note());
        fleet.hear(1, &next, clock.elapsed()).unwrap();
        drop(fleet);
        let again = for_fleet(open()).unwrap();
        assert_eq!((again.told().0, again.list().len()), (1, 1), "the fleet's state survives a restart");
        drop(again);
        for target in [Target::All, Target::Account("a".into()), key("K")] {
            let alone = tempfile::tempdir().unwrap();
            let freeze = Freeze::open(alone.path(), None, true, None).unwrap();
            freeze.freeze(&target, note()).unwrap();
            assert!(matches!(for_fleet(freeze), Err(FreezeError::FrozenAlone)), "{target:?}");
        }
    }
}
