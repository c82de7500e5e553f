//! Queries of the record: lines that match a filter, and deletions whose outcome is unknown.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use super::directories::Directories;
use super::files::{self, Instance, ReadError, Segment, Unread};
use crate::clock;

/// The most bytes that a start reads to find intents without an outcome.
const MAX_LOOK: u64 = 128 << 20;
/// The assumed compression ratio of a compressed file.
const COMPRESSED: u64 = 10;
/// The most of these bytes from one process: an intent that was still open when the process ended is near the end.
const MAX_LOOK_EACH: u64 = 64 << 20;

/// Which lines to return; by default all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// From this time on, as [`crate::clock::rfc3339`] writes it.
    pub since: Option<String>,
    /// Before this time.
    pub until: Option<String>,
    /// With this apiKey.
    pub api_key: Option<String>,
    /// With this account.
    pub account: Option<String>,
    /// About this segment.
    pub segment: Option<String>,
    /// With this decision or outcome.
    pub decision: Option<String>,
}

impl Filter {
    /// Whether a line matches.
    pub(crate) fn takes(&self, line: &Value) -> bool {
        let is = |field: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| line[field].as_str() == Some(wanted))
        };
        let time = line["time"].as_str().unwrap_or_default();
        self.since.as_deref().is_none_or(|since| time >= since)
            && self.until.as_deref().is_none_or(|until| time < until)
            && (is("api_key", &self.api_key) || self.api_key.as_deref().is_some_and(|key| names(line, key)))
            && is("account", &self.account)
            && is("segment", &self.segment)
            && (is("decision", &self.decision) || is("outcome", &self.decision))
    }
}

/// Whether a line about the keys in force names this one.
fn names(line: &Value, key: &str) -> bool {
    let lists = |field: &str| line[field].as_array().is_some_and(|names| names.iter().any(|name| name == key));
    line["kind"] == "keys" && (lists("added") || lists("removed") || !line["changed"][key].is_null())
}

/// Calls `each` for every line, process by process, oldest line first, until it returns false. Unreadable parts are
/// added to `unread` and skipped.
///
/// # Errors
/// If the directory cannot be read, or a file is of a newer format.
pub(crate) fn read(
    record: impl Into<Directories>,
    unread: &mut Unread,
    mut each: impl FnMut(&Value) -> bool,
) -> Result<(), ReadError> {
    for instance in record.into().list()? {
        for segment in &instance.segments {
            if !lines_of(segment, 0, unread, &mut each)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn lines_of(
    segment: &Segment,
    skipped: u64,
    unread: &mut Unread,
    each: &mut impl FnMut(&Value) -> bool,
) -> Result<bool, ReadError> {
    let lines = match segment.lines_from(skipped) {
        Ok(lines) => lines,
        Err(error) => {
            unread.rest_of(segment, &error);
            return Ok(true);
        }
    };
    for line in lines {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                unread.rest_of(segment, &error);
                break;
            }
        };
        // The last line may be incomplete: torn, or still being written.
        if !line.whole {
            break;
        }
        let Some(value) = line.value() else {
            unread.line(segment, &line);
            continue;
        };
        if line.number == Some(1) {
            files::check_format(&segment.path, &value)?;
        }
        if !each(&value) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Calls `each` with the apiKey, the account and the time of every intent from `since` on, in no particular order.
/// Skips files that were not written since. Returns how many lines could not be read.
///
/// # Errors
/// If a file cannot be read, or is of a newer format.
pub(crate) fn intents_since(
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
            // An incomplete line was never durable, so its deletion was not sent.
            if !line.whole {
                break;
            }
            if !line.bytes.windows(INTENT.len()).any(|part| part == INTENT) {
                continue;
            }
            let Some(value) = line.value() else {
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

/// A request whose record has a fingerprint of its content ([`super::RecordEntry::print`]), and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndedRequest {
    /// The fingerprint of its content.
    pub print: String,
    /// Its request id.
    pub request_id: String,
    /// `deleted`, `refused_by_upstream`, `unknown`, `not_sent`, `refused` or `rehearsed`.
    pub outcome: String,
    /// The status it was answered with, or that the service answered.
    pub status: Option<u16>,
    /// When it ended, or when it began if its end is not on record.
    pub at: SystemTime,
}

/// The requests with a fingerprint that ended from `since` on, or whose end is not on record. Skips files that were not
/// written since, and unreadable parts.
///
/// # Errors
/// If the directory cannot be read, or a file is of a newer format.
pub(crate) fn ended_since(directory: &Path, since: SystemTime) -> Result<Vec<EndedRequest>, ReadError> {
    let mut ended: HashMap<String, EndedRequest> = HashMap::new();
    if !directory.exists() {
        return Ok(Vec::new());
    }
    for segment in files::list(directory)?.iter().flat_map(|instance| &instance.segments) {
        if segment.path.metadata().and_then(|meta| meta.modified()).is_ok_and(|written| written < since) {
            continue;
        }
        lines_of(segment, 0, &mut Unread::default(), &mut |line| {
            let text = |field: &str| line[field].as_str();
            let status = |field: &str| line[field].as_u64().and_then(|status| u16::try_from(status).ok());
            let (outcome, status) = match text("kind") {
                Some("intent") => (Some("unknown"), None),
                Some("outcome") => (text("outcome"), status("upstream_status")),
                Some("refused") => (Some("refused"), status("status")),
                Some("rehearsed") => (Some("rehearsed"), Some(200)),
                _ => return true,
            };
            let at = text("time").and_then(|time| clock::parse(time, since)).filter(|at| *at >= since);
            if let (Some(print), Some(request_id), Some(outcome), Some(at)) =
                (text("print"), text("request_id"), outcome, at)
            {
                let (print, request_id, outcome) = (print.to_owned(), request_id.to_owned(), outcome.to_owned());
                ended.insert(request_id.clone(), EndedRequest { print, request_id, outcome, status, at });
            }
            true
        })?;
    }
    Ok(ended.into_values().collect())
}

/// Text that every line of an intent contains. Other lines that contain it are sorted out by parsing.
const INTENT: &[u8] = b"\"intent\"";

/// The intents whose outcome is unknown: the recorded outcome is "unknown", or there is none and the process that wrote
/// the intent is gone. Leaves out those that were reconciled. Unreadable parts are added to `unread` and skipped.
///
/// # Errors
/// If the directory cannot be read, or a file is of a newer format.
pub fn unknown(record: impl Into<Directories>, unread: &mut Unread) -> Result<Vec<Value>, ReadError> {
    let mut found = Unknown::default();
    for instance in record.into().list()? {
        for segment in &instance.segments {
            found.read(segment, 0, unread)?;
        }
        found.ended(instance.live);
    }
    Ok(found.rest())
}

#[derive(Default)]
struct Unknown {
    open: HashMap<String, Value>,
    /// Intents whose recorded outcome is "unknown".
    unknown: Vec<Value>,
    /// Intents without an outcome, whose process is gone.
    abandoned: Vec<Value>,
    reconciled: HashSet<String>,
}

impl Unknown {
    fn read(&mut self, segment: &Segment, skipped: u64, unread: &mut Unread) -> Result<(), ReadError> {
        lines_of(segment, skipped, unread, &mut |line| {
            let id = line["request_id"].as_str().unwrap_or_default();
            match line["kind"].as_str().unwrap_or_default() {
                "intent" => drop(self.open.insert(id.to_owned(), line.clone())),
                "outcome" => {
                    // The intent may have been removed by retention; its outcome has the same fields.
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

    /// The process's files have been read: if it is gone, its open intents get no outcome any more.
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

/// How many intents of processes that are gone have no outcome. For a start, so it reads only chains that were not
/// closed, newest first, the last 64 MiB of each and 128 MiB in total. Also returns whether that was everything.
///
/// # Errors
/// If the directory cannot be read, or a file is of a newer format.
pub(crate) fn abandoned(directory: &Path) -> Result<(usize, bool), ReadError> {
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
            // A compressed file cannot be read from the middle.
            if each == 0 || (segment.is_compressed() && size > each) {
                break;
            }
            last.push((segment, size.saturating_sub(each)));
            left -= size.min(each);
            each -= size.min(each);
        }
        for (segment, skipped) in last.into_iter().rev() {
            found.read(segment, skipped, &mut Unread::default())?;
        }
        found.ended(false);
    }
    found.unknown.clear();
    Ok((found.rest().len(), complete))
}

fn is_reconciler(instance: &Instance) -> bool {
    let header = instance.segments.first().and_then(Segment::header).unwrap_or_default();
    header["writer"] == "reconcile"
}

/// Whether the last line is a `closed` line.
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
