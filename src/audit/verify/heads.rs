//! Heads: the last position of each chain, to be kept where nobody who can write to the record has access.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::{Finding, Retention};
use crate::audit::chain::{self, ChainHead};
use crate::audit::directories::Directories;
use crate::audit::files::{self, Instance, ReadError, Segment, Unread};
use crate::clock;

/// How often the header of a process that is just starting is looked for, and the pause in between.
const HEADER_TRIES: usize = 100;
const HEADER_PAUSE: Duration = Duration::from_millis(10);

/// The heads of all chains. Unreadable parts are added to `unread` and skipped; the head is then the last readable line
/// before them.
///
/// # Errors
/// If the directory cannot be read, or a file is of a newer format.
pub fn heads(record: impl Into<Directories>, unread: &mut Unread) -> Result<Vec<ChainHead>, ReadError> {
    let (record, mut heads, mut seen) = (record.into(), Vec::new(), HashSet::new());
    // Repeat until no new process has started in the meantime, so that every earlier process has a head.
    loop {
        let all = record.list()?.into_iter();
        let new: Vec<Instance> = all.filter(|instance| seen.insert(instance.id.clone())).collect();
        if new.is_empty() {
            return Ok(heads);
        }
        for instance in &new {
            heads.extend(head(instance, unread)?);
        }
    }
}

fn head(instance: &Instance, unread: &mut Unread) -> Result<Option<ChainHead>, ReadError> {
    for _ in 0..HEADER_TRIES {
        // A file whose header is incomplete has no head, but the previous file has.
        for segment in instance.segments.iter().rev() {
            let head = last_of(instance, segment, unread)?;
            if head.is_some() {
                return Ok(head);
            }
        }
        if !instance.live {
            break;
        }
        std::thread::sleep(HEADER_PAUSE);
    }
    Ok(None)
}

fn last_of(instance: &Instance, segment: &Segment, unread: &mut Unread) -> Result<Option<ChainHead>, ReadError> {
    let lines = match segment.lines() {
        Ok(lines) => lines,
        Err(error) => {
            unread.rest_of(segment, &error);
            return Ok(None);
        }
    };
    let mut last = None;
    for line in lines {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                unread.rest_of(segment, &error);
                break;
            }
        };
        if line.number == Some(1) {
            files::check_format(&segment.path, &line.value().unwrap_or_default())?;
        }
        if !line.whole {
            break;
        }
        if line.overlong.is_some() {
            unread.line(segment, &line);
        }
        last = Some(line);
    }
    Ok(last.map(|last| ChainHead {
        instance: instance.id.clone(),
        file: segment.number,
        line: last.number.unwrap_or_default(),
        hash: last.hash(),
        time: last
            .value()
            .and_then(|line| line["time"].as_str().filter(|time| chain::is_time(time)).map(str::to_owned)),
    }))
}

/// Chains that claim to have started before the latest of these heads, but have no head, although every chain at that
/// time got one. Heads dated after `now` are from a wrong clock and ignored.
///
/// # Errors
/// If the directory cannot be read.
pub(crate) fn without_head(
    record: impl Into<Directories>,
    heads: &[ChainHead],
    retention: Retention,
    now: SystemTime,
) -> Result<Vec<Finding>, ReadError> {
    let now = clock::rfc3339(now);
    let Some(kept) = heads.iter().filter_map(|head| head.time.as_deref()).filter(|time| **time <= *now).max() else {
        return Ok(Vec::new());
    };
    let known: HashSet<&str> = heads.iter().map(|head| head.instance.as_str()).collect();
    let mut found = Vec::new();
    for instance in record.into().list()?.iter().filter(|instance| !known.contains(instance.id.as_str())) {
        let Some(first) = instance.segments.first() else { continue };
        let begun = first.started().filter(|started| started.as_str() < kept);
        if let Some(begun) = begun.filter(|begun| !retention.is_over(begun)) {
            let what = format!(
                "claims to have started at {begun}, but none of the heads, kept at {kept} or later, is of its process: the file was \
                 forged or added afterwards, or a clock was wrong"
            );
            found.push(Finding { file: first.name(), line: None, what });
        }
    }
    Ok(found)
}
