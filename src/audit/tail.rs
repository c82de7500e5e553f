//! What was added to the files of a record since somebody last read them, for copying it elsewhere line by line.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::files::{self, ReadError, Segment};

/// Reads the files in a directory from where it stopped. A line is read again until [`Tail::advance`] is called for it.
pub(crate) struct Tail {
    directory: PathBuf,
    reached: HashMap<FileName, Reached>,
    /// Files that cannot be read on.
    damaged: HashMap<FileName, String>,
}

/// Which file of a record: its instance and number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileName {
    /// The process that wrote it.
    pub instance: String,
    /// Its number, from 1.
    pub number: u64,
}

/// A complete line, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlacedLine {
    /// Its file.
    pub file: FileName,
    /// Its number in the file, from 1.
    pub line: u64,
    /// Its bytes, without the line end.
    pub bytes: Vec<u8>,
}

/// Up to where a file was read.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    lines: u64,
    /// The bytes of those lines, with their line ends; `None` if only their number is known.
    bytes: Option<u64>,
    /// The length of the file when everything in it was read, with an incomplete last line.
    length: Option<u64>,
    /// Nothing will be added to the file.
    finished: bool,
}

/// Lines that were read, and up to where.
#[derive(Default)]
pub(crate) struct Added {
    pub(crate) lines: Vec<PlacedLine>,
    /// Whether there are more.
    pub(crate) more: bool,
    reached: Vec<(FileName, Reached)>,
}

impl Added {
    /// The files of which everything was read, with the length that they had; `None` if nothing will be added to it.
    pub(crate) fn whole_files(&self) -> impl Iterator<Item = (FileName, Option<u64>)> {
        let whole = |(file, reached): &(FileName, Reached)| match (reached.finished, reached.length) {
            (true, _) => Some((file.clone(), None)),
            (false, Some(length)) => Some((file.clone(), Some(length))),
            (false, None) => None,
        };
        self.reached.iter().filter_map(whole)
    }
}

impl Tail {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), reached: HashMap::new(), damaged: HashMap::new() }
    }

    /// The processes that have files there.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(crate) fn instances(&self) -> Result<Vec<String>, ReadError> {
        Ok(files::by_instance(&self.directory)?.into_keys().collect())
    }

    /// Leaves out the first `lines` of a file.
    pub(crate) fn skip(&mut self, file: FileName, lines: u64) {
        self.reached.insert(file, Reached { lines, ..Reached::default() });
    }

    /// The next complete lines, of at most about `most` bytes. A file that is damaged is read up to there.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(crate) fn read(&mut self, most: usize) -> Result<Added, ReadError> {
        let (mut added, mut size) = (Added::default(), 0);
        for (instance, segments) in files::by_instance(&self.directory)? {
            let last = segments.last().map_or(0, |segment| segment.number);
            for segment in segments {
                let file = FileName { instance: instance.clone(), number: segment.number };
                let before = self.reached.get(&file).copied().unwrap_or_default();
                if before.finished || self.damaged.contains_key(&file) {
                    continue;
                }
                let is_last = segment.number == last && !segment.is_compressed();
                let length = segment.path.metadata().ok().map(|about| about.len());
                if is_last && before.length.is_some() && before.length == length {
                    continue;
                }
                let mut reader = Reader { file, reached: before, into: &mut added.lines, size: &mut size, most };
                let ended = match reader.read(&segment) {
                    Ok(ended) => ended,
                    Err(error) => {
                        tracing::error!(file = segment.name(), %error, "a file of the record is damaged: the rest of it cannot be copied");
                        self.damaged.insert(reader.file.clone(), error.what);
                        Ended::No
                    }
                };
                let (file, mut reached) = (reader.file, reader.reached);
                reached.finished = ended == Ended::Whole && !is_last;
                reached.length = length.filter(|_| ended != Ended::No);
                added.reached.push((file, reached));
                if size >= most {
                    added.more = true;
                    return Ok(added);
                }
            }
        }
        Ok(added)
    }

    /// These lines need not be read again.
    pub(crate) fn advance(&mut self, added: Added) {
        self.reached.extend(added.reached);
    }

    /// How many files cannot be read on.
    pub(crate) fn damaged(&self) -> usize {
        self.damaged.len()
    }
}

/// Whether the end of a file was reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Yes, after a complete line.
    Whole,
    /// Yes, within a line.
    Torn,
    /// No.
    No,
}

struct Reader<'r> {
    file: FileName,
    reached: Reached,
    into: &'r mut Vec<PlacedLine>,
    size: &'r mut usize,
    most: usize,
}

impl Reader<'_> {
    fn read(&mut self, segment: &Segment) -> Result<Ended, ReadError> {
        // From the line end of the last line that was read: reading drops what is before the first line end.
        let from = self.reached.bytes.filter(|_| !segment.is_compressed()).and_then(|bytes| bytes.checked_sub(1));
        let (mut at, mut bytes) = match from {
            Some(from) => (self.reached.lines, from + 1),
            None => (0, 0),
        };
        let mut ended = Ended::Whole;
        for line in segment.lines_from(from.unwrap_or(0))? {
            let line = line?;
            if !line.whole {
                ended = Ended::Torn;
                break;
            }
            if let Some(length) = line.overlong {
                let what = format!("line {} is longer than any line of a record ({length} bytes)", at + 1);
                return Err(ReadError { path: segment.path.clone(), what });
            }
            at += 1;
            bytes += line.bytes.len() as u64 + 1;
            if at > self.reached.lines {
                *self.size += line.bytes.len() + 1;
                self.into.push(PlacedLine { file: self.file.clone(), line: at, bytes: line.bytes });
                self.reached = Reached { lines: at, bytes: Some(bytes), ..Reached::default() };
                if *self.size >= self.most {
                    return Ok(Ended::No);
                }
            }
        }
        if at == self.reached.lines {
            self.reached.bytes = Some(bytes);
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "00000000000000aa";

    fn texts(added: &Added) -> Vec<(u64, u64, &str)> {
        let text = |line: &PlacedLine| (line.file.number, line.line, line.bytes.clone());
        let lines: Vec<_> = added.lines.iter().map(text).collect();
        lines.into_iter().map(|(file, line, bytes)| (file, line, &*String::from_utf8(bytes).unwrap().leak())).collect()
    }

    #[test]
    fn each_line_is_read_once_it_is_complete_and_again_until_it_is_confirmed() {
        let dir = tempfile::tempdir().unwrap();
        let first = files::path(dir.path(), ONE, 1);
        std::fs::write(&first, "a\nb\nhal").unwrap();
        let mut tail = Tail::new(dir.path());
        assert_eq!(tail.instances().unwrap(), [ONE]);
        for _ in 0..2 {
            assert_eq!(texts(&tail.read(100).unwrap()), [(1, 1, "a"), (1, 2, "b")]);
        }
        let added = tail.read(100).unwrap();
        let first_file = |length| (FileName { instance: ONE.into(), number: 1 }, length);
        assert!(!added.more && added.whole_files().eq([first_file(Some(7))]));
        tail.advance(added);
        assert!(tail.read(100).unwrap().lines.is_empty());

        std::fs::write(&first, "a\nb\nhalf\nc\n").unwrap();
        std::fs::write(files::path(dir.path(), ONE, 2), "d\n").unwrap();
        let added = tail.read(4).unwrap();
        assert!(added.more && added.whole_files().count() == 0);
        assert_eq!(texts(&added), [(1, 3, "half")]);
        tail.advance(added);
        let added = tail.read(100).unwrap();
        assert_eq!(texts(&added), [(1, 4, "c"), (2, 1, "d")]);
        let whole: Vec<_> = added.whole_files().map(|(file, length)| (file.number, length)).collect();
        assert_eq!(whole, [(1, None), (2, Some(2))], "the last file may grow");
        tail.advance(added);
        assert!(tail.read(100).unwrap().lines.is_empty());
    }

    #[test]
    fn lines_that_are_elsewhere_are_skipped_and_a_damaged_file_is_read_up_to_there() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(super::super::chain::MAX_LINE + 1);
        std::fs::write(files::path(dir.path(), ONE, 1), format!("a\nb\nc\n{long}\nd\n")).unwrap();
        std::fs::write(files::path(dir.path(), ONE, 2), "e\n").unwrap();
        let mut tail = Tail::new(dir.path());
        tail.skip(FileName { instance: ONE.into(), number: 1 }, 2);
        let added = tail.read(100).unwrap();
        assert_eq!(texts(&added), [(1, 3, "c"), (2, 1, "e")]);
        assert_eq!((tail.damaged(), added.whole_files().count()), (1, 1));
        tail.advance(added);
        assert!(tail.read(100).unwrap().lines.is_empty());
    }
}
