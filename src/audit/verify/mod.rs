//! Is the record as it was written? What was changed, removed or reordered is named.
//!
//! What stands behind the last head that was kept elsewhere can be cut off, or be written anew as
//! a whole, by whoever owns the disk: nothing in the files themselves can tell.

mod join;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::chain::{Hash, Head, Link, place};
use super::files::{self, Instance, ReadError, Segment};
use crate::clock;
use join::Read;

/// What may be gone from the beginning of a chain.
#[derive(Clone, Copy, Debug)]
pub enum Retention {
    /// Anything: nobody told us.
    Unknown,
    /// Nothing.
    Forever,
    /// What is older than this.
    For(Duration, SystemTime),
}

/// Something that was found, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the file.
    pub file: String,
    /// The line of it, from 1; `None` if it is about the whole file.
    pub line: Option<u64>,
    /// What.
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
    /// What nothing but damage or tampering explains.
    pub faults: Vec<Finding>,
    /// What is worth knowing: torn tails, files gone by retention.
    pub notes: Vec<Finding>,
    /// Processes that wrote.
    pub instances: usize,
    /// Files read.
    pub files: usize,
    /// Lines read.
    pub lines: u64,
}

/// Reads the whole record.
///
/// # Errors
/// If the directory cannot be read. What is wrong with a file is a finding.
pub fn verify(directory: &Path, heads: &[Head], retention: Retention) -> Result<Report, ReadError> {
    let mut report = Report::default();
    let instances = files::list(directory)?;
    for instance in &instances {
        let heads: Vec<&Head> = heads.iter().filter(|head| head.instance == instance.id).collect();
        Chain { report: &mut report, instance, heads, before: None }.check(retention);
    }
    let there: HashSet<&str> = instances.iter().map(|instance| instance.id.as_str()).collect();
    for head in heads.iter().filter(|head| !there.contains(head.instance.as_str())) {
        let file = format!("record-{}-{:06}.jsonl", head.instance, head.file);
        let what = "a head of it was kept, and no file of its process is there: all are removed".into();
        report.faults.push(Finding { file, line: None, what });
    }
    Ok(report)
}

/// Where a chain stands now.
///
/// # Errors
/// If it cannot be read.
pub fn heads(directory: &Path) -> Result<Vec<Head>, ReadError> {
    let mut heads = Vec::new();
    for instance in files::list(directory)? {
        // A file whose header is not whole yet has no head; the one before it has.
        for segment in instance.segments.iter().rev() {
            let mut last = None;
            for line in segment.lines()? {
                let line = line?;
                if line.number == 1 {
                    let header = serde_json::from_slice(&line.bytes).unwrap_or_default();
                    files::check_format(&segment.path, &header)?;
                }
                if line.whole {
                    last = Some((line.number, Hash::of(&line.bytes)));
                }
            }
            if let Some((line, hash)) = last {
                heads.push(Head { instance: instance.id.clone(), file: segment.number, line, hash });
                break;
            }
        }
    }
    Ok(heads)
}

/// One instance while it is read.
struct Chain<'c> {
    report: &'c mut Report,
    instance: &'c Instance,
    heads: Vec<&'c Head>,
    /// The last line of the file before, if there is one.
    before: Option<Read>,
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
            expected = segment.number + 1;
            self.file(segment, index + 1 == segments.len());
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

    /// The oldest files are gone: by retention, or by somebody's hand.
    fn begins_late(&mut self, first: &Segment, retention: Retention) {
        let gone = first.number - 1;
        match retention {
            Retention::Unknown => {
                self.note(first, None, format!("the {gone} files before it are gone, as by retention"))
            }
            Retention::Forever => {
                self.fault(first, None, format!("the {gone} files before it are gone, and audit.retain is not set"));
            }
            Retention::For(retain, now) => {
                let due = clock::rfc3339(now.checked_sub(retain).unwrap_or(SystemTime::UNIX_EPOCH));
                if first.started().is_none_or(|started| started > due) {
                    let what = format!("the {gone} files before it are gone before their time (audit.retain)");
                    self.fault(first, None, what);
                } else {
                    self.note(first, None, format!("the {gone} files before it are gone by retention"));
                }
            }
        }
        if self.heads.iter().any(|head| head.file < first.number) {
            self.note(first, None, "a head that was kept lies in a file that is gone: it proves nothing any more");
        }
    }

    fn file(&mut self, segment: &Segment, is_last: bool) {
        self.report.files += 1;
        let Some(lines) = self.read(segment, is_last) else { return };
        self.report.lines += lines.len() as u64;
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

    /// The whole lines of a file. `None` if nothing can be said of it.
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
            let parsed = serde_json::from_slice::<Value>(&line.bytes);
            let is_json = parsed.is_ok();
            let value = parsed.unwrap_or_default();
            if line.number == 1 {
                if let Err(newer) = files::check_format(&segment.path, &value) {
                    self.fault(segment, None, newer.what);
                    return None;
                }
            }
            if !line.whole {
                match (is_last && !segment.is_compressed(), self.instance.live) {
                    (true, true) => {}
                    (true, false) => {
                        self.note(
                            segment,
                            Some(line.number),
                            "a torn tail: its process ended while it wrote this line",
                        );
                    }
                    (false, _) => self.fault(segment, Some(line.number), "is cut off in the middle of a line"),
                }
                break;
            }
            if !is_json {
                self.fault(segment, Some(line.number), "is no line of a record: changed");
            }
            if line.number == 1 && is_json {
                let named = value["instance"] == self.instance.id.as_str() && value["file"] == segment.number;
                if value["kind"] != "header" || !named {
                    self.fault(
                        segment,
                        Some(1),
                        "is not the header of a file of this name: changed, removed or renamed",
                    );
                }
            }
            read.push(Read {
                file: name.clone(),
                line: line.number,
                claims: place(&line.bytes),
                number: 0,
                hash: Hash::of(&line.bytes),
            });
        }
        if read.is_empty() && self.report.faults.iter().all(|fault| fault.file != segment.name()) {
            if is_last {
                self.note(segment, None, "has no line yet: its process ended as it began the file");
            } else {
                self.fault(segment, None, "is empty");
            }
        }
        Some(read)
    }
}
