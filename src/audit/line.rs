//! The body of a line, written as JSON.

use std::time::Duration;

use serde_json::to_writer;

use crate::plain;

/// The JSON object of a line, written member by member. Each deletion writes two of them, and building a tree of values
/// first would cost more than everything else the deletion needs.
///
/// Member names are not escaped, so they must be plain words.
pub(super) struct Line(Vec<u8>);

/// The initial capacity: enough for most lines.
const ROOM: usize = 512;

impl Line {
    pub(super) fn new(time: &str, kind: &str) -> Self {
        let mut line = Vec::with_capacity(ROOM);
        line.extend_from_slice(b"{\"time\":");
        // Writing to a vector cannot fail.
        let _ = to_writer(&mut line, time);
        Self(line).text("kind", kind)
    }

    pub(super) fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        self.0.push(b'"');
        plain::json(value, &mut self.0);
        self.0.push(b'"');
        self
    }

    /// A text, or `null`.
    pub(super) fn maybe(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            return self.text(name, value);
        }
        self.name(name);
        self.0.extend_from_slice(b"null");
        self
    }

    pub(super) fn seconds(mut self, name: &str, value: Duration) -> Self {
        self.name(name);
        let _ = to_writer(&mut self.0, &value.as_secs_f64());
        self
    }

    pub(super) fn number(mut self, name: &str, value: u64) -> Self {
        self.name(name);
        let _ = to_writer(&mut self.0, &value);
        self
    }

    pub(super) fn status(mut self, name: &str, value: Option<u16>) -> Self {
        self.name(name);
        let _ = to_writer(&mut self.0, &value);
        self
    }

    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// The finished object.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}
