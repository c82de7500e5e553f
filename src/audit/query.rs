//! What the record says: lines by filter, and deletions whose outcome nobody knows.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use super::files::{self, Instance, ReadError, Segment};
use crate::clock;

/// The most bytes that a start reads to find intents without an outcome.
const MAX_LOOK: u64 = 128 << 20;
/// How much a compressed file is counted for: about what it is without.
const COMPRESSED: u64 = 10;
/// The most of them from one process: an intent whose outcome had not come when the process ended
/// stands near the end.
const MAX_LOOK_EACH: u64 = 64 << 20;

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
            if !lines_of(segment, 0, &mut unreadable, &mut each)? {
                return Ok(unreadable);
            }
        }
    }
    Ok(unreadable)
}

fn lines_of(
    segment: &Segment,
    skipped: u64,
    unreadable: &mut u64,
    each: &mut impl FnMut(&Value) -> bool,
) -> Result<bool, ReadError> {
    for line in segment.lines_from(skipped)? {
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

/// Hands out the apiKey, the account and the time of every intent from `since` on, in no order of
/// time. Files that nobody wrote to since are not read. Returns how many lines could not be read.
///
/// # Errors
/// If a file cannot be read, or is of a newer format.
pub fn intents_since(
    directory: &Path,
    since: SystemTime,
    mut each: impl FnMut(&str, &str, SystemTime),
) -> Result<u64, ReadError> {
    if !directory.exists() {
        return Ok(0);
    }
    let mut unreadable = 0;
    for segment in files::list(directory)?.iter().flat_map(|instance| &instance.segments) {
        if segment.path.metadata().and_then(|meta| meta.modified()).is_ok_and(|written| written < since) {
            continue;
        }
        for line in segment.lines()? {
            let line = line?;
            // One that is not whole was never durable: nothing was sent for it.
            if !line.whole {
                break;
            }
            if !line.bytes.windows(INTENT.len()).any(|part| part == INTENT) {
                continue;
            }
            let Ok(value) = serde_json::from_slice::<Value>(&line.bytes) else {
                unreadable += 1;
                continue;
            };
            let text = |field: &str| value[field].as_str();
            let at = text("time").and_then(|time| clock::parse(time, since));
            match (value["kind"] == "intent", text("api_key"), text("account"), at) {
                (true, Some(key), Some(account), Some(at)) if at >= since => each(key, account, at),
                (true, Some(_), Some(_), Some(_)) | (false, ..) => {}
                (true, ..) => unreadable += 1,
            }
        }
    }
    Ok(unreadable)
}

/// What a line about an intent holds; what else holds it is sorted out by reading it.
const INTENT: &[u8] = b"\"intent\"";

/// The intents of which nobody knows what became: the outcome on record is "unknown", or there is
/// none and the process that wrote the intent is gone. Not those that were reconciled since.
///
/// # Errors
/// If a file cannot be read, or is of a newer format.
pub fn unknown(directory: &Path) -> Result<Vec<Value>, ReadError> {
    let mut found = Unknown::default();
    for instance in files::list(directory)? {
        for segment in &instance.segments {
            found.read(segment, 0)?;
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
    fn read(&mut self, segment: &Segment, skipped: u64) -> Result<(), ReadError> {
        lines_of(segment, skipped, &mut 0, &mut |line| {
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
/// where a process did not close its chain, the last 64 MiB of each and 128 MiB in all, newest
/// first. Says whether that was everything.
///
/// # Errors
/// If a file cannot be read, or is of a newer format.
pub fn abandoned(directory: &Path) -> Result<(usize, bool), ReadError> {
    look(directory, MAX_LOOK, MAX_LOOK_EACH)
}

pub(super) fn look(directory: &Path, mut left: u64, each: u64) -> Result<(usize, bool), ReadError> {
    let (mut found, mut complete) = (Unknown::default(), true);
    for instance in files::list(directory)?.into_iter().rev() {
        let reconciles = is_reconciler(&instance);
        if !reconciles && (instance.live || is_closed(&instance)) {
            continue;
        }
        let mut each = left.min(each);
        let mut last = Vec::new();
        for segment in instance.segments.iter().rev() {
            let size = segment.path.metadata().map_or(0, |meta| meta.len());
            let size = if segment.is_compressed() { size.saturating_mul(COMPRESSED) } else { size };
            complete &= size <= each;
            // Of a compressed file there is all or nothing.
            if each == 0 || (segment.is_compressed() && size > each) {
                break;
            }
            last.push((segment, size.saturating_sub(each)));
            left -= size.min(each);
            each -= size.min(each);
        }
        for (segment, skipped) in last.into_iter().rev() {
            found.read(segment, skipped)?;
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
