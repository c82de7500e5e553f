//! The freeze state, which survives restarts.
//!
//! 1. A deletion is judged by the current state right before it is sent, and holds that state ([`SendPermit`]) until it
//!    is sent or given up. So it is known which deletions were judged by which state.
//! 2. Freezing replaces the state, writes it to disk, and waits until nobody holds an older one: then no deletion that
//!    was judged before the freeze can still be sent.
//! 3. Freezing takes effect before it is written, unfreezing after: if writing fails, the target stays frozen.
//! 4. With a [`Lease`], the state is one for all gateways of a fleet, with a version (`fleet.rs`). A permit also needs the
//!    lease, which only a reading of the fleet's state renews.
//! 5. A file that is not the last one written stops the start (`frozen_file.rs`). The state is never guessed.

mod fleet;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::watch;

pub(crate) use self::fleet::Unheard;
use super::freeze_error::FreezeError;
use super::freeze_state::{FreezeState, Note, Target};
use super::frozen_file::FrozenFile;
use crate::clock::{Clock, Lease};

/// Permission to send one deletion, granted by a state that does not freeze it. Held until the deletion is sent or
/// given up.
#[derive(Debug)]
pub struct SendPermit(Arc<FreezeState>, Sending);

/// What a permit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Judged,
    Regardless,
}

/// Why there is no permission to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPermit {
    /// It is frozen.
    Frozen,
    /// It is not known what is frozen for the fleet now.
    Unknown,
}

impl SendPermit {
    /// What must still hold when the deletion leaves.
    pub(crate) fn lease(&self) -> Option<&Arc<Lease>> {
        self.0.lease.as_ref().filter(|_| self.1 == Sending::Judged)
    }
}

/// The current freeze state, and the file that stores it.
pub struct Freeze {
    current: ArcSwap<FreezeState>,
    /// Replaced states that permits may still hold. Its lock is held while the state changes.
    earlier: Mutex<Vec<Earlier>>,
    /// `None` if the state cannot change.
    file: Option<FrozenFile>,
    /// How each state of a fleet gets its lease.
    fleet: Option<(Clock, Duration)>,
    /// The version since which no earlier state is held.
    cleared: AtomicU64,
}

struct Earlier {
    state: Weak<FreezeState>,
    ended: watch::Receiver<()>,
}

impl Freeze {
    /// Nothing is frozen, and nothing is stored.
    pub fn none() -> Self {
        Self::of(FreezeState::nothing(), None)
    }

    /// Reads the state from `directory` and checks it against the number kept beside the record. With `keep` the state
    /// may change: the directory is created if needed, and locked for this process. With `discard`, a state that cannot
    /// be trusted is replaced by "everything is frozen" with this note.
    ///
    /// # Errors
    /// If the stored state is not the last one written, or another process has locked the directory.
    pub fn open(
        directory: &Path,
        record: Option<&Path>,
        keep: bool,
        discard: Option<Note>,
    ) -> Result<Self, FreezeError> {
        let everything = |note| FreezeState::new(Some(note), BTreeMap::new(), BTreeMap::new()).json();
        let (file, frozen) = FrozenFile::open(directory, record, keep, discard.map(everything))?;
        let state = match frozen {
            None => FreezeState::nothing(),
            Some(frozen) => FreezeState::parse(&frozen).ok_or_else(|| FreezeError::OtherFormat(directory.into()))?,
        };
        Ok(Self::of(state, keep.then_some(file)))
    }

    fn of(state: FreezeState, file: Option<FrozenFile>) -> Self {
        let cleared = AtomicU64::new(state.version);
        Self { current: ArcSwap::from_pointee(state), earlier: Mutex::default(), file, fleet: None, cleared }
    }

    /// Whether it is known what is frozen. Without a fleet it always is.
    pub fn is_known(&self) -> bool {
        self.fleet.is_none() || self.current.load().is_known()
    }

    /// Whether deletions of this key are frozen now. Only [`Freeze::permit`] decides.
    pub fn is_frozen(&self, account: &str, key: &str) -> bool {
        self.current.load().is_frozen(account, key)
    }

    /// Permission to send, unless the key is frozen. The caller must not await anything between this and sending.
    ///
    /// # Errors
    /// Why not.
    pub fn permit(&self, account: &str, key: &str) -> Result<SendPermit, NoPermit> {
        let state = self.current.load_full();
        if state.is_frozen(account, key) {
            return Err(NoPermit::Frozen);
        }
        if !state.is_known() {
            return Err(NoPermit::Unknown);
        }
        Ok(SendPermit(state, Sending::Judged))
    }

    /// Permission to send although it may be frozen, for modes that refuse nothing. Freezing waits for it, too.
    pub fn permit_regardless(&self) -> SendPermit {
        SendPermit(self.current.load_full(), Sending::Regardless)
    }

    /// All that is frozen.
    pub fn list(&self) -> Vec<(Target, Note)> {
        let state = self.current.load();
        let all = state.all.iter().map(|note| (Target::All, note.clone()));
        let accounts = state.accounts.iter().map(|(name, note)| (Target::Account(name.clone()), note.clone()));
        let keys = state.keys.iter().map(|(name, note)| (Target::Key(name.clone()), note.clone()));
        all.chain(accounts).chain(keys).collect()
    }

    /// How many targets of each scope are frozen.
    pub(crate) fn counts(&self) -> [(&'static str, usize); 3] {
        let state = self.current.load();
        [("all", usize::from(state.all.is_some())), ("account", state.accounts.len()), ("key", state.keys.len())]
    }

    /// Freezes at once, then writes to disk. Returns whether the target is newly frozen; if not, its first note stays.
    ///
    /// # Errors
    /// If it could not be written: the target is frozen, but not after a restart.
    pub fn freeze(&self, target: &Target, note: Note) -> Result<bool, FreezeError> {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, is_new) = self.current.load().with(target, note);
        let text = next.json();
        self.replace(next, &mut earlier);
        self.write(&text)?;
        Ok(is_new)
    }

    /// Unfreezes on disk, then in effect. Returns whether the target was frozen.
    ///
    /// # Errors
    /// If it could not be written: it stays frozen.
    pub fn unfreeze(&self, target: &Target) -> Result<bool, FreezeError> {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.current.load();
        let (before, was, next) = (now.json(), now.names(target), now.without(target));
        drop(now);
        if let Err(error) = self.write(&next.json()) {
            // Write the old state again, so that the target is also frozen after a restart.
            drop(self.write(&before));
            return Err(error);
        }
        self.replace(next, &mut earlier);
        Ok(was)
    }

    fn replace(&self, next: FreezeState, earlier: &mut Vec<Earlier>) {
        earlier.retain(|earlier| earlier.state.strong_count() > 0);
        let old = self.current.swap(Arc::new(next));
        earlier.push(Earlier { state: Arc::downgrade(&old), ended: old._held.subscribe() });
    }

    /// Waits, for at most `limit`, until no deletion that was judged by an earlier state can still be sent. Returns how
    /// many still can.
    pub async fn wait_for_permits(&self, limit: Duration) -> usize {
        let states: Vec<(Weak<FreezeState>, watch::Receiver<()>)> = {
            let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
            earlier.iter().map(|earlier| (earlier.state.clone(), earlier.ended.clone())).collect()
        };
        let all = async {
            for (_, ended) in &states {
                // Nothing is sent on this channel; it closes when the state is dropped.
                while ended.clone().changed().await.is_ok() {}
            }
        };
        drop(tokio::time::timeout(limit, all).await);
        states.iter().map(|(state, _)| state.strong_count()).sum()
    }

    fn write(&self, frozen: &Value) -> Result<(), FreezeError> {
        self.file.as_ref().map_or(Ok(()), |file| file.write(frozen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn note() -> Note {
        Note { since: "2026-11-24T00:00:00.000Z".into(), uid: 7, reason: Some("a leak".into()) }
    }

    pub(super) fn key(name: &str) -> Target {
        Target::Key(name.into())
    }

    #[test]
    fn exactly_the_frozen_targets_are_refused() {
        let freeze = Freeze::none();
        let passes = |account: &str, key: &str| freeze.permit(account, key).is_ok();
        assert!(passes("a", "K"));
        assert!(freeze.freeze(&key("K"), note()).unwrap());
        assert!(!freeze.freeze(&key("K"), note()).unwrap(), "it is already");
        assert!(!passes("a", "K") && passes("a", "k") && passes("a", "L"));
        assert!(freeze.is_frozen("a", "K") && !freeze.is_frozen("a", "L"));
        freeze.freeze(&Target::Account("a".into()), note()).unwrap();
        assert!(!passes("a", "L") && passes("b", "L"));
        freeze.freeze(&Target::All, note()).unwrap();
        assert!(!passes("b", "L"));
        for target in [Target::All, Target::Account("a".into())] {
            assert!(freeze.unfreeze(&target).unwrap());
        }
        assert!(!passes("a", "K") && passes("a", "L"), "each is unfrozen separately");
    }

    #[test]
    fn a_freeze_survives_a_restart_and_a_damaged_file_stops_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Freeze::open(directory.path(), None, true, None);
        let freeze = open().unwrap();
        assert!(open().err().unwrap().to_string().contains("another gateway"));
        freeze.freeze(&key("K"), note()).unwrap();
        freeze.freeze(&Target::All, note()).unwrap();
        freeze.unfreeze(&Target::All).unwrap();
        drop(freeze);
        let freeze = open().unwrap();
        assert_eq!(freeze.list(), [(key("K"), note())]);
        drop(freeze);
        let path = directory.path().join("freeze.json");
        let written = std::fs::read(&path).unwrap();
        for end in 0..written.len() {
            std::fs::write(&path, &written[..end]).unwrap();
            assert!(open().is_err(), "cut to {end} bytes");
        }
        for (what, with) in [
            ("\"format\":2", "\"format\":3"),
            ("\"keys\"", "\"kyes\""),
            ("\"uid\":7", "\"uid\":\"7\""),
            ("\"uid\":7", "\"uid\":7,\"until\":\"tomorrow\""),
            ("\"keys\":", "\"keys\":{},\"keys\":"),
            ("\"format\":2", "\"format\":2,\"frozen\":{}"),
        ] {
            let changed = String::from_utf8(written.clone()).unwrap().replace(what, with);
            std::fs::write(&path, changed).unwrap();
            assert!(open().is_err(), "{with}");
        }
        std::fs::write(&path, &written).unwrap();
        assert!(open().is_ok());
        // What an earlier build wrote: no number, no checksum.
        let bare = r#"{"format":1,"all":null,"accounts":{"a":{"since":"t","uid":1,"reason":null}},"keys":{}}"#;
        std::fs::write(&path, bare).unwrap();
        assert!(open().unwrap().is_frozen("a", "K"));
    }

    #[test]
    fn a_lost_or_restored_freeze_state_stops_the_start_and_discarding_it_freezes_everything() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, record) = (dir.path().join("kept"), dir.path().join("record"));
        let open = |discard| Freeze::open(&kept, Some(&record), true, discard);
        let path = kept.join("freeze.json");
        let freeze = open(None).unwrap();
        freeze.freeze(&key("K"), note()).unwrap();
        let older = std::fs::read(&path).unwrap();
        freeze.freeze(&key("L"), note()).unwrap();
        drop(freeze);
        let last = std::fs::read(&path).unwrap();
        let counts = std::fs::read(record.join("counts.json")).unwrap();
        let refused = |what: &str| {
            let error = open(None).err().unwrap_or_else(|| panic!("{what}")).to_string();
            assert!(
                error.contains("freeze.json") && error.contains(what) && error.contains("--discard-freeze"),
                "{error}"
            );
            let read_only = Freeze::open(&kept, Some(&record), false, Some(note())).err().unwrap().to_string();
            assert!(read_only.contains(what), "{read_only}");
        };
        std::fs::write(&path, &older).unwrap();
        refused("older copy");
        std::fs::remove_file(&path).unwrap();
        refused("is missing");
        std::fs::write(&path, &last).unwrap();
        std::fs::remove_file(record.join("counts.json")).unwrap();
        refused("has no number");
        std::fs::write(record.join("counts.json"), &counts[1..]).unwrap();
        let error = open(None).err().unwrap().to_string();
        assert!(error.contains("counts.json"), "{error}");
        for harm in [&counts[1..], &counts[..]] {
            std::fs::write(record.join("counts.json"), harm).unwrap();
            std::fs::write(&path, &older).unwrap();
            let freeze = open(Some(note())).unwrap();
            assert!(freeze.is_frozen("any", "other"), "all of it");
            assert!(freeze.unfreeze(&Target::All).unwrap());
            drop(freeze);
            assert_eq!(open(None).unwrap().list(), [], "and unfrozen by hand");
        }
        std::fs::write(&path, &last).unwrap();
        refused("older copy");
    }

    #[test]
    fn the_freeze_state_and_the_record_may_be_moved() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let freeze = Freeze::open(&at("kept"), Some(&at("record")), true, None).unwrap();
        freeze.freeze(&key("K"), note()).unwrap();
        freeze.freeze(&key("L"), note()).unwrap();
        drop(freeze);
        for (kept, record) in [("moved", "record"), ("moved", "elsewhere"), ("again", "record-2")] {
            let from =
                ["kept", "moved", "again"].into_iter().find(|name| at(name).join("freeze.json").exists()).unwrap();
            if from != kept {
                std::fs::rename(at(from), at(kept)).unwrap();
            }
            let freeze = Freeze::open(&at(kept), Some(&at(record)), true, None).unwrap();
            assert_eq!(freeze.list().len(), 2, "{kept} {record}");
        }
        std::fs::remove_file(at("again").join("freeze.json")).unwrap();
        assert!(Freeze::open(&at("again"), Some(&at("record-2")), true, None).is_err(), "it is counted there now");
        // One that was kept without a record is counted from when there is one.
        let freeze = Freeze::open(&at("alone"), None, true, None).unwrap();
        ["K", "L"].iter().for_each(|name| assert!(freeze.freeze(&key(name), note()).unwrap()));
        drop(freeze);
        let older = std::fs::read(at("alone/freeze.json")).unwrap();
        let freeze = Freeze::open(&at("alone"), Some(&at("record")), true, None).unwrap();
        assert_eq!(freeze.list().len(), 2);
        drop(freeze);
        std::fs::write(at("alone/freeze.json"), older).unwrap();
        assert!(Freeze::open(&at("alone"), Some(&at("record")), true, None).is_err());
    }

    #[test]
    fn a_target_is_frozen_and_stays_frozen_if_writing_fails() {
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("state");
        let freeze = Freeze::open(&kept, None, true, None).unwrap();
        freeze.freeze(&key("K"), note()).unwrap();
        std::fs::remove_dir_all(&kept).unwrap();
        assert!(freeze.freeze(&key("L"), note()).is_err());
        assert!(freeze.unfreeze(&key("K")).is_err());
        assert!(freeze.is_frozen("a", "K") && freeze.is_frozen("a", "L"));
    }

    #[tokio::test]
    async fn freezing_waits_for_all_deletions_judged_before_and_for_none_after() {
        let freeze = Freeze::none();
        let (before, another) = (freeze.permit("a", "K").unwrap(), freeze.permit("b", "L").unwrap());
        freeze.freeze(&key("K"), note()).unwrap();
        let after = freeze.permit("b", "L").unwrap();
        assert_eq!(freeze.wait_for_permits(Duration::from_millis(5)).await, 2);
        drop(another);
        // A second freeze waits for the first one's as well.
        freeze.freeze(&key("M"), note()).unwrap();
        assert_eq!(freeze.wait_for_permits(Duration::from_millis(5)).await, 2);
        drop(after);
        let waiting = freeze.wait_for_permits(Duration::from_secs(60));
        let (left, ()) = tokio::join!(waiting, async { drop(before) });
        assert_eq!(left, 0);
    }
}
