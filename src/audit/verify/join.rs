//! Line by line: what does not follow the line before it, and what nobody vouches for.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Chain, Finding};
use crate::audit::chain::Hash;

/// A line that was read.
#[derive(Clone)]
pub(super) struct Read {
    pub(super) file: Arc<str>,
    pub(super) line: u64,
    /// What it claims; `None` if it does not even begin as a line of a record.
    pub(super) claims: Option<(u64, Hash)>,
    /// Its number as its neighbours tell it.
    pub(super) number: u64,
    pub(super) hash: Hash,
}

impl Chain<'_> {
    /// Whether each line follows the one before, and is as the one behind it says.
    pub(super) fn join(&mut self, lines: &[Read]) {
        let places: HashMap<Hash, u64> = lines.iter().map(|line| (line.hash, line.line)).collect();
        for (at, line) in lines.iter().enumerate() {
            let mut line = line.clone();
            let before = self.before.take();
            let next = before.as_ref().map(|before| before.number + 1);
            line.number = next.or(line.claims.map(|(number, _)| number)).unwrap_or_default();
            // Whether this line can be taken at its word, the one behind it says.
            let vouched = lines.get(at + 1).and_then(|next| next.claims).is_some_and(|(_, prev)| prev == line.hash);
            match (line.claims, &before) {
                (None, _) => {
                    self.name(&line, "is no line of a record: changed");
                    if let Some(before) = &before {
                        self.name(before, "has nothing to vouch for it: the line behind it is changed");
                    }
                }
                (Some((number, prev)), Some(before)) if prev != before.hash => {
                    if let Some(other) = places.get(&prev) {
                        let what = format!(
                            "follows line {other}, not the one it stands behind: reordered, repeated, or lines before it are removed"
                        );
                        self.name(&line, what);
                    } else if number == before.number + 1 {
                        self.name(before, "is changed: the line behind it carries another hash");
                        if before.line == 0 {
                            self.name(&line, "is changed: the first line follows nothing");
                        }
                    } else {
                        let what = if number > before.number + 1 {
                            format!(
                                "lines {} to {} of the chain are missing before it: removed",
                                before.number + 1,
                                number - 1
                            )
                        } else {
                            "is out of its order: reordered, repeated or changed".to_owned()
                        };
                        self.name(&line, what);
                        if !vouched {
                            self.name(before, "has nothing to vouch for it: the line behind it is changed");
                        }
                    }
                    if vouched {
                        line.number = number;
                    }
                }
                (Some((number, _)), _) if number != line.number => {
                    self.name(&line, "is changed: its number is not the next");
                    if vouched {
                        line.number = number;
                    }
                }
                (Some(_), _) => {}
            }
            self.before = Some(line);
        }
    }

    /// A fault of a line, told once.
    fn name(&mut self, line: &Read, what: impl Into<String>) {
        let told = |fault: &Finding| fault.line == Some(line.line) && *fault.file == *line.file;
        // Line 0 is the beginning of a chain, which nobody can have changed.
        if line.line > 0 && !self.report.faults.iter().rev().take(8).any(told) {
            self.report.faults.push(Finding { file: line.file.to_string(), line: Some(line.line), what: what.into() });
        }
    }
}
