//! The files of a record: their names, which belong together, and how a file is read.
//!
//! `record-<instance>-<file>.jsonl`, or `.jsonl.gz` once an operator has compressed a closed one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::chain::{FORMAT, Hash, MAX_LINE, is_instance};

/// How many bytes are kept of a line that is too long: enough to read its position.
const KEPT: usize = 4096;
/// How many unreadable parts are named; the others are only counted.
const MAX_NAMED: usize = 20;

/// A file of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// Copies of the same file: a compressed one, which exists while an operator compresses it, or those in other
    /// directories.
    pub(super) copies: Vec<PathBuf>,
    /// Whether reports name its directory, too, because the record is in several.
    pub(super) with_directory: bool,
}

/// The files that one process wrote, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) id: String,
    pub(super) segments: Vec<Segment>,
    /// Whether the process was running when the files were listed: it holds a lock on its last file. If not, nothing
    /// will be added to them.
    pub(super) live: bool,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct ReadError {
    pub(super) path: PathBuf,
    pub(super) what: String,
}

impl ReadError {
    fn io(path: &Path, error: &io::Error) -> Self {
        Self { path: path.into(), what: format!("cannot be read: {error}") }
    }
}

/// A random name that no other process has.
pub(super) fn new_instance() -> io::Result<String> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!("{random:016x}"))
}

pub(super) fn path(directory: &Path, instance: &str, number: u64) -> PathBuf {
    directory.join(format!("record-{instance}-{number:06}.jsonl"))
}

/// The path of a file of this process; `None` if no process has such a name.
#[cfg(feature = "postgres")]
pub(crate) fn file_of(directory: &Path, instance: &str, number: u64) -> Option<PathBuf> {
    (is_instance(instance) && number > 0).then(|| path(directory, instance, number))
}

/// Parses a name in its only valid spelling: with two spellings of one name, one file would never be read.
fn parse(name: &str) -> Option<(&str, u64)> {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let (instance, digits) = name.strip_prefix("record-")?.strip_suffix(".jsonl")?.split_once('-')?;
    let number: u64 = digits.parse().ok()?;
    (is_instance(instance) && number > 0 && format!("{number:06}") == digits).then_some((instance, number))
}

/// The names of files that look like files of a record but are not read, because the spelling is wrong.
pub(super) fn misspelt(directory: &Path) -> Result<Vec<String>, ReadError> {
    let failed = |error: io::Error| ReadError::io(directory, &error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let (text, lower) = (name.to_string_lossy(), name.to_string_lossy().to_ascii_lowercase());
        let looks = lower.trim_start().starts_with("record-") && lower.contains(".jsonl");
        if looks && name.to_str().and_then(parse).is_none() {
            names.push(text.into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The files of the record in a directory, by the process that wrote them.
///
/// # Errors
/// If the directory cannot be read.
pub(super) fn by_instance(directory: &Path) -> Result<BTreeMap<String, Vec<Segment>>, ReadError> {
    let failed = |error: io::Error| ReadError::io(directory, &error);
    let mut found: BTreeMap<String, BTreeMap<u64, [Option<PathBuf>; 2]>> = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some((instance, number)) = name.to_str().and_then(parse) else { continue };
        let segments = found.entry(instance.to_owned()).or_default();
        let compressed = entry.path().extension().is_some_and(|ext| ext == "gz");
        segments.entry(number).or_default()[usize::from(compressed)] = Some(entry.path());
    }
    let segments = |all: BTreeMap<u64, [Option<PathBuf>; 2]>| {
        all.into_iter().filter_map(|(number, paths)| Segment::of(number, paths)).collect()
    };
    Ok(found.into_iter().map(|(id, all)| (id, segments(all))).collect())
}

/// All files of the record in a directory. Instances are sorted by the age of their first file.
///
/// # Errors
/// If the directory cannot be read.
pub(super) fn list(directory: &Path) -> Result<Vec<Instance>, ReadError> {
    let found = by_instance(directory)?.into_iter();
    let mut instances: Vec<Instance> = found.map(|(id, segments)| Instance { live: false, id, segments }).collect();
    for instance in &mut instances {
        instance.live = instance.is_locked();
    }
    instances.sort_by_cached_key(Instance::started);
    Ok(instances)
}

impl Segment {
    /// If there is an original and a compressed copy, the original is read.
    fn of(number: u64, [original, compressed]: [Option<PathBuf>; 2]) -> Option<Self> {
        let (path, copies) = match (original, compressed) {
            (Some(original), copy) => (original, Vec::from_iter(copy)),
            (None, compressed) => (compressed?, Vec::new()),
        };
        Some(Self { number, path, copies, with_directory: false })
    }

    /// Its copies, as segments of their own.
    pub(super) fn copies(&self) -> impl Iterator<Item = Self> {
        self.copies.iter().map(|path| Self { path: path.clone(), copies: Vec::new(), ..self.clone() })
    }

    /// The file name as reports show it: without the directory, unless there are several.
    pub(super) fn name(&self) -> String {
        if self.with_directory {
            return self.path.display().to_string();
        }
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.path.extension().is_some_and(|ext| ext == "gz")
    }

    /// Its first line.
    pub(super) fn header(&self) -> Option<Value> {
        let header = self.lines().ok()?.next()?.ok()?;
        header.value()
    }

    /// The time in its header.
    pub(super) fn started(&self) -> Option<String> {
        Some(self.header()?["time"].as_str()?.to_owned())
    }

    /// Its lines, in order.
    pub(super) fn lines(&self) -> Result<Lines, ReadError> {
        self.lines_from(0)
    }

    /// The lines that begin after the first `skipped` bytes of an uncompressed file.
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
        let mut lines = Lines { path: self.path.clone(), reader, number: 0, from_start: skipped == 0 };
        if skipped > 0 {
            // The first line is incomplete, because reading starts in the middle of it.
            lines.next().transpose()?;
        }
        Ok(lines)
    }
}

impl Instance {
    /// The time in the header of its first file.
    pub(super) fn started(&self) -> Option<String> {
        self.segments.first().and_then(Segment::started)
    }

    /// Checks the last two files: during rotation the process may still hold only the lock on the previous one.
    fn is_locked(&self) -> bool {
        let last = self.segments.iter().rev().take(2).filter_map(|segment| File::open(&segment.path).ok());
        last.into_iter().any(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    }
}

/// What could not be read and was skipped.
#[derive(Clone, Debug, Default)]
pub struct Unread {
    /// Where and why, for the first of them.
    pub named: Vec<String>,
    /// How many there are.
    pub count: u64,
}

impl Unread {
    pub(super) fn line(&mut self, segment: &Segment, line: &Line) {
        let what = match line.overlong {
            Some(length) => format!("is longer than any line of a record ({length} bytes)"),
            None => "is not a line of a record".into(),
        };
        // If reading did not start at the beginning, line numbers are unknown.
        let number = line.number.map(|number| format!(":{number}")).unwrap_or_default();
        self.add(format!("{}{number}: {what}", segment.name()));
    }

    pub(super) fn rest_of(&mut self, segment: &Segment, error: &ReadError) {
        self.add(format!("{}: {}", segment.name(), error.what));
    }

    fn add(&mut self, what: String) {
        self.count += 1;
        if self.named.len() < MAX_NAMED {
            self.named.push(what);
        }
    }
}

/// The lines of one file. Continues after a line that is too long, and ends where the file cannot be read.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    number: u64,
    from_start: bool,
}

/// A line as read from its file.
pub(super) struct Line {
    /// Its number in the file, from 1; `None` if the file was not read from its start.
    pub(super) number: Option<u64>,
    /// Its bytes without the line end; only the first ones if it is too long.
    pub(super) bytes: Vec<u8>,
    /// Whether it has its line end.
    pub(super) whole: bool,
    /// Its length in bytes, if it is too long.
    pub(super) overlong: Option<u64>,
    hash: Option<Hash>,
}

impl Line {
    pub(super) fn hash(&self) -> Hash {
        self.hash.unwrap_or_else(|| Hash::of(&self.bytes))
    }

    /// Its JSON, if it is a line of a record.
    pub(super) fn value(&self) -> Option<Value> {
        if self.overlong.is_some() { None } else { serde_json::from_slice(&self.bytes).ok() }
    }
}

impl Iterator for Lines {
    type Item = Result<Line, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.reader = Box::new(io::empty());
        }
        read.map_err(|error| ReadError::io(&self.path, &error)).transpose()
    }
}

impl Lines {
    fn read(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        if self.reader.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let number = self.from_start.then_some(self.number);
        let whole = bytes.pop_if(|last| *last == b'\n').is_some();
        if whole || bytes.len() < MAX_LINE {
            return Ok(Some(Line { number, bytes, whole, overlong: None, hash: None }));
        }
        let (whole, length, hash) = self.pass_over(&bytes)?;
        bytes.truncate(KEPT);
        Ok(Some(Line { number, bytes, whole, overlong: Some(length), hash: Some(hash) }))
    }

    /// Reads and hashes the rest of a line that is too long, without keeping it.
    fn pass_over(&mut self, beginning: &[u8]) -> io::Result<(bool, u64, Hash)> {
        let (mut digest, mut length) = (Sha256::new_with_prefix(beginning), beginning.len() as u64);
        loop {
            let piece = self.reader.fill_buf()?;
            let end = piece.iter().position(|byte| *byte == b'\n');
            let part = &piece[..end.unwrap_or(piece.len())];
            digest.update(part);
            length += part.len() as u64;
            let (read, ended) = (part.len() + usize::from(end.is_some()), part.is_empty() && end.is_none());
            self.reader.consume(read);
            if ended || end.is_some() {
                return Ok((end.is_some(), length, Hash::of_parts(digest)));
            }
        }
    }
}

/// Refuses a file that a newer build wrote.
pub(super) fn check_format(path: &Path, header: &Value) -> Result<(), ReadError> {
    match header["format"].as_u64() {
        Some(format) if header["kind"] == "header" && format > FORMAT => Err(ReadError {
            path: path.into(),
            what: format!("has format {format}, but this build reads format {FORMAT}; use a newer build"),
        }),
        _ => Ok(()),
    }
}
