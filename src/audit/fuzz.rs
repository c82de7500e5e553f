//! Fuzzing of the record: any bytes as a file, and any damage to a valid record.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::chain::{Hash, Link};
use super::files;
use super::{Filter, Report, Retention, Unread, abandoned, heads, intents_since, read, unknown, verify};
use crate::clock;
use crate::state;

const INSTANCE: &str = "0123456789abcdef";
/// The most lines of a generated record.
const MAX_LINES: usize = 24;

/// The first three bytes select the test; the rest is a file, or the bodies of its lines.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some(([how, at, with], rest)) = bytes.split_first_chunk::<3>() else { return };
    if how & 1 == 0 {
        let number = [1, 1, 1, 2, u64::MAX][usize::from(at % 5)];
        as_it_is(number, rest);
    } else {
        harmed(*how >> 1, usize::from(*at), usize::from(*with), rest);
    }
}

/// `verify` accepts a file if a second, simpler check does, and every reader reads the same number of lines.
fn as_it_is(number: u64, bytes: &[u8]) {
    let folder = Folder::new();
    folder.write(&BTreeMap::from([(number, bytes.to_vec())]));
    let report = folder.verify(&[]);
    if number == 1 && !is_newer(bytes) {
        assert_eq!(report.faults.is_empty(), is_right(bytes), "{:?}", report.faults);
    }
    folder.read_by_all(report.lines, bytes.contains(&b'\\'));
}

/// Whether the file has a format that this build does not read.
fn is_newer(bytes: &[u8]) -> bool {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let header: Value = serde_json::from_slice(first).unwrap_or_default();
    header["format"].as_u64().is_some_and(|format| format > 1)
}

/// Whether each line is JSON, has the next number, and has the hash of the line before it. An unterminated line is
/// none.
fn is_right(bytes: &[u8]) -> bool {
    let (mut link, mut whole) = (Link::default(), bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>());
    whole.pop();
    whole.iter().enumerate().all(|(at, line)| {
        let place = format!("{{\"n\":{},\"prev\":\"{}", link.number + 1, link.hash);
        link = Link { number: link.number + 1, hash: Hash::of(line) };
        let value: Option<Value> = serde_json::from_slice(line).ok();
        let is_header =
            |value: &Value| value["kind"] == "header" && value["instance"] == INSTANCE && value["file"] == 1;
        line.starts_with(place.as_bytes()) && value.is_some_and(|value| at > 0 || is_header(&value))
    })
}

/// A generated record is accepted as it was written, and any damage before a kept head is found.
fn harmed(how: u8, at: usize, with: usize, bodies: &[u8]) {
    // At the largest line numbers no record is valid; it only has to be reported.
    let wrong_start = how & 1 == 1;
    let mut files = made_up(bodies, if wrong_start { u64::MAX - 2 * MAX_LINES as u64 } else { 0 });
    let folder = Folder::new();
    folder.write(&files);
    let report = folder.verify(&[]);
    let lines: usize = files.values().map(|bytes| bytes.iter().filter(|byte| **byte == b'\n').count()).sum();
    assert_eq!(report.lines, lines as u64);
    if wrong_start {
        return assert!(!report.faults.is_empty());
    }
    assert_eq!(report.faults, [], "nothing was done to it");
    folder.read_by_all(report.lines, bodies.contains(&b'\\'));
    let kept = heads(&folder.0, &mut Unread::default()).expect("heads");
    let last = files.last_key_value().expect("a file");
    let end: Vec<&[u8]> = last.1.split_inclusive(|byte| *byte == b'\n').collect();
    let hash = end.last().map(|line| Hash::of(&line[..line.len() - 1])).expect("a line");
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].file, kept[0].line, kept[0].hash), (*last.0, end.len() as u64, hash));

    let before = files.clone();
    harm(how >> 1, at, with, &mut files);
    if files != before {
        let folder = Folder::new();
        folder.write(&files);
        let report = folder.verify(&kept);
        assert!(!report.faults.is_empty(), "{how} {at} {with}: {:?}", report.notes);
    }
}

/// The files of a record with a line for each JSON object in `bodies`; an empty line starts the next file.
fn made_up(bodies: &[u8], number: u64) -> BTreeMap<u64, Vec<u8>> {
    let (mut files, mut link) = (BTreeMap::new(), Link { number, ..Link::default() });
    let begin = |files: &mut BTreeMap<u64, Vec<u8>>, link: &mut Link| {
        let file = files.len() as u64 + 1;
        let header = json!({
            "time": "2026-11-24T00:00:00.000Z", "kind": "header", "instance": INSTANCE, "file": file, "format": 1,
        });
        let mut bytes = Vec::new();
        link.append(header.to_string().as_bytes(), &mut bytes);
        files.insert(file, bytes);
    };
    begin(&mut files, &mut link);
    for line in bodies.split(|byte| *byte == b'\n').take(MAX_LINES) {
        if line.is_empty() {
            begin(&mut files, &mut link);
        } else if let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(line) {
            if let Some(mut last) = files.last_entry().filter(|_| !body.is_empty()) {
                link.append(Value::Object(body).to_string().as_bytes(), last.get_mut());
            }
        }
    }
    files
}

/// Damages a bit, a line, the end of a file, or a whole file.
fn harm(how: u8, at: usize, with: usize, files: &mut BTreeMap<u64, Vec<u8>>) {
    let number = (at % files.len()) as u64 + 1;
    let Some(bytes) = files.get_mut(&number) else { return };
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (line, byte) = (with % lines.len(), (with * 256 + at) % bytes.len());
    match how % 6 {
        0 => bytes[byte] ^= 1 << (at % 8),
        1 => {
            lines.remove(line);
            *bytes = lines.concat();
        }
        2 => {
            let next = (line + 1) % lines.len();
            lines.swap(line, next);
            *bytes = lines.concat();
        }
        3 => {
            lines.insert(line, lines[line].clone());
            *bytes = lines.concat();
        }
        4 => bytes.truncate(byte),
        _ => drop(files.remove(&number)),
    }
}

/// A folder with a record, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("saltgate-fuzz-{}-{number}", std::process::id()));
        state::folder(&path).expect("a folder");
        Self(path)
    }

    fn write(&self, files: &BTreeMap<u64, Vec<u8>>) {
        for (number, bytes) in files {
            let file = state::file().write(true).create_new(true).open(files::path(&self.0, INSTANCE, *number));
            file.and_then(|mut file| file.write_all(bytes)).expect("a file");
        }
    }

    fn verify(&self, kept: &[super::ChainHead]) -> Report {
        let report = verify(&self.0, kept, Retention::Forever).expect("a report");
        for finding in report.faults.iter().chain(&report.notes) {
            let bytes = std::fs::read(self.0.join(&finding.file)).unwrap_or_default();
            let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
            assert!(finding.line.is_none_or(|line| (1..=lines).contains(&line)), "{finding}");
        }
        report
    }

    /// Every reader reads all lines; or the file has a newer format, and none reads it.
    fn read_by_all(&self, lines: u64, has_escapes: bool) {
        let (mut unread, mut count, mut intents) = (Unread::default(), 0, 0);
        let since = SystemTime::UNIX_EPOCH;
        let all = read(&self.0, &mut unread, |line| {
            assert!(Filter::default().takes(line));
            let at = line["time"].as_str().and_then(|time| clock::parse(time, since));
            let is_whole = line["api_key"].is_string() && line["account"].is_string();
            intents += u64::from(line["kind"] == "intent" && is_whole && at.is_some_and(|at| at >= since));
            count += 1;
            true
        });
        let open = unknown(&self.0, &mut Unread::default());
        let none = abandoned(&self.0);
        if all.is_err() {
            return assert!(open.is_err() && none.is_err());
        }
        assert_eq!(count + unread.count, lines);
        assert!(open.expect("the same").len() as u64 <= count);
        assert!(none.expect("the same").0 as u64 <= count);
        let mut seen = 0;
        intents_since(&self.0, since, |_, _, at| seen += u64::from(at >= since)).expect("the same");
        // No gateway writes such escapes.
        assert!(seen == intents || has_escapes && seen < intents, "{seen} intents, not {intents}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
