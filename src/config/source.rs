//! A file that is being read, and the faults and settings found in it.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::fault::{Fault, Setting};
use super::outline::Outline;
use crate::file_watch::FileWatch;
use crate::postgres::ABSENT;
use crate::seal::KeyRing;

/// One file that is being read: its text, for line numbers, and what was found in it. Every `Section` of the file
/// refers to it.
pub(super) struct Source<'s> {
    pub(super) file: &'s Path,
    pub(super) text: &'s str,
    /// The part of the text that is being read, as its first and last byte: positions count from its start.
    part: Cell<(usize, usize)>,
    /// The last position whose line was asked for, and that line.
    asked: Cell<(usize, usize)>,
    pub(super) environment: &'s dyn Fn(&str) -> Option<String>,
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Fault>>,
    settings: RefCell<Vec<Setting>>,
    /// Where everything that may be in the file is noted, if the file is read for that.
    pub(super) outline: Option<&'s Outline>,
    /// Gets each file that is read because this one names it, before it is read.
    watch: Option<&'s FileWatch>,
    /// What opens sealed secrets.
    pub(super) seal: Option<&'s KeyRing>,
    /// Why PostgreSQL cannot be used, if it is not in the build.
    pub(super) without_postgres: Option<&'static str>,
}

/// What was found in a file.
pub(super) struct Findings {
    pub(super) faults: Vec<Fault>,
    /// Settings that are allowed but may be mistakes.
    pub(super) warnings: Vec<Fault>,
    pub(super) settings: Vec<Setting>,
}

impl<'s> Source<'s> {
    pub(super) fn new(file: &'s Path, text: &'s str, environment: &'s dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            file,
            text,
            part: Cell::new((0, text.len())),
            asked: Cell::new((0, 1)),
            environment,
            faults: RefCell::default(),
            warnings: RefCell::default(),
            settings: RefCell::default(),
            outline: None,
            watch: None,
            seal: None,
            without_postgres: ABSENT,
        }
    }

    /// The same, read for its outline, if there is one.
    pub(super) fn noting(self, outline: Option<&'s Outline>) -> Self {
        Self { outline, ..self }
    }

    /// The same; the files that are read because this one names them are added to `watch`.
    pub(super) fn watched_by(self, watch: &'s FileWatch) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// The same; `seal` opens the sealed secrets in it.
    pub(super) fn sealed_by(self, seal: &'s KeyRing) -> Self {
        Self { seal: Some(seal), ..self }
    }

    /// A file that this one names is about to be read.
    pub(super) fn will_read(&self, path: &Path) {
        self.watch.into_iter().for_each(|watch| watch.add(path));
    }

    /// The part of the text that is being read.
    pub(super) fn part(&self) -> &'s str {
        let (start, end) = self.part.get();
        &self.text[start..end]
    }

    /// Selects the part of the text to read next.
    pub(super) fn go_to(&self, part: &Range<usize>) {
        self.part.set((part.start, part.end));
    }

    pub(super) fn fault_at(&self, at: Option<usize>, key: &str, message: impl Into<String>) {
        let line = at.map(|at| self.line(at));
        self.faults.borrow_mut().push(Fault::new(self.file, line, key, message));
    }

    pub(super) fn warn_at(&self, at: Option<usize>, key: &str, message: impl Into<String>) {
        let line = at.map(|at| self.line(at));
        self.warnings.borrow_mut().push(Fault::new(self.file, line, key, message));
    }

    /// Records a setting, for `check`.
    pub(super) fn record(&self, setting: Setting) {
        self.settings.borrow_mut().push(setting);
    }

    /// How many faults were found so far.
    pub(super) fn fault_count(&self) -> usize {
        self.faults.borrow().len()
    }

    /// Appends text to the messages of the faults after the first `count`.
    pub(super) fn add_to_faults_since(&self, count: usize, more: &str) {
        self.faults.borrow_mut().iter_mut().skip(count).for_each(|fault| fault.message.push_str(more));
    }

    /// Whether neither a fault nor a warning was found.
    pub(super) fn is_clean(&self) -> bool {
        self.faults.borrow().is_empty() && self.warnings.borrow().is_empty()
    }

    /// Whether a fault of exactly this key was found.
    pub(super) fn has_fault_of(&self, key: &str) -> bool {
        self.faults.borrow().iter().any(|fault| fault.key == key)
    }

    pub(super) fn findings(self) -> Findings {
        let [faults, warnings] = [self.faults, self.warnings].map(RefCell::into_inner);
        Findings { faults, warnings, settings: self.settings.into_inner() }
    }

    pub(super) fn line(&self, at: usize) -> usize {
        let at = self.part.get().0 + at;
        let lines = |range: Range<usize>| self.text.as_bytes()[range].iter().filter(|byte| **byte == b'\n').count();
        // Counts from the last position: from the start, the time would be quadratic in the number of keys.
        let (last, line) = self.asked.get();
        let line = if last <= at { line + lines(last..at) } else { line - lines(at..last) };
        self.asked.set((at, line));
        line
    }

    /// This path, relative to the directory of the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// The text with each `${NAME}` replaced by that variable of the environment; a fault if one is not set.
    pub(super) fn expand(&self, at: usize, key: &str, text: &str) -> Option<String> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            expanded.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                self.fault_at(Some(at), key, "has a `${` without its `}`");
                return None;
            };
            let Some(value) = (self.environment)(name) else {
                self.fault_at(Some(at), key, format!("names ${{{name}}}, which is not set in the environment"));
                return None;
            };
            expanded.push_str(&value);
            rest = after;
        }
        Some(expanded + rest)
    }
}
