//! Checks the chain line by line: whether each line follows the one before it, and whether the next line confirms it.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Chain, Finding};
use crate::audit::chain::Hash;

/// The fault of a line whose hash should be in the next line, if that one is changed.
const UNCONFIRMED: &str = "is not confirmed by the next line, which is changed";

/// A line of the chain.
#[derive(Clone)]
pub(super) struct Read {
    pub(super) file: Arc<str>,
    pub(super) line: u64,
    /// The number and the previous hash that it claims; `None` if it does not begin like a line of a record.
    pub(super) claims: Option<(u64, Hash)>,
    /// Its number, as derived from its neighbours.
    pub(super) number: u64,
    pub(super) hash: Hash,
}

impl Read {
    /// The number of the next line.
    fn next(&self) -> u64 {
        self.number.saturating_add(1)
    }
}

impl Chain<'_> {
    /// Checks that each line follows the one before it, and matches the hash in the next one.
    pub(super) fn join(&mut self, lines: &[Read]) {
        let positions: HashMap<Hash, u64> = lines.iter().map(|line| (line.hash, line.line)).collect();
        for (at, line) in lines.iter().enumerate() {
            let mut line = line.clone();
            let before = self.before.take();
            let next = before.as_ref().map(Read::next);
            line.number = next.or(line.claims.map(|(number, _)| number)).unwrap_or_default();
            // The next line contains this line's hash, so this line is as it was written.
            let confirmed = lines.get(at + 1).and_then(|next| next.claims).is_some_and(|(_, prev)| prev == line.hash);
            match (line.claims, &before) {
                (None, _) => {
                    self.name(&line, "is not a line of a record: changed");
                    if let Some(before) = &before {
                        self.name(before, UNCONFIRMED);
                    }
                }
                (Some((number, prev)), Some(before)) if prev != before.hash => {
                    if let Some(other) = positions.get(&prev) {
                        let what = format!(
                            "follows line {other}, not the line before it: reordered, repeated, or lines before it are removed"
                        );
                        self.name(&line, what);
                    } else if number == before.next() {
                        self.name(before, "is changed: the next line has another hash for it");
                        if before.line == 0 {
                            self.name(&line, "is changed: the first line must follow nothing");
                        }
                    } else {
                        let what = if number > before.next() {
                            format!(
                                "lines {} to {} of the chain are missing before it: removed",
                                before.next(),
                                number - 1
                            )
                        } else {
                            "is out of order: reordered, repeated or changed".to_owned()
                        };
                        self.name(&line, what);
                        if !confirmed {
                            self.name(before, UNCONFIRMED);
                        }
                    }
                    if confirmed {
                        line.number = number;
                    }
                }
                (Some((number, _)), _) if number != line.number => {
                    self.name(&line, "is changed: its number is not the next");
                    if confirmed {
                        line.number = number;
                    }
                }
                (Some(_), _) => {}
            }
            self.before = Some(line);
        }
    }

    /// Reports a fault of a line, unless one was reported already.
    fn name(&mut self, line: &Read, what: impl Into<String>) {
        let reported = |fault: &Finding| fault.line == Some(line.line) && *fault.file == *line.file;
        // Line 0 is the start of a chain, and not a line of a file.
        if line.line > 0 && !self.report.faults.iter().rev().take(8).any(reported) {
            self.report.faults.push(Finding { file: line.file.to_string(), line: Some(line.line), what: what.into() });
        }
    }
}
