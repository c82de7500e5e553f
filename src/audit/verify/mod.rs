//! Verifies the record: names every line that was changed, removed or reordered.
//!
//! Whoever can write to the disk can cut off or rewrite everything after the last head that was kept elsewhere. Nothing
//! in the files themselves can show that.

mod copy;
mod heads;
mod join;
mod key_sets;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::chain::{ChainHead, Link, position};
use super::directories::Directories;
use super::files::{self, Instance, ReadError, Segment, Unread};
use crate::clock;
use crate::plain;

use join::Read;
use key_sets::KeySets;

pub use heads::heads;
pub(crate) use heads::without_head;

/// Which files may be missing from the beginning of a chain.
#[derive(Clone, Copy, Debug)]
pub enum Retention {
    /// Any: the retention is not known.
    Unknown,
    /// None.
    Forever,
    /// Files that are older than this at the given time.
    For(Duration, SystemTime),
}

impl Retention {
    /// Whether a file that was last written at this time (in the format of [`clock::rfc3339`]) may be missing.
    fn is_over(self, written: &str) -> bool {
        let Self::For(retain, now) = self else { return false };
        written <= clock::rfc3339(now.checked_sub(retain).unwrap_or(SystemTime::UNIX_EPOCH)).as_str()
    }
}

/// A finding, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the file.
    pub file: String,
    /// The number of the line, from 1; `None` if it is about the whole file.
    pub line: Option<u64>,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

/// What verification found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Findings that only damage or tampering explains.
    pub faults: Vec<Finding>,
    /// Findings that are no faults: torn last lines, files removed by retention.
    pub notes: Vec<Finding>,
    /// How many processes wrote.
    pub instances: usize,
    /// How many files were read.
    pub files: usize,
    /// How many lines were read.
    pub lines: u64,
    /// How many sets of keys came into force.
    pub key_sets: usize,
}

/// Verifies the whole record.
///
/// # Errors
/// If a directory cannot be read. A problem with a file is a finding.
pub fn verify(record: impl Into<Directories>, heads: &[ChainHead], retention: Retention) -> Result<Report, ReadError> {
    let mut report = Report::default();
    let record = record.into();
    let instances = record.list()?;
    for instance in &instances {
        let heads: Vec<&ChainHead> = heads.iter().filter(|head| head.instance == instance.id).collect();
        Chain { report: &mut report, instance, heads, before: None, key_sets: KeySets::default() }.check(retention);
    }
    let there: HashSet<&str> = instances.iter().map(|instance| instance.id.as_str()).collect();
    for head in heads.iter().filter(|head| !there.contains(head.instance.as_str())) {
        let file = format!("record-{}-{:06}.jsonl", head.instance, head.file);
        if head.time.as_deref().is_some_and(|time| retention.is_over(time)) {
            let what = "a head of it was kept; all files of its process are missing, as retention explains".into();
            report.notes.push(Finding { file, line: None, what });
        } else {
            let what = "a head of it was kept, but all files of its process are missing: removed".into();
            report.faults.push(Finding { file, line: None, what });
        }
    }
    for file in record.misspelt()? {
        let what = "is not read: its name is not a valid name of a file of the record; move it away".into();
        report.faults.push(Finding { file, line: None, what });
    }
    Ok(report)
}

/// Verifies the record in a directory against a copy of it, which may also have the records of others: what the copy has
/// and the directory lacks was cut off there. Lines that are not copied yet are only checked by themselves.
///
/// # Errors
/// If a directory cannot be read.
pub(crate) fn verify_beside(directory: &Path, copy: &Path, retention: Retention) -> Result<Report, ReadError> {
    let here: HashSet<String> = files::by_instance(directory)?.into_keys().collect();
    let mut heads = heads(copy, &mut Unread::default())?;
    heads.retain(|head| here.contains(&head.instance));
    verify(directory, &heads, retention)
}

/// One instance while it is read.
struct Chain<'c> {
    report: &'c mut Report,
    instance: &'c Instance,
    heads: Vec<&'c ChainHead>,
    /// The last line of the file before, if there is one.
    before: Option<Read>,
    key_sets: KeySets,
}

impl Chain<'_> {
    fn check(mut self, retention: Retention) {
        self.report.instances += 1;
        let mut expected = 1;
        let segments = &self.instance.segments;
        for (index, segment) in segments.iter().enumerate() {
            if index == 0 && segment.number > 1 {
                self.begins_late(segment, retention);
            } else if segment.number != expected {
                let what = format!("file {expected} and those up to {} are missing before it", segment.number - 1);
                self.fault(segment, None, what);
                self.before = None;
            } else if index == 0 {
                let Link { number, hash } = Link::default();
                self.before = Some(Read { file: segment.name().into(), line: 0, claims: None, number, hash });
            }
            expected = segment.number.saturating_add(1);
            self.file(segment, index + 1 == segments.len());
        }
        self.report.key_sets += self.key_sets.introduced();
        // Retention removes the line with a file before.
        if segments.first().is_some_and(|first| first.number == 1) {
            self.report.notes.extend(self.key_sets.unknown());
        }
        let last = segments.last().map_or(0, |last| last.number);
        let cut: Vec<u64> = self.heads.iter().map(|head| head.file).filter(|file| *file > last).collect();
        if let (Some(file), Some(segment)) = (cut.first(), segments.last()) {
            self.fault(segment, None, format!("a head of file {file} was kept, and no file follows: it is removed"));
        }
    }

    fn fault(&mut self, segment: &Segment, line: Option<u64>, what: impl Into<String>) {
        self.report.faults.push(Finding { file: segment.name(), line, what: what.into() });
    }

    fn note(&mut self, segment: &Segment, line: Option<u64>, what: impl Into<String>) {
        self.report.notes.push(Finding { file: segment.name(), line, what: what.into() });
    }

    /// The oldest files are missing: removed by retention, or by somebody.
    fn begins_late(&mut self, first: &Segment, retention: Retention) {
        let gone = first.number - 1;
        let header = first.header().unwrap_or_default();
        match retention {
            // A file that was removed while it was being written was not old.
            Retention::Unknown if header["begun_anew"].is_string() => {
                self.fault(first, None, format!("the {gone} files before it are gone, and not by retention"));
            }
            Retention::Unknown => {
                self.note(first, None, format!("the {gone} files before it are gone, as by retention"))
            }
            Retention::Forever => {
                self.fault(first, None, format!("the {gone} files before it are gone, and audit.retain is not set"));
            }
            Retention::For(..) => {
                if !header["time"].as_str().is_some_and(|started| retention.is_over(started)) {
                    let what = format!("the {gone} files before it are gone before their time (audit.retain)");
                    self.fault(first, None, what);
                } else {
                    self.note(first, None, format!("the {gone} files before it are gone by retention"));
                }
            }
        }
        // The latest head in the missing files; the chain must continue from there.
        let lost = self.heads.iter().filter(|head| head.file < first.number).max_by_key(|head| (head.file, head.line));
        let Some(ChainHead { file, time, .. }) = lost else { return };
        let what = format!("a head of file {file} was kept, and that file is gone");
        match (retention, time) {
            (Retention::Unknown, _) => {
                let what = what + ": it is removed; if retention did it, say how long files are kept (--retain)";
                self.fault(first, None, what);
            }
            (_, Some(time)) if !retention.is_over(time) => self.fault(first, None, what + " before its time"),
            _ => self.note(first, None, what + ": it can no longer be checked"),
        }
    }

    fn file(&mut self, segment: &Segment, is_last: bool) {
        self.report.files += 1;
        let Some(lines) = self.read(segment, is_last) else { return };
        self.report.lines += lines.len() as u64;
        self.compare_with_copies(segment);
        for head in self.heads.clone().into_iter().filter(|head| head.file == segment.number) {
            match usize::try_from(head.line - 1).ok().and_then(|at| lines.get(at)) {
                None => {
                    let what = format!(
                        "ends after line {}; a head of line {} was kept: it is cut off",
                        lines.len(),
                        head.line
                    );
                    self.fault(segment, None, what);
                }
                Some(line) if line.hash != head.hash => {
                    self.fault(
                        segment,
                        Some(head.line),
                        "is not the line that was kept as a head: it, or one before it, is changed",
                    );
                }
                Some(_) => {}
            }
        }
        self.join(&lines);
    }

    /// The complete lines of a file; `None` if it cannot be read at all.
    fn read(&mut self, segment: &Segment, is_last: bool) -> Option<Vec<Read>> {
        let (mut read, name) = (Vec::new(), Arc::<str>::from(segment.name()));
        let lines = match segment.lines() {
            Ok(lines) => lines,
            Err(error) => {
                self.fault(segment, None, error.what);
                return None;
            }
        };
        for line in lines {
            let line = match line {
                Ok(line) => line,
                Err(error) => {
                    self.fault(segment, None, error.what);
                    break;
                }
            };
            let number = line.number.unwrap_or_default();
            let parsed = line.value();
            let is_json = parsed.is_some();
            let value = parsed.unwrap_or_default();
            if number == 1 {
                if let Err(newer) = files::check_format(&segment.path, &value) {
                    self.fault(segment, None, newer.what);
                    return None;
                }
            }
            if !line.whole {
                match (is_last && !segment.is_compressed(), self.instance.live) {
                    (true, true) => {}
                    (true, false) => {
                        self.note(segment, Some(number), "is incomplete: the process ended while it wrote this line");
                    }
                    (false, _) => self.fault(segment, Some(number), "is cut off in the middle of a line"),
                }
                break;
            }
            match line.overlong {
                // The chain shows whether it was changed.
                Some(length) => {
                    let what = format!("is longer than any line of a record ({length} bytes): its content is not read");
                    self.note(segment, Some(number), what);
                }
                None if !is_json => self.fault(segment, Some(number), "is not a line of a record: changed"),
                None => {}
            }
            if number == 1 && (is_json || line.overlong.is_some()) {
                let named = value["instance"] == self.instance.id.as_str() && value["file"] == segment.number;
                if value["kind"] != "header" || !named {
                    self.fault(segment, Some(1), "is not the header of this file: changed, removed or renamed");
                }
                if let Some(why) = value["begun_anew"].as_str() {
                    self.note(
                        segment,
                        Some(1),
                        format!("the chain had to continue in this file: {}", plain::line(why)),
                    );
                }
            }
            self.key_sets.see(&value, &name, number);
            read.push(Read {
                file: name.clone(),
                line: number,
                claims: position(&line.bytes),
                number: 0,
                hash: line.hash(),
            });
        }
        if read.is_empty() && self.report.faults.iter().all(|fault| fault.file != segment.name()) {
            if is_last {
                self.note(segment, None, "has no line yet: the process ended when it had just created the file");
            } else {
                self.fault(segment, None, "is empty");
            }
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests;
