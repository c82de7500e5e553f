//! The two files of a snapshot: the keys, and when they were confirmed last.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::entries::{decode, encode};
use super::sealed_file::{self, SealedFile, render};
use super::{ConfirmedAt, SnapshotError};
use crate::clock::Clock;
use crate::directory::KeyEntry;
use crate::seal::{KeyRing, Sealing};
use crate::state::{self, Counts};

/// What the two files are, so that neither can take the place of the other.
const KEYS: &str = "saltgate keys snapshot";
const CONFIRMED: &str = "saltgate keys confirmed";
const VERSION: u64 = 1;
/// A confirmation is written once in this part of `max_stale`.
const REFRESHES: u32 = 30;

/// The snapshot of one gateway.
pub(crate) struct SnapshotFile {
    path: PathBuf,
    ring: Arc<KeyRing>,
    /// A digest of the database, the user and the queries: keys of another one are not used.
    database: String,
    max_stale: Duration,
    clock: Clock,
    /// Where the number of the set is kept a second time, and under which name; nowhere without a record.
    counts: Option<(Counts, String)>,
    /// The set that is on disk.
    written: Option<Written>,
    /// The bytes of a set that could not be written yet.
    pending: Option<(Vec<u8>, Written)>,
    /// When the confirmation on disk is from, on the elapsed clock.
    refreshed: Duration,
}

struct Written {
    number: u64,
    salt: String,
}

/// What is known of a set of keys besides the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetFacts {
    /// The version of the table.
    pub version: String,
    /// The digest of the keys, as the record has it.
    pub digest: String,
    /// How many rows were disabled because they are at fault.
    pub at_fault: usize,
}

/// The keys of a snapshot that may be used.
pub(crate) struct KeptKeys {
    /// The keys.
    pub entries: Vec<KeyEntry>,
    /// What else is known of them.
    pub facts: SetFacts,
    /// When the database confirmed them.
    pub confirmed: ConfirmedAt,
    /// How long ago that is.
    pub age: Duration,
}

/// The keys of a set, until they are in force and can be written.
pub(crate) struct SetContent(Zeroizing<Vec<u8>>);

impl SnapshotFile {
    /// The snapshot at this path. `record` is the folder of the record. Accesses no file yet.
    pub(crate) fn new(
        path: PathBuf,
        ring: Arc<KeyRing>,
        database: String,
        max_stale: Duration,
        clock: Clock,
        record: Option<&Path>,
    ) -> Self {
        let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        let name = format!("keys {}", absolute.display());
        let counts = record.map(|record| (Counts::beside(record), name));
        let refreshed = Duration::ZERO;
        Self { path, ring, database, max_stale, clock, counts, written: None, pending: None, refreshed }
    }

    /// Seals what is written from now on by these keys.
    pub(crate) fn seal_by(&mut self, ring: Arc<KeyRing>) {
        self.ring = ring;
    }

    /// The keys as they will be written. They are taken before a directory is made of them, which keeps no secret.
    pub(crate) fn content(entries: &[KeyEntry]) -> SetContent {
        SetContent(encode(entries, Sealing::TAG))
    }

    /// Writes a set of keys that is in force. Both files are on disk when this returns.
    ///
    /// # Errors
    /// If it cannot be written. Then there is no snapshot, and the next [`SnapshotFile::confirm`] tries again.
    pub(crate) fn write(
        &mut self,
        SetContent(content): SetContent,
        facts: &SetFacts,
        confirmed: &ConfirmedAt,
    ) -> Result<(), SnapshotError> {
        let number = self.next_number().map_err(SnapshotError::Count);
        let made = number.and_then(|number| {
            let head = json!({
                "format": KEYS, "version": VERSION, "number": number, "database": self.database,
                "table": facts.version, "digest": facts.digest, "at_fault": facts.at_fault, "confirmed": confirmed.json(),
            });
            let (bytes, salt) = render(&self.ring, head, content)?;
            Ok((bytes, Written { number, salt }))
        });
        self.written = None;
        match made {
            Ok(pending) => self.pending = Some(pending),
            Err(error) => {
                self.remove();
                return Err(error);
            }
        }
        self.flush()?;
        self.refreshed = confirmed.elapsed;
        Ok(())
    }

    /// The database has confirmed the set that was written last. Writes that down from time to time, and returns whether it
    /// did.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn confirm(&mut self, confirmed: &ConfirmedAt) -> Result<bool, SnapshotError> {
        if confirmed.elapsed.saturating_sub(self.refreshed) < self.max_stale / REFRESHES {
            return Ok(false);
        }
        self.refreshed = confirmed.elapsed;
        self.flush()?;
        let Some(Written { number, salt }) = &self.written else { return Ok(false) };
        let head = json!({
            "format": CONFIRMED, "version": VERSION, "number": number, "database": self.database, "of": salt,
            "confirmed": confirmed.json(),
        });
        let (bytes, _) = render(&self.ring, head, Zeroizing::default())?;
        put(&self.confirmed_path(), &bytes).map(|()| true)
    }

    /// The keys of the file, if they may be used.
    ///
    /// # Errors
    /// Why they may not.
    pub(crate) fn read(&mut self) -> Result<KeptKeys, SnapshotError> {
        let SealedFile { head, salt, content } = sealed_file::read(&self.ring, &self.path)?;
        let number = self.checked(&head, KEYS)?;
        if let Some((counts, name)) = &self.counts {
            let counted = counts.get(name).map_err(SnapshotError::Count)?.unwrap_or_default();
            // A process that ended between the two writes leaves a file that is one ahead.
            if number != counted && number != counted.saturating_add(1) {
                return Err(SnapshotError::OlderCopy { number, counted });
            }
        }
        let (confirmed, age) = self.last_confirmed(&head, number, &salt)?;
        if age > self.max_stale {
            return Err(SnapshotError::TooOld(age));
        }
        let entries = decode(&content).ok_or(SnapshotError::Damaged)?;
        let facts = facts(&head).ok_or(SnapshotError::Damaged)?;
        self.count(number)?;
        self.written = Some(Written { number, salt });
        Ok(KeptKeys { entries, facts, confirmed, age })
    }

    /// The later of the times in the two files. The second one may be lost, or be of another set.
    fn last_confirmed(
        &self,
        head: &Map<String, Value>,
        number: u64,
        salt: &str,
    ) -> Result<(ConfirmedAt, Duration), SnapshotError> {
        let first = confirmed(head).ok_or(SnapshotError::Damaged)?;
        let later = sealed_file::read(&self.ring, &self.confirmed_path()).ok().and_then(|file| {
            let is_of_this = self.checked(&file.head, CONFIRMED).is_ok_and(|of| of == number)
                && file.head.get("of").and_then(Value::as_str) == Some(salt);
            is_of_this.then(|| confirmed(&file.head)).flatten()
        });
        let known = |at: ConfirmedAt| at.age(&self.clock).map(|age| (at, age));
        match (known(first), later.map(known)) {
            (Ok(first), Some(Ok(later))) => Ok(if later.1 < first.1 { later } else { first }),
            // A clock was set between the two, and nothing says which of them was right.
            (_, Some(Err(error))) => Err(error),
            (first, _) => first,
        }
    }

    /// The number in a head that is of this kind and of this database.
    fn checked(&self, head: &Map<String, Value>, format: &str) -> Result<u64, SnapshotError> {
        let text = |name: &str| head.get(name).and_then(Value::as_str);
        if text("format") != Some(format) || head.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return Err(SnapshotError::Damaged);
        }
        if text("database") != Some(&self.database) {
            return Err(SnapshotError::Foreign);
        }
        head.get("number").and_then(Value::as_u64).ok_or(SnapshotError::Damaged)
    }

    fn next_number(&self) -> std::io::Result<u64> {
        let last = match &self.counts {
            Some((counts, name)) => counts.get(name)?.unwrap_or_default(),
            None => self.written.as_ref().map_or(0, |written| written.number),
        };
        Ok(last.saturating_add(1))
    }

    /// Writes what could not be written before.
    fn flush(&mut self) -> Result<(), SnapshotError> {
        let Some((bytes, written)) = &self.pending else { return Ok(()) };
        if let Err(error) = put(&self.path, bytes) {
            self.remove();
            return Err(error);
        }
        let number = written.number;
        self.written = self.pending.take().map(|(_, written)| written);
        self.count(number)
    }

    fn count(&self, number: u64) -> Result<(), SnapshotError> {
        let Some((counts, name)) = &self.counts else { return Ok(()) };
        counts.raise(name, number).map_err(SnapshotError::Count)
    }

    /// Removes the keys of before, which are not in force any more.
    fn remove(&self) {
        // What cannot be removed is an older copy, and holds no longer than it would have.
        drop(std::fs::remove_file(&self.path));
    }

    fn confirmed_path(&self) -> PathBuf {
        let mut name = self.path.file_name().map(OsString::from).unwrap_or_default();
        name.push(".confirmed");
        self.path.with_file_name(name)
    }
}

fn confirmed(head: &Map<String, Value>) -> Option<ConfirmedAt> {
    ConfirmedAt::parse(head.get("confirmed")?)
}

fn facts(head: &Map<String, Value>) -> Option<SetFacts> {
    let text = |name: &str| Some(head.get(name)?.as_str()?.to_owned());
    let at_fault = usize::try_from(head.get("at_fault")?.as_u64()?).ok()?;
    Some(SetFacts { version: text("table")?, digest: text("digest")?, at_fault })
}

/// Replaces a file. Its folder is created if it does not exist.
fn put(path: &Path, bytes: &[u8]) -> Result<(), SnapshotError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| SnapshotError::Write(std::io::ErrorKind::InvalidFilename.into()))?;
    let made = if folder.exists() { Ok(()) } else { state::folder(folder) };
    made.and_then(|()| state::replace(folder, name, bytes)).map_err(SnapshotError::Write)
}
