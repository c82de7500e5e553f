//! The freeze state on disk. Detects an older copy that was put back, and a file that was changed.
//!
//! 1. The file has a checksum, and a number that grows with each change.
//! 2. The same number is kept beside the record ([`Counts`]), written after the file. A file with a smaller number is
//!    an older copy; a number without a file means that the file is lost. A process that ended between the two writes
//!    leaves a file that is one ahead; if it is further ahead, the counts are an older copy.
//! 3. A file that cannot be trusted stops the start. With `--discard-freeze` the start goes on with everything frozen.
//!
//! Without a record there is no second copy of the number, and only damage is detected. If the file and the record are
//! both restored from the same backup, nothing detects it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::freeze_error::{FreezeError, Untrusted};
use crate::lookup;
use crate::state::{self, Counts};

/// The format of the file.
const FORMAT: u64 = 2;
/// The format of an earlier build: the state without number and checksum.
const BARE: u64 = 1;
const FILE: &str = "freeze.json";
const LOCK: &str = "freeze.lock";
/// A discarded state is replaced by one whose number is higher by a random number of `64 - LEAP` bits.
const LEAP: u32 = 16;
const DISCARDED: &str = "freeze.json.discarded";

/// The file that stores the freeze state.
#[derive(Debug)]
pub(super) struct FrozenFile {
    directory: PathBuf,
    record: Option<PathBuf>,
    /// The name of its number beside the record.
    name: String,
    number: AtomicU64,
    _lock: Option<File>,
}

/// The content of the file.
struct FileContent {
    number: u64,
    /// The record beside which the number was kept at the last change, and the name of the number.
    counted: Option<(PathBuf, String)>,
    frozen: Value,
}

impl FrozenFile {
    /// Opens the file in this directory and returns its state; `None` if nothing was ever frozen. With `keep` the state
    /// may change: the directory is created if needed, and locked for this process. `discard` is the state to start
    /// with if the stored one cannot be trusted.
    pub(super) fn open(
        directory: &Path,
        record: Option<&Path>,
        keep: bool,
        discard: Option<Value>,
    ) -> Result<(Self, Option<Value>), FreezeError> {
        let lock = if keep { Some(take(directory)?) } else { None };
        let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let record = record.map(|record| std::path::absolute(record).unwrap_or_else(|_| record.to_owned()));
        let file = Self {
            directory: directory.into(),
            record,
            name: format!("freeze {}", absolute.display()),
            number: AtomicU64::new(0),
            _lock: lock,
        };
        match (file.read(), discard) {
            (Ok(content), _) => {
                let Some(FileContent { number, frozen, counted }) = content else { return Ok((file, None)) };
                file.number.store(number, Ordering::Relaxed);
                if keep && counted != file.counted() {
                    file.write(&frozen)?;
                } else if keep && number > 0 {
                    file.count(number)?;
                }
                Ok((file, Some(frozen)))
            }
            (Err(why), Some(instead)) if keep => {
                file.begin_with(&instead)?;
                tracing::warn!(%why, "the freeze state is discarded: everything is frozen");
                Ok((file, Some(instead)))
            }
            (Err(why), _) => Err(FreezeError::NotDiscarded(why.into())),
        }
    }

    /// Writes the state. It is on disk when this returns.
    pub(super) fn write(&self, frozen: &Value) -> Result<(), FreezeError> {
        let number = self.number.load(Ordering::Relaxed).saturating_add(1);
        self.put(number, frozen)?;
        self.number.store(number, Ordering::Relaxed);
        Ok(())
    }

    fn put(&self, number: u64, frozen: &Value) -> Result<(), FreezeError> {
        let counted = self.counted().map(|(record, name)| json!({ "in": record, "as": name }));
        let mut content = json!({ "format": FORMAT, "number": number, "counted": counted, "frozen": frozen });
        content["check"] = checksum(&content).into();
        let failed = |error| FreezeError::io(&self.path(), "cannot be written", error);
        state::replace(&self.directory, FILE, content.to_string().as_bytes()).map_err(failed)?;
        self.count(number)
    }

    /// Keeps the number beside the record.
    fn count(&self, number: u64) -> Result<(), FreezeError> {
        let Some(record) = &self.record else { return Ok(()) };
        Counts::beside(record)
            .raise(&self.name, number)
            .map_err(|error| FreezeError::io(&self.path(), "its number cannot be kept", error))
    }

    /// Sets the untrusted file aside and starts again with this state.
    fn begin_with(&self, frozen: &Value) -> Result<(), FreezeError> {
        let failed = |error| FreezeError::io(&self.path(), "cannot be discarded", error);
        let number =
            std::fs::read(self.path()).ok().and_then(|bytes| parse(&bytes)).map_or(0, |content| content.number);
        let count = match self.record.as_deref().map(Counts::beside) {
            None => 0,
            Some(counts) => match counts.get(&self.name) {
                Ok(count) => count.unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    counts.set_aside().map_err(failed)?;
                    0
                }
                Err(error) => return Err(failed(error)),
            },
        };
        match std::fs::rename(self.path(), self.directory.join(DISCARDED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        // A random leap, so that no earlier file has the number that follows.
        let leap = getrandom::u64().map_err(|error| failed(io::Error::other(error)))? >> LEAP;
        self.number.store(number.max(count).saturating_add(leap), Ordering::Relaxed);
        self.write(frozen)
    }

    fn read(&self) -> Result<Option<FileContent>, FreezeError> {
        let path = self.path();
        let untrusted = |why| FreezeError::Untrusted { path: path.clone(), why };
        let count_of =
            |(record, name): &(PathBuf, String)| Counts::beside(record).get(name).map_err(FreezeError::NoNumber);
        let here = self.counted();
        let count_here = here.as_ref().map(count_of).transpose()?.flatten();
        let content = match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes).ok_or_else(|| untrusted(Untrusted::Changed))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match count_here {
                    Some(count) if count > 0 => Err(untrusted(Untrusted::Missing(count))),
                    _ => Ok(None),
                };
            }
            Err(error) => return Err(FreezeError::io(&path, "cannot be read", error)),
        };
        // The file or the record may have been moved since.
        let there = content.counted.clone().filter(|there| Some(there) != here.as_ref());
        let mut count = count_here;
        if let Some((record, name)) = there {
            let with_it = (self.record.clone().unwrap_or_else(|| record.clone()), name.clone());
            let counts = [count_of(&with_it)?, count_of(&(record, name.clone()))?];
            if count_here.is_some() && name != self.name {
                return Err(untrusted(Untrusted::Elsewhere(name)));
            }
            count = counts.into_iter().flatten().max().max(count_here);
        }
        match count {
            Some(count) if count > content.number => {
                Err(untrusted(Untrusted::Older { of: content.number, last: count }))
            }
            Some(count) if count.saturating_add(1) < content.number => {
                Err(untrusted(Untrusted::Ahead { of: content.number, known: count }))
            }
            None if content.number > 1 && content.counted.is_some() && here.is_some() => {
                Err(untrusted(Untrusted::NumberGone))
            }
            _ => Ok(Some(content)),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    fn counted(&self) -> Option<(PathBuf, String)> {
        self.record.clone().map(|record| (record, self.name.clone()))
    }
}

/// Creates and locks the directory.
fn take(directory: &Path) -> Result<File, FreezeError> {
    state::folder(directory)
        .map_err(|error| FreezeError::io(directory, "cannot be created for the freeze state", error))?;
    let lock = directory.join(LOCK);
    let file = state::file().create(true).truncate(false).write(true).open(&lock);
    let file = file.map_err(|error| FreezeError::io(&lock, "cannot be opened", error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| FreezeError::InUse(directory.into()))?;
    Ok(file)
}

/// `None` for anything that no build writes, apart from whitespace; a repeated member name is refused as ambiguous.
fn parse(bytes: &[u8]) -> Option<FileContent> {
    let mut value = lookup::strict_json(bytes).ok()?;
    let object = value.as_object_mut()?;
    if object.get("format")?.as_u64() == Some(BARE) {
        object.remove("format");
        return Some(FileContent { number: 0, counted: None, frozen: value });
    }
    let check = object.remove("check")?;
    if value["format"] != FORMAT || check != checksum(&value) {
        return None;
    }
    let counted = match value.get("counted")? {
        Value::Null => None,
        it => Some((it["in"].as_str()?.into(), it["as"].as_str()?.to_owned())),
    };
    Some(FileContent { number: value["number"].as_u64()?, counted, frozen: value.get("frozen")?.clone() })
}

/// The freeze state in a file of these bytes.
#[cfg(any(test, fuzzing))]
pub(super) fn frozen(bytes: &[u8]) -> Option<Value> {
    parse(bytes).map(|content| content.frozen)
}

fn checksum(value: &Value) -> u32 {
    crc32fast::hash(value.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World(tempfile::TempDir);

    impl World {
        /// In it, one gateway has changed its state so many times, and stopped.
        fn after(changes: u64) -> Self {
            let world = Self(tempfile::tempdir().unwrap());
            let (file, _) = world.open("kept", true, None).unwrap();
            (1..=changes).for_each(|change| file.write(&json!(change)).unwrap());
            world
        }

        fn open(
            &self,
            kept: &str,
            keep: bool,
            discard: Option<Value>,
        ) -> Result<(FrozenFile, Option<Value>), FreezeError> {
            FrozenFile::open(&self.at(kept), Some(&self.at("record")), keep, discard)
        }

        /// The state with which a gateway starts, or why it does not.
        fn started(&self) -> Result<Option<Value>, String> {
            self.open("kept", true, None).map(|(_, state)| state).map_err(|error| error.to_string())
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        /// The files of the state and of the counts.
        fn files(&self) -> [Vec<u8>; 2] {
            ["kept/freeze.json", "record/counts.json"].map(|path| std::fs::read(self.at(path)).unwrap())
        }

        fn put(&self, path: &str, bytes: &[u8]) {
            std::fs::write(self.at(path), bytes).unwrap();
        }
    }

    #[test]
    fn a_start_writes_nothing_that_is_there_already_and_reading_writes_nothing() {
        let world = World::after(2);
        let files = world.files();
        assert_eq!(world.started().unwrap(), Some(json!(2)));
        assert_eq!(world.files(), files);

        world.open("kept", true, None).unwrap().0.write(&json!(3)).unwrap();
        let [file, counts] = world.files();
        // The state was written, and the process ended before it was counted.
        world.put("record/counts.json", &files[1]);
        assert_eq!(world.open("kept", false, None).unwrap().1, Some(json!(3)));
        assert_eq!(world.files(), [file.clone(), files[1].clone()]);

        let elsewhere = world.at("elsewhere");
        world.put("record/counts.json", &counts);
        FrozenFile::open(&world.at("kept"), Some(&elsewhere), false, None).unwrap();
        assert_eq!(world.files(), [file, counts]);
        assert!(!elsewhere.exists());
    }

    #[test]
    fn a_change_that_was_not_counted_is_counted_at_the_next_start() {
        let world = World::after(2);
        let [second, counts] = world.files();
        world.open("kept", true, None).unwrap().0.write(&json!(3)).unwrap();
        world.put("record/counts.json", &counts);
        assert_eq!(world.started().unwrap(), Some(json!(3)));
        world.put("kept/freeze.json", &second);
        assert!(world.started().unwrap_err().contains("older copy"));

        let world = World::after(1);
        let counts = world.files()[1].clone();
        std::fs::remove_file(world.at("record/counts.json")).unwrap();
        assert_eq!(world.started().unwrap(), Some(json!(1)), "the first change of all");
        assert_eq!(world.files()[1], counts);
    }

    #[test]
    fn a_state_that_is_two_changes_ahead_of_its_count_is_refused() {
        let world = World::after(1);
        let counts = world.files()[1].clone();
        let (file, _) = world.open("kept", true, None).unwrap();
        [2, 3].iter().for_each(|change| file.write(&json!(change)).unwrap());
        drop(file);
        world.put("record/counts.json", &counts);
        assert!(world.started().unwrap_err().contains("is of change 3, but the counts beside the record know only 1"));
    }

    #[test]
    fn the_state_of_another_gateway_is_refused_by_one_that_has_its_own() {
        let world = World::after(1);
        world.open("another", true, None).unwrap().0.write(&json!("another's")).unwrap();
        std::fs::copy(world.at("another/freeze.json"), world.at("kept/freeze.json")).unwrap();
        assert!(world.started().unwrap_err().contains("belongs to another directory"));
    }

    #[test]
    fn a_missing_file_is_nothing_if_nothing_was_counted() {
        let world = World(tempfile::tempdir().unwrap());
        let (file, _) = world.open("kept", true, None).unwrap();
        Counts::beside(&world.at("record")).raise(&file.name, 0).unwrap();
        drop(file);
        assert_eq!(world.started().unwrap(), None);
    }

    #[test]
    fn a_number_that_was_changed_is_noticed_by_the_checksum() {
        let world = World::after(2);
        let [file, _] = world.files();
        assert_eq!(frozen(&file), Some(json!(2)));
        let changed = String::from_utf8(file).unwrap().replace("\"number\":2", "\"number\":3");
        world.put("kept/freeze.json", changed.as_bytes());
        assert!(world.started().unwrap_err().contains("was changed after it was written"));
    }

    #[test]
    fn a_state_that_cannot_be_set_aside_is_not_discarded() {
        for obstacle in ["record/counts.json", "kept/freeze.json.discarded"] {
            let world = World::after(2);
            let [file, _] = world.files();
            world.put("kept/freeze.json", &file[1..]);
            let _ = std::fs::remove_file(world.at(obstacle));
            std::fs::create_dir(world.at(obstacle)).unwrap();
            world.put(&format!("{obstacle}/file"), b"");
            let error = world.open("kept", true, Some(json!("all"))).unwrap_err().to_string();
            assert!(error.contains("cannot be discarded"), "{obstacle}: {error}");
            assert_eq!(std::fs::read(world.at("kept/freeze.json")).unwrap(), file[1..], "{obstacle}");
            assert!(world.at(obstacle).is_dir(), "{obstacle}");
        }
    }
}
