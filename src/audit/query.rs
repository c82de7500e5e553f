//! What the record says: lines by filter, and deletions whose outcome nobody knows.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

use super::files::{self, Instance, ReadError, Segment};

/// The most bytes that a start reads to find intents without an outcome.
const MAX_LOOK: u64 = 64 << 20;
/// Files of an instance that may hold an intent whose outcome had not come when it ended.
const LAST: usize = 2;

/// Which lines are wanted; all, by default.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Not before this time, as [`crate::clock::rfc3339`] writes it.
    pub since: Option<String>,
    /// Before this time.
    pub until: Option<String>,
    /// Of this apiKey.
    pub api_key: Option<String>,
    /// Of this account.
    pub account: Option<String>,
    /// About this segment.
    pub segment: Option<String>,
    /// With this decision or outcome.
    pub decision: Option<String>,
}

impl Filter {
    /// Whether a line is wanted.
    pub fn takes(&self, line: &Value) -> bool {
        let is = |field: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| line[field].as_str() == Some(wanted))
        };
        let time = line["time"].as_str().unwrap_or_default();
        self.since.as_deref().is_none_or(|since| time >= since)
            && self.until.as_deref().is_none_or(|until| time < until)
            && is("api_key", &self.api_key)
            && is("account", &self.account)
            && is("segment", &self.segment)
            && (is("decision", &self.decision) || is("outcome", &self.decision))
    }
}

/// Hands out every line, process by process, each from its oldest to its newest; `each` says
/// whether to go on. Returns how many lines could not be read as one.
///
/// # Errors
/// If a file cannot be read, or is of a newer format.
pub fn read(directory: &Path, mut each: impl FnMut(&Value) -> bool) -> Result<u64, ReadError> {
    let mut unreadable = 0;
    for instance in files::list(directory)? {
        for segment in &instance.segments {
            if !lines_of(segment, &mut unreadable, &mut each)? {
                return Ok(unreadable);
            }
        }
    }
    Ok(unreadable)
}

fn lines_of(segment: &Segment, unreadable: &mut u64, each: &mut impl FnMut(&Value) -> bool) -> Result<bool, ReadError> {
    for line in segment.lines()? {
        let line = line?;
        // The tail may be torn, or be written just now.
        if !line.whole {
            break;
        }
        let Ok(value) = serde_json::from_slice::<Value>(&line.bytes) else {
            *unreadable += 1;
            continue;
        };
        if line.number == 1 {
            files::check_format(&segment.path, &value)?;
        }
        if !each(&value) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The intents of which nobody knows what became: the outcome on record is "unknown", or there is
/// none and the process that wrote the intent is gone. Not those that were reconciled since.
///
/// # Errors
/// If a file cannot be read, or is of a newer format.
pub fn unknown(directory: &Path) -> Result<Vec<Value>, ReadError> {
    let mut found = Unknown::default();
    for instance in files::list(directory)? {
        for segment in &instance.segments {
            found.read(segment)?;
        }
        found.ended(instance.live);
    }
    Ok(found.rest())
}

#[derive(Default)]
struct Unknown {
    open: HashMap<String, Value>,
    /// The outcome is on record, and is that nobody knows.
    unknown: Vec<Value>,
    /// No outcome is on record, and none will be.
    abandoned: Vec<Value>,
    reconciled: HashSet<String>,
}

impl Unknown {
    fn read(&mut self, segment: &Segment) -> Result<(), ReadError> {
        lines_of(segment, &mut 0, &mut |line| {
            let id = line["request_id"].as_str().unwrap_or_default();
            match line["kind"].as_str().unwrap_or_default() {
                "intent" => drop(self.open.insert(id.to_owned(), line.clone())),
                "outcome" => {
                    // The intent may be gone by retention; its outcome says as much.
                    let intent = self.open.remove(id).unwrap_or_else(|| line.clone());
                    if line["outcome"] == "unknown" {
                        self.unknown.push(intent);
                    }
                }
                "reconciled" => drop(self.reconciled.insert(id.to_owned())),
                _ => {}
            }
            true
        })?;
        Ok(())
    }

    /// What is still open when its process is gone has no outcome.
    fn ended(&mut self, live: bool) {
        let mut open: Vec<Value> = std::mem::take(&mut self.open).into_values().collect();
        if !live {
            open.sort_by_key(|line| line["n"].as_u64());
            self.abandoned.append(&mut open);
        }
    }

    fn rest(mut self) -> Vec<Value> {
        let reconciled = self.reconciled;
        self.unknown.append(&mut self.abandoned);
        self.unknown.retain(|intent| intent["request_id"].as_str().is_none_or(|id| !reconciled.contains(id)));
        self.unknown
    }
}

/// How many intents of processes that are gone have no outcome, as a start looks for them: only
/// the last two files of those that did not close their chain, and at most 64 MiB in all, newest
/// first. Says whether that was everything.
///
/// # Errors
/// If a file cannot be read, or is of a newer format.
pub fn abandoned(directory: &Path) -> Result<(usize, bool), ReadError> {
    let (mut found, mut left, mut complete) = (Unknown::default(), MAX_LOOK, true);
    for instance in files::list(directory)?.into_iter().rev() {
        let reconciles = is_reconciler(&instance);
        if !reconciles && (instance.live || is_closed(&instance)) {
            continue;
        }
        let skipped = if reconciles { 0 } else { instance.segments.len().saturating_sub(LAST) };
        for segment in instance.segments.iter().skip(skipped) {
            let size = segment.path.metadata().map_or(0, |meta| meta.len());
            if size > left {
                complete = false;
                continue;
            }
            left -= size;
            found.read(segment)?;
        }
        found.ended(false);
    }
    found.unknown.clear();
    Ok((found.rest().len(), complete))
}

fn is_reconciler(instance: &Instance) -> bool {
    let header = instance.segments.first().and_then(|first| first.lines().ok()?.next()?.ok());
    let header: Value = header.and_then(|line| serde_json::from_slice(&line.bytes).ok()).unwrap_or_default();
    header["writer"] == "reconcile"
}

/// Whether the last line says that nothing is left to come.
fn is_closed(instance: &Instance) -> bool {
    let Some(last) = instance.segments.last() else { return true };
    if last.is_compressed() {
        return false;
    }
    let tail = File::open(&last.path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut tail = Vec::new();
        file.take(4096).read_to_end(&mut tail)?;
        Ok(tail)
    });
    let tail = tail.unwrap_or_default();
    let line = tail.strip_suffix(b"\n").and_then(|tail| tail.rsplit(|b| *b == b'\n').next());
    line.and_then(|line| serde_json::from_slice::<Value>(line).ok()).is_some_and(|line| line["kind"] == "closed")
}
