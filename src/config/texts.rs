//! Settings that are text, or one of a list of words. `${NAME}` in a text is replaced by that environment variable.

use std::net::SocketAddr;

use toml::de::DeValue;

use super::fault::Setting;
use super::outline::Shape;
use super::section::{Misread, Section};
use super::source::Source;
use crate::net::parse_socket_address;
use crate::plain;

impl<'s> Section<'s> {
    /// A text that must be there.
    pub(super) fn text(&mut self, name: &'static str, expected: &str) -> Option<String> {
        self.text_shown(name, None, expected, str::to_owned)
    }

    /// A required text of which only the result of `show` is shown.
    pub(super) fn hidden_text(
        &mut self,
        name: &'static str,
        expected: &str,
        show: impl FnOnce(&str) -> String,
    ) -> Option<String> {
        self.text_shown(name, None, expected, show)
    }

    /// A text with a default.
    pub(super) fn text_or(&mut self, name: &'static str, default: &str, expected: &str) -> String {
        let written = (default.to_owned(), quoted(default));
        self.text_shown(name, Some(written), expected, str::to_owned).unwrap_or_else(|| default.to_owned())
    }

    fn text_shown(
        &mut self,
        name: &'static str,
        default: Option<(String, String)>,
        expected: &str,
        show: impl FnOnce(&str) -> String,
    ) -> Option<String> {
        self.setting(
            name,
            || Shape::Text,
            default,
            expected,
            |source, at, key, value| match value {
                DeValue::String(text) => {
                    let expanded = source.expand(at, key, &text).ok_or(Misread::Reported)?;
                    let shown = quoted(&show(&expanded));
                    Ok((expanded, shown))
                }
                _ => Err(Misread::OtherKind),
            },
        )
    }

    /// Any number of texts, each one of `words`; none if the setting is left out.
    pub(super) fn words(&mut self, name: &'static str, words: &[&str]) -> Vec<String> {
        let expected: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let read = |_: &Source<'s>, _, _: &str, value| {
            let DeValue::Array(array) = value else { return Err(Misread::OtherKind) };
            let texts: Option<Vec<&str>> = array.iter().map(|text| text.get_ref().as_str()).collect();
            match texts {
                None => Err(Misread::Wrong("holds something that is not text".into())),
                Some(texts) => match texts.iter().find(|text| !words.contains(text)) {
                    Some(odd) => Err(Misread::Wrong(format!("names {}", quoted(odd)))),
                    None => {
                        let shown: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                        Ok((texts.into_iter().map(str::to_owned).collect(), format!("[{}]", shown.join(", "))))
                    }
                },
            }
        };
        let expected = format!("a list of {}", expected.join(", "));
        let shape = || Shape::list(Shape::word(words.iter().copied()));
        self.setting(name, shape, Some((Vec::new(), "[]".into())), &expected, read).unwrap_or_default()
    }

    /// Any number of texts; none if the setting is left out.
    pub(super) fn texts(&mut self, name: &'static str, expected: &str) -> Vec<String> {
        self.note(name, || Shape::list(Shape::Text), Some("[]"));
        let key = self.key(name);
        let mut setting = Setting { key, value: "[]".into(), default: Some("[]".into()) };
        let mut found = Vec::new();
        if let Some(value) = self.take(name) {
            let written: Option<Vec<(usize, &str)>> = match value.get_ref() {
                DeValue::Array(array) => {
                    array.iter().map(|text| Some((text.span().start, text.get_ref().as_str()?))).collect()
                }
                _ => None,
            };
            match written {
                Some(texts) => {
                    found = texts.iter().filter_map(|(at, text)| self.source.expand(*at, &setting.key, text)).collect();
                }
                None => {
                    let message = format!("is not a list of texts; expected {expected}");
                    self.source.fault_at(Some(value.span().start), &setting.key, message);
                }
            }
            let shown: Vec<String> = found.iter().map(|text| quoted(text)).collect();
            setting.value = format!("[{}]", shown.join(", "));
        }
        self.source.record(setting);
        found
    }

    /// At least one text.
    pub(super) fn some_texts(&mut self, name: &'static str, expected: &str) -> Option<Vec<String>> {
        self.some_hidden_texts(name, expected, str::to_owned)
    }

    /// At least one text, of which only the results of `show` are shown.
    pub(super) fn some_hidden_texts(
        &mut self,
        name: &'static str,
        expected: &str,
        show: impl Fn(&str) -> String,
    ) -> Option<Vec<String>> {
        self.setting(
            name,
            || Shape::some(Shape::Text),
            None,
            expected,
            |source, _, key, value| {
                let DeValue::Array(array) = value else { return Err(Misread::OtherKind) };
                let mut texts = Vec::with_capacity(array.len());
                for text in &array {
                    let Some(written) = text.get_ref().as_str() else {
                        return Err(Misread::Wrong("holds something that is not text".into()));
                    };
                    texts.push(source.expand(text.span().start, key, written).ok_or(Misread::Reported)?);
                }
                if texts.is_empty() {
                    return Err(Misread::Wrong("is empty".into()));
                }
                let shown: Vec<String> = texts.iter().map(|text| quoted(&show(text))).collect();
                Ok((texts, format!("[{}]", shown.join(", "))))
            },
        )
    }

    /// A text that may be left out.
    pub(super) fn optional_text(&mut self, name: &'static str, expected: &str) -> Option<String> {
        if self.has(name) {
            return self.text(name, expected);
        }
        self.known.push(name);
        None
    }

    /// An address and a port.
    pub(super) fn address(&mut self, name: &'static str) -> Option<SocketAddr> {
        let at = self.at(name);
        let text = self.text(name, "an address such as \"127.0.0.1:8080\"")?;
        let fault = |error| {
            let message = format!("{} {error}; expected an address such as \"127.0.0.1:8080\"", quoted(&text));
            self.source.fault_at(at, &self.key(name), message);
        };
        parse_socket_address(&text).map_err(fault).ok()
    }

    /// One of a list of words.
    pub(super) fn word<T: Copy + PartialEq>(&mut self, name: &'static str, words: &[(&str, T)], default: T) -> T {
        let expected: Vec<String> = words.iter().map(|(word, _)| quoted(word)).collect();
        let read = |_: &Source<'s>, _, _: &str, value| {
            let DeValue::String(text) = value else { return Err(Misread::OtherKind) };
            match words.iter().find(|(word, _)| *word == text) {
                Some((word, value)) => Ok((*value, quoted(word))),
                None => Err(Misread::Wrong(format!("is {}", quoted(&text)))),
            }
        };
        let word = words.iter().find(|(_, value)| *value == default).map_or("", |(word, _)| word);
        let written = (default, quoted(word));
        let shape = || Shape::word(words.iter().map(|(word, _)| *word));
        self.setting(name, shape, Some(written), &expected.join(" or "), read).unwrap_or(default)
    }
}

/// Text in TOML syntax.
pub(super) fn quoted(text: &str) -> String {
    plain::quoted(text)
}
