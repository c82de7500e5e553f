//! The lines of JSON that an answer consists of.

use serde_json::{Value, json};

use crate::plain;

/// The lines of an answer, with a last line that marks it as complete.
pub(super) struct Lines(String);

impl Lines {
    pub(super) fn of(lines: impl IntoIterator<Item = Value>) -> String {
        let mut all = Self(String::new());
        lines.into_iter().for_each(|line| all.push(&line));
        all.push(&json!({ "done": true }));
        all.0
    }

    fn push(&mut self, line: &Value) {
        self.0.push_str(&plain::json_line(line));
        self.0.push('\n');
    }
}

pub(super) fn error(what: &str) -> String {
    failed([], what)
}

/// Lines, with a last line that says why the command failed.
pub(super) fn failed(lines: impl IntoIterator<Item = Value>, what: &str) -> String {
    let mut all = Lines(String::new());
    lines.into_iter().for_each(|line| all.push(&line));
    all.push(&json!({ "error": what }));
    all.0
}
