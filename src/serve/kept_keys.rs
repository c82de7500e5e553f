//! The snapshot of the keys of a table, from which a start takes them while the database is away.

use std::path::Path;
use std::sync::Arc;

use crate::directory::{Directory, KeyEntry, KeyState};
use crate::key_snapshot::{ConfirmedAt, KeptKeys, SetContent, SetFacts, SnapshotError, SnapshotFile};
use crate::postgres::KeyTableSettings;
use crate::process::Process;
use crate::seal::KeyRing;

/// The snapshot, if `snapshot` is set. No trouble with it keeps keys from coming into force.
pub(super) struct KeptSet(Option<SnapshotFile>);

/// Keys that have come into force, and how they will be written.
pub(super) struct TakenSet {
    pub(super) content: Option<SetContent>,
    pub(super) directory: Arc<Directory>,
    pub(super) version: String,
    pub(super) at_fault: usize,
}

impl KeptSet {
    pub(super) fn new(settings: &KeyTableSettings, process: &Process, record: Option<&Path>) -> Self {
        Self(settings.snapshot.clone().map(|path| {
            let (seal, clock) = (settings.seal.clone(), process.clock.clone());
            SnapshotFile::new(path, seal, settings.identity(), settings.max_stale, clock, record)
        }))
    }

    /// Other sealing keys are in force.
    pub(super) fn seal_by(&mut self, ring: &Arc<KeyRing>) {
        self.0.iter_mut().for_each(|file| file.seal_by(ring.clone()));
    }

    /// What will be written of these keys, before a directory is made of them.
    pub(super) fn content(&self, entries: &[KeyEntry]) -> Option<SetContent> {
        self.0.is_some().then(|| SnapshotFile::content(entries))
    }

    /// Writes the keys that have come into force.
    pub(super) fn write(&mut self, taken: TakenSet, confirmed: &ConfirmedAt, state: &KeyState) {
        let TakenSet { content, directory, version, at_fault } = taken;
        let (Some(file), Some(content)) = (&mut self.0, content) else { return };
        let facts = SetFacts { version, digest: directory.digest(), at_fault };
        tell(file.write(content, &facts, confirmed), state);
    }

    /// The database has confirmed the keys in force.
    pub(super) fn confirm(&mut self, confirmed: &ConfirmedAt, state: &KeyState) {
        match self.0.as_mut().map(|file| file.confirm(confirmed)) {
            None | Some(Ok(false)) => {}
            Some(written) => tell(written.map(drop), state),
        }
    }

    /// The keys to start with, if there are any that may be used.
    pub(super) fn read(&mut self, state: &KeyState) -> Option<KeptKeys> {
        match self.0.as_mut()?.read() {
            Ok(kept) => Some(kept),
            Err(why) => {
                let why = why.to_string();
                tracing::error!(
                    why,
                    "the snapshot of the keys is not used; everything is 503 until the database answers"
                );
                state.set_snapshot_trouble(Some(why));
                None
            }
        }
    }
}

/// Tells what became of an attempt to write.
fn tell(written: Result<(), SnapshotError>, state: &KeyState) {
    let why = written.err().map(|error| error.to_string());
    match (state.set_snapshot_trouble(why.clone()), why) {
        (false, _) => {}
        (true, None) => tracing::info!("the snapshot of the keys is kept again"),
        (true, Some(why)) => {
            tracing::warn!(why, "the snapshot of the keys is not kept; a start without the database would find none");
        }
    }
}
