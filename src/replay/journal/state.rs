//! The state of a journal besides its salts: one small file, always replaced as a whole.
//!
//! 1. A checksum covers the whole file.
//! 2. The file names itself, by the number and the birth time of its inode. Each replacement is a new file, so a
//!    restored copy is not the file that it names. Only a snapshot of the whole file system and a hard link preserve
//!    the inode; the witness ([`super::witness`]) detects those.
//! 3. After a clean close it says what every segment holds, so anything missing or different later is damage.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::doubt::Doubt;
use super::segment::{JournalId, SegmentFault, Sum, VERSION};
use crate::state as disk;

/// How far ahead of now the reach on disk is, so that it is not written all the time.
pub(super) const REACH_AHEAD: Duration = Duration::from_secs(120);
/// How far ahead it still is when it is written again.
pub(super) const REACH_LEFT: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) journal: JournalId,
    /// How often the journal was started.
    pub(super) starts: u64,
    /// The path of the witness.
    pub(super) witness: PathBuf,
    /// The floor, in nanoseconds since 1970: no date at or below it is admitted.
    pub(super) floor: i64,
    /// The reach, in nanoseconds since 1970: no date beyond it was ever admitted.
    pub(super) reach: i64,
    /// The boot id of the kernel that was running; empty if written data may be lost even under the same kernel.
    pub(super) boot_id: String,
    /// Whether every salt was synced before its claim was answered.
    pub(super) each: bool,
    /// The number of the oldest segment.
    pub(super) first: u64,
    /// The number of the newest segment that may hold records.
    pub(super) last: u64,
    /// Segments that were in use when a machine stopped: any slot in them may be vacant.
    pub(super) holes: Vec<u64>,
    /// What the segments hold, if the journal was closed cleanly.
    pub(super) closed: Option<Vec<Sealed>>,
}

/// What a segment held when the journal was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) sequence: u64,
    pub(super) records: u32,
    pub(super) sum: Sum,
}

/// A state as read from disk.
pub(super) struct Found {
    pub(super) state: State,
    /// Why the state cannot be relied on, if it cannot.
    pub(super) doubt: Option<Doubt>,
}

/// Identifies a file by values that only the file system can set.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId {
    inode: u64,
    /// The time of birth in nanoseconds since 1970, if the file system keeps it.
    born: Option<u64>,
}

pub(super) const NAME: &str = "state.json";
const FORMAT: &str = "saltgate replay journal";

impl State {
    /// Whether the journal was not closed, and another kernel, or an unknown one, was running. Written data may then
    /// be lost.
    pub(super) fn is_of_another_kernel(&self, boot_id: &str) -> bool {
        self.closed.is_none() && (self.boot_id != boot_id || boot_id.is_empty())
    }

    /// Reads the state of a journal; `None` if there is none yet.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Result<Found, SegmentFault>>> {
        let path = directory.join(NAME);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes)?;
        let this = FileId::of(&file.metadata()?);
        Ok(Some(parse(&bytes, this)))
    }

    /// Replaces the file atomically: afterwards it is the complete old one or the complete new one.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let new = directory.join(format!("{NAME}.new"));
        // A file that an interrupted write left must go first: it would keep its inode.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = disk::file().write(true).create_new(true).open(&new)?;
        file.write_all(self.text(FileId::of(&file.metadata()?)).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, directory.join(NAME))?;
        File::open(directory)?.sync_all()
    }

    fn text(&self, this: FileId) -> String {
        format!("{}\n", self.describe(this))
    }

    fn describe(&self, this: FileId) -> Value {
        let sealed = |it: &Sealed| json!([it.sequence, it.records, it.sum.0]);
        let mut value = json!({
            "format": FORMAT,
            "version": VERSION,
            "journal": format!("{:016x}", self.journal.0),
            "starts": self.starts,
            "witness": self.witness.to_string_lossy(),
            "floor": self.floor,
            "reach": self.reach,
            "boot_id": self.boot_id,
            "clean": self.closed.is_some(),
            "each": self.each,
            "first": self.first,
            "last": self.last,
            "holes": self.holes,
            "segments": self.closed.iter().flatten().map(sealed).collect::<Value>(),
            "file": { "inode": this.inode, "born": this.born },
        });
        value["sum"] = checksum(&value).into();
        value
    }
}

fn parse(bytes: &[u8], this: FileId) -> Result<Found, SegmentFault> {
    let damaged = || SegmentFault::Damaged("is not the state of a journal, or was changed after it was written".into());
    let value: Value = serde_json::from_slice(bytes).map_err(|_| damaged())?;
    let version = value["version"].as_u64().filter(|_| value["format"] == FORMAT).ok_or_else(damaged)?;
    if version > u64::from(VERSION) {
        return Err(SegmentFault::Newer(u32::try_from(version).unwrap_or(u32::MAX)));
    }
    if version == 1 {
        let state = read_older(&value).ok_or_else(damaged)?;
        return Ok(Found { state, doubt: Some(Doubt::OlderFormat) });
    }
    let state = read_state(&value).ok_or_else(damaged)?;
    let written = &value["file"];
    let written = FileId { inode: written["inode"].as_u64().ok_or_else(damaged)?, born: written["born"].as_u64() };
    // Accepted only if writing it again gives the same bytes, the checksum included.
    if bytes != state.text(written).as_bytes() {
        return Err(damaged());
    }
    Ok(Found { state, doubt: (!this.is(written)).then_some(Doubt::Restored) })
}

fn read_state(value: &Value) -> Option<State> {
    let sealed = |it: &Value| {
        Some(Sealed {
            sequence: it[0].as_u64()?,
            records: it[1].as_u64()?.try_into().ok()?,
            sum: Sum(it[2].as_u64()?.try_into().ok()?),
        })
    };
    let segments = value["segments"].as_array()?.iter().map(sealed).collect::<Option<_>>()?;
    let state = State {
        journal: JournalId(u64::from_str_radix(value["journal"].as_str()?, 16).ok()?),
        starts: value["starts"].as_u64()?,
        witness: value["witness"].as_str()?.into(),
        closed: value["clean"].as_bool()?.then_some(segments),
        ..read_older(value)?
    };
    Some(state)
}

/// The fields of format 1. They are not relied on, so there is little to check.
fn read_older(value: &Value) -> Option<State> {
    let state = State {
        journal: JournalId(0),
        starts: 0,
        witness: PathBuf::new(),
        floor: value["floor"].as_i64()?,
        reach: value["reach"].as_i64()?,
        boot_id: value["boot_id"].as_str()?.to_owned(),
        each: value["each"].as_bool()?,
        first: value["first"].as_u64()?,
        last: value["last"].as_u64()?,
        holes: value["holes"].as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?,
        closed: None,
    };
    Some(state).filter(|state| state.first <= state.last)
}

/// A checksum over the text of a value. The names are in order.
fn checksum(value: &Value) -> u32 {
    crc32fast::hash(value.to_string().as_bytes())
}

/// Fuzz target for any bytes as a state: if they are accepted, writing the state again gives the same bytes.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) {
    let this = FileId { inode: 5, born: Some(6) };
    match parse(bytes, this) {
        Ok(Found { doubt: Some(Doubt::OlderFormat), state }) => assert!(state.closed.is_none()),
        Ok(Found { state, doubt }) => {
            let value: Value = serde_json::from_slice(bytes).expect("JSON");
            let written = &value["file"];
            let written = FileId { inode: written["inode"].as_u64().expect("one"), born: written["born"].as_u64() };
            assert_eq!(state.text(written).as_bytes(), bytes);
            assert_eq!(
                doubt,
                (written.inode != 5 || written.born.is_some_and(|at| at != 6)).then_some(Doubt::Restored)
            );
            assert!(state.first <= state.last);
        }
        Err(SegmentFault::Newer(version)) => assert!(version > VERSION),
        Err(SegmentFault::Damaged(why)) => assert!(!why.is_empty()),
    }
}

/// The text of a JSON object with the checksum of a state.
#[cfg(any(test, fuzzing))]
pub(super) fn sealed(mut value: Value) -> Option<Vec<u8>> {
    value.as_object_mut()?.remove("sum");
    value["sum"] = checksum(&value).into();
    Some(format!("{value}\n").into_bytes())
}

impl FileId {
    fn of(file: &Metadata) -> Self {
        let born = file.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self { inode: file.ino(), born: born.and_then(|since| u64::try_from(since.as_nanos()).ok()) }
    }

    /// Whether this is the file `written`. The time of birth is compared only if both are known.
    fn is(self, written: Self) -> bool {
        let born = self.born.zip(written.born).is_none_or(|(one, other)| one == other);
        self.inode == written.inode && born
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            journal: JournalId(0xab),
            starts: 4,
            witness: "/audit/replay.witness".into(),
            floor: i64::MIN,
            reach: 7,
            boot_id: "b".into(),
            each: false,
            first: 2,
            last: 9,
            holes: vec![3],
            closed: Some(vec![Sealed { sequence: 2, records: 5, sum: Sum(6) }]),
        }
    }

    fn read(directory: &Path) -> Result<(State, Option<Doubt>), SegmentFault> {
        State::read(directory).unwrap().unwrap().map(|found| (found.state, found.doubt))
    }

    #[test]
    fn a_state_is_read_as_written_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(State::read(dir.path()).unwrap().is_none());
        state().write(dir.path()).unwrap();
        assert_eq!(read(dir.path()), Ok((state(), None)));
        let path = dir.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        for (name, text) in [
            ("empty", String::new()),
            ("cut off", text[..text.len() / 2].to_owned()),
            ("another format", text.replace("saltgate", "other")),
            ("a missing field", text.replace("reach", "rich")),
            ("another number", text.replace("\"reach\":7", "\"reach\":6")),
            ("no checksum", text.replace("\"sum\"", "\"some\"")),
            ("a field twice", text.replace("\"reach\"", "\"reach\":9,\"reach\"")),
            ("space", text.replace("\"reach\"", " \"reach\"")),
            ("no line end", text.trim_end().to_owned()),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(read(dir.path()), Err(SegmentFault::Damaged(_))), "{name}");
        }
        std::fs::write(&path, text.replace("\"version\":2", "\"version\":3")).unwrap();
        assert_eq!(read(dir.path()), Err(SegmentFault::Newer(3)));
    }

    #[test]
    fn every_flipped_bit_of_a_state_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        state().write(dir.path()).unwrap();
        let path = dir.path().join(NAME);
        let text = std::fs::read(&path).unwrap();
        let this = FileId::of(&File::open(&path).unwrap().metadata().unwrap());
        // But for the line end, which says nothing.
        for (byte, bit) in (0..text.len() - 1).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut hurt = text.clone();
            hurt[byte] ^= 1 << bit;
            assert!(parse(&hurt, this).is_err(), "byte {byte}, bit {bit}");
        }
    }

    #[test]
    fn a_restored_copy_is_not_the_file_that_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join(NAME), dir.path().join("copy"));
        let restored = Ok((state(), Some(Doubt::Restored)));
        state().write(dir.path()).unwrap();
        std::fs::copy(&path, &copy).unwrap();

        // cp: the same inode, in which a later state was.
        State { starts: 5, ..state() }.write(dir.path()).unwrap();
        std::fs::copy(&copy, &path).unwrap();
        assert_eq!(read(dir.path()), restored);
        // mv.
        std::fs::rename(&copy, &path).unwrap();
        assert_eq!(read(dir.path()), restored);
        // What is restored may get the number of an inode that was freed just before.
        state().write(dir.path()).unwrap();
        let text = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(dir.path()), restored);
    }

    #[test]
    fn the_state_of_an_older_format_is_read_but_not_relied_on() {
        let dir = tempfile::tempdir().unwrap();
        let older = r#"{"boot_id":"b","clean":true,"each":false,"first":2,"floor":5,"format":"saltgate replay journal","holes":[],"last":9,"reach":7,"version":1}"#;
        std::fs::write(dir.path().join(NAME), older).unwrap();
        let (state, doubt) = read(dir.path()).unwrap();
        assert_eq!((state.floor, state.reach, state.last, doubt), (5, 7, 9, Some(Doubt::OlderFormat)));
    }
}
