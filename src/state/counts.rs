//! Numbers that only grow, by which an older copy of a file is detected.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde_json::{Map, Value, json};

const FILE: &str = "counts.json";
const DISCARDED: &str = "counts.json.discarded";
const LOCK: &str = "counts.lock";
const FORMAT: &str = "saltgate counts";
const VERSION: u64 = 1;
/// How often the lock is tried, and the pause between two attempts.
const TRIES: usize = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// Numbers that only grow, by name, in a file beside the record.
///
/// A file that is protected by a number also contains that number. If the two differ, one of the files is an older
/// copy, or is lost. Several processes may share the file of counts.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    folder: PathBuf,
}

impl Counts {
    /// The counts beside the record in this folder. Accesses no file yet.
    pub(crate) fn beside(record: &Path) -> Self {
        Self { folder: record.into() }
    }

    /// The number with this name; `None` if it was never set, or there is no file.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged ([`io::ErrorKind::InvalidData`]).
    pub(crate) fn get(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.all()?.get(name).copied())
    }

    /// All numbers; empty if there is no file.
    ///
    /// # Errors
    /// As [`Counts::get`].
    pub(crate) fn all(&self) -> io::Result<BTreeMap<String, u64>> {
        let path = self.folder.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes).ok_or_else(|| {
                let what = format!("{}: is not as this or an earlier build of Saltgate wrote it", path.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    /// Raises a number to `to`, unless it is already as high. It is on disk when this returns.
    ///
    /// # Errors
    /// If the file cannot be read or replaced, or another process holds its lock for longer than 5 seconds.
    pub(crate) fn raise(&self, name: &str, to: u64) -> io::Result<()> {
        super::folder(&self.folder)?;
        let _lock = self.lock()?;
        let mut counts = self.all()?;
        if counts.get(name).is_some_and(|number| *number >= to) {
            return Ok(());
        }
        counts.insert(name.to_owned(), to);
        super::replace(&self.folder, FILE, text(&counts).as_bytes())
    }

    /// Renames a damaged file, so that counting starts again.
    ///
    /// # Errors
    /// If it cannot be renamed, or another process holds its lock for longer than 5 seconds.
    pub(crate) fn set_aside(&self) -> io::Result<()> {
        let _lock = self.lock()?;
        std::fs::rename(self.folder.join(FILE), self.folder.join(DISCARDED))
    }

    fn lock(&self) -> io::Result<File> {
        let file = super::file().create(true).truncate(false).write(true).open(self.folder.join(LOCK))?;
        for _ in 0..TRIES {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // On a file system without locks, only one gateway may use a folder.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOLCK | Errno::NOSYS) => return Ok(file),
                Err(Errno::WOULDBLOCK) => thread::sleep(PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("another process holds {LOCK}")))
    }
}

fn text(counts: &BTreeMap<String, u64>) -> String {
    format!("{}\n", render(counts))
}

fn render(counts: &BTreeMap<String, u64>) -> Value {
    let numbers: Map<String, Value> = counts.iter().map(|(name, number)| (name.clone(), (*number).into())).collect();
    let check = checksum(&numbers);
    json!({ "format": FORMAT, "version": VERSION, "counts": numbers, "check": check })
}

/// `None` for anything that [`render`] does not write.
fn parse(bytes: &[u8]) -> Option<BTreeMap<String, u64>> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let number = |(name, number): (&String, &Value)| Some((name.clone(), number.as_u64()?));
    let counts = value.get("counts")?.as_object()?.iter().map(number).collect::<Option<_>>()?;
    (bytes == text(&counts).as_bytes()).then_some(counts)
}

fn checksum(counts: &Map<String, Value>) -> u32 {
    crc32fast::hash(Value::Object(counts.clone()).to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_only_grows_and_each_name_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let counts = Counts::beside(&dir.path().join("record"));
        assert_eq!(counts.get("a").unwrap(), None);
        counts.raise("a", 3).unwrap();
        counts.raise("b", 1).unwrap();
        counts.raise("a", 2).unwrap();
        let again = Counts::beside(&dir.path().join("record"));
        assert_eq!(
            (again.get("a").unwrap(), again.get("b").unwrap(), again.get("c").unwrap()),
            (Some(3), Some(1), None)
        );
    }

    #[test]
    fn two_processes_that_count_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let counting: Vec<_> = (0..4)
            .map(|who| {
                let counts = Counts::beside(dir.path());
                thread::spawn(move || (1..=10).for_each(|n| counts.raise(&format!("{who}"), n).unwrap()))
            })
            .collect();
        counting.into_iter().for_each(|thread| thread.join().unwrap());
        let all = Counts::beside(dir.path()).all().unwrap();
        assert_eq!(all.values().copied().collect::<Vec<_>>(), [10; 4], "{all:?}");
    }

    #[test]
    fn a_changed_or_truncated_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let counts = Counts::beside(dir.path());
        counts.raise("freeze", 7).unwrap();
        let path = dir.path().join(FILE);
        let written = std::fs::read(&path).unwrap();
        for at in 0..written.len() - 1 {
            std::fs::write(&path, &written[..at]).unwrap();
            assert_eq!(counts.get("freeze").unwrap_err().kind(), io::ErrorKind::InvalidData, "cut to {at} bytes");
            for bit in 0..8 {
                let mut changed = written.clone();
                changed[at] ^= 1 << bit;
                std::fs::write(&path, &changed).unwrap();
                assert!(counts.get("freeze").is_err(), "bit {bit} of byte {at}");
            }
        }
        // The checksum does not cover a repeated or unknown member; parsing refuses both.
        for (what, with) in [("\"counts\":", "\"counts\":{},\"counts\":"), ("\"counts\":", "\"count\":1,\"counts\":")] {
            let changed = String::from_utf8(written.clone()).unwrap().replace(what, with);
            std::fs::write(&path, changed).unwrap();
            assert!(counts.get("freeze").is_err(), "{with}");
        }
        std::fs::write(&path, &written).unwrap();
        assert_eq!(counts.get("freeze").unwrap(), Some(7));
    }
}
