//! The lines of an explanation, their labels, and the verdict below them.

use std::fmt::Write;

use super::language::Language;
use super::words::{Words, words};
use crate::plain;
use crate::refusal::{Reason, Refusal, Remaining};

pub(super) type Label = (&'static str, &'static str);
pub(super) const FORM: Label = ("form", "형식");
pub(super) const SIGNED: Label = ("signed", "서명문");
pub(super) const DATE: Label = ("date", "날짜");
pub(super) const KEY: Label = ("key", "키");
pub(super) const SIGNATURE: Label = ("signature", "서명");
pub(super) const WINDOW: Label = ("window", "기간");
pub(super) const SALT: Label = ("salt", "salt");
pub(super) const ROLE: Label = ("role", "역할");
pub(super) const FREEZE: Label = ("freeze", "동결");
pub(super) const BUDGET: Label = ("budget", "한도");
pub(super) const WARNING: Label = ("warning", "주의");
pub(super) const NOTHING: Label = ("", "");

/// The lines so far, and the first refusal.
pub(super) struct Report {
    language: Language,
    text: String,
    /// The reason, and the status of the answer.
    refused: Option<(Reason, u16)>,
}

impl Report {
    pub(super) fn new(language: Language) -> Self {
        Self { language, text: String::new(), refused: None }
    }

    pub(super) fn yes(&mut self, label: Label, english: &str, korean: &str) {
        self.line(label, self.language.of("yes", "예"), english, korean);
    }

    /// Keeps the first refusal as the verdict. The gates check in the same order and stop at the first refusal.
    pub(super) fn refuse(&mut self, refusal: &impl Refusal) {
        // The status does not depend on how long the header stays valid.
        let status = refusal.answer(Remaining::Unknown).status;
        self.refused.get_or_insert((refusal.reason(), status));
    }

    pub(super) fn reason(&self) -> Reason {
        self.refused.map_or(Reason::Ok, |(reason, _)| reason)
    }

    pub(super) fn no(&mut self, label: Label, english: &str, korean: &str) {
        self.line(label, self.language.of("no", "아니오"), english, korean);
    }

    pub(super) fn note(&mut self, label: Label, english: &str, korean: &str) {
        self.line(label, "", english, korean);
    }

    fn line(&mut self, label: Label, mark: &str, english: &str, korean: &str) {
        let (label, text) = (self.language.of(label.0, label.1), self.language.of(english, korean));
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{label:<9} {mark:<4} {}", plain::line(text));
    }

    /// Adds the verdict; returns it, and the whole text.
    pub(super) fn verdict(mut self) -> (Reason, String) {
        let Words { english, korean, to_customer_english, to_customer_korean } = words(self.reason());
        let (english, korean) = match self.refused {
            None => ("verdict: good, as far as a header goes".to_owned(), "판정: 헤더만 보면 통과합니다".to_owned()),
            Some((reason, status)) => {
                let reason = reason.as_str();
                (format!("verdict: {status} ({reason}): {english}"), format!("판정: {status} ({reason}): {korean}"))
            }
        };
        let _ = writeln!(self.text, "{}", self.language.of(&english, &korean));
        let label = self.language.of("to the customer", "고객에게 보낼 말");
        let _ = writeln!(self.text, "{label}: {}", self.language.of(to_customer_english, to_customer_korean));
        (self.reason(), self.text)
    }
}
