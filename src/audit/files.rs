//! The files of a record: what they are called, which belong together, and how one is read.
//!
//! `record-<instance>-<file>.jsonl`, or `.jsonl.gz` once an operator has compressed a closed one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::chain::{FORMAT, is_instance};

/// The most bytes of a line; no line that is written comes near.
const MAX_LINE: u64 = 1 << 20;

/// A file of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
}

/// The files that one process wrote, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) id: String,
    pub(super) segments: Vec<Segment>,
    /// Whether the process that writes them was there when they were listed: it holds a lock on
    /// its last file. If it was not, what there is of it is all there will be.
    pub(super) live: bool,
}

/// Why a record cannot be read.
#[derive(Debug)]
pub struct ReadError {
    pub(super) path: PathBuf,
    pub(super) what: String,
}

impl ReadError {
    fn io(path: &Path, error: &io::Error) -> Self {
        Self { path: path.into(), what: format!("cannot be read: {error}") }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for ReadError {}

/// A name that no other process has.
pub(super) fn new_instance() -> io::Result<String> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!("{random:016x}"))
}

pub(super) fn path(directory: &Path, instance: &str, number: u64) -> PathBuf {
    directory.join(format!("record-{instance}-{number:06}.jsonl"))
}

fn parse(name: &str) -> Option<(&str, u64)> {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let (instance, number) = name.strip_prefix("record-")?.strip_suffix(".jsonl")?.split_once('-')?;
    (is_instance(instance) && number.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
    Some((instance, number.parse().ok()?))
}

/// Everything in a directory that is a record's, instances by the age of their first file.
///
/// # Errors
/// If the directory cannot be read.
pub(super) fn list(directory: &Path) -> Result<Vec<Instance>, ReadError> {
    let failed = |error: io::Error| ReadError::io(directory, &error);
    let mut found: BTreeMap<String, BTreeMap<u64, PathBuf>> = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some((instance, number)) = name.to_str().and_then(parse) else { continue };
        let segments = found.entry(instance.to_owned()).or_default();
        // While a file is being compressed it stands there twice; the original is whole.
        let compressed = entry.path().extension().is_some_and(|ext| ext == "gz");
        if !compressed || !segments.contains_key(&number) {
            segments.insert(number, entry.path());
        }
    }
    let mut instances: Vec<Instance> = found
        .into_iter()
        .map(|(id, segments)| Instance {
            live: false,
            id,
            segments: segments.into_iter().map(|(number, path)| Segment { number, path }).collect(),
        })
        .collect();
    for instance in &mut instances {
        instance.live = instance.is_locked();
    }
    instances.sort_by_cached_key(|instance| instance.segments.first().and_then(Segment::started));
    Ok(instances)
}

impl Segment {
    /// Only the name: what a finding is told by.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.path.extension().is_some_and(|ext| ext == "gz")
    }

    /// The time in its header.
    pub(super) fn started(&self) -> Option<String> {
        let header = self.lines().ok()?.next()?.ok()?;
        Some(serde_json::from_slice::<Value>(&header.bytes).ok()?["time"].as_str()?.to_owned())
    }

    /// Its lines, one after the other.
    pub(super) fn lines(&self) -> Result<Lines, ReadError> {
        self.lines_from(0)
    }

    /// The lines that begin after so many bytes, of a file that is not compressed.
    pub(super) fn lines_from(&self, skipped: u64) -> Result<Lines, ReadError> {
        let mut file = File::open(&self.path).map_err(|error| ReadError::io(&self.path, &error))?;
        if skipped > 0 {
            file.seek(SeekFrom::Start(skipped)).map_err(|error| ReadError::io(&self.path, &error))?;
        }
        let reader: Box<dyn BufRead> = if self.is_compressed() {
            Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file)))
        } else {
            Box::new(BufReader::new(file))
        };
        let mut lines = Lines { path: self.path.clone(), reader, number: 0 };
        if skipped > 0 {
            // What it starts in the middle of is no line.
            lines.next().transpose()?;
        }
        Ok(lines)
    }
}

impl Instance {
    /// While a process turns from one file to the next it still holds the lock on the one before.
    fn is_locked(&self) -> bool {
        let last = self.segments.iter().rev().take(2).filter_map(|segment| File::open(&segment.path).ok());
        last.into_iter().any(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    }
}

/// The lines of one file. Ends after the first that cannot be read.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    number: u64,
}

/// A line as it stands in its file.
pub(super) struct Line {
    /// Which line of the file, from 1.
    pub(super) number: u64,
    /// Its bytes, without the line end.
    pub(super) bytes: Vec<u8>,
    /// Whether it has its line end.
    pub(super) whole: bool,
}

impl Iterator for Lines {
    type Item = Result<Line, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        match self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes) {
            Ok(0) => None,
            Ok(_) => {
                self.number += 1;
                let whole = bytes.pop_if(|last| *last == b'\n').is_some();
                if !whole && bytes.len() as u64 >= MAX_LINE {
                    self.reader = Box::new(io::empty());
                    let what = format!("line {} is longer than any line of a record", self.number);
                    return Some(Err(ReadError { path: self.path.clone(), what }));
                }
                Some(Ok(Line { number: self.number, bytes, whole }))
            }
            Err(error) => {
                self.reader = Box::new(io::empty());
                Some(Err(ReadError::io(&self.path, &error)))
            }
        }
    }
}

/// Refuses what a newer build wrote.
pub(super) fn check_format(path: &Path, header: &Value) -> Result<(), ReadError> {
    match header["format"].as_u64() {
        Some(format) if header["kind"] == "header" && format > FORMAT => Err(ReadError {
            path: path.into(),
            what: format!("is written in format {format}; this build reads format {FORMAT}, use a newer one"),
        }),
        _ => Ok(()),
    }
}
