//! What settings there are: noted by the same calls that read them, when a configuration is read for its outline.
//!
//! An outline is read from an empty file. Every optional part counts as there, so that the readers pass through all of them; of
//! several parts of which one excludes the others, one at a time. Faults are of no interest then.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// What a value may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Flag,
    /// A whole number within these bounds.
    Number(usize, usize),
    /// A number from 0 to 1.
    Fraction,
    Duration,
    Size,
    Budget,
    Text,
    /// One of these words.
    Word(Vec<String>),
    /// A date with its time and zone.
    Date,
    /// `"text"`, `{ env = "NAME" }`, `{ file = "path" }` or `{ sealed = "…" }`.
    Secret,
    /// A list with at least and at most so many of these.
    List(Box<Shape>, usize, usize),
    /// One of these.
    Either(Vec<Shape>),
}

impl Shape {
    pub(super) fn word(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Word(words.into_iter().map(Into::into).collect())
    }

    /// Any number of these.
    pub(super) fn list(of: Self) -> Self {
        Self::List(Box::new(of), 0, usize::MAX)
    }

    /// At least one of these.
    pub(super) fn some(of: Self) -> Self {
        Self::List(Box::new(of), 1, usize::MAX)
    }
}

/// Something that a file may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Table,
    /// An array of tables.
    Tables,
    /// A setting, and its default as TOML.
    Setting(Shape, Option<String>),
}

/// All parts of a file, by their whole keys.
#[derive(Default)]
pub(super) struct Outline {
    /// Of every choice the part with this number is there, or the last.
    pub(super) chosen: usize,
    parts: RefCell<BTreeMap<String, Part>>,
    optional: RefCell<BTreeSet<String>>,
    choices: RefCell<BTreeMap<String, Vec<String>>>,
}

impl Outline {
    /// Notes a part. If it is known, the first note stands, except that a shape replaces a plain text.
    pub(super) fn note(&self, key: String, part: Part) {
        let mut parts = self.parts.borrow_mut();
        match parts.get_mut(&key) {
            Some(Part::Setting(known @ Shape::Text, _)) => {
                if let Part::Setting(shape, _) = part {
                    *known = shape;
                }
            }
            Some(_) => {}
            None => {
                parts.insert(key, part);
            }
        }
    }

    /// Notes that a table holds exactly one of these parts.
    pub(super) fn choice(&self, key: &str, parts: &[&str]) {
        self.choices.borrow_mut().insert(key.to_owned(), parts.iter().map(|part| (*part).to_owned()).collect());
    }

    /// Notes that a part may be left out.
    pub(super) fn optional(&self, key: String) {
        self.optional.borrow_mut().insert(key);
    }

    /// Whether a part counts as there. Who asks for it can do without it.
    pub(super) fn has(&self, table: &str, name: &str, key: String) -> bool {
        if let Some(parts) = self.choices.borrow().get(table)
            && parts.iter().any(|part| part == name)
        {
            return parts.get(self.chosen).or(parts.last()).is_some_and(|part| part == name);
        }
        self.optional(key);
        true
    }

    /// The most parts of which one must be chosen.
    pub(super) fn most_choices(&self) -> usize {
        self.choices.borrow().values().map(Vec::len).max().unwrap_or(0)
    }

    /// The parts, their keys, which of them may be left out, and of which exactly one must be there.
    pub(super) fn whole(self) -> (BTreeMap<String, Part>, BTreeSet<String>, BTreeMap<String, Vec<String>>) {
        (self.parts.into_inner(), self.optional.into_inner(), self.choices.into_inner())
    }
}
