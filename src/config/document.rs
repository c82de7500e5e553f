use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::policy::Budget;

/// One thing that is wrong, as one line: where, what, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    file: PathBuf,
    line: Option<usize>,
    pub(super) key: String,
    message: String,
}

impl Fault {
    /// A fault of `key`, in `line` if there is one.
    pub fn new(file: &Path, line: Option<usize>, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: file.into(), line, key: key.into(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        // What a file says may hold anything; a line of ours holds no control bytes.
        write!(f, ": {}", self.message.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
    }
}

/// A setting as it was read, for `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The whole key, such as `limits.idle_timeout`.
    pub key: String,
    /// Its value, as TOML.
    pub value: String,
    /// What it is without being written; `None` if it must be written.
    pub default: Option<String>,
}

/// What is read from one file: its text for line numbers, its faults, its settings.
pub(super) struct Source<'s> {
    pub(super) file: &'s Path,
    pub(super) text: &'s str,
    /// What is read of the text: places are counted from where it begins.
    part: Range<usize>,
    /// The last place in the text that was asked for, and its line.
    asked: Cell<(usize, usize)>,
    pub(super) environment: &'s dyn Fn(&str) -> Option<String>,
    pub(super) faults: Vec<Fault>,
    pub(super) settings: Vec<Setting>,
}

impl<'s> Source<'s> {
    pub(super) fn new(file: &'s Path, text: &'s str, environment: &'s dyn Fn(&str) -> Option<String>) -> Self {
        let (part, asked) = (0..text.len(), Cell::new((0, 1)));
        Self { file, text, part, asked, environment, faults: Vec::new(), settings: Vec::new() }
    }

    /// What is read next is this part of the text.
    pub(super) fn go_to(&mut self, part: Range<usize>) {
        self.part = part;
    }

    /// The document that the part is, or the fault that keeps it from being one.
    pub(super) fn parse(&mut self) -> Option<Section<'s>> {
        match DeTable::parse(&self.text[self.part.clone()]) {
            Ok(table) => {
                let start = table.span().start;
                Some(Section::new(String::new(), table.into_inner(), start))
            }
            Err(error) => {
                let at = error.span().map(|span| span.start);
                self.fault_at(at, "", error.message().to_owned());
                None
            }
        }
    }

    pub(super) fn fault_at(&mut self, at: Option<usize>, key: &str, message: impl Into<String>) {
        let line = at.map(|at| self.line(at));
        self.faults.push(Fault::new(self.file, line, key, message));
    }

    pub(super) fn line(&self, at: usize) -> usize {
        let at = self.part.start + at;
        let lines = |range: Range<usize>| self.text.as_bytes()[range].iter().filter(|byte| **byte == b'\n').count();
        // From where the last count ended: from the beginning each time, many keys would take for ever.
        let (last, line) = self.asked.get();
        let line = if last <= at { line + lines(last..at) } else { line - lines(at..last) };
        self.asked.set((at, line));
        line
    }

    /// A path relative to this file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// `${NAME}` is the environment's, and must be set.
    pub(super) fn expand(&mut self, at: usize, key: &str, text: &str) -> Option<String> {
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

/// A table that is being read: what nobody takes is unknown.
pub(super) struct Section<'s> {
    pub(super) path: String,
    table: DeTable<'s>,
    pub(super) at: usize,
    known: Vec<&'static str>,
}

/// What a budget looks like.
const BUDGET: &str = "a number and a span such as \"100/hour\": second, minute, hour, day or week";

type Value<'s> = Spanned<DeValue<'s>>;

impl<'s> Section<'s> {
    pub(super) fn new(path: String, table: DeTable<'s>, at: usize) -> Self {
        Self { path, table, at, known: Vec::with_capacity(8) }
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a value out, if it is there.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Value<'s>> {
        self.known.push(name);
        self.table.remove(name)
    }

    /// Whether a key is there at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// A key that may be there, whoever took it.
    pub(super) fn known(&mut self, name: &'static str) {
        self.known.push(name);
    }

    /// Where a key stands.
    pub(super) fn at(&self, name: &str) -> Option<usize> {
        self.table.get(name).map(|value| value.span().start)
    }

    /// A table within, empty if it is not there.
    pub(super) fn section(&mut self, source: &mut Source<'s>, name: &'static str) -> Section<'s> {
        let path = self.key(name);
        let at = self.at;
        let empty = Section::new(path.clone(), DeTable::new(), at);
        match self.take(name) {
            None => empty,
            Some(value) => {
                let at = value.span().start;
                match value.into_inner() {
                    DeValue::Table(table) => Section::new(path, table, at),
                    other => {
                        source.fault_at(Some(at), &path, format!("is {}, not a table: write [{path}]", kind(&other)));
                        empty
                    }
                }
            }
        }
    }

    /// The tables of an array of tables.
    pub(super) fn sections(&mut self, source: &mut Source<'s>, name: &'static str) -> Vec<Section<'s>> {
        let path = self.key(name);
        let Some(value) = self.take(name) else { return Vec::new() };
        let at = value.span().start;
        let DeValue::Array(array) = value.into_inner() else {
            source.fault_at(Some(at), &path, format!("is not a list of tables: write [[{path}]]"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for value in array {
            let at = value.span().start;
            match value.into_inner() {
                DeValue::Table(table) => sections.push(Section::new(path.clone(), table, at)),
                other => source.fault_at(Some(at), &path, format!("holds {}, not a table", kind(&other))),
            }
        }
        sections
    }

    /// Reads a setting by `read`; records it, with its default.
    fn setting<T>(
        &mut self,
        source: &mut Source<'s>,
        name: &'static str,
        default: Option<(T, String)>,
        expected: &str,
        read: impl FnOnce(&mut Source<'s>, usize, &str, DeValue<'s>) -> Option<Result<(T, String), String>>,
    ) -> Option<T> {
        let key = self.key(name);
        let written = default.as_ref().map(|(_, text)| text.clone());
        let Some(value) = self.take(name) else {
            return match default {
                Some((value, text)) => {
                    source.settings.push(Setting { key, value: text, default: written });
                    Some(value)
                }
                None => {
                    let at = if self.at == 0 { None } else { Some(self.at) };
                    source.fault_at(at, &key, format!("is missing; expected {expected}"));
                    None
                }
            };
        };
        let at = value.span().start;
        let value = value.into_inner();
        let found = kind(&value);
        match read(source, at, &key, value) {
            Some(Ok((value, text))) => {
                source.settings.push(Setting { key, value: text, default: written });
                Some(value)
            }
            Some(Err(problem)) => {
                let problem = if problem.is_empty() { format!("is {found}") } else { problem };
                source.fault_at(Some(at), &key, format!("{problem}; expected {expected}"));
                None
            }
            None => None,
        }
    }

    /// Text, `${NAME}` expanded.
    pub(super) fn text(&mut self, source: &mut Source<'s>, name: &'static str, expected: &str) -> Option<String> {
        self.setting(source, name, None, expected, |source, at, key, value| match value {
            DeValue::String(text) => {
                let expanded = source.expand(at, key, &text)?;
                let shown = quoted(&expanded);
                Some(Ok((expanded, shown)))
            }
            _ => Some(Err(String::new())),
        })
    }

    /// Text of which only what `show` makes of it is shown.
    pub(super) fn hidden_text(
        &mut self,
        source: &mut Source<'s>,
        name: &'static str,
        expected: &str,
        show: impl FnOnce(&str) -> String,
    ) -> Option<String> {
        self.setting(source, name, None, expected, |source, at, key, value| match value {
            DeValue::String(text) => {
                let expanded = source.expand(at, key, &text)?;
                let shown = quoted(&show(&expanded));
                Some(Ok((expanded, shown)))
            }
            _ => Some(Err(String::new())),
        })
    }

    /// Text with a default.
    pub(super) fn text_or(
        &mut self,
        source: &mut Source<'s>,
        name: &'static str,
        default: &str,
        expected: &str,
    ) -> String {
        let written = Some((default.to_owned(), quoted(default)));
        let read = |source: &mut Source<'s>, at, key: &str, value| match value {
            DeValue::String(text) => {
                let expanded = source.expand(at, key, &text)?;
                let shown = quoted(&expanded);
                Some(Ok((expanded, shown)))
            }
            _ => Some(Err(String::new())),
        };
        self.setting(source, name, written, expected, read).unwrap_or_else(|| default.to_owned())
    }

    /// Texts, each one of `words`; none if it is left out.
    pub(super) fn words(&mut self, source: &mut Source<'s>, name: &'static str, words: &[&str]) -> Vec<String> {
        let expected: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let read = |_: &mut Source<'s>, _, _: &str, value| {
            let DeValue::Array(array) = value else { return Some(Err(String::new())) };
            let texts: Option<Vec<&str>> = array.iter().map(|text| text.get_ref().as_str()).collect();
            Some(match texts {
                None => Err("holds what is no text".into()),
                Some(texts) => match texts.iter().find(|text| !words.contains(text)) {
                    Some(odd) => Err(format!("names {}", quoted(odd))),
                    None => {
                        let shown: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                        Ok((texts.into_iter().map(str::to_owned).collect(), format!("[{}]", shown.join(", "))))
                    }
                },
            })
        };
        let expected = format!("a list of {}", expected.join(", "));
        self.setting(source, name, Some((Vec::new(), "[]".into())), &expected, read).unwrap_or_default()
    }

    /// At least one text.
    pub(super) fn some_texts(
        &mut self,
        source: &mut Source<'s>,
        name: &'static str,
        expected: &str,
    ) -> Option<Vec<String>> {
        self.setting(source, name, None, expected, |_, _, _, value| {
            let DeValue::Array(array) = value else { return Some(Err(String::new())) };
            let texts: Option<Vec<String>> =
                array.iter().map(|text| text.get_ref().as_str().map(str::to_owned)).collect();
            Some(match texts {
                None => Err("holds what is no text".into()),
                Some(texts) if texts.is_empty() => Err("is empty".into()),
                Some(texts) => {
                    let shown: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                    Ok((texts, format!("[{}]", shown.join(", "))))
                }
            })
        })
    }

    /// Text that may be left out.
    pub(super) fn optional_text(
        &mut self,
        source: &mut Source<'s>,
        name: &'static str,
        expected: &str,
    ) -> Option<String> {
        if self.has(name) {
            return self.text(source, name, expected);
        }
        self.known.push(name);
        None
    }

    pub(super) fn address(&mut self, source: &mut Source<'s>, name: &'static str) -> Option<SocketAddr> {
        let at = self.at(name);
        let text = self.text(source, name, "an address such as \"127.0.0.1:8080\"")?;
        match text.parse() {
            Ok(address) => Some(address),
            Err(_) => {
                let message = format!("{} is no address; expected one such as \"127.0.0.1:8080\"", quoted(&text));
                source.fault_at(at, &self.key(name), message);
                None
            }
        }
    }

    pub(super) fn flag(&mut self, source: &mut Source<'s>, name: &'static str, default: bool) -> bool {
        let read = |_: &mut Source<'s>, _, _: &str, value| match value {
            DeValue::Boolean(flag) => Some(Ok((flag, flag.to_string()))),
            _ => Some(Err(String::new())),
        };
        self.setting(source, name, Some((default, default.to_string())), "true or false", read).unwrap_or(default)
    }

    pub(super) fn count(&mut self, source: &mut Source<'s>, name: &'static str, default: usize) -> usize {
        let read = |_: &mut Source<'s>, _, _: &str, value| match integer(&value) {
            Some(n @ 1..) => match usize::try_from(n) {
                Ok(n) => Some(Ok((n, n.to_string()))),
                Err(_) => Some(Err(format!("{n} is too large"))),
            },
            Some(n) => Some(Err(format!("is {n}"))),
            None => Some(Err(String::new())),
        };
        self.setting(source, name, Some((default, default.to_string())), "a whole number of at least 1", read)
            .unwrap_or(default)
    }

    /// So many in so long.
    pub(super) fn budget(&mut self, source: &mut Source<'s>, name: &'static str, default: Budget) -> Budget {
        let read = |_: &mut Source<'s>, _, _: &str, value| {
            let DeValue::String(text) = value else { return Some(Err(String::new())) };
            Some(match Budget::parse(&text) {
                Some(budget) => Ok((budget, quoted(&budget.to_string()))),
                None => Err(format!("{} is none", quoted(&text))),
            })
        };
        let written = Some((default, quoted(&default.to_string())));
        self.setting(source, name, written, BUDGET, read).unwrap_or(default)
    }

    /// A duration of at least `least`, at most a day.
    pub(super) fn duration(
        &mut self,
        source: &mut Source<'s>,
        name: &'static str,
        default: Duration,
        least: Duration,
    ) -> Duration {
        let show = |d: Duration| quoted(&humantime::format_duration(d).to_string());
        let read = |_: &mut Source<'s>, _, _: &str, value| {
            let DeValue::String(text) = value else { return Some(Err(String::new())) };
            Some(match humantime::parse_duration(&text) {
                Ok(d) if d > Duration::from_secs(86_400) => Err(format!("{} is over a day", quoted(&text))),
                Ok(d) if d < least => Err(format!("{} is too short", quoted(&text))),
                Ok(d) => Ok((d, show(d))),
                Err(_) => Err(format!("{} is no duration", quoted(&text))),
            })
        };
        self.setting(source, name, Some((default, show(default))), "a duration such as \"15m\" or \"250ms\"", read)
            .unwrap_or(default)
    }

    /// A duration as above, or one of some words.
    pub(super) fn duration_or_word<T: Copy>(
        &mut self,
        source: &mut Source<'s>,
        name: &'static str,
        default: Duration,
        least: Duration,
        words: &[(&str, T)],
    ) -> Result<Duration, T> {
        let word = self.table.get(name).and_then(|value| value.get_ref().as_str());
        if let Some((word, value)) = words.iter().find(|(known, _)| Some(*known) == word) {
            let shown = humantime::format_duration(default).to_string();
            self.take(name);
            let setting = Setting { key: self.key(name), value: quoted(word), default: Some(quoted(&shown)) };
            source.settings.push(setting);
            return Err(*value);
        }
        let faults = source.faults.len();
        let duration = self.duration(source, name, default, least);
        if let Some(fault) = source.faults.get_mut(faults) {
            let words: Vec<String> = words.iter().map(|(word, _)| quoted(word)).collect();
            fault.message = format!("{}, or {}", fault.message, words.join(" or "));
        }
        Ok(duration)
    }

    /// A duration that may be left out, and may be longer than a day.
    pub(super) fn optional_duration(
        &mut self,
        source: &mut Source<'s>,
        name: &'static str,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        if !self.has(name) {
            self.known.push(name);
            return None;
        }
        let read = |_: &mut Source<'s>, _, _: &str, value| {
            let DeValue::String(text) = value else { return Some(Err(String::new())) };
            Some(match humantime::parse_duration(&text) {
                Ok(d) if d > most => Err(format!("{} is too long", quoted(&text))),
                Ok(d) if d < least => Err(format!("{} is too short", quoted(&text))),
                // A year has as many days as were written.
                Ok(d) => Ok((d, quoted(&text))),
                Err(_) => Err(format!("{} is no duration", quoted(&text))),
            })
        };
        self.setting(source, name, None, "a duration such as \"365d\"", read)
    }

    /// A size of at most 1 GiB.
    pub(super) fn size(&mut self, source: &mut Source<'s>, name: &'static str, default: usize) -> usize {
        self.size_up_to(source, name, default, (1 << 30, "1 GiB"))
    }

    /// A size of at most so much, and how that is said.
    pub(super) fn size_up_to(
        &mut self,
        source: &mut Source<'s>,
        name: &'static str,
        default: usize,
        most: (usize, &str),
    ) -> usize {
        let read = |_: &mut Source<'s>, _, _: &str, value| {
            let bytes = match &value {
                DeValue::String(text) => size(text),
                _ => integer(&value).and_then(|n| usize::try_from(n).ok()),
            };
            Some(match bytes {
                Some(bytes) if (1..=most.0).contains(&bytes) => Ok((bytes, show_size(bytes))),
                Some(_) => Err(format!("is not between 1 byte and {}", most.1)),
                None => Err(String::new()),
            })
        };
        self.setting(source, name, Some((default, show_size(default))), "a size such as \"64KiB\"", read)
            .unwrap_or(default)
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(
        &mut self,
        source: &mut Source<'s>,
        name: &'static str,
        words: &[(&str, T)],
        default: (&str, T),
    ) -> T {
        let expected: Vec<String> = words.iter().map(|(word, _)| quoted(word)).collect();
        let read = |_: &mut Source<'s>, _, _: &str, value| {
            let DeValue::String(text) = value else { return Some(Err(String::new())) };
            Some(match words.iter().find(|(word, _)| *word == text) {
                Some((word, value)) => Ok((*value, quoted(word))),
                None => Err(format!("is {}", quoted(&text))),
            })
        };
        let written = (default.1, quoted(default.0));
        self.setting(source, name, Some(written), &expected.join(" or "), read).unwrap_or(default.1)
    }

    /// What is not in this build yet is refused by name.
    pub(super) fn not_yet(&mut self, source: &mut Source<'s>, name: &'static str, instead: &str) {
        if let Some(value) = self.take(name) {
            let at = Some(value.span().start);
            source.fault_at(at, &self.key(name), format!("is not in this build yet; {instead}"));
        }
    }

    /// Whatever nobody took is unknown.
    pub(super) fn finish(self, source: &mut Source<'s>) {
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
                _ => format!("is unknown; known are: {}", self.known.join(", ")),
            };
            source.fault_at(Some(at), &key, message);
        }
    }
}

pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    match value {
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok(),
        _ => None,
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

pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

fn size(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match &text[digits..] {
        "B" | "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<usize>().ok()?.checked_mul(unit)
}

fn show_size(bytes: usize) -> String {
    match bytes {
        b if b % (1 << 20) == 0 => format!("\"{}MiB\"", b >> 20),
        b if b % (1 << 10) == 0 => format!("\"{}KiB\"", b >> 10),
        b => format!("\"{b}B\""),
    }
}
