//! A table of a file, from which settings are taken. The kinds of values are in `texts` and `numbers`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Setting;
use super::outline::{Part, Shape};
use super::source::Source;

/// A table while it is read. Every key is taken out of it; [`Section::finish`] reports those that remain as unknown.
pub(super) struct Section<'s> {
    pub(super) source: &'s Source<'s>,
    pub(super) path: String,
    pub(super) table: DeTable<'s>,
    pub(super) at: usize,
    pub(super) known: Vec<&'static str>,
}

/// Why a value was not taken. It becomes a fault, which adds the place, the setting and what was expected.
pub(super) enum Misread {
    /// It is of another kind, such as a number instead of a text.
    OtherKind,
    /// Its kind is right, and this is wrong with it: a predicate such as `is empty`.
    Wrong(String),
    /// A fault that says why is reported already.
    Reported,
}

type Value<'s> = Spanned<DeValue<'s>>;

impl<'s> Section<'s> {
    /// Parses the current part of the file as a document; reports a fault if that fails.
    pub(super) fn document(source: &'s Source<'s>) -> Option<Self> {
        match DeTable::parse(source.part()) {
            Ok(table) => {
                let start = table.span().start;
                Some(Self::new(source, String::new(), table.into_inner(), start))
            }
            Err(error) => {
                let at = error.span().map(|span| span.start);
                source.fault_at(at, "", error.message().to_owned());
                None
            }
        }
    }

    /// A table at the position `at` of its file.
    pub(super) fn new(source: &'s Source<'s>, path: String, table: DeTable<'s>, at: usize) -> Self {
        Self { source, path, table, at, known: Vec::with_capacity(8) }
    }

    /// The whole key of a setting of this table, such as `limits.idle_timeout`.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a value, if it is there.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Value<'s>> {
        self.known.push(name);
        self.table.remove(name)
    }

    /// Whether a key is there at all.
    pub(super) fn has(&self, name: &str) -> bool {
        match self.source.outline {
            None => self.table.contains_key(name),
            Some(outline) => outline.has(&self.path, name, self.key(name)),
        }
    }

    /// Notes a setting that is read by [`take`](Self::take), with its default as TOML.
    pub(super) fn note(&self, name: &str, shape: impl FnOnce() -> Shape, default: Option<&str>) {
        self.note_part(name, || Part::Setting(shape(), default.map(str::to_owned)));
    }

    /// Notes that a setting without a default may be left out.
    pub(super) fn note_optional(&self, name: &str) {
        if let Some(outline) = self.source.outline {
            outline.optional(self.key(name));
        }
    }

    /// Notes that exactly one of these is there.
    pub(super) fn note_choice(&self, parts: &[&str]) {
        if let Some(outline) = self.source.outline {
            outline.choice(&self.path, parts);
        }
    }

    fn note_part(&self, name: &str, part: impl FnOnce() -> Part) {
        if let Some(outline) = self.source.outline {
            outline.note(self.key(name), part());
        }
    }

    /// Registers a key as known, for suggestions.
    pub(super) fn known(&mut self, name: &'static str) {
        self.known.push(name);
    }

    /// The position of a key.
    pub(super) fn at(&self, name: &str) -> Option<usize> {
        self.table.get(name).map(|value| value.span().start)
    }

    /// An inner table; empty if it is not there.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'s> {
        self.note_part(name, || Part::Table);
        let path = self.key(name);
        let at = self.at;
        let empty = Section::new(self.source, path.clone(), DeTable::new(), at);
        match self.take(name) {
            None => empty,
            Some(value) => {
                let at = value.span().start;
                match value.into_inner() {
                    DeValue::Table(table) => Section::new(self.source, path, table, at),
                    other => {
                        let what = match &other {
                            DeValue::Array(list) if list.iter().any(|it| matches!(it.get_ref(), DeValue::Table(_))) => {
                                format!("is a list of tables ([[{path}]]), and there is only one: write [{path}]")
                            }
                            other => format!("is {}, not a table: write [{path}]", kind(other)),
                        };
                        self.source.fault_at(Some(at), &path, what);
                        empty
                    }
                }
            }
        }
    }

    /// The tables of an array of tables.
    pub(super) fn sections(&mut self, name: &'static str) -> Vec<Section<'s>> {
        let path = self.key(name);
        if self.source.outline.is_some() {
            self.note_part(name, || Part::Tables);
            return vec![Section::new(self.source, path, DeTable::new(), 0)];
        }
        let Some(value) = self.take(name) else { return Vec::new() };
        let at = value.span().start;
        let DeValue::Array(array) = value.into_inner() else {
            self.source.fault_at(Some(at), &path, format!("is not a list of tables: write [[{path}]]"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for value in array {
            let at = value.span().start;
            match value.into_inner() {
                DeValue::Table(table) => sections.push(Section::new(self.source, path.clone(), table, at)),
                other => self.source.fault_at(Some(at), &path, format!("holds {}, not a table", kind(&other))),
            }
        }
        sections
    }

    /// Reads a setting of this shape by `read`, which returns the value and how it is shown. Records it and its default as
    /// TOML.
    pub(super) fn setting<T>(
        &mut self,
        name: &'static str,
        shape: impl FnOnce() -> Shape,
        default: Option<(T, String)>,
        expected: &str,
        read: impl FnOnce(&Source<'s>, usize, &str, DeValue<'s>) -> Result<(T, String), Misread>,
    ) -> Option<T> {
        let key = self.key(name);
        let written = default.as_ref().map(|(_, text)| text.clone());
        self.note(name, shape, written.as_deref());
        let Some(value) = self.take(name) else {
            return match default {
                Some((value, text)) => {
                    self.source.record(Setting { key, value: text, default: written });
                    Some(value)
                }
                None => {
                    let at = if self.at == 0 { None } else { Some(self.at) };
                    self.source.fault_at(at, &key, format!("is missing; expected {expected}"));
                    None
                }
            };
        };
        let at = value.span().start;
        let value = value.into_inner();
        let found = kind(&value);
        let problem = match read(self.source, at, &key, value) {
            Ok((value, text)) => {
                self.source.record(Setting { key, value: text, default: written });
                return Some(value);
            }
            Err(Misread::Reported) => return None,
            Err(Misread::OtherKind) => format!("is {found}"),
            Err(Misread::Wrong(problem)) => problem,
        };
        self.source.fault_at(Some(at), &key, format!("{problem}; expected {expected}"));
        None
    }

    /// An inner table with exactly one of several parts.
    pub(super) fn one_of(&mut self, name: &'static str, parts: &[&'static str]) -> Section<'s> {
        let section = self.section(name);
        section.note_choice(parts);
        section
    }

    /// Reports every key that was not taken, with the nearest known one.
    pub(super) fn finish(self) {
        for (name, _) in self.table.iter() {
            let at = name.span().start;
            let name = name.get_ref();
            let key = self.key(name);
            let nearest = self.known.iter().map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
            let message = match nearest {
                Some((distance, known)) if distance <= 1 + known.len() / 3 => {
                    format!("is unknown; did you mean `{known}`?")
                }
                _ if self.known.is_empty() => "is unknown".to_owned(),
                _ => format!("is unknown; known keys are: {}", self.known.join(", ")),
            };
            self.source.fault_at(Some(at), &key, message);
        }
    }
}

pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
