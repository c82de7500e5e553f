use std::time::Duration;

use serde_json::to_writer;

/// What a line tells, written member by member: two of them are written for each deletion, and by way
/// of a tree of values they cost more than everything else it needs.
///
/// Names are plain words.
pub(super) struct Line(Vec<u8>);

/// As long as most are; a longer one grows.
const ROOM: usize = 512;

impl Line {
    pub(super) fn new(time: &str, kind: &str) -> Self {
        let mut line = Vec::with_capacity(ROOM);
        line.extend_from_slice(b"{\"time\":");
        // A vector takes everything.
        let _ = to_writer(&mut line, time);
        Self(line).text("kind", kind)
    }

    pub(super) fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        let _ = to_writer(&mut self.0, value);
        self
    }

    /// A text that may be missing.
    pub(super) fn maybe(mut self, name: &str, value: Option<&str>) -> Self {
        self.name(name);
        let _ = to_writer(&mut self.0, &value);
        self
    }

    pub(super) fn seconds(mut self, name: &str, value: Duration) -> Self {
        self.name(name);
        let _ = to_writer(&mut self.0, &value.as_secs_f64());
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

    /// The whole of it, an object.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}
